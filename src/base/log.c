#include "base/log.h"

#include <stdio.h>
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

static vlm_status append_json(vlm_buf *line, vlm_log_level level, const char *msg)
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
    return vlm_buf_append_str(line, "}\n", NULL);
}

static void put(const char *line, size_t len)
{
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
    if (log_format == VLM_LOG_JSON && append_json(&json, level, clean.msg) == VLM_OK) {
        put(json.data, json.len);
    } else {
        /* Needs no memory: the line may be about just that. */
        char line[sizeof clean.msg + 8];
        const int len = snprintf(line, sizeof line, "vlmd: %s\n", clean.msg);
        if (len > 0) put(line, (size_t)len);
    }
    vlm_buf_fini(&json);
}
