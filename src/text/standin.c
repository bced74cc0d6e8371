#include "text/standin.h"

#include <stdbool.h>

#include "base/utf8.h"

enum { N_BEFORE_BANG = 0x21, N_DEL_TO_NBSP = 0xA1 - 0x7F };

static bool stands_for_itself(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

uint32_t vlm_standin_of_byte(uint8_t byte)
{
    if (stands_for_itself(byte)) return byte;
    if (byte < 0x21) return 0x100u + byte;
    if (byte == 0xAD) return 0x100u + N_BEFORE_BANG + N_DEL_TO_NBSP;
    return 0x100u + N_BEFORE_BANG + (byte - 0x7Fu);
}

int vlm_standin_to_byte(uint32_t cp)
{
    if (cp < 0x100) return stands_for_itself(cp) ? (int)cp : -1;
    const uint32_t i = cp - 0x100;
    if (i < N_BEFORE_BANG) return (int)i;
    if (i < N_BEFORE_BANG + N_DEL_TO_NBSP) return (int)(i - N_BEFORE_BANG + 0x7F);
    return i == N_BEFORE_BANG + N_DEL_TO_NBSP ? 0xAD : -1;
}

vlm_status vlm_standin_append(vlm_buf *buf, vlm_bytes bytes, vlm_error *err)
{
    VLM_TRY(vlm_buf_reserve(buf, bytes.len * 2, err));
    for (size_t i = 0; i < bytes.len; i++) {
        char utf8[4];
        const size_t n = vlm_utf8_encode(vlm_standin_of_byte((uint8_t)bytes.ptr[i]), utf8);
        VLM_TRY(vlm_buf_append(buf, utf8, n, err));
    }
    return VLM_OK;
}
