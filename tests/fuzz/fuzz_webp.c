/* The container's length is made right first: almost no changed input would pass it otherwise. */
#include <string.h>

#include "fuzz/fuzz_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 12) return fuzz_decode(vlm_webp_decode, data, len);
    uint8_t *const copy = malloc(len);
    if (copy == NULL) return 0;
    memcpy(copy, data, len);
    memcpy(copy, "RIFF", 4);
    for (int i = 0; i < 4; i++) copy[4 + i] = (uint8_t)((len - 8) >> (8 * i));
    memcpy(copy + 8, "WEBP", 4);
    (void)fuzz_decode(vlm_webp_decode, copy, len);
    free(copy);
    return 0;
}
