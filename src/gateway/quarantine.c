#include "gateway/quarantine.h"

#include <string.h>

#define FORGET_NS (600u * (uint64_t)1000000000u)

static int find(const vlm_quarantine *q, const uint8_t *digest, uint64_t now_ns)
{
    for (int i = 0; i < VLM_QUARANTINE_ENTRIES; i++)
        if (q->entries[i].n_kills > 0 && now_ns - q->entries[i].last_ns < FORGET_NS &&
            memcmp(q->entries[i].digest, digest, VLM_SHA256_LEN) == 0)
            return i;
    return -1;
}

void vlm_quarantine_add(vlm_quarantine *q, const uint8_t digest[VLM_SHA256_LEN], uint64_t now_ns)
{
    int i = find(q, digest, now_ns);
    if (i < 0) {
        i = 0;
        for (int k = 1; k < VLM_QUARANTINE_ENTRIES; k++)
            if (q->entries[k].last_ns < q->entries[i].last_ns) i = k;
        memcpy(q->entries[i].digest, digest, VLM_SHA256_LEN);
        q->entries[i].n_kills = 0;
    }
    q->entries[i].n_kills++;
    q->entries[i].last_ns = now_ns;
}

bool vlm_quarantine_has(const vlm_quarantine *q, const uint8_t digest[VLM_SHA256_LEN],
                        uint64_t now_ns)
{
    const int i = find(q, digest, now_ns);
    return i >= 0 && q->entries[i].n_kills >= VLM_QUARANTINE_KILLS;
}

bool vlm_quarantine_is_empty(const vlm_quarantine *q)
{
    for (int i = 0; i < VLM_QUARANTINE_ENTRIES; i++)
        if (q->entries[i].n_kills > 0) return false;
    return true;
}
