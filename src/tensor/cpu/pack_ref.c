#define VLM_PACK_LEVEL vlm_cpu_fill_pack_reference
#include "tensor/cpu/pack_lanes.h"

const uint8_t vlm_q4_levels[16] = {0, 12, 22, 31, 39, 46, 53, 59, 64, 70, 76, 83, 90, 98, 108, 120};
