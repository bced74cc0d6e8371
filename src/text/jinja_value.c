/* jinja_value.c - values of jinja_value.h that are no text. */
#include "text/jinja_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { C_DEPTH_MAX = 1500 };

jvalue jinja_fail(jinja *cx, vlm_status status, const char *fmt, ...)
{
    if (cx->status != VLM_OK) return JUNDEF;
    char text[VLM_ERROR_MSG_LEN_MAX + 1];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cx->status = vlm_fail(cx->err, status, "%s", text);
    return JUNDEF;
}

bool jinja_step(jinja *cx, uint64_t n)
{
    if (cx->status != VLM_OK) return false;
    if (n > cx->limits->steps_max - cx->steps) {
        (void)jinja_fail(cx, VLM_RESOURCE_EXHAUSTED, "template: more than %llu steps",
                         (unsigned long long)cx->limits->steps_max);
        return false;
    }
    cx->steps += n;
    return true;
}

bool jinja_enter(jinja *cx)
{
    if (cx->status != VLM_OK) return false;
    if (cx->depth >= C_DEPTH_MAX) {
        (void)jinja_fail(cx, VLM_RESOURCE_EXHAUSTED, "template: nested deeper than %d",
                         C_DEPTH_MAX);
        return false;
    }
    cx->depth++;
    return true;
}

void *jinja_alloc(jinja *cx, size_t n, size_t elem_size)
{
    if (cx->status != VLM_OK) return NULL;
    void *ptr = vlm_arena_array(&cx->arena, n, elem_size);
    if (ptr == NULL)
        (void)jinja_fail(cx, VLM_RESOURCE_EXHAUSTED, "template: its values take too much memory");
    return ptr;
}

jvalue jinja_list_new(jinja *cx, jtype type, size_t cap)
{
    jlist *l = jinja_alloc(cx, 1, sizeof *l);
    if (l == NULL) return JUNDEF;
    if (cap > 0) {
        l->items = jinja_alloc(cx, cap, sizeof *l->items);
        if (l->items == NULL) return JUNDEF;
        l->cap = cap;
    }
    return (jvalue){.type = type, .u.l = l};
}

bool jinja_push(jinja *cx, jvalue list, jvalue item)
{
    if (jinja_failed(cx)) return false;
    jlist *l = list.u.l;
    if (l->len == l->cap) {
        const size_t cap = l->cap < 8 ? 8 : 2 * l->cap;
        jvalue *items = jinja_alloc(cx, cap, sizeof *items);
        if (items == NULL) return false;
        if (l->len > 0) memcpy(items, l->items, l->len * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->len++] = item;
    return jinja_step(cx, 1);
}

jvalue jinja_dict_new(jinja *cx, jtype type)
{
    jdict *d = jinja_alloc(cx, 1, sizeof *d);
    if (d == NULL) return JUNDEF;
    return (jvalue){.type = type, .u.d = d};
}

bool jinja_hashable(jvalue v)
{
    if (v.type == J_TUPLE) {
        for (size_t i = 0; i < v.u.l->len; i++)
            if (v.u.l->items[i].type == J_LIST || v.u.l->items[i].type == J_DICT) return false;
        return true;
    }
    return v.type != J_LIST && v.type != J_DICT;
}

const jvalue *jinja_dict_get(jinja *cx, const jdict *d, jvalue key)
{
    if (!jinja_step(cx, 1 + d->len / 8)) return NULL;
    for (size_t i = 0; i < d->len; i++)
        if (jinja_equal(cx, d->items[i].key, key)) return &d->items[i].value;
    return NULL;
}

const jvalue *jinja_dict_get_ascii(jinja *cx, const jdict *d, const char *key)
{
    if (!jinja_step(cx, 1 + d->len / 8)) return NULL;
    for (size_t i = 0; i < d->len; i++)
        if (d->items[i].key.type == J_STRING && jinja_str_is(d->items[i].key.u.s, key))
            return &d->items[i].value;
    return NULL;
}

bool jinja_dict_set(jinja *cx, jdict *d, jvalue key, jvalue value)
{
    if (!jinja_hashable(key)) {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: unhashable type: '%s'",
                         jinja_type_name(key));
        return false;
    }
    jvalue *found = (jvalue *)(uintptr_t)jinja_dict_get(cx, d, key);
    if (jinja_failed(cx)) return false;
    if (found != NULL) {
        *found = value;
        return true;
    }
    if (d->len == d->cap) {
        const size_t cap = d->cap < 8 ? 8 : 2 * d->cap;
        jentry *items = jinja_alloc(cx, cap, sizeof *items);
        if (items == NULL) return false;
        if (d->len > 0) memcpy(items, d->items, d->len * sizeof *items);
        d->items = items;
        d->cap = cap;
    }
    d->items[d->len++] = (jentry){.key = key, .value = value};
    return true;
}

const char *jinja_type_name(jvalue v)
{
    switch (v.type) {
    case J_UNDEFINED: return "Undefined";
    case J_NONE: return "NoneType";
    case J_BOOL: return "bool";
    case J_INT: return "int";
    case J_FLOAT: return "float";
    case J_STRING: return "str";
    case J_LIST: return "list";
    case J_TUPLE: return "tuple";
    case J_DICT: return "dict";
    case J_RANGE: return "range";
    case J_VIEW: return "dict view";
    case J_ITER: return "generator";
    case J_NAMESPACE: return "Namespace";
    case J_FUNC: return "function";
    }
    return "object";
}

bool jinja_truth(jvalue v)
{
    switch (v.type) {
    case J_UNDEFINED:
    case J_NONE: return false;
    case J_BOOL: return v.u.b;
    case J_INT: return v.u.i != 0;
    case J_FLOAT: return v.u.f != 0.0;
    case J_STRING: return v.u.s->len > 0;
    case J_LIST:
    case J_TUPLE:
    case J_VIEW: return v.u.l->len > 0;
    case J_DICT: return v.u.d->len > 0;
    case J_RANGE: return v.u.r->len > 0;
    case J_ITER:
    case J_NAMESPACE:
    case J_FUNC: break;
    }
    return true;
}

bool jinja_is_number(jvalue v)
{
    return v.type == J_INT || v.type == J_FLOAT || v.type == J_BOOL;
}

double jinja_number(jvalue v)
{
    if (v.type == J_FLOAT) return v.u.f;
    return v.type == J_BOOL ? (double)v.u.b : (double)v.u.i;
}

bool jinja_as_int(jvalue v, int64_t *out)
{
    if (v.type != J_INT && v.type != J_BOOL) return false;
    *out = v.type == J_BOOL ? v.u.b : v.u.i;
    return true;
}

static bool lists_equal(jinja *cx, const jlist *a, const jlist *b)
{
    if (a->len != b->len) return false;
    for (size_t i = 0; i < a->len; i++)
        if (!jinja_equal(cx, a->items[i], b->items[i])) return false;
    return !jinja_failed(cx);
}

static bool dicts_equal(jinja *cx, const jdict *a, const jdict *b)
{
    if (a->len != b->len) return false;
    for (size_t i = 0; i < a->len; i++) {
        const jvalue *other = jinja_dict_get(cx, b, a->items[i].key);
        if (other == NULL || !jinja_equal(cx, a->items[i].value, *other)) return false;
    }
    return !jinja_failed(cx);
}

static bool numbers_equal(jvalue a, jvalue b)
{
    int64_t x, y;
    if (jinja_as_int(a, &x) && jinja_as_int(b, &y)) return x == y;
    return jinja_number(a) == jinja_number(b);
}

bool jinja_equal(jinja *cx, jvalue a, jvalue b)
{
    if (!jinja_step(cx, 1)) return false;
    if (jinja_is_number(a) && jinja_is_number(b)) return numbers_equal(a, b);
    if (a.type != b.type) return false;
    switch (a.type) {
    case J_UNDEFINED:
    case J_NONE: return true;
    case J_STRING: return jinja_str_eq(a.u.s, b.u.s);
    case J_RANGE:
        return a.u.r->len == b.u.r->len &&
               (a.u.r->len == 0 ||
                (a.u.r->start == b.u.r->start && (a.u.r->len == 1 || a.u.r->step == b.u.r->step)));
    case J_FUNC: return a.u.fn == b.u.fn;
    case J_NAMESPACE: return a.u.d == b.u.d;
    case J_ITER: return a.u.l == b.u.l;
    case J_BOOL:
    case J_INT:
    case J_FLOAT:
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
    case J_DICT: break;
    }
    if (!jinja_enter(cx)) return false;
    const bool equal =
        a.type == J_DICT ? dicts_equal(cx, a.u.d, b.u.d) : lists_equal(cx, a.u.l, b.u.l);
    cx->depth--;
    return equal;
}

static int compare_lists(jinja *cx, const jlist *a, const jlist *b)
{
    for (size_t i = 0; i < a->len && i < b->len && !jinja_failed(cx); i++)
        if (!jinja_equal(cx, a->items[i], b->items[i]))
            return jinja_compare(cx, a->items[i], b->items[i]);
    return a->len < b->len ? -1 : a->len > b->len;
}

int jinja_compare(jinja *cx, jvalue a, jvalue b)
{
    if (!jinja_step(cx, 1)) return 0;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        int64_t x, y;
        if (jinja_as_int(a, &x) && jinja_as_int(b, &y)) return x < y ? -1 : x > y;
        const double f = jinja_number(a), g = jinja_number(b);
        return f < g ? -1 : f > g;
    }
    if (a.type == J_STRING && b.type == J_STRING) return jinja_str_cmp(a.u.s, b.u.s);
    if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        if (!jinja_enter(cx)) return 0;
        const int order = compare_lists(cx, a.u.l, b.u.l);
        cx->depth--;
        return order;
    }
    (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: '%s' and '%s' have no order between them",
                     jinja_type_name(a), jinja_type_name(b));
    return 0;
}

jvalue jinja_iterate(jinja *cx, jvalue v)
{
    if (jinja_failed(cx)) return JUNDEF;
    if (v.type == J_LIST || v.type == J_TUPLE || v.type == J_VIEW || v.type == J_ITER)
        return (jvalue){.type = J_LIST, .u.l = v.u.l};
    if (v.type == J_UNDEFINED) return jinja_list_new(cx, J_LIST, 0);
    if (v.type == J_DICT) {
        jvalue out = jinja_list_new(cx, J_LIST, v.u.d->len);
        for (size_t i = 0; i < v.u.d->len; i++)
            if (!jinja_push(cx, out, v.u.d->items[i].key)) return JUNDEF;
        return out;
    }
    if (v.type == J_STRING) {
        jvalue out = jinja_list_new(cx, J_LIST, v.u.s->len);
        for (size_t i = 0; i < v.u.s->len; i++)
            if (!jinja_push(cx, out, jinja_sub(cx, v.u.s, i, i + 1))) return JUNDEF;
        return out;
    }
    if (v.type == J_RANGE) {
        jvalue out = jinja_list_new(cx, J_LIST, v.u.r->len);
        for (size_t i = 0; i < v.u.r->len; i++)
            if (!jinja_push(cx, out, jinja_int(v.u.r->start + (int64_t)i * v.u.r->step)))
                return JUNDEF;
        return out;
    }
    return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: '%s' object is not iterable",
                      jinja_type_name(v));
}

int64_t jinja_length(jinja *cx, jvalue v)
{
    switch (v.type) {
    case J_UNDEFINED: return 0;
    case J_STRING: return (int64_t)v.u.s->len;
    case J_LIST:
    case J_TUPLE:
    case J_VIEW: return (int64_t)v.u.l->len;
    case J_DICT: return (int64_t)v.u.d->len;
    case J_RANGE: return (int64_t)v.u.r->len;
    case J_NONE:
    case J_BOOL:
    case J_INT:
    case J_FLOAT:
    case J_ITER:
    case J_NAMESPACE:
    case J_FUNC: break;
    }
    (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: object of type '%s' has no length",
                     jinja_type_name(v));
    return -1;
}
