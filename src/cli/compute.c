#include "cli/compute.h"

static vlm_weight_dtype weight_dtype(vlm_opt_dtype dtype)
{
    switch (dtype) {
    case VLM_OPT_DTYPE_F32: return VLM_WEIGHT_DTYPE_F32;
    case VLM_OPT_DTYPE_F16: return VLM_WEIGHT_DTYPE_F16;
    case VLM_OPT_DTYPE_BF16: return VLM_WEIGHT_DTYPE_BF16;
    case VLM_OPT_DTYPE_AUTO:
    case VLM_OPT_DTYPE_Q8: /* refused by the option parser */
    case VLM_OPT_DTYPE_Q4: break;
    }
    return VLM_WEIGHT_DTYPE_AUTO;
}

vlm_engine_options vlm_cli_engine_options(const vlm_options *opt)
{
    vlm_engine_options options = {
        .dtype = weight_dtype(opt->dtype),
        .n_ctx = opt->ctx,
        .n_threads = opt->threads,
    };
    if (opt->cpu_level != VLM_OPT_CPU_LEVEL_AUTO) {
        options.cpu_level_given = true;
        options.cpu_level = (vlm_cpu_level)(opt->cpu_level - VLM_OPT_CPU_LEVEL_AUTO - 1);
    }
    return options;
}
