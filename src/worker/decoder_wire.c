#include "worker/decoder_wire.h"

#include <string.h>

static bool text_is_sane(const char *text, size_t cap)
{
    const size_t len = strnlen(text, cap);
    if (len == 0 || len == cap) return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] > '~') return false;
    return true;
}

bool vlm_decoder_reply_is_sane(const vlm_decoder_reply *reply, size_t n_bytes, uint32_t seq,
                               const vlm_image_limits *limits)
{
    if (n_bytes != sizeof *reply || reply->magic != VLM_DECODER_MAGIC || reply->seq != seq)
        return false;
    if (reply->status == VLM_INVALID_ARGUMENT || reply->status == VLM_RESOURCE_EXHAUSTED)
        return text_is_sane(reply->msg, sizeof reply->msg);
    return reply->status == VLM_OK && reply->has_key <= 1 && reply->width > 0 &&
           reply->height > 0 && reply->width <= limits->side_max &&
           reply->height <= limits->side_max &&
           (uint64_t)reply->width * reply->height <= limits->pixels_max;
}
