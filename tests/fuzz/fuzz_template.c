/* fuzz_template.c - a template's source, a NUL byte, and the JSON of its variables. */
#include <string.h>

#include "base/utf8.h"
#include "fuzz/fuzz.h"
#include "text/template.h"

/* Small limits, so that a run is short. */
static const vlm_template_limits limits = {
    .source_max = 1 << 16,
    .nesting_max = 100,
    .steps_max = 20000,
    .string_max = 1 << 14,
    .output_max = 1 << 15,
    .memory_max = 4 << 20,
    .call_depth_max = 50,
    .range_max = 1000,
};

static void check(const vlm_buf *out, const vlm_spans *spans)
{
    size_t at = 0;
    FUZZ_CHECK(vlm_utf8_valid(out->data, out->len));
    for (size_t i = 0; i < spans->len; i++) {
        FUZZ_CHECK(spans->data[i].begin >= at);
        FUZZ_CHECK(spans->data[i].end > spans->data[i].begin);
        at = spans->data[i].end;
    }
    FUZZ_CHECK(at <= out->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *nul = len == 0 ? NULL : memchr(data, 0, len);
    const size_t source_len = nul == NULL ? len : (size_t)(nul - data);
    const char *json = nul == NULL ? "{}" : (const char *)nul + 1;
    const size_t json_len = nul == NULL ? 2 : len - source_len - 1;
    vlm_template *t;
    vlm_json_doc *doc = NULL;
    vlm_error err = {0};
    const vlm_bytes source = {.ptr = (const char *)data, .len = source_len};
    if (vlm_template_new(source, &limits, &t, &err) != VLM_OK) {
        FUZZ_CHECK(err.msg[0] != '\0');
        return 0;
    }
    if (vlm_json_parse(json, json_len, &vlm_json_limits_default, &doc, &err) == VLM_OK) {
        vlm_template_var vars[16];
        size_t n = 0;
        for (vlm_json_iter it = vlm_json_iter_begin(vlm_json_root(doc));
             n < 16 && vlm_json_iter_next(&it);)
            vars[n++] = (vlm_template_var){.name = it.key,
                                           .value = it.value,
                                           .user = true,
                                           .messages = strcmp(it.key, "messages") == 0};
        vlm_buf out;
        vlm_spans spans;
        vlm_buf_init(&out, 1 << 18);
        vlm_spans_init(&spans);
        if (vlm_template_render(t, vars, n, &out, &spans, &err) == VLM_OK)
            check(&out, &spans);
        else
            FUZZ_CHECK(err.msg[0] != '\0' && out.len == 0);
        vlm_spans_fini(&spans);
        vlm_buf_fini(&out);
        vlm_json_free(doc);
    }
    vlm_template_free(t);
    return 0;
}
