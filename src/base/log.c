#include "base/log.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"

static vlm_log_format log_format = VLM_LOG_TEXT;
static vlm_log_level log_level = VLM_LOG_WARN;

void vlm_log_init(vlm_log_format format, vlm_log_level level)
{
    log_format = format;
    log_level = level;
}

static vlm_status append_fields_json(vlm_buf *line, const char *request_id,
                                     const vlm_log_field *fields, size_t n)
{
    if (request_id != NULL) {
        VLM_TRY(vlm_buf_append_str(line, ",\"request_id\":", NULL));
        VLM_TRY(vlm_json_append_string(line, vlm_bytes_of(request_id), NULL));
    }
    for (size_t i = 0; i < n; i++) {
        VLM_TRY(vlm_buf_printf(line, NULL, ",\"%s\":", fields[i].name));
        if (fields[i].text != NULL)
            VLM_TRY(vlm_json_append_string(line, vlm_bytes_of(fields[i].text), NULL));
        else
            VLM_TRY(vlm_buf_printf(line, NULL, "%.*f", fields[i].decimals, fields[i].number));
    }
    return VLM_OK;
}

static vlm_status append_fields_text(vlm_buf *line, const char *request_id,
                                     const vlm_log_field *fields, size_t n)
{
    if (request_id != NULL) VLM_TRY(vlm_buf_printf(line, NULL, " request_id=%s", request_id));
    for (size_t i = 0; i < n; i++) {
        const char *text = fields[i].text;
        VLM_TRY(vlm_buf_printf(line, NULL, " %s=", fields[i].name));
        if (text == NULL)
            VLM_TRY(vlm_buf_printf(line, NULL, "%.*f", fields[i].decimals, fields[i].number));
        else if (text[0] == '\0' || strpbrk(text, " \"\\=\n\r\t") != NULL)
            VLM_TRY(vlm_json_append_string(line, vlm_bytes_of(text), NULL));
        else
            VLM_TRY(vlm_buf_append_str(line, text, NULL));
    }
    return VLM_OK;
}

static vlm_status append_json(vlm_buf *line, vlm_log_level level, const char *msg,
                              const char *request_id, const vlm_log_field *fields, size_t n)
{
    static const char *const names[] = {
#define LEVEL_NAME(id, name) name,
        VLM_LOG_LEVEL_LIST(LEVEL_NAME)
#undef LEVEL_NAME
    };
    struct timespec now;
    struct tm utc;
    char date[32];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    VLM_TRY(vlm_buf_printf(line, NULL, "{\"ts\":\"%s.%03ldZ\",\"level\":\"%s\",\"msg\":", date,
                           now.tv_nsec / 1000000, names[level]));
    VLM_TRY(vlm_json_append_string(line, vlm_bytes_of(msg), NULL));
    VLM_TRY(append_fields_json(line, request_id, fields, n));
    return vlm_buf_append_str(line, "}\n", NULL);
}

/* A reader that does not read must not stop a server: the line is then lost.  An error, which may
 * be a program's last word, waits a little. */
static void put(vlm_log_level level, const char *line, size_t len)
{
    enum { ERROR_WAIT_MS = 500 };
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, level == VLM_LOG_ERROR ? ERROR_WAIT_MS : 0) == 0) return;
    const vlm_status ignored = vlm_fd_write(STDERR_FILENO, "stderr", line, len, NULL);
    (void)ignored;
}

void vlm_log(vlm_log_level level, const char *fmt, ...)
{
    if (level > log_level) return;
    char text[VLM_ERROR_MSG_LEN_MAX + 1];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    vlm_error clean;
    (void)vlm_fail(&clean, VLM_UNKNOWN, "%s", text); /* one line, whole code points */

    vlm_buf json;
    vlm_buf_init(&json, 8 * sizeof clean.msg);
    if (log_format == VLM_LOG_JSON &&
        append_json(&json, level, clean.msg, NULL, NULL, 0) == VLM_OK) {
        put(level, json.data, json.len);
    } else {
        /* Needs no memory: the line may be about just that. */
        char line[sizeof clean.msg + 8];
        const int len = snprintf(line, sizeof line, "vlmd: %s\n", clean.msg);
        if (len > 0) put(level, line, (size_t)len);
    }
    vlm_buf_fini(&json);
}

bool vlm_log_wants(vlm_log_level level)
{
    return level <= log_level;
}

void vlm_log_fields(vlm_log_level level, const char *msg, const char *request_id,
                    const vlm_log_field *fields, size_t n_fields)
{
    /* What a pipe takes as a whole. */
    enum { LINE_LEN_MAX = 4096 };
    if (level > log_level) return;
    vlm_buf line;
    vlm_buf_init(&line, LINE_LEN_MAX);
    vlm_status status;
    if (log_format == VLM_LOG_JSON) {
        status = append_json(&line, level, msg, request_id, fields, n_fields);
    } else {
        status = vlm_buf_printf(&line, NULL, "vlmd: %s", msg);
        if (status == VLM_OK) status = append_fields_text(&line, request_id, fields, n_fields);
        if (status == VLM_OK) status = vlm_buf_append_char(&line, '\n', NULL);
    }
    if (status == VLM_OK) put(level, line.data, line.len);
    vlm_buf_fini(&line);
}
