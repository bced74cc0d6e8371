/* compute.h - how the command-line options choose weights, device and threads.  Threads: one. */
#ifndef VLM_CLI_COMPUTE_H
#define VLM_CLI_COMPUTE_H

#include "cli/options.h"
#include "cli/progress.h"
#include "engine/engine.h"

/* From --dtype, --vision-dtype, --ctx, --threads and --cpu-level. */
vlm_engine_options vlm_cli_engine_options(const vlm_options *opt);

/* The first MODEL; NULL: none was given. */
const char *vlm_cli_model_arg(const vlm_options *opt);
/* MODEL is mock. */
bool vlm_cli_is_mock(const char *arg);
/* The least --memory with which a worker of this MODEL can be started.  As vlm_cli_open_engine. */
VLM_MUST_USE vlm_status vlm_cli_memory_need(const vlm_options *opt, const char *arg,
                                            size_t *n_bytes, vlm_error *err);

/* The engine of the MODEL argument, the mock for "mock".  *folder is what it reads, NULL for the
 * mock; close the engine first.  Every status, file named. */
VLM_MUST_USE vlm_status vlm_cli_open_engine(const vlm_options *opt, vlm_folder **folder,
                                            vlm_engine **engine, vlm_error *err);

/* A line on the terminal, and in the log every ten seconds, while weights are packed.  Set up what
 * vlm_engine_options.load_progress and load_user take; end it after opening. */
typedef struct vlm_load_progress {
    vlm_progress line;
    uint64_t start_ns, logged_ns;
} vlm_load_progress;
void vlm_load_progress_start(vlm_load_progress *p);
void vlm_load_progress_update(void *p, uint64_t n_done, uint64_t n_total);
void vlm_load_progress_end(vlm_load_progress *p);

/* What has been opened since start_ns; a warning when the memory holds less than a context. */
void vlm_cli_log_ready(const vlm_engine *engine, uint64_t start_ns);

#endif
