/* jinja_text.c - strings of jinja_value.h, and how values print. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/utf8.h"
#include "text/jinja_value.h"

static const jstr empty_string = {0};

jvalue jinja_string_of(const jstr *s)
{
    return (jvalue){.type = J_STRING, .u.s = s};
}

/* A string over code points that live as long as the rendering. */
static jvalue wrap(jinja *cx, const jchar *cp, size_t len, bool safe)
{
    if (len == 0 && !safe) return jinja_string_of(&empty_string);
    jstr *s = jinja_alloc(cx, 1, sizeof *s);
    if (s == NULL) return JUNDEF;
    *s = (jstr){.cp = cp, .len = len, .safe = safe};
    return jinja_string_of(s);
}

static jchar *new_text(jinja *cx, size_t len)
{
    if (len > cx->limits->string_max) {
        (void)jinja_fail(cx, VLM_RESOURCE_EXHAUSTED,
                         "template: a string of more than %zu characters", cx->limits->string_max);
        return NULL;
    }
    if (!jinja_step(cx, 1 + len / 64)) return NULL;
    return jinja_alloc(cx, len, sizeof(jchar));
}

jvalue jinja_string(jinja *cx, const jchar *cp, size_t len)
{
    jchar *copy = new_text(cx, len);
    if (copy == NULL) return JUNDEF;
    if (len > 0) memcpy(copy, cp, len * sizeof *copy);
    return wrap(cx, copy, len, false);
}

jvalue jinja_sub(jinja *cx, const jstr *s, size_t begin, size_t end)
{
    if (begin >= end) return wrap(cx, NULL, 0, s->safe);
    return wrap(cx, s->cp + begin, end - begin, s->safe);
}

jvalue jinja_safe(jinja *cx, jvalue s)
{
    return s.type == J_STRING ? wrap(cx, s.u.s->cp, s.u.s->len, true) : s;
}

jvalue jinja_ascii(jinja *cx, const char *text)
{
    return jinja_utf8(cx, vlm_bytes_of(text), false);
}

jvalue jinja_utf8(jinja *cx, vlm_bytes text, bool mark)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; n++) {
        uint32_t cp;
        bool bad;
        i += vlm_utf8_decode(text.ptr + i, text.len - i, &cp, &bad);
    }
    jchar *out = new_text(cx, n);
    if (out == NULL) return JUNDEF;
    const jchar bit = mark ? JINJA_MARK : 0;
    for (size_t i = 0, k = 0; k < n; k++) {
        uint32_t cp;
        bool bad;
        i += vlm_utf8_decode(text.ptr + i, text.len - i, &cp, &bad);
        out[k] = cp | bit;
    }
    return wrap(cx, out, n, false);
}

bool jinja_str_is(const jstr *s, const char *ascii)
{
    size_t i = 0;
    for (; i < s->len && ascii[i] != '\0'; i++)
        if (jinja_cp(s->cp[i]) != (unsigned char)ascii[i]) return false;
    return i == s->len && ascii[i] == '\0';
}

bool jinja_str_eq(const jstr *a, const jstr *b)
{
    return a->len == b->len && jinja_str_cmp(a, b) == 0;
}

int jinja_str_cmp(const jstr *a, const jstr *b)
{
    for (size_t i = 0; i < a->len && i < b->len; i++) {
        const uint32_t x = jinja_cp(a->cp[i]), y = jinja_cp(b->cp[i]);
        if (x != y) return x < y ? -1 : 1;
    }
    return a->len < b->len ? -1 : a->len > b->len;
}

static bool matches_at(const jstr *s, size_t at, const jstr *needle)
{
    for (size_t k = 0; k < needle->len; k++)
        if (jinja_cp(s->cp[at + k]) != jinja_cp(needle->cp[k])) return false;
    return true;
}

size_t jinja_str_find(jinja *cx, const jstr *s, const jstr *needle, size_t from, size_t end)
{
    if (end > s->len) end = s->len;
    for (size_t at = from; at <= end && needle->len <= end - at; at++) {
        if ((at & 63) == 0 && !jinja_step(cx, 1 + needle->len / 8)) return SIZE_MAX;
        if (matches_at(s, at, needle)) return at;
    }
    return SIZE_MAX;
}

size_t jinja_str_rfind(jinja *cx, const jstr *s, const jstr *needle, size_t from, size_t end)
{
    if (end > s->len) end = s->len;
    if (needle->len > end || end - needle->len < from) return SIZE_MAX;
    for (size_t at = end - needle->len + 1; at-- > from;) {
        if ((at & 63) == 0 && !jinja_step(cx, 1 + needle->len / 8)) return SIZE_MAX;
        if (matches_at(s, at, needle)) return at;
    }
    return SIZE_MAX;
}

bool jinja_is_space(uint32_t cp)
{
    if (cp < 0x80) return cp == ' ' || (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool jinja_buf_put(jinja *cx, jbuf *buf, const jchar *cp, size_t len)
{
    if (jinja_failed(cx)) return false;
    if (len > cx->limits->output_max - buf->len) {
        (void)jinja_fail(cx, VLM_RESOURCE_EXHAUSTED, "template: more than %zu characters of output",
                         cx->limits->output_max);
        return false;
    }
    if (!vlm_grow((void **)&buf->cp, &buf->cap, buf->len + len, SIZE_MAX, sizeof *buf->cp)) {
        (void)jinja_fail(cx, VLM_RESOURCE_EXHAUSTED, "out of memory: template");
        return false;
    }
    if (len > 0) memcpy(buf->cp + buf->len, cp, len * sizeof *cp);
    buf->len += len;
    return jinja_step(cx, len / 64);
}

bool jinja_buf_ascii(jinja *cx, jbuf *buf, const char *text, jchar mark)
{
    for (; *text != '\0'; text++) {
        const jchar c = (unsigned char)*text | mark;
        if (!jinja_buf_put(cx, buf, &c, 1)) return false;
    }
    return true;
}

jvalue jinja_buf_string(jinja *cx, jbuf *buf)
{
    const jvalue s = jinja_string(cx, buf->cp, buf->len);
    free(buf->cp);
    *buf = (jbuf){0};
    return s;
}

/* Python's repr of a float: the fewest digits that read back, with an exponent below 1e-4 and from
 * 1e16 on. */
void jinja_float_repr(double f, char out[40])
{
    if (isnan(f) || isinf(f)) {
        (void)snprintf(out, 40, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    char digits[40];
    int precision = 0;
    do {
        (void)snprintf(digits, sizeof digits, "%.*e", precision, f);
    } while (strtod(digits, NULL) != f && ++precision < 17);
    const int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (exponent >= -4 && exponent < 16) {
        const int decimals = precision > exponent ? precision - exponent : 0;
        (void)snprintf(out, 40, "%.*f%s", decimals, f, decimals == 0 ? ".0" : "");
        return;
    }
    const int mantissa = (int)(strchr(digits, 'e') - digits);
    (void)snprintf(out, 40, "%.*se%c%02d", mantissa, digits, exponent < 0 ? '-' : '+',
                   abs(exponent));
}

static bool is_printable(uint32_t cp)
{
    if (cp < 0x7F) return cp >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
    }
}

static void put_repr_char(jinja *cx, jbuf *buf, jchar c, uint32_t quote)
{
    const uint32_t cp = jinja_cp(c);
    const jchar mark = c & JINJA_MARK;
    char text[16];
    if (cp == '\\' || cp == quote)
        (void)snprintf(text, sizeof text, "\\%c", (int)cp);
    else if (cp == '\n' || cp == '\r' || cp == '\t')
        (void)snprintf(text, sizeof text, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    else if (is_printable(cp)) {
        (void)jinja_buf_put(cx, buf, &c, 1);
        return;
    } else if (cp < 0x100)
        (void)snprintf(text, sizeof text, "\\x%02x", cp);
    else
        (void)snprintf(text, sizeof text, cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
    (void)jinja_buf_ascii(cx, buf, text, mark);
}

static void put_string_repr(jinja *cx, jbuf *buf, const jstr *s)
{
    bool has_single = false, has_double = false;
    for (size_t i = 0; i < s->len; i++) {
        has_single |= jinja_cp(s->cp[i]) == '\'';
        has_double |= jinja_cp(s->cp[i]) == '"';
    }
    const char *quote = has_single && !has_double ? "\"" : "'";
    (void)jinja_buf_ascii(cx, buf, quote, 0);
    for (size_t i = 0; i < s->len && !jinja_failed(cx); i++)
        put_repr_char(cx, buf, s->cp[i], (unsigned char)quote[0]);
    (void)jinja_buf_ascii(cx, buf, quote, 0);
}

static void put_list_repr(jinja *cx, jbuf *buf, const jlist *l, const char *open, const char *close)
{
    (void)jinja_buf_ascii(cx, buf, open, 0);
    for (size_t i = 0; i < l->len && !jinja_failed(cx); i++) {
        if (i > 0) (void)jinja_buf_ascii(cx, buf, ", ", 0);
        jinja_put_repr(cx, buf, l->items[i]);
    }
    (void)jinja_buf_ascii(cx, buf, close, 0);
}

static void put_dict_repr(jinja *cx, jbuf *buf, const jdict *d)
{
    (void)jinja_buf_ascii(cx, buf, "{", 0);
    for (size_t i = 0; i < d->len && !jinja_failed(cx); i++) {
        if (i > 0) (void)jinja_buf_ascii(cx, buf, ", ", 0);
        jinja_put_repr(cx, buf, d->items[i].key);
        (void)jinja_buf_ascii(cx, buf, ": ", 0);
        jinja_put_repr(cx, buf, d->items[i].value);
    }
    (void)jinja_buf_ascii(cx, buf, "}", 0);
}

void jinja_put_repr(jinja *cx, jbuf *buf, jvalue v)
{
    if (!jinja_enter(cx)) return;
    if (jinja_step(cx, 1)) {
        switch (v.type) {
        case J_STRING: put_string_repr(cx, buf, v.u.s); break;
        case J_LIST: put_list_repr(cx, buf, v.u.l, "[", "]"); break;
        case J_TUPLE: put_list_repr(cx, buf, v.u.l, "(", v.u.l->len == 1 ? ",)" : ")"); break;
        case J_VIEW: put_list_repr(cx, buf, v.u.l, "dict_view([", "])"); break;
        case J_DICT: put_dict_repr(cx, buf, v.u.d); break;
        case J_UNDEFINED: (void)jinja_buf_ascii(cx, buf, "Undefined", 0); break;
        case J_NONE:
        case J_BOOL:
        case J_INT:
        case J_FLOAT:
        case J_RANGE:
        case J_ITER:
        case J_NAMESPACE:
        case J_FUNC: jinja_put_str(cx, buf, v); break;
        }
    }
    cx->depth--;
}

void jinja_put_str(jinja *cx, jbuf *buf, jvalue v)
{
    char text[96];
    switch (v.type) {
    case J_UNDEFINED: return;
    case J_STRING: (void)jinja_buf_put(cx, buf, v.u.s->cp, v.u.s->len); return;
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
    case J_DICT: jinja_put_repr(cx, buf, v); return;
    case J_NONE: (void)snprintf(text, sizeof text, "None"); break;
    case J_BOOL: (void)snprintf(text, sizeof text, v.u.b ? "True" : "False"); break;
    case J_INT: (void)snprintf(text, sizeof text, "%lld", (long long)v.u.i); break;
    case J_FLOAT: jinja_float_repr(v.u.f, text); break;
    case J_RANGE: {
        const jrange *r = v.u.r;
        const long long stop = (long long)(r->start + (int64_t)r->len * r->step);
        if (r->step == 1)
            (void)snprintf(text, sizeof text, "range(%lld, %lld)", (long long)r->start, stop);
        else
            (void)snprintf(text, sizeof text, "range(%lld, %lld, %lld)", (long long)r->start, stop,
                           (long long)r->step);
        break;
    }
    case J_ITER:
    case J_NAMESPACE:
    case J_FUNC: (void)snprintf(text, sizeof text, "<%s object>", jinja_type_name(v)); break;
    }
    (void)jinja_buf_ascii(cx, buf, text, 0);
}

jvalue jinja_str(jinja *cx, jvalue v)
{
    if (v.type == J_STRING) return v;
    jbuf buf = {0};
    jinja_put_str(cx, &buf, v);
    return jinja_buf_string(cx, &buf);
}
