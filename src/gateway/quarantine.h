/* quarantine.h - requests that killed workers, known by the SHA-256 of their bodies: after two
 * kills a request is not tried again.  Bounded; the oldest is forgotten, and each after ten
 * minutes. Threads: one. */
#ifndef VLM_GATEWAY_QUARANTINE_H
#define VLM_GATEWAY_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/sha256.h"

enum { VLM_QUARANTINE_ENTRIES = 256, VLM_QUARANTINE_KILLS = 2 };

typedef struct vlm_quarantine {
    struct {
        uint8_t digest[VLM_SHA256_LEN];
        uint32_t n_kills; /* 0: free */
        uint64_t last_ns;
    } entries[VLM_QUARANTINE_ENTRIES];
} vlm_quarantine;

/* {0} is empty.  A worker died with this request. */
void vlm_quarantine_add(vlm_quarantine *q, const uint8_t digest[VLM_SHA256_LEN], uint64_t now_ns);
/* It has killed VLM_QUARANTINE_KILLS workers. */
bool vlm_quarantine_has(const vlm_quarantine *q, const uint8_t digest[VLM_SHA256_LEN],
                        uint64_t now_ns);
/* Nothing is in it, so that nobody needs a digest. */
bool vlm_quarantine_is_empty(const vlm_quarantine *q);

#endif
