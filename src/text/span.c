#include "text/span.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"

void vlm_spans_init(vlm_spans *spans)
{
    *spans = (vlm_spans){0};
}

void vlm_spans_fini(vlm_spans *spans)
{
    free(spans->data);
    *spans = (vlm_spans){0};
}

vlm_status vlm_spans_append(vlm_spans *spans, size_t begin, size_t end, vlm_error *err)
{
    assert(begin <= end);
    assert(spans->len == 0 || spans->data[spans->len - 1].end <= begin);
    if (begin == end) return VLM_OK;
    if (spans->len > 0 && spans->data[spans->len - 1].end == begin) {
        spans->data[spans->len - 1].end = end;
        return VLM_OK;
    }
    if (!vlm_grow((void **)&spans->data, &spans->cap, spans->len + 1, SIZE_MAX, sizeof(vlm_span)))
        return vlm_fail_memory(err, "spans of a text");
    spans->data[spans->len++] = (vlm_span){begin, end};
    return VLM_OK;
}
