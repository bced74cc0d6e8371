/* models.h - the models that a gateway offers: their names and aliases, what clients are told of
 * them, and what each has counted.  Where a host loads and unloads them (vlmd serve), the list is
 * the host's; otherwise it grows with the workers that say what they serve.
 * Not: which worker takes a request (workers.h), nor when a model is loaded (the host).
 * Threads: the loop's. */
#ifndef VLM_GATEWAY_MODELS_H
#define VLM_GATEWAY_MODELS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "gateway/metrics.h"

enum { VLM_MODELS_MAX = 256, VLM_MODEL_NAME_BYTES_MAX = 255 };

/* X(enum, text in /v1/models) */
#define VLM_MODEL_STATE_LIST(X)                                                                    \
    X(UNLOADED, "unloaded")                                                                        \
    X(LOADING, "loading")                                                                          \
    X(LOADED, "loaded")                                                                            \
    X(UNLOADING, "unloading")                                                                      \
    X(FAILED, "failed") /* could not be loaded, and is not tried for a moment */

typedef enum vlm_model_state {
#define VLM_MODEL_STATE_ENUM(name, text) VLM_MODEL_##name,
    VLM_MODEL_STATE_LIST(VLM_MODEL_STATE_ENUM)
#undef VLM_MODEL_STATE_ENUM
} vlm_model_state;

typedef struct vlm_model_alias {
    const char *name;
    size_t model;
} vlm_model_alias;

/* Who loads models.  Models are numbered as in names; the worker of model i is the gateway's worker
 * i.  All texts outlive the gateway. */
typedef struct vlm_models_host {
    const char *const *names;
    size_t n;
    const vlm_model_alias *aliases;
    size_t n_aliases;
    vlm_model_state (*state)(void *user, size_t model);
    /* May new requests go to it?  Not while it is to make room for another. */
    bool (*takes)(void *user, size_t model);
    /* A request waits for it. */
    void (*want)(void *user, size_t model);
    /* A worker has become ready, or is no more. */
    void (*changed)(void *user);
    /* Load or unload without waiting for the end of it.  FAILED_PRECONDITION when a model that is
     * to be unloaded has requests. */
    VLM_MUST_USE vlm_status (*load)(void *user, size_t model, vlm_error *err);
    VLM_MUST_USE vlm_status (*unload)(void *user, size_t model, vlm_error *err);
    void *user;
} vlm_models_host;

typedef struct vlm_models vlm_models;

/* host NULL: none. */
VLM_MUST_USE vlm_status vlm_models_new(const vlm_models_host *host, vlm_models **out,
                                       vlm_error *err);
void vlm_models_free(vlm_models *m);

/* A worker serves this one: without a host it joins the list. */
void vlm_models_note(vlm_models *m, const char *name);
/* Without a host: whether no worker serves it any more.  Clients do not see it then. */
void vlm_models_set_gone(vlm_models *m, size_t model, bool is_gone);

size_t vlm_models_n(const vlm_models *m);
const char *vlm_models_name(const vlm_models *m, size_t model);
/* Of this model; of those that no model can be named for when model >= vlm_models_n. */
vlm_metrics *vlm_models_metrics(vlm_models *m, size_t model);

/* By name or alias; an empty name is the only one there is.  False: there is none, or an empty name
 * could be several. */
bool vlm_models_find(const vlm_models *m, vlm_bytes name, size_t *out);

/* Without a host every model is LOADED and takes requests. */
vlm_model_state vlm_models_state(const vlm_models *m, size_t model);
bool vlm_models_takes(const vlm_models *m, size_t model);
void vlm_models_want(vlm_models *m, size_t model);
/* Whether some model is there or would be loaded for a request. */
bool vlm_models_has_usable(const vlm_models *m);
const vlm_models_host *vlm_models_host_of(const vlm_models *m); /* NULL: none */

/* Append one model, or all with their aliases, as OpenAI's objects "model" and "list"; of a host's
 * each with "status". */
VLM_MUST_USE vlm_status vlm_models_append(const vlm_models *m, size_t model, vlm_bytes name,
                                          vlm_buf *out, vlm_error *err);
VLM_MUST_USE vlm_status vlm_models_append_list(const vlm_models *m, vlm_buf *out, vlm_error *err);

#endif
