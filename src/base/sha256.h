/* sha256.h - SHA-256 (FIPS 180-4).  Threads: pure. */
#ifndef VLM_BASE_SHA256_H
#define VLM_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum { VLM_SHA256_LEN = 32 };

void vlm_sha256(const void *data, size_t len, uint8_t out[VLM_SHA256_LEN]);
/* Of parts [n] end to end. */
void vlm_sha256_parts(const vlm_bytes *parts, size_t n, uint8_t out[VLM_SHA256_LEN]);

#endif
