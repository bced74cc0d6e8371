/* projector.h - LLaVA's two-layer projector from vision features to the decoder's width.
 * Source: Transformers, LlavaMultiModalProjector; Liu et al., "Improved Baselines with Visual
 * Instruction Tuning", 2023.  Threads: weights are read by any. */
#ifndef VLM_MODEL_PROJECTOR_H
#define VLM_MODEL_PROJECTOR_H

#include "model/config.h"
#include "model/weights.h"
#include "tensor/backend.h"

typedef struct vlm_projector {
    vlm_weight linear1;      /* [hidden, n_feature_layers * vision width] */
    vlm_weight linear1_bias; /* [hidden] or absent */
    vlm_weight linear2;      /* [hidden, hidden] */
    vlm_weight linear2_bias; /* [hidden] or absent */
    vlm_act act;
} vlm_projector;

/* Every status of vlm_weights_*. */
VLM_MUST_USE vlm_status vlm_projector_bind(vlm_projector *p, const vlm_config *config,
                                           vlm_weights *weights, vlm_error *err);

double vlm_projector_flop_per_row(const vlm_projector *p);

/* y = linear2(act(linear1(x))).  x [n, linear1.n_cols], y and tmp [n, hidden], none aliasing. */
void vlm_projector_run(const vlm_projector *p, vlm_backend *b, float *y, float *tmp, const float *x,
                       uint32_t n);

#endif
