/* lanes.h - the tree in which 8 partial sums are added (kernels.h, "by lanes").
 * Not: part of any interface; for the kernel files.  Threads: pure. */
#ifndef VLM_TENSOR_CPU_LANES_H
#define VLM_TENSOR_CPU_LANES_H

enum { VLM_LANES = 8 };

static inline float vlm_sum_lanes(const float s[VLM_LANES])
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

#endif
