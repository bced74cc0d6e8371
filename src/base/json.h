/* json.h - strict JSON (RFC 8259) from hostile bytes.
 * Refused by a named error: bad UTF-8, comments, NaN, depth and counts above the limits, a NUL or a
 * duplicate among the keys.  No recursion; the memory is linear in the text, and running out of it
 * is an error, never a shorter document.  Objects keep the order of their keys.
 * Not: a writer of protocol messages (build text with vlm_json_append_string and a vlm_buf).
 * Ownership: a document owns all its nodes; `const vlm_json *` nodes live as long as the document.
 * Threads: a document may be read by many threads. */
#ifndef VLM_BASE_JSON_H
#define VLM_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct vlm_json_node vlm_json; /* opaque: a node; NULL is null or an absent member */

typedef enum vlm_json_type {
    VLM_JSON_NULL,
    VLM_JSON_BOOL,
    VLM_JSON_INT, /* written without '.' and exponent; see vlm_json_int_fits */
    VLM_JSON_DOUBLE,
    VLM_JSON_STRING,
    VLM_JSON_ARRAY,
    VLM_JSON_OBJECT,
} vlm_json_type;

typedef struct vlm_json_limits {
    size_t len_max;   /* bytes */
    size_t depth_max; /* containers inside each other; at most 512 */
    size_t nodes_max; /* values and keys */
} vlm_json_limits;

/* 64 MiB, depth 64, 10^6 nodes: requests and configuration. */
extern const vlm_json_limits vlm_json_limits_default;
/* 256 MiB, depth 64, 2*10^7 nodes: vocabularies. */
extern const vlm_json_limits vlm_json_limits_large;

/* Parse one JSON value; whitespace may surround it.  On success *doc (never NULL, also for the text
 * `null`) is freed with vlm_json_free.
 * INVALID_ARGUMENT with err->pos = byte offset; RESOURCE_EXHAUSTED for a limit or memory. */
typedef struct vlm_json_doc vlm_json_doc;
VLM_MUST_USE vlm_status vlm_json_parse(const char *text, size_t len, const vlm_json_limits *limits,
                                       vlm_json_doc **doc, vlm_error *err);
void vlm_json_free(vlm_json_doc *doc);
const vlm_json *vlm_json_root(const vlm_json_doc *doc);

vlm_json_type vlm_json_typeof(const vlm_json *node);
/* "null", "a boolean", "an integer", "a number", "a string", "an array", "an object". */
const char *vlm_json_type_name(const vlm_json *node);

/* Values; the node must have the type. */
bool vlm_json_bool(const vlm_json *node);
/* Saturated when the text's integer does not fit; vlm_json_int_fits then says false. */
int64_t vlm_json_int(const vlm_json *node);
bool vlm_json_int_fits(const vlm_json *node);
/* Of an INT or DOUBLE. */
double vlm_json_double(const vlm_json *node);
/* UTF-8, may hold NUL bytes; an escaped lone surrogate has become U+FFFD. */
vlm_bytes vlm_json_string(const vlm_json *node);

size_t vlm_json_array_len(const vlm_json *node);
/* NULL for null. */
const vlm_json *vlm_json_at(const vlm_json *node, size_t idx);

size_t vlm_json_object_len(const vlm_json *node);
/* NULL when node is not an object, the member is absent or it is null. */
const vlm_json *vlm_json_get(const vlm_json *node, const char *key);
/* True also for a member that is null. */
bool vlm_json_has(const vlm_json *node, const char *key);

/* for (vlm_json_iter it = vlm_json_iter_begin(obj); vlm_json_iter_next(&it);) { it.key, it.value }
 */
typedef struct vlm_json_iter {
    const char *key; /* NUL-terminated UTF-8 */
    const vlm_json *value;
    const void *next_;
} vlm_json_iter;
vlm_json_iter vlm_json_iter_begin(const vlm_json *object);
bool vlm_json_iter_next(vlm_json_iter *it);

/* Typed members.  Absent or null leaves *out untouched (the caller has put the default there).
 * INVALID_ARGUMENT "KEY must be ..." for another type or a value outside [min, max]. */
VLM_MUST_USE vlm_status vlm_json_opt_bool(const vlm_json *obj, const char *key, bool *out,
                                          vlm_error *err);
VLM_MUST_USE vlm_status vlm_json_opt_int(const vlm_json *obj, const char *key, int64_t min,
                                         int64_t max, int64_t *out, vlm_error *err);
VLM_MUST_USE vlm_status vlm_json_opt_u32(const vlm_json *obj, const char *key, uint32_t min,
                                         uint32_t max, uint32_t *out, vlm_error *err);
/* A finite number, an integer too. */
VLM_MUST_USE vlm_status vlm_json_opt_double(const vlm_json *obj, const char *key, double min,
                                            double max, double *out, vlm_error *err);
VLM_MUST_USE vlm_status vlm_json_opt_float(const vlm_json *obj, const char *key, double min,
                                           double max, float *out, vlm_error *err);
/* A view into the document. */
VLM_MUST_USE vlm_status vlm_json_opt_string(const vlm_json *obj, const char *key, vlm_bytes *out,
                                            vlm_error *err);

/* Append text (UTF-8) as a JSON string with its quotes; bad UTF-8 becomes U+FFFD. */
VLM_MUST_USE vlm_status vlm_json_append_string(vlm_buf *buf, vlm_bytes text, vlm_error *err);

#endif
