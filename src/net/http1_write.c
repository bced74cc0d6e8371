#include "net/http1_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/http1_parts.h"

const char *vlm_http1_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status) return reasons[i].text;
    return "";
}

void vlm_http1_date(int64_t unix_s, char out[VLM_HTTP1_DATE_LEN + 1])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const int64_t last = 253402300799; /* of the year 9999 */
    const time_t t = (time_t)(unix_s < 0 ? 0 : unix_s > last ? last : unix_s);
    struct tm tm = {0};
    (void)gmtime_r(&t, &tm);
    /* The remainders say to the compiler how long each number can be. */
    (void)snprintf(out, VLM_HTTP1_DATE_LEN + 1, "%s, %02u %s %04u %02u:%02u:%02u GMT",
                   days[tm.tm_wday], (unsigned)tm.tm_mday % 100, months[tm.tm_mon],
                   (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
                   (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

static vlm_status check_field(const vlm_http1_out_field *field, vlm_error *err)
{
    static const char *const own[] = {"date", "connection", "content-length", "transfer-encoding"};
    bool is_token = field->name.len > 0;
    for (size_t i = 0; i < field->name.len; i++)
        is_token = is_token && vlm_http1_is(field->name.ptr[i], VLM_HTTP1_TOKEN);
    if (!is_token)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the name of an answer's field is no token");
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (vlm_http1_is_name(field->name, own[i]))
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "an answer's field %s is not the caller's",
                            own[i]);
    for (size_t i = 0; i < field->value.len; i++)
        if (!vlm_http1_is(field->value.ptr[i], VLM_HTTP1_VALUE))
            return vlm_fail_at(err, VLM_INVALID_ARGUMENT, i,
                               "a control character in the value of an answer's field");
    return VLM_OK;
}

static vlm_status write_fields(vlm_buf *out, const vlm_http1_out_field *fields, size_t n,
                               vlm_error *err)
{
    for (size_t i = 0; i < n; i++) {
        VLM_TRY(check_field(&fields[i], err));
        VLM_TRY(vlm_buf_append(out, fields[i].name.ptr, fields[i].name.len, err));
        VLM_TRY(vlm_buf_append(out, ": ", 2, err));
        VLM_TRY(vlm_buf_append(out, fields[i].value.ptr, fields[i].value.len, err));
        VLM_TRY(vlm_buf_append(out, "\r\n", 2, err));
    }
    return VLM_OK;
}

/* What tells where the body ends, and the empty line. */
static vlm_status write_end(vlm_buf *out, int status, int minor_version, vlm_http1_body_kind kind,
                            uint64_t body_len, bool keep_alive, vlm_error *err)
{
    if (kind == VLM_HTTP1_BODY_CHUNKED && minor_version == 0) keep_alive = false;
    if (!keep_alive)
        VLM_TRY(vlm_buf_append_str(out, "Connection: close\r\n", err));
    else if (minor_version == 0)
        VLM_TRY(vlm_buf_append_str(out, "Connection: keep-alive\r\n", err));
    if (kind == VLM_HTTP1_BODY_CHUNKED && minor_version > 0)
        VLM_TRY(vlm_buf_append_str(out, "Transfer-Encoding: chunked\r\n", err));
    if (kind == VLM_HTTP1_BODY_LENGTH)
        VLM_TRY(vlm_buf_printf(out, err, "Content-Length: %" PRIu64 "\r\n", body_len));
    if (kind == VLM_HTTP1_BODY_NONE && status != 204 && status != 304)
        VLM_TRY(vlm_buf_append_str(out, "Content-Length: 0\r\n", err));
    return vlm_buf_append(out, "\r\n", 2, err);
}

vlm_status vlm_http1_write_head(vlm_buf *out, int status, int minor_version,
                                const vlm_http1_out_field *fields, size_t n,
                                vlm_http1_body_kind kind, uint64_t body_len, bool keep_alive,
                                vlm_error *err)
{
    const size_t len_before = out->len;
    char date[VLM_HTTP1_DATE_LEN + 1];
    vlm_status result;
    if (status < 200 || status > 599)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%d is no status of an answer", status);
    if (status == 204 && kind != VLM_HTTP1_BODY_NONE)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "an answer with status 204 has no body");
    vlm_http1_date((int64_t)time(NULL), date);
    result = vlm_buf_printf(out, err, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status,
                            vlm_http1_reason(status), date);
    if (result == VLM_OK) result = write_fields(out, fields, n, err);
    if (result == VLM_OK)
        result = write_end(out, status, minor_version, kind, body_len, keep_alive, err);
    if (result != VLM_OK) {
        out->len = len_before;
        if (out->data != NULL) out->data[len_before] = '\0';
    }
    return result;
}

vlm_status vlm_http1_write_chunk(vlm_buf *out, vlm_bytes data, vlm_error *err)
{
    char size[2 * sizeof data.len + 3];
    if (data.len == 0) return VLM_OK;
    const int n = snprintf(size, sizeof size, "%zx\r\n", data.len);
    /* No overflow: data.len bytes are in memory besides. */
    VLM_TRY(vlm_buf_reserve(out, data.len + (size_t)n + 2, err));
    VLM_TRY(vlm_buf_append(out, size, (size_t)n, err));
    VLM_TRY(vlm_buf_append(out, data.ptr, data.len, err));
    return vlm_buf_append(out, "\r\n", 2, err);
}

vlm_status vlm_http1_write_last_chunk(vlm_buf *out, vlm_error *err)
{
    return vlm_buf_append_str(out, "0\r\n\r\n", err);
}
