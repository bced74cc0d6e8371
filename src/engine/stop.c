#include "engine/stop.h"

#include <string.h>

vlm_status vlm_stop_init(vlm_stop *stop, const vlm_bytes *strings, size_t n_strings, vlm_error *err)
{
    *stop = (vlm_stop){0};
    vlm_buf_init(&stop->held, (size_t)64 << 20);
    if (n_strings > VLM_STOP_STRINGS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "stop holds more than %d strings",
                        VLM_STOP_STRINGS_MAX);
    for (size_t i = 0; i < n_strings; i++) {
        if (strings[i].len == 0)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "stop holds an empty string");
        if (strings[i].len > VLM_STOP_LEN_MAX)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "stop holds a string longer than %d bytes",
                            VLM_STOP_LEN_MAX);
        stop->strings[i] = strings[i];
    }
    stop->n_strings = n_strings;
    return VLM_OK;
}

void vlm_stop_fini(vlm_stop *stop)
{
    vlm_buf_fini(&stop->held);
}

/* Bytes of the longest stop string that ends at text[..end], 0 if none does. */
static size_t complete_len(const vlm_stop *stop, vlm_bytes text, size_t end)
{
    size_t longest = 0;
    for (size_t i = 0; i < stop->n_strings; i++) {
        const vlm_bytes s = stop->strings[i];
        if (s.len > longest && s.len <= end && memcmp(text.ptr + end - s.len, s.ptr, s.len) == 0)
            longest = s.len;
    }
    return longest;
}

/* True when text[at..] is the beginning of a stop string. */
static bool may_become(const vlm_stop *stop, vlm_bytes text, size_t at)
{
    const size_t len = text.len - at;
    for (size_t i = 0; i < stop->n_strings; i++)
        if (len < stop->strings[i].len && memcmp(text.ptr + at, stop->strings[i].ptr, len) == 0)
            return true;
    return false;
}

vlm_status vlm_stop_push(vlm_stop *stop, vlm_bytes piece, vlm_buf *out, vlm_error *err)
{
    if (stop->hit) return VLM_OK;
    if (stop->n_strings == 0) return vlm_buf_append(out, piece.ptr, piece.len, err);
    size_t end = stop->held.len;
    VLM_TRY(vlm_buf_append(&stop->held, piece.ptr, piece.len, err));
    const vlm_bytes text = vlm_buf_bytes(&stop->held);
    size_t n_certain = 0;
    while (end < text.len && !stop->hit) {
        const size_t len = complete_len(stop, text, ++end);
        stop->hit = len > 0;
        n_certain = end - len;
    }
    if (!stop->hit) {
        n_certain = text.len > VLM_STOP_LEN_MAX ? text.len - VLM_STOP_LEN_MAX : 0;
        while (n_certain < text.len && !may_become(stop, text, n_certain)) n_certain++;
    }
    VLM_TRY(vlm_buf_append(out, text.ptr, n_certain, err));
    if (text.len == 0) return VLM_OK;
    const size_t n_held = stop->hit ? 0 : text.len - n_certain;
    memmove(stop->held.data, stop->held.data + n_certain, n_held);
    stop->held.data[n_held] = '\0';
    stop->held.len = n_held;
    return VLM_OK;
}

vlm_status vlm_stop_flush(vlm_stop *stop, vlm_buf *out, vlm_error *err)
{
    if (stop->hit || stop->held.len == 0) return VLM_OK;
    VLM_TRY(vlm_buf_append(out, stop->held.data, stop->held.len, err));
    vlm_buf_clear(&stop->held);
    return VLM_OK;
}
