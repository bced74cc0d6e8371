/* fair.h - whose turn it is: requests wait in one line per tenant, and the tenant that has been
 * served least goes next.
 * Source: the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models",
 * OSDI 2024: a tenant's counter grows by the rows computed for it; one that comes back after it had
 * nothing to do starts no lower than the least of the others', or than the last who left when
 * nobody is there, so that no share is saved up, nor a debt made of what an idle machine has done.
 * Not: what a request is.  Nothing here allocates after new.
 * Ownership: the items are the caller's.  Threads: one at a time. */
#ifndef VLM_ENGINE_FAIR_H
#define VLM_ENGINE_FAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum { VLM_TENANT_LEN_MAX = 256 };

typedef struct vlm_tenant vlm_tenant;

/* Part of the thing that waits. */
typedef struct vlm_fair_item {
    struct vlm_fair_item *prev, *next;
    vlm_tenant *tenant;
    bool waits;
} vlm_fair_item;

typedef struct vlm_fair vlm_fair;

/* For at most n_max items that wait or run.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_fair_new(uint32_t n_max, vlm_fair **out, vlm_error *err);
void vlm_fair_free(vlm_fair *f); /* NULL is legal */

/* At the end of its tenant's line.  False when n_max are there. */
VLM_MUST_USE bool vlm_fair_add(vlm_fair *f, vlm_fair_item *item, vlm_bytes tenant);
/* Who goes next, still waiting; NULL: nobody may.  A tenant with a name may run at most n_each. */
vlm_fair_item *vlm_fair_next(const vlm_fair *f, uint32_t n_each);
/* It waits no more, but runs. */
void vlm_fair_start(vlm_fair *f, vlm_fair_item *item);
/* It is gone, waiting or running. */
void vlm_fair_remove(vlm_fair *f, vlm_fair_item *item);

/* Rows computed for it. */
void vlm_fair_spend(vlm_fair_item *item, uint32_t n_rows);
/* Least first. */
uint64_t vlm_fair_spent(const vlm_fair_item *item);

uint32_t vlm_fair_n_waiting(const vlm_fair *f);
/* The items that wait, tenant by tenant: from NULL on, NULL at the end. */
vlm_fair_item *vlm_fair_each(const vlm_fair *f, vlm_fair_item *item);

#endif
