/* jinja_lex.h - a template's source to tokens: text, tags, and what is inside them, with the
 * whitespace rules of trim_blocks, lstrip_blocks and the signs - and + applied.
 * Not: grammar (jinja_parse.h).  Tokens point into the arena.  Threads: one. */
#ifndef VLM_TEXT_JINJA_LEX_H
#define VLM_TEXT_JINJA_LEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/status.h"
#include "text/jinja_value.h"

typedef enum jtok_type {
    JT_EOF,
    JT_TEXT,        /* outside tags: text */
    JT_BLOCK_BEGIN, /* {% */
    JT_BLOCK_END,
    JT_PRINT_BEGIN, /* {{ */
    JT_PRINT_END,
    JT_NAME,
    JT_STRING,
    JT_INT,
    JT_FLOAT,
    JT_OP, /* op: up to two characters */
} jtok_type;

typedef struct jtok {
    jtok_type type;
    uint32_t line;
    const char *name; /* NAME: NUL-terminated */
    jstr text;        /* TEXT, STRING */
    int64_t i;
    double f;
    char op[3];
} jtok;

typedef struct jtokens {
    jtok *data; /* malloc'ed */
    size_t len, cap;
} jtokens;

/* INVALID_ARGUMENT "line N: ...", RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_jinja_lex(vlm_bytes source, vlm_arena *arena, jtokens *out,
                                      vlm_error *err);

#endif
