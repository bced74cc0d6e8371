/* systext.h - what the small text files of /proc and /sys say: lists of CPUs, times, quotas.
 * Any bytes may stand in them: what cannot be read is refused, nothing is guessed.
 * Not: where the files lie, nor reading them (cli/doctor_system.c).  Threads: pure. */
#ifndef VLM_BASE_SYSTEXT_H
#define VLM_BASE_SYSTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set of CPUs, or of NUMA nodes; those from VLM_CPU_IDS_MAX on are left out. */
enum { VLM_CPU_IDS_MAX = 4096 };
typedef struct vlm_cpu_ids {
    uint64_t bits[VLM_CPU_IDS_MAX / 64];
} vlm_cpu_ids;

void vlm_cpu_ids_add(vlm_cpu_ids *ids, uint32_t id);
bool vlm_cpu_ids_has(const vlm_cpu_ids *ids, uint32_t id);
uint32_t vlm_cpu_ids_count(const vlm_cpu_ids *ids);
/* The first of ids from `from` on, VLM_CPU_IDS_MAX when there is none. */
uint32_t vlm_cpu_ids_next(const vlm_cpu_ids *ids, uint32_t from);
/* Those in both. */
vlm_cpu_ids vlm_cpu_ids_and(const vlm_cpu_ids *a, const vlm_cpu_ids *b);

/* "0-3,8,10-11", nothing for no CPU.  False for anything else. */
bool vlm_systext_cpu_list(const char *text, vlm_cpu_ids *out);

/* The whole number that the text begins with after spaces; false when there is none, it is negative
 * or does not fit. */
bool vlm_systext_number(const char *text, uint64_t *out);

/* The number on the line that begins with name ("SwapFree:"); false when no line does. */
bool vlm_systext_field(const char *text, const char *name, uint64_t *out);

/* The word in brackets of "always [madvise] never", cut to len - 1 bytes; false when there is none
 * (out is then empty). */
bool vlm_systext_chosen(const char *text, char *out, size_t len);

/* CPUs that a control group may use at a time: cpu.max of version 2, or cpu.cfs_quota_us and
 * cpu.cfs_period_us of version 1.  False when there is no limit. */
bool vlm_systext_quota_v2(const char *text, double *n_cpus);
bool vlm_systext_quota_v1(const char *quota, const char *period, double *n_cpus);

/* The path of our group in /proc/self/cgroup: of the hierarchy with that controller (version 1),
 * or of version 2 when controller is "".  False when there is none or it does not fit. */
bool vlm_systext_cgroup_path(const char *text, const char *controller, char *out, size_t len);

/* The load of the last minute in /proc/loadavg. */
bool vlm_systext_load(const char *text, double *out);

/* Ticks of the CPUs of a set since the start of the machine, from /proc/stat. */
typedef struct vlm_cpu_ticks {
    uint64_t busy;  /* user, nice, system, irq, softirq */
    uint64_t steal; /* wanted, but given to another machine by the hypervisor */
    uint64_t total; /* these two, idle and iowait */
} vlm_cpu_ticks;
/* False when it has no line for any of them. */
bool vlm_systext_ticks(const char *text, const vlm_cpu_ids *cpus, vlm_cpu_ticks *out);

#endif
