/* sandbox.h - takes everything from this process but one descriptor, its memory and its exit.
 * Not: namespaces or a change of user; a process that may make no system call needs neither.
 * Threads: a process with one thread, which stays in the sandbox for good. */
#ifndef VLM_WORKER_SANDBOX_H
#define VLM_WORKER_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { VLM_SANDBOX_FD = 3 };

typedef struct vlm_sandbox_limits {
    size_t memory_max;        /* bytes of address space beyond what is mapped now */
    uint32_t cpu_seconds_max; /* of the process; the kernel ends it then */
} vlm_sandbox_limits;

/* Whether this build keeps the whole promise.  False under a sanitizer, whose runtime maps what it
 * likes and reads /proc: there memory is not limited, and only the system calls that reach files,
 * other processes or the network are forbidden. */
bool vlm_sandbox_is_strict(void);

/* Afterwards: fd is VLM_SANDBOX_FD, to be read and written; 0, 1 and 2 are /dev/null; all other
 * descriptors are closed; memory can be taken up to the limit, none of it executable; no core, no
 * ptrace by others of the same user; first to go when the machine runs out of memory.  Any other
 * system call kills the process.
 * FAILED_PRECONDITION, half way in, when the system lacks a part of it. */
VLM_MUST_USE vlm_status vlm_sandbox_enter(const vlm_sandbox_limits *limits, int fd, vlm_error *err);

/* Close every descriptor from first on. */
void vlm_sandbox_close_from(int first);

#endif
