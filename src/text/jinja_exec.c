/* jinja_exec.c - statements: scopes, loops, macros, blocks. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_eval.h"

jscope *jinja_scope_new(jrun *r, jscope *parent)
{
    jscope *s = jinja_alloc(&r->cx, 1, sizeof *s);
    if (s != NULL) s->parent = parent;
    return s;
}

void jinja_scope_set(jrun *r, jscope *scope, const char *name, jvalue value)
{
    if (scope == NULL || jinja_failed(&r->cx)) return;
    for (size_t i = 0; i < scope->n; i++)
        if (scope->vars[i].name == name) {
            scope->vars[i].value = value;
            return;
        }
    if (scope->n == scope->cap) {
        const size_t cap = scope->cap == 0 ? 4 : 2 * scope->cap;
        jvar *vars = jinja_alloc(&r->cx, cap, sizeof *vars);
        if (vars == NULL) return;
        if (scope->n > 0) memcpy(vars, scope->vars, scope->n * sizeof *vars);
        scope->vars = vars;
        scope->cap = cap;
    }
    scope->vars[scope->n++] = (jvar){.name = name, .value = value};
}

static void assign_attr(jrun *r, jscope *scope, const jexpr *target, jvalue value)
{
    jinja *cx = &r->cx;
    const jvalue ns = jinja_eval(r, scope, target->a);
    if (jinja_failed(cx)) return;
    if (ns.type != J_NAMESPACE) {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT,
                         "template: cannot assign attribute on non-namespace object");
        return;
    }
    if (target->name[0] == '_') {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: attribute '%s' is not allowed",
                         target->name);
        return;
    }
    (void)jinja_dict_set(cx, ns.u.d, jinja_utf8(cx, vlm_bytes_of(target->name), false), value);
}

void jinja_assign(jrun *r, jscope *scope, const jexpr *target, jvalue value)
{
    jinja *cx = &r->cx;
    if (jinja_failed(cx)) return;
    if (target->type == JX_NAME) {
        jinja_scope_set(r, scope, target->name, value);
        return;
    }
    if (target->type == JX_ATTR) {
        assign_attr(r, scope, target, value);
        return;
    }
    const jvalue items = jinja_iterate(cx, value);
    if (jinja_failed(cx)) return;
    if (items.u.l->len != target->n_items) {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: %zu values to unpack, expected %zu",
                         items.u.l->len, target->n_items);
        return;
    }
    if (!jinja_enter(cx)) return;
    for (size_t i = 0; i < target->n_items; i++)
        jinja_assign(r, scope, target->items[i], items.u.l->items[i]);
    cx->depth--;
}

/* Run a body into a buffer of its own; the text is a string. */
static jvalue capture(jrun *r, jscope *scope, jbody body)
{
    jbuf buf = {0};
    jbuf *const outer = r->out;
    r->out = &buf;
    (void)jinja_exec(r, scope, body);
    r->out = outer;
    return jinja_buf_string(&r->cx, &buf);
}

/* The items that pass the condition behind the loop's if. */
static jvalue filter_items(jrun *r, jscope *scope, const jstmt *s, jvalue items)
{
    if (s->filter == NULL) return items;
    const jvalue kept = jinja_list_new(&r->cx, J_LIST, 0);
    for (size_t i = 0; i < items.u.l->len && !jinja_failed(&r->cx); i++) {
        jscope *inner = jinja_scope_new(r, scope);
        jinja_assign(r, inner, s->target, items.u.l->items[i]);
        const jvalue ok = jinja_eval(r, inner, s->filter);
        if (!jinja_failed(&r->cx) && jinja_truth(ok))
            (void)jinja_push(&r->cx, kept, items.u.l->items[i]);
    }
    return kept;
}

static void run_loop(jrun *r, jscope *scope, const jstmt *s, jvalue iterable, uint32_t depth)
{
    jinja *cx = &r->cx;
    jvalue items = jinja_iterate(cx, iterable);
    if (jinja_failed(cx)) return;
    items = filter_items(r, scope, s, items);
    jloop *loop = jinja_alloc(cx, 1, sizeof *loop);
    jfunc *fn = jinja_alloc(cx, 1, sizeof *fn);
    if (jinja_failed(cx)) return;
    *loop = (jloop){.items = items, .depth = depth, .stmt = s, .scope = scope};
    *fn = (jfunc){.type = JF_LOOP, .name = "loop", .loop = loop};
    const jvalue loop_value = {.type = J_FUNC, .u.fn = fn};
    const char *loop_name = vlm_jinja_name(r->t, "loop");
    bool completed = false;
    for (; loop->idx < items.u.l->len && jinja_step(cx, 1); loop->idx++) {
        jscope *inner = jinja_scope_new(r, scope);
        if (loop_name != NULL) jinja_scope_set(r, inner, loop_name, loop_value);
        jinja_assign(r, inner, s->target, items.u.l->items[loop->idx]);
        const jflow flow = jinja_exec(r, inner, s->body);
        completed |= flow == JFLOW_NEXT;
        if (flow == JFLOW_BREAK) break;
    }
    /* As Jinja compiles it: else runs unless some round came to the end of the body. */
    if (!completed && !jinja_failed(cx)) (void)jinja_exec(r, jinja_scope_new(r, scope), s->other);
}

static bool enter_call(jrun *r)
{
    if (jinja_failed(&r->cx)) return false;
    if (r->n_calls >= r->cx.limits->call_depth_max) {
        (void)jinja_fail(&r->cx, VLM_RESOURCE_EXHAUSTED, "template: calls nested deeper than %u",
                         r->cx.limits->call_depth_max);
        return false;
    }
    r->n_calls++;
    return true;
}

/* loop(items) of a recursive loop: the body again, one deeper, as a string. */
jvalue jinja_loop_call(jrun *r, const jfunc *fn, const jcall *call)
{
    const jloop *loop = fn->loop;
    if (!loop->stmt->recursive || call->n_args != 1 || call->n_named > 0)
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT,
                          "template: only a recursive loop can be called, with one argument");
    if (!enter_call(r)) return JUNDEF;
    jbuf buf = {0};
    jbuf *const outer = r->out;
    r->out = &buf;
    run_loop(r, loop->scope, loop->stmt, call->args[0], loop->depth + 1);
    r->out = outer;
    r->n_calls--;
    return jinja_buf_string(&r->cx, &buf);
}

/* varargs, kwargs and caller, where the macro uses them. */
static void bind_extras(jrun *r, jscope *scope, const jmacro *m, const jcall *call,
                        const bool *taken)
{
    jinja *cx = &r->cx;
    if (m->uses_varargs) {
        const jvalue rest = jinja_list_new(cx, J_TUPLE, 0);
        for (size_t i = m->n_params; i < call->n_args; i++)
            (void)jinja_push(cx, rest, call->args[i]);
        jinja_scope_set(r, scope, vlm_jinja_name(r->t, "varargs"), rest);
    }
    if (m->uses_kwargs) {
        const jvalue rest = jinja_dict_new(cx, J_DICT);
        for (size_t k = 0; k < call->n_named && !jinja_failed(cx); k++)
            if (!taken[k])
                (void)jinja_dict_set(cx, rest.u.d, jinja_ascii(cx, call->names[k]), call->named[k]);
        jinja_scope_set(r, scope, vlm_jinja_name(r->t, "kwargs"), rest);
    }
}

static void bind_params(jrun *r, jscope *scope, const jfunc *fn, const jcall *call)
{
    jinja *cx = &r->cx;
    const jmacro *m = fn->macro;
    bool *taken = jinja_alloc(cx, call->n_named, sizeof *taken);
    if (jinja_failed(cx)) return;
    if (call->n_args > m->n_params && !m->uses_varargs) {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT,
                         "template: macro '%s' takes not more than %zu argument(s)", m->name,
                         m->n_params);
        return;
    }
    for (size_t i = 0; i < m->n_params; i++) {
        jvalue value = {.type = J_UNDEFINED, .u.name = m->params[i]};
        bool given = i < call->n_args;
        if (given) value = call->args[i];
        for (size_t k = 0; k < call->n_named; k++) {
            if (strcmp(call->names[k], m->params[i]) != 0) continue;
            if (given) {
                (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: macro '%s' got '%s' twice",
                                 m->name, m->params[i]);
                return;
            }
            given = taken[k] = true;
            value = call->named[k];
        }
        /* A default may use the parameters before it. */
        if (!given && m->defaults[i] != NULL) value = jinja_eval(r, scope, m->defaults[i]);
        jinja_scope_set(r, scope, m->params[i], value);
    }
    for (size_t k = 0; k < call->n_named; k++) {
        if (taken[k]) continue;
        if (strcmp(call->names[k], "caller") == 0 && m->uses_caller) {
            jinja_scope_set(r, scope, vlm_jinja_name(r->t, "caller"), call->named[k]);
            taken[k] = true;
        } else if (!m->uses_kwargs) {
            (void)jinja_fail(cx, VLM_INVALID_ARGUMENT,
                             "template: macro '%s' takes no keyword argument '%s'", m->name,
                             call->names[k]);
            return;
        }
    }
    bind_extras(r, scope, m, call, taken);
}

jvalue jinja_call_macro(jrun *r, const jfunc *fn, const jcall *call)
{
    if (!enter_call(r)) return JUNDEF;
    jscope *scope = jinja_scope_new(r, fn->scope);
    /* loop of the caller is not seen inside. */
    const char *loop_name = vlm_jinja_name(r->t, "loop");
    if (loop_name != NULL)
        jinja_scope_set(r, scope, loop_name, (jvalue){.type = J_UNDEFINED, .u.name = "loop"});
    bind_params(r, scope, fn, call);
    const jvalue text = jinja_failed(&r->cx) ? JUNDEF : capture(r, scope, fn->macro->body);
    r->n_calls--;
    return text;
}

static jvalue macro_value(jrun *r, jscope *scope, const jmacro *macro)
{
    jfunc *fn = jinja_alloc(&r->cx, 1, sizeof *fn);
    if (fn == NULL) return JUNDEF;
    *fn = (jfunc){.type = JF_MACRO, .name = macro->name, .macro = macro, .scope = scope};
    return (jvalue){.type = J_FUNC, .u.fn = fn};
}

/* {% call(args) f(x) %}: f(x, caller=the body). */
static void exec_call_block(jrun *r, jscope *scope, const jstmt *s)
{
    jinja *cx = &r->cx;
    jexpr *with_caller = jinja_alloc(cx, 1, sizeof *with_caller);
    jarg *args = jinja_alloc(cx, s->expr->n_args + 1, sizeof *args);
    jexpr *value = jinja_alloc(cx, 1, sizeof *value);
    if (jinja_failed(cx)) return;
    *value = (jexpr){.type = JX_CONST, .value = macro_value(r, scope, s->macro)};
    if (s->expr->n_args > 0) memcpy(args, s->expr->args, s->expr->n_args * sizeof *args);
    args[s->expr->n_args] = (jarg){.name = "caller", .value = value};
    *with_caller = *s->expr;
    with_caller->args = args;
    with_caller->n_args++;
    const jvalue text = jinja_eval(r, scope, with_caller);
    if (!jinja_failed(cx)) jinja_put_str(cx, r->out, text);
}

static void exec_with(jrun *r, jscope *scope, const jstmt *s)
{
    jscope *inner = jinja_scope_new(r, scope);
    for (size_t i = 0; i < s->n_names && !jinja_failed(&r->cx); i++)
        jinja_scope_set(r, inner, s->names[i], jinja_eval(r, scope, s->values[i]));
    (void)jinja_exec(r, inner, s->body);
}

static void exec_filter_block(jrun *r, jscope *scope, const jstmt *s)
{
    const jvalue text = capture(r, jinja_scope_new(r, scope), s->body);
    const jvalue out = jinja_apply_block_filters(r, scope, s->expr, text);
    if (!jinja_failed(&r->cx)) jinja_put_str(&r->cx, r->out, out);
}

static jflow exec_if(jrun *r, jscope *scope, const jstmt *s)
{
    const jvalue condition = jinja_eval(r, scope, s->expr);
    if (jinja_failed(&r->cx)) return JFLOW_NEXT;
    return jinja_exec(r, scope, jinja_truth(condition) ? s->body : s->other);
}

static jflow exec_one(jrun *r, jscope *scope, const jstmt *s)
{
    jinja *cx = &r->cx;
    jvalue v;
    switch (s->type) {
    case JS_TEXT: (void)jinja_buf_put(cx, r->out, s->text.cp, s->text.len); break;
    case JS_PRINT:
        v = jinja_eval(r, scope, s->expr);
        if (!jinja_failed(cx)) jinja_put_str(cx, r->out, v);
        break;
    case JS_IF: return exec_if(r, scope, s);
    case JS_FOR: run_loop(r, scope, s, jinja_eval(r, scope, s->expr), 1); break;
    case JS_SET: jinja_assign(r, scope, s->target, jinja_eval(r, scope, s->expr)); break;
    case JS_SET_BLOCK:
        v = capture(r, jinja_scope_new(r, scope), s->body);
        jinja_assign(r, scope, s->target, jinja_apply_block_filters(r, scope, s->expr, v));
        break;
    case JS_MACRO:
        jinja_scope_set(r, scope, s->macro->name, macro_value(r, scope, s->macro));
        break;
    case JS_CALL_BLOCK: exec_call_block(r, scope, s); break;
    case JS_FILTER_BLOCK: exec_filter_block(r, scope, s); break;
    case JS_WITH: exec_with(r, scope, s); break;
    case JS_SCOPE: return jinja_exec(r, jinja_scope_new(r, scope), s->body);
    case JS_BREAK: return JFLOW_BREAK;
    case JS_CONTINUE: return JFLOW_CONTINUE;
    }
    return JFLOW_NEXT;
}

jflow jinja_exec(jrun *r, jscope *scope, jbody body)
{
    jflow flow = JFLOW_NEXT;
    if (!jinja_enter(&r->cx)) return JFLOW_BREAK;
    for (const jstmt *s = body.first; s != NULL && flow == JFLOW_NEXT; s = s->next) {
        if (!jinja_step(&r->cx, 1)) break;
        flow = exec_one(r, scope, s);
    }
    r->cx.depth--;
    return jinja_failed(&r->cx) ? JFLOW_BREAK : flow;
}
