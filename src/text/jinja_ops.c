/* jinja_ops.c - operators, subscripts and slices, as Python has them. */
#include <math.h>
#include <string.h>

#include "text/jinja_eval.h"

static jvalue no_operator(jinja *cx, const char *op, jvalue a, jvalue b)
{
    if (a.type == J_UNDEFINED || b.type == J_UNDEFINED) {
        const char *name = a.type == J_UNDEFINED ? a.u.name : b.u.name;
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: '%s' is undefined",
                          name == NULL ? "value" : name);
    }
    return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                      "template: unsupported operand types for %s: '%s' "
                      "and '%s'",
                      op, jinja_type_name(a), jinja_type_name(b));
}

static jvalue overflow(jinja *cx)
{
    return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: an integer beyond 64 bits");
}

/* A string repeated, or a list. */
static jvalue repeat(jinja *cx, jvalue what, int64_t n)
{
    if (n < 0) n = 0;
    if (what.type == J_STRING) {
        jbuf buf = {0};
        const jstr *s = what.u.s;
        if (s->len > 0 && (uint64_t)n > cx->limits->string_max / s->len)
            return jinja_fail(cx, VLM_RESOURCE_EXHAUSTED,
                              "template: a string of more than %zu characters",
                              cx->limits->string_max);
        for (int64_t i = 0; i < n && s->len > 0; i++)
            if (!jinja_buf_put(cx, &buf, s->cp, s->len)) break;
        return jinja_buf_string(cx, &buf);
    }
    const jvalue out = jinja_list_new(cx, what.type, 0);
    for (int64_t i = 0; i < n && what.u.l->len > 0; i++)
        for (size_t k = 0; k < what.u.l->len; k++)
            if (!jinja_push(cx, out, what.u.l->items[k])) return JUNDEF;
    return out;
}

/* Python's markup: what is added to a safe string is escaped first. */
static jvalue add_strings(jinja *cx, jvalue a, jvalue b)
{
    const bool safe = a.u.s->safe || b.u.s->safe;
    if (safe) {
        a = jinja_escape(cx, a);
        b = jinja_escape(cx, b);
    }
    if (jinja_failed(cx)) return JUNDEF;
    const jvalue parts[2] = {a, b};
    const jvalue sum = jinja_concat(cx, parts, 2);
    return safe ? jinja_safe(cx, sum) : sum;
}

static jvalue add(jinja *cx, jvalue a, jvalue b)
{
    if (a.type == J_STRING && b.type == J_STRING) return add_strings(cx, a, b);
    if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        const jvalue out = jinja_list_new(cx, a.type, a.u.l->len + b.u.l->len);
        for (size_t i = 0; i < a.u.l->len; i++)
            if (!jinja_push(cx, out, a.u.l->items[i])) return JUNDEF;
        for (size_t i = 0; i < b.u.l->len; i++)
            if (!jinja_push(cx, out, b.u.l->items[i])) return JUNDEF;
        return out;
    }
    return no_operator(cx, "+", a, b);
}

static jvalue int_arithmetic(jinja *cx, jop op, int64_t x, int64_t y)
{
    int64_t out = 0;
    bool bad = false;
    switch (op) {
    case JOP_ADD: bad = __builtin_add_overflow(x, y, &out); break;
    case JOP_SUB: bad = __builtin_sub_overflow(x, y, &out); break;
    case JOP_MUL: bad = __builtin_mul_overflow(x, y, &out); break;
    default: {
        if (y == 0) return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: division by zero");
        if (y == -1) { /* the one quotient that overflows */
            bad = __builtin_sub_overflow(0, x, &out);
            if (op == JOP_MOD) return jinja_int(0);
            break;
        }
        const int64_t rest = x % y;
        const bool down = rest != 0 && (rest < 0) != (y < 0);
        out = op == JOP_MOD ? (down ? rest + y : rest) : x / y - (down ? 1 : 0);
        break;
    }
    }
    return bad ? overflow(cx) : jinja_int(out);
}

static jvalue int_power(jinja *cx, int64_t x, int64_t y)
{
    if (y < 0) {
        if (x == 0) return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: division by zero");
        return jinja_float(pow((double)x, (double)y));
    }
    int64_t out = 1;
    for (; y > 0; y--) {
        if (!jinja_step(cx, 1)) return JUNDEF;
        if (x == 0 || x == 1) return jinja_int(x);
        if (x == -1) return jinja_int(y % 2 == 0 ? 1 : -1);
        if (__builtin_mul_overflow(out, x, &out)) return overflow(cx);
    }
    return jinja_int(out);
}

static jvalue float_arithmetic(jinja *cx, jop op, double x, double y)
{
    switch (op) {
    case JOP_ADD: return jinja_float(x + y);
    case JOP_SUB: return jinja_float(x - y);
    case JOP_MUL: return jinja_float(x * y);
    case JOP_POW: return jinja_float(pow(x, y));
    default: break;
    }
    if (y == 0.0) return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: division by zero");
    if (op == JOP_DIV) return jinja_float(x / y);
    double rest = fmod(x, y);
    if (rest != 0.0 && (rest < 0.0) != (y < 0.0)) rest += y;
    if (op == JOP_MOD) return jinja_float(rest);
    return jinja_float(floor((x - rest) / y + 0.5));
}

static jvalue arithmetic(jinja *cx, jop op, jvalue a, jvalue b)
{
    int64_t x, y;
    const bool ints = jinja_as_int(a, &x) && jinja_as_int(b, &y);
    if (ints && op == JOP_POW) return int_power(cx, x, y);
    if (ints && op != JOP_DIV) return int_arithmetic(cx, op, x, y);
    return float_arithmetic(cx, op, jinja_number(a), jinja_number(b));
}

jvalue jinja_binary(jinja *cx, jop op, jvalue a, jvalue b)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "**"};
    if (!jinja_step(cx, 1)) return JUNDEF;
    switch (op) {
    case JOP_EQ: return jinja_bool(jinja_equal(cx, a, b));
    case JOP_NE: return jinja_bool(!jinja_equal(cx, a, b));
    case JOP_IN: return jinja_bool(jinja_contains(cx, a, b));
    case JOP_NOT_IN: return jinja_bool(!jinja_contains(cx, a, b));
    case JOP_LT: return jinja_bool(jinja_compare(cx, a, b) < 0);
    case JOP_LE: return jinja_bool(jinja_compare(cx, a, b) <= 0);
    case JOP_GT: return jinja_bool(jinja_compare(cx, a, b) > 0);
    case JOP_GE: return jinja_bool(jinja_compare(cx, a, b) >= 0);
    case JOP_ADD:
    case JOP_SUB:
    case JOP_MUL:
    case JOP_DIV:
    case JOP_FLOORDIV:
    case JOP_MOD:
    case JOP_POW: break;
    }
    if (jinja_is_number(a) && jinja_is_number(b)) return arithmetic(cx, op, a, b);
    if (op == JOP_ADD) return add(cx, a, b);
    if (op == JOP_MOD && a.type == J_STRING && b.type != J_UNDEFINED)
        return jinja_percent(cx, a.u.s, b);
    if (op == JOP_MUL) {
        int64_t n;
        const bool left = a.type == J_STRING || a.type == J_LIST || a.type == J_TUPLE;
        const bool right = b.type == J_STRING || b.type == J_LIST || b.type == J_TUPLE;
        if (left && jinja_as_int(b, &n)) return repeat(cx, a, n);
        if (right && jinja_as_int(a, &n)) return repeat(cx, b, n);
    }
    return no_operator(cx, names[op], a, b);
}

bool jinja_contains(jinja *cx, jvalue item, jvalue container)
{
    if (jinja_failed(cx)) return false;
    if (container.type == J_STRING) {
        if (item.type == J_STRING)
            return jinja_str_find(cx, container.u.s, item.u.s, 0, container.u.s->len) != SIZE_MAX;
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT,
                         "template: 'in <string>' requires string as left operand, not %s",
                         jinja_type_name(item));
        return false;
    }
    if (container.type == J_DICT) {
        if (!jinja_hashable(item)) {
            (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: unhashable type: '%s'",
                             jinja_type_name(item));
            return false;
        }
        return jinja_dict_get(cx, container.u.d, item) != NULL;
    }
    const jvalue list = jinja_iterate(cx, container);
    if (jinja_failed(cx)) return false;
    for (size_t i = 0; i < list.u.l->len; i++)
        if (jinja_equal(cx, list.u.l->items[i], item)) return true;
    return false;
}

static bool slice_bound(jinja *cx, jvalue v, int64_t *out, bool *given)
{
    *given = v.type != J_NONE;
    if (!*given) return true;
    if (jinja_as_int(v, out)) return true;
    (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: slice indices must be integers, not %s",
                     jinja_type_name(v));
    return false;
}

/* PySlice_AdjustIndices. */
static int64_t adjust(int64_t i, int64_t len, bool back)
{
    if (i < 0) {
        i += len;
        if (i < 0) i = back ? -1 : 0;
    } else if (i >= len) {
        i = back ? len - 1 : len;
    }
    return i;
}

jvalue jinja_slice(jinja *cx, jvalue object, jvalue start_v, jvalue stop_v, jvalue step_v)
{
    int64_t start = 0, stop = 0, step = 1;
    bool has_start, has_stop, has_step;
    if (object.type == J_RANGE) object = jinja_iterate(cx, object);
    if (object.type == J_UNDEFINED)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: '%s' is undefined",
                          object.u.name == NULL ? "value" : object.u.name);
    /* What cannot be sliced is undefined, as a missing key is. */
    if (object.type != J_STRING && object.type != J_LIST && object.type != J_TUPLE) return JUNDEF;
    if (!slice_bound(cx, start_v, &start, &has_start) ||
        !slice_bound(cx, stop_v, &stop, &has_stop) || !slice_bound(cx, step_v, &step, &has_step))
        return JUNDEF;
    if (step == 0) return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: slice step cannot be 0");
    const int64_t len = jinja_length(cx, object);
    if (step < -len - 1) step = -len - 1;
    if (step > len + 1) step = len + 1;
    const bool back = step < 0;
    start = has_start ? adjust(start, len, back) : back ? len - 1 : 0;
    stop = has_stop ? adjust(stop, len, back) : back ? -1 : len;
    if (object.type == J_STRING && step == 1)
        return jinja_sub(cx, object.u.s, (size_t)start, (size_t)(stop > start ? stop : start));
    jbuf buf = {0};
    const jvalue out = object.type == J_STRING ? JUNDEF : jinja_list_new(cx, object.type, 0);
    for (int64_t i = start; back ? i > stop : i < stop; i += step) {
        if (object.type == J_STRING ? !jinja_buf_put(cx, &buf, object.u.s->cp + i, 1)
                                    : !jinja_push(cx, out, object.u.l->items[i]))
            break;
    }
    return object.type == J_STRING ? jinja_buf_string(cx, &buf) : out;
}

/* a[i] of a sequence; undefined outside it. */
static jvalue at_index(jinja *cx, jvalue object, int64_t i)
{
    const int64_t len = jinja_length(cx, object);
    if (i < 0) i += len;
    if (i < 0 || i >= len) return JUNDEF;
    if (object.type == J_STRING) return jinja_sub(cx, object.u.s, (size_t)i, (size_t)i + 1);
    if (object.type == J_RANGE) return jinja_int(object.u.r->start + i * object.u.r->step);
    return object.u.l->items[i];
}

jvalue jinja_item(jrun *r, jvalue object, jvalue key)
{
    jinja *cx = &r->cx;
    int64_t i;
    if (!jinja_step(cx, 1)) return JUNDEF;
    if (object.type == J_UNDEFINED)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: '%s' is undefined",
                          object.u.name == NULL ? "value" : object.u.name);
    if (object.type == J_DICT && jinja_hashable(key)) {
        const jvalue *found = jinja_dict_get(cx, object.u.d, key);
        if (found != NULL) return *found;
    }
    const bool sequence = object.type == J_STRING || object.type == J_LIST ||
                          object.type == J_TUPLE || object.type == J_RANGE;
    if (sequence && jinja_as_int(key, &i)) return at_index(cx, object, i);
    if (key.type == J_STRING && key.u.s->len < 64) {
        char name[65];
        size_t n = 0;
        for (; n < key.u.s->len; n++) {
            const uint32_t c = jinja_cp(key.u.s->cp[n]);
            name[n] = c < 0x80 ? (char)c : '?';
        }
        name[n] = '\0';
        if (name[0] != '_' && object.type != J_NAMESPACE) {
            /* An undefined value would point to this buffer. */
            const jvalue method = jinja_method(r, object, name);
            return method.type == J_UNDEFINED ? JUNDEF : method;
        }
        if (object.type == J_NAMESPACE) {
            const jvalue *found = jinja_dict_get(cx, object.u.d, key);
            if (found != NULL) return *found;
        }
    }
    return JUNDEF;
}

jvalue jinja_attr(jrun *r, jvalue object, const char *name)
{
    jinja *cx = &r->cx;
    if (!jinja_step(cx, 1)) return JUNDEF;
    if (object.type == J_UNDEFINED)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: '%s' is undefined",
                          object.u.name == NULL ? "value" : object.u.name);
    if (name[0] == '_' && object.type != J_DICT)
        return (jvalue){.type = J_UNDEFINED, .u.name = name};
    if (object.type == J_NAMESPACE) {
        const jvalue *found = jinja_dict_get_ascii(cx, object.u.d, name);
        return found != NULL ? *found : (jvalue){.type = J_UNDEFINED, .u.name = name};
    }
    if (name[0] != '_') {
        const jvalue method = jinja_method(r, object, name);
        if (method.type != J_UNDEFINED || jinja_failed(cx)) return method;
    }
    if (object.type == J_DICT) {
        const jvalue *found =
            jinja_dict_get(cx, object.u.d, jinja_utf8(cx, vlm_bytes_of(name), false));
        if (found != NULL) return *found;
    }
    return (jvalue){.type = J_UNDEFINED, .u.name = name};
}
