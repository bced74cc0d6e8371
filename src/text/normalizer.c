#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/standin.h"
#include "text/unicode.h"

void vlm_normalizer_fini(vlm_normalizer *norm)
{
    for (size_t i = 0; i < norm->n; i++) {
        vlm_regex_free(norm->steps[i].regex);
        vlm_buf_fini(&norm->steps[i].find);
        vlm_buf_fini(&norm->steps[i].put);
    }
    free(norm->steps);
    *norm = (vlm_normalizer){0};
}

vlm_status vlm_normalizer_add(vlm_normalizer *norm, vlm_norm_kind kind, vlm_bytes find,
                              vlm_bytes put, vlm_error *err)
{
    if (norm->n == VLM_NORM_STEPS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "normalizer: more than %d steps",
                        VLM_NORM_STEPS_MAX);
    if (!vlm_grow((void **)&norm->steps, &norm->cap, norm->n + 1, SIZE_MAX, sizeof *norm->steps))
        return vlm_fail_memory(err, "normalizer");
    vlm_norm_step *step = &norm->steps[norm->n++];
    *step = (vlm_norm_step){.kind = kind};
    vlm_buf_init(&step->find, SIZE_MAX / 4);
    vlm_buf_init(&step->put, SIZE_MAX / 4);
    VLM_TRY(vlm_buf_append(&step->find, find.ptr, find.len, err));
    return vlm_buf_append(&step->put, put.ptr, put.len, err);
}

void vlm_norm_scratch_init(vlm_norm_scratch *s)
{
    *s = (vlm_norm_scratch){0};
    for (unsigned side = 0; side < 2; side++) {
        vlm_buf_init(&s->text[side], SIZE_MAX / 4);
        vlm_buf_init(&s->user[side], SIZE_MAX / 4);
    }
}

void vlm_norm_scratch_fini(vlm_norm_scratch *s)
{
    for (unsigned side = 0; side < 2; side++) {
        vlm_buf_fini(&s->text[side]);
        vlm_buf_fini(&s->user[side]);
    }
    free(s->chars);
    free(s->sorted);
    vlm_regex_scratch_free(s->regex);
    *s = (vlm_norm_scratch){0};
}

vlm_status vlm_norm_put(vlm_norm_scratch *s, unsigned side, const char *text, size_t len,
                        const uint8_t *user, uint8_t mark, vlm_error *err)
{
    VLM_TRY(vlm_buf_append(&s->text[side], text, len, err));
    if (user == NULL || len == 0) return VLM_OK;
    vlm_buf *marks = &s->user[side];
    VLM_TRY(vlm_buf_reserve(marks, len, err));
    memset(marks->data + marks->len, mark, len);
    marks->len += len;
    return VLM_OK;
}

/* Text that stays as it is, with its marks. */
static vlm_status put_same(vlm_norm_scratch *s, unsigned side, vlm_bytes text, const uint8_t *user,
                           size_t begin, size_t end, vlm_error *err)
{
    if (begin == end) return VLM_OK;
    VLM_TRY(vlm_buf_append(&s->text[side], text.ptr + begin, end - begin, err));
    if (user == NULL) return VLM_OK;
    return vlm_buf_append(&s->user[side], user + begin, end - begin, err);
}

static uint8_t any_user(const uint8_t *user, size_t begin, size_t end)
{
    uint8_t mark = 0;
    for (size_t i = begin; user != NULL && i < end; i++) mark |= user[i];
    return mark;
}

/* The next place of the step's string or pattern from *pos on. */
static vlm_status find_next(const vlm_norm_step *step, vlm_norm_scratch *s, vlm_bytes text,
                            vlm_regex_walk *walk, size_t *begin, size_t *end, bool *found,
                            vlm_error *err)
{
    if (step->regex != NULL)
        return vlm_regex_next(step->regex, s->regex, text, walk, begin, end, found, err);
    const char *at = NULL;
    if (step->find.len > 0 && walk->pos < text.len)
        at = memmem(text.ptr + walk->pos, text.len - walk->pos, step->find.data, step->find.len);
    *found = at != NULL;
    if (at == NULL) return VLM_OK;
    *begin = (size_t)(at - text.ptr);
    *end = *begin + step->find.len;
    walk->pos = *end;
    return VLM_OK;
}

static vlm_status replace(const vlm_norm_step *step, vlm_norm_scratch *s, unsigned side,
                          vlm_bytes text, const uint8_t *user, vlm_error *err)
{
    vlm_bytes view = text;
    if (step->regex != NULL && s->regex == NULL) VLM_TRY(vlm_regex_scratch_new(&s->regex, err));
    if (step->regex != NULL) VLM_TRY(vlm_regex_view(s->regex, text, &view, err));
    vlm_regex_walk walk = {0, SIZE_MAX};
    size_t done = 0;
    for (;;) {
        size_t begin, end;
        bool found;
        VLM_TRY(find_next(step, s, view, &walk, &begin, &end, &found, err));
        if (!found) break;
        if (begin == 0 && end > 0 && step->put.len == 0) s->lost_start = true;
        VLM_TRY(put_same(s, side, text, user, done, begin, err));
        VLM_TRY(vlm_norm_put(s, side, step->put.data, step->put.len, user,
                             any_user(user, begin, end), err));
        done = end;
    }
    return put_same(s, side, text, user, done, text.len, err);
}

static vlm_status put_lowercase(vlm_norm_scratch *s, unsigned side, uint32_t cp,
                                const uint8_t *user, uint8_t mark, vlm_error *err)
{
    /* The one character whose lower case is two (SpecialCasing.txt). */
    if (cp == 0x130) return vlm_norm_put(s, side, "i\xCC\x87", 3, user, mark, err);
    char utf8[4];
    const size_t len = vlm_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)cp), utf8);
    return vlm_norm_put(s, side, utf8, len, user, mark, err);
}

/* LOWERCASE, STRIP_ACCENTS and BYTE_LEVEL go character by character. */
static vlm_status each_char(const vlm_norm_step *step, vlm_norm_scratch *s, unsigned side,
                            vlm_bytes text, const uint8_t *user, vlm_error *err)
{
    for (size_t i = 0; i < text.len;) {
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(text.ptr + i, text.len - i, &cp, &is_bad);
        const uint8_t mark = any_user(user, i, i + len);
        if (step->kind == VLM_NORM_LOWERCASE) {
            VLM_TRY(put_lowercase(s, side, cp, user, mark, err));
        } else if (step->kind == VLM_NORM_STRIP_ACCENTS) {
            if (vlm_unicode_is_mark(cp))
                s->lost_start = s->lost_start || i == 0;
            else
                VLM_TRY(vlm_norm_put(s, side, text.ptr + i, len, user, mark, err));
        } else {
            for (size_t k = i; k < i + len; k++) {
                char utf8[4];
                const size_t n = vlm_utf8_encode(vlm_standin_of_byte((uint8_t)text.ptr[k]), utf8);
                VLM_TRY(vlm_norm_put(s, side, utf8, n, user, mark, err));
            }
        }
        i += len;
    }
    return VLM_OK;
}

/* SentencePiece: no spaces at the ends, one where there were several. */
static vlm_status collapse_spaces(vlm_norm_scratch *s, unsigned side, vlm_bytes text,
                                  const uint8_t *user, vlm_error *err)
{
    bool begun = false;
    for (size_t i = 0; i < text.len;) {
        size_t begin = i;
        while (i < text.len && text.ptr[i] == ' ') i++;
        if (i == text.len) break;
        if (begun && i > begin) begin = i - 1;
        if (!begun) begin = i;
        while (i < text.len && text.ptr[i] != ' ') i++;
        VLM_TRY(put_same(s, side, text, user, begin, i, err));
        begun = true;
    }
    return VLM_OK;
}

static vlm_status run_step(const vlm_norm_step *step, vlm_norm_scratch *s, unsigned side,
                           vlm_bytes text, const uint8_t *user, vlm_error *err)
{
    size_t begin = 0, end = text.len;
    switch (step->kind) {
    case VLM_NORM_NFC:
    case VLM_NORM_NFD:
    case VLM_NORM_NFKC:
    case VLM_NORM_NFKD: return vlm_norm_unicode(s, side, step->kind, text, user, err);
    case VLM_NORM_LOWERCASE:
    case VLM_NORM_STRIP_ACCENTS:
    case VLM_NORM_BYTE_LEVEL: return each_char(step, s, side, text, user, err);
    case VLM_NORM_STRIP:
        if (step->left) begin = vlm_unicode_leading_space(text);
        s->lost_start = s->lost_start || begin > 0;
        if (step->right && begin < end)
            end -= vlm_unicode_trailing_space((vlm_bytes){text.ptr + begin, end - begin});
        return put_same(s, side, text, user, begin, end, err);
    case VLM_NORM_PREPEND:
        if (text.len == 0) return VLM_OK;
        VLM_TRY(vlm_norm_put(s, side, step->put.data, step->put.len, user,
                             user == NULL ? 0 : user[0], err));
        return put_same(s, side, text, user, 0, text.len, err);
    case VLM_NORM_REPLACE: return replace(step, s, side, text, user, err);
    case VLM_NORM_COLLAPSE_SPACES: return collapse_spaces(s, side, text, user, err);
    }
    return VLM_OK;
}

static bool is_ascii(vlm_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] >= 0x80) return false;
    return true;
}

vlm_status vlm_normalizer_run(const vlm_normalizer *norm, vlm_norm_scratch *s, vlm_bytes *text,
                              const uint8_t **user, vlm_error *err)
{
    unsigned side = 0;
    s->lost_start = false;
    for (size_t i = 0; i < norm->n; i++) {
        const vlm_norm_step *step = &norm->steps[i];
        if (step->kind <= VLM_NORM_NFKD && is_ascii(*text)) continue;
        vlm_buf_clear(&s->text[side]);
        vlm_buf_clear(&s->user[side]);
        VLM_TRY(run_step(step, s, side, *text, *user, err));
        *text = vlm_buf_bytes(&s->text[side]);
        if (text->ptr == NULL) text->ptr = "";
        if (*user != NULL)
            *user = s->user[side].data == NULL ? (const uint8_t *)""
                                               : (const uint8_t *)s->user[side].data;
        side ^= 1;
    }
    return VLM_OK;
}

/* Loading. */

static vlm_status add_replace(vlm_normalizer *norm, const vlm_json *node, vlm_error *err)
{
    vlm_bytes find = {0}, put = {0}, pattern = {0};
    const vlm_json *what = vlm_json_get(node, "pattern");
    VLM_TRY(vlm_json_opt_string(what, "String", &find, err));
    VLM_TRY(vlm_json_opt_string(what, "Regex", &pattern, err));
    VLM_TRY(vlm_json_opt_string(node, "content", &put, err));
    if (find.ptr == NULL && pattern.ptr == NULL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "normalizer: Replace without a pattern");
    VLM_TRY(vlm_normalizer_add(norm, VLM_NORM_REPLACE, find, put, err));
    if (pattern.ptr == NULL) return VLM_OK;
    const vlm_status status = vlm_regex_new(pattern, &norm->steps[norm->n - 1].regex, err);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "normalizer: Replace");
}

static vlm_status add_one(vlm_normalizer *norm, const vlm_json *node, vlm_bytes type,
                          vlm_error *err)
{
    static const struct {
        const char *type;
        vlm_norm_kind kind;
    } plain[] = {
        {"NFC", VLM_NORM_NFC},
        {"NFD", VLM_NORM_NFD},
        {"NFKC", VLM_NORM_NFKC},
        {"NFKD", VLM_NORM_NFKD},
        {"Lowercase", VLM_NORM_LOWERCASE},
        {"StripAccents", VLM_NORM_STRIP_ACCENTS},
        {"ByteLevel", VLM_NORM_BYTE_LEVEL},
    };
    const vlm_bytes none = {0};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (vlm_bytes_eq_str(type, plain[i].type))
            return vlm_normalizer_add(norm, plain[i].kind, none, none, err);
    if (vlm_bytes_eq_str(type, "Replace")) return add_replace(norm, node, err);
    if (vlm_bytes_eq_str(type, "Prepend")) {
        vlm_bytes put = {0};
        VLM_TRY(vlm_json_opt_string(node, "prepend", &put, err));
        return vlm_normalizer_add(norm, VLM_NORM_PREPEND, none, put, err);
    }
    if (vlm_bytes_eq_str(type, "Strip")) {
        VLM_TRY(vlm_normalizer_add(norm, VLM_NORM_STRIP, none, none, err));
        vlm_norm_step *step = &norm->steps[norm->n - 1];
        step->left = step->right = true;
        VLM_TRY(vlm_json_opt_bool(node, "strip_left", &step->left, err));
        return vlm_json_opt_bool(node, "strip_right", &step->right, err);
    }
    return vlm_fail(err, VLM_UNIMPLEMENTED, "normalizer \"%.*s\" is not supported",
                    (int)(type.len < 64 ? type.len : 64), type.ptr == NULL ? "" : type.ptr);
}

vlm_status vlm_normalizer_add_json(vlm_normalizer *norm, const vlm_json *node, vlm_error *err)
{
    /* Sequences may hold Sequences; an explicit stack keeps a hostile file from recursing. */
    struct {
        const vlm_json *list;
        size_t next;
    } stack[16];
    size_t depth = 0;
    while (node != NULL || depth > 0) {
        if (node == NULL) {
            if (stack[depth - 1].next == vlm_json_array_len(stack[depth - 1].list)) {
                depth--;
                continue;
            }
            node = vlm_json_at(stack[depth - 1].list, stack[depth - 1].next++);
            if (node == NULL)
                return vlm_fail(err, VLM_INVALID_ARGUMENT, "normalizer: null in a Sequence");
        }
        vlm_bytes type = {0};
        if (vlm_json_typeof(node) != VLM_JSON_OBJECT)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "normalizer must be an object");
        VLM_TRY(vlm_json_opt_string(node, "type", &type, err));
        if (!vlm_bytes_eq_str(type, "Sequence")) {
            VLM_TRY(add_one(norm, node, type, err));
        } else {
            const vlm_json *list = vlm_json_get(node, "normalizers");
            if (vlm_json_typeof(list) != VLM_JSON_ARRAY || depth == 16)
                return vlm_fail(err, VLM_INVALID_ARGUMENT,
                                "normalizer: Sequence needs an array, nested 16 deep at most");
            stack[depth].list = list;
            stack[depth++].next = 0;
        }
        node = NULL;
    }
    return VLM_OK;
}
