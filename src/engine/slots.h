/* slots.h - a fixed number of places with counted holders, found again by what is in them: the
 * blocks of the key/value cache (prefix cache) and the features of pictures (encoder cache).
 * A place that nobody holds keeps what it has, and its key, until it is the one that was let go the
 * longest time ago and a place is needed.
 * Not: the memory of the places.  Nothing here allocates after new.
 * Threads: one at a time. */
#ifndef VLM_ENGINE_SLOTS_H
#define VLM_ENGINE_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* SHA-256 of all that decides what is in a place: two equal keys are equal contents. */
typedef struct vlm_slot_key {
    uint8_t bytes[32];
} vlm_slot_key;

typedef struct vlm_slots vlm_slots;

#define VLM_SLOT_NONE UINT32_MAX /* no place */

/* n places, 1..2^30.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_slots_new(uint32_t n, vlm_slots **out, vlm_error *err);
void vlm_slots_free(vlm_slots *s); /* NULL is legal */

/* A place that holds nothing, with one holder.  False when all are held. */
VLM_MUST_USE bool vlm_slots_take(vlm_slots *s, uint32_t *slot);
/* The place with this key, with one holder more. */
VLM_MUST_USE bool vlm_slots_find(vlm_slots *s, const vlm_slot_key *key, uint32_t *slot);
/* Whether there is one. */
bool vlm_slots_has(const vlm_slots *s, const vlm_slot_key *key);
/* What is in a held place is complete and can be found from now on.  False when the key is known
 * already: the place stays without one. */
bool vlm_slots_publish(vlm_slots *s, uint32_t slot, const vlm_slot_key *key);

void vlm_slots_ref(vlm_slots *s, uint32_t slot);
void vlm_slots_drop(vlm_slots *s, uint32_t slot);
/* More than one holder: it must not be written. */
bool vlm_slots_is_shared(const vlm_slots *s, uint32_t slot);

uint32_t vlm_slots_n(const vlm_slots *s);
uint32_t vlm_slots_n_free(const vlm_slots *s); /* that take can give */
uint32_t vlm_slots_n_held(const vlm_slots *s);
uint64_t vlm_slots_n_refs(const vlm_slots *s); /* holders of all places together */

/* For tests and debug builds: every list, count and key is as it should be. */
void vlm_slots_check(const vlm_slots *s);

#endif
