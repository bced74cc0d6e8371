/* digest.h - what a file on the Hub is known by: the SHA-256 of a large one, the id as a git blob
 * of a small one, SHA-1 of "blob LENGTH\0" and its bytes. Threads: one at a time. */
#ifndef VLM_HUB_DIGEST_H
#define VLM_HUB_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VLM_HUB_DIGEST_LEN_MAX = 64 }; /* hexadecimal digits */

typedef struct vlm_hub_digest vlm_hub_digest;

/* is_sha256 or a git blob of size bytes.  NULL when out of memory. */
vlm_hub_digest *vlm_hub_digest_new(bool is_sha256, uint64_t size);
void vlm_hub_digest_free(vlm_hub_digest *d);
void vlm_hub_digest_add(vlm_hub_digest *d, const void *data, size_t len);
/* The digits of all that was added; d is of no more use but to be freed. */
void vlm_hub_digest_end(vlm_hub_digest *d, char out[VLM_HUB_DIGEST_LEN_MAX + 1]);

#endif
