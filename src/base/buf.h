/* buf.h - a growable byte buffer with a maximum, and a view of bytes.
 * Not: a string with an encoding (utf8.h).  Threads: one at a time. */
#ifndef VLM_BASE_BUF_H
#define VLM_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Bytes that somebody else owns; not NUL-terminated. */
typedef struct vlm_bytes {
    const char *ptr;
    size_t len;
} vlm_bytes;

/* A view of a C string, its NUL left out; empty for NULL. */
vlm_bytes vlm_bytes_of(const char *text);
bool vlm_bytes_eq(vlm_bytes a, vlm_bytes b);
bool vlm_bytes_eq_str(vlm_bytes a, const char *text);
bool vlm_bytes_starts(vlm_bytes text, vlm_bytes prefix);

typedef struct vlm_buf {
    char *data;     /* always followed by a NUL that len does not count, once anything was added */
    size_t len;     /* bytes */
    size_t cap;     /* bytes */
    size_t len_max; /* an append beyond it is RESOURCE_EXHAUSTED */
} vlm_buf;

/* No memory is taken before the first append. */
void vlm_buf_init(vlm_buf *buf, size_t len_max);
void vlm_buf_fini(vlm_buf *buf);
/* Length 0, memory kept. */
void vlm_buf_clear(vlm_buf *buf);
vlm_bytes vlm_buf_bytes(const vlm_buf *buf);

/* All or nothing.  RESOURCE_EXHAUSTED when len_max or the memory is exhausted. */
VLM_MUST_USE vlm_status vlm_buf_append(vlm_buf *buf, const void *data, size_t len, vlm_error *err);
VLM_MUST_USE vlm_status vlm_buf_append_str(vlm_buf *buf, const char *text, vlm_error *err);
VLM_MUST_USE vlm_status vlm_buf_append_char(vlm_buf *buf, char c, vlm_error *err);
VLM_MUST_USE vlm_status vlm_buf_printf(vlm_buf *buf, vlm_error *err, const char *fmt, ...)
    VLM_PRINTF(3, 4);
/* Room for n_more bytes, so that the next appends of that many in all cannot fail. */
VLM_MUST_USE vlm_status vlm_buf_reserve(vlm_buf *buf, size_t n_more, vlm_error *err);

#endif
