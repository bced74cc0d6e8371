#include "engine/fair.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct vlm_tenant {
    char name[VLM_TENANT_LEN_MAX];
    size_t len;
    vlm_fair_item *first, *last; /* that wait */
    uint32_t n_items, n_running; /* n_items 0: it is away, but not forgotten */
    uint64_t spent;              /* rows */
};

struct vlm_fair {
    uint32_t n_max, n_items, n_waiting;
    vlm_tenant *tenants;    /* [n_max] */
    uint32_t n_tenants;     /* places used so far */
    uint64_t spent_by_last; /* of the last who went when nobody stayed */
};

vlm_status vlm_fair_new(uint32_t n_max, vlm_fair **out, vlm_error *err)
{
    *out = NULL;
    vlm_fair *f = calloc(1, sizeof *f);
    if (f == NULL) return vlm_fail_memory(err, "queue");
    f->n_max = n_max;
    f->tenants = vlm_calloc(n_max, sizeof *f->tenants);
    if (f->tenants == NULL) {
        free(f);
        return vlm_fail_memory(err, "queue");
    }
    *out = f;
    return VLM_OK;
}

void vlm_fair_free(vlm_fair *f)
{
    if (f == NULL) return;
    free(f->tenants);
    free(f);
}

/* Where one begins who comes now: at the least that anybody present has been served. */
static uint64_t beginning(const vlm_fair *f)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < f->n_tenants; i++) {
        const vlm_tenant *t = &f->tenants[i];
        if (t->n_items > 0 && t->spent < least) least = t->spent;
    }
    return least == UINT64_MAX ? f->spent_by_last : least;
}

/* A place for a tenant who is not known: a new one, else that of who is away and was served least,
 * which is forgotten soonest without harm. */
static vlm_tenant *free_place(vlm_fair *f)
{
    if (f->n_tenants < f->n_max) return &f->tenants[f->n_tenants++];
    vlm_tenant *best = NULL;
    for (uint32_t i = 0; i < f->n_tenants; i++) {
        vlm_tenant *t = &f->tenants[i];
        if (t->n_items == 0 && (best == NULL || t->spent < best->spent)) best = t;
    }
    return best; /* there are never more tenants than items */
}

static vlm_tenant *find_tenant(vlm_fair *f, vlm_bytes name)
{
    if (name.len > VLM_TENANT_LEN_MAX) name.len = VLM_TENANT_LEN_MAX;
    vlm_tenant *t = NULL;
    for (uint32_t i = 0; i < f->n_tenants && t == NULL; i++) {
        vlm_tenant *known = &f->tenants[i];
        if (known->len == name.len &&
            (name.len == 0 || memcmp(known->name, name.ptr, name.len) == 0))
            t = known;
    }
    const uint64_t least = beginning(f);
    if (t == NULL) {
        t = free_place(f);
        *t = (vlm_tenant){.len = name.len};
        if (name.len > 0) memcpy(t->name, name.ptr, name.len);
    }
    if (t->n_items == 0 && t->spent < least) t->spent = least;
    return t;
}

bool vlm_fair_add(vlm_fair *f, vlm_fair_item *item, vlm_bytes tenant)
{
    if (f->n_items == f->n_max) return false;
    vlm_tenant *t = find_tenant(f, tenant);
    *item = (vlm_fair_item){.prev = t->last, .tenant = t, .waits = true};
    if (t->last == NULL)
        t->first = item;
    else
        t->last->next = item;
    t->last = item;
    t->n_items++;
    f->n_items++;
    f->n_waiting++;
    return true;
}

vlm_fair_item *vlm_fair_next(const vlm_fair *f, uint32_t n_each)
{
    const vlm_tenant *best = NULL;
    for (uint32_t i = 0; i < f->n_tenants; i++) {
        const vlm_tenant *t = &f->tenants[i];
        if (t->first == NULL || (t->len > 0 && t->n_running >= n_each)) continue;
        if (best == NULL || t->spent < best->spent) best = t;
    }
    return best == NULL ? NULL : best->first;
}

static void leave_line(vlm_fair *f, vlm_fair_item *item)
{
    vlm_tenant *t = item->tenant;
    if (item->prev == NULL)
        t->first = item->next;
    else
        item->prev->next = item->next;
    if (item->next == NULL)
        t->last = item->prev;
    else
        item->next->prev = item->prev;
    item->prev = item->next = NULL;
    item->waits = false;
    f->n_waiting--;
}

void vlm_fair_start(vlm_fair *f, vlm_fair_item *item)
{
    assert(item->waits);
    leave_line(f, item);
    item->tenant->n_running++;
}

void vlm_fair_remove(vlm_fair *f, vlm_fair_item *item)
{
    vlm_tenant *t = item->tenant;
    if (item->waits)
        leave_line(f, item);
    else
        t->n_running--;
    t->n_items--;
    f->n_items--;
    if (f->n_items == 0) f->spent_by_last = t->spent;
    item->tenant = NULL;
}

void vlm_fair_spend(vlm_fair_item *item, uint32_t n_rows)
{
    item->tenant->spent += n_rows;
}

uint64_t vlm_fair_spent(const vlm_fair_item *item)
{
    return item->tenant->spent;
}

uint32_t vlm_fair_n_waiting(const vlm_fair *f)
{
    return f->n_waiting;
}

vlm_fair_item *vlm_fair_each(const vlm_fair *f, vlm_fair_item *item)
{
    if (item != NULL && item->next != NULL) return item->next;
    const vlm_tenant *t = item == NULL ? f->tenants : item->tenant + 1;
    for (; t < f->tenants + f->n_tenants; t++)
        if (t->first != NULL) return t->first;
    return NULL;
}
