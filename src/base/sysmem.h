/* sysmem.h - how much memory this process may still take.  Threads: any. */
#ifndef VLM_BASE_SYSMEM_H
#define VLM_BASE_SYSMEM_H

#include <stddef.h>

/* Bytes: the least of what the machine can give without swapping (MemAvailable), what its control
 * group leaves (cgroup v2, memory.max) and what RLIMIT_AS leaves.  0 when nothing can be known. */
size_t vlm_memory_available(void);

#endif
