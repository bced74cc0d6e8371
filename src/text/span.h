/* span.h - byte ranges of a text: which parts of a rendered prompt came from a user.
 * Not: substrings; a span holds offsets and owns nothing.  Threads: one at a time. */
#ifndef VLM_TEXT_SPAN_H
#define VLM_TEXT_SPAN_H

#include <stddef.h>

#include "base/status.h"

typedef struct vlm_span {
    size_t begin, end; /* bytes, begin <= end */
} vlm_span;

/* Sorted, disjoint, none empty. */
typedef struct vlm_spans {
    vlm_span *data;
    size_t len, cap;
} vlm_spans;

/* No memory is taken before the first append. */
void vlm_spans_init(vlm_spans *spans);
void vlm_spans_fini(vlm_spans *spans);

/* Add [begin, end) behind the last span; begin must not lie before its end.  A span that starts
 * where the last one ends makes that one longer; an empty one adds nothing.
 * RESOURCE_EXHAUSTED when out of memory; the list is then unchanged. */
VLM_MUST_USE vlm_status vlm_spans_append(vlm_spans *spans, size_t begin, size_t end,
                                         vlm_error *err);

#endif
