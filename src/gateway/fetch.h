/* fetch.h - placeholder until pictures are fetched. */
#ifndef VLM_GATEWAY_FETCH_H
#define VLM_GATEWAY_FETCH_H

#include "base/buf.h"
#include "base/status.h"

typedef struct vlm_fetcher vlm_fetcher;
typedef struct vlm_fetcher_options {
    const char *hosts;
    size_t bytes_max;
} vlm_fetcher_options;

static inline vlm_status vlm_fetcher_open(const vlm_fetcher_options *o, vlm_fetcher **out,
                                          vlm_error *err)
{
    (void)o;
    *out = NULL;
    return vlm_fail(err, VLM_UNIMPLEMENTED, "--image-urls is not supported yet");
}
static inline void vlm_fetcher_close(vlm_fetcher *f)
{
    (void)f;
}

#endif
