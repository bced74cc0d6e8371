/* Checksums are made right first: almost no changed input would pass them otherwise. */
#include <string.h>
#include <zlib.h>

#include "fuzz/fuzz_image.h"

enum { SIGNATURE_LEN = 8, CHUNK_HEAD_LEN = 8, CHUNK_CRC_LEN = 4 };

static void repair_checksums(uint8_t *data, size_t len)
{
    size_t pos = SIGNATURE_LEN;
    while (pos <= len && len - pos >= CHUNK_HEAD_LEN + CHUNK_CRC_LEN) {
        const size_t body = vlm_read_u32be(data + pos);
        if (body > len - pos - CHUNK_HEAD_LEN - CHUNK_CRC_LEN) return;
        uint8_t *const crc = data + pos + CHUNK_HEAD_LEN + body;
        const unsigned long sum = crc32(0, data + pos + 4, (uInt)(body + 4));
        for (int i = 0; i < 4; i++) crc[i] = (uint8_t)(sum >> (24 - 8 * i));
        pos += CHUNK_HEAD_LEN + body + CHUNK_CRC_LEN;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0) return fuzz_decode(vlm_png_decode, data, len);
    uint8_t *const copy = malloc(len);
    if (copy == NULL) return 0;
    memcpy(copy, data, len);
    repair_checksums(copy, len);
    (void)fuzz_decode(vlm_png_decode, copy, len);
    free(copy);
    return 0;
}
