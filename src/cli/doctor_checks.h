/* doctor_checks.h - what of this machine decides whether models run and how fast, one finding each.
 * Not: devices other than the CPU, nor downloads.  Threads: one; measuring uses all CPUs for a
 * moment. */
#ifndef VLM_CLI_DOCTOR_CHECKS_H
#define VLM_CLI_DOCTOR_CHECKS_H

#include <stddef.h>

typedef enum vlm_finding_level {
    VLM_FINDING_OK,
    VLM_FINDING_WARNING,
    VLM_FINDING_FAILURE
} vlm_finding_level;

typedef struct vlm_finding {
    const char *name;
    vlm_finding_level level;
    char text[200];   /* what was found */
    char remedy[200]; /* what to do about it; empty: nothing */
} vlm_finding;

enum { VLM_FINDINGS_MAX = 16 };

/* All findings, in the order in which they are told; returns how many. */
size_t vlm_doctor_check(vlm_finding findings[VLM_FINDINGS_MAX]);

#endif
