/* jinja_globals.c - functions that every template has, unless a variable hides them. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"
#include "text/jinja_eval.h"

typedef jvalue global_fn(jrun *r, const jfunc *fn, const jcall *call);

static jvalue g_range(jrun *r, const jfunc *fn, const jcall *call)
{
    jinja *cx = &r->cx;
    int64_t a[3] = {0, 0, 1};
    (void)fn;
    if (call->n_args < 1 || call->n_args > 3 || call->n_named > 0)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: range takes 1 to 3 arguments");
    for (size_t i = 0; i < call->n_args; i++)
        if (!jinja_as_int(call->args[i], &a[call->n_args == 1 ? 1 : i]))
            return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: range needs integers, not %s",
                              jinja_type_name(call->args[i]));
    if (a[2] == 0) return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: range step is zero");
    const double span = ((double)a[1] - (double)a[0]) / (double)a[2];
    if (span > (double)cx->limits->range_max)
        return jinja_fail(cx, VLM_RESOURCE_EXHAUSTED, "template: a range of more than %u items",
                          cx->limits->range_max);
    size_t len = 0;
    for (int64_t at = a[0]; a[2] > 0 ? at < a[1] : at > a[1]; len++)
        if (__builtin_add_overflow(at, a[2], &at)) {
            len++;
            break;
        }
    jrange *range = jinja_alloc(cx, 1, sizeof *range);
    if (range == NULL) return JUNDEF;
    *range = (jrange){.start = a[0], .step = a[2], .len = len};
    return (jvalue){.type = J_RANGE, .u.r = range};
}

/* dict(other, a=1): from a mapping or pairs, and keywords. */
static jvalue fill_dict(jrun *r, jtype type, const jcall *call)
{
    jinja *cx = &r->cx;
    const jvalue out = jinja_dict_new(cx, type);
    if (call->n_args > 1)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: dict takes at most one argument");
    if (call->n_args == 1 && call->args[0].type == J_DICT) {
        const jdict *d = call->args[0].u.d;
        for (size_t i = 0; i < d->len && !jinja_failed(cx); i++)
            (void)jinja_dict_set(cx, out.u.d, d->items[i].key, d->items[i].value);
    } else if (call->n_args == 1) {
        const jvalue list = jinja_iterate(cx, call->args[0]);
        for (size_t i = 0; !jinja_failed(cx) && i < list.u.l->len; i++) {
            const jvalue pair = jinja_iterate(cx, list.u.l->items[i]);
            if (jinja_failed(cx) || pair.u.l->len != 2)
                return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: dict needs pairs");
            (void)jinja_dict_set(cx, out.u.d, pair.u.l->items[0], pair.u.l->items[1]);
        }
    }
    for (size_t i = 0; i < call->n_named && !jinja_failed(cx); i++)
        (void)jinja_dict_set(cx, out.u.d, jinja_ascii(cx, call->names[i]), call->named[i]);
    return out;
}
static jvalue g_dict(jrun *r, const jfunc *fn, const jcall *call)
{
    (void)fn;
    return fill_dict(r, J_DICT, call);
}
static jvalue g_namespace(jrun *r, const jfunc *fn, const jcall *call)
{
    (void)fn;
    return fill_dict(r, J_NAMESPACE, call);
}

static jvalue g_raise(jrun *r, const jfunc *fn, const jcall *call)
{
    jinja *cx = &r->cx;
    char text[VLM_ERROR_MSG_LEN_MAX + 1];
    size_t n = 0;
    (void)fn;
    if (call->n_args + call->n_named != 1)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: raise_exception takes one argument");
    const jvalue what = jinja_str(cx, call->n_args > 0 ? call->args[0] : call->named[0]);
    if (jinja_failed(cx)) return JUNDEF;
    /* A client's text is left out: an error text holds no prompt. */
    for (size_t i = 0; i < what.u.s->len && n + 4 < sizeof text; i++) {
        const jchar c = what.u.s->cp[i];
        if ((c & JINJA_MARK) != 0) {
            if (n == 0 || text[n - 1] != '?') text[n++] = '?';
            continue;
        }
        n += vlm_utf8_encode(jinja_cp(c), text + n);
    }
    text[n] = '\0';
    return jinja_fail(cx, VLM_INVALID_ARGUMENT, "%s", n == 0 ? "template: raise_exception" : text);
}

static jvalue g_strftime_now(jrun *r, const jfunc *fn, const jcall *call)
{
    jinja *cx = &r->cx;
    char format[256], text[1024];
    (void)fn;
    if (call->n_args != 1 || call->args[0].type != J_STRING)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: strftime_now needs a format");
    const jstr *s = call->args[0].u.s;
    size_t n = 0;
    for (size_t i = 0; i < s->len && n + 5 < sizeof format; i++)
        n += vlm_utf8_encode(jinja_cp(s->cp[i]), format + n);
    format[n] = '\0';
    const time_t now = time(NULL);
    struct tm local;
    if (n == 0 || localtime_r(&now, &local) == NULL) return jinja_ascii(cx, "");
    const size_t len = strftime(text, sizeof text, format, &local);
    return jinja_utf8(cx, (vlm_bytes){.ptr = text, .len = len}, false);
}

static jvalue stateful(jrun *r, const char *name, jvalue state)
{
    jfunc *fn = jinja_alloc(&r->cx, 1, sizeof *fn);
    if (fn == NULL) return JUNDEF;
    *fn = (jfunc){.type = JF_GLOBAL, .name = name, .id = -1, .self = state};
    return (jvalue){.type = J_FUNC, .u.fn = fn};
}

/* joiner(sep): '' the first time it is called, sep from then on.  State: [sep, called]. */
static jvalue g_joiner(jrun *r, const jfunc *fn, const jcall *call)
{
    jinja *cx = &r->cx;
    (void)fn;
    const jvalue state = jinja_list_new(cx, J_LIST, 2);
    const jvalue sep = call->n_args > 0    ? call->args[0]
                       : call->n_named > 0 ? call->named[0]
                                           : jinja_ascii(cx, ", ");
    (void)jinja_push(cx, state, sep);
    (void)jinja_push(cx, state, jinja_bool(false));
    return jinja_failed(cx) ? JUNDEF : stateful(r, "a joiner", state);
}

/* cycler(a, b): its items and the position. */
static jvalue g_cycler(jrun *r, const jfunc *fn, const jcall *call)
{
    jinja *cx = &r->cx;
    (void)fn;
    if (call->n_args == 0 || call->n_named > 0)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                          "template: at least one item has to be provided");
    const jvalue state = jinja_list_new(cx, J_LIST, call->n_args + 1);
    for (size_t i = 0; i < call->n_args; i++) (void)jinja_push(cx, state, call->args[i]);
    (void)jinja_push(cx, state, jinja_int(0));
    return jinja_failed(cx) ? JUNDEF : stateful(r, "a cycler", state);
}

static const struct {
    const char *name;
    global_fn *fn;
} globals[] = {
    {"range", g_range},
    {"dict", g_dict},
    {"namespace", g_namespace},
    {"raise_exception", g_raise},
    {"strftime_now", g_strftime_now},
    {"joiner", g_joiner},
    {"cycler", g_cycler},
};

jvalue jinja_global(jrun *r, const char *name)
{
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (strcmp(globals[i].name, name) != 0) continue;
        jfunc *fn = jinja_alloc(&r->cx, 1, sizeof *fn);
        if (fn == NULL) return JUNDEF;
        *fn = (jfunc){.type = JF_GLOBAL, .name = globals[i].name, .id = (int)i};
        return (jvalue){.type = J_FUNC, .u.fn = fn};
    }
    return JUNDEF;
}

jvalue jinja_global_call(jrun *r, const jfunc *fn, const jcall *call)
{
    if (fn->id >= 0) return globals[fn->id].fn(r, fn, call);
    if (strcmp(fn->name, "a joiner") == 0) {
        jvalue *called = &fn->self.u.l->items[1];
        if (called->u.b) return fn->self.u.l->items[0];
        called->u.b = true;
        return jinja_ascii(&r->cx, "");
    }
    return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "template: %s is not callable", fn->name);
}
