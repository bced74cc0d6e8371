/* fuzz_base64.c - hostile text to vlm_base64_decode, compared with a decoder that takes one
 * character at a time; what is accepted is encoded and must decode to the same bytes. */
#include <string.h>

#include "base/base64.h"
#include "fuzz/fuzz.h"

/* The slow way; false, with *pos, when the text is not well-formed. */
static bool decode_slowly(const uint8_t *text, size_t len, uint8_t *out, size_t *n_out, size_t *pos)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned value = 0, n_bits = 0, n_chars = 0, n_pads = 0;
    *n_out = 0;
    for (*pos = 0; *pos < len; ++*pos) {
        const uint8_t c = text[*pos];
        const char standard = c == '-' ? '+' : c == '_' ? '/' : (char)c;
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') continue;
        if (c == '=') {
            n_pads++;
            if (n_chars % 4 < 2 || n_chars % 4 + n_pads > 4) return false;
            continue;
        }
        const char *const found = c == '\0' ? NULL : strchr(alphabet, standard);
        if (found == NULL || n_pads > 0) return false;
        value = (value << 6 | (unsigned)(found - alphabet)) & 0xFFFFFF;
        n_chars++;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        out[(*n_out)++] = (uint8_t)(value >> n_bits);
    }
    return n_chars % 4 != 1 && (n_pads == 0 || n_chars % 4 + n_pads == 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    vlm_buf out, text, again;
    vlm_error err;
    size_t n_expected, pos;
    uint8_t *const expected = malloc(len + 1);
    FUZZ_CHECK(expected != NULL);
    const bool ok = decode_slowly(data, len, expected, &n_expected, &pos);
    vlm_buf_init(&out, ok ? n_expected : len);
    vlm_buf_init(&text, 2 * len + 4);
    vlm_buf_init(&again, len);
    const vlm_bytes given = {.ptr = (const char *)data, .len = len};
    const vlm_status status = vlm_base64_decode(given, &out, &err);
    FUZZ_CHECK(status == (ok ? VLM_OK : VLM_INVALID_ARGUMENT));
    if (ok) {
        FUZZ_CHECK(out.len == n_expected && memcmp(out.data, expected, n_expected) == 0);
        FUZZ_CHECK(vlm_base64_encode(vlm_buf_bytes(&out), &text, NULL) == VLM_OK);
        FUZZ_CHECK(vlm_base64_decode(vlm_buf_bytes(&text), &again, NULL) == VLM_OK);
        FUZZ_CHECK(vlm_bytes_eq(vlm_buf_bytes(&out), vlm_buf_bytes(&again)));
    } else {
        FUZZ_CHECK(err.pos == pos && out.len == 0);
    }
    vlm_buf_fini(&out);
    vlm_buf_fini(&text);
    vlm_buf_fini(&again);
    free(expected);
    return 0;
}
