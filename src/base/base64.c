#include "base/base64.h"

#include <stdint.h>

#include "base/mem.h"

/* Below 64: the six bits a character stands for. */
enum { BLANK = 0x40, PAD = 0x41, BAD = 0x80, NO_VALUE = 0xC0 };

#define CODE(c)                                                                                    \
    (uint8_t)((c) >= 'A' && (c) <= 'Z'                                  ? (c) - 'A'                \
              : (c) >= 'a' && (c) <= 'z'                                ? (c) - 'a' + 26           \
              : (c) >= '0' && (c) <= '9'                                ? (c) - '0' + 52           \
              : (c) == '+' || (c) == '-'                                ? 62                       \
              : (c) == '/' || (c) == '_'                                ? 63                       \
              : (c) == ' ' || (c) == '\t' || (c) == '\r' || (c) == '\n' ? BLANK                    \
              : (c) == '='                                              ? PAD                      \
                                                                        : BAD)
#define CODE_4(c) CODE(c), CODE((c) + 1), CODE((c) + 2), CODE((c) + 3)
#define CODE_16(c) CODE_4(c), CODE_4((c) + 4), CODE_4((c) + 8), CODE_4((c) + 12)
#define CODE_64(c) CODE_16(c), CODE_16((c) + 16), CODE_16((c) + 32), CODE_16((c) + 48)

static const uint8_t code_of[256] = {CODE_64(0), CODE_64(64), CODE_64(128), CODE_64(192)};

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Whole groups of four characters, as far as nothing else stands between them.  Returns the groups
 * decoded, three bytes each. */
static size_t decode_groups(const uint8_t *in, size_t n_groups, uint8_t *out)
{
    size_t i = 0;
    for (; i < n_groups; i++, in += 4, out += 3) {
        const uint32_t a = code_of[in[0]], b = code_of[in[1]], c = code_of[in[2]],
                       d = code_of[in[3]];
        if (((a | b | c | d) & NO_VALUE) != 0) break;
        const uint32_t v = a << 18 | b << 12 | c << 6 | d;
        out[0] = (uint8_t)(v >> 16);
        out[1] = (uint8_t)(v >> 8);
        out[2] = (uint8_t)v;
    }
    return i;
}

/* How many bytes the text stands for if it is well-formed, and never less than that. */
static size_t decoded_len(vlm_bytes text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.ptr[i];
        n += (c != ' ') & (c != '\t') & (c != '\r') & (c != '\n') & (c != '=');
    }
    return n / 4 * 3 + n % 4 * 3 / 4;
}

/* What is read of a group that is not four characters in a row. */
typedef struct group {
    uint32_t value;
    unsigned n_chars, n_pads;
} group;

static vlm_status take_char(group *g, char c, size_t pos, vlm_error *err)
{
    const uint8_t code = code_of[(uint8_t)c];
    if (code == BLANK) return VLM_OK;
    if (code == PAD) {
        if (g->n_chars < 2 || g->n_chars + ++g->n_pads > 4)
            return vlm_fail_at(err, VLM_INVALID_ARGUMENT, pos,
                               "base64: padding where there is nothing to pad at byte %zu", pos);
        return VLM_OK;
    }
    if (code == BAD)
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, pos,
                           "base64: a character outside the alphabet at byte %zu", pos);
    if (g->n_pads > 0)
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, pos,
                           "base64: text after the padding at byte %zu", pos);
    g->value = g->value << 6 | code;
    g->n_chars++;
    return VLM_OK;
}

/* out has room for decoded_len(text); *n_out bytes of it are filled. */
static vlm_status decode(vlm_bytes text, uint8_t *out, size_t *n_out, vlm_error *err)
{
    const uint8_t *const in = (const uint8_t *)text.ptr;
    group g = {0};
    size_t i = 0, n = 0;
    while (i < text.len) {
        if (g.n_chars == 0) {
            const size_t n_groups = decode_groups(in + i, (text.len - i) / 4, out + n);
            i += n_groups * 4;
            n += n_groups * 3;
            if (i == text.len) break;
        }
        VLM_TRY(take_char(&g, text.ptr[i], i, err));
        i++;
        if (g.n_chars < 4) continue;
        out[n++] = (uint8_t)(g.value >> 16);
        out[n++] = (uint8_t)(g.value >> 8);
        out[n++] = (uint8_t)g.value;
        g = (group){0};
    }
    if (g.n_chars == 1 || (g.n_pads > 0 && g.n_chars + g.n_pads < 4))
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, text.len,
                           g.n_chars == 1 ? "base64: a single character is left over at byte %zu"
                                          : "base64: half of the padding is missing at byte %zu",
                           text.len);
    if (g.n_chars >= 2) out[n++] = (uint8_t)(g.value >> (g.n_chars * 6 - 8));
    if (g.n_chars == 3) out[n++] = (uint8_t)(g.value >> 2);
    *n_out = n;
    return VLM_OK;
}

vlm_status vlm_base64_decode(vlm_bytes text, vlm_buf *out, vlm_error *err)
{
    size_t n = 0;
    VLM_TRY(vlm_buf_reserve(out, decoded_len(text), err));
    const vlm_status status = decode(text, (uint8_t *)out->data + out->len, &n, err);
    if (status == VLM_OK) out->len += n;
    out->data[out->len] = '\0';
    return status;
}

vlm_status vlm_base64_encode(vlm_bytes data, vlm_buf *out, vlm_error *err)
{
    const uint8_t *in = (const uint8_t *)data.ptr;
    size_t len;
    if (!vlm_size_mul(data.len / 3 + (data.len % 3 > 0), 4, &len))
        return vlm_fail_memory(err, "base64");
    VLM_TRY(vlm_buf_reserve(out, len, err));
    char *to = out->data + out->len;
    size_t left = data.len;
    for (; left >= 3; left -= 3, in += 3, to += 4) {
        const uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        to[0] = alphabet[v >> 18];
        to[1] = alphabet[v >> 12 & 63];
        to[2] = alphabet[v >> 6 & 63];
        to[3] = alphabet[v & 63];
    }
    if (left > 0) {
        const uint32_t v = (uint32_t)in[0] << 16 | (left > 1 ? (uint32_t)in[1] << 8 : 0);
        to[0] = alphabet[v >> 18];
        to[1] = alphabet[v >> 12 & 63];
        to[2] = left > 1 ? alphabet[v >> 6 & 63] : '=';
        to[3] = '=';
    }
    out->len += len;
    out->data[out->len] = '\0';
    return VLM_OK;
}
