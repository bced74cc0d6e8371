#include "engine/prepare.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

enum { PROMPT_LEN_MAX = 64 << 20, REQUEST_JSON_LEN_MAX = 256 << 20 };

/* An absent file is an empty view; anything else wrong with it is an error. */
static vlm_status optional_bytes(vlm_folder *folder, const char *name, vlm_bytes *out,
                                 vlm_error *err)
{
    *out = (vlm_bytes){0};
    if (!vlm_folder_has(folder, name)) return VLM_OK;
    VLM_TRY(vlm_folder_bytes(folder, name, out, err));
    /* An empty file is there all the same: its reader says what is wrong with it. */
    if (out->ptr == NULL) out->ptr = "";
    return VLM_OK;
}

/* The folder's only *.tiktoken, whatever its name. */
static vlm_status tiktoken_bytes(vlm_folder *folder, vlm_bytes *out, vlm_error *err)
{
    char **names;
    size_t n;
    *out = (vlm_bytes){0};
    VLM_TRY(vlm_folder_names(folder, ".tiktoken", &names, &n, err));
    const vlm_status status = n == 1 ? optional_bytes(folder, names[0], out, err) : VLM_OK;
    vlm_folder_names_free(names, n);
    return status;
}

vlm_status vlm_prepare_load_tokenizer(vlm_folder *folder, vlm_tokenizer **out, vlm_error *err)
{
    vlm_tokenizer_files files;
    *out = NULL;
    VLM_TRY(optional_bytes(folder, "tokenizer.json", &files.tokenizer_json, err));
    VLM_TRY(optional_bytes(folder, "tokenizer.model", &files.tokenizer_model, err));
    VLM_TRY(optional_bytes(folder, "tokenizer_config.json", &files.tokenizer_config, err));
    VLM_TRY(optional_bytes(folder, "special_tokens_map.json", &files.special_tokens_map, err));
    VLM_TRY(optional_bytes(folder, "added_tokens.json", &files.added_tokens, err));
    VLM_TRY(optional_bytes(folder, "tekken.json", &files.tekken_json, err));
    VLM_TRY(tiktoken_bytes(folder, &files.tiktoken, err));
    return vlm_tokenizer_new(&files, out, err);
}

vlm_status vlm_prepare_load_chat(vlm_folder *folder, const vlm_tokenizer *tokenizer, vlm_chat **out,
                                 vlm_error *err)
{
    vlm_chat_files files;
    *out = NULL;
    VLM_TRY(optional_bytes(folder, "chat_template.jinja", &files.chat_template_jinja, err));
    VLM_TRY(optional_bytes(folder, "chat_template.json", &files.chat_template_json, err));
    VLM_TRY(optional_bytes(folder, "tokenizer_config.json", &files.tokenizer_config, err));
    return vlm_chat_new(&files, tokenizer, out, err);
}

vlm_status vlm_prepare_open(vlm_prepare *p, vlm_folder *folder, const vlm_model *model,
                            vlm_error *err)
{
    *p = (vlm_prepare){.model = model};
    vlm_status status = vlm_prepare_load_tokenizer(folder, &p->tokenizer, err);
    if (status == VLM_OK) status = vlm_prepare_load_chat(folder, p->tokenizer, &p->chat, err);
    if (status != VLM_OK) vlm_prepare_close(p);
    return status;
}

void vlm_prepare_close(vlm_prepare *p)
{
    vlm_chat_free(p->chat);
    vlm_tokenizer_free(p->tokenizer);
    *p = (vlm_prepare){0};
}

void vlm_prompt_fini(vlm_prompt *prompt)
{
    vlm_ids_fini(&prompt->ids);
    vlm_pictures_unref(prompt->pictures);
    *prompt = (vlm_prompt){0};
}

/* One message of a chat request.  Content is a string where it holds only text, as the published
 * examples and text-only templates have it, else a list of parts. */
static vlm_status append_message(vlm_buf *json, const vlm_message *m, vlm_error *err)
{
    const bool only_text = m->n_parts == 1 && !m->parts[0].is_picture;
    VLM_TRY(vlm_buf_append_str(json, "{\"role\":", err));
    VLM_TRY(vlm_json_append_string(json, m->role, err));
    VLM_TRY(vlm_buf_append_str(json, ",\"content\":", err));
    if (only_text) {
        VLM_TRY(vlm_json_append_string(json, m->parts[0].text, err));
        return vlm_buf_append_str(json, "}", err);
    }
    VLM_TRY(vlm_buf_append_str(json, "[", err));
    for (size_t i = 0; i < m->n_parts; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_str(json, ",", err));
        if (m->parts[i].is_picture) {
            VLM_TRY(vlm_buf_append_str(json, "{\"type\":\"image\"}", err));
            continue;
        }
        VLM_TRY(vlm_buf_append_str(json, "{\"type\":\"text\",\"text\":", err));
        VLM_TRY(vlm_json_append_string(json, m->parts[i].text, err));
        VLM_TRY(vlm_buf_append_str(json, "}", err));
    }
    return vlm_buf_append_str(json, "]}", err);
}

static vlm_status append_request(vlm_buf *json, const vlm_request *r, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(json, "{\"messages\":[", err));
    for (size_t i = 0; i < r->n_messages; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_str(json, ",", err));
        VLM_TRY(append_message(json, &r->messages[i], err));
    }
    return vlm_buf_append_str(json, "],\"add_generation_prompt\":true}", err);
}

static vlm_status render(const vlm_prepare *p, const vlm_request *r, vlm_buf *text,
                         vlm_spans *user_spans, vlm_error *err)
{
    static const vlm_json_limits limits = {
        .len_max = REQUEST_JSON_LEN_MAX, .depth_max = 64, .nodes_max = 1000000};
    vlm_buf json;
    vlm_json_doc *doc = NULL;
    vlm_buf_init(&json, REQUEST_JSON_LEN_MAX);
    vlm_status status = append_request(&json, r, err);
    if (status == VLM_OK) status = vlm_json_parse(json.data, json.len, &limits, &doc, err);
    if (status == VLM_OK)
        status = vlm_chat_render(p->chat, vlm_json_root(doc), text, user_spans, err);
    vlm_json_free(doc);
    vlm_buf_fini(&json);
    return status;
}

/* The request's text as ids, one placeholder per picture. */
static vlm_status tokenize(const vlm_prepare *p, const vlm_request *r, vlm_ids *ids, vlm_error *err)
{
    vlm_buf text;
    vlm_spans spans;
    vlm_buf_init(&text, PROMPT_LEN_MAX);
    vlm_spans_init(&spans);
    vlm_status status = VLM_OK;
    if (r->raw_prompt != NULL)
        status = vlm_buf_append(&text, r->raw_prompt->ptr, r->raw_prompt->len, err);
    else
        status = render(p, r, &text, &spans, err);
    if (status == VLM_OK) {
        const vlm_bytes bytes = vlm_buf_bytes(&text);
        const vlm_encode_options options = {
            .add_special = !vlm_tokenizer_text_has_bos(p->tokenizer, bytes),
            .user_spans = spans.data,
            .n_user_spans = spans.len,
        };
        status = vlm_tokenizer_encode(p->tokenizer, bytes, &options, ids, err);
    }
    vlm_spans_fini(&spans);
    vlm_buf_fini(&text);
    return status;
}

/* Replace every placeholder by as many as the image has rows. */
static vlm_status expand(const vlm_prepare *p, const vlm_ids *ids, uint32_t n_images, vlm_ids *out,
                         vlm_error *err)
{
    const vlm_config *config = vlm_model_config(p->model);
    const uint32_t n_rows = vlm_model_n_image_tokens(p->model);
    const uint32_t n_ctx = vlm_model_n_ctx(p->model);
    const uint32_t n_vocab = config->text.vocab_size;
    uint32_t n_placeholders = 0;
    for (size_t i = 0; i < ids->len; i++) {
        if (ids->data[i] >= n_vocab)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "the tokenizer gives token %u, the model's vocabulary has %u",
                            ids->data[i], n_vocab);
        n_placeholders += ids->data[i] == config->image_token_id;
    }
    if (n_placeholders != n_images)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "messages: the prompt has %u image placeholders for %u pictures",
                        n_placeholders, n_images);

    const uint64_t n = ids->len - n_placeholders + (uint64_t)n_placeholders * n_rows;
    if (n >= n_ctx)
        return vlm_fail(
            err, VLM_OUT_OF_RANGE,
            "messages: the prompt has %llu tokens, the context holds %u with the answer",
            (unsigned long long)n, n_ctx);
    if (n == 0) return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: the prompt is empty");
    out->data = vlm_calloc((size_t)n, sizeof *out->data);
    if (out->data == NULL) return vlm_fail_memory(err, "prompt");
    out->cap = (size_t)n;
    for (size_t i = 0; i < ids->len; i++) {
        const uint32_t n_copies = ids->data[i] == config->image_token_id ? n_rows : 1;
        for (uint32_t k = 0; k < n_copies; k++) out->data[out->len++] = ids->data[i];
    }
    return VLM_OK;
}

/* As many pictures as there are parts for them. */
static vlm_status check_parts(const vlm_request *r, uint32_t n_images, vlm_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_messages; i++)
        for (size_t k = 0; k < r->messages[i].n_parts; k++) n += r->messages[i].parts[k].is_picture;
    if (n > VLM_REQUEST_IMAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: %zu pictures, at most %d", n,
                        VLM_REQUEST_IMAGES_MAX);
    if (n != n_images)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: %zu picture parts for %u pictures", n,
                        n_images);
    return VLM_OK;
}

vlm_status vlm_prepare_run(const vlm_prepare *p, const vlm_request *request, vlm_prompt *out,
                           vlm_error *err)
{
    *out = (vlm_prompt){0};
    if (request->raw_prompt == NULL && request->n_messages == 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: must not be empty");
    if (request->n_messages > VLM_REQUEST_MESSAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: more than %d",
                        VLM_REQUEST_MESSAGES_MAX);
    const uint32_t n_images = vlm_pictures_n(request->pictures);
    if (request->raw_prompt == NULL) VLM_TRY(check_parts(request, n_images, err));

    vlm_ids ids = {0};
    vlm_status status = tokenize(p, request, &ids, err);
    if (status == VLM_OK) status = expand(p, &ids, n_images, &out->ids, err);
    vlm_ids_fini(&ids);
    if (status != VLM_OK) {
        vlm_prompt_fini(out);
        return status;
    }
    out->n_images = n_images;
    out->pictures = vlm_pictures_ref(request->pictures);
    return VLM_OK;
}
