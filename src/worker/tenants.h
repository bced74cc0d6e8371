/* tenants.h - how many of a worker's places each tenant holds, and whether it may have one more.
 * Not: who goes next (engine/fair.h), nor what a tenant is: any name that the caller gives.
 * Ownership: a place is given back once.  Threads: one at a time. */
#ifndef VLM_WORKER_TENANTS_H
#define VLM_WORKER_TENANTS_H

#include <stddef.h>

#include "base/buf.h"
#include "base/idmap.h"
#include "base/status.h"

typedef struct vlm_tenant_places vlm_tenant_places; /* those of one tenant */

/* {0} holds nobody. */
typedef struct vlm_tenants {
    vlm_idmap by_name; /* only who holds a place */
} vlm_tenants;

void vlm_tenants_fini(vlm_tenants *t);

/* A place for the tenant while n_taken of n_max are taken, by whomever; *out is to be given back.
 * An empty name is bound by n_max alone and gets NULL.  RESOURCE_EXHAUSTED when the tenant holds
 * its share already (vlm_share_may_take), all are taken, or memory is short. */
VLM_MUST_USE vlm_status vlm_tenants_take(vlm_tenants *t, vlm_bytes name, size_t n_taken,
                                         size_t n_max, vlm_tenant_places **out, vlm_error *err);
/* NULL is legal. */
void vlm_tenants_give_back(vlm_tenants *t, vlm_tenant_places *places);

#endif
