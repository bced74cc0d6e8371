/* jinja_tests.c - what stands behind `is`. */
#include <string.h>

#include <utf8proc.h>

#include "text/jinja_eval.h"

typedef enum test_id {
    T_DEFINED,
    T_UNDEFINED,
    T_NONE,
    T_STRING,
    T_NUMBER,
    T_INTEGER,
    T_FLOAT,
    T_BOOLEAN,
    T_TRUE,
    T_FALSE,
    T_MAPPING,
    T_SEQUENCE,
    T_ITERABLE,
    T_CALLABLE,
    T_ODD,
    T_EVEN,
    T_DIVISIBLEBY,
    T_EQ,
    T_NE,
    T_LT,
    T_LE,
    T_GT,
    T_GE,
    T_IN,
    T_SAMEAS,
    T_UPPER,
    T_LOWER,
    T_FILTER,
    T_TEST,
    T_ESCAPED,
} test_id;

static const struct {
    const char *name;
    test_id id;
    int n_args;
} tests[] = {
    {"defined", T_DEFINED, 0},
    {"undefined", T_UNDEFINED, 0},
    {"none", T_NONE, 0},
    {"string", T_STRING, 0},
    {"number", T_NUMBER, 0},
    {"integer", T_INTEGER, 0},
    {"float", T_FLOAT, 0},
    {"boolean", T_BOOLEAN, 0},
    {"true", T_TRUE, 0},
    {"false", T_FALSE, 0},
    {"mapping", T_MAPPING, 0},
    {"sequence", T_SEQUENCE, 0},
    {"iterable", T_ITERABLE, 0},
    {"callable", T_CALLABLE, 0},
    {"odd", T_ODD, 0},
    {"even", T_EVEN, 0},
    {"divisibleby", T_DIVISIBLEBY, 1},
    {"eq", T_EQ, 1},
    {"equalto", T_EQ, 1},
    {"==", T_EQ, 1},
    {"ne", T_NE, 1},
    {"!=", T_NE, 1},
    {"lt", T_LT, 1},
    {"lessthan", T_LT, 1},
    {"<", T_LT, 1},
    {"le", T_LE, 1},
    {"<=", T_LE, 1},
    {"gt", T_GT, 1},
    {"greaterthan", T_GT, 1},
    {">", T_GT, 1},
    {"ge", T_GE, 1},
    {">=", T_GE, 1},
    {"in", T_IN, 1},
    {"sameas", T_SAMEAS, 1},
    {"upper", T_UPPER, 0},
    {"lower", T_LOWER, 0},
    {"filter", T_FILTER, 0},
    {"test", T_TEST, 0},
    {"escaped", T_ESCAPED, 0},
};

int jinja_test_find(const char *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (strcmp(tests[i].name, name) == 0) return (int)i;
    return -1;
}

static bool is_iterable(jvalue v)
{
    switch (v.type) {
    case J_UNDEFINED:
    case J_STRING:
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
    case J_RANGE:
    case J_VIEW:
    case J_ITER: return true;
    default: return false;
    }
}

static bool is_sequence(jvalue v)
{
    return is_iterable(v) && v.type != J_ITER && v.type != J_VIEW;
}

/* Two values are the same object; of strings and numbers: the same type and value. */
static bool same_as(jinja *cx, jvalue a, jvalue b)
{
    if (a.type != b.type) return false;
    switch (a.type) {
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
    case J_ITER: return a.u.l == b.u.l;
    case J_DICT:
    case J_NAMESPACE: return a.u.d == b.u.d;
    default: return jinja_equal(cx, a, b);
    }
}

static bool all_case(jinja *cx, jvalue v, bool upper)
{
    const jvalue text = jinja_str(cx, v);
    bool any = false;
    if (jinja_failed(cx)) return false;
    for (size_t i = 0; i < text.u.s->len; i++) {
        const utf8proc_category_t c =
            utf8proc_category((utf8proc_int32_t)jinja_cp(text.u.s->cp[i]));
        if (c == (upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU)) return false;
        any |= c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LU;
    }
    return any;
}

static bool named(jvalue v, int (*find)(const char *))
{
    char name[32];
    if (v.type != J_STRING || v.u.s->len >= sizeof name) return false;
    size_t i = 0;
    for (; i < v.u.s->len; i++) {
        const uint32_t c = jinja_cp(v.u.s->cp[i]);
        if (c >= 0x80) return false;
        name[i] = (char)c;
    }
    name[i] = '\0';
    return find(name) >= 0;
}

static bool modulo_is(jinja *cx, jvalue v, jvalue by, int64_t want)
{
    const jvalue rest = jinja_binary(cx, JOP_MOD, v, by);
    return !jinja_failed(cx) && jinja_equal(cx, rest, jinja_int(want));
}

bool jinja_test_call(jrun *r, int idx, jvalue v, const jcall *call)
{
    jinja *cx = &r->cx;
    const int n_args = tests[idx].n_args;
    if (jinja_failed(cx)) return false;
    if ((int)(call->n_args + call->n_named) != n_args) {
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: test %s takes %d argument(s)",
                         tests[idx].name, n_args);
        return false;
    }
    const jvalue arg = call->n_args > 0    ? call->args[0]
                       : call->n_named > 0 ? call->named[0]
                                           : JUNDEF;
    switch (tests[idx].id) {
    case T_DEFINED: return v.type != J_UNDEFINED;
    case T_UNDEFINED: return v.type == J_UNDEFINED;
    case T_NONE: return v.type == J_NONE;
    case T_STRING: return v.type == J_STRING;
    case T_NUMBER: return jinja_is_number(v);
    case T_INTEGER: return v.type == J_INT;
    case T_FLOAT: return v.type == J_FLOAT;
    case T_BOOLEAN: return v.type == J_BOOL;
    case T_TRUE: return v.type == J_BOOL && v.u.b;
    case T_FALSE: return v.type == J_BOOL && !v.u.b;
    case T_MAPPING: return v.type == J_DICT;
    case T_SEQUENCE: return is_sequence(v);
    case T_ITERABLE: return is_iterable(v);
    case T_CALLABLE: return v.type == J_FUNC;
    case T_ODD: return modulo_is(cx, v, jinja_int(2), 1);
    case T_EVEN: return modulo_is(cx, v, jinja_int(2), 0);
    case T_DIVISIBLEBY: return modulo_is(cx, v, arg, 0);
    case T_EQ: return jinja_equal(cx, v, arg);
    case T_NE: return !jinja_equal(cx, v, arg);
    case T_LT: return jinja_compare(cx, v, arg) < 0;
    case T_LE: return jinja_compare(cx, v, arg) <= 0;
    case T_GT: return jinja_compare(cx, v, arg) > 0;
    case T_GE: return jinja_compare(cx, v, arg) >= 0;
    case T_IN: return jinja_contains(cx, v, arg);
    case T_SAMEAS: return same_as(cx, v, arg);
    case T_UPPER: return all_case(cx, v, true);
    case T_LOWER: return all_case(cx, v, false);
    case T_FILTER: return named(v, jinja_filter_find);
    case T_TEST: return named(v, jinja_test_find);
    case T_ESCAPED: return v.type == J_STRING && v.u.s->safe;
    }
    return false;
}
