#include "gateway/chat_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGES_MAX = 4096, PARTS_MAX = 4096 };

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

static ProtobufCBinaryData data_of(vlm_bytes text)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)text.ptr, .len = text.len};
}

bool vlm_chat_refuse(vlm_api_error *error, const char *path, const char *below, const char *text)
{
    char param[2 * VLM_CHAT_PARAM_LEN_MAX];
    (void)snprintf(param, sizeof param, "%s%s", path, below);
    vlm_api_error_invalid(error, param, "%s %s", param, text);
    return false;
}

bool vlm_chat_no_memory(vlm_api_error *error)
{
    vlm_api_error_overloaded(error, "the server is short of memory");
    return false;
}

bool vlm_chat_is_memory(const vlm_error *err)
{
    return strncmp(err->msg, "out of memory", strlen("out of memory")) == 0;
}

bool vlm_chat_copy(vlm_chat_request *r, vlm_bytes text, ProtobufCBinaryData *out,
                   vlm_api_error *error)
{
    const char *copy = text.len == 0 ? "" : vlm_arena_strndup(&r->arena, text.ptr, text.len);
    if (copy == NULL) return vlm_chat_no_memory(error);
    *out = data_of((vlm_bytes){.ptr = copy, .len = text.len});
    return true;
}

static bool fail(parser *p, const char *below, const char *text)
{
    return vlm_chat_refuse(p->error, p->param, below, text);
}

static bool read_part(parser *p, const vlm_json *node, bool may_have_images, Vlm__V1__Part *out)
{
    if (vlm_json_typeof(node) != VLM_JSON_OBJECT) return fail(p, "", "must be an object");
    const vlm_json *type = vlm_json_get(node, "type");
    if (vlm_json_typeof(type) != VLM_JSON_STRING) return fail(p, ".type", "must be a string");
    const vlm_bytes name = vlm_json_string(type);
    if (vlm_bytes_eq_str(name, "text")) {
        const vlm_json *text = vlm_json_get(node, "text");
        if (vlm_json_typeof(text) != VLM_JSON_STRING) return fail(p, ".text", "must be a string");
        out->kind_case = VLM__V1__PART__KIND_TEXT;
        return vlm_chat_copy(p->r, vlm_json_string(text), &out->text, p->error);
    }
    if (!vlm_bytes_eq_str(name, "image_url")) return fail(p, ".type", "must be text or image_url");
    if (!may_have_images) return fail(p, "", "may hold a picture in a user's message alone");
    out->kind_case = VLM__V1__PART__KIND_IMAGE;
    return vlm_chat_parse_image(p->r, vlm_json_get(node, "image_url"), p->param, p->limits,
                                &out->image, p->error);
}

static bool add_parts(parser *p, Vlm__V1__Message *m, size_t n)
{
    m->parts = vlm_arena_array(&p->r->arena, n, sizeof *m->parts);
    Vlm__V1__Part *parts = vlm_arena_array(&p->r->arena, n, sizeof *parts);
    if (m->parts == NULL || parts == NULL) return vlm_chat_no_memory(p->error);
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
    const vlm_json_type type = vlm_json_typeof(content);
    if (type == VLM_JSON_STRING) {
        if (!add_parts(p, m, 1)) return false;
        m->parts[0]->kind_case = VLM__V1__PART__KIND_TEXT;
        return vlm_chat_copy(p->r, vlm_json_string(content), &m->parts[0]->text, p->error);
    }
    if (type != VLM_JSON_ARRAY || vlm_json_array_len(content) == 0)
        return fail(p, ".content", "must be a string or an array of parts");
    if (vlm_json_array_len(content) > PARTS_MAX) return fail(p, ".content", "has too many parts");
    if (!add_parts(p, m, vlm_json_array_len(content))) return false;
    for (size_t i = 0; i < m->n_parts; i++) {
        vlm_chat_param(p->param, "messages[%zu].content[%zu]", idx, i);
        if (!read_part(p, vlm_json_at(content, i), is_user, m->parts[i])) return false;
    }
    return true;
}

/* What an answer with tools or speech would have brought along; our own answers have it null. */
static bool check_history(parser *p, const vlm_json *node)
{
    static const struct {
        const char *name, *below;
    } members[] = {{"tool_calls", ".tool_calls"},
                   {"function_call", ".function_call"},
                   {"refusal", ".refusal"},
                   {"audio", ".audio"}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const vlm_json *value = vlm_json_get(node, members[i].name);
        const bool is_empty =
            vlm_json_typeof(value) == VLM_JSON_ARRAY && vlm_json_array_len(value) == 0;
        if (value != NULL && !is_empty) return fail(p, members[i].below, "is not supported");
    }
    return true;
}

/* *is_user, *may_be_null: what the role allows of the content. */
static bool read_role(parser *p, const vlm_json *node, Vlm__V1__Message *m, bool *is_user,
                      bool *may_be_null)
{
    static const struct {
        const char *name, *role;
    } roles[] = {{"system", "system"},
                 {"developer", "system"},
                 {"user", "user"},
                 {"assistant", "assistant"}};
    const vlm_json *role = vlm_json_get(node, "role");
    if (vlm_json_typeof(role) != VLM_JSON_STRING) return fail(p, ".role", "must be a string");
    const vlm_bytes name = vlm_json_string(role);
    if (vlm_bytes_eq_str(name, "tool") || vlm_bytes_eq_str(name, "function"))
        return fail(p, ".role", "may not be tool or function: tools are not supported");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (vlm_bytes_eq_str(name, roles[i].name)) {
            m->role = data_of(vlm_bytes_of(roles[i].role));
            *is_user = vlm_bytes_eq_str(name, "user");
            *may_be_null = vlm_bytes_eq_str(name, "assistant") && vlm_json_has(node, "content");
            return true;
        }
    return fail(p, ".role", "must be system, developer, user or assistant");
}

static bool read_message(parser *p, const vlm_json *node, size_t idx, Vlm__V1__Message *m)
{
    bool is_user = false, may_be_null = false;
    vlm_chat_param(p->param, "messages[%zu]", idx);
    if (vlm_json_typeof(node) != VLM_JSON_OBJECT) return fail(p, "", "must be an object");
    if (!read_role(p, node, m, &is_user, &may_be_null) || !check_history(p, node)) return false;
    const vlm_json *name = vlm_json_get(node, "name");
    if (name != NULL && vlm_json_typeof(name) != VLM_JSON_STRING)
        return fail(p, ".name", "must be a string");
    if (name != NULL && !vlm_chat_copy(p->r, vlm_json_string(name), &m->name, p->error))
        return false;
    return read_content(p, vlm_json_get(node, "content"), is_user, may_be_null, idx, m);
}

bool vlm_chat_parse_messages(vlm_chat_request *r, const vlm_json *messages,
                             const vlm_chat_limits *limits, vlm_api_error *error)
{
    parser p = {.r = r, .limits = limits, .error = error};
    vlm_chat_param(p.param, "messages");
    if (vlm_json_typeof(messages) != VLM_JSON_ARRAY) return fail(&p, "", "must be an array");
    const size_t n = vlm_json_array_len(messages);
    if (n == 0) return fail(&p, "", "must not be empty");
    if (n > MESSAGES_MAX) {
        vlm_api_error_invalid(error, "messages", "messages must have at most %d entries",
                              MESSAGES_MAX);
        return false;
    }
    r->grpc.messages = vlm_arena_array(&r->arena, n, sizeof *r->grpc.messages);
    Vlm__V1__Message *list = vlm_arena_array(&r->arena, n, sizeof *list);
    if (r->grpc.messages == NULL || list == NULL) return vlm_chat_no_memory(error);
    for (size_t i = 0; i < n; i++) {
        vlm__v1__message__init(&list[i]);
        r->grpc.messages[i] = &list[i];
        r->grpc.n_messages++;
        if (!read_message(&p, vlm_json_at(messages, i), i, &list[i])) return false;
    }
    return true;
}
