/* model_arg.h - the MODEL argument of a command: a folder, a hub id, or "demo".  Threads: one. */
#ifndef VLM_CLI_MODEL_ARG_H
#define VLM_CLI_MODEL_ARG_H

#include "model/folder.h"

/* arg NULL stands for "demo", the model inside the program.  A folder of that name wins.  A hub id
 * that is not in the cache is downloaded, with its progress on stderr.
 * NOT_FOUND or INVALID_ARGUMENT says what the argument is not. */
VLM_MUST_USE vlm_status vlm_model_arg_open(const char *arg, vlm_folder **out, vlm_error *err);

enum { VLM_MODEL_NAME_LEN_MAX = 255 };

/* What clients call the model: given (--model-name), or where that is NULL the argument, of a
 * folder the last part of its path.  INVALID_ARGUMENT when that is no name. */
VLM_MUST_USE vlm_status vlm_model_arg_name(const char *arg, const char *given,
                                           char out[VLM_MODEL_NAME_LEN_MAX + 1], vlm_error *err);

#endif
