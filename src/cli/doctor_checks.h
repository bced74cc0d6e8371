/* doctor_checks.h - what of this machine decides whether models run and how fast, one finding each.
 * Not: downloads.  Threads: one; measuring uses all CPUs for a
 * moment. */
#ifndef VLM_CLI_DOCTOR_CHECKS_H
#define VLM_CLI_DOCTOR_CHECKS_H

#include <stddef.h>

#include "cli/doctor_speed.h"

typedef enum vlm_finding_level {
    VLM_FINDING_OK,
    VLM_FINDING_WARNING,
    VLM_FINDING_FAILURE
} vlm_finding_level;

typedef struct vlm_finding {
    const char *name;
    vlm_finding_level level;
    char text[240];   /* what was found */
    char remedy[240]; /* what to do about it; empty: nothing */
} vlm_finding;

enum { VLM_FINDINGS_MAX = 48 };

/* Findings in the order in which they are told.  Who finds nothing to say, since the system does
 * not tell, adds none. */
typedef struct vlm_findings {
    vlm_finding items[VLM_FINDINGS_MAX];
    size_t n;
} vlm_findings;

/* Add one; texts that are too long are cut.  A remedy makes it a warning, "" none. */
void vlm_findings_add(vlm_findings *list, const char *name, const char *remedy, const char *format,
                      ...) __attribute__((format(printf, 4, 5)));

/* All findings of this machine but those of models (doctor_models.h), which follow from the bytes
 * that are available and the speeds that were measured. */
void vlm_doctor_check(vlm_findings *out, size_t *available, vlm_speed *speed);

#endif
