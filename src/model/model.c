#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/family.h"
#include "model/pack_cache.h"
#include "model/piece.h"
#include "model/safetensors.h"

struct vlm_model {
    vlm_backend *backend;
    vlm_config config;
    vlm_preproc preproc;
    vlm_safetensors *files;
    vlm_weights *weights;
    vlm_pack_cache *pack_cache; /* or NULL */
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

/* No cache is no error: the weights are packed at each start then. */
static void open_pack_cache(vlm_model *m, vlm_folder *folder, const vlm_model_options *options)
{
    char way[64];
    vlm_error err;
    if (options->dtype < VLM_WEIGHT_DTYPE_BF16 && options->vision_dtype < VLM_WEIGHT_DTYPE_BF16)
        return;
    (void)snprintf(way, sizeof way, "%d %d %s", (int)options->dtype, (int)options->vision_dtype,
                   m->backend->ops->pack_layout);
    if (vlm_pack_cache_open(folder, way, options->pack_cache_bytes, &m->pack_cache, &err) != VLM_OK)
        vlm_log(VLM_LOG_DEBUG, "packed weights are not kept: %s", err.msg);
}

static void keep_packed(vlm_model *m)
{
    vlm_error err;
    if (m->pack_cache == NULL || vlm_weights_n_packed(m->weights) == 0) return;
    const vlm_status status = vlm_pack_cache_store(m->pack_cache, m->weights,
                                                   vlm_weights_converted_bytes(m->weights), &err);
    if (status != VLM_OK) vlm_log(VLM_LOG_WARN, "packed weights are not kept: %s", err.msg);
}

static vlm_status bind(vlm_model *m, vlm_folder *folder, const vlm_model_options *options,
                       vlm_error *err)
{
    VLM_TRY(vlm_safetensors_open_folder(folder, &m->files, err));
    open_pack_cache(m, folder, options);
    const vlm_weights_options weights = {
        .dtype = options->dtype,
        .vision_dtype = options->vision_dtype,
        .packed = m->pack_cache == NULL ? NULL : vlm_pack_cache_files(m->pack_cache),
        .plan_only = options->plan_only,
        .progress = options->progress,
        .user = options->user,
    };
    VLM_TRY(vlm_weights_new(m->files, m->backend, &weights, &m->weights, err));
    VLM_TRY(m->family->open(&m->config, m->weights, m->backend, m->piece_flop, &m->vision, err));
    m->n_image_tokens = m->family->n_image_tokens(m->vision);
    VLM_TRY(vlm_llama_bind(&m->llama, &m->config, m->n_ctx, m->weights, err));
    keep_packed(m);
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
    vlm_pack_cache_close(m->pack_cache);
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

size_t vlm_model_mapped_bytes(const vlm_model *m)
{
    return vlm_weights_mapped_bytes(m->weights);
}

void vlm_model_token_weights(const vlm_model *m, double *n_weights, double *n_bytes)
{
    vlm_llama_token_weights(&m->llama, m->backend, n_weights, n_bytes);
}

size_t vlm_model_working_bytes(const vlm_model *m)
{
    const size_t n_rope = (size_t)m->llama.n_positions * m->llama.head_dim;
    return vlm_weights_converted_bytes(m->weights) + m->scratch.n_bytes + n_rope * sizeof(float) +
           m->family->working_bytes(m->vision);
}

vlm_status vlm_model_preprocess(const vlm_model *m, const vlm_image *image, float *pixels,
                                vlm_error *err)
{
    return vlm_preproc_run(&m->preproc, image, pixels, err);
}

void vlm_model_encode(vlm_model *m, const float *pixels, float *features, float *hidden_states)
{
    const vlm_encode_batch batch = {.pixels = &pixels, .features = &features, .n = 1};
    for (uint32_t i = 0; i < vlm_model_n_encode_pieces(m, 1); i++)
        vlm_model_encode_piece(m, &batch, i);
    if (hidden_states != NULL) m->family->read_hidden(m->vision, hidden_states);
}

uint32_t vlm_model_n_encode_max(const vlm_model *m)
{
    return m->family->n_images_max(m->vision);
}

uint32_t vlm_model_n_encode_pieces(const vlm_model *m, uint32_t n)
{
    return m->family->n_pieces(m->vision, n);
}

void vlm_model_encode_piece(vlm_model *m, const vlm_encode_batch *batch, uint32_t piece)
{
    m->family->encode_piece(m->vision, batch->pixels, batch->features, batch->n, piece);
}

void vlm_model_embed_text(vlm_model *m, float *x, const uint32_t *ids, uint32_t n)
{
    m->backend->ops->embed(m->backend, x, ids, n, &m->llama.embed);
}

void vlm_model_splice(vlm_model *m, float *x, const float *features, uint32_t n)
{
    m->backend->ops->copy(m->backend, x, features, (size_t)n * m->llama.hidden * sizeof *x);
}

void vlm_model_embed(vlm_model *m, float *x, const uint32_t *ids, uint32_t n, const float *features,
                     size_t *feature_row)
{
    const size_t hidden = m->llama.hidden;
    vlm_model_embed_text(m, x, ids, n);
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] != m->config.image_token_id) continue;
        /* A run of image rows is one copy. */
        uint32_t end = i + 1;
        while (end < n && ids[end] == m->config.image_token_id) end++;
        vlm_model_splice(m, x + i * hidden, features + *feature_row * hidden, end - i);
        *feature_row += end - i;
        i = end - 1;
    }
}

void vlm_model_forward(vlm_model *m, const vlm_kv_pool *kv, float *x, const vlm_batch *batch)
{
    vlm_llama_forward(&m->llama, &m->scratch, m->backend, kv, x, batch);
}

uint32_t vlm_model_n_forward_pieces(const vlm_model *m)
{
    return vlm_llama_n_pieces(&m->llama);
}

void vlm_model_forward_piece(vlm_model *m, const vlm_kv_pool *kv, float *x, const vlm_batch *batch,
                             uint32_t piece)
{
    vlm_llama_forward_piece(&m->llama, &m->scratch, m->backend, kv, x, batch, piece);
}

void vlm_model_logits(vlm_model *m, float *logits, float *x, uint32_t n)
{
    vlm_llama_logits(&m->llama, m->backend, logits, x, n);
}

vlm_status vlm_model_kv_new(vlm_model *m, uint32_t n_blocks, vlm_dtype dtype, vlm_kv_pool *pool,
                            vlm_error *err)
{
    return vlm_kv_pool_init(pool, m->backend, m->llama.n_layers, m->llama.n_kv_heads,
                            m->llama.head_dim, n_blocks, dtype, err);
}

vlm_status vlm_model_write(const vlm_model *m, const char *path, vlm_error *err)
{
    return vlm_weights_write(m->weights, path, true, err);
}
