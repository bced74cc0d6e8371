#include "model/clip.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

/* A layer's, in order; the first piece of all makes the embeddings. */
typedef enum layer_piece {
    PIECE_QKV,
    PIECE_ATTENTION,
    PIECE_FC1,
    PIECE_FC2,
    N_LAYER_PIECES
} layer_piece;

static vlm_status bind_layer(vlm_clip_layer *l, const vlm_clip *c, const char *root, uint32_t idx,
                             vlm_weights *w, vlm_error *err)
{
    char prefix[160];
    (void)snprintf(prefix, sizeof prefix, "%sencoder.layers.%u.", root, idx);
    const struct {
        const char *name;
        uint32_t n;
        vlm_weight *out;
    } vectors[] = {
        {"layer_norm1.weight", c->width, &l->norm1},
        {"layer_norm1.bias", c->width, &l->norm1_bias},
        {"self_attn.q_proj.bias", c->width, &l->q_bias},
        {"self_attn.k_proj.bias", c->width, &l->k_bias},
        {"self_attn.v_proj.bias", c->width, &l->v_bias},
        {"self_attn.out_proj.bias", c->width, &l->out_bias},
        {"layer_norm2.weight", c->width, &l->norm2},
        {"layer_norm2.bias", c->width, &l->norm2_bias},
        {"mlp.fc1.bias", c->mlp, &l->fc1_bias},
        {"mlp.fc2.bias", c->width, &l->fc2_bias},
    };
    const struct {
        const char *name;
        uint32_t n_rows, n_cols;
        vlm_weight *out;
    } matrices[] = {
        {"self_attn.q_proj.weight", c->width, c->width, &l->q},
        {"self_attn.k_proj.weight", c->width, c->width, &l->k},
        {"self_attn.v_proj.weight", c->width, c->width, &l->v},
        {"self_attn.out_proj.weight", c->width, c->width, &l->out},
        {"mlp.fc1.weight", c->mlp, c->width, &l->fc1},
        {"mlp.fc2.weight", c->width, c->mlp, &l->fc2},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        VLM_TRY(vlm_weights_vector(w, prefix, vectors[i].name, vectors[i].n, vectors[i].out, err));
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++)
        VLM_TRY(vlm_weights_linear(w, VLM_PART_VISION, prefix, matrices[i].name, matrices[i].n_rows,
                                   matrices[i].n_cols, matrices[i].out, err));
    return VLM_OK;
}

static vlm_status bind_all(vlm_clip *c, vlm_weights *w, vlm_error *err)
{
    /* LLaVA-1.5's files; Transformers 4.5x; Transformers 5 (no "vision_model" level). */
    static const char *const prefixes[] = {"vision_tower.vision_model.",
                                           "model.vision_tower.vision_model.",
                                           "model.vision_tower.", "vision_tower."};
    const char *root;
    VLM_TRY(vlm_weights_prefix(w, prefixes, sizeof prefixes / sizeof prefixes[0],
                               "embeddings.class_embedding", &root, err));
    const uint32_t patch_len = c->n_channels * c->patch_size * c->patch_size;
    VLM_TRY(
        vlm_weights_vector(w, root, "embeddings.class_embedding", c->width, &c->class_token, err));
    VLM_TRY(vlm_weights_matrix(w, root, "embeddings.patch_embedding.weight", c->width, patch_len,
                               &c->patch, err));
    VLM_TRY(vlm_weights_matrix(w, root, "embeddings.position_embedding.weight", c->n_tokens,
                               c->width, &c->position, err));
    VLM_TRY(vlm_weights_vector(w, root, "pre_layrnorm.weight", c->width, &c->norm, err));
    VLM_TRY(vlm_weights_vector(w, root, "pre_layrnorm.bias", c->width, &c->norm_bias, err));
    for (uint32_t i = 0; i < c->n_layers; i++)
        VLM_TRY(bind_layer(&c->layers[i], c, root, i, w, err));
    return VLM_OK;
}

vlm_status vlm_clip_bind(vlm_clip *clip, const vlm_config *config, vlm_weights *weights,
                         vlm_error *err)
{
    const vlm_vision_config *v = &config->vision;
    const uint32_t side = v->image_size / v->patch_size;
    *clip = (vlm_clip){
        .width = v->hidden_size,
        .mlp = v->intermediate_size,
        .n_heads = v->n_heads,
        .head_dim = v->hidden_size / v->n_heads,
        .patch_size = v->patch_size,
        .n_channels = v->n_channels,
        .image_size = v->image_size,
        .n_tokens = 1 + side * side,
        .eps = v->layer_norm_eps,
        .act = v->hidden_act,
        .n_feature_layers = config->n_feature_layers,
    };
    for (uint32_t i = 0; i < config->n_feature_layers; i++) {
        clip->feature_layers[i] = config->feature_layers[i];
        if (clip->feature_layers[i] > clip->n_layers) clip->n_layers = clip->feature_layers[i];
    }
    clip->layers = vlm_calloc(clip->n_layers, sizeof *clip->layers);
    if (clip->layers == NULL) return vlm_fail_memory(err, "vision tower");
    const vlm_status status = bind_all(clip, weights, err);
    if (status != VLM_OK) vlm_clip_fini(clip);
    return status;
}

void vlm_clip_fini(vlm_clip *clip)
{
    free(clip->layers);
    clip->layers = NULL;
}

static vlm_status alloc_rows(vlm_backend *b, size_t n_rows, size_t n_cols, float **out,
                             vlm_error *err)
{
    size_t n, n_bytes;
    if (!vlm_size_mul(n_rows, n_cols, &n) || !vlm_size_mul(n, sizeof(float), &n_bytes))
        return vlm_fail_memory(err, "vision tower");
    void *ptr = NULL;
    VLM_TRY(b->ops->alloc(b, n_bytes, &ptr, err));
    *out = ptr;
    return VLM_OK;
}

uint32_t vlm_clip_n_images(const vlm_clip *c, double piece_flop)
{
    enum { IMAGES_MAX = 8 };
    const double width = c->width, n_tokens = c->n_tokens;
    const double qkv = 6.0 * width * width, mlp = 2.0 * width * c->mlp;
    const double attention = width * (4.0 * n_tokens + 2.0 * width);
    double most = qkv > attention ? qkv : attention;
    if (mlp > most) most = mlp;
    const double n = piece_flop / (most * n_tokens);
    return n >= IMAGES_MAX ? IMAGES_MAX : n >= 1.0 ? (uint32_t)n : 1;
}

vlm_status vlm_clip_scratch_init(vlm_clip_scratch *s, const vlm_clip *c, uint32_t n_images_max,
                                 vlm_backend *b, vlm_error *err)
{
    *s = (vlm_clip_scratch){.n_images_max = n_images_max};
    const size_t n_rows = (size_t)n_images_max * c->n_tokens;
    const size_t patch_len = (size_t)c->n_channels * c->patch_size * c->patch_size;
    const struct {
        size_t n_rows, n_cols;
        float **out;
    } parts[] = {
        {n_rows, c->width, &s->hidden},
        {n_rows, c->width, &s->norm},
        {n_rows, c->width, &s->q},
        {n_rows, c->width, &s->k},
        {n_rows, c->width, &s->v},
        {n_rows, c->width, &s->attn},
        {n_rows, c->mlp, &s->mlp},
        {c->n_tokens, patch_len, &s->patches},
        {(size_t)c->n_channels * c->image_size, c->image_size, &s->pixels},
    };
    s->positions = vlm_calloc(c->n_tokens, sizeof *s->positions);
    if (s->positions == NULL) return vlm_fail_memory(err, "vision tower");
    for (uint32_t i = 0; i < c->n_tokens; i++) s->positions[i] = i;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const vlm_status status =
            alloc_rows(b, parts[i].n_rows, parts[i].n_cols, parts[i].out, err);
        s->n_bytes += parts[i].n_rows * parts[i].n_cols * sizeof(float);
        if (status == VLM_OK) continue;
        vlm_clip_scratch_fini(s, b);
        return status;
    }
    return VLM_OK;
}

void vlm_clip_scratch_fini(vlm_clip_scratch *s, vlm_backend *b)
{
    float *const parts[] = {s->hidden, s->norm, s->q,       s->k,     s->v,
                            s->attn,   s->mlp,  s->patches, s->pixels};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) b->ops->free(b, parts[i]);
    free(s->positions);
    *s = (vlm_clip_scratch){0};
}

/* CLIPVisionEmbeddings and pre_layrnorm: one class token, then the patches in row order, each with
 * the embedding of its position. */
static void embed(const vlm_clip *c, vlm_clip_scratch *s, vlm_backend *b,
                  const float *const *pixels, uint32_t n)
{
    const size_t n_pixels = (size_t)c->n_channels * c->image_size * c->image_size;
    const vlm_weight none = {0};
    b->ops->embed(b, s->norm, s->positions, 1, &c->class_token);
    for (uint32_t i = 0; i < n; i++) {
        float *hidden = s->hidden + (size_t)i * c->n_tokens * c->width;
        b->ops->embed(b, hidden, s->positions, c->n_tokens, &c->position);
        b->ops->add(b, hidden, s->norm, c->width);
        b->ops->upload(b, s->pixels, pixels[i], n_pixels * sizeof *s->pixels);
        b->ops->im2col(b, s->patches, s->pixels, c->n_channels, c->image_size, c->image_size,
                       c->patch_size);
        b->ops->linear(b, hidden + c->width, s->patches, c->n_tokens - 1, &c->patch, &none, true);
    }
    b->ops->layer_norm(b, s->hidden, s->hidden, n * c->n_tokens, &c->norm, &c->norm_bias, c->eps);
}

/* CLIPEncoderLayer: hidden += attention(norm1(hidden)); hidden += mlp(norm2(hidden)). */
static void run_layer_piece(const vlm_clip *c, const vlm_clip_layer *l, vlm_clip_scratch *s,
                            vlm_backend *b, uint32_t n_images, layer_piece piece)
{
    const vlm_backend_ops *ops = b->ops;
    const uint32_t n = n_images * c->n_tokens;
    switch (piece) {
    case PIECE_QKV:
        ops->layer_norm(b, s->norm, s->hidden, n, &l->norm1, &l->norm1_bias, c->eps);
        ops->linear(b, s->q, s->norm, n, &l->q, &l->q_bias, false);
        ops->linear(b, s->k, s->norm, n, &l->k, &l->k_bias, false);
        ops->linear(b, s->v, s->norm, n, &l->v, &l->v_bias, false);
        break;
    case PIECE_ATTENTION:
        ops->attn_full(b, s->attn, s->q, s->k, s->v, n_images, c->n_tokens, c->n_heads, c->head_dim,
                       1.0f / sqrtf((float)c->head_dim));
        ops->linear(b, s->hidden, s->attn, n, &l->out, &l->out_bias, true);
        break;
    case PIECE_FC1:
        ops->layer_norm(b, s->norm, s->hidden, n, &l->norm2, &l->norm2_bias, c->eps);
        ops->linear(b, s->mlp, s->norm, n, &l->fc1, &l->fc1_bias, false);
        break;
    case PIECE_FC2:
        ops->act(b, s->mlp, (size_t)n * c->mlp, c->act);
        ops->linear(b, s->hidden, s->mlp, n, &l->fc2, &l->fc2_bias, true);
        break;
    case N_LAYER_PIECES: break;
    }
}

/* Put the hidden state after `layer` layers into every column block that asks for it. */
static void collect(const vlm_clip *c, const vlm_clip_scratch *s, vlm_backend *b, uint32_t n,
                    uint32_t layer, float *out)
{
    const size_t out_width = (size_t)c->n_feature_layers * c->width;
    for (uint32_t f = 0; f < c->n_feature_layers; f++) {
        if (c->feature_layers[f] != layer) continue;
        for (size_t row = 0; row < (size_t)n * c->n_tokens; row++)
            b->ops->copy(b, out + row * out_width + (size_t)f * c->width,
                         s->hidden + row * c->width, c->width * sizeof *out);
    }
}

uint32_t vlm_clip_n_pieces(const vlm_clip *clip)
{
    return 1 + clip->n_layers * N_LAYER_PIECES;
}

void vlm_clip_encode_piece(const vlm_clip *clip, vlm_clip_scratch *s, vlm_backend *backend,
                           const float *const *pixels, uint32_t n, float *out, uint32_t piece)
{
    assert(piece < vlm_clip_n_pieces(clip) && n >= 1 && n <= s->n_images_max);
    if (piece == 0) {
        embed(clip, s, backend, pixels, n);
        collect(clip, s, backend, n, 0, out);
        return;
    }
    const uint32_t layer = (piece - 1) / N_LAYER_PIECES;
    const layer_piece part = (layer_piece)((piece - 1) % N_LAYER_PIECES);
    run_layer_piece(clip, &clip->layers[layer], s, backend, n, part);
    if (part == N_LAYER_PIECES - 1) collect(clip, s, backend, n, layer + 1, out);
}
