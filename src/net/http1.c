#include "net/http1.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/http1_parts.h"

enum {
    METHOD_LEN_MAX = 32,
    VERSION_LEN = 8, /* HTTP/1.1 */
    SIZE_DIGITS_MAX = 16,
    EXT_LEN_MAX = 256,
    /* Chunk framing may take this much and twice the body besides: a few bytes a chunk are usual,
     * megabytes in chunks of one byte are not. */
    OVERHEAD_BASE = 64 << 10,
    OVERHEAD_RATIO = 2,
};

typedef enum state {
    START,
    START_LF,
    METHOD,
    TARGET,
    VERSION,
    LINE_LF,
    FIELD,
    NAME,
    BLANKS,
    VALUE,
    VALUE_LF,
    HEAD_LF,
    LENGTH_BODY,
    SIZE,
    EXT,
    EXT_NAME,
    EXT_VALUE,
    EXT_TOKEN,
    EXT_QUOTED,
    EXT_ESCAPE,
    EXT_END,
    SIZE_LF,
    CHUNK_BODY,
    CHUNK_CR,
    CHUNK_LF,
    LAST, /* END comes next, without a byte */
    DONE,
    FAILED,
} state;

const vlm_http1_limits vlm_http1_limits_default = {
    .request_line_max = 8 << 10,
    .header_bytes_max = 32 << 10,
    .header_fields_max = 100,
    .body_max = (uint64_t)64 << 20,
};

/* What was passed in and is not yet consumed. */
typedef struct input {
    const char *pos, *end;
} input;

vlm_http1_event vlm_http1_fail(vlm_http1 *p, int status, const char *text)
{
    p->state = FAILED;
    p->error_status = (uint16_t)status;
    p->error_text = text;
    return VLM_HTTP1_ERROR;
}

static vlm_http1_event fail_memory(vlm_http1 *p)
{
    return vlm_http1_fail(p, 503, "out of memory");
}

static vlm_http1_event go(vlm_http1 *p, state next)
{
    p->state = (uint8_t)next;
    return VLM_HTTP1_NEED_MORE;
}

/* Take the bytes of these classes at the beginning of in, at most allowed.  False when there is one
 * more than that, which is consumed too: however the input is cut, the error stands at one place.
 */
static bool take_run(input *in, unsigned classes, size_t allowed, vlm_bytes *run)
{
    const char *const begin = in->pos;
    const char *const end = (size_t)(in->end - begin) > allowed ? begin + allowed : in->end;
    while (in->pos < end && vlm_http1_is(*in->pos, classes)) in->pos++;
    *run = (vlm_bytes){.ptr = begin, .len = (size_t)(in->pos - begin)};
    if (run->len < allowed || in->pos == in->end || !vlm_http1_is(*in->pos, classes)) return true;
    in->pos++;
    return false;
}

static bool keep(vlm_http1 *p, vlm_bytes run)
{
    return vlm_buf_append(&p->store->text, run.ptr, run.len, NULL) == VLM_OK;
}

/* Ready for the next message; its memory is kept. */
static void start_message(vlm_http1 *p)
{
    vlm_http1_store *const store = p->store;
    if (store != NULL) {
        vlm_buf_clear(&store->text);
        store->method_len = store->target_len = 0;
        store->is_ready = false;
    }
    p->body_bytes = p->left = p->overhead_bytes = 0;
    p->line_bytes = p->header_bytes = 0;
    p->n_fields = 0;
    p->in_trailer = p->skipped_crlf = false;
    p->state = START;
}

static bool make_store(vlm_http1 *p)
{
    size_t len_max;
    if (p->store != NULL) return true;
    vlm_http1_store *const store = calloc(1, sizeof *store);
    if (store == NULL) return false;
    if (!vlm_size_add(p->limits.request_line_max, p->limits.header_bytes_max, &len_max))
        len_max = SIZE_MAX;
    vlm_buf_init(&store->text, len_max);
    p->store = store;
    return true;
}

static vlm_http1_event step_start(vlm_http1 *p, input *in)
{
    if (*in->pos != '\r') return make_store(p) ? go(p, METHOD) : fail_memory(p);
    in->pos++;
    if (p->skipped_crlf) return vlm_http1_fail(p, 400, "empty lines before the request line");
    return go(p, START_LF);
}

static vlm_http1_event step_start_lf(vlm_http1 *p, input *in)
{
    if (*in->pos++ != '\n') return vlm_http1_fail(p, 400, "a CR without LF");
    p->skipped_crlf = true;
    return go(p, START);
}

static vlm_http1_event line_too_long(vlm_http1 *p)
{
    return vlm_http1_fail(p, 414, "the request line is too long");
}

/* The byte after a run that ended within the request line's limit. */
static vlm_http1_event end_word(vlm_http1 *p, input *in, size_t word_len, state next,
                                const char *text)
{
    if (*in->pos++ != ' ' || word_len == 0) return vlm_http1_fail(p, 400, text);
    if (p->line_bytes == p->limits.request_line_max) return line_too_long(p);
    p->line_bytes++;
    return go(p, next);
}

static vlm_http1_event step_method(vlm_http1 *p, input *in)
{
    vlm_bytes run;
    vlm_http1_store *const store = p->store;
    const size_t line_left = p->limits.request_line_max - p->line_bytes;
    const size_t left = METHOD_LEN_MAX - store->method_len;
    if (!take_run(in, VLM_HTTP1_TOKEN, line_left < left ? line_left : left, &run))
        return line_left < left ? line_too_long(p)
                                : vlm_http1_fail(p, 501, "the method is not known");
    if (!keep(p, run)) return fail_memory(p);
    store->method_len += run.len;
    p->line_bytes += run.len;
    if (in->pos == in->end) return VLM_HTTP1_NEED_MORE;
    return end_word(p, in, store->method_len, TARGET, "the method is no token");
}

static vlm_http1_event step_target(vlm_http1 *p, input *in)
{
    vlm_bytes run;
    if (!take_run(in, VLM_HTTP1_TARGET, p->limits.request_line_max - p->line_bytes, &run))
        return line_too_long(p);
    if (!keep(p, run)) return fail_memory(p);
    p->store->target_len += run.len;
    p->line_bytes += run.len;
    if (in->pos == in->end) return VLM_HTTP1_NEED_MORE;
    return end_word(p, in, p->store->target_len, VERSION,
                    "the request target is empty, holds a character that is not allowed, or is "
                    "not followed by a version");
}

static vlm_http1_event step_version(vlm_http1 *p, input *in)
{
    vlm_bytes run;
    vlm_buf *const text = &p->store->text;
    const size_t start = p->store->method_len + p->store->target_len;
    const size_t line_left = p->limits.request_line_max - p->line_bytes;
    const size_t left = VERSION_LEN - (text->len - start);
    static const char malformed[] = "the HTTP version is malformed";
    if (!take_run(in, VLM_HTTP1_TARGET, line_left < left ? line_left : left, &run))
        return line_left < left ? line_too_long(p) : vlm_http1_fail(p, 400, malformed);
    if (!keep(p, run)) return fail_memory(p);
    p->line_bytes += run.len;
    if (in->pos == in->end) return VLM_HTTP1_NEED_MORE;
    if (*in->pos++ != '\r' || text->len - start != VERSION_LEN)
        return vlm_http1_fail(p, 400, malformed);
    const vlm_bytes version = {.ptr = text->data + start, .len = VERSION_LEN};
    if (vlm_http1_check_line(p, version) == VLM_HTTP1_ERROR) return VLM_HTTP1_ERROR;
    text->len = start;
    return go(p, LINE_LF);
}

static vlm_http1_event step_line_lf(vlm_http1 *p, input *in)
{
    if (*in->pos++ != '\n') return vlm_http1_fail(p, 400, "a CR without LF");
    return go(p, FIELD);
}

static vlm_http1_event header_too_long(vlm_http1 *p)
{
    return vlm_http1_fail(p, 431, "the header is too long");
}

/* As take_run, within what a header may still take. */
static bool take_header(vlm_http1 *p, input *in, unsigned classes, vlm_bytes *run)
{
    if (!take_run(in, classes, p->limits.header_bytes_max - p->header_bytes, run)) return false;
    p->header_bytes += run->len;
    return true;
}

/* Count a byte that take_run did not look at. */
static bool count_header_byte(vlm_http1 *p)
{
    if (p->header_bytes == p->limits.header_bytes_max) return false;
    p->header_bytes++;
    return true;
}

static vlm_http1_event fail_name(vlm_http1 *p, char c)
{
    if (c == ' ' || c == '\t')
        return vlm_http1_fail(p, 400, "a folded header field, or white space before a colon");
    if (c == '\r' || c == '\n') return vlm_http1_fail(p, 400, "a header field without a colon");
    return vlm_http1_fail(p, 400, "a header field's name is empty or no token");
}

static vlm_http1_event step_field(vlm_http1 *p, input *in)
{
    const char c = *in->pos;
    vlm_http1_store *const store = p->store;
    if (c == '\r') {
        in->pos++;
        return go(p, HEAD_LF);
    }
    if (!vlm_http1_is(c, VLM_HTTP1_TOKEN)) {
        in->pos++;
        return fail_name(p, c);
    }
    if (p->n_fields == p->limits.header_fields_max) {
        in->pos++;
        return vlm_http1_fail(p, 431, "too many header fields");
    }
    if (!p->in_trailer) {
        /* The lengths are all that is known yet. */
        void *fields = store->fields;
        if (!vlm_grow(&fields, &store->fields_cap, (size_t)p->n_fields + 1,
                      p->limits.header_fields_max, sizeof *store->fields))
            return fail_memory(p);
        store->fields = fields;
        store->fields[p->n_fields] = (vlm_http1_field){0};
    }
    p->n_fields++;
    p->n_name = 0;
    return go(p, NAME);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool keep_name(vlm_http1 *p, vlm_bytes run)
{
    if (p->in_trailer) {
        for (size_t i = 0; i < run.len && p->n_name < sizeof p->name; i++)
            p->name[p->n_name++] = lower(run.ptr[i]);
        return true;
    }
    vlm_buf *const text = &p->store->text;
    if (!keep(p, run)) return false;
    for (size_t i = text->len - run.len; i < text->len; i++) text->data[i] = lower(text->data[i]);
    p->store->fields[p->n_fields - 1].name.len += run.len;
    return true;
}

static vlm_http1_event step_name(vlm_http1 *p, input *in)
{
    vlm_bytes run;
    if (!take_header(p, in, VLM_HTTP1_TOKEN, &run)) return header_too_long(p);
    if (!keep_name(p, run)) return fail_memory(p);
    if (in->pos == in->end) return VLM_HTTP1_NEED_MORE;
    const char c = *in->pos++;
    if (c != ':') return fail_name(p, c);
    return count_header_byte(p) ? go(p, BLANKS) : header_too_long(p);
}

static vlm_http1_event step_blanks(vlm_http1 *p, input *in)
{
    vlm_bytes run;
    if (!take_header(p, in, VLM_HTTP1_BLANK, &run)) return header_too_long(p);
    return in->pos == in->end ? VLM_HTTP1_NEED_MORE : go(p, VALUE);
}

static vlm_http1_event step_value(vlm_http1 *p, input *in)
{
    vlm_bytes run;
    if (!take_header(p, in, VLM_HTTP1_VALUE, &run)) return header_too_long(p);
    if (!p->in_trailer) {
        if (!keep(p, run)) return fail_memory(p);
        p->store->fields[p->n_fields - 1].value.len += run.len;
    }
    if (in->pos == in->end) return VLM_HTTP1_NEED_MORE;
    const char c = *in->pos++;
    if (c == '\n') return vlm_http1_fail(p, 400, "a line that does not end in CRLF");
    if (c != '\r') return vlm_http1_fail(p, 400, "a control character in a header field");
    return count_header_byte(p) ? go(p, VALUE_LF) : header_too_long(p);
}

/* Fields that say how a message is read or where it goes belong to its beginning. */
static bool may_trail(vlm_bytes name)
{
    static const char *const at_the_beginning[] = {
        "authorization", "connection",   "content-encoding", "content-length",
        "content-range", "content-type", "cookie",           "expect",
        "host",          "te",           "trailer",          "transfer-encoding",
        "upgrade",
    };
    for (size_t i = 0; i < sizeof at_the_beginning / sizeof *at_the_beginning; i++)
        if (vlm_bytes_eq_str(name, at_the_beginning[i])) return false;
    return true;
}

static vlm_http1_event step_value_lf(vlm_http1 *p, input *in)
{
    if (*in->pos++ != '\n') return vlm_http1_fail(p, 400, "a CR without LF");
    if (!count_header_byte(p)) return header_too_long(p);
    if (p->in_trailer) {
        if (!may_trail((vlm_bytes){.ptr = p->name, .len = p->n_name}))
            return vlm_http1_fail(p, 400, "a trailer field that belongs to the header");
        return go(p, FIELD);
    }
    vlm_buf *const text = &p->store->text;
    vlm_http1_field *const field = &p->store->fields[p->n_fields - 1];
    while (field->value.len > 0 && vlm_http1_is(text->data[text->len - 1], VLM_HTTP1_BLANK)) {
        field->value.len--;
        text->len--;
    }
    return go(p, FIELD);
}

static vlm_http1_event start_chunk(vlm_http1 *p)
{
    p->left = 0;
    p->n_digits = 0;
    p->n_ext = 0;
    return go(p, SIZE);
}

static vlm_http1_event step_head_lf(vlm_http1 *p, input *in)
{
    if (*in->pos++ != '\n') return vlm_http1_fail(p, 400, "a CR without LF");
    if (p->in_trailer) {
        p->state = DONE;
        return VLM_HTTP1_END;
    }
    if (vlm_http1_finish_head(p) == VLM_HTTP1_ERROR) return VLM_HTTP1_ERROR;
    const vlm_http1_request *const request = &p->store->request;
    p->store->is_ready = true;
    p->left = request->content_length;
    if (request->chunked)
        (void)start_chunk(p);
    else
        p->state = p->left > 0 ? LENGTH_BODY : LAST;
    return VLM_HTTP1_HEAD;
}

static vlm_http1_event step_body(vlm_http1 *p, input *in, vlm_bytes *body)
{
    const size_t given = (size_t)(in->end - in->pos);
    const size_t n = given < p->left ? given : (size_t)p->left;
    *body = (vlm_bytes){.ptr = in->pos, .len = n};
    in->pos += n;
    p->left -= n;
    p->body_bytes += n;
    if (p->left == 0) p->state = p->state == LENGTH_BODY ? LAST : CHUNK_CR;
    return VLM_HTTP1_BODY;
}

static vlm_http1_event step_size(vlm_http1 *p, input *in)
{
    const char c = *in->pos++;
    const int digit = vlm_http1_hex(c);
    p->overhead_bytes++;
    if (digit >= 0) {
        if (p->n_digits == SIZE_DIGITS_MAX) return vlm_http1_fail(p, 400, "a chunk size too long");
        p->n_digits++;
        p->left = p->left << 4 | (unsigned)digit;
        return VLM_HTTP1_NEED_MORE;
    }
    if (p->n_digits > 0 && c == '\r') return go(p, SIZE_LF);
    if (p->n_digits > 0 && c == ';') return go(p, EXT);
    return vlm_http1_fail(p, 400, "a malformed chunk size");
}

/* The state after c of a chunk extension: *( ";" token [ "=" ( token / quoted-string ) ] ), without
 * white space.  FAILED if c is not allowed there. */
static state after_ext(state s, char c)
{
    const bool is_token = vlm_http1_is(c, VLM_HTTP1_TOKEN);
    switch (s) {
    case EXT: return is_token ? EXT_NAME : FAILED;
    case EXT_NAME:
        if (c == '=') return EXT_VALUE;
        break;
    case EXT_VALUE:
        if (c == '"') return EXT_QUOTED;
        return is_token ? EXT_TOKEN : FAILED;
    case EXT_QUOTED:
        if (c == '\\') return EXT_ESCAPE;
        if (c == '"') return EXT_END;
        return vlm_http1_is(c, VLM_HTTP1_VALUE) ? EXT_QUOTED : FAILED;
    case EXT_ESCAPE: return vlm_http1_is(c, VLM_HTTP1_VALUE) ? EXT_QUOTED : FAILED;
    default: break;
    }
    if (is_token && s != EXT_END) return s;
    if (c == ';') return EXT;
    return c == '\r' ? SIZE_LF : FAILED;
}

static vlm_http1_event step_ext(vlm_http1 *p, input *in)
{
    const state next = after_ext((state)p->state, *in->pos++);
    p->overhead_bytes++;
    if (next == FAILED) return vlm_http1_fail(p, 400, "a malformed chunk extension");
    /* The semicolon before it counts as the first byte. */
    if (next != SIZE_LF && ++p->n_ext >= EXT_LEN_MAX)
        return vlm_http1_fail(p, 400, "a chunk extension too long");
    return go(p, next);
}

static vlm_http1_event step_size_lf(vlm_http1 *p, input *in)
{
    if (*in->pos++ != '\n') return vlm_http1_fail(p, 400, "a CR without LF");
    p->overhead_bytes += 3; /* this LF, and the CRLF behind the data */
    if (p->overhead_bytes > OVERHEAD_BASE &&
        (p->overhead_bytes - OVERHEAD_BASE) / OVERHEAD_RATIO > p->body_bytes)
        return vlm_http1_fail(p, 400, "the chunks are too small");
    if (p->left == 0) {
        p->in_trailer = true;
        return go(p, FIELD);
    }
    if (p->left > p->limits.body_max - p->body_bytes)
        return vlm_http1_fail(p, 413, "the body is too large");
    return go(p, CHUNK_BODY);
}

static vlm_http1_event step_chunk_end(vlm_http1 *p, input *in)
{
    const char expected = p->state == CHUNK_CR ? '\r' : '\n';
    if (*in->pos++ != expected) return vlm_http1_fail(p, 400, "a chunk that does not end in CRLF");
    return p->state == CHUNK_CR ? go(p, CHUNK_LF) : start_chunk(p);
}

/* in is not empty. */
static vlm_http1_event step(vlm_http1 *p, input *in, vlm_bytes *body)
{
    switch ((state)p->state) {
    case START: return step_start(p, in);
    case START_LF: return step_start_lf(p, in);
    case METHOD: return step_method(p, in);
    case TARGET: return step_target(p, in);
    case VERSION: return step_version(p, in);
    case LINE_LF: return step_line_lf(p, in);
    case FIELD: return step_field(p, in);
    case NAME: return step_name(p, in);
    case BLANKS: return step_blanks(p, in);
    case VALUE: return step_value(p, in);
    case VALUE_LF: return step_value_lf(p, in);
    case HEAD_LF: return step_head_lf(p, in);
    case LENGTH_BODY:
    case CHUNK_BODY: return step_body(p, in, body);
    case SIZE: return step_size(p, in);
    case EXT:
    case EXT_NAME:
    case EXT_VALUE:
    case EXT_TOKEN:
    case EXT_QUOTED:
    case EXT_ESCAPE:
    case EXT_END: return step_ext(p, in);
    case SIZE_LF: return step_size_lf(p, in);
    case CHUNK_CR:
    case CHUNK_LF: return step_chunk_end(p, in);
    case LAST:
    case DONE:
    case FAILED: break;
    }
    return VLM_HTTP1_ERROR;
}

void vlm_http1_init(vlm_http1 *p, const vlm_http1_limits *limits)
{
    *p = (vlm_http1){.limits = *limits, .error_text = "", .state = START};
}

void vlm_http1_fini(vlm_http1 *p)
{
    if (p->store == NULL) return;
    vlm_buf_fini(&p->store->text);
    free(p->store->fields);
    free(p->store);
    p->store = NULL;
}

void vlm_http1_release(vlm_http1 *p)
{
    if (p->state == START || p->state == DONE || p->state == FAILED) vlm_http1_fini(p);
}

vlm_http1_event vlm_http1_next(vlm_http1 *p, const void *data, size_t len, size_t *n_used,
                               vlm_bytes *body)
{
    vlm_http1_event event = VLM_HTTP1_NEED_MORE;
    input in = {.pos = data, .end = len > 0 ? (const char *)data + len : data};
    *n_used = 0;
    *body = (vlm_bytes){0};
    if (p->state == FAILED) return VLM_HTTP1_ERROR;
    if (p->state == LAST) {
        p->state = DONE;
        return VLM_HTTP1_END;
    }
    if (p->state == DONE) start_message(p);
    while (event == VLM_HTTP1_NEED_MORE && in.pos < in.end) event = step(p, &in, body);
    if (len > 0) *n_used = (size_t)(in.pos - (const char *)data);
    return event;
}

const vlm_http1_request *vlm_http1_request_get(const vlm_http1 *p)
{
    return p->store != NULL && p->store->is_ready ? &p->store->request : NULL;
}

int vlm_http1_error_status(const vlm_http1 *p)
{
    return p->error_status;
}

const char *vlm_http1_error_text(const vlm_http1 *p)
{
    return p->error_text;
}
