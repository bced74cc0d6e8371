#include "base/json.h"

#include <math.h>
#include <string.h>

#include "base/json_node.h"
#include "base/utf8.h"

const vlm_json *vlm_json_root(const vlm_json_doc *doc)
{
    return doc->root.type == VLM_JSON_NULL ? NULL : &doc->root;
}

vlm_json_type vlm_json_typeof(const vlm_json *node)
{
    return node == NULL ? VLM_JSON_NULL : (vlm_json_type)node->type;
}

const char *vlm_json_type_name(const vlm_json *node)
{
    static const char *const names[] = {"null",     "a boolean", "an integer", "a number",
                                        "a string", "an array",  "an object"};
    return names[vlm_json_typeof(node)];
}

bool vlm_json_bool(const vlm_json *node)
{
    return node->as.boolean;
}

int64_t vlm_json_int(const vlm_json *node)
{
    if (node->int_fits) return node->as.integer;
    return node->as.real < 0 ? INT64_MIN : INT64_MAX;
}

bool vlm_json_int_fits(const vlm_json *node)
{
    return node->int_fits;
}

double vlm_json_double(const vlm_json *node)
{
    return node->type == VLM_JSON_INT && node->int_fits ? (double)node->as.integer : node->as.real;
}

vlm_bytes vlm_json_string(const vlm_json *node)
{
    return (vlm_bytes){.ptr = node->as.string, .len = node->len};
}

/* The API's null is NULL. */
static const vlm_json *value_of(const vlm_json *node)
{
    return node->type == VLM_JSON_NULL ? NULL : node;
}

size_t vlm_json_array_len(const vlm_json *node)
{
    return vlm_json_typeof(node) == VLM_JSON_ARRAY ? node->len : 0;
}

const vlm_json *vlm_json_at(const vlm_json *node, size_t idx)
{
    return idx < vlm_json_array_len(node) ? value_of(&node->as.items[idx]) : NULL;
}

size_t vlm_json_object_len(const vlm_json *node)
{
    return vlm_json_typeof(node) == VLM_JSON_OBJECT ? node->len : 0;
}

int vlm_json_compare_keys(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len != b_len) return a_len < b_len ? -1 : 1;
    return a_len == 0 ? 0 : memcmp(a, b, a_len);
}

/* The key's node; its value follows it. */
static const vlm_json *find_member(const vlm_json *object, const char *key)
{
    const size_t n = vlm_json_object_len(object);
    const size_t len = strlen(key);
    if (n == 0) return NULL;
    const vlm_json_members *members = object->as.members;
    if (members->sorted == NULL) {
        for (const vlm_json *k = members->pairs; !k->is_end; k += 2)
            if (vlm_json_compare_keys(k->as.string, k->len, key, len) == 0) return k;
        return NULL;
    }
    size_t begin = 0, end = n;
    while (begin < end) {
        const size_t mid = begin + (end - begin) / 2;
        const vlm_json *k = members->sorted[mid];
        const int order = vlm_json_compare_keys(k->as.string, k->len, key, len);
        if (order == 0) return k;
        if (order < 0)
            begin = mid + 1;
        else
            end = mid;
    }
    return NULL;
}

const vlm_json *vlm_json_get(const vlm_json *node, const char *key)
{
    const vlm_json *member = find_member(node, key);
    return member == NULL ? NULL : value_of(member + 1);
}

bool vlm_json_has(const vlm_json *node, const char *key)
{
    return find_member(node, key) != NULL;
}

vlm_json_iter vlm_json_iter_begin(const vlm_json *object)
{
    vlm_json_iter it = {0};
    if (vlm_json_object_len(object) > 0) it.next_ = object->as.members->pairs;
    return it;
}

bool vlm_json_iter_next(vlm_json_iter *it)
{
    const vlm_json *key = it->next_;
    if (key == NULL || key->is_end) return false;
    it->key = key->as.string;
    it->value = value_of(key + 1);
    it->next_ = key + 2;
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
    /* An empty text may be NULL. */
    if (start < text.len) VLM_TRY(vlm_buf_append(buf, text.ptr + start, text.len - start, err));
    return vlm_buf_append_char(buf, '"', err);
}
