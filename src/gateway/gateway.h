/* gateway.h - the HTTP half of a server: the OpenAI API in front of workers.
 * Not: the workers; a supervisor may start one (cli/cmd_serve.c).
 * Threads: the main thread. */
#ifndef VLM_GATEWAY_GATEWAY_H
#define VLM_GATEWAY_GATEWAY_H

#include <stdbool.h>
#include <uv.h>

#include "base/status.h"
#include "gateway/models.h"
#include "net/addr.h"
#include "net/http1.h"

typedef struct vlm_gateway vlm_gateway;

typedef struct vlm_gateway_options {
    vlm_addr listen;
    const vlm_addr *workers; /* [n_workers]; with a host the i-th is for its i-th model */
    size_t n_workers;
    const vlm_models_host *host; /* NULL: workers come and go as they like */
    const char *admin_key_file;  /* NULL: nobody may load and unload models */
    const char *api_key_file, *cors_origin, *image_hosts; /* NULL: none */
    bool image_urls;
    bool page;         /* at / */
    bool cache_shared; /* between API keys */
    vlm_http1_limits http;
    size_t bodies_max, unsent_max, image_bytes_max;
    uint32_t connections_max, body_rate_min, json_depth_max, images_max;
    uint32_t running_max, waiting_max; /* of workers that have not said theirs */
    uint64_t header_ns, idle_ns, slow_ns, request_ns, shutdown_ns;
} vlm_gateway_options;

/* The loop is the caller's.  Whatever vlm_keys_read, vlm_clients_listen and vlm_workers_add say. */
VLM_MUST_USE vlm_status vlm_gateway_open(uv_loop_t *loop, const vlm_gateway_options *options,
                                         vlm_gateway **out, vlm_error *err);
/* Run the loop until SIGTERM or SIGINT has been obeyed. */
void vlm_gateway_run(vlm_gateway *g);
/* As the first SIGTERM. */
void vlm_gateway_drain(vlm_gateway *g);
void vlm_gateway_close(vlm_gateway *g);

/* For the host, of its i-th model: its worker is there again, or died and was started anew. */
void vlm_gateway_worker_ready(vlm_gateway *g, size_t model);
void vlm_gateway_worker_restarted(vlm_gateway *g, size_t model);
/* Its worker takes requests. */
bool vlm_gateway_is_ready(const vlm_gateway *g, size_t model);
/* Requests that its worker has. */
uint32_t vlm_gateway_n_busy(const vlm_gateway *g, size_t model);
/* What the host says of its models has changed: waiting requests look again. */
void vlm_gateway_models_changed(vlm_gateway *g);
/* The worker died too often: not ready until told otherwise. */
void vlm_gateway_set_broken(vlm_gateway *g, size_t model, bool broken);

#endif
