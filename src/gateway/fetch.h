/* fetch.h - pictures by URL, from the open internet alone: every address of a name is checked, the
 * one that is dialled is pinned, redirects are checked again.
 * A few threads of its own do the waiting; nothing else is held up by a server that drips.
 * Not: what the bytes are.  Threads: start and cancel from one; done is called on a fetch thread.
 */
#ifndef VLM_GATEWAY_FETCH_H
#define VLM_GATEWAY_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct vlm_fetcher vlm_fetcher;
typedef struct vlm_fetch vlm_fetch;

typedef struct vlm_fetcher_options {
    const char *hosts; /* "a.com,b.org"; NULL: all.  Outlives the fetcher */
    size_t bytes_max;
    uint32_t threads_max;          /* 0: 16 */
    uint32_t waiting_max;          /* fetches beyond those that run; 0: 256 */
    uint64_t connect_ms, total_ms; /* 0: 3 s, 10 s */
    /* Tests alone: addresses that are not global, and any port. */
    bool allow_all;
} vlm_fetcher_options;

/* FAILED_PRECONDITION without libcurl. */
VLM_MUST_USE vlm_status vlm_fetcher_open(const vlm_fetcher_options *options, vlm_fetcher **out,
                                         vlm_error *err);
/* All fetches end first.  Legal on NULL. */
void vlm_fetcher_close(vlm_fetcher *f);

/* Called exactly once, on another thread: with the picture's bytes, which it may move out, or with
 * why not, in words for the log and not for the client. */
typedef void vlm_fetch_fn(void *user, vlm_buf *bytes, const vlm_error *error);

/* RESOURCE_EXHAUSTED when too many wait; done is not called then. */
VLM_MUST_USE vlm_status vlm_fetcher_start(vlm_fetcher *f, const char *url, vlm_fetch_fn *done,
                                          void *user, vlm_fetch **out, vlm_error *err);
/* Let it end soon; done is still called.  Only before that. */
void vlm_fetch_cancel(vlm_fetch *fetch);

#endif
