/* cmd_gateway.c - `vlmd gateway`: the HTTP half alone, in front of workers. */
#include "cli/cmd.h"
#include "cli/gateway_options.h"

int vlm_cmd_gateway(const vlm_options *opt)
{
    vlm_error err;
    vlm_gateway_options options;
    vlm_addr workers[VLM_OPTION_LIST_MAX];
    uv_loop_t loop;
    vlm_gateway *gateway = NULL;
    vlm_status status = vlm_cli_gateway_options(opt, &options, &err);
    for (size_t i = 0; status == VLM_OK && i < opt->worker.n; i++) {
        status = vlm_addr_parse(opt->worker.values[i], &workers[i], &err);
        if (status != VLM_OK) status = vlm_fail_prefix(&err, status, "--worker");
    }
    options.workers = workers;
    options.n_workers = opt->worker.n;
    if (status == VLM_OK && uv_loop_init(&loop) != 0)
        status = vlm_fail(&err, VLM_INTERNAL, "no event loop");
    if (status == VLM_OK) {
        status = vlm_gateway_open(&loop, &options, &gateway, &err);
        if (status == VLM_OK) {
            vlm_gateway_run(gateway);
            vlm_gateway_close(gateway);
        }
        (void)uv_loop_close(&loop);
    }
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}
