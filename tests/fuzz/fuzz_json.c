/* fuzz_json.c - hostile text to vlm_json_parse.  What it accepts is written back as text; parsing
 * and writing that again must give the same bytes, and every look-up must find its member. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "fuzz/fuzz.h"

static void write_value(vlm_buf *out, const vlm_json *node, unsigned depth);

static void write_container(vlm_buf *out, const vlm_json *node, unsigned depth)
{
    const bool is_object = vlm_json_typeof(node) == VLM_JSON_OBJECT;
    FUZZ_CHECK(depth < 64);
    FUZZ_CHECK(vlm_buf_append_char(out, is_object ? '{' : '[', NULL) == VLM_OK);
    size_t n = 0;
    if (is_object) {
        for (vlm_json_iter it = vlm_json_iter_begin(node); vlm_json_iter_next(&it); n++) {
            FUZZ_CHECK(vlm_json_has(node, it.key));
            FUZZ_CHECK(vlm_json_get(node, it.key) == it.value);
            if (n > 0) FUZZ_CHECK(vlm_buf_append_char(out, ',', NULL) == VLM_OK);
            FUZZ_CHECK(vlm_json_append_string(out, vlm_bytes_of(it.key), NULL) == VLM_OK);
            FUZZ_CHECK(vlm_buf_append_char(out, ':', NULL) == VLM_OK);
            write_value(out, it.value, depth + 1);
        }
        FUZZ_CHECK(n == vlm_json_object_len(node));
    } else {
        for (; n < vlm_json_array_len(node); n++) {
            if (n > 0) FUZZ_CHECK(vlm_buf_append_char(out, ',', NULL) == VLM_OK);
            write_value(out, vlm_json_at(node, n), depth + 1);
        }
    }
    FUZZ_CHECK(vlm_buf_append_char(out, is_object ? '}' : ']', NULL) == VLM_OK);
}

static void write_value(vlm_buf *out, const vlm_json *node, unsigned depth)
{
    vlm_status status = VLM_OK;
    switch (vlm_json_typeof(node)) {
    case VLM_JSON_NULL: status = vlm_buf_append_str(out, "null", NULL); break;
    case VLM_JSON_BOOL:
        status = vlm_buf_append_str(out, vlm_json_bool(node) ? "true" : "false", NULL);
        break;
    case VLM_JSON_INT:
        status = vlm_buf_printf(out, NULL, "%lld", (long long)vlm_json_int(node));
        break;
    case VLM_JSON_DOUBLE: {
        const double value = vlm_json_double(node);
        FUZZ_CHECK(!isnan(value));
        status = vlm_buf_printf(out, NULL, isinf(value) ? "%s1e999" : "%s%.17e",
                                isinf(value) && value < 0 ? "-" : "", value);
        break;
    }
    case VLM_JSON_STRING: {
        const vlm_bytes text = vlm_json_string(node);
        FUZZ_CHECK(vlm_utf8_valid(text.ptr, text.len) && text.ptr[text.len] == '\0');
        status = vlm_json_append_string(out, text, NULL);
        break;
    }
    case VLM_JSON_ARRAY:
    case VLM_JSON_OBJECT: write_container(out, node, depth); break;
    }
    FUZZ_CHECK(status == VLM_OK);
}

/* The text of what was parsed; false when it was refused. */
static bool rewrite(const char *text, size_t len, vlm_buf *out)
{
    vlm_json_doc *doc;
    vlm_error err;
    const vlm_status status = vlm_json_parse(text, len, &vlm_json_limits_default, &doc, &err);
    vlm_buf_init(out, (size_t)1 << 26);
    if (status != VLM_OK) {
        FUZZ_CHECK(doc == NULL && err.code == status && err.pos <= len);
        FUZZ_CHECK(strncmp(err.msg, "JSON: ", 6) == 0);
        return false;
    }
    write_value(out, vlm_json_root(doc), 0);
    vlm_json_free(doc);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    vlm_buf once, twice;
    if (rewrite((const char *)data, len, &once)) {
        FUZZ_CHECK(rewrite(once.data, once.len, &twice));
        FUZZ_CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
        vlm_buf_fini(&twice);
    }
    vlm_buf_fini(&once);
    return 0;
}
