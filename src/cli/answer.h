/* answer.h - one answer on the terminal: submit, step, print as it comes, stop on Ctrl-C.
 * Threads: the main thread. */
#ifndef VLM_CLI_ANSWER_H
#define VLM_CLI_ANSWER_H

#include <stdbool.h>

#include "cli/options.h"
#include "engine/engine.h"

/* Sampling from the options, with the model's own recommendation where none was given. */
vlm_sampling vlm_cli_sampling(const vlm_options *opt, const vlm_engine_info *info);

/* Fill the parts of a request that options decide; stop [VLM_OPTION_LIST_MAX] must live as long as
 * the request. */
void vlm_cli_fill_request(vlm_request *request, const vlm_options *opt, const vlm_engine_info *info,
                          vlm_bytes *stop);

/* Catch Ctrl-C from now on: it stops an answer, not the program. */
void vlm_cli_catch_interrupt(void);
/* True once after each Ctrl-C. */
bool vlm_cli_interrupted(void);

/* Answer on stdout.  The text is appended to *text too, unless that is NULL; *cancelled tells a
 * Ctrl-C.  With timings, one line of figures goes to stderr.  Every status. */
VLM_MUST_USE vlm_status vlm_cli_answer(vlm_engine *engine, const vlm_request *request, bool timings,
                                       vlm_buf *text, bool *cancelled, vlm_error *err);

#endif
