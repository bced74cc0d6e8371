/* clock.h - monotonic time.  Threads: pure. */
#ifndef VLM_BASE_CLOCK_H
#define VLM_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds since an arbitrary start; never goes back. */
uint64_t vlm_clock_ns(void);

/* Seconds between two readings of vlm_clock_ns. */
double vlm_clock_seconds(uint64_t start_ns, uint64_t end_ns);

#endif
