/* jinja_filters_seq.c - filters over sequences. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_filters.h"

/* "a.b.0" or 3 of an item: each part an attribute, key or index; undefined where one is missing. */
static jvalue path_of(jrun *r, jvalue item, jvalue path)
{
    jinja *cx = &r->cx;
    if (path.type != J_STRING) return jinja_item(r, item, path);
    const jstr *s = path.u.s;
    for (size_t begin = 0; begin <= s->len && !jinja_failed(cx);) {
        size_t end = begin;
        bool digits = true;
        int64_t number = 0;
        for (; end < s->len && jinja_cp(s->cp[end]) != '.'; end++) {
            const uint32_t c = jinja_cp(s->cp[end]);
            digits &= c >= '0' && c <= '9' && number < 100000000;
            if (digits) number = number * 10 + (int64_t)(c - '0');
        }
        if (item.type == J_UNDEFINED) return JUNDEF;
        item = digits && end > begin ? jinja_item(r, item, jinja_int(number))
                                     : jinja_item(r, item, jinja_sub(cx, s, begin, end));
        begin = end + 1;
    }
    return item;
}

/* Strings compare without their case unless told otherwise. */
static jvalue sort_key(jrun *r, jvalue item, jvalue path, bool case_sensitive)
{
    const jvalue key =
        path.type == J_UNDEFINED || path.type == J_NONE ? item : path_of(r, item, path);
    return key.type == J_STRING && !case_sensitive ? jinja_lower(&r->cx, key.u.s) : key;
}

typedef struct keyed {
    jvalue key, item;
} keyed;

/* Stable merge sort; the order may fail. */
static void merge_sort(jinja *cx, keyed *a, keyed *tmp, size_t n, bool reverse)
{
    for (size_t width = 1; width < n && !jinja_failed(cx); width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            const size_t mid = lo + width < n ? lo + width : n;
            const size_t hi = mid + width < n ? mid + width : n;
            size_t i = lo, k = mid;
            for (size_t out = lo; out < hi; out++) {
                bool right = i == mid;
                if (!right && k < hi) {
                    const int order = jinja_compare(cx, a[k].key, a[i].key);
                    right = reverse ? order > 0 : order < 0;
                }
                tmp[out] = right ? a[k++] : a[i++];
            }
        }
        memcpy(a, tmp, n * sizeof *a);
    }
}

static jvalue sorted(jrun *r, jvalue list, jvalue path, bool case_sensitive, bool reverse)
{
    jinja *cx = &r->cx;
    const size_t n = list.u.l->len;
    keyed *a = jinja_alloc(cx, n, sizeof *a), *tmp = jinja_alloc(cx, n, sizeof *tmp);
    const jvalue out = jinja_list_new(cx, J_LIST, n);
    for (size_t i = 0; i < n && !jinja_failed(cx); i++)
        a[i] = (keyed){sort_key(r, list.u.l->items[i], path, case_sensitive), list.u.l->items[i]};
    if (jinja_failed(cx)) return JUNDEF;
    merge_sort(cx, a, tmp, n, reverse);
    for (size_t i = 0; i < n && !jinja_failed(cx); i++) (void)jinja_push(cx, out, a[i].item);
    return out;
}

jvalue jinja_f_sort(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"reverse", "case_sensitive", "attribute"};
    jvalue a[3];
    bool given[3];
    if (!jinja_bind(&r->cx, "sort", call, names, 3, a, given)) return JUNDEF;
    const jvalue list = jinja_iterate(&r->cx, v);
    if (jinja_failed(&r->cx)) return JUNDEF;
    return sorted(r, list, a[2], jinja_truth(a[1]), jinja_truth(a[0]));
}

jvalue jinja_f_dictsort(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"case_sensitive", "by", "reverse"};
    jinja *cx = &r->cx;
    jvalue a[3];
    bool given[3];
    if (!jinja_bind(cx, "dictsort", call, names, 3, a, given)) return JUNDEF;
    if (v.type != J_DICT)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: dictsort needs a mapping, not %s",
                          jinja_type_name(v));
    const bool by_value = given[1] && a[1].type == J_STRING && jinja_str_is(a[1].u.s, "value");
    const jcall none = {0};
    const jvalue items = jinja_f_items(r, v, &none);
    if (jinja_failed(cx)) return JUNDEF;
    return sorted(r, items, jinja_int(by_value ? 1 : 0), jinja_truth(a[0]), jinja_truth(a[2]));
}

jvalue jinja_f_items(jrun *r, jvalue v, const jcall *call)
{
    (void)call;
    if (v.type == J_UNDEFINED) return jinja_list_new(&r->cx, J_ITER, 0);
    if (v.type != J_DICT)
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT,
                          "template: Can only get item pairs from a mapping.");
    const jvalue out = jinja_list_new(&r->cx, J_ITER, v.u.d->len);
    for (size_t i = 0; i < v.u.d->len && !jinja_failed(&r->cx); i++) {
        const jvalue pair = jinja_list_new(&r->cx, J_TUPLE, 2);
        (void)jinja_push(&r->cx, pair, v.u.d->items[i].key);
        (void)jinja_push(&r->cx, pair, v.u.d->items[i].value);
        (void)jinja_push(&r->cx, out, pair);
    }
    return out;
}

jvalue jinja_f_list(jrun *r, jvalue v, const jcall *call)
{
    (void)call;
    const jvalue list = jinja_iterate(&r->cx, v);
    if (jinja_failed(&r->cx)) return JUNDEF;
    const jvalue out = jinja_list_new(&r->cx, J_LIST, list.u.l->len);
    for (size_t i = 0; i < list.u.l->len; i++)
        if (!jinja_push(&r->cx, out, list.u.l->items[i])) return JUNDEF;
    return out;
}

static jvalue end_of(jrun *r, jvalue v, bool last)
{
    const jvalue list = jinja_iterate(&r->cx, v);
    if (jinja_failed(&r->cx) || list.u.l->len == 0) return JUNDEF;
    return list.u.l->items[last ? list.u.l->len - 1 : 0];
}
jvalue jinja_f_first(jrun *r, jvalue v, const jcall *call)
{
    (void)call;
    return end_of(r, v, false);
}
jvalue jinja_f_last(jrun *r, jvalue v, const jcall *call)
{
    (void)call;
    return end_of(r, v, true);
}

jvalue jinja_f_reverse(jrun *r, jvalue v, const jcall *call)
{
    (void)call;
    jinja *cx = &r->cx;
    if (v.type == J_STRING) {
        jbuf buf = {0};
        for (size_t i = v.u.s->len; i-- > 0 && !jinja_failed(cx);)
            (void)jinja_buf_put(cx, &buf, v.u.s->cp + i, 1);
        return jinja_buf_string(cx, &buf);
    }
    const jvalue list = jinja_iterate(cx, v);
    if (jinja_failed(cx)) return JUNDEF;
    const jvalue out = jinja_list_new(cx, J_ITER, list.u.l->len);
    for (size_t i = list.u.l->len; i-- > 0;)
        if (!jinja_push(cx, out, list.u.l->items[i])) return JUNDEF;
    return out;
}

jvalue jinja_f_join(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"d", "attribute"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    if (!jinja_bind(cx, "join", call, names, 2, a, given)) return JUNDEF;
    const jvalue list = jinja_iterate(cx, v);
    const jvalue separator = given[0] ? jinja_str(cx, a[0]) : jinja_ascii(cx, "");
    if (jinja_failed(cx)) return JUNDEF;
    const jvalue items = jinja_list_new(cx, J_LIST, list.u.l->len);
    for (size_t i = 0; i < list.u.l->len && !jinja_failed(cx); i++) {
        const jvalue item = list.u.l->items[i];
        (void)jinja_push(cx, items,
                         given[1] && a[1].type != J_NONE ? path_of(r, item, a[1]) : item);
    }
    return jinja_failed(cx) ? JUNDEF : jinja_join(cx, items, separator.u.s);
}

jvalue jinja_f_unique(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"case_sensitive", "attribute"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    if (!jinja_bind(cx, "unique", call, names, 2, a, given)) return JUNDEF;
    const jvalue list = jinja_iterate(cx, v);
    const jvalue seen = jinja_dict_new(cx, J_DICT);
    const jvalue out = jinja_list_new(cx, J_ITER, 0);
    for (size_t i = 0; !jinja_failed(cx) && i < list.u.l->len; i++) {
        const jvalue key = sort_key(r, list.u.l->items[i], a[1], jinja_truth(a[0]));
        if (jinja_failed(cx)) return JUNDEF;
        if (jinja_hashable(key) && jinja_dict_get(cx, seen.u.d, key) != NULL) continue;
        if (!jinja_dict_set(cx, seen.u.d, key, JNONE)) return JUNDEF;
        (void)jinja_push(cx, out, list.u.l->items[i]);
    }
    return out;
}

static jvalue extreme(jrun *r, jvalue v, const jcall *call, int sign)
{
    static const char *const names[] = {"case_sensitive", "attribute"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    if (!jinja_bind(cx, sign < 0 ? "min" : "max", call, names, 2, a, given)) return JUNDEF;
    const jvalue list = jinja_iterate(cx, v);
    if (jinja_failed(cx) || list.u.l->len == 0) return JUNDEF;
    jvalue best = list.u.l->items[0];
    jvalue best_key = sort_key(r, best, a[1], jinja_truth(a[0]));
    for (size_t i = 1; i < list.u.l->len && !jinja_failed(cx); i++) {
        const jvalue key = sort_key(r, list.u.l->items[i], a[1], jinja_truth(a[0]));
        if (jinja_compare(cx, key, best_key) * sign <= 0) continue;
        best = list.u.l->items[i];
        best_key = key;
    }
    return best;
}
jvalue jinja_f_min(jrun *r, jvalue v, const jcall *call)
{
    return extreme(r, v, call, -1);
}
jvalue jinja_f_max(jrun *r, jvalue v, const jcall *call)
{
    return extreme(r, v, call, 1);
}

jvalue jinja_f_sum(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"attribute", "start"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    if (!jinja_bind(cx, "sum", call, names, 2, a, given)) return JUNDEF;
    const jvalue list = jinja_iterate(cx, v);
    jvalue sum = given[1] ? a[1] : jinja_int(0);
    for (size_t i = 0; !jinja_failed(cx) && i < list.u.l->len; i++) {
        const jvalue item = list.u.l->items[i];
        sum = jinja_binary(cx, JOP_ADD, sum,
                           given[0] && a[0].type != J_NONE ? path_of(r, item, a[0]) : item);
    }
    return sum;
}

/* Lists of n items each; the last is filled up with fill when that is given. */
jvalue jinja_f_batch(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"linecount", "fill_with"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    int64_t n;
    if (!jinja_bind(cx, "batch", call, names, 2, a, given)) return JUNDEF;
    if (!jinja_as_int(a[0], &n) || n < 1 || n > 100000)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: batch needs a number");
    const jvalue list = jinja_iterate(cx, v);
    const jvalue out = jinja_list_new(cx, J_ITER, 0);
    jvalue row = JUNDEF;
    for (size_t i = 0; !jinja_failed(cx) && i < list.u.l->len; i++) {
        if (i % (size_t)n == 0) {
            row = jinja_list_new(cx, J_LIST, 0);
            (void)jinja_push(cx, out, row);
        }
        if (!jinja_failed(cx)) (void)jinja_push(cx, row, list.u.l->items[i]);
    }
    while (!jinja_failed(cx) && row.type == J_LIST && given[1] && a[1].type != J_NONE &&
           (int64_t)row.u.l->len < n)
        (void)jinja_push(cx, row, a[1]);
    return out;
}

/* n lists of about the same length. */
jvalue jinja_f_slice(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"slices", "fill_with"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    int64_t n;
    if (!jinja_bind(cx, "slice", call, names, 2, a, given)) return JUNDEF;
    if (!jinja_as_int(a[0], &n) || n < 1 || n > 100000)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: slice needs a number");
    const jvalue list = jinja_iterate(cx, v);
    const jvalue out = jinja_list_new(cx, J_ITER, 0);
    if (jinja_failed(cx)) return JUNDEF;
    const size_t each = list.u.l->len / (size_t)n, extra = list.u.l->len % (size_t)n;
    size_t at = 0;
    for (size_t k = 0; k < (size_t)n && !jinja_failed(cx); k++) {
        const jvalue row = jinja_list_new(cx, J_LIST, 0);
        const size_t len = each + (k < extra ? 1 : 0);
        for (size_t i = 0; i < len && !jinja_failed(cx); i++)
            (void)jinja_push(cx, row, list.u.l->items[at++]);
        if (given[1] && a[1].type != J_NONE && k >= extra && extra > 0)
            (void)jinja_push(cx, row, a[1]);
        (void)jinja_push(cx, out, row);
    }
    return out;
}

jvalue jinja_f_groupby(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"attribute", "default", "case_sensitive"};
    jinja *cx = &r->cx;
    jvalue a[3];
    bool given[3];
    if (!jinja_bind(cx, "groupby", call, names, 3, a, given)) return JUNDEF;
    const jvalue list = jinja_iterate(cx, v);
    if (jinja_failed(cx)) return JUNDEF;
    const bool exact = jinja_truth(a[2]);
    const jvalue in_order = sorted(r, list, a[0], exact, false);
    const jvalue out = jinja_list_new(cx, J_LIST, 0);
    jvalue group = JUNDEF, key = JUNDEF;
    for (size_t i = 0; !jinja_failed(cx) && i < in_order.u.l->len; i++) {
        const jvalue item = in_order.u.l->items[i];
        const jvalue mine = sort_key(r, item, a[0], exact);
        if (group.type == J_UNDEFINED || !jinja_equal(cx, key, mine)) {
            const jvalue pair = jinja_list_new(cx, J_TUPLE, 2);
            jvalue grouper = path_of(r, item, a[0]);
            if (grouper.type == J_UNDEFINED && given[1]) grouper = a[1];
            group = jinja_list_new(cx, J_LIST, 0);
            key = mine;
            (void)jinja_push(cx, pair, grouper);
            (void)jinja_push(cx, pair, group);
            (void)jinja_push(cx, out, pair);
        }
        (void)jinja_push(cx, group, item);
    }
    return out;
}

/* The first string argument as the name of a filter or test. */
static int named_fn(jinja *cx, jvalue name, int (*find)(const char *), const char *what)
{
    char text[32] = "";
    if (name.type == J_STRING && name.u.s->len < sizeof text)
        for (size_t i = 0; i < name.u.s->len; i++) {
            const uint32_t c = jinja_cp(name.u.s->cp[i]);
            text[i] = c < 0x80 ? (char)c : '?';
            text[i + 1] = '\0';
        }
    const int id = find(text);
    if (id < 0)
        (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: no %s named '%s'", what, text);
    return id;
}

/* Arguments behind the first n. */
static jcall rest_of(const jcall *call, size_t n)
{
    jcall rest = *call;
    rest.args += n;
    rest.n_args -= n;
    return rest;
}

jvalue jinja_f_map(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"attribute", "default"};
    jinja *cx = &r->cx;
    jvalue a[2] = {JUNDEF, JUNDEF};
    bool given[2] = {false, false};
    int id = -1;
    if (call->n_args == 0) {
        if (!jinja_bind(cx, "map", call, names, 2, a, given)) return JUNDEF;
        if (!given[0])
            return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: map requires a filter argument");
    } else {
        id = named_fn(cx, call->args[0], jinja_filter_find, "filter");
    }
    if (!jinja_truth(v)) return jinja_list_new(cx, J_ITER, 0); /* none too, as Jinja's `if value` */
    const jvalue list = jinja_iterate(cx, v);
    if (jinja_failed(cx)) return JUNDEF;
    const jcall rest = id >= 0 ? rest_of(call, 1) : (jcall){0};
    const jvalue out = jinja_list_new(cx, J_ITER, list.u.l->len);
    for (size_t i = 0; i < list.u.l->len && !jinja_failed(cx); i++) {
        jvalue item = id >= 0 ? jinja_filter_call(r, id, list.u.l->items[i], &rest)
                              : path_of(r, list.u.l->items[i], a[0]);
        if (id < 0 && item.type == J_UNDEFINED && given[1]) item = a[1];
        (void)jinja_push(cx, out, item);
    }
    return out;
}

/* select, reject, selectattr, rejectattr: items whose (attribute's) test gives `want`. */
static jvalue choose(jrun *r, jvalue v, const jcall *call, bool want, bool attr)
{
    jinja *cx = &r->cx;
    const size_t first = attr ? 1 : 0;
    if (attr && call->n_args == 0)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                          "template: Missing parameter for attribute name");
    const bool has_test = call->n_args > first;
    const int id = has_test ? named_fn(cx, call->args[first], jinja_test_find, "test") : -1;
    if (!jinja_truth(v)) return jinja_list_new(cx, J_ITER, 0); /* none too, as Jinja's `if value` */
    const jvalue list = jinja_iterate(cx, v);
    if (jinja_failed(cx)) return JUNDEF;
    const jcall rest = has_test ? rest_of(call, first + 1) : (jcall){0};
    const jvalue out = jinja_list_new(cx, J_ITER, 0);
    for (size_t i = 0; i < list.u.l->len && !jinja_failed(cx); i++) {
        const jvalue item = list.u.l->items[i];
        const jvalue subject = attr ? path_of(r, item, call->args[0]) : item;
        const bool ok = has_test ? jinja_test_call(r, id, subject, &rest) : jinja_truth(subject);
        if (ok == want) (void)jinja_push(cx, out, item);
    }
    return out;
}
jvalue jinja_f_select(jrun *r, jvalue v, const jcall *call)
{
    return choose(r, v, call, true, false);
}
jvalue jinja_f_reject(jrun *r, jvalue v, const jcall *call)
{
    return choose(r, v, call, false, false);
}
jvalue jinja_f_selectattr(jrun *r, jvalue v, const jcall *call)
{
    return choose(r, v, call, true, true);
}
jvalue jinja_f_rejectattr(jrun *r, jvalue v, const jcall *call)
{
    return choose(r, v, call, false, true);
}
