/* compute.h - how the command-line options choose weights, device and threads.  Threads: one. */
#ifndef VLM_CLI_COMPUTE_H
#define VLM_CLI_COMPUTE_H

#include "cli/options.h"
#include "engine/engine.h"

/* From --dtype, --ctx, --threads and --cpu-level. */
vlm_engine_options vlm_cli_engine_options(const vlm_options *opt);

#endif
