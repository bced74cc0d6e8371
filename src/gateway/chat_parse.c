#include "gateway/chat_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"

enum { MESSAGES_MAX = 4096 };

typedef struct parser {
    vlm_chat_request *r;
    const vlm_chat_limits *limits;
    vlm_api_error *error;
    char param[VLM_CHAT_PARAM_LEN_MAX + 1]; /* where we are */
} parser;

void vlm_chat_param(char out[VLM_CHAT_PARAM_LEN_MAX + 1], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(out, VLM_CHAT_PARAM_LEN_MAX + 1, fmt, ap);
    va_end(ap);
}

ProtobufCBinaryData vlm_chat_data(vlm_bytes text)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)text.ptr, .len = text.len};
}

static bool fail(parser *p, const char *below, const char *text)
{
    char param[2 * VLM_CHAT_PARAM_LEN_MAX];
    (void)snprintf(param, sizeof param, "%s%s", p->param, below);
    vlm_api_error_invalid(p->error, param, "%s %s", param, text);
    return false;
}

static bool out_of_memory(parser *p)
{
    vlm_api_error_overloaded(p->error, "the server is short of memory");
    return false;
}

static bool starts_nocase(vlm_bytes text, const char *lower)
{
    const size_t len = strlen(lower);
    if (text.len < len) return false;
    for (size_t i = 0; i < len; i++) {
        const char c = text.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != lower[i]) return false;
    }
    return true;
}

static bool take_image(parser *p, const vlm_buf *bytes, ProtobufCBinaryData *out)
{
    uint8_t *copy = vlm_arena_alloc(&p->r->arena, bytes->len + 1);
    if (copy == NULL) return out_of_memory(p);
    if (bytes->len > 0) memcpy(copy, bytes->data, bytes->len);
    *out = (ProtobufCBinaryData){.data = copy, .len = bytes->len};
    return true;
}

static bool decode_base64(parser *p, vlm_bytes text, ProtobufCBinaryData *out)
{
    vlm_buf bytes;
    vlm_error err;
    if (text.len / 4 * 3 > p->limits->image_bytes_max + text.len / 32)
        return fail(p, ".image_url", "holds too large a picture");
    vlm_buf_init(&bytes, p->limits->image_bytes_max);
    const vlm_status status = vlm_base64_decode(text, &bytes, &err);
    bool ok = status == VLM_OK && take_image(p, &bytes, out);
    if (status == VLM_INVALID_ARGUMENT)
        ok = fail(p, ".image_url", "is no base64");
    else if (status != VLM_OK)
        ok = fail(p, ".image_url", "holds too large a picture");
    vlm_buf_fini(&bytes);
    return ok;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

static bool decode_percent(parser *p, vlm_bytes text, ProtobufCBinaryData *out)
{
    if (text.len > 3 * p->limits->image_bytes_max)
        return fail(p, ".image_url", "holds too large a picture");
    uint8_t *bytes = vlm_arena_alloc(&p->r->arena, text.len + 1);
    size_t n = 0;
    if (bytes == NULL) return out_of_memory(p);
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.ptr[i];
        const int high = c == '%' && i + 2 < text.len ? hex_value(text.ptr[i + 1]) : -1;
        const int low = c == '%' && i + 2 < text.len ? hex_value(text.ptr[i + 2]) : -1;
        if (high >= 0 && low >= 0) {
            bytes[n++] = (uint8_t)(high << 4 | low);
            i += 2;
        } else {
            bytes[n++] = (uint8_t)c;
        }
    }
    if (n > p->limits->image_bytes_max) return fail(p, ".image_url", "holds too large a picture");
    *out = (ProtobufCBinaryData){.data = bytes, .len = n};
    return true;
}

/* data:[MIME][;parameters][;base64],DATA */
static bool read_data_uri(parser *p, vlm_bytes url, ProtobufCBinaryData *out)
{
    static const char marker[] = ";base64";
    const char *comma = memchr(url.ptr, ',', url.len);
    if (comma == NULL) return fail(p, ".image_url", "is a data: URI without a comma");
    const size_t head = (size_t)(comma - url.ptr);
    const vlm_bytes data = {.ptr = comma + 1, .len = url.len - head - 1};
    const size_t marker_len = sizeof marker - 1;
    const vlm_bytes tail = {.ptr = comma - marker_len, .len = marker_len};
    if (head >= 5 + marker_len && starts_nocase(tail, marker)) return decode_base64(p, data, out);
    return decode_percent(p, data, out);
}

static bool add_url(parser *p, vlm_bytes url, ProtobufCBinaryData *out)
{
    vlm_chat_request *r = p->r;
    if (!p->limits->image_urls)
        return fail(p, ".image_url", "is a URL, and this server fetches no pictures");
    if (memchr(url.ptr, '\0', url.len) != NULL) return fail(p, ".image_url", "is no URL");
    if (r->urls == NULL)
        r->urls = vlm_arena_array(&r->arena, p->limits->images_max, sizeof *r->urls);
    char *copy = vlm_arena_strndup(&r->arena, url.ptr, url.len);
    if (r->urls == NULL || copy == NULL) return out_of_memory(p);
    vlm_chat_url *u = &r->urls[r->n_urls++];
    u->url = copy;
    u->slot = out;
    vlm_chat_param(u->param, "%.40s.image_url", p->param);
    return true;
}

/* "gopher:", but not base64, which has no colon. */
static bool has_scheme(vlm_bytes url)
{
    const size_t n = url.len < 32 ? url.len : 32;
    return memchr(url.ptr, ':', n) != NULL;
}

static bool read_image(parser *p, const vlm_json *node, Vlm__V1__Part *out)
{
    static const char *const details[] = {"auto", "low", "high", "original"};
    const vlm_json *url = node;
    if (node != NULL && vlm_json_typeof(node) == VLM_JSON_OBJECT) {
        url = vlm_json_get(node, "url");
        const vlm_json *detail = vlm_json_get(node, "detail");
        bool known = detail == NULL;
        for (size_t i = 0; !known && i < sizeof details / sizeof *details; i++)
            known = vlm_json_typeof(detail) == VLM_JSON_STRING &&
                    vlm_bytes_eq_str(vlm_json_string(detail), details[i]);
        if (!known) return fail(p, ".image_url.detail", "must be auto, low or high");
    }
    if (url == NULL || vlm_json_typeof(url) != VLM_JSON_STRING)
        return fail(p, ".image_url", "must be a URL or an object with one");
    if (++p->r->n_images > p->limits->images_max) {
        vlm_api_error_invalid(p->error, "messages", "messages: at most %u pictures are taken",
                              p->limits->images_max);
        return false;
    }
    const vlm_bytes text = vlm_json_string(url);
    out->kind_case = VLM__V1__PART__KIND_IMAGE;
    if (starts_nocase(text, "data:")) return read_data_uri(p, text, &out->image);
    if (starts_nocase(text, "http://") || starts_nocase(text, "https://"))
        return add_url(p, text, &out->image);
    if (has_scheme(text)) return fail(p, ".image_url", "has a scheme that is not taken");
    return decode_base64(p, text, &out->image);
}

static bool read_part(parser *p, const vlm_json *node, bool may_have_images, Vlm__V1__Part *out)
{
    if (node == NULL || vlm_json_typeof(node) != VLM_JSON_OBJECT)
        return fail(p, "", "must be an object");
    const vlm_json *type = vlm_json_get(node, "type");
    if (type == NULL || vlm_json_typeof(type) != VLM_JSON_STRING)
        return fail(p, ".type", "must be a string");
    const vlm_bytes name = vlm_json_string(type);
    if (vlm_bytes_eq_str(name, "text")) {
        const vlm_json *text = vlm_json_get(node, "text");
        if (text == NULL || vlm_json_typeof(text) != VLM_JSON_STRING)
            return fail(p, ".text", "must be a string");
        out->kind_case = VLM__V1__PART__KIND_TEXT;
        out->text = vlm_chat_data(vlm_json_string(text));
        return true;
    }
    if (!vlm_bytes_eq_str(name, "image_url")) return fail(p, ".type", "must be text or image_url");
    if (!may_have_images) return fail(p, "", "may hold a picture in a user's message alone");
    return read_image(p, vlm_json_get(node, "image_url"), out);
}

static bool add_parts(parser *p, Vlm__V1__Message *m, size_t n)
{
    m->parts = vlm_arena_array(&p->r->arena, n, sizeof *m->parts);
    Vlm__V1__Part *parts = vlm_arena_array(&p->r->arena, n, sizeof *parts);
    if (m->parts == NULL || parts == NULL) return out_of_memory(p);
    for (size_t i = 0; i < n; i++) {
        vlm__v1__part__init(&parts[i]);
        m->parts[i] = &parts[i];
    }
    m->n_parts = n;
    return true;
}

static bool read_content(parser *p, const vlm_json *content, bool is_user, bool may_be_null,
                         size_t idx, Vlm__V1__Message *m)
{
    if (content == NULL && may_be_null) return true;
    const vlm_json_type type = content == NULL ? VLM_JSON_NULL : vlm_json_typeof(content);
    if (type == VLM_JSON_STRING) {
        if (!add_parts(p, m, 1)) return false;
        m->parts[0]->kind_case = VLM__V1__PART__KIND_TEXT;
        m->parts[0]->text = vlm_chat_data(vlm_json_string(content));
        return true;
    }
    if (type != VLM_JSON_ARRAY || vlm_json_array_len(content) == 0)
        return fail(p, ".content", "must be a string or an array of parts");
    if (!add_parts(p, m, vlm_json_array_len(content))) return false;
    for (size_t i = 0; i < m->n_parts; i++) {
        vlm_chat_param(p->param, "messages[%zu].content[%zu]", idx, i);
        if (!read_part(p, vlm_json_at(content, i), is_user, m->parts[i])) return false;
    }
    return true;
}

static bool read_message(parser *p, const vlm_json *node, size_t idx, Vlm__V1__Message *m)
{
    vlm_chat_param(p->param, "messages[%zu]", idx);
    if (node == NULL || vlm_json_typeof(node) != VLM_JSON_OBJECT)
        return fail(p, "", "must be an object");
    const vlm_json *role = vlm_json_get(node, "role");
    if (role == NULL || vlm_json_typeof(role) != VLM_JSON_STRING)
        return fail(p, ".role", "must be a string");
    const vlm_bytes name = vlm_json_string(role);
    const bool is_user = vlm_bytes_eq_str(name, "user");
    const bool is_assistant = vlm_bytes_eq_str(name, "assistant");
    const bool is_developer = vlm_bytes_eq_str(name, "developer");
    if (!is_user && !is_assistant && !is_developer && !vlm_bytes_eq_str(name, "system"))
        return fail(p, ".role", "must be system, developer, user or assistant");
    const vlm_json *calls = vlm_json_get(node, "tool_calls");
    if (calls != NULL &&
        (vlm_json_typeof(calls) != VLM_JSON_ARRAY || vlm_json_array_len(calls) > 0))
        return fail(p, ".tool_calls", "is not supported");
    if (vlm_json_get(node, "function_call") != NULL)
        return fail(p, ".function_call", "is not supported");
    m->role = vlm_chat_data(is_developer ? vlm_bytes_of("system") : name);
    return read_content(p, vlm_json_get(node, "content"), is_user,
                        is_assistant && vlm_json_has(node, "content"), idx, m);
}

bool vlm_chat_parse_messages(vlm_chat_request *r, const vlm_json *messages,
                             const vlm_chat_limits *limits, vlm_api_error *error)
{
    parser p = {.r = r, .limits = limits, .error = error};
    vlm_chat_param(p.param, "messages");
    if (messages == NULL || vlm_json_typeof(messages) != VLM_JSON_ARRAY)
        return fail(&p, "", "must be an array");
    const size_t n = vlm_json_array_len(messages);
    if (n == 0) return fail(&p, "", "must not be empty");
    if (n > MESSAGES_MAX) {
        vlm_api_error_invalid(error, "messages", "messages must have at most %d entries",
                              MESSAGES_MAX);
        return false;
    }
    r->grpc.messages = vlm_arena_array(&r->arena, n, sizeof *r->grpc.messages);
    Vlm__V1__Message *list = vlm_arena_array(&r->arena, n, sizeof *list);
    if (r->grpc.messages == NULL || list == NULL) return out_of_memory(&p);
    for (size_t i = 0; i < n; i++) {
        vlm__v1__message__init(&list[i]);
        r->grpc.messages[i] = &list[i];
        r->grpc.n_messages++;
        if (!read_message(&p, vlm_json_at(messages, i), i, &list[i])) return false;
    }
    return true;
}
