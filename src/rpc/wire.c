#include "rpc/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void vlm_rpc_prefix_write(uint8_t out[VLM_RPC_PREFIX_LEN], uint32_t len)
{
    out[0] = 0;
    for (uint32_t i = 0; i < 4; i++) out[1 + i] = (uint8_t)(len >> (24 - 8 * i));
}

void vlm_rpc_reader_init(vlm_rpc_reader *r, size_t message_len_max)
{
    *r = (vlm_rpc_reader){0};
    vlm_buf_init(&r->message, message_len_max);
}

void vlm_rpc_reader_fini(vlm_rpc_reader *r)
{
    vlm_buf_fini(&r->message);
}

bool vlm_rpc_reader_is_inside(const vlm_rpc_reader *r)
{
    return r->n_prefix > 0 &&
           !(r->n_prefix == VLM_RPC_PREFIX_LEN && r->message.len == r->message_len);
}

static vlm_status check_prefix(vlm_rpc_reader *r, vlm_error *err)
{
    const uint8_t *p = r->prefix;
    r->message_len =
        (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | (uint32_t)p[4];
    if (p[0] == 1) return vlm_fail(err, VLM_UNIMPLEMENTED, "compressed messages are not taken");
    if (p[0] != 0) return vlm_fail(err, VLM_INTERNAL, "bad flag %u before a message", p[0]);
    if (r->message_len > r->message.len_max)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED,
                        "message of %" PRIu32 " bytes; at most %zu are taken", r->message_len,
                        r->message.len_max);
    return VLM_OK;
}

vlm_status vlm_rpc_reader_push(vlm_rpc_reader *r, const uint8_t *data, size_t len, size_t *n_used,
                               bool *complete, vlm_error *err)
{
    *n_used = 0;
    *complete = false;
    if (r->n_prefix == VLM_RPC_PREFIX_LEN && r->message.len == r->message_len) {
        r->n_prefix = 0;
        vlm_buf_clear(&r->message);
    }
    while (r->n_prefix < VLM_RPC_PREFIX_LEN) {
        if (*n_used == len) return VLM_OK;
        r->prefix[r->n_prefix++] = data[(*n_used)++];
        if (r->n_prefix == VLM_RPC_PREFIX_LEN) VLM_TRY(check_prefix(r, err));
    }
    size_t n = r->message_len - r->message.len;
    if (n > len - *n_used) n = len - *n_used;
    VLM_TRY(vlm_buf_append(&r->message, data + *n_used, n, err));
    *n_used += n;
    *complete = r->message.len == r->message_len;
    return VLM_OK;
}

vlm_status vlm_rpc_message_encode(vlm_bytes text, vlm_buf *out, vlm_error *err)
{
    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c <= 0x7e && c != '%')
            VLM_TRY(vlm_buf_append_char(out, (char)c, err));
        else
            VLM_TRY(vlm_buf_printf(out, err, "%%%02X", c));
    }
    return VLM_OK;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

vlm_status vlm_rpc_message_decode(vlm_bytes text, vlm_buf *out, vlm_error *err)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%' && i + 2 < text.len) {
            const int high = hex_value(text.ptr[i + 1]);
            const int low = hex_value(text.ptr[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (char)(high << 4 | low);
                i += 2;
            }
        }
        VLM_TRY(vlm_buf_append_char(out, c, err));
    }
    return VLM_OK;
}

bool vlm_rpc_timeout_parse(vlm_bytes text, uint64_t *ns)
{
    static const struct {
        char unit;
        uint64_t ns;
    } units[] = {{'n', 1},          {'u', 1000},         {'m', 1000000},
                 {'S', 1000000000}, {'M', 60000000000u}, {'H', 3600000000000u}};
    uint64_t value = 0;
    if (text.len < 2 || text.len > 9) return false;
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') return false;
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (text.ptr[text.len - 1] != units[i].unit) continue;
        *ns = value * units[i].ns; /* at most 10^8 hours: 3.6e20 */
        if (units[i].unit == 'H' && value > UINT64_MAX / units[i].ns) *ns = UINT64_MAX;
        return true;
    }
    return false;
}

void vlm_rpc_timeout_format(uint64_t ns, char out[VLM_RPC_TIMEOUT_LEN_MAX])
{
    const uint64_t us = ns / 1000;
    if (us < 100000000)
        (void)snprintf(out, VLM_RPC_TIMEOUT_LEN_MAX, "%" PRIu64 "u", us);
    else if (us / 1000 < 100000000)
        (void)snprintf(out, VLM_RPC_TIMEOUT_LEN_MAX, "%" PRIu64 "m", us / 1000);
    else if (us / 1000000 < 100000000)
        (void)snprintf(out, VLM_RPC_TIMEOUT_LEN_MAX, "%" PRIu64 "S", us / 1000000);
    else
        (void)snprintf(out, VLM_RPC_TIMEOUT_LEN_MAX, "%uS", 99999999u);
}

vlm_status vlm_rpc_status_parse(vlm_bytes text)
{
    uint32_t code = 0;
    if (text.len == 0 || text.len > 2) return VLM_UNKNOWN;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') return VLM_UNKNOWN;
        code = code * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    return code <= VLM_UNAUTHENTICATED ? (vlm_status)code : VLM_UNKNOWN;
}

vlm_status vlm_rpc_status_of_http(uint32_t http_status)
{
    switch (http_status) {
    case 400: return VLM_INTERNAL;
    case 401: return VLM_UNAUTHENTICATED;
    case 403: return VLM_PERMISSION_DENIED;
    case 404: return VLM_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504: return VLM_UNAVAILABLE;
    default: return VLM_UNKNOWN;
    }
}
