#define VLM_PACK_LEVEL vlm_cpu_fill_pack_reference
#include "tensor/cpu/pack_lanes.h"

/* Least squared error over blocks of 32 that are normally distributed, or have the heavier tails of
 * Student's t (10 degrees of freedom): 15% below evenly spaced levels with the largest value at the
 * end. */
const uint8_t vlm_q4_levels[16] = {4, 20, 30, 38, 44, 50, 55, 60, 65, 70, 75, 80, 86, 93, 101, 111};
