/* log.h - lines on stderr for people or for programs that collect them.
 * Not: results (stdout), nor progress on a terminal.
 * Threads: init before others start; a line is written whole, by one call. */
#ifndef VLM_BASE_LOG_H
#define VLM_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

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

/* A named value beside the text of a line. */
typedef struct vlm_log_field {
    const char *name;
    const char *text; /* NULL: the number counts */
    double number;
    int decimals; /* of the number */
} vlm_log_field;

/* A line with fields: "vlmd: MSG NAME=VALUE ..." or members of the JSON object.  Texts are quoted
 * where they must be.  request_id may be NULL. */
void vlm_log_fields(vlm_log_level level, const char *msg, const char *request_id,
                    const vlm_log_field *fields, size_t n_fields);

/* Would a line of this level be written? */
bool vlm_log_wants(vlm_log_level level);

#endif
