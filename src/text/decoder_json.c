#include <string.h>

#include "base/utf8.h"
#include "text/decoder.h"

void vlm_decoder_fini(vlm_decoder *decoder)
{
    for (size_t i = 0; i < decoder->n; i++) {
        vlm_regex_free(decoder->steps[i].regex);
        vlm_buf_fini(&decoder->steps[i].find);
        vlm_buf_fini(&decoder->steps[i].put);
    }
    *decoder = (vlm_decoder){0};
}

static vlm_status add_step(vlm_decoder *decoder, vlm_decode_kind kind, vlm_bytes find,
                           vlm_bytes put, vlm_decode_step **out, vlm_error *err)
{
    if (decoder->n == VLM_DECODE_STEPS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "decoder: more than %d steps",
                        VLM_DECODE_STEPS_MAX);
    vlm_decode_step *step = &decoder->steps[decoder->n++];
    *step = (vlm_decode_step){.kind = kind};
    vlm_buf_init(&step->find, SIZE_MAX / 4);
    vlm_buf_init(&step->put, SIZE_MAX / 4);
    *out = step;
    VLM_TRY(vlm_buf_append(&step->find, find.ptr, find.len, err));
    return vlm_buf_append(&step->put, put.ptr, put.len, err);
}

vlm_status vlm_decoder_add(vlm_decoder *decoder, vlm_decode_kind kind, const char *find,
                           const char *put, vlm_error *err)
{
    vlm_decode_step *step = NULL;
    VLM_TRY(add_step(decoder, kind, vlm_bytes_of(find), vlm_bytes_of(put), &step, err));
    for (size_t i = 0; i + 1 < decoder->n; i++)
        step->in_parts = step->in_parts || decoder->steps[i].kind == VLM_DECODE_FUSE ||
                         decoder->steps[i].kind == VLM_DECODE_BYTE_LEVEL;
    return VLM_OK;
}

static bool is_one_char(vlm_bytes text)
{
    uint32_t cp;
    bool is_bad = false;
    return text.len > 0 && vlm_utf8_decode(text.ptr, text.len, &cp, &is_bad) == text.len;
}

static vlm_status load_replace(vlm_decoder *decoder, const vlm_json *node, vlm_error *err)
{
    vlm_bytes find = {0}, put = {0}, pattern = {0};
    const vlm_json *what = vlm_json_get(node, "pattern");
    VLM_TRY(vlm_json_opt_string(what, "String", &find, err));
    VLM_TRY(vlm_json_opt_string(what, "Regex", &pattern, err));
    VLM_TRY(vlm_json_opt_string(node, "content", &put, err));
    if (find.ptr == NULL && pattern.ptr == NULL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "decoder: Replace without a pattern");
    vlm_decode_step *step = NULL;
    VLM_TRY(add_step(decoder, VLM_DECODE_REPLACE, find, put, &step, err));
    if (pattern.ptr == NULL) return VLM_OK;
    const vlm_status status = vlm_regex_new(pattern, &step->regex, err);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "decoder: Replace");
}

static vlm_status load_strip(vlm_decoder *decoder, const vlm_json *node, vlm_error *err)
{
    vlm_bytes content = {0};
    int64_t n_start = 0, n_end = 0;
    VLM_TRY(vlm_json_opt_string(node, "content", &content, err));
    VLM_TRY(vlm_json_opt_int(node, "start", 0, 1 << 20, &n_start, err));
    VLM_TRY(vlm_json_opt_int(node, "stop", 0, 1 << 20, &n_end, err));
    if (!is_one_char(content))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "decoder: Strip of more than one character");
    vlm_decode_step *step = NULL;
    VLM_TRY(add_step(decoder, VLM_DECODE_STRIP, content, (vlm_bytes){0}, &step, err));
    step->n_start = (size_t)n_start;
    step->n_end = (size_t)n_end;
    return VLM_OK;
}

static vlm_status load_metaspace(vlm_decoder *decoder, const vlm_json *node, vlm_error *err)
{
    vlm_bytes replacement = vlm_bytes_of("\xE2\x96\x81"), scheme = vlm_bytes_of("always");
    bool prefix = true;
    VLM_TRY(vlm_json_opt_string(node, "replacement", &replacement, err));
    VLM_TRY(vlm_json_opt_string(node, "prepend_scheme", &scheme, err));
    VLM_TRY(vlm_json_opt_bool(node, "add_prefix_space", &prefix, err));
    if (!is_one_char(replacement))
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "decoder: Metaspace with a replacement of more than one character");
    vlm_decode_step *step = NULL;
    VLM_TRY(add_step(decoder, VLM_DECODE_METASPACE, replacement, vlm_bytes_of(" "), &step, err));
    step->drops_first = prefix && !vlm_bytes_eq_str(scheme, "never");
    return VLM_OK;
}

static vlm_status load_one(vlm_decoder *decoder, const vlm_json *node, vlm_bytes type,
                           vlm_error *err)
{
    vlm_decode_step *step = NULL;
    const vlm_bytes none = {0};
    if (vlm_bytes_eq_str(type, "Replace")) return load_replace(decoder, node, err);
    if (vlm_bytes_eq_str(type, "Strip")) return load_strip(decoder, node, err);
    if (vlm_bytes_eq_str(type, "Metaspace")) return load_metaspace(decoder, node, err);
    if (vlm_bytes_eq_str(type, "ByteFallback"))
        return add_step(decoder, VLM_DECODE_BYTE_FALLBACK, none, none, &step, err);
    if (vlm_bytes_eq_str(type, "Fuse"))
        return add_step(decoder, VLM_DECODE_FUSE, none, none, &step, err);
    if (vlm_bytes_eq_str(type, "ByteLevel"))
        return add_step(decoder, VLM_DECODE_BYTE_LEVEL, none, none, &step, err);
    if (vlm_bytes_eq_str(type, "BPEDecoder")) {
        vlm_bytes suffix = vlm_bytes_of("</w>");
        VLM_TRY(vlm_json_opt_string(node, "suffix", &suffix, err));
        return add_step(decoder, VLM_DECODE_SUFFIX, suffix, none, &step, err);
    }
    return vlm_fail(err, VLM_UNIMPLEMENTED, "decoder \"%.*s\" is not supported",
                    (int)(type.len < 64 ? type.len : 64), type.ptr == NULL ? "" : type.ptr);
}

/* Behind a step that makes one token of all, tokens come in parts.  Steps that look at single
 * characters can take them as they come, the others wait for the end. */
static void find_parts(vlm_decoder *decoder)
{
    bool in_parts = false;
    for (size_t i = 0; i < decoder->n; i++) {
        vlm_decode_step *step = &decoder->steps[i];
        step->in_parts = in_parts;
        bool by_char = step->kind == VLM_DECODE_FUSE || step->kind == VLM_DECODE_STRIP ||
                       step->kind == VLM_DECODE_METASPACE;
        if (step->kind == VLM_DECODE_REPLACE)
            by_char = step->regex == NULL && is_one_char(vlm_buf_bytes(&step->find));
        step->collects = in_parts && !by_char;
        in_parts = in_parts || step->kind == VLM_DECODE_FUSE || step->kind == VLM_DECODE_BYTE_LEVEL;
    }
}

static vlm_status load_chain(vlm_decoder *decoder, const vlm_json *node, vlm_error *err)
{
    struct {
        const vlm_json *list;
        size_t next;
    } stack[8];
    size_t depth = 0;
    while (node != NULL || depth > 0) {
        if (node == NULL) {
            if (stack[depth - 1].next == vlm_json_array_len(stack[depth - 1].list)) {
                depth--;
                continue;
            }
            node = vlm_json_at(stack[depth - 1].list, stack[depth - 1].next++);
        }
        if (vlm_json_typeof(node) != VLM_JSON_OBJECT)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "decoder must be an object");
        vlm_bytes type = {0};
        VLM_TRY(vlm_json_opt_string(node, "type", &type, err));
        if (!vlm_bytes_eq_str(type, "Sequence")) {
            VLM_TRY(load_one(decoder, node, type, err));
        } else {
            const vlm_json *list = vlm_json_get(node, "decoders");
            if (vlm_json_typeof(list) != VLM_JSON_ARRAY || depth == 8)
                return vlm_fail(err, VLM_INVALID_ARGUMENT,
                                "decoder: Sequence needs an array, nested 8 deep at most");
            stack[depth].list = list;
            stack[depth++].next = 0;
        }
        node = NULL;
    }
    return VLM_OK;
}

vlm_status vlm_decoder_load(vlm_decoder *decoder, const vlm_json *node, vlm_error *err)
{
    decoder->joins_with_space = node == NULL;
    VLM_TRY(load_chain(decoder, node, err));
    find_parts(decoder);
    return VLM_OK;
}
