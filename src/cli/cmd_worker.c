/* cmd_worker.c - `vlmd worker`: the model half alone, gRPC. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/compute.h"
#include "cli/model_arg.h"
#include "cli/pictures.h"
#include "worker/worker.h"

enum { DECODERS_MAX = 4, PREPARE_EXTRA = 2 };

static uint64_t nanoseconds(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

static vlm_status read_listen(const vlm_options *opt, vlm_addr *out, vlm_error *err)
{
    const vlm_status status = vlm_addr_parse(opt->listen, out, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "--listen");
    if (out->kind == VLM_ADDR_DNS)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "--listen: dns:/// names no place to listen on");
    if (!vlm_addr_is_local(out) && !opt->insecure_listen)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "--listen %s: other machines could reach it without encryption or key; "
                        "--insecure-listen allows it",
                        opt->listen);
    return VLM_OK;
}

static uint32_t n_decoders(const vlm_options *opt)
{
    if (opt->decoders > 0) return opt->decoders;
    const uint32_t n = vlm_cpu_count();
    return n < DECODERS_MAX ? n : DECODERS_MAX;
}

int vlm_cmd_worker(const vlm_options *opt)
{
    vlm_error err;
    vlm_decoders *decoders = NULL;
    vlm_folder *folder = NULL;
    vlm_engine *engine = NULL;
    bool in_use = false;
    char name[VLM_MODEL_NAME_LEN_MAX + 1];
    vlm_worker_options options = {
        .model = name,
        .running_max = opt->max_running,
        .waiting_max = opt->max_waiting,
        .prepare_max = n_decoders(opt) + PREPARE_EXTRA,
        .unsent_max = opt->max_unsent,
        .slow_ns = nanoseconds(opt->slow_reader_timeout),
        .step_limit_ns = nanoseconds(opt->step_timeout),
        .shutdown_ns = nanoseconds(opt->shutdown_timeout),
        .supervised = getenv("VLMD_SUPERVISED") != NULL,
    };
    const vlm_decoders_options decoder_options = {
        .n = n_decoders(opt),
        .limits = vlm_cli_image_limits(opt),
        .faults = vlm_cli_is_mock(vlm_cli_model_arg(opt)) && opt->mock_faults};
    vlm_status status = read_listen(opt, &options.listen, &err);
    if (status == VLM_OK)
        status = vlm_model_arg_name(vlm_cli_model_arg(opt), opt->model_name, name, &err);
    /* Their processes are forked before there are threads and a model. */
    if (status == VLM_OK) status = vlm_decoders_open(&decoder_options, &decoders, &err);
    vlm_worker_set_threads(options.prepare_max);
    const uint64_t start_ns = vlm_clock_ns();
    if (status == VLM_OK) status = vlm_cli_open_engine(opt, &folder, &engine, &err);
    if (status == VLM_OK) vlm_cli_log_ready(engine, start_ns);
    if (status == VLM_OK) status = vlm_worker_run(&options, engine, decoders, &in_use, &err);
    if (in_use) return VLM_EXIT_DONE;
    if (engine != NULL) engine->ops->close(engine);
    vlm_folder_close(folder);
    vlm_decoders_close(decoders);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}
