/* clip.h - the CLIP vision tower: pixels to the hidden states that a projector takes.
 * Source: Transformers, CLIPVisionTransformer (modeling_clip.py); Radford et al., 2021.
 * Not: preprocessing (preproc.h) nor the projector.
 * Threads: weights are read by any; the scratch belongs to the caller's thread. */
#ifndef VLM_MODEL_CLIP_H
#define VLM_MODEL_CLIP_H

#include "model/config.h"
#include "model/weights.h"
#include "tensor/backend.h"

enum { VLM_CLIP_LAYERS_MAX = 256 };

typedef struct vlm_clip_layer {
    vlm_weight norm1, norm1_bias; /* [width] */
    vlm_weight q, k, v, out;      /* [width, width] */
    vlm_weight q_bias, k_bias, v_bias, out_bias;
    vlm_weight norm2, norm2_bias;
    vlm_weight fc1, fc1_bias; /* [mlp, width], [mlp] */
    vlm_weight fc2, fc2_bias; /* [width, mlp], [width] */
} vlm_clip_layer;

typedef struct vlm_clip {
    vlm_weight patch;           /* [width, channels * patch * patch] */
    vlm_weight class_token;     /* [width] */
    vlm_weight position;        /* [1 + n_patches, width] */
    vlm_weight norm, norm_bias; /* "pre_layrnorm", [width] */
    vlm_clip_layer *layers;     /* [n_layers]: only those up to the last one that is used */
    uint32_t n_layers;
    uint32_t width, mlp, n_heads, head_dim, patch_size, n_channels, image_size;
    uint32_t n_tokens; /* 1 + (image_size / patch_size)^2 */
    float eps;
    vlm_act act;
    uint32_t feature_layers[VLM_FEATURE_LAYERS_MAX]; /* hidden state indexes, 0: before layer 0 */
    uint32_t n_feature_layers;
} vlm_clip;

/* Working memory for up to n_images_max images on the device, [n_images_max, ...] each. */
typedef struct vlm_clip_scratch {
    uint32_t n_images_max;
    size_t n_bytes;
    float *hidden;           /* [n_tokens, width] */
    float *norm;             /* [n_tokens, width] */
    float *q, *k, *v, *attn; /* [n_tokens, width] each */
    float *mlp;              /* [n_tokens, mlp] */
    float *patches;          /* one image's: [n_tokens - 1, channels * patch * patch] */
    float *pixels;           /* one image's: [channels, image_size, image_size] */
    uint32_t *positions;     /* [n_tokens] on the host: 0, 1, 2, ... */
} vlm_clip_scratch;

/* Every status of vlm_weights_*. */
VLM_MUST_USE vlm_status vlm_clip_bind(vlm_clip *clip, const vlm_config *config,
                                      vlm_weights *weights, vlm_error *err);
void vlm_clip_fini(vlm_clip *clip);

VLM_MUST_USE vlm_status vlm_clip_scratch_init(vlm_clip_scratch *s, const vlm_clip *clip,
                                              uint32_t n_images_max, vlm_backend *backend,
                                              vlm_error *err);
void vlm_clip_scratch_fini(vlm_clip_scratch *s, vlm_backend *backend);

/* As many images as go side by side without a piece being longer than piece_flop, at least 1. */
uint32_t vlm_clip_n_images(const vlm_clip *clip, double piece_flop);

/* Hidden states of n images: pixels[i] [channels, image_size, image_size] on the host to out
 * [n, n_tokens, n_feature_layers * width] on the device, the class token first; several feature
 * layers lie side by side in each row.  In vlm_clip_n_pieces pieces, from 0 on in order and with
 * the same arguments; the scratch holds what lies between two of them. */
uint32_t vlm_clip_n_pieces(const vlm_clip *clip);
void vlm_clip_encode_piece(const vlm_clip *clip, vlm_clip_scratch *s, vlm_backend *backend,
                           const float *const *pixels, uint32_t n, float *out, uint32_t piece);

#endif
