#include "worker/tenants.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "base/share.h"

struct vlm_tenant_places {
    uint64_t id;
    size_t n;
};

/* Nobody can look for two names that share a number. */
static uint64_t id_of(vlm_bytes name)
{
    uint8_t digest[VLM_SHA256_LEN];
    uint64_t id;
    vlm_sha256(name.ptr, name.len, digest);
    memcpy(&id, digest, sizeof id);
    return id;
}

void vlm_tenants_fini(vlm_tenants *t)
{
    for (size_t i = 0; i < t->by_name.cap; i++) free(t->by_name.slots[i].value);
    vlm_idmap_fini(&t->by_name);
}

vlm_status vlm_tenants_take(vlm_tenants *t, vlm_bytes name, size_t n_taken, size_t n_max,
                            vlm_tenant_places **out, vlm_error *err)
{
    *out = NULL;
    if (n_taken >= n_max) return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "the queue is full");
    if (name.len == 0) return VLM_OK;
    const uint64_t id = id_of(name);
    vlm_tenant_places *p = vlm_idmap_find(&t->by_name, id);
    if (!vlm_share_may_take(p == NULL ? 0 : p->n, n_taken, n_max))
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED,
                        "the tenant has as many requests here as it may while others find room");
    if (p == NULL) {
        p = calloc(1, sizeof *p);
        if (p == NULL) return vlm_fail_memory(err, "tenant");
        p->id = id;
        const vlm_status status = vlm_idmap_add(&t->by_name, id, p, err);
        if (status != VLM_OK) {
            free(p);
            return status;
        }
    }
    p->n++;
    *out = p;
    return VLM_OK;
}

void vlm_tenants_give_back(vlm_tenants *t, vlm_tenant_places *places)
{
    if (places == NULL || --places->n > 0) return;
    (void)vlm_idmap_remove(&t->by_name, places->id);
    free(places);
}
