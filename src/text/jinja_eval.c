/* jinja_eval.c - expressions: names, calls, filters, tests. */
#include "text/jinja_eval.h"

#include <string.h>

enum { ARGS_MAX = 4096 };

static jvalue lookup(jrun *r, jscope *scope, const char *name)
{
    for (const jscope *s = scope; s != NULL; s = s->parent)
        for (size_t i = s->n; i-- > 0;)
            if (s->vars[i].name == name) return s->vars[i].value;
    const jvalue global = jinja_global(r, name);
    if (global.type != J_UNDEFINED) return global;
    return (jvalue){.type = J_UNDEFINED, .u.name = name};
}

static jvalue eval_list(jrun *r, jscope *scope, const jexpr *e, jtype type)
{
    const jvalue out = jinja_list_new(&r->cx, type, e->n_items);
    for (size_t i = 0; i < e->n_items; i++)
        if (!jinja_push(&r->cx, out, jinja_eval(r, scope, e->items[i]))) return JUNDEF;
    return out;
}

static jvalue eval_dict(jrun *r, jscope *scope, const jexpr *e)
{
    const jvalue out = jinja_dict_new(&r->cx, J_DICT);
    for (size_t i = 0; i + 1 < e->n_items; i += 2) {
        const jvalue key = jinja_eval(r, scope, e->items[i]);
        const jvalue value = jinja_eval(r, scope, e->items[i + 1]);
        if (jinja_failed(&r->cx) || !jinja_dict_set(&r->cx, out.u.d, key, value)) return JUNDEF;
    }
    return out;
}

static jvalue eval_compare(jrun *r, jscope *scope, const jexpr *e)
{
    jvalue left = jinja_eval(r, scope, e->items[0]);
    for (size_t i = 1; i < e->n_items && !jinja_failed(&r->cx); i++) {
        const jvalue right = jinja_eval(r, scope, e->items[i]);
        const jvalue ok = jinja_binary(&r->cx, e->ops[i - 1], left, right);
        if (!jinja_truth(ok) || i + 1 == e->n_items) return ok;
        left = right;
    }
    return JUNDEF;
}

static jvalue eval_concat(jrun *r, jscope *scope, const jexpr *e)
{
    const jvalue parts = eval_list(r, scope, e, J_LIST);
    if (jinja_failed(&r->cx)) return JUNDEF;
    return jinja_concat(&r->cx, parts.u.l->items, parts.u.l->len);
}

static jvalue negate(jinja *cx, jvalue v, bool minus)
{
    int64_t i, out;
    if (jinja_as_int(v, &i)) {
        if (!minus) return jinja_int(i);
        if (__builtin_sub_overflow(0, i, &out))
            return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: an integer beyond 64 bits");
        return jinja_int(out);
    }
    if (v.type == J_FLOAT) return jinja_float(minus ? -v.u.f : v.u.f);
    return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: bad operand type for a sign: '%s'",
                      jinja_type_name(v));
}

static bool add_named(jinja *cx, jcall *call, const char *name, jvalue value)
{
    for (size_t i = 0; i < call->n_named; i++)
        if (strcmp(call->names[i], name) == 0) {
            (void)jinja_fail(cx, VLM_INVALID_ARGUMENT,
                             "template: keyword argument '%s' given twice", name);
            return false;
        }
    call->names[call->n_named] = name;
    call->named[call->n_named++] = value;
    return true;
}

/* The ASCII of a key, in the arena; keyword arguments by ** have such names. */
static const char *key_name(jinja *cx, jvalue key)
{
    if (key.type != J_STRING) {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: keywords must be strings");
        return NULL;
    }
    char *name = jinja_alloc(cx, key.u.s->len + 1, 1);
    for (size_t i = 0; name != NULL && i < key.u.s->len; i++) {
        const uint32_t c = jinja_cp(key.u.s->cp[i]);
        name[i] = c > 0 && c < 0x80 ? (char)c : '?';
    }
    return name;
}

static bool spread(jrun *r, jcall *call, const jarg *arg, jvalue value)
{
    jinja *cx = &r->cx;
    if (arg->stars == 1) {
        const jvalue list = jinja_iterate(cx, value);
        if (jinja_failed(cx)) return false;
        for (size_t i = 0; i < list.u.l->len; i++) {
            if (call->n_args == ARGS_MAX) break;
            call->args[call->n_args++] = list.u.l->items[i];
        }
        return true;
    }
    if (value.type != J_DICT) {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: what follows ** must be a mapping");
        return false;
    }
    for (size_t i = 0; i < value.u.d->len; i++) {
        const char *name = key_name(cx, value.u.d->items[i].key);
        if (name == NULL || call->n_named == ARGS_MAX) return false;
        if (!add_named(cx, call, name, value.u.d->items[i].value)) return false;
    }
    return true;
}

/* How many values the arguments may become. */
static size_t count_args(jrun *r, const jexpr *e, const jvalue *values)
{
    size_t n = 0;
    for (size_t i = 0; i < e->n_args && !jinja_failed(&r->cx); i++) {
        const bool star = e->args[i].stars > 0;
        n += star && values[i].type != J_ITER ? (size_t)jinja_length(&r->cx, values[i])
             : star                           ? values[i].u.l->len
                                              : 1;
    }
    if (n > ARGS_MAX)
        (void)jinja_fail(&r->cx, VLM_RESOURCE_EXHAUSTED, "template: more than %d arguments",
                         ARGS_MAX);
    return n;
}

static bool eval_args(jrun *r, jscope *scope, const jexpr *e, jcall *call)
{
    jinja *cx = &r->cx;
    *call = (jcall){0};
    if (e->n_args == 0) return !jinja_failed(cx);
    jvalue *values = jinja_alloc(cx, e->n_args, sizeof *values);
    for (size_t i = 0; i < e->n_args && !jinja_failed(cx); i++)
        values[i] = jinja_eval(r, scope, e->args[i].value);
    if (jinja_failed(cx)) return false;
    const size_t n = count_args(r, e, values);
    call->args = jinja_alloc(cx, n, sizeof *call->args);
    call->names = jinja_alloc(cx, n, sizeof *call->names);
    call->named = jinja_alloc(cx, n, sizeof *call->named);
    for (size_t i = 0; i < e->n_args && !jinja_failed(cx); i++) {
        const jarg *arg = &e->args[i];
        if (arg->stars > 0)
            (void)spread(r, call, arg, values[i]);
        else if (arg->name != NULL)
            (void)add_named(cx, call, arg->name, values[i]);
        else
            call->args[call->n_args++] = values[i];
    }
    return !jinja_failed(cx);
}

bool jinja_bind(jinja *cx, const char *fn, const jcall *call, const char *const *names, size_t n,
                jvalue *values, bool *given)
{
    if (jinja_failed(cx)) return false;
    for (size_t i = 0; i < n; i++) {
        values[i] = JUNDEF;
        given[i] = i < call->n_args;
        if (given[i]) values[i] = call->args[i];
    }
    if (call->n_args > n) {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: %s takes at most %zu arguments", fn,
                         n);
        return false;
    }
    for (size_t k = 0; k < call->n_named; k++) {
        size_t i = 0;
        while (i < n && strcmp(names[i], call->names[k]) != 0) i++;
        if (i == n || given[i]) {
            (void)jinja_fail(cx, VLM_INVALID_ARGUMENT,
                             "template: %s got an unexpected argument '%s'", fn, call->names[k]);
            return false;
        }
        given[i] = true;
        values[i] = call->named[k];
    }
    return true;
}

jvalue jinja_call_value(jrun *r, jvalue fn, const jcall *call)
{
    jinja *cx = &r->cx;
    if (!jinja_step(cx, 1)) return JUNDEF;
    if (fn.type == J_UNDEFINED)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: '%s' is undefined",
                          fn.u.name == NULL ? "value" : fn.u.name);
    if (fn.type != J_FUNC)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: '%s' object is not callable",
                          jinja_type_name(fn));
    switch (fn.u.fn->type) {
    case JF_GLOBAL: return jinja_global_call(r, fn.u.fn, call);
    case JF_METHOD: return jinja_method_call(r, fn.u.fn, call);
    case JF_MACRO: return jinja_call_macro(r, fn.u.fn, call);
    case JF_LOOP: break;
    }
    return jinja_loop_call(r, fn.u.fn, call);
}

static jvalue eval_call(jrun *r, jscope *scope, const jexpr *e)
{
    jcall call;
    const jvalue fn = jinja_eval(r, scope, e->a);
    if (!eval_args(r, scope, e, &call)) return JUNDEF;
    return jinja_call_value(r, fn, &call);
}

static jvalue eval_filter(jrun *r, jscope *scope, const jexpr *e)
{
    jcall call;
    if (e->fn < 0)
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "line %u: no filter named '%s'", e->line,
                          e->name);
    const jvalue value = jinja_eval(r, scope, e->a);
    if (!eval_args(r, scope, e, &call)) return JUNDEF;
    return jinja_filter_call(r, e->fn, value, &call);
}

static jvalue eval_test(jrun *r, jscope *scope, const jexpr *e)
{
    jcall call;
    if (e->fn < 0)
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "line %u: no test named '%s'", e->line,
                          e->name);
    const jvalue value = jinja_eval(r, scope, e->a);
    if (!eval_args(r, scope, e, &call)) return JUNDEF;
    return jinja_bool(jinja_test_call(r, e->fn, value, &call));
}

static jvalue eval_slice(jrun *r, jscope *scope, const jexpr *e)
{
    jvalue bounds[3];
    const jvalue object = jinja_eval(r, scope, e->a);
    for (size_t i = 0; i < 3; i++)
        bounds[i] = e->items[i] == NULL ? JNONE : jinja_eval(r, scope, e->items[i]);
    if (jinja_failed(&r->cx)) return JUNDEF;
    return jinja_slice(&r->cx, object, bounds[0], bounds[1], bounds[2]);
}

static jvalue eval_cond(jrun *r, jscope *scope, const jexpr *e)
{
    const jvalue condition = jinja_eval(r, scope, e->items[1]);
    if (jinja_failed(&r->cx)) return JUNDEF;
    if (jinja_truth(condition)) return jinja_eval(r, scope, e->items[0]);
    return e->items[2] == NULL ? JUNDEF : jinja_eval(r, scope, e->items[2]);
}

static jvalue eval_node(jrun *r, jscope *scope, const jexpr *e)
{
    jinja *cx = &r->cx;
    jvalue a;
    switch (e->type) {
    case JX_CONST: return e->value;
    case JX_NAME: return lookup(r, scope, e->name);
    case JX_LIST: return eval_list(r, scope, e, J_LIST);
    case JX_TUPLE: return eval_list(r, scope, e, J_TUPLE);
    case JX_DICT: return eval_dict(r, scope, e);
    case JX_ATTR: return jinja_attr(r, jinja_eval(r, scope, e->a), e->name);
    case JX_ITEM:
        a = jinja_eval(r, scope, e->a);
        return jinja_item(r, a, jinja_eval(r, scope, e->b));
    case JX_SLICE: return eval_slice(r, scope, e);
    case JX_CALL: return eval_call(r, scope, e);
    case JX_FILTER: return eval_filter(r, scope, e);
    case JX_TEST: return eval_test(r, scope, e);
    case JX_NOT: return jinja_bool(!jinja_truth(jinja_eval(r, scope, e->a)));
    case JX_NEG:
    case JX_POS: return negate(cx, jinja_eval(r, scope, e->a), e->type == JX_NEG);
    case JX_AND:
        a = jinja_eval(r, scope, e->a);
        return jinja_failed(cx) || !jinja_truth(a) ? a : jinja_eval(r, scope, e->b);
    case JX_OR:
        a = jinja_eval(r, scope, e->a);
        return jinja_failed(cx) || jinja_truth(a) ? a : jinja_eval(r, scope, e->b);
    case JX_BINARY:
        a = jinja_eval(r, scope, e->a);
        return jinja_binary(cx, e->op, a, jinja_eval(r, scope, e->b));
    case JX_CONCAT: return eval_concat(r, scope, e);
    case JX_COMPARE: return eval_compare(r, scope, e);
    case JX_COND: return eval_cond(r, scope, e);
    }
    return JUNDEF;
}

jvalue jinja_eval(jrun *r, jscope *scope, const jexpr *e)
{
    if (!jinja_step(&r->cx, 1) || !jinja_enter(&r->cx)) return JUNDEF;
    const jvalue v = eval_node(r, scope, e);
    r->cx.depth--;
    return jinja_failed(&r->cx) ? JUNDEF : v;
}

/* Filters written around a block: the innermost has a placeholder where the text goes. */
jvalue jinja_apply_block_filters(jrun *r, jscope *scope, const jexpr *filters, jvalue text)
{
    jcall call;
    if (filters == NULL || filters->type == JX_CONST) return text;
    if (!jinja_enter(&r->cx)) return JUNDEF;
    const jvalue inner = jinja_apply_block_filters(r, scope, filters->a, text);
    r->cx.depth--;
    if (filters->fn < 0)
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "line %u: no filter named '%s'",
                          filters->line, filters->name);
    if (!eval_args(r, scope, filters, &call)) return JUNDEF;
    return jinja_filter_call(r, filters->fn, inner, &call);
}
