#include "gateway/tenant.h"

#include <stdint.h>

static void hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

/* The hash of a hash of the key, different for each use: from none of them the key, or another of
 * them, can be found. */
static void name_of(const vlm_keys *keys, int key, const char *use, uint8_t out[VLM_SHA256_LEN])
{
    const vlm_bytes parts[] = {vlm_bytes_of(use),
                               {.ptr = (const char *)keys->digests[key], .len = VLM_SHA256_LEN}};
    vlm_sha256_parts(parts, 2, out);
}

void vlm_tenant_names_of(const vlm_keys *keys, int key, bool shared, vlm_tenant_names *out)
{
    uint8_t digest[VLM_SHA256_LEN];
    *out = (vlm_tenant_names){.tenant = ""};
    if (key < 0 || (size_t)key >= keys->n) return;
    name_of(keys, key, "vlmd tenant", digest);
    hex(digest, (sizeof out->tenant - 1) / 2, out->tenant);
    if (shared) return;
    name_of(keys, key, "vlmd cache", digest);
    hex(digest, sizeof digest, out->cache_salt);
}
