/* share.h - how many of the places that all share one may hold.  Threads: pure. */
#ifndef VLM_BASE_SHARE_H
#define VLM_BASE_SHARE_H

#include <stdbool.h>
#include <stddef.h>

/* Whether one who holds n_own of the n_taken places of n_max may take another.  At most four times
 * what is free: alone four fifths of all, and whoever comes finds room (dynamic thresholds,
 * Choudhury and Hahne, 1998). */
bool vlm_share_may_take(size_t n_own, size_t n_taken, size_t n_max);

#endif
