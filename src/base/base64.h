/* base64.h - base64 as clients send images in it (RFC 4648).
 * Not: data: URIs, nor streams.  Threads: pure. */
#ifndef VLM_BASE_BASE64_H
#define VLM_BASE_BASE64_H

#include "base/buf.h"
#include "base/status.h"

/* Append the bytes that text stands for.  The standard and the url-safe alphabet may be mixed; CR,
 * LF, space and tab are skipped; padding may be left out, but not half of it.  Bits that belong to
 * no byte are ignored.
 * All or nothing.  INVALID_ARGUMENT with the offset in err->pos: a character of no alphabet, wrong
 * padding, something after the padding, a single character left over.  RESOURCE_EXHAUSTED when
 * out's len_max or the memory is exhausted; checked before anything else. */
VLM_MUST_USE vlm_status vlm_base64_decode(vlm_bytes text, vlm_buf *out, vlm_error *err);

/* Append data in the standard alphabet with padding, without line breaks.  All or nothing.
 * RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_base64_encode(vlm_bytes data, vlm_buf *out, vlm_error *err);

#endif
