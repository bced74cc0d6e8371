/* progress.h - one line on a terminal that says how far a long piece of work is: a bar, the rate,
 * the time left.  Nothing is written in the first half second, more than ten times a second, or
 * when stderr is no terminal.
 * Not: a log.  Threads: one. */
#ifndef VLM_CLI_PROGRESS_H
#define VLM_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum vlm_progress_unit { VLM_PROGRESS_BYTES, VLM_PROGRESS_ITEMS } vlm_progress_unit;

typedef struct vlm_progress {
    const char *what; /* "prompt", "picture" */
    const char *item; /* of ITEMS: "tokens", or "" when what says it; not read for BYTES */
    vlm_progress_unit unit;
    bool on_terminal, shown;
    uint64_t start_ns, last_ns, first_done;
} vlm_progress;

/* The texts must outlive p. */
void vlm_progress_start(vlm_progress *p, const char *what, vlm_progress_unit unit,
                        const char *item);
/* n_done of n_total bytes or items; n_total > 0.  The clock starts at the first call. */
void vlm_progress_update(vlm_progress *p, uint64_t n_done, uint64_t n_total);
/* Take the line away; legal at any time, also twice. */
void vlm_progress_clear(vlm_progress *p);

/* Columns of the terminal that stderr is, 80 when it is none or does not say. */
int vlm_progress_columns(void);

/* The line for n_done of n_total after seconds of work, that began at first_done, in at most
 * columns - 1 bytes: what vlm_progress_update prints.  out [columns]. */
void vlm_progress_line(const vlm_progress *p, uint64_t n_done, uint64_t n_total, double seconds,
                       char *out, int columns);

#endif
