/* jinja_json.c - tojson, as Python's json.dumps writes, and values from JSON. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_eval.h"

typedef struct dumper {
    jinja *cx;
    jbuf *out;
    bool ascii, sort;
    jvalue indent; /* string of one level, or none */
    const jstr *item_separator, *key_separator;
} dumper;

static void dump(const dumper *d, jvalue v, uint32_t level);

static void put_escape(const dumper *d, jchar c)
{
    const uint32_t cp = jinja_cp(c);
    const jchar mark = c & JINJA_MARK;
    char text[16];
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *found = cp > 0 && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (found != NULL)
        (void)snprintf(text, sizeof text, "\\%c", to[found - from]);
    else if (cp < 0x20 || (d->ascii && cp > 0x7E && cp < 0x10000))
        (void)snprintf(text, sizeof text, "\\u%04x", cp);
    else if (d->ascii && cp >= 0x10000)
        (void)snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10),
                       0xDC00 + ((cp - 0x10000) & 0x3FF));
    else {
        (void)jinja_buf_put(d->cx, d->out, &c, 1);
        return;
    }
    (void)jinja_buf_ascii(d->cx, d->out, text, mark);
}

static void dump_string(const dumper *d, const jstr *s)
{
    (void)jinja_buf_ascii(d->cx, d->out, "\"", 0);
    for (size_t i = 0; i < s->len && !jinja_failed(d->cx); i++) put_escape(d, s->cp[i]);
    (void)jinja_buf_ascii(d->cx, d->out, "\"", 0);
}

static void new_line(const dumper *d, uint32_t level)
{
    if (d->indent.type != J_STRING) return;
    (void)jinja_buf_ascii(d->cx, d->out, "\n", 0);
    for (uint32_t i = 0; i < level; i++)
        (void)jinja_buf_put(d->cx, d->out, d->indent.u.s->cp, d->indent.u.s->len);
}

static void dump_list(const dumper *d, const jlist *l, uint32_t level)
{
    (void)jinja_buf_ascii(d->cx, d->out, "[", 0);
    for (size_t i = 0; i < l->len && !jinja_failed(d->cx); i++) {
        if (i > 0)
            (void)jinja_buf_put(d->cx, d->out, d->item_separator->cp, d->item_separator->len);
        new_line(d, level + 1);
        dump(d, l->items[i], level + 1);
    }
    if (l->len > 0) new_line(d, level);
    (void)jinja_buf_ascii(d->cx, d->out, "]", 0);
}

static void dump_key(const dumper *d, jvalue key)
{
    char text[48];
    switch (key.type) {
    case J_STRING: dump_string(d, key.u.s); return;
    case J_BOOL: (void)snprintf(text, sizeof text, key.u.b ? "\"true\"" : "\"false\""); break;
    case J_NONE: (void)snprintf(text, sizeof text, "\"null\""); break;
    case J_INT: (void)snprintf(text, sizeof text, "\"%lld\"", (long long)key.u.i); break;
    case J_FLOAT: {
        char number[40];
        jinja_float_repr(key.u.f, number);
        (void)snprintf(text, sizeof text, "\"%s\"", number);
        break;
    }
    default:
        (void)jinja_fail(d->cx, VLM_INVALID_ARGUMENT,
                         "template: keys must be str, int, float, "
                         "bool or None, not %s",
                         jinja_type_name(key));
        return;
    }
    (void)jinja_buf_ascii(d->cx, d->out, text, 0);
}

/* The order of the keys: as inserted, or sorted (insertion sort by Python's order). */
static size_t *key_order(const dumper *d, const jdict *dict)
{
    size_t *order = jinja_alloc(d->cx, dict->len, sizeof *order);
    for (size_t i = 0; order != NULL && i < dict->len; i++) {
        size_t k = i;
        while (d->sort && k > 0 &&
               jinja_compare(d->cx, dict->items[i].key, dict->items[order[k - 1]].key) < 0) {
            order[k] = order[k - 1];
            k--;
        }
        order[k] = i;
    }
    return order;
}

static void dump_dict(const dumper *d, const jdict *dict, uint32_t level)
{
    const size_t *order = key_order(d, dict);
    (void)jinja_buf_ascii(d->cx, d->out, "{", 0);
    for (size_t i = 0; i < dict->len && !jinja_failed(d->cx); i++) {
        const jentry *e = &dict->items[order[i]];
        if (i > 0)
            (void)jinja_buf_put(d->cx, d->out, d->item_separator->cp, d->item_separator->len);
        new_line(d, level + 1);
        dump_key(d, e->key);
        (void)jinja_buf_put(d->cx, d->out, d->key_separator->cp, d->key_separator->len);
        dump(d, e->value, level + 1);
    }
    if (dict->len > 0) new_line(d, level);
    (void)jinja_buf_ascii(d->cx, d->out, "}", 0);
}

static void dump(const dumper *d, jvalue v, uint32_t level)
{
    char text[48];
    if (!jinja_step(d->cx, 1) || !jinja_enter(d->cx)) return;
    switch (v.type) {
    case J_NONE: (void)jinja_buf_ascii(d->cx, d->out, "null", 0); break;
    case J_BOOL: (void)jinja_buf_ascii(d->cx, d->out, v.u.b ? "true" : "false", 0); break;
    case J_INT:
        (void)snprintf(text, sizeof text, "%lld", (long long)v.u.i);
        (void)jinja_buf_ascii(d->cx, d->out, text, 0);
        break;
    case J_FLOAT:
        jinja_float_repr(v.u.f, text);
        if (isnan(v.u.f)) (void)snprintf(text, sizeof text, "NaN");
        if (isinf(v.u.f)) (void)snprintf(text, sizeof text, v.u.f < 0 ? "-Infinity" : "Infinity");
        (void)jinja_buf_ascii(d->cx, d->out, text, 0);
        break;
    case J_STRING: dump_string(d, v.u.s); break;
    case J_LIST:
    case J_TUPLE: dump_list(d, v.u.l, level); break;
    case J_DICT: dump_dict(d, v.u.d, level); break;
    case J_UNDEFINED:
    case J_RANGE:
    case J_VIEW:
    case J_ITER:
    case J_NAMESPACE:
    case J_FUNC:
        (void)jinja_fail(d->cx, VLM_INVALID_ARGUMENT,
                         "template: object of type %s is not JSON serializable",
                         jinja_type_name(v));
        break;
    }
    d->cx->depth--;
}

/* indent: a number of spaces, a string, or none. */
static bool read_indent(dumper *d, jvalue v)
{
    int64_t n;
    if (v.type == J_NONE || v.type == J_UNDEFINED) return true;
    if (v.type == J_STRING) {
        d->indent = v;
        return true;
    }
    if (!jinja_as_int(v, &n) || n > 1000) {
        (void)jinja_fail(d->cx, VLM_INVALID_ARGUMENT,
                         "template: tojson: indent must be an integer of at most 1000 or a string");
        return false;
    }
    const jstr empty = {0};
    d->indent = jinja_pad(d->cx, &empty, n, ' ', -1);
    return !jinja_failed(d->cx);
}

jvalue jinja_tojson(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"ensure_ascii", "indent", "separators", "sort_keys"};
    jinja *cx = &r->cx;
    jvalue a[4];
    bool given[4];
    jbuf buf = {0};
    if (!jinja_bind(cx, "tojson", call, names, 4, a, given)) return JUNDEF;
    dumper d = {.cx = cx, .out = &buf, .indent = JNONE};
    if (!read_indent(&d, a[1])) return JUNDEF;
    d.ascii = jinja_truth(a[0]);
    d.sort = jinja_truth(a[3]);
    const jvalue item = jinja_ascii(cx, d.indent.type == J_STRING ? "," : ", ");
    const jvalue key = jinja_ascii(cx, ": ");
    if (jinja_failed(cx)) return JUNDEF;
    d.item_separator = item.u.s;
    d.key_separator = key.u.s;
    if (a[2].type != J_NONE && a[2].type != J_UNDEFINED) {
        const jvalue pair = jinja_iterate(cx, a[2]);
        if (jinja_failed(cx) || pair.u.l->len != 2 || pair.u.l->items[0].type != J_STRING ||
            pair.u.l->items[1].type != J_STRING)
            return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                              "template: tojson: separators must be two strings");
        d.item_separator = pair.u.l->items[0].u.s;
        d.key_separator = pair.u.l->items[1].u.s;
    }
    dump(&d, v, 0);
    return jinja_buf_string(cx, &buf);
}

/* Control tokens are built from these keys' values. */
static bool is_control_word(const char *key, vlm_bytes text)
{
    if (strcmp(key, "role") != 0 && strcmp(key, "type") != 0) return false;
    for (size_t i = 0; i < text.len; i++)
        if (!((text.ptr[i] >= 'a' && text.ptr[i] <= 'z') || text.ptr[i] == '_')) return false;
    return true;
}

static jvalue from_object(jinja *cx, const vlm_json *node, bool mark)
{
    const jvalue out = jinja_dict_new(cx, J_DICT);
    const size_t n = vlm_json_object_len(node);
    if (jinja_failed(cx)) return JUNDEF;
    out.u.d->items = jinja_alloc(cx, n, sizeof *out.u.d->items);
    out.u.d->cap = n;
    for (vlm_json_iter it = vlm_json_iter_begin(node); vlm_json_iter_next(&it);) {
        const bool control = vlm_json_typeof(it.value) == VLM_JSON_STRING &&
                             is_control_word(it.key, vlm_json_string(it.value));
        const jvalue key = jinja_utf8(cx, vlm_bytes_of(it.key), mark);
        const jvalue value = jinja_from_json(cx, it.value, mark && !control);
        if (jinja_failed(cx)) return JUNDEF;
        /* A JSON object has no key twice, so that no search is needed. */
        out.u.d->items[out.u.d->len++] = (jentry){.key = key, .value = value};
    }
    return out;
}

jvalue jinja_from_json(jinja *cx, const vlm_json *node, bool mark)
{
    jvalue out = JNONE;
    if (!jinja_step(cx, 1) || !jinja_enter(cx)) return JUNDEF;
    switch (vlm_json_typeof(node)) {
    case VLM_JSON_NULL: break;
    case VLM_JSON_BOOL: out = jinja_bool(vlm_json_bool(node)); break;
    case VLM_JSON_INT:
        out = jinja_int(vlm_json_int(node));
        if (!vlm_json_int_fits(node))
            out = jinja_fail(cx, VLM_INVALID_ARGUMENT, "an integer beyond 64 bits");
        break;
    case VLM_JSON_DOUBLE: out = jinja_float(vlm_json_double(node)); break;
    case VLM_JSON_STRING: out = jinja_utf8(cx, vlm_json_string(node), mark); break;
    case VLM_JSON_ARRAY:
        out = jinja_list_new(cx, J_LIST, vlm_json_array_len(node));
        for (size_t i = 0; i < vlm_json_array_len(node) && !jinja_failed(cx); i++)
            (void)jinja_push(cx, out, jinja_from_json(cx, vlm_json_at(node, i), mark));
        break;
    case VLM_JSON_OBJECT: out = from_object(cx, node, mark); break;
    }
    cx->depth--;
    return out;
}

static void name_reasoning(jinja *cx, jvalue *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const jvalue *reasoning = NULL;
    if (message->type != J_DICT) return;
    for (size_t i = 0; i < 3 && reasoning == NULL; i++) {
        reasoning = jinja_dict_get_ascii(cx, message->u.d, names[i]);
        if (reasoning != NULL && reasoning->type == J_NONE) reasoning = NULL;
    }
    if (reasoning == NULL) return;
    const jvalue out = jinja_dict_new(cx, J_DICT), value = *reasoning;
    if (jinja_failed(cx)) return;
    /* In {"thinking": r, **message} an existing thinking keeps its value, but comes first. */
    (void)jinja_dict_set(cx, out.u.d, jinja_ascii(cx, "thinking"), value);
    for (size_t i = 0; i < message->u.d->len && !jinja_failed(cx); i++)
        (void)jinja_dict_set(cx, out.u.d, message->u.d->items[i].key, message->u.d->items[i].value);
    (void)jinja_dict_set(cx, out.u.d, jinja_ascii(cx, "reasoning_content"), value);
    *message = out;
}

void jinja_name_reasoning(jinja *cx, jvalue messages)
{
    for (size_t i = 0; messages.type == J_LIST && i < messages.u.l->len && !jinja_failed(cx); i++)
        name_reasoning(cx, &messages.u.l->items[i]);
}
