#include "base/utf8.h"
#include "text/pretok.h"

static const char *const gpt2_pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static vlm_status read_behavior(const vlm_json *node, vlm_split_behavior *out, vlm_error *err)
{
    static const char *const names[] = {
        [VLM_SPLIT_ISOLATED] = "Isolated",
        [VLM_SPLIT_REMOVED] = "Removed",
        [VLM_SPLIT_CONTIGUOUS] = "Contiguous",
        [VLM_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [VLM_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
    };
    vlm_bytes name = {0};
    VLM_TRY(vlm_json_opt_string(node, "behavior", &name, err));
    if (name.ptr == NULL) return VLM_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!vlm_bytes_eq_str(name, names[i])) continue;
        *out = (vlm_split_behavior)i;
        return VLM_OK;
    }
    return vlm_fail(err, VLM_UNIMPLEMENTED, "pre_tokenizer: behavior \"%.*s\" is not supported",
                    (int)(name.len < 64 ? name.len : 64), name.ptr);
}

static vlm_status add_match(vlm_pretok *pretok, vlm_match_kind match, vlm_split_behavior behavior,
                            vlm_pretok_step **step, vlm_error *err)
{
    VLM_TRY(vlm_pretok_add_step(pretok, VLM_PRETOK_SPLIT, step, err));
    (*step)->match = match;
    (*step)->behavior = behavior;
    return VLM_OK;
}

static vlm_status add_string(vlm_pretok *pretok, vlm_bytes needle, vlm_split_behavior behavior,
                             vlm_pretok_step **step, vlm_error *err)
{
    VLM_TRY(add_match(pretok, VLM_MATCH_STRING, behavior, step, err));
    return vlm_buf_append(&(*step)->put, needle.ptr, needle.len, err);
}

static vlm_status add_split(vlm_pretok *pretok, const vlm_json *node, vlm_error *err)
{
    const vlm_json *what = vlm_json_get(node, "pattern");
    vlm_bytes find = {0}, pattern = {0};
    VLM_TRY(vlm_json_opt_string(what, "String", &find, err));
    VLM_TRY(vlm_json_opt_string(what, "Regex", &pattern, err));
    if (vlm_json_typeof(what) == VLM_JSON_STRING) find = vlm_json_string(what);
    if (find.ptr == NULL && pattern.ptr == NULL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "pre_tokenizer: Split without a pattern");
    vlm_pretok_step *step = NULL;
    if (pattern.ptr != NULL) {
        VLM_TRY(vlm_pretok_add_pattern(pretok, pattern, err));
        step = &pretok->steps[pretok->n - 1];
    } else {
        VLM_TRY(add_string(pretok, find, VLM_SPLIT_ISOLATED, &step, err));
    }
    VLM_TRY(read_behavior(node, &step->behavior, err));
    return vlm_json_opt_bool(node, "invert", &step->invert, err);
}

static vlm_status add_byte_level(vlm_pretok *pretok, const vlm_json *node, vlm_error *err)
{
    bool prefix = false, use_regex = true;
    VLM_TRY(vlm_json_opt_bool(node, "add_prefix_space", &prefix, err));
    VLM_TRY(vlm_json_opt_bool(node, "use_regex", &use_regex, err));
    vlm_pretok_step *step = NULL;
    if (prefix) VLM_TRY(vlm_pretok_add_step(pretok, VLM_PRETOK_PREFIX_SPACE, &step, err));
    if (use_regex) VLM_TRY(vlm_pretok_add_pattern(pretok, vlm_bytes_of(gpt2_pattern), err));
    return vlm_pretok_add_step(pretok, VLM_PRETOK_BYTES, &step, err);
}

static vlm_status add_metaspace(vlm_pretok *pretok, const vlm_json *node, vlm_error *err)
{
    vlm_bytes replacement = vlm_bytes_of("\xE2\x96\x81"), scheme = {0};
    bool prefix = true, split = true;
    VLM_TRY(vlm_json_opt_string(node, "replacement", &replacement, err));
    VLM_TRY(vlm_json_opt_string(node, "prepend_scheme", &scheme, err));
    VLM_TRY(vlm_json_opt_bool(node, "add_prefix_space", &prefix, err));
    VLM_TRY(vlm_json_opt_bool(node, "split", &split, err));
    uint32_t cp;
    bool is_bad = false;
    if (replacement.len == 0 ||
        vlm_utf8_decode(replacement.ptr, replacement.len, &cp, &is_bad) != replacement.len)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "pre_tokenizer: Metaspace replacement must be one character");
    vlm_pretok_step *step = NULL;
    VLM_TRY(vlm_pretok_add_step(pretok, VLM_PRETOK_METASPACE, &step, err));
    VLM_TRY(vlm_buf_append(&step->put, replacement.ptr, replacement.len, err));
    if (scheme.ptr == NULL)
        step->prefix = prefix ? VLM_PREFIX_ALWAYS : VLM_PREFIX_NEVER;
    else if (vlm_bytes_eq_str(scheme, "first"))
        step->prefix = VLM_PREFIX_FIRST;
    else if (vlm_bytes_eq_str(scheme, "always"))
        step->prefix = VLM_PREFIX_ALWAYS;
    else if (vlm_bytes_eq_str(scheme, "never"))
        step->prefix = VLM_PREFIX_NEVER;
    else
        return vlm_fail(err, VLM_UNIMPLEMENTED,
                        "pre_tokenizer: Metaspace prepend_scheme \"%.*s\" is not supported",
                        (int)(scheme.len < 64 ? scheme.len : 64), scheme.ptr);
    if (!split) return VLM_OK;
    return add_string(pretok, replacement, VLM_SPLIT_MERGED_WITH_NEXT, &step, err);
}

static vlm_status add_one(vlm_pretok *pretok, const vlm_json *node, vlm_bytes type, vlm_error *err)
{
    vlm_pretok_step *step = NULL;
    if (vlm_bytes_eq_str(type, "Split")) return add_split(pretok, node, err);
    if (vlm_bytes_eq_str(type, "ByteLevel")) return add_byte_level(pretok, node, err);
    if (vlm_bytes_eq_str(type, "Metaspace")) return add_metaspace(pretok, node, err);
    if (vlm_bytes_eq_str(type, "Digits")) {
        bool single = false;
        VLM_TRY(vlm_json_opt_bool(node, "individual_digits", &single, err));
        return add_match(pretok, VLM_MATCH_NUMBER,
                         single ? VLM_SPLIT_ISOLATED : VLM_SPLIT_CONTIGUOUS, &step, err);
    }
    if (vlm_bytes_eq_str(type, "Punctuation")) {
        VLM_TRY(add_match(pretok, VLM_MATCH_PUNCTUATION, VLM_SPLIT_ISOLATED, &step, err));
        return read_behavior(node, &step->behavior, err);
    }
    if (vlm_bytes_eq_str(type, "Whitespace")) {
        VLM_TRY(add_match(pretok, VLM_MATCH_WORD_OR_OTHER, VLM_SPLIT_REMOVED, &step, err));
        step->invert = true;
        return VLM_OK;
    }
    if (vlm_bytes_eq_str(type, "WhitespaceSplit"))
        return add_match(pretok, VLM_MATCH_SPACE, VLM_SPLIT_REMOVED, &step, err);
    if (vlm_bytes_eq_str(type, "BertPreTokenizer")) {
        VLM_TRY(add_match(pretok, VLM_MATCH_SPACE, VLM_SPLIT_REMOVED, &step, err));
        return add_match(pretok, VLM_MATCH_PUNCTUATION, VLM_SPLIT_ISOLATED, &step, err);
    }
    if (vlm_bytes_eq_str(type, "CharDelimiterSplit")) {
        vlm_bytes delimiter = {0};
        VLM_TRY(vlm_json_opt_string(node, "delimiter", &delimiter, err));
        return add_string(pretok, delimiter, VLM_SPLIT_REMOVED, &step, err);
    }
    if (vlm_bytes_eq_str(type, "FixedLength")) {
        int64_t n = 5;
        VLM_TRY(vlm_json_opt_int(node, "length", 1, INT32_MAX, &n, err));
        VLM_TRY(vlm_pretok_add_step(pretok, VLM_PRETOK_FIXED_LENGTH, &step, err));
        step->n_chars = (size_t)n;
        return VLM_OK;
    }
    return vlm_fail(err, VLM_UNIMPLEMENTED, "pre_tokenizer \"%.*s\" is not supported",
                    (int)(type.len < 64 ? type.len : 64), type.ptr == NULL ? "" : type.ptr);
}

vlm_status vlm_pretok_add_json(vlm_pretok *pretok, const vlm_json *node, vlm_error *err)
{
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
        }
        if (vlm_json_typeof(node) != VLM_JSON_OBJECT)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "pre_tokenizer must be an object");
        vlm_bytes type = {0};
        VLM_TRY(vlm_json_opt_string(node, "type", &type, err));
        if (!vlm_bytes_eq_str(type, "Sequence")) {
            VLM_TRY(add_one(pretok, node, type, err));
        } else {
            const vlm_json *list = vlm_json_get(node, "pretokenizers");
            if (vlm_json_typeof(list) != VLM_JSON_ARRAY || depth == 16)
                return vlm_fail(err, VLM_INVALID_ARGUMENT,
                                "pre_tokenizer: Sequence needs an array, nested 16 deep at most");
            stack[depth].list = list;
            stack[depth++].next = 0;
        }
        node = NULL;
    }
    return VLM_OK;
}
