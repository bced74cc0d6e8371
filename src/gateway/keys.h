/* keys.h - API keys of a file, one a line; compared without telling by the time how much of one was
 * right.
 * Threads: one. */
#ifndef VLM_GATEWAY_KEYS_H
#define VLM_GATEWAY_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/sha256.h"
#include "base/status.h"

typedef struct vlm_keys {
    uint8_t (*digests)[VLM_SHA256_LEN];
    size_t n;
} vlm_keys;

/* Read the file into *keys, which keeps what it had on failure.  Empty lines and lines that begin
 * with # do not count.  INVALID_ARGUMENT when there is no key in it, or what vlm_file_read says. */
VLM_MUST_USE vlm_status vlm_keys_read(vlm_keys *keys, const char *path, vlm_error *err);
void vlm_keys_fini(vlm_keys *keys);

/* The index of the key, or -1. */
int vlm_keys_find(const vlm_keys *keys, vlm_bytes key);

#endif
