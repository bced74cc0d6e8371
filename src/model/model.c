#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/family.h"
#include "model/piece.h"
#include "model/safetensors.h"

struct vlm_model {
    vlm_backend *backend;
    vlm_config config;
    vlm_preproc preproc;
    vlm_safetensors *files;
    vlm_weights *weights;
    const vlm_family *family;
    vlm_vision *vision;
    vlm_llama llama;
    vlm_llama_scratch scratch;
    uint32_t n_ctx, n_rows_max, n_image_tokens;
    double piece_flop;
};

static const vlm_family *const families[] = {&vlm_family_llava};

static vlm_status find_family(const char *model_type, const vlm_family **out, vlm_error *err)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(families[i]->model_type, model_type) != 0) continue;
        *out = families[i];
        return VLM_OK;
    }
    return vlm_fail(err, VLM_UNIMPLEMENTED, "config.json: model_type %s is not supported",
                    model_type);
}

/* Transformers 5 keeps it as image_processor in processor_config.json, which wins; before that it
 * is a file of its own.  NULL when the folder has neither. */
static vlm_status find_preproc(vlm_folder *folder, const vlm_json **out, const char **file,
                               vlm_error *err)
{
    *out = NULL;
    *file = "processor_config.json";
    if (vlm_folder_has(folder, *file)) {
        const vlm_json *processor;
        VLM_TRY(vlm_folder_json(folder, *file, &processor, err));
        *out = vlm_json_get(processor, "image_processor");
        if (*out != NULL) return VLM_OK;
    }
    *file = "preprocessor_config.json";
    return vlm_folder_has(folder, *file) ? vlm_folder_json(folder, *file, out, err) : VLM_OK;
}

static vlm_status read_configs(vlm_model *m, vlm_folder *folder, vlm_error *err)
{
    const vlm_json *config = NULL, *generation = NULL, *preproc = NULL;
    VLM_TRY(vlm_folder_json(folder, "config.json", &config, err));
    if (vlm_folder_has(folder, "generation_config.json"))
        VLM_TRY(vlm_folder_json(folder, "generation_config.json", &generation, err));
    VLM_TRY(vlm_config_parse(config, generation, &m->config, err));

    const char *preproc_file;
    VLM_TRY(find_preproc(folder, &preproc, &preproc_file, err));
    const uint32_t side = m->config.vision.image_size;
    const vlm_status status = vlm_preproc_parse(preproc, side, &m->preproc, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "%s", preproc_file);
    if (m->preproc.out_width != side || m->preproc.out_height != side)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "%s: makes pictures of %ux%u, but config.json's "
                        "vision_config.image_size is %u",
                        preproc_file, m->preproc.out_width, m->preproc.out_height, side);
    return VLM_OK;
}

static vlm_status choose_sizes(vlm_model *m, const vlm_model_options *options, vlm_error *err)
{
    const uint32_t max = m->config.text.max_positions;
    m->piece_flop = options->piece_flop > 0.0 ? options->piece_flop : VLM_PIECE_FLOP;
    m->n_ctx = options->n_ctx;
    if (m->n_ctx == 0) m->n_ctx = max < VLM_CTX_DEFAULT_MAX ? max : VLM_CTX_DEFAULT_MAX;
    if (m->n_ctx > max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "ctx %u is more than the model's max_position_embeddings %u", m->n_ctx,
                        max);
    return VLM_OK;
}

static vlm_status bind(vlm_model *m, vlm_folder *folder, const vlm_model_options *options,
                       vlm_error *err)
{
    VLM_TRY(vlm_safetensors_open_folder(folder, &m->files, err));
    VLM_TRY(vlm_weights_new(m->files, m->backend, options->dtype, &m->weights, err));
    VLM_TRY(m->family->open(&m->config, m->weights, m->backend, m->piece_flop, &m->vision, err));
    m->n_image_tokens = m->family->n_image_tokens(m->vision);
    VLM_TRY(vlm_llama_bind(&m->llama, &m->config, m->n_ctx, m->weights, err));
    m->n_rows_max = options->n_rows_max;
    if (m->n_rows_max == 0) m->n_rows_max = vlm_llama_piece_rows(&m->llama, m->piece_flop, 0);
    if (m->n_rows_max > m->n_ctx) m->n_rows_max = m->n_ctx;
    return vlm_llama_scratch_init(&m->scratch, &m->llama, m->n_rows_max, m->backend, err);
}

vlm_status vlm_model_open(vlm_folder *folder, vlm_backend *backend,
                          const vlm_model_options *options, vlm_model **out, vlm_error *err)
{
    *out = NULL;
    vlm_model *m = calloc(1, sizeof *m);
    if (m == NULL) return vlm_fail_memory(err, "model");
    m->backend = backend;
    vlm_status status = read_configs(m, folder, err);
    if (status == VLM_OK) status = find_family(m->config.model_type, &m->family, err);
    if (status == VLM_OK) status = choose_sizes(m, options, err);
    if (status == VLM_OK) status = bind(m, folder, options, err);
    if (status != VLM_OK) {
        vlm_model_close(m);
        return status;
    }
    *out = m;
    return VLM_OK;
}

void vlm_model_close(vlm_model *m)
{
    if (m == NULL) return;
    vlm_llama_scratch_fini(&m->scratch, m->backend);
    vlm_llama_fini(&m->llama);
    if (m->family != NULL) m->family->close(m->vision);
    vlm_weights_free(m->weights);
    vlm_safetensors_close(m->files);
    free(m);
}

const vlm_config *vlm_model_config(const vlm_model *m)
{
    return &m->config;
}

const vlm_preproc *vlm_model_preproc(const vlm_model *m)
{
    return &m->preproc;
}

uint32_t vlm_model_n_ctx(const vlm_model *m)
{
    return m->n_ctx;
}

uint32_t vlm_model_n_rows_max(const vlm_model *m)
{
    return m->n_rows_max;
}

uint32_t vlm_model_n_rows(const vlm_model *m, uint32_t n_past)
{
    const uint32_t n = vlm_llama_piece_rows(&m->llama, m->piece_flop, n_past);
    return n < m->n_rows_max ? n : m->n_rows_max;
}

uint32_t vlm_model_n_image_tokens(const vlm_model *m)
{
    return m->n_image_tokens;
}

void vlm_model_hidden_shape(const vlm_model *m, uint32_t *n_tokens, uint32_t *width)
{
    m->family->hidden_shape(m->vision, n_tokens, width);
}

size_t vlm_model_n_pixels(const vlm_model *m)
{
    return (size_t)3 * m->config.vision.image_size * m->config.vision.image_size;
}

size_t vlm_model_weight_bytes(const vlm_model *m)
{
    return vlm_weights_mapped_bytes(m->weights) + vlm_weights_converted_bytes(m->weights);
}

vlm_status vlm_model_preprocess(const vlm_model *m, const vlm_image *image, float *pixels,
                                vlm_error *err)
{
    return vlm_preproc_run(&m->preproc, image, pixels, err);
}

void vlm_model_encode(vlm_model *m, const float *pixels, float *features, float *hidden_states)
{
    for (uint32_t i = 0; i < vlm_model_n_encode_pieces(m); i++)
        vlm_model_encode_piece(m, pixels, features, i);
    if (hidden_states != NULL) m->family->read_hidden(m->vision, hidden_states);
}

uint32_t vlm_model_n_encode_pieces(const vlm_model *m)
{
    return m->family->n_pieces(m->vision);
}

void vlm_model_encode_piece(vlm_model *m, const float *pixels, float *features, uint32_t piece)
{
    m->family->encode_piece(m->vision, pixels, features, piece);
}

void vlm_model_embed_text(vlm_model *m, float *x, const uint32_t *ids, uint32_t n)
{
    m->backend->ops->embed(m->backend, x, ids, n, &m->llama.embed);
}

void vlm_model_embed(vlm_model *m, float *x, const uint32_t *ids, uint32_t n, const float *features,
                     size_t *feature_row)
{
    vlm_backend *b = m->backend;
    const size_t hidden = m->llama.hidden;
    vlm_model_embed_text(m, x, ids, n);
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] != m->config.image_token_id) continue;
        /* A run of image rows is one copy. */
        uint32_t end = i + 1;
        while (end < n && ids[end] == m->config.image_token_id) end++;
        b->ops->copy(b, x + i * hidden, features + *feature_row * hidden,
                     (end - i) * hidden * sizeof *x);
        *feature_row += end - i;
        i = end - 1;
    }
}

void vlm_model_forward(vlm_model *m, const vlm_llama_cache *cache, float *x, uint32_t n,
                       uint32_t n_past)
{
    vlm_llama_forward(&m->llama, &m->scratch, m->backend, cache, x, n, n_past);
}

uint32_t vlm_model_n_forward_pieces(const vlm_model *m)
{
    return vlm_llama_n_pieces(&m->llama);
}

void vlm_model_forward_piece(vlm_model *m, const vlm_llama_cache *cache, float *x, uint32_t n,
                             uint32_t n_past, uint32_t piece)
{
    vlm_llama_forward_piece(&m->llama, &m->scratch, m->backend, cache, x, n, n_past, piece);
}

void vlm_model_logits(vlm_model *m, float *logits, float *x, uint32_t n)
{
    vlm_llama_logits(&m->llama, m->backend, logits, x, n);
}

vlm_status vlm_model_cache_new(vlm_model *m, vlm_llama_cache *cache, vlm_error *err)
{
    const uint32_t n_layers = m->llama.n_layers;
    const size_t width = (size_t)m->llama.n_kv_heads * m->llama.head_dim;
    *cache = (vlm_llama_cache){.n_ctx = m->n_ctx};
    cache->k = vlm_calloc(n_layers, sizeof *cache->k);
    cache->v = vlm_calloc(n_layers, sizeof *cache->v);
    size_t n_bytes;
    vlm_status status = VLM_OK;
    if (cache->k == NULL || cache->v == NULL ||
        !vlm_size_mul(width * sizeof(float), m->n_ctx, &n_bytes))
        status = vlm_fail_memory(err, "key/value cache");
    for (uint32_t i = 0; i < 2 * n_layers && status == VLM_OK; i++) {
        void *ptr = NULL;
        status = m->backend->ops->alloc(m->backend, n_bytes, &ptr, err);
        if (i < n_layers)
            cache->k[i] = ptr;
        else
            cache->v[i - n_layers] = ptr;
    }
    if (status != VLM_OK) vlm_model_cache_free(m, cache);
    return status;
}

void vlm_model_cache_free(vlm_model *m, vlm_llama_cache *cache)
{
    for (uint32_t i = 0; i < m->llama.n_layers; i++) {
        if (cache->k != NULL) m->backend->ops->free(m->backend, cache->k[i]);
        if (cache->v != NULL) m->backend->ops->free(m->backend, cache->v[i]);
    }
    free(cache->k);
    free(cache->v);
    *cache = (vlm_llama_cache){0};
}
