/* fleet.h - the worker processes of a server, one for each model: started at the start or when a
 * request wants their model, stopped when nobody does or when another one needs the memory, never
 * while they have requests.
 * Who may stay: the models' shares of memory (fleet_plan.h) together never exceed the budget.  Room
 * for a wanted model is made by stopping the least recently used idle ones.  Is none idle, the one
 * that was loaded longest ago gets no new requests until it is; but each stays a while once it is
 * loaded, so that two models that are asked for at once take turns of some length.
 * Not: the processes themselves (supervisor.h).  Threads: the loop's. */
#ifndef VLM_CLI_FLEET_H
#define VLM_CLI_FLEET_H

#include <uv.h>

#include "cli/options.h"
#include "gateway/gateway.h"

typedef struct vlm_fleet vlm_fleet;

/* Nothing is started yet.  Whatever vlm_fleet_plan_names, vlm_cli_memory_need and
 * vlm_fleet_plan_shares say; UNAVAILABLE when no folder for sockets can be made. */
VLM_MUST_USE vlm_status vlm_fleet_open(uv_loop_t *loop, const vlm_options *opt, vlm_fleet **out,
                                       vlm_error *err);
/* Workers, host and admin keys of the gateway that serves these models; views of f. */
void vlm_fleet_fill(vlm_fleet *f, vlm_gateway_options *options);
/* From now on, for this gateway; it is closed before the fleet.  Every status of
 * vlm_supervisor_open. */
VLM_MUST_USE vlm_status vlm_fleet_start(vlm_fleet *f, vlm_gateway *gateway, vlm_error *err);
/* All workers end: before the gateway is closed.  Runs the loop. */
void vlm_fleet_stop(vlm_fleet *f);
void vlm_fleet_close(vlm_fleet *f);
/* The only model could not be loaded, and its worker has said why. */
bool vlm_fleet_failed(const vlm_fleet *f);

#endif
