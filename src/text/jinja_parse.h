/* jinja_parse.h - the parser's state, shared by its two halves: expressions (jinja_expr.c) and
 * statements (jinja_parse.c).  Not: for others.  Threads: one. */
#ifndef VLM_TEXT_JINJA_PARSE_H
#define VLM_TEXT_JINJA_PARSE_H

#include "text/jinja_ast.h"

typedef struct parser {
    const jtok *tok; /* the current token */
    jtemplate *t;
    uint32_t depth, depth_max;
    uint32_t n_ifs;   /* conditionals around: an unknown filter there fails only when reached */
    uint32_t n_loops; /* loops around, within this macro */
    jmacro *macro;    /* around, NULL outside */
    vlm_error *err;
    vlm_status status; /* sticky */
} parser;

/* Keep the first error; returns NULL. */
void *jinja_parse_fail(parser *p, const char *fmt, ...) VLM_PRINTF(2, 3);
/* A list that could not grow: at its limit, or out of memory.  Returns NULL. */
void *jinja_parse_no_room(parser *p, bool at_limit, const char *what);
bool jinja_parse_enter(parser *p);
void *jinja_parse_alloc(parser *p, size_t n, size_t size);
bool jinja_tok_is_op(const jtok *tok, const char *op);
bool jinja_tok_is_name(const jtok *tok, const char *name);
/* Take the token if it is that operator. */
bool jinja_parse_accept(parser *p, const char *op);
void jinja_parse_expect(parser *p, const char *op);
const char *jinja_parse_intern(parser *p, const char *name);

/* A whole expression; with tuples, "a, b" without parentheses is one. */
const jexpr *jinja_parse_expr(parser *p, bool tuples);
/* An expression that may not contain `a if b else c` at its top: a loop's iterable. */
const jexpr *jinja_parse_or(parser *p, bool tuples);
/* NAME, or "a, b" and "(a, b)" of such; with attrs also ns.name. */
const jexpr *jinja_parse_target(parser *p, bool attrs);
/* "| f | g(x)" around value; the first bar has been taken when inner. */
const jexpr *jinja_parse_filters(parser *p, const jexpr *value, bool first_is_name);
jexpr *jinja_parse_node(parser *p, jexpr_type type);
void jinja_parse_args(parser *p, jexpr *call);

#endif
