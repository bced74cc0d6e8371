/* tenant.h - who asks, as workers see it: names made of the API key that say nothing about it.
 * Threads: pure. */
#ifndef VLM_GATEWAY_TENANT_H
#define VLM_GATEWAY_TENANT_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/keys.h"

/* Empty texts: without keys everybody is one. */
typedef struct vlm_tenant_names {
    char tenant[2 * 16 + 1];                 /* whose turn it is */
    char cache_salt[2 * VLM_SHA256_LEN + 1]; /* whose cached prompts are seen */
} vlm_tenant_names;

/* key: index into keys or -1.  shared: everybody sees everybody's cached prompts. */
void vlm_tenant_names_of(const vlm_keys *keys, int key, bool shared, vlm_tenant_names *out);

#endif
