#if defined(__AVX2__)
#define VLM_PACK_LEVEL vlm_cpu_fill_pack_avx2
#include "tensor/cpu/pack_lanes.h"
#else
typedef int vlm_pack_avx2;
#endif
