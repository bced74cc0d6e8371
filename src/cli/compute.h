/* compute.h - how the command-line options choose weights, device and threads.  Threads: one. */
#ifndef VLM_CLI_COMPUTE_H
#define VLM_CLI_COMPUTE_H

#include "cli/options.h"
#include "engine/engine.h"

/* From --dtype, --ctx, --threads and --cpu-level. */
vlm_engine_options vlm_cli_engine_options(const vlm_options *opt);

/* MODEL is mock. */
bool vlm_cli_is_mock(const vlm_options *opt);

/* The engine of the MODEL argument, the mock for "mock".  *folder is what it reads, NULL for the
 * mock; close the engine first.  Every status, file named. */
VLM_MUST_USE vlm_status vlm_cli_open_engine(const vlm_options *opt, vlm_folder **folder,
                                            vlm_engine **engine, vlm_error *err);

/* What has been opened since start_ns; a warning when the memory holds less than a context. */
void vlm_cli_log_ready(const vlm_engine *engine, uint64_t start_ns);

#endif
