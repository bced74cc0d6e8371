/* service.h - vlm.v1.Worker on a gRPC server: admission, one call after the other to prepare
 * threads and the step thread, and their events back.
 * Ownership: engine and decoders outlive the service.  Threads: the loop's. */
#ifndef VLM_WORKER_SERVICE_H
#define VLM_WORKER_SERVICE_H

#include <uv.h>

#include "engine/engine.h"
#include "net/addr.h"
#include "worker/decoders.h"

typedef struct vlm_service vlm_service;

typedef struct vlm_service_options {
    uv_loop_t *loop;
    vlm_engine *engine;
    vlm_decoders *decoders;
    const char *model; /* name; outlives the service */
    uint32_t running_max, waiting_max;
    uint32_t prepare_max;   /* requests that are prepared at once, one thread each */
    size_t unsent_max;      /* bytes that a slow caller may leave lying */
    uint64_t slow_ns;       /* how long it may leave them */
    uint64_t step_limit_ns; /* a step that takes longer is stuck: not serving; 0: never */
} vlm_service_options;

/* Not serving until vlm_service_listen.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_service_open(const vlm_service_options *options, vlm_service **out,
                                         vlm_error *err);
VLM_MUST_USE vlm_status vlm_service_listen(vlm_service *s, const vlm_addr *addr, vlm_error *err);
const vlm_addr *vlm_service_addr(const vlm_service *s);

/* Take no more; idle(user) once when nothing runs. */
void vlm_service_drain(vlm_service *s, void (*idle)(void *user), void *user);
/* Everything running is cancelled.  Prepare threads must have come back: run the loop until
 * vlm_service_is_quiet. */
void vlm_service_cancel_all(vlm_service *s);
bool vlm_service_is_quiet(const vlm_service *s);
void vlm_service_close(vlm_service *s);

#endif
