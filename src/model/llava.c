/* llava.c - the LLaVA-1.5 family: CLIP tower, feature selection, two-layer projector.
 * Source: Transformers, LlavaModel.get_image_features (modeling_llava.py). */
#include <stdlib.h>

#include "base/mem.h"
#include "model/clip.h"
#include "model/family.h"
#include "model/piece.h"
#include "model/projector.h"

struct vlm_vision {
    vlm_backend *backend;
    vlm_clip clip;
    vlm_clip_scratch scratch;
    vlm_projector projector;
    float *hidden;    /* [n_images_max, clip.n_tokens, n_feature_layers * width] */
    float *projected; /* [n_piece_rows, text hidden]: between the two layers */
    uint32_t n_image_tokens;
    uint32_t n_images_max;
    uint32_t n_piece_rows; /* that go through the projector in one piece */
    bool keep_class_token; /* strategy "full"; "default" drops row 0 */
};

static void llava_close(vlm_vision *v)
{
    if (v == NULL) return;
    vlm_clip_scratch_fini(&v->scratch, v->backend);
    vlm_clip_fini(&v->clip);
    v->backend->ops->free(v->backend, v->hidden);
    v->backend->ops->free(v->backend, v->projected);
    free(v);
}

static size_t hidden_width(const vlm_vision *v)
{
    return (size_t)v->clip.n_feature_layers * v->clip.width;
}

static vlm_status alloc_outputs(vlm_vision *v, uint32_t text_hidden, vlm_error *err)
{
    size_t n_hidden, n_projected;
    if (!vlm_size_mul(hidden_width(v) * sizeof(float), (size_t)v->clip.n_tokens * v->n_images_max,
                      &n_hidden) ||
        !vlm_size_mul((size_t)text_hidden * sizeof(float), v->n_piece_rows, &n_projected))
        return vlm_fail_memory(err, "vision tower");
    void *ptr = NULL;
    VLM_TRY(v->backend->ops->alloc(v->backend, n_hidden, &ptr, err));
    v->hidden = ptr;
    VLM_TRY(v->backend->ops->alloc(v->backend, n_projected, &ptr, err));
    v->projected = ptr;
    return VLM_OK;
}

static vlm_status llava_open(const vlm_config *config, vlm_weights *weights, vlm_backend *backend,
                             double piece_flop, vlm_vision **out, vlm_error *err)
{
    *out = NULL;
    vlm_vision *v = calloc(1, sizeof *v);
    if (v == NULL) return vlm_fail_memory(err, "vision tower");
    v->backend = backend;
    v->keep_class_token = config->feature_full;
    vlm_status status = vlm_clip_bind(&v->clip, config, weights, err);
    if (status == VLM_OK) {
        v->n_image_tokens = v->clip.n_tokens - (v->keep_class_token ? 0 : 1);
        status = vlm_projector_bind(&v->projector, config, weights, err);
        v->n_piece_rows = vlm_piece_rows(piece_flop, vlm_projector_flop_per_row(&v->projector));
        if (v->n_piece_rows > v->n_image_tokens) v->n_piece_rows = v->n_image_tokens;
        v->n_images_max = vlm_clip_n_images(&v->clip, piece_flop);
    }
    if (status == VLM_OK)
        status = vlm_clip_scratch_init(&v->scratch, &v->clip, v->n_images_max, backend, err);
    if (status == VLM_OK) status = alloc_outputs(v, config->text.hidden_size, err);
    if (status != VLM_OK) {
        llava_close(v);
        return status;
    }
    *out = v;
    return VLM_OK;
}

static uint32_t llava_n_image_tokens(const vlm_vision *v)
{
    return v->n_image_tokens;
}

static size_t llava_working_bytes(const vlm_vision *v)
{
    const size_t n_hidden = (size_t)v->n_images_max * v->clip.n_tokens * hidden_width(v);
    const size_t n_projected = (size_t)v->n_piece_rows * v->projector.linear2.n_rows;
    return v->scratch.n_bytes + (n_hidden + n_projected) * sizeof(float);
}

static void llava_hidden_shape(const vlm_vision *v, uint32_t *n_tokens, uint32_t *width)
{
    *n_tokens = v->clip.n_tokens;
    *width = (uint32_t)hidden_width(v);
}

static uint32_t llava_n_images_max(const vlm_vision *v)
{
    return v->n_images_max;
}

/* Blocks of rows in which the projector takes a picture. */
static uint32_t n_projector_blocks(const vlm_vision *v)
{
    return (v->n_image_tokens + v->n_piece_rows - 1) / v->n_piece_rows;
}

static uint32_t llava_n_pieces(const vlm_vision *v, uint32_t n)
{
    return vlm_clip_n_pieces(&v->clip) + n * n_projector_blocks(v);
}

static void llava_encode_piece(vlm_vision *v, const float *const *pixels, float *const *features,
                               uint32_t n, uint32_t piece)
{
    const uint32_t n_clip = vlm_clip_n_pieces(&v->clip);
    if (piece < n_clip) {
        vlm_clip_encode_piece(&v->clip, &v->scratch, v->backend, pixels, n, v->hidden, piece);
        return;
    }
    const uint32_t image = (piece - n_clip) / n_projector_blocks(v);
    const uint32_t row = (piece - n_clip) % n_projector_blocks(v) * v->n_piece_rows;
    const uint32_t n_left = v->n_image_tokens - row;
    const size_t first = (size_t)image * v->clip.n_tokens + row + (v->keep_class_token ? 0 : 1);
    vlm_projector_run(&v->projector, v->backend,
                      features[image] + (size_t)row * v->projector.linear2.n_rows, v->projected,
                      v->hidden + first * hidden_width(v),
                      n_left < v->n_piece_rows ? n_left : v->n_piece_rows);
}

static void llava_read_hidden(vlm_vision *v, float *hidden)
{
    v->backend->ops->download(v->backend, hidden, v->hidden,
                              v->clip.n_tokens * hidden_width(v) * sizeof *hidden);
}

const vlm_family vlm_family_llava = {
    .model_type = "llava",
    .open = llava_open,
    .close = llava_close,
    .n_image_tokens = llava_n_image_tokens,
    .working_bytes = llava_working_bytes,
    .hidden_shape = llava_hidden_shape,
    .n_images_max = llava_n_images_max,
    .n_pieces = llava_n_pieces,
    .encode_piece = llava_encode_piece,
    .read_hidden = llava_read_hidden,
};
