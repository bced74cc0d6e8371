/* health.h - the standard service grpc.health.v1.Health, Check and Watch, on a vlm_rpc_server:
 * one state for the whole server ("") and for one service by name.
 * https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 * Threads: the loop's. */
#ifndef VLM_RPC_HEALTH_H
#define VLM_RPC_HEALTH_H

#include <stdbool.h>

#include "rpc/server.h"

typedef struct vlm_rpc_watch vlm_rpc_watch;

typedef struct vlm_rpc_health {
    const char *service;
    bool serving;
    vlm_rpc_watch *watches;
} vlm_rpc_health;

enum { VLM_RPC_HEALTH_METHODS = 2 };

/* Not serving at first.  h must outlive the server that gets the methods. */
void vlm_rpc_health_init(vlm_rpc_health *h, const char *service,
                         vlm_rpc_method methods[VLM_RPC_HEALTH_METHODS]);

/* Watchers are told when it changes. */
void vlm_rpc_health_set(vlm_rpc_health *h, bool serving);

/* Ends all watches, so that a draining server can finish. */
void vlm_rpc_health_end(vlm_rpc_health *h);

#endif
