/* doctor_system.h - what the system says that slows models: findings from /proc and /sys.
 * A file that is absent or says something unknown makes no finding.
 * Not: anything measured but the ticks of /proc/stat.  Threads: one.
 *
 * root stands before every path: "" on a machine, a folder of such files in a test. */
#ifndef VLM_CLI_DOCTOR_SYSTEM_H
#define VLM_CLI_DOCTOR_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/systext.h"
#include "cli/doctor_checks.h"

typedef struct vlm_doctor_place {
    const char *root;
    vlm_cpu_ids cpus; /* those this process may run on */
} vlm_doctor_place;

/* This machine and the affinity mask of the calling thread. */
vlm_doctor_place vlm_doctor_here(void);

/* The first len - 1 bytes of a file below root, whose path is printed from format, as a text. False
 * when it cannot be read. */
bool vlm_doctor_read(const vlm_doctor_place *place, char *out, size_t len, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* What does not change while the program runs: affinity, quota, cores, nodes, governors. */
void vlm_doctor_cpus(const vlm_doctor_place *place, vlm_findings *out);
/* Limits of memory, huge pages, swap.  Bytes: what a large model wants, and what ulimit -v leaves
 * the process (INFINITY: no limit). */
void vlm_doctor_memory(const vlm_doctor_place *place, double wanted, double address_space,
                       vlm_findings *out);

/* Who else used the CPUs between start and stop. */
typedef struct vlm_doctor_watch {
    bool started;
    vlm_cpu_ticks ticks;
    double own_s; /* CPU time of this process */
} vlm_doctor_watch;
void vlm_doctor_watch_start(const vlm_doctor_place *place, vlm_doctor_watch *watch);
/* Returns whether others took so much that what was measured meanwhile is too low. */
bool vlm_doctor_watch_stop(const vlm_doctor_place *place, const vlm_doctor_watch *watch,
                           vlm_findings *out);

#endif
