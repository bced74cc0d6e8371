#include "model/projector.h"

vlm_status vlm_projector_bind(vlm_projector *p, const vlm_config *config, vlm_weights *weights,
                              vlm_error *err)
{
    static const char *const prefixes[] = {"multi_modal_projector.",
                                           "model.multi_modal_projector."};
    const char *root;
    const uint32_t hidden = config->text.hidden_size;
    const uint32_t n_in = config->n_feature_layers * config->vision.hidden_size;
    *p = (vlm_projector){.act = config->projector_act};
    VLM_TRY(vlm_weights_prefix(weights, prefixes, sizeof prefixes / sizeof prefixes[0],
                               "linear_1.weight", &root, err));
    VLM_TRY(vlm_weights_linear(weights, VLM_PART_VISION, root, "linear_1.weight", hidden, n_in,
                               &p->linear1, err));
    VLM_TRY(vlm_weights_linear(weights, VLM_PART_VISION, root, "linear_2.weight", hidden, hidden,
                               &p->linear2, err));
    if (!config->projector_bias) return VLM_OK;
    VLM_TRY(vlm_weights_vector(weights, root, "linear_1.bias", hidden, &p->linear1_bias, err));
    return vlm_weights_vector(weights, root, "linear_2.bias", hidden, &p->linear2_bias, err);
}

double vlm_projector_flop_per_row(const vlm_projector *p)
{
    const double n1 = (double)p->linear1.n_rows * p->linear1.n_cols;
    return 2.0 * (n1 + (double)p->linear2.n_rows * p->linear2.n_cols);
}

void vlm_projector_run(const vlm_projector *p, vlm_backend *b, float *y, float *tmp, const float *x,
                       uint32_t n)
{
    b->ops->linear(b, tmp, x, n, &p->linear1, &p->linear1_bias, false);
    b->ops->act(b, tmp, (size_t)n * p->linear1.n_rows, p->act);
    b->ops->linear(b, y, tmp, n, &p->linear2, &p->linear2_bias, false);
}
