#include "base/json.h"

#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

enum { DEPTH_CAP = 512 };

const vlm_json_limits vlm_json_limits_default = {
    .len_max = (size_t)64 << 20, .depth_max = 64, .nodes_max = 1000000};
const vlm_json_limits vlm_json_limits_large = {
    .len_max = (size_t)256 << 20, .depth_max = 64, .nodes_max = 20000000};

struct vlm_json_doc {
    struct json_object *root;
};

/* What one pass over the text learns before json-c may allocate anything for it. */
typedef struct scan {
    const char *text;
    size_t len, pos, depth, depth_max_seen, n_nodes, n_members;
    bool key_has_nul;
} scan;

static vlm_status bad(const scan *s, const char *what, vlm_error *err)
{
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, s->pos, "JSON: %s at byte %zu", what, s->pos);
}

/* From the opening quote to behind the closing one. */
static vlm_status scan_string(scan *s, vlm_error *err)
{
    bool has_nul = false;
    s->pos++;
    for (;;) {
        if (s->pos >= s->len) return bad(s, "unterminated string", err);
        const unsigned char c = (unsigned char)s->text[s->pos];
        if (c == '"') break;
        if (c < 0x20) return bad(s, "control character in a string", err);
        if (c == '\\') {
            if (s->len - s->pos >= 6 && memcmp(s->text + s->pos, "\\u0000", 6) == 0) has_nul = true;
            s->pos++;
        }
        s->pos++;
    }
    s->pos++;
    if (!has_nul) return VLM_OK;
    size_t next = s->pos;
    while (next < s->len && strchr(" \t\r\n", s->text[next]) != NULL && s->text[next] != '\0')
        next++;
    if (next < s->len && s->text[next] == ':') s->key_has_nul = true;
    return VLM_OK;
}

static size_t word_len(const scan *s)
{
    size_t n = 0;
    while (s->pos + n < s->len) {
        const char c = s->text[s->pos + n];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '+' || c == '-' || c == '.'))
            break;
        n++;
    }
    return n;
}

/* RFC 8259 section 6; json-c also takes 01, 1. and NaN. */
static bool is_number(const char *p, size_t n)
{
    size_t i = 0;
    if (i < n && p[i] == '-') i++;
    if (i >= n) return false;
    if (p[i] == '0') {
        i++;
    } else {
        if (p[i] < '1' || p[i] > '9') return false;
        while (i < n && p[i] >= '0' && p[i] <= '9') i++;
    }
    if (i < n && p[i] == '.') {
        const size_t digits = ++i;
        while (i < n && p[i] >= '0' && p[i] <= '9') i++;
        if (i == digits) return false;
    }
    if (i < n && (p[i] == 'e' || p[i] == 'E')) {
        i++;
        if (i < n && (p[i] == '+' || p[i] == '-')) i++;
        const size_t digits = i;
        while (i < n && p[i] >= '0' && p[i] <= '9') i++;
        if (i == digits) return false;
    }
    return i == n;
}

static vlm_status scan_word(scan *s, vlm_error *err)
{
    const char *p = s->text + s->pos;
    const size_t n = word_len(s);
    if (n == 0) return bad(s, "unexpected character", err);
    const bool literal = (n == 4 && memcmp(p, "true", 4) == 0) ||
                         (n == 4 && memcmp(p, "null", 4) == 0) ||
                         (n == 5 && memcmp(p, "false", 5) == 0);
    if (!literal && !is_number(p, n))
        return bad(s, "neither a number nor true, false or null", err);
    s->pos += n;
    return VLM_OK;
}

static vlm_status scan_text(scan *s, const vlm_json_limits *limits, vlm_error *err)
{
    const size_t depth_max = limits->depth_max < DEPTH_CAP ? limits->depth_max : DEPTH_CAP;
    while (s->pos < s->len) {
        switch (s->text[s->pos]) {
        case ' ':
        case '\t':
        case '\r':
        case '\n':
        case ',': s->pos++; continue;
        case ':':
            s->n_members++;
            s->pos++;
            continue;
        case '}':
        case ']':
            if (s->depth == 0) return bad(s, "unexpected bracket", err);
            s->depth--;
            s->pos++;
            continue;
        case '{':
        case '[':
            if (++s->depth > depth_max)
                return vlm_fail_at(err, VLM_INVALID_ARGUMENT, s->pos,
                                   "JSON: nested deeper than %zu at byte %zu", depth_max, s->pos);
            s->pos++;
            break;
        case '"': VLM_TRY(scan_string(s, err)); break;
        default: VLM_TRY(scan_word(s, err)); break;
        }
        if (++s->n_nodes > limits->nodes_max)
            return vlm_fail_at(err, VLM_RESOURCE_EXHAUSTED, s->pos,
                               "JSON: more than %zu values and keys", limits->nodes_max);
    }
    if (s->depth > 0) return bad(s, "end of text inside an object or array", err);
    if (s->key_has_nul) return bad(s, "a key holds a NUL character", err);
    return VLM_OK;
}

/* json-c silently keeps the last of two equal keys, so a tree with fewer members than the text has
 * colons had duplicates.  Walks without recursion. */
static vlm_status count_members(struct json_object *root, size_t *n_members, vlm_error *err)
{
    struct json_object **stack = NULL;
    size_t cap = 0, n = 0;
    vlm_status status = VLM_OK;
    *n_members = 0;
    if (root != NULL) {
        if (!vlm_grow((void **)&stack, &cap, 1, SIZE_MAX, sizeof(struct json_object *)))
            return vlm_fail_memory(err, "JSON");
        stack[n++] = root;
    }
    while (n > 0) {
        struct json_object *node = stack[--n];
        const bool is_object = json_object_is_type(node, json_type_object);
        const size_t len = is_object ? (size_t)json_object_object_length(node)
                           : json_object_is_type(node, json_type_array)
                               ? json_object_array_length(node)
                               : 0;
        if (len == 0) continue;
        if (!vlm_grow((void **)&stack, &cap, n + len, SIZE_MAX, sizeof(struct json_object *))) {
            status = vlm_fail_memory(err, "JSON");
            break;
        }
        if (is_object) {
            *n_members += len;
            for (struct lh_entry *e = json_object_get_object(node)->head; e != NULL; e = e->next) {
                struct json_object *child = lh_entry_v(e);
                if (json_object_is_type(child, json_type_object) ||
                    json_object_is_type(child, json_type_array))
                    stack[n++] = child;
            }
        } else {
            for (size_t i = 0; i < len; i++) {
                struct json_object *child = json_object_array_get_idx(node, i);
                if (json_object_is_type(child, json_type_object) ||
                    json_object_is_type(child, json_type_array))
                    stack[n++] = child;
            }
        }
    }
    free(stack);
    return status;
}

static vlm_status run_tokener(const char *text, size_t len, struct json_object **root,
                              vlm_error *err)
{
    struct json_tokener *tok = json_tokener_new_ex(DEPTH_CAP + 2);
    if (tok == NULL) return vlm_fail_memory(err, "JSON");
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
    *root = json_tokener_parse_ex(tok, text, (int)len);
    enum json_tokener_error code = json_tokener_get_error(tok);
    size_t end = json_tokener_get_parse_end(tok);
    if (code == json_tokener_continue) {
        /* A number at the very end is complete only once something follows it. */
        struct json_object *rest = json_tokener_parse_ex(tok, "\n", 1);
        code = json_tokener_get_error(tok);
        if (code == json_tokener_success) *root = rest;
        end = len;
    }
    json_tokener_free(tok);
    if (code == json_tokener_success) {
        while (end < len && strchr(" \t\r\n", text[end]) != NULL && text[end] != '\0') end++;
        if (end == len) return VLM_OK;
    }
    json_object_put(*root);
    *root = NULL;
    if (code == json_tokener_continue)
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, len, "JSON: the text ends too early");
#ifdef JSON_TOKENER_HAS_ERROR_MEMORY
    if (code == json_tokener_error_memory) return vlm_fail_memory(err, "JSON");
#endif
    if (code == json_tokener_success)
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, end, "JSON: text after the value at byte %zu",
                           end);
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, end, "JSON: %s at byte %zu",
                       json_tokener_error_desc(code), end);
}

vlm_status vlm_json_parse(const char *text, size_t len, const vlm_json_limits *limits,
                          vlm_json_doc **doc, vlm_error *err)
{
    *doc = NULL;
    if (len > limits->len_max || len > INT_MAX)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "JSON: longer than %zu bytes",
                        limits->len_max);
    const size_t bad_at = vlm_utf8_first_bad(text, len);
    if (bad_at < len)
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, bad_at, "JSON: not UTF-8 at byte %zu",
                           bad_at);

    scan s = {.text = text, .len = len};
    VLM_TRY(scan_text(&s, limits, err));

    vlm_json_doc *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) return vlm_fail_memory(err, "JSON");
    size_t n_members = 0;
    vlm_status status = run_tokener(text, len, &fresh->root, err);
    if (status == VLM_OK) status = count_members(fresh->root, &n_members, err);
    if (status == VLM_OK && n_members != s.n_members)
        status = vlm_fail(err, VLM_INVALID_ARGUMENT, "JSON: an object holds the same key twice");
    if (status != VLM_OK) {
        vlm_json_free(fresh);
        return status;
    }
    *doc = fresh;
    return VLM_OK;
}

void vlm_json_free(vlm_json_doc *doc)
{
    if (doc == NULL) return;
    json_object_put(doc->root);
    free(doc);
}

const vlm_json *vlm_json_root(const vlm_json_doc *doc)
{
    return doc->root;
}

vlm_json_type vlm_json_typeof(const vlm_json *node)
{
    switch (json_object_get_type(node)) {
    case json_type_boolean: return VLM_JSON_BOOL;
    case json_type_double: return VLM_JSON_DOUBLE;
    case json_type_int: return VLM_JSON_INT;
    case json_type_object: return VLM_JSON_OBJECT;
    case json_type_array: return VLM_JSON_ARRAY;
    case json_type_string: return VLM_JSON_STRING;
    case json_type_null: break;
    }
    return VLM_JSON_NULL;
}

const char *vlm_json_type_name(const vlm_json *node)
{
    static const char *const names[] = {"null",     "a boolean", "an integer", "a number",
                                        "a string", "an array",  "an object"};
    return names[vlm_json_typeof(node)];
}

bool vlm_json_bool(const vlm_json *node)
{
    return json_object_get_boolean(node) != 0;
}

int64_t vlm_json_int(const vlm_json *node)
{
    return json_object_get_int64(node);
}

bool vlm_json_int_fits(const vlm_json *node)
{
    /* json-c saturates: an extreme value is genuine only if it prints as the text did, and it keeps
     * no text, so the two extremes themselves count as too large. */
    const int64_t value = json_object_get_int64(node);
    return value != INT64_MAX && value != INT64_MIN;
}

double vlm_json_double(const vlm_json *node)
{
    return json_object_get_double(node);
}

vlm_bytes vlm_json_string(const vlm_json *node)
{
    /* json-c's getters take a non-const object but do not change a string. */
    struct json_object *mutable_node = (struct json_object *)(uintptr_t)node;
    return (vlm_bytes){.ptr = json_object_get_string(mutable_node),
                       .len = (size_t)json_object_get_string_len(node)};
}

size_t vlm_json_array_len(const vlm_json *node)
{
    return json_object_is_type(node, json_type_array) ? json_object_array_length(node) : 0;
}

const vlm_json *vlm_json_at(const vlm_json *node, size_t idx)
{
    if (idx >= vlm_json_array_len(node)) return NULL;
    return json_object_array_get_idx(node, idx);
}

size_t vlm_json_object_len(const vlm_json *node)
{
    return json_object_is_type(node, json_type_object) ? (size_t)json_object_object_length(node)
                                                       : 0;
}

const vlm_json *vlm_json_get(const vlm_json *node, const char *key)
{
    struct json_object *value = NULL;
    if (!json_object_is_type(node, json_type_object)) return NULL;
    (void)json_object_object_get_ex(node, key, &value);
    return value;
}

bool vlm_json_has(const vlm_json *node, const char *key)
{
    return json_object_is_type(node, json_type_object) &&
           json_object_object_get_ex(node, key, NULL) != 0;
}

vlm_json_iter vlm_json_iter_begin(const vlm_json *object)
{
    vlm_json_iter it = {0};
    if (json_object_is_type(object, json_type_object))
        it.next_ = json_object_get_object(object)->head;
    return it;
}

bool vlm_json_iter_next(vlm_json_iter *it)
{
    const struct lh_entry *entry = it->next_;
    if (entry == NULL) return false;
    it->key = lh_entry_k(entry);
    it->value = lh_entry_v(entry);
    it->next_ = entry->next;
    return true;
}

vlm_status vlm_json_opt_bool(const vlm_json *obj, const char *key, bool *out, vlm_error *err)
{
    const vlm_json *node = vlm_json_get(obj, key);
    if (node == NULL) return VLM_OK;
    if (vlm_json_typeof(node) != VLM_JSON_BOOL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be true or false, not %s", key,
                        vlm_json_type_name(node));
    *out = vlm_json_bool(node);
    return VLM_OK;
}

vlm_status vlm_json_opt_int(const vlm_json *obj, const char *key, int64_t min, int64_t max,
                            int64_t *out, vlm_error *err)
{
    const vlm_json *node = vlm_json_get(obj, key);
    if (node == NULL) return VLM_OK;
    if (vlm_json_typeof(node) != VLM_JSON_INT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be an integer, not %s", key,
                        vlm_json_type_name(node));
    const int64_t value = vlm_json_int(node);
    if (!vlm_json_int_fits(node) || value < min || value > max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be between %lld and %lld", key,
                        (long long)min, (long long)max);
    *out = value;
    return VLM_OK;
}

vlm_status vlm_json_opt_u32(const vlm_json *obj, const char *key, uint32_t min, uint32_t max,
                            uint32_t *out, vlm_error *err)
{
    int64_t value = *out;
    VLM_TRY(vlm_json_opt_int(obj, key, min, max, &value, err));
    *out = (uint32_t)value;
    return VLM_OK;
}

vlm_status vlm_json_opt_double(const vlm_json *obj, const char *key, double min, double max,
                               double *out, vlm_error *err)
{
    const vlm_json *node = vlm_json_get(obj, key);
    if (node == NULL) return VLM_OK;
    const vlm_json_type type = vlm_json_typeof(node);
    if (type != VLM_JSON_INT && type != VLM_JSON_DOUBLE)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be a number, not %s", key,
                        vlm_json_type_name(node));
    const double value = vlm_json_double(node);
    if (!isfinite(value) || value < min || value > max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be between %g and %g", key, min, max);
    *out = value;
    return VLM_OK;
}

vlm_status vlm_json_opt_float(const vlm_json *obj, const char *key, double min, double max,
                              float *out, vlm_error *err)
{
    double value = (double)*out;
    VLM_TRY(vlm_json_opt_double(obj, key, min, max, &value, err));
    *out = (float)value;
    return VLM_OK;
}

vlm_status vlm_json_opt_string(const vlm_json *obj, const char *key, vlm_bytes *out, vlm_error *err)
{
    const vlm_json *node = vlm_json_get(obj, key);
    if (node == NULL) return VLM_OK;
    if (vlm_json_typeof(node) != VLM_JSON_STRING)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be a string, not %s", key,
                        vlm_json_type_name(node));
    *out = vlm_json_string(node);
    return VLM_OK;
}

static vlm_status append_escaped(vlm_buf *buf, unsigned char c, vlm_error *err)
{
    switch (c) {
    case '"': return vlm_buf_append(buf, "\\\"", 2, err);
    case '\\': return vlm_buf_append(buf, "\\\\", 2, err);
    case '\b': return vlm_buf_append(buf, "\\b", 2, err);
    case '\f': return vlm_buf_append(buf, "\\f", 2, err);
    case '\n': return vlm_buf_append(buf, "\\n", 2, err);
    case '\r': return vlm_buf_append(buf, "\\r", 2, err);
    case '\t': return vlm_buf_append(buf, "\\t", 2, err);
    default: return vlm_buf_printf(buf, err, "\\u%04x", c);
    }
}

vlm_status vlm_json_append_string(vlm_buf *buf, vlm_bytes text, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_char(buf, '"', err));
    size_t i = 0, start = 0;
    while (i < text.len) {
        const unsigned char c = (unsigned char)text.ptr[i];
        uint32_t cp = c;
        bool is_bad = false;
        const size_t n = c < 0x80 ? 1 : vlm_utf8_decode(text.ptr + i, text.len - i, &cp, &is_bad);
        const bool escape = c < 0x20 || c == '"' || c == '\\';
        if (escape || is_bad) {
            VLM_TRY(vlm_buf_append(buf, text.ptr + start, i - start, err));
            VLM_TRY(is_bad ? vlm_buf_append(buf, "\xEF\xBF\xBD", 3, err)
                           : append_escaped(buf, c, err));
            start = i + n;
        }
        i += n;
    }
    VLM_TRY(vlm_buf_append(buf, text.ptr + start, text.len - start, err));
    return vlm_buf_append_char(buf, '"', err);
}
