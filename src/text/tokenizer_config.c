#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_parts.h"

/* A token's string: itself, or the "content" of an object. */
static vlm_bytes token_string(const vlm_json *node)
{
    if (vlm_json_typeof(node) == VLM_JSON_OBJECT) node = vlm_json_get(node, "content");
    return vlm_json_typeof(node) == VLM_JSON_STRING ? vlm_json_string(node) : (vlm_bytes){0};
}

static vlm_status add_named(vlm_tokenizer *tok, const char *name, vlm_bytes text, vlm_error *err)
{
    if (text.len == 0 || vlm_tokenizer_special(tok, name).len > 0) return VLM_OK;
    char *name_copy = vlm_arena_strndup(&tok->arena, name, strlen(name));
    char *text_copy = vlm_arena_strndup(&tok->arena, text.ptr, text.len);
    if (name_copy == NULL || text_copy == NULL ||
        !vlm_grow((void **)&tok->named, &tok->cap_named, tok->n_named + 1, 1024,
                  sizeof *tok->named))
        return vlm_fail_memory(err, "special tokens");
    tok->named[tok->n_named++] = (vlm_named_token){vlm_bytes_of(name_copy), {text_copy, text.len}};
    return VLM_OK;
}

static vlm_status add_name_of_id(vlm_tokenizer *tok, const char *name, uint32_t id, vlm_error *err)
{
    return add_named(tok, name, vlm_vocab_token(&tok->vocab, id), err);
}

/* Every member "..._token" whose value is a token. */
static vlm_status read_names(vlm_tokenizer *tok, const vlm_json *root, vlm_error *err)
{
    for (vlm_json_iter it = vlm_json_iter_begin(root); vlm_json_iter_next(&it);) {
        const size_t len = strlen(it.key);
        if (len > 6 && strcmp(it.key + len - 6, "_token") == 0)
            VLM_TRY(add_named(tok, it.key, token_string(it.value), err));
    }
    return VLM_OK;
}

typedef struct config_token {
    uint32_t id;
    vlm_bytes text;
    vlm_added_token token;
} config_token;

static int compare_ids(const void *a, const void *b)
{
    const uint32_t x = ((const config_token *)a)->id, y = ((const config_token *)b)->id;
    return x < y ? -1 : x > y;
}

static bool parse_id(const char *text, uint32_t *id)
{
    uint32_t value = 0;
    const size_t len = strlen(text);
    if (len == 0 || len > 9) return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    *id = value;
    return value <= VLM_TOKEN_ID_MAX;
}

static vlm_status read_config_token(const char *key, const vlm_json *node, config_token *out,
                                    vlm_error *err)
{
    *out = (config_token){0};
    if (!parse_id(key, &out->id))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the id must be an integer from 0 to %d",
                        VLM_TOKEN_ID_MAX);
    out->text = token_string(node);
    VLM_TRY(vlm_json_opt_bool(node, "special", &out->token.special, err));
    VLM_TRY(vlm_json_opt_bool(node, "lstrip", &out->token.lstrip, err));
    VLM_TRY(vlm_json_opt_bool(node, "rstrip", &out->token.rstrip, err));
    VLM_TRY(vlm_json_opt_bool(node, "single_word", &out->token.single_word, err));
    return vlm_json_opt_bool(node, "normalized", &out->token.normalized, err);
}

/* added_tokens_decoder: {"32000": {"content": "<image>", ...}}, in the order of the ids. */
static vlm_status read_added_decoder(vlm_tokenizer *tok, const vlm_json *map, vlm_error *err)
{
    const size_t n = vlm_json_object_len(map);
    if (n == 0) return VLM_OK;
    config_token *list = vlm_calloc(n, sizeof *list);
    if (list == NULL) return vlm_fail_memory(err, "added tokens");
    vlm_status status = VLM_OK;
    size_t k = 0;
    for (vlm_json_iter it = vlm_json_iter_begin(map); vlm_json_iter_next(&it) && k < n; k++) {
        status = read_config_token(it.key, it.value, &list[k], err);
        if (status == VLM_OK) continue;
        (void)vlm_fail_prefix(err, status, "added_tokens_decoder[\"%.32s\"]", it.key);
        break;
    }
    if (status == VLM_OK) qsort(list, n, sizeof *list, compare_ids);
    for (size_t i = 0; i < n && status == VLM_OK; i++)
        if (list[i].text.len > 0)
            status = vlm_tokenizer_add_token(tok, list[i].text, &list[i].token, list[i].id, err);
    free(list);
    return status;
}

/* added_tokens.json: {"<image>": 32000}. */
static vlm_status read_added_map(vlm_tokenizer *tok, const vlm_json *map, vlm_error *err)
{
    const size_t n = vlm_json_object_len(map);
    if (n == 0) return VLM_OK;
    config_token *list = vlm_calloc(n, sizeof *list);
    if (list == NULL) return vlm_fail_memory(err, "added tokens");
    vlm_status status = VLM_OK;
    size_t k = 0;
    for (vlm_json_iter it = vlm_json_iter_begin(map); vlm_json_iter_next(&it) && k < n; k++) {
        list[k].text = vlm_bytes_of(it.key);
        status = vlm_json_opt_u32(map, it.key, 0, VLM_TOKEN_ID_MAX, &list[k].id, err);
        if (status != VLM_OK) break;
    }
    if (status == VLM_OK) qsort(list, n, sizeof *list, compare_ids);
    for (size_t i = 0; i < n && status == VLM_OK; i++)
        if (list[i].text.len > 0)
            status = vlm_tokenizer_add_token(tok, list[i].text, &list[i].token, list[i].id, err);
    free(list);
    return status;
}

/* Classes of Transformers that build their own template from add_bos_token and add_eos_token. */
static bool class_overrides_template(const vlm_json *config)
{
    static const char *const prefixes[] = {"Llama", "CodeLlama", "Gemma"};
    vlm_bytes name = {0};
    if (vlm_json_opt_string(config, "tokenizer_class", &name, NULL) != VLM_OK) return false;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (vlm_bytes_starts(name, vlm_bytes_of(prefixes[i]))) return true;
    return false;
}

static vlm_status set_special(vlm_tokenizer *tok, vlm_ids *ids, const char *name, bool add,
                              vlm_error *err)
{
    const vlm_bytes text = vlm_tokenizer_special(tok, name);
    const uint32_t id = text.len == 0 ? VLM_VOCAB_NONE : vlm_tokenizer_id(tok, text);
    ids->len = 0;
    return add && id != VLM_VOCAB_NONE ? vlm_ids_append(ids, id, err) : VLM_OK;
}

static vlm_status read_bos_eos(vlm_tokenizer *tok, const vlm_json *config, vlm_error *err)
{
    const bool from_json = tok->source == VLM_TOKENIZER_JSON;
    if (from_json && !class_overrides_template(config)) return VLM_OK;
    bool bos = true, eos = false;
    VLM_TRY(vlm_json_opt_bool(config, "add_bos_token", &bos, err));
    VLM_TRY(vlm_json_opt_bool(config, "add_eos_token", &eos, err));
    /* Other files hold no template; Transformers' default there is a BOS and no EOS. */
    if (!from_json || vlm_json_get(config, "add_bos_token") != NULL)
        VLM_TRY(set_special(tok, &tok->prefix, "bos_token", bos, err));
    if (!from_json || vlm_json_get(config, "add_eos_token") != NULL)
        VLM_TRY(set_special(tok, &tok->suffix, "eos_token", eos, err));
    return VLM_OK;
}

static vlm_status read_config_names(vlm_tokenizer *tok, const vlm_json *root, vlm_error *err)
{
    VLM_TRY(read_names(tok, root, err));
    VLM_TRY(read_names(tok, vlm_json_get(root, "extra_special_tokens"), err));
    return read_names(tok, vlm_json_get(root, "model_specific_special_tokens"), err);
}

static vlm_status read_config_tokens(vlm_tokenizer *tok, const vlm_json *root, vlm_error *err)
{
    VLM_TRY(read_added_decoder(tok, vlm_json_get(root, "added_tokens_decoder"), err));
    return read_bos_eos(tok, root, err);
}

static vlm_status with_file(vlm_tokenizer *tok, vlm_bytes text, const char *name,
                            vlm_status read(vlm_tokenizer *, const vlm_json *, vlm_error *),
                            vlm_error *err)
{
    if (text.ptr == NULL) return VLM_OK;
    vlm_json_doc *doc;
    vlm_status status = vlm_json_parse(text.ptr, text.len, &vlm_json_limits_default, &doc, err);
    if (status == VLM_OK) {
        if (vlm_json_typeof(vlm_json_root(doc)) == VLM_JSON_OBJECT)
            status = read(tok, vlm_json_root(doc), err);
        else
            status = vlm_fail(err, VLM_INVALID_ARGUMENT, "not a JSON object");
        vlm_json_free(doc);
    }
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "%s", name);
}

vlm_status vlm_tokenizer_load_config(vlm_tokenizer *tok, const vlm_tokenizer_files *files,
                                     vlm_error *err)
{
    VLM_TRY(with_file(tok, files->added_tokens, "added_tokens.json", read_added_map, err));
    const vlm_bytes config = files->tokenizer_config;
    VLM_TRY(with_file(tok, config, "tokenizer_config.json", read_config_names, err));
    VLM_TRY(with_file(tok, files->special_tokens_map, "special_tokens_map.json", read_names, err));
    VLM_TRY(add_name_of_id(tok, "bos_token", tok->bos_id, err));
    VLM_TRY(add_name_of_id(tok, "eos_token", tok->eos_id, err));
    VLM_TRY(add_name_of_id(tok, "unk_token", tok->unk_id, err));
    return with_file(tok, config, "tokenizer_config.json", read_config_tokens, err);
}
