/* jinja_methods.c - methods of dicts, lists and loops, and the look-up of every method.  Methods
 * that change something do not exist here, as in Jinja's immutable sandbox. */
#include "text/jinja_methods.h"

#include <stdlib.h>
#include <string.h>

static jvalue m_get(jrun *r, jvalue self, const jcall *call)
{
    static const char *const names[] = {"key", "default"};
    jvalue a[2];
    bool given[2];
    if (!jinja_bind(&r->cx, "get", call, names, 2, a, given)) return JUNDEF;
    if (!given[0] || !jinja_hashable(a[0]))
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "template: get needs a key");
    const jvalue *found = jinja_dict_get(&r->cx, self.u.d, a[0]);
    return found != NULL ? *found : given[1] ? a[1] : JNONE;
}

static jvalue view(jrun *r, jvalue self, bool keys, bool values)
{
    jinja *cx = &r->cx;
    const jvalue out = jinja_list_new(cx, J_VIEW, self.u.d->len);
    for (size_t i = 0; i < self.u.d->len && !jinja_failed(cx); i++) {
        const jentry *e = &self.u.d->items[i];
        if (keys && values) {
            const jvalue pair = jinja_list_new(cx, J_TUPLE, 2);
            (void)jinja_push(cx, pair, e->key);
            (void)jinja_push(cx, pair, e->value);
            (void)jinja_push(cx, out, pair);
        } else {
            (void)jinja_push(cx, out, keys ? e->key : e->value);
        }
    }
    return out;
}
static jvalue m_items(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    return view(r, self, true, true);
}
static jvalue m_keys(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    return view(r, self, true, false);
}
static jvalue m_values(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    return view(r, self, false, true);
}
static jvalue m_dict_copy(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    const jvalue out = jinja_dict_new(&r->cx, J_DICT);
    for (size_t i = 0; i < self.u.d->len && !jinja_failed(&r->cx); i++)
        (void)jinja_dict_set(&r->cx, out.u.d, self.u.d->items[i].key, self.u.d->items[i].value);
    return out;
}

static jvalue m_list_index(jrun *r, jvalue self, const jcall *call)
{
    for (size_t i = 0; call->n_args > 0 && i < self.u.l->len && !jinja_failed(&r->cx); i++)
        if (jinja_equal(&r->cx, self.u.l->items[i], call->args[0])) return jinja_int((int64_t)i);
    return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "template: value is not in list");
}
static jvalue m_list_count(jrun *r, jvalue self, const jcall *call)
{
    int64_t n = 0;
    for (size_t i = 0; call->n_args > 0 && i < self.u.l->len; i++)
        n += jinja_equal(&r->cx, self.u.l->items[i], call->args[0]);
    return jinja_int(n);
}
static jvalue m_list_copy(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    const jvalue out = jinja_list_new(&r->cx, J_LIST, self.u.l->len);
    for (size_t i = 0; i < self.u.l->len; i++)
        if (!jinja_push(&r->cx, out, self.u.l->items[i])) return JUNDEF;
    return out;
}

static const jmethod methods[] = {
    {J_DICT, "get", m_get},           {J_DICT, "items", m_items},
    {J_DICT, "keys", m_keys},         {J_DICT, "values", m_values},
    {J_DICT, "copy", m_dict_copy},    {J_LIST, "index", m_list_index},
    {J_LIST, "count", m_list_count},  {J_LIST, "copy", m_list_copy},
    {J_TUPLE, "index", m_list_index}, {J_TUPLE, "count", m_list_count},
};

/* loop.index and its kind. */
static jvalue loop_attr(const jloop *l, const char *name)
{
    const int64_t i = (int64_t)l->idx, n = (int64_t)l->items.u.l->len;
    const jvalue *items = l->items.u.l->items;
    if (strcmp(name, "index") == 0) return jinja_int(i + 1);
    if (strcmp(name, "index0") == 0) return jinja_int(i);
    if (strcmp(name, "revindex") == 0) return jinja_int(n - i);
    if (strcmp(name, "revindex0") == 0) return jinja_int(n - i - 1);
    if (strcmp(name, "first") == 0) return jinja_bool(i == 0);
    if (strcmp(name, "last") == 0) return jinja_bool(i == n - 1);
    if (strcmp(name, "length") == 0) return jinja_int(n);
    if (strcmp(name, "depth") == 0) return jinja_int(l->depth);
    if (strcmp(name, "depth0") == 0) return jinja_int((int64_t)l->depth - 1);
    if (strcmp(name, "previtem") == 0 && i > 0) return items[i - 1];
    if (strcmp(name, "nextitem") == 0 && i + 1 < n) return items[i + 1];
    return (jvalue){.type = J_UNDEFINED, .u.name = name};
}

static jvalue macro_attr(jinja *cx, const jmacro *m, const char *name)
{
    if (strcmp(name, "name") == 0) return jinja_ascii(cx, m->name);
    if (strcmp(name, "caller") == 0) return jinja_bool(m->uses_caller);
    if (strcmp(name, "catch_varargs") == 0) return jinja_bool(m->uses_varargs);
    if (strcmp(name, "catch_kwargs") == 0) return jinja_bool(m->uses_kwargs);
    if (strcmp(name, "arguments") != 0) return (jvalue){.type = J_UNDEFINED, .u.name = name};
    const jvalue out = jinja_list_new(cx, J_TUPLE, m->n_params);
    for (size_t i = 0; i < m->n_params; i++)
        (void)jinja_push(cx, out, jinja_ascii(cx, m->params[i]));
    return out;
}

enum {
    METHOD_CYCLE = 1000,
    METHOD_CHANGED,
    METHOD_CYCLER_NEXT,
    METHOD_CYCLER_RESET,
    METHOD_FROMKEYS
};

static jvalue bound(jinja *cx, jvalue self, const char *name, int id)
{
    jfunc *fn = jinja_alloc(cx, 1, sizeof *fn);
    if (fn == NULL) return JUNDEF;
    *fn = (jfunc){.type = JF_METHOD, .name = name, .id = id, .self = self};
    return (jvalue){.type = J_FUNC, .u.fn = fn};
}

static jvalue func_attr(jrun *r, jvalue self, const char *name)
{
    jinja *cx = &r->cx;
    const jfunc *fn = self.u.fn;
    if (fn->type == JF_LOOP) {
        if (strcmp(name, "cycle") == 0) return bound(cx, self, name, METHOD_CYCLE);
        if (strcmp(name, "changed") == 0) return bound(cx, self, name, METHOD_CHANGED);
        return loop_attr(fn->loop, name);
    }
    if (fn->type == JF_MACRO) return macro_attr(cx, fn->macro, name);
    if (fn->type == JF_GLOBAL && strcmp(fn->name, "dict") == 0 && strcmp(name, "fromkeys") == 0)
        return bound(cx, self, name, METHOD_FROMKEYS);
    /* A cycler: its items, and the position as last item. */
    if (fn->type == JF_GLOBAL && strcmp(fn->name, "a cycler") == 0) {
        const jlist *l = fn->self.u.l;
        if (strcmp(name, "next") == 0) return bound(cx, self, name, METHOD_CYCLER_NEXT);
        if (strcmp(name, "reset") == 0) return bound(cx, self, name, METHOD_CYCLER_RESET);
        if (strcmp(name, "current") == 0) return l->items[l->items[l->len - 1].u.i];
    }
    return (jvalue){.type = J_UNDEFINED, .u.name = name};
}

jvalue jinja_method(jrun *r, jvalue self, const char *name)
{
    if (self.type == J_FUNC) return func_attr(r, self, name);
    const bool is_string = self.type == J_STRING;
    const jmethod *table = is_string ? jinja_string_methods : methods;
    const size_t n = is_string ? jinja_n_string_methods : sizeof methods / sizeof methods[0];
    for (size_t i = 0; i < n; i++)
        if (table[i].type == self.type && strcmp(table[i].name, name) == 0)
            return bound(&r->cx, self, table[i].name, (int)i);
    return (jvalue){.type = J_UNDEFINED, .u.name = name};
}

static jvalue loop_cycle(jrun *r, const jloop *loop, const jcall *call)
{
    if (call->n_args == 0)
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "template: no items for cycling given");
    return call->args[loop->idx % call->n_args];
}

static jvalue loop_changed(jrun *r, jloop *loop, const jcall *call)
{
    const jvalue now = jinja_list_new(&r->cx, J_TUPLE, call->n_args);
    for (size_t i = 0; i < call->n_args; i++) (void)jinja_push(&r->cx, now, call->args[i]);
    const bool changed =
        loop->last_changed.type == J_UNDEFINED || !jinja_equal(&r->cx, loop->last_changed, now);
    if (changed) loop->last_changed = now;
    return jinja_bool(changed);
}

static jvalue cycler_step(jinja *cx, const jfunc *cycler, bool reset)
{
    jlist *l = cycler->self.u.l;
    const size_t n = l->len - 1;
    jvalue *position = &l->items[n];
    if (reset) {
        *position = jinja_int(0);
        return JNONE;
    }
    (void)cx;
    const jvalue current = l->items[position->u.i];
    *position = jinja_int((position->u.i + 1) % (int64_t)n);
    return current;
}

static jvalue dict_fromkeys(jrun *r, const jcall *call)
{
    jinja *cx = &r->cx;
    const jvalue out = jinja_dict_new(cx, J_DICT);
    const jvalue keys = jinja_iterate(cx, call->n_args > 0 ? call->args[0] : JNONE);
    for (size_t i = 0; !jinja_failed(cx) && i < keys.u.l->len; i++)
        (void)jinja_dict_set(cx, out.u.d, keys.u.l->items[i],
                             call->n_args > 1 ? call->args[1] : JNONE);
    return out;
}

jvalue jinja_method_call(jrun *r, const jfunc *fn, const jcall *call)
{
    switch (fn->id) {
    case METHOD_CYCLE: return loop_cycle(r, fn->self.u.fn->loop, call);
    case METHOD_CHANGED: return loop_changed(r, fn->self.u.fn->loop, call);
    case METHOD_CYCLER_NEXT: return cycler_step(&r->cx, fn->self.u.fn, false);
    case METHOD_CYCLER_RESET: return cycler_step(&r->cx, fn->self.u.fn, true);
    case METHOD_FROMKEYS: return dict_fromkeys(r, call);
    default: break;
    }
    const jmethod *table = fn->self.type == J_STRING ? jinja_string_methods : methods;
    return table[fn->id].fn(r, fn->self, call);
}
