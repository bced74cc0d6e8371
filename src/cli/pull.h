/* pull.h - downloading a model with its progress on stderr: two bars on a terminal, for the file in
 * hand and for all; otherwise a line for each file, and one every ten seconds.
 * Threads: one. */
#ifndef VLM_CLI_PULL_H
#define VLM_CLI_PULL_H

#include "base/buf.h"
#include "base/status.h"

/* As vlm_hub_pull. */
VLM_MUST_USE vlm_status vlm_cli_pull(const char *id, vlm_buf *path, vlm_error *err);

#endif
