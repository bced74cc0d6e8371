/* cmd.h - what a command is, and what all of them share: how they fail and how they write.
 * A command prints its result to stdout, everything else to stderr, and returns its exit code;
 * main.c alone exits.  Threads: the main thread. */
#ifndef VLM_CLI_CMD_H
#define VLM_CLI_CMD_H

#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "cli/options.h"

/* INTERRUPTED is 128 + SIGINT, as shells say it: an answer that Ctrl-C cut short. */
enum { VLM_EXIT_DONE = 0, VLM_EXIT_FAILED = 1, VLM_EXIT_USAGE = 2, VLM_EXIT_INTERRUPTED = 130 };

/* Returns VLM_EXIT_*. */
typedef int vlm_cmd_fn(const vlm_options *opt);

vlm_cmd_fn vlm_cmd_run, vlm_cmd_serve, vlm_cmd_gateway, vlm_cmd_worker, vlm_cmd_trace,
    vlm_cmd_tokenize, vlm_cmd_template, vlm_cmd_quantize, vlm_cmd_inspect, vlm_cmd_bench,
    vlm_cmd_doctor, vlm_cmd_pull, vlm_cmd_completion;

/* Print the error as one line to stderr ("vlmd: ...", or JSON with --log-format json); returns
 * VLM_EXIT_FAILED, so that a command can end with `return vlm_cli_fail(&err)`. */
int vlm_cli_fail(const vlm_error *err);

/* Write to stdout, unbuffered.  The only way commands write there: a closed pipe or a full disk is
 * an error, never lost text. */
VLM_MUST_USE vlm_status vlm_cli_write(const void *data, size_t len, vlm_error *err);

#endif
