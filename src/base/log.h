/* log.h - lines on stderr for people or for programs that collect them.
 * Not: results (stdout), nor progress on a terminal.
 * Threads: init before others start; a line is written whole, by one call. */
#ifndef VLM_BASE_LOG_H
#define VLM_BASE_LOG_H

#include "base/status.h"

/* X(enum, name), the most important first. */
#define VLM_LOG_LEVEL_LIST(X)                                                                      \
    X(ERROR, "error")                                                                              \
    X(WARN, "warn")                                                                                \
    X(INFO, "info")                                                                                \
    X(DEBUG, "debug")

typedef enum vlm_log_level {
#define VLM_LOG_LEVEL_ENUM(id, name) VLM_LOG_##id,
    VLM_LOG_LEVEL_LIST(VLM_LOG_LEVEL_ENUM)
#undef VLM_LOG_LEVEL_ENUM
} vlm_log_level;

typedef enum vlm_log_format {
    VLM_LOG_TEXT, /* vlmd: TEXT */
    VLM_LOG_JSON, /* {"ts":"2026-01-31T12:00:00.000Z","level":"error","msg":TEXT} */
} vlm_log_format;

/* Lines less important than level are dropped.  Without this call: text, warnings and errors. */
void vlm_log_init(vlm_log_format format, vlm_log_level level);

/* One line; control characters in it are replaced, and it is cut at VLM_ERROR_MSG_LEN_MAX bytes.
 * A failure to write is ignored: there is nowhere left to say so. */
void vlm_log(vlm_log_level level, const char *fmt, ...) VLM_PRINTF(2, 3);

#endif
