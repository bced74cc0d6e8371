#include "worker/decoders.h"

#include <stdlib.h>

struct vlm_decoders {
    vlm_image_limits limits;
};

vlm_status vlm_decoders_open(const vlm_decoders_options *options, vlm_decoders **out,
                             vlm_error *err)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return vlm_fail_memory(err, "decoders");
    (*out)->limits = options->limits;
    return VLM_OK;
}

void vlm_decoders_close(vlm_decoders *d)
{
    free(d);
}

vlm_status vlm_decoders_run(vlm_decoders *d, const void *data, size_t len,
                            const atomic_bool *cancel, vlm_image *out, vlm_image_format *format,
                            vlm_error *err)
{
    *out = (vlm_image){0};
    if (cancel != NULL && atomic_load(cancel)) return vlm_fail(err, VLM_CANCELLED, "cancelled");
    VLM_TRY(vlm_image_sniff(data, len, format, err));
    return vlm_image_decode(data, len, &d->limits, out, err);
}

void vlm_decoders_get_stats(vlm_decoders *d, vlm_decoders_stats *out)
{
    (void)d;
    *out = (vlm_decoders_stats){0};
}
