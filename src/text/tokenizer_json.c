#include "text/tokenizer_parts.h"

/* Post-processor: what is put before and behind a text. */

/* Put ids before those that are there. */
static vlm_status prepend(vlm_ids *ids, const vlm_ids *more, vlm_error *err)
{
    vlm_ids both = {0};
    vlm_status status = VLM_OK;
    for (size_t i = 0; i < more->len && status == VLM_OK; i++)
        status = vlm_ids_append(&both, more->data[i], err);
    for (size_t i = 0; i < ids->len && status == VLM_OK; i++)
        status = vlm_ids_append(&both, ids->data[i], err);
    if (status != VLM_OK) {
        vlm_ids_fini(&both);
        return status;
    }
    vlm_ids_fini(ids);
    *ids = both;
    return VLM_OK;
}

static vlm_status read_id(const vlm_json *node, const char *what, uint32_t *id, vlm_error *err)
{
    if (vlm_json_typeof(node) != VLM_JSON_INT || !vlm_json_int_fits(node) ||
        vlm_json_int(node) < 0 || vlm_json_int(node) > VLM_TOKEN_ID_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: an id must be an integer from 0 to %d",
                        what, VLM_TOKEN_ID_MAX);
    *id = (uint32_t)vlm_json_int(node);
    return VLM_OK;
}

/* The ids of one SpecialToken of a template. */
static vlm_status template_ids(const vlm_json *processor, const vlm_json *special, vlm_ids *out,
                               vlm_error *err)
{
    vlm_bytes name = {0};
    VLM_TRY(vlm_json_opt_string(special, "id", &name, err));
    const vlm_json *tokens = vlm_json_get(processor, "special_tokens");
    const vlm_json *ids = NULL;
    for (vlm_json_iter it = vlm_json_iter_begin(tokens); vlm_json_iter_next(&it);)
        if (vlm_bytes_eq_str(name, it.key)) ids = vlm_json_get(it.value, "ids");
    if (vlm_json_typeof(ids) != VLM_JSON_ARRAY)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "post_processor: special_tokens lacks ids for \"%.*s\"",
                        vlm_tokenizer_shown_len(name), name.ptr == NULL ? "" : name.ptr);
    for (size_t i = 0; i < vlm_json_array_len(ids); i++) {
        uint32_t id = 0;
        VLM_TRY(read_id(vlm_json_at(ids, i), "post_processor", &id, err));
        VLM_TRY(vlm_ids_append(out, id, err));
    }
    return VLM_OK;
}

/* Both lists of what one processor puts around a text. */
typedef struct around {
    vlm_ids before, behind;
} around;

static vlm_status read_template(const vlm_json *node, around *ids, vlm_error *err)
{
    const vlm_json *single = vlm_json_get(node, "single");
    if (vlm_json_typeof(single) != VLM_JSON_ARRAY)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "post_processor: single must be an array");
    bool seen = false;
    for (size_t i = 0; i < vlm_json_array_len(single); i++) {
        const vlm_json *piece = vlm_json_at(single, i);
        const vlm_json *special = vlm_json_get(piece, "SpecialToken");
        const vlm_json *sequence = vlm_json_get(piece, "Sequence");
        vlm_bytes name = {0};
        VLM_TRY(vlm_json_opt_string(sequence, "id", &name, err));
        if (special != NULL) {
            VLM_TRY(template_ids(node, special, seen ? &ids->behind : &ids->before, err));
        } else if (vlm_bytes_eq_str(name, "A") && !seen) {
            seen = true;
        } else {
            return vlm_fail(err, VLM_UNIMPLEMENTED, "post_processor: single[%zu] is not supported",
                            i);
        }
    }
    if (!seen)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "post_processor: a template without the text");
    return VLM_OK;
}

/* ["</s>", 2] */
static vlm_status read_pair(const vlm_json *node, const char *key, vlm_ids *out, vlm_error *err)
{
    const vlm_json *pair = vlm_json_get(node, key);
    uint32_t id = 0;
    if (vlm_json_typeof(pair) != VLM_JSON_ARRAY || vlm_json_array_len(pair) != 2)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "post_processor: %s must be [token, id]", key);
    VLM_TRY(read_id(vlm_json_at(pair, 1), "post_processor", &id, err));
    return vlm_ids_append(out, id, err);
}

static vlm_status read_processor(vlm_tokenizer *tok, const vlm_json *node, vlm_bytes type,
                                 vlm_error *err)
{
    if (vlm_bytes_eq_str(type, "ByteLevel")) return VLM_OK;
    around ids = {0};
    vlm_status status;
    if (vlm_bytes_eq_str(type, "TemplateProcessing")) {
        status = read_template(node, &ids, err);
    } else if (vlm_bytes_eq_str(type, "RobertaProcessing") ||
               vlm_bytes_eq_str(type, "BertProcessing")) {
        status = read_pair(node, "cls", &ids.before, err);
        if (status == VLM_OK) status = read_pair(node, "sep", &ids.behind, err);
    } else {
        status = vlm_fail(err, VLM_UNIMPLEMENTED, "post_processor \"%.*s\" is not supported",
                          vlm_tokenizer_shown_len(type), type.ptr == NULL ? "" : type.ptr);
    }
    if (status == VLM_OK) status = prepend(&tok->prefix, &ids.before, err);
    for (size_t i = 0; i < ids.behind.len && status == VLM_OK; i++)
        status = vlm_ids_append(&tok->suffix, ids.behind.data[i], err);
    vlm_ids_fini(&ids.before);
    vlm_ids_fini(&ids.behind);
    return status;
}

static vlm_status load_processor(vlm_tokenizer *tok, const vlm_json *node, vlm_error *err)
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
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "post_processor must be an object");
        vlm_bytes type = {0};
        VLM_TRY(vlm_json_opt_string(node, "type", &type, err));
        if (!vlm_bytes_eq_str(type, "Sequence")) {
            VLM_TRY(read_processor(tok, node, type, err));
        } else {
            const vlm_json *list = vlm_json_get(node, "processors");
            if (vlm_json_typeof(list) != VLM_JSON_ARRAY || depth == 8)
                return vlm_fail(err, VLM_INVALID_ARGUMENT,
                                "post_processor: Sequence needs an array, nested 8 deep at most");
            stack[depth].list = list;
            stack[depth++].next = 0;
        }
        node = NULL;
    }
    return VLM_OK;
}

static vlm_status load_added(vlm_tokenizer *tok, const vlm_json *list, vlm_error *err)
{
    for (size_t i = 0; i < vlm_json_array_len(list); i++) {
        const vlm_json *node = vlm_json_at(list, i);
        vlm_bytes content = {0};
        vlm_added_token token = {0};
        uint32_t id = 0;
        vlm_status status = vlm_json_opt_string(node, "content", &content, err);
        if (status == VLM_OK) status = vlm_json_opt_bool(node, "special", &token.special, err);
        if (status == VLM_OK) status = vlm_json_opt_bool(node, "lstrip", &token.lstrip, err);
        if (status == VLM_OK) status = vlm_json_opt_bool(node, "rstrip", &token.rstrip, err);
        if (status == VLM_OK)
            status = vlm_json_opt_bool(node, "single_word", &token.single_word, err);
        token.normalized = !token.special;
        if (status == VLM_OK)
            status = vlm_json_opt_bool(node, "normalized", &token.normalized, err);
        if (status == VLM_OK) status = vlm_json_opt_u32(node, "id", 0, VLM_TOKEN_ID_MAX, &id, err);
        if (status == VLM_OK && content.len > 0)
            status = vlm_tokenizer_add_token(tok, content, &token, id, err);
        if (status != VLM_OK) return vlm_fail_prefix(err, status, "added_tokens[%zu]", i);
    }
    return VLM_OK;
}

static vlm_status load_root(vlm_tokenizer *tok, const vlm_json *root, vlm_error *err)
{
    if (vlm_json_typeof(root) != VLM_JSON_OBJECT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "not a JSON object");
    VLM_TRY(vlm_tokenizer_load_model(tok, vlm_json_get(root, "model"), err));
    VLM_TRY(vlm_normalizer_add_json(&tok->norm, vlm_json_get(root, "normalizer"), err));
    VLM_TRY(vlm_pretok_add_json(&tok->pretok, vlm_json_get(root, "pre_tokenizer"), err));
    VLM_TRY(vlm_decoder_load(&tok->decoder, vlm_json_get(root, "decoder"), err));
    VLM_TRY(load_processor(tok, vlm_json_get(root, "post_processor"), err));
    const vlm_json *added = vlm_json_get(root, "added_tokens");
    if (added != NULL && vlm_json_typeof(added) != VLM_JSON_ARRAY)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "added_tokens must be an array");
    return load_added(tok, added, err);
}

vlm_status vlm_tokenizer_load_json(vlm_tokenizer *tok, vlm_bytes text, vlm_error *err)
{
    vlm_json_doc *doc;
    vlm_status status = vlm_json_parse(text.ptr, text.len, &vlm_json_limits_large, &doc, err);
    if (status == VLM_OK) {
        status = load_root(tok, vlm_json_root(doc), err);
        vlm_json_free(doc);
    }
    for (size_t i = 0; i < tok->pretok.n; i++)
        tok->byte_level = tok->byte_level || tok->pretok.steps[i].kind == VLM_PRETOK_BYTES;
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "tokenizer.json");
}
