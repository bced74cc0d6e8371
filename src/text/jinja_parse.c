/* jinja_parse.c - statements of a template, and the parser's helpers. */
#include "text/jinja_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 1 << 16, PARAMS_MAX = 255 };

void *jinja_parse_fail(parser *p, const char *fmt, ...)
{
    if (p->status != VLM_OK) return NULL;
    char text[VLM_ERROR_MSG_LEN_MAX + 1];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->status = vlm_fail(p->err, VLM_INVALID_ARGUMENT, "line %u: %s", p->tok->line, text);
    return NULL;
}

void *jinja_parse_no_room(parser *p, bool at_limit, const char *what)
{
    if (at_limit) return jinja_parse_fail(p, "too many %s", what);
    if (p->status == VLM_OK) p->status = vlm_fail_memory(p->err, "template");
    return NULL;
}

bool jinja_parse_enter(parser *p)
{
    if (p->status != VLM_OK) return false;
    if (p->depth >= p->depth_max) {
        p->status = vlm_fail(p->err, VLM_RESOURCE_EXHAUSTED, "line %u: nested deeper than %u",
                             p->tok->line, p->depth_max);
        return false;
    }
    p->depth++;
    return true;
}

void *jinja_parse_alloc(parser *p, size_t n, size_t size)
{
    if (p->status != VLM_OK) return NULL;
    void *ptr = vlm_arena_array(&p->t->arena, n, size);
    if (ptr == NULL) p->status = vlm_fail_memory(p->err, "template");
    return ptr;
}

bool jinja_tok_is_op(const jtok *tok, const char *op)
{
    return tok->type == JT_OP && strcmp(tok->op, op) == 0;
}

bool jinja_tok_is_name(const jtok *tok, const char *name)
{
    return tok->type == JT_NAME && strcmp(tok->name, name) == 0;
}

bool jinja_parse_accept(parser *p, const char *op)
{
    if (p->status != VLM_OK || !jinja_tok_is_op(p->tok, op)) return false;
    p->tok++;
    return true;
}

void jinja_parse_expect(parser *p, const char *op)
{
    if (p->status == VLM_OK && !jinja_parse_accept(p, op))
        (void)jinja_parse_fail(p, "'%s' is missing", op);
}

const char *vlm_jinja_name(const jtemplate *t, const char *name)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (strcmp(t->names[i], name) == 0) return t->names[i];
    return NULL;
}

const char *jinja_parse_intern(parser *p, const char *name)
{
    jtemplate *t = p->t;
    const char *known = vlm_jinja_name(t, name);
    if (known != NULL) return known;
    if (!vlm_grow((void **)&t->names, &t->cap_names, t->n_names + 1, NAMES_MAX, sizeof *t->names))
        return jinja_parse_no_room(p, t->n_names >= NAMES_MAX, "names");
    t->names[t->n_names++] = name;
    return name;
}

static const jstmt *parse_block(parser *p);

static jstmt *new_stmt(parser *p, jstmt_type type)
{
    jstmt *s = jinja_parse_alloc(p, 1, sizeof *s);
    if (s == NULL) return NULL;
    s->type = type;
    s->line = p->tok->line;
    return s;
}

static void expect_end(parser *p)
{
    if (p->status != VLM_OK) return;
    if (p->tok->type != JT_BLOCK_END) {
        (void)jinja_parse_fail(p, "'%%}' is missing");
        return;
    }
    p->tok++;
}

static bool at_tag(const parser *p, const char *name)
{
    return p->tok->type == JT_BLOCK_BEGIN && jinja_tok_is_name(p->tok + 1, name);
}

/* Statements up to a tag that one of the names begins, which is not taken. */
static jbody parse_body(parser *p, const char *const *ends, size_t n_ends)
{
    jbody body = {0};
    const jstmt **link = &body.first;
    if (!jinja_parse_enter(p)) return body;
    while (p->status == VLM_OK) {
        jstmt *s = NULL;
        if (p->tok->type == JT_EOF) {
            if (n_ends > 0) (void)jinja_parse_fail(p, "'%s' is missing", ends[n_ends - 1]);
            break;
        }
        bool is_end = false;
        for (size_t i = 0; i < n_ends; i++) is_end |= at_tag(p, ends[i]);
        if (is_end) break;
        if (p->tok->type == JT_TEXT) {
            s = new_stmt(p, JS_TEXT);
            if (s != NULL) s->text = p->tok->text;
            p->tok++;
        } else if (p->tok->type == JT_PRINT_BEGIN) {
            s = new_stmt(p, JS_PRINT);
            p->tok++;
            const jexpr *e = jinja_parse_expr(p, true);
            if (s != NULL) s->expr = e;
            if (p->status == VLM_OK && p->tok->type != JT_PRINT_END)
                (void)jinja_parse_fail(p, "'}}' is missing");
            p->tok++;
        } else {
            s = (jstmt *)(uintptr_t)parse_block(p);
        }
        if (p->status != VLM_OK || s == NULL) break;
        *link = s;
        link = &s->next;
    }
    p->depth--;
    return body;
}

/* {% end... %} */
static void take_end(parser *p, const char *name)
{
    if (p->status != VLM_OK) return;
    if (!at_tag(p, name)) {
        (void)jinja_parse_fail(p, "'%s' is missing", name);
        return;
    }
    p->tok += 2;
    expect_end(p);
}

/* Behind "if" or "elif", to behind endif. */
static const jstmt *parse_if(parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif"};
    jstmt *s = new_stmt(p, JS_IF);
    if (s == NULL || !jinja_parse_enter(p)) return NULL;
    s->expr = jinja_parse_expr(p, true);
    expect_end(p);
    p->n_ifs++;
    s->body = parse_body(p, ends, 3);
    if (p->status == VLM_OK && at_tag(p, "elif")) {
        p->tok += 2;
        s->other.first = parse_if(p);
        p->n_ifs--;
        p->depth--;
        return s;
    }
    if (p->status == VLM_OK && at_tag(p, "else")) {
        p->tok += 2;
        expect_end(p);
        s->other = parse_body(p, ends + 2, 1);
    }
    take_end(p, "endif");
    p->n_ifs--;
    p->depth--;
    return s;
}

static const jstmt *parse_for(parser *p)
{
    static const char *const ends[] = {"else", "endfor"};
    jstmt *s = new_stmt(p, JS_FOR);
    if (s == NULL) return NULL;
    s->target = jinja_parse_target(p, false);
    if (p->status == VLM_OK && !jinja_tok_is_name(p->tok, "in"))
        return jinja_parse_fail(p, "'in' is missing");
    p->tok++;
    s->expr = jinja_parse_or(p, true);
    if (jinja_tok_is_name(p->tok, "if")) {
        p->tok++;
        s->filter = jinja_parse_expr(p, false);
    }
    if (jinja_tok_is_name(p->tok, "recursive")) {
        s->recursive = true;
        p->tok++;
    }
    expect_end(p);
    p->n_loops++;
    s->body = parse_body(p, ends, 2);
    p->n_loops--;
    if (p->status == VLM_OK && at_tag(p, "else")) {
        p->tok += 2;
        expect_end(p);
        s->other = parse_body(p, ends + 1, 1);
    }
    take_end(p, "endfor");
    return s;
}

/* The placeholder that block filters are applied to. */
static const jexpr *block_filters(parser *p, bool first_is_name)
{
    const jexpr *placeholder = jinja_parse_node(p, JX_CONST);
    return jinja_parse_filters(p, placeholder, first_is_name);
}

static const jstmt *parse_set(parser *p)
{
    static const char *const ends[] = {"endset"};
    jstmt *s = new_stmt(p, JS_SET);
    if (s == NULL) return NULL;
    s->target = jinja_parse_target(p, true);
    if (jinja_parse_accept(p, "=")) {
        s->expr = jinja_parse_expr(p, true);
        expect_end(p);
        return s;
    }
    s->type = JS_SET_BLOCK;
    if (jinja_tok_is_op(p->tok, "|")) s->expr = block_filters(p, false);
    expect_end(p);
    s->body = parse_body(p, ends, 1);
    take_end(p, "endset");
    return s;
}

/* (a, b=1) behind its opening parenthesis. */
static void parse_params(parser *p, jmacro *m)
{
    const char *params[PARAMS_MAX];
    const jexpr *defaults[PARAMS_MAX];
    size_t n = 0;
    while (p->status == VLM_OK && !jinja_tok_is_op(p->tok, ")")) {
        if (p->tok->type != JT_NAME || n == PARAMS_MAX) {
            (void)jinja_parse_fail(p, "a parameter's name is missing");
            return;
        }
        params[n] = jinja_parse_intern(p, (p->tok++)->name);
        defaults[n] = NULL;
        if (jinja_parse_accept(p, "="))
            defaults[n] = jinja_parse_expr(p, false);
        else if (n > 0 && defaults[n - 1] != NULL)
            (void)jinja_parse_fail(p, "a parameter without default behind one with");
        n++;
        if (!jinja_parse_accept(p, ",")) break;
    }
    jinja_parse_expect(p, ")");
    m->params = jinja_parse_alloc(p, n, sizeof *m->params);
    m->defaults = jinja_parse_alloc(p, n, sizeof *m->defaults);
    if (m->params == NULL || m->defaults == NULL) return;
    if (n > 0) {
        memcpy(m->params, params, n * sizeof *params);
        memcpy(m->defaults, defaults, n * sizeof *defaults);
    }
    m->n_params = n;
}

/* A body that is a function of its own: break there means a loop inside it. */
static void parse_macro_body(parser *p, jmacro *m, const char *end)
{
    jmacro *const outer = p->macro;
    const uint32_t n_loops = p->n_loops;
    expect_end(p);
    p->macro = m;
    p->n_loops = 0;
    m->body = parse_body(p, &end, 1);
    p->n_loops = n_loops;
    p->macro = outer;
    take_end(p, end);
}

static const jstmt *parse_macro(parser *p)
{
    jstmt *s = new_stmt(p, JS_MACRO);
    jmacro *m = jinja_parse_alloc(p, 1, sizeof *m);
    if (s == NULL || m == NULL) return NULL;
    if (p->tok->type != JT_NAME) return jinja_parse_fail(p, "a macro's name is missing");
    m->name = jinja_parse_intern(p, (p->tok++)->name);
    jinja_parse_expect(p, "(");
    parse_params(p, m);
    parse_macro_body(p, m, "endmacro");
    s->macro = m;
    return s;
}

static const jstmt *parse_call(parser *p)
{
    jstmt *s = new_stmt(p, JS_CALL_BLOCK);
    jmacro *m = jinja_parse_alloc(p, 1, sizeof *m);
    if (s == NULL || m == NULL) return NULL;
    m->name = "caller";
    if (jinja_parse_accept(p, "(")) parse_params(p, m);
    s->expr = jinja_parse_expr(p, false);
    if (p->status == VLM_OK && s->expr->type != JX_CALL)
        return jinja_parse_fail(p, "call needs a call");
    parse_macro_body(p, m, "endcall");
    s->macro = m;
    return s;
}

static const jstmt *parse_filter_block(parser *p)
{
    static const char *const ends[] = {"endfilter"};
    jstmt *s = new_stmt(p, JS_FILTER_BLOCK);
    if (s == NULL) return NULL;
    s->expr = block_filters(p, true);
    expect_end(p);
    s->body = parse_body(p, ends, 1);
    take_end(p, "endfilter");
    return s;
}

static const jstmt *parse_with(parser *p)
{
    static const char *const ends[] = {"endwith"};
    const char *names[PARAMS_MAX];
    const jexpr *values[PARAMS_MAX];
    size_t n = 0;
    jstmt *s = new_stmt(p, JS_WITH);
    while (p->status == VLM_OK && p->tok->type == JT_NAME && n < PARAMS_MAX) {
        names[n] = jinja_parse_intern(p, (p->tok++)->name);
        jinja_parse_expect(p, "=");
        values[n++] = jinja_parse_expr(p, false);
        if (!jinja_parse_accept(p, ",")) break;
    }
    expect_end(p);
    if (s == NULL) return NULL;
    s->names = jinja_parse_alloc(p, n, sizeof *s->names);
    s->values = jinja_parse_alloc(p, n, sizeof *s->values);
    if (s->names == NULL || s->values == NULL) return NULL;
    if (n > 0) {
        memcpy(s->names, names, n * sizeof *names);
        memcpy(s->values, values, n * sizeof *values);
    }
    s->n_names = n;
    s->body = parse_body(p, ends, 1);
    take_end(p, "endwith");
    return s;
}

static const jstmt *parse_generation(parser *p)
{
    static const char *const ends[] = {"endgeneration"};
    jstmt *s = new_stmt(p, JS_SCOPE);
    expect_end(p);
    if (s == NULL) return NULL;
    s->body = parse_body(p, ends, 1);
    take_end(p, "endgeneration");
    return s;
}

static const jstmt *parse_jump(parser *p, jstmt_type type, const char *name)
{
    if (p->n_loops == 0) return jinja_parse_fail(p, "'%s' outside a loop", name);
    const jstmt *s = new_stmt(p, type);
    expect_end(p);
    return s;
}

/* At {% : the statement that its name begins. */
static const jstmt *parse_block(parser *p)
{
    p->tok++;
    if (p->tok->type != JT_NAME) return jinja_parse_fail(p, "a tag's name is missing");
    const jtok *tag = p->tok++;
    if (jinja_tok_is_name(tag, "if")) return parse_if(p);
    if (jinja_tok_is_name(tag, "for")) return parse_for(p);
    if (jinja_tok_is_name(tag, "set")) return parse_set(p);
    if (jinja_tok_is_name(tag, "macro")) return parse_macro(p);
    if (jinja_tok_is_name(tag, "call")) return parse_call(p);
    if (jinja_tok_is_name(tag, "filter")) return parse_filter_block(p);
    if (jinja_tok_is_name(tag, "with")) return parse_with(p);
    if (jinja_tok_is_name(tag, "generation")) return parse_generation(p);
    if (jinja_tok_is_name(tag, "break")) return parse_jump(p, JS_BREAK, "break");
    if (jinja_tok_is_name(tag, "continue")) return parse_jump(p, JS_CONTINUE, "continue");
    p->tok = tag;
    return jinja_parse_fail(p, "unknown tag '%s'", tag->name);
}

vlm_status vlm_jinja_parse(vlm_bytes source, const vlm_template_limits *limits, jtemplate *out,
                           vlm_error *err)
{
    vlm_error local;
    jtokens tokens = {0};
    if (source.len > limits->source_max)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "the source is longer than %zu bytes",
                        limits->source_max);
    vlm_status status = vlm_jinja_lex(source, &out->arena, &tokens, err);
    if (status == VLM_OK) {
        parser p = {.tok = tokens.data,
                    .t = out,
                    .depth_max = limits->nesting_max,
                    .err = err == NULL ? &local : err};
        out->body = parse_body(&p, NULL, 0);
        status = p.status;
    }
    free(tokens.data);
    return status;
}
