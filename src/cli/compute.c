#include "cli/compute.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/model_arg.h"
#include "worker/mock.h"

/* Requests that vlmd bench sends at once. */
enum { BENCH_RUNNING = 16 };
#define LOAD_LOG_SECONDS 10.0

static vlm_weight_dtype weight_dtype(vlm_opt_dtype dtype)
{
    switch (dtype) {
    case VLM_OPT_DTYPE_F32: return VLM_WEIGHT_DTYPE_F32;
    case VLM_OPT_DTYPE_F16: return VLM_WEIGHT_DTYPE_F16;
    case VLM_OPT_DTYPE_BF16: return VLM_WEIGHT_DTYPE_BF16;
    case VLM_OPT_DTYPE_Q8: return VLM_WEIGHT_DTYPE_Q8;
    case VLM_OPT_DTYPE_Q4: return VLM_WEIGHT_DTYPE_Q4;
    case VLM_OPT_DTYPE_AUTO: break;
    }
    return VLM_WEIGHT_DTYPE_AUTO;
}

/* Weights in 8 or 4 bits round far more than keys and values in 16 do. */
static vlm_dtype kv_dtype(const vlm_options *opt)
{
    if (opt->kv_dtype == VLM_OPT_KV_DTYPE_AUTO)
        return opt->dtype == VLM_OPT_DTYPE_Q8 || opt->dtype == VLM_OPT_DTYPE_Q4 ? VLM_DTYPE_F16
                                                                                : VLM_DTYPE_F32;
    return opt->kv_dtype == VLM_OPT_KV_DTYPE_F16 ? VLM_DTYPE_F16 : VLM_DTYPE_F32;
}

vlm_engine_options vlm_cli_engine_options(const vlm_options *opt)
{
    vlm_engine_options options = {
        .dtype = weight_dtype(opt->dtype),
        .vision_dtype = weight_dtype(opt->vision_dtype),
        .pack_cache_bytes = opt->pack_cache,
        .n_ctx = opt->ctx,
        .n_threads = opt->threads,
        .running_max = opt->command == VLM_COMMAND_BENCH ? BENCH_RUNNING : 1,
        .chunk_max = opt->prefill_chunk,
        .kv_dtype = kv_dtype(opt),
        .memory_max = opt->memory,
        .encoder_cache_bytes = opt->given[VLM_OPTION_ENCODER_CACHE] ? opt->encoder_cache : 0,
    };
    if (opt->cpu_level != VLM_OPT_CPU_LEVEL_AUTO) {
        options.cpu_level_given = true;
        options.cpu_level = (vlm_cpu_level)(opt->cpu_level - VLM_OPT_CPU_LEVEL_AUTO - 1);
    }
    return options;
}

const char *vlm_cli_model_arg(const vlm_options *opt)
{
    return opt->n_args > 0 ? opt->args[0] : NULL;
}

bool vlm_cli_is_mock(const char *arg)
{
    return arg != NULL && strcmp(arg, "mock") == 0;
}

vlm_status vlm_cli_memory_need(const vlm_options *opt, const char *arg, size_t *n_bytes,
                               vlm_error *err)
{
    enum { MOCK_BYTES = 64 << 20 };
    const vlm_engine_options options = vlm_cli_engine_options(opt);
    vlm_folder *folder = NULL;
    *n_bytes = MOCK_BYTES;
    if (vlm_cli_is_mock(arg)) return VLM_OK;
    VLM_TRY(vlm_model_arg_open(arg, &folder, err));
    const vlm_status status = vlm_engine_memory_need(folder, &options, n_bytes, err);
    vlm_folder_close(folder);
    return status;
}

vlm_status vlm_cli_open_engine(const vlm_options *opt, vlm_folder **folder, vlm_engine **engine,
                               vlm_error *err)
{
    if (vlm_cli_is_mock(vlm_cli_model_arg(opt))) {
        const vlm_mock_options mock = {.token_ms = opt->mock_token_ms,
                                       .prefill_ms = opt->mock_prefill_ms,
                                       .n_ctx = opt->ctx,
                                       .running_max = opt->max_running,
                                       .waiting_max = opt->max_waiting,
                                       .faults = opt->mock_faults};
        return vlm_mock_open(&mock, engine, err);
    }
    vlm_engine_options options = vlm_cli_engine_options(opt);
    if ((1u << opt->command & VLM_CMDS_MODEL) != 0) options.running_max = opt->max_running;
    options.waiting_max = opt->max_running + opt->max_waiting; /* the worker counts them */
    VLM_TRY(vlm_model_arg_open(vlm_cli_model_arg(opt), folder, err));
    vlm_load_progress progress;
    vlm_load_progress_start(&progress);
    options.load_progress = vlm_load_progress_update;
    options.load_user = &progress;
    const vlm_status status = vlm_engine_open(*folder, &options, engine, err);
    vlm_load_progress_end(&progress);
    return status;
}

void vlm_load_progress_start(vlm_load_progress *p)
{
    *p = (vlm_load_progress){0};
    vlm_progress_start(&p->line, "packing weights", VLM_PROGRESS_BYTES, "");
}

void vlm_load_progress_update(void *user, uint64_t n_done, uint64_t n_total)
{
    vlm_load_progress *p = user;
    const uint64_t now_ns = vlm_clock_ns();
    if (p->start_ns == 0) p->start_ns = p->logged_ns = now_ns;
    vlm_progress_update(&p->line, n_done, n_total);
    if (p->line.on_terminal || vlm_clock_seconds(p->logged_ns, now_ns) < LOAD_LOG_SECONDS) return;
    p->logged_ns = now_ns;
    vlm_log(VLM_LOG_INFO, "packing weights, %.1f of %.1f GB", (double)n_done * 1e-9,
            (double)n_total * 1e-9);
}

void vlm_load_progress_end(vlm_load_progress *p)
{
    vlm_progress_clear(&p->line);
    if (p->start_ns == 0) return;
    vlm_log(VLM_LOG_INFO, "packed the weights in %.1f s",
            vlm_clock_seconds(p->start_ns, vlm_clock_ns()));
}

void vlm_cli_log_ready(const vlm_engine *engine, uint64_t start_ns)
{
    vlm_engine_info info;
    engine->ops->info(engine, &info);
    vlm_log(VLM_LOG_INFO,
            "ready in %.3f s: %s, %.1f MB of weights, context %u, cache of %.1f MB for %u tokens, "
            "%u threads on %s (%s), chat template from %s",
            vlm_clock_seconds(start_ns, vlm_clock_ns()), info.model_type,
            (double)info.weight_bytes * 1e-6, info.n_ctx, (double)info.kv_bytes * 1e-6,
            info.n_kv_tokens, info.n_threads, info.device, info.cpu_level, info.chat_template);
    if (info.n_kv_tokens > 0 && info.n_kv_tokens < info.n_ctx)
        vlm_log(VLM_LOG_WARN,
                "the cache holds %u tokens, less than the context of %u: longer requests are "
                "refused; see --memory and --kv-dtype",
                info.n_kv_tokens, info.n_ctx);
}
