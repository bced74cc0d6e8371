#if defined(__aarch64__)
#define VLM_PACK_LEVEL vlm_cpu_fill_pack_neon
#include "tensor/cpu/pack_lanes.h"
#else
typedef int vlm_pack_neon;
#endif
