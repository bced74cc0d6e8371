/* workers.h - the workers that a gateway knows: connections kept up, health by Watch, what model
 * they serve, names asked again, and the least loaded one for the next request.
 * Not: the requests (chat.h).  Ownership: the caller's of calls.  Threads: the loop's. */
#ifndef VLM_GATEWAY_WORKERS_H
#define VLM_GATEWAY_WORKERS_H

#include <uv.h>
#include <vlm/v1/worker.pb-c.h>

#include "base/status.h"
#include "net/addr.h"
#include "rpc/channel.h"

typedef struct vlm_workers vlm_workers;
typedef struct vlm_worker_link vlm_worker_link; /* one worker; lives as long as the set */

enum { VLM_WORKERS_MAX = 256, VLM_WORKER_MODEL_LEN_MAX = 255, VLM_WORKERS_FORMATS = 5 };

typedef struct vlm_workers_options {
    uv_loop_t *loop;
    /* Of workers that have not said theirs yet. */
    uint32_t running_max, waiting_max;
    /* A worker has become ready, or is no more. */
    void (*changed)(void *user);
    void *user;
} vlm_workers_options;

VLM_MUST_USE vlm_status vlm_workers_open(const vlm_workers_options *options, vlm_workers **out,
                                         vlm_error *err);
void vlm_workers_close(vlm_workers *w);

/* Know this address, or all addresses of a name; connecting starts at once. */
VLM_MUST_USE vlm_status vlm_workers_add(vlm_workers *w, const vlm_addr *addr, vlm_error *err);
/* Of the i-th address that was added, which is no name: try to connect now, for a worker is known
 * to have started; whether it is ready; how many requests it has. */
void vlm_workers_retry_now(vlm_workers *w, size_t i);
bool vlm_workers_is_ready(const vlm_workers *w, size_t i);
uint32_t vlm_workers_n_busy(const vlm_workers *w, size_t i);

/* The ready worker of the model (empty: any) with the least to do and room for one more; avoid (may
 * be NULL) only when there is no other.  NULL when there is none. */
vlm_worker_link *vlm_workers_choose(vlm_workers *w, vlm_bytes model, const vlm_worker_link *avoid);

/* Some worker of the model (empty: any) is ready, be it full. */
bool vlm_workers_has_ready(const vlm_workers *w, vlm_bytes model);

typedef struct vlm_workers_state {
    uint32_t n_known, n_ready;
    uint32_t n_unready_room; /* requests that the others will take */
    uint32_t n_busy, n_room; /* requests at ready workers, and how many more they take */
} vlm_workers_state;
vlm_workers_state vlm_workers_get_state(const vlm_workers *w);

/* The i-th different model of all workers that have been seen; NULL after the last. */
const char *vlm_workers_model(const vlm_workers *w, size_t i);
bool vlm_workers_has_model(const vlm_workers *w, vlm_bytes model);

vlm_rpc_channel *vlm_worker_link_channel(vlm_worker_link *link);
const char *vlm_worker_link_name(const vlm_worker_link *link); /* its address, for the log */
const char *vlm_worker_link_model(const vlm_worker_link *link);
/* A call has begun (+1) or ended (-1). */
void vlm_worker_link_count(vlm_worker_link *link, int n);

/* Sums over the Stats of the ready workers of the model, asked once a second. */
typedef struct vlm_workers_stats {
    double kv_usage; /* mean */
    uint64_t n_prefix_queries, n_prefix_hits, n_image_queries, n_image_hits, n_preemptions;
    uint64_t n_images[VLM_WORKERS_FORMATS]; /* decoded, in the order of the worker's list */
} vlm_workers_stats;
vlm_workers_stats vlm_workers_get_stats(const vlm_workers *w, vlm_bytes model);

#endif
