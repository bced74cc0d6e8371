/* template.h - Jinja chat templates: parse once, render many times.
 * The language is what Transformers renders with: Jinja 3.1's ImmutableSandboxedEnvironment with
 * trim_blocks, lstrip_blocks, loop controls, the generation tag, tojson, raise_exception and
 * strftime_now.  Templates are hostile input: every resource has a limit with an error of its own.
 * Not: which template a model has, nor what it is given (chat.h); include, import, extends.
 * Threads: a parsed template is immutable and may be rendered by many threads. */
#ifndef VLM_TEXT_TEMPLATE_H
#define VLM_TEXT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/status.h"
#include "text/span.h"

typedef struct vlm_template vlm_template;

typedef struct vlm_template_limits {
    size_t source_max;       /* bytes */
    uint32_t nesting_max;    /* of blocks, parentheses and operators in the source */
    uint64_t steps_max;      /* expressions evaluated and items touched */
    size_t string_max;       /* code points of any one string */
    size_t output_max;       /* code points */
    size_t memory_max;       /* bytes of all values made */
    uint32_t call_depth_max; /* macros and recursive loops inside each other */
    uint32_t range_max;      /* items of range() */
} vlm_template_limits;

/* 1 MiB, 200, 10 million, 16 Mi, 16 Mi, 256 MiB (strings take four bytes a code point), 200,
 * 100000. */
extern const vlm_template_limits vlm_template_limits_default;

/* INVALID_ARGUMENT "line N: ..." for a syntax error, RESOURCE_EXHAUSTED for a limit. */
VLM_MUST_USE vlm_status vlm_template_new(vlm_bytes source, const vlm_template_limits *limits,
                                         vlm_template **out, vlm_error *err);
void vlm_template_free(vlm_template *t); /* NULL is legal */

typedef struct vlm_template_var {
    const char *name;
    const vlm_json *value; /* NULL: null */
    bool user;             /* the strings inside are a client's text */
    /* A list of messages: the first of reasoning_content, thinking and reasoning that a message has
     * becomes both of the first two, {"thinking": r, **message, "reasoning_content": r}, as
     * Transformers does. */
    bool messages;
} vlm_template_var;

/* Append the rendered text.  user_spans (NULL: not wanted): which bytes of out come from variables
 * with user set, whatever the template did to them; the values of keys "role" and "type" that
 * consist of a-z and _ alone do not count, since templates build control tokens from them.
 * Of two variables with one name the last counts.  On error out keeps what it had.
 * INVALID_ARGUMENT: the template failed or called raise_exception, whose text is the message.
 * RESOURCE_EXHAUSTED: a limit. */
VLM_MUST_USE vlm_status vlm_template_render(const vlm_template *t, const vlm_template_var *vars,
                                            size_t n_vars, vlm_buf *out, vlm_spans *user_spans,
                                            vlm_error *err);

#endif
