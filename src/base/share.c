#include "base/share.h"

enum { SHARE = 4 };

bool vlm_share_may_take(size_t n_own, size_t n_taken, size_t n_max)
{
    /* Divided instead of multiplied: no number is too large. */
    return n_taken < n_max && n_own / SHARE < n_max - n_taken;
}
