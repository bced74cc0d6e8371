/* env.h - what the environment says of the Hub, in the variables of huggingface_hub.
 * HF_ENDPOINT (https://huggingface.co); HF_TOKEN, else the file HF_TOKEN_PATH, else HF_HOME/token,
 * else ~/.cache/huggingface/token; HF_HUB_OFFLINE.
 * Threads: reads the environment. */
#ifndef VLM_HUB_ENV_H
#define VLM_HUB_ENV_H

#include <stdbool.h>

#include "base/status.h"

enum { VLM_HUB_ENDPOINT_LEN_MAX = 500, VLM_HUB_TOKEN_LEN_MAX = 500 };

typedef struct vlm_hub_env {
    char endpoint[VLM_HUB_ENDPOINT_LEN_MAX + 1]; /* without a slash at the end */
    char token[VLM_HUB_TOKEN_LEN_MAX + 1];       /* "": none */
    bool is_offline;
} vlm_hub_env;

/* INVALID_ARGUMENT for an endpoint that is no http or https URL, or a token with other characters
 * than visible ASCII. */
VLM_MUST_USE vlm_status vlm_hub_env_read(vlm_hub_env *out, vlm_error *err);

#endif
