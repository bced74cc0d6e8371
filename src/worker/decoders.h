/* decoders.h - turns hostile image bytes into RGB8, for now in this process.
 * Threads: vlm_decoders_run from any number. */
#ifndef VLM_WORKER_DECODERS_H
#define VLM_WORKER_DECODERS_H

#include <stdatomic.h>

#include "base/status.h"
#include "image/image.h"

typedef struct vlm_decoders vlm_decoders;

typedef struct vlm_decoders_options {
    uint32_t n; /* children; 0: one per core up to 4 */
    vlm_image_limits limits;
    uint32_t timeout_ms; /* wall clock of one picture, 0: 10000 */
    size_t memory_max;   /* bytes of address space a child may take, 0: fit for 2^26 pixels */
    bool faults;
} vlm_decoders_options;

VLM_MUST_USE vlm_status vlm_decoders_open(const vlm_decoders_options *options, vlm_decoders **out,
                                          vlm_error *err);
void vlm_decoders_close(vlm_decoders *d);

/* cancel (may be NULL) ends the wait or the decoding: CANCELLED. */
VLM_MUST_USE vlm_status vlm_decoders_run(vlm_decoders *d, const void *data, size_t len,
                                         const atomic_bool *cancel, vlm_image *out,
                                         vlm_image_format *format, vlm_error *err);

typedef struct vlm_decoders_stats {
    uint64_t n_decoded[VLM_IMAGE_BMP + 1]; /* by vlm_image_format */
    uint64_t n_failed, n_restarts;
} vlm_decoders_stats;
void vlm_decoders_get_stats(vlm_decoders *d, vlm_decoders_stats *out);

#endif
