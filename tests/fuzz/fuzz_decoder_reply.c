/* fuzz_decoder_reply.c - what a decoder that was taken over may answer: the first bytes are limits
 * and the number that is waited for, the rest is the datagram.  Whatever passes must be safe to act
 * upon. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "worker/decoder_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct {
        uint32_t side_max, pixels_max, seq;
    } head;
    vlm_decoder_reply reply = {0};
    if (len < sizeof head) return 0;
    memcpy(&head, data, sizeof head);
    const size_t n_bytes = len - sizeof head;
    const vlm_image_limits limits = {.side_max = head.side_max, .pixels_max = head.pixels_max};
    memcpy(&reply, data + sizeof head, n_bytes < sizeof reply ? n_bytes : sizeof reply);
    if (!vlm_decoder_reply_is_sane(&reply, n_bytes, head.seq, &limits)) return 0;

    FUZZ_CHECK(n_bytes == sizeof reply && reply.seq == head.seq);
    if (reply.status == VLM_OK) {
        FUZZ_CHECK(reply.width >= 1 && reply.width <= head.side_max);
        FUZZ_CHECK(reply.height >= 1 && reply.height <= head.side_max);
        FUZZ_CHECK(reply.width <= head.pixels_max / reply.height);
        FUZZ_CHECK(reply.has_key == 0 || reply.has_key == 1);
        return 0;
    }
    FUZZ_CHECK(reply.status == VLM_INVALID_ARGUMENT || reply.status == VLM_RESOURCE_EXHAUSTED);
    FUZZ_CHECK(memchr(reply.msg, '\0', sizeof reply.msg) != NULL);
    vlm_error error;
    FUZZ_CHECK(vlm_fail(&error, (vlm_status)reply.status, "%s", reply.msg) != VLM_OK);
    FUZZ_CHECK(strcmp(error.msg, reply.msg) == 0);
    return 0;
}
