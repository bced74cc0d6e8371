/* cmd_serve.c - `vlmd serve`: a gateway, and a supervised worker for each model over a Unix socket
 * in a private folder. */
#include "cli/cmd.h"
#include "cli/fleet.h"
#include "cli/gateway_options.h"

typedef struct serve {
    uv_loop_t loop;
    vlm_gateway *gateway;
    vlm_fleet *fleet;
} serve;

static vlm_status run(serve *s, const vlm_options *opt, vlm_error *err)
{
    vlm_gateway_options options;
    VLM_TRY(vlm_cli_gateway_options(opt, &options, err));
    VLM_TRY(vlm_fleet_open(&s->loop, opt, &s->fleet, err));
    vlm_fleet_fill(s->fleet, &options);
    VLM_TRY(vlm_gateway_open(&s->loop, &options, &s->gateway, err));
    VLM_TRY(vlm_fleet_start(s->fleet, s->gateway, err));
    vlm_gateway_run(s->gateway);
    return VLM_OK;
}

int vlm_cmd_serve(const vlm_options *opt)
{
    vlm_error err;
    serve s = {0};
    if (uv_loop_init(&s.loop) != 0) {
        (void)vlm_fail(&err, VLM_INTERNAL, "no event loop");
        return vlm_cli_fail(&err);
    }
    const vlm_status status = run(&s, opt, &err);
    vlm_fleet_stop(s.fleet);
    vlm_gateway_close(s.gateway);
    const bool failed = s.fleet != NULL && vlm_fleet_failed(s.fleet);
    vlm_fleet_close(s.fleet);
    (void)uv_loop_close(&s.loop);
    if (status != VLM_OK) return vlm_cli_fail(&err);
    /* The worker has said why. */
    return failed ? VLM_EXIT_FAILED : VLM_EXIT_DONE;
}
