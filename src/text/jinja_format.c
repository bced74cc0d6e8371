/* jinja_format.c - "..." % values and "...".format(...), as far as templates use them.  Widths are
 * checked before anything is allocated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_eval.h"

enum { WIDTH_MAX = 1 << 20, PRECISION_MAX = 1000, NUMBER_LEN_MAX = 2048 };

typedef struct spec {
    bool left, plus, space, zero, alt;
    int64_t width, precision; /* -1: not given */
    char type;
    uint32_t fill;
    char align; /* < > ^ = or 0 */
    bool comma;
} spec;

static jvalue bad_format(jinja *cx, const char *what)
{
    return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: format: %s", what);
}

/* Text of a number or string to width, filled. */
static void put_padded(jinja *cx, jbuf *out, const jchar *cp, size_t len, const spec *s,
                       bool is_number)
{
    const size_t width = s->width > 0 ? (size_t)s->width : 0;
    const size_t total = width > len ? width - len : 0;
    const jchar fill = s->fill;
    static const jchar none[1] = {0};
    if (len == 0) cp = none; /* an empty buffer has no address to count from */
    const char align = s->align != 0 ? s->align : is_number ? '>' : '<';
    size_t before = align == '<' ? 0 : align == '^' ? total / 2 : total;
    size_t sign = 0;
    if (align == '=' && len > 0 &&
        (jinja_cp(cp[0]) == '-' || jinja_cp(cp[0]) == '+' || jinja_cp(cp[0]) == ' '))
        sign = 1;
    (void)jinja_buf_put(cx, out, cp, sign);
    for (size_t i = 0; i < before && !jinja_failed(cx); i++) (void)jinja_buf_put(cx, out, &fill, 1);
    (void)jinja_buf_put(cx, out, cp + sign, len - sign);
    for (size_t i = before; i < total && !jinja_failed(cx); i++)
        (void)jinja_buf_put(cx, out, &fill, 1);
}

static void put_number(jinja *cx, jbuf *out, const char *text, const spec *s)
{
    jchar cp[NUMBER_LEN_MAX];
    size_t n = 0, digits = 0;
    const char *point = strpbrk(text, ".e");
    const size_t n_int = point == NULL ? strlen(text) : (size_t)(point - text);
    for (size_t i = 0; text[i] != '\0' && n + 2 < NUMBER_LEN_MAX; i++) {
        const bool digit = text[i] >= '0' && text[i] <= '9';
        if (s->comma && digit && i < n_int && digits > 0 && (n_int - i) % 3 == 0) cp[n++] = ',';
        digits += digit;
        cp[n++] = (unsigned char)text[i];
    }
    put_padded(cx, out, cp, n, s, true);
}

static void format_float(jinja *cx, jbuf *out, double v, const spec *s)
{
    char format[16], text[NUMBER_LEN_MAX];
    (void)snprintf(format, sizeof format, "%%%s%s.*%c",
                   s->plus    ? "+"
                   : s->space ? " "
                              : "",
                   s->alt ? "#" : "", s->type == 'F' ? 'f' : s->type);
    const int precision = s->precision < 0 ? 6 : (int)s->precision;
    const int n = snprintf(text, sizeof text, format, precision, v);
    if (n < 0 || (size_t)n >= sizeof text)
        (void)bad_format(cx, "a number that is too long");
    else
        put_number(cx, out, text, s);
}

static void format_int(jinja *cx, jbuf *out, int64_t v, const spec *s)
{
    char digits[80], text[PRECISION_MAX + 100];
    const uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    const unsigned long long m = magnitude;
    const char *prefix = "";
    switch (s->type) {
    case 'x':
        (void)snprintf(digits, sizeof digits, "%llx", m);
        prefix = s->alt ? "0x" : "";
        break;
    case 'X':
        (void)snprintf(digits, sizeof digits, "%llX", m);
        prefix = s->alt ? "0X" : "";
        break;
    case 'o':
        (void)snprintf(digits, sizeof digits, "%llo", m);
        prefix = s->alt ? "0o" : "";
        break;
    default: (void)snprintf(digits, sizeof digits, "%llu", m); break;
    }
    const int n_zero =
        s->precision > (int64_t)strlen(digits) ? (int)(s->precision - (int64_t)strlen(digits)) : 0;
    (void)snprintf(text, sizeof text, "%s%s%0*d%s",
                   v < 0      ? "-"
                   : s->plus  ? "+"
                   : s->space ? " "
                              : "",
                   prefix, n_zero, 0, digits);
    if (n_zero == 0) {
        /* %0*d printed one zero for a width of nothing. */
        (void)snprintf(text, sizeof text, "%s%s%s",
                       v < 0      ? "-"
                       : s->plus  ? "+"
                       : s->space ? " "
                                  : "",
                       prefix, digits);
    }
    put_number(cx, out, text, s);
}

static void format_text(jinja *cx, jbuf *out, jvalue v, const spec *s, bool repr)
{
    jbuf buf = {0};
    if (repr)
        jinja_put_repr(cx, &buf, v);
    else
        jinja_put_str(cx, &buf, v);
    size_t len = buf.len;
    if (s->precision >= 0 && (uint64_t)s->precision < len) len = (size_t)s->precision;
    if (!jinja_failed(cx)) put_padded(cx, out, buf.cp, len, s, false);
    free(buf.cp);
}

/* One %-conversion of a value. */
static void convert(jinja *cx, jbuf *out, jvalue v, spec *s)
{
    int64_t i;
    s->fill = ' ';
    s->align = s->left ? '<' : '>';
    switch (s->type) {
    case 's':
    case 'r':
    case 'a': format_text(cx, out, v, s, s->type != 's'); return;
    case 'c':
        if (v.type == J_STRING && v.u.s->len == 1) {
            format_text(cx, out, v, s, false);
            return;
        }
        if (jinja_as_int(v, &i) && i >= 0 && i < 0x110000 && !(i >= 0xD800 && i < 0xE000)) {
            const jchar c = (jchar)i;
            put_padded(cx, out, &c, 1, s, false);
            return;
        }
        (void)bad_format(cx, "%c requires int or char");
        return;
    default: break;
    }
    if (!jinja_is_number(v)) {
        (void)bad_format(cx, "a number is required");
        return;
    }
    if (s->zero && !s->left) {
        s->fill = '0';
        s->align = '=';
    }
    if (strchr("eEfFgG", s->type) != NULL) {
        format_float(cx, out, jinja_number(v), s);
        return;
    }
    if (!jinja_as_int(v, &i)) {
        if (s->type != 'd' && s->type != 'i' && s->type != 'u') {
            (void)bad_format(cx, "an integer is required");
            return;
        }
        if (!(v.u.f > -9.2e18 && v.u.f < 9.2e18)) {
            (void)bad_format(cx, "an integer beyond 64 bits");
            return;
        }
        i = (int64_t)v.u.f;
    }
    format_int(cx, out, i, s);
}

typedef struct percent {
    jinja *cx;
    const jstr *format;
    size_t at;
    jvalue values; /* tuple, dict, or one value */
    size_t n_used;
} percent;

static jvalue next_value(percent *p)
{
    if (p->values.type == J_TUPLE) {
        if (p->n_used < p->values.u.l->len) return p->values.u.l->items[p->n_used++];
    } else if (p->n_used++ == 0) {
        return p->values;
    }
    return bad_format(p->cx, "not enough arguments");
}

static uint32_t peek(const percent *p)
{
    return p->at < p->format->len ? jinja_cp(p->format->cp[p->at]) : 0;
}

static int64_t number_or_star(percent *p, int64_t max)
{
    int64_t n = 0;
    if (peek(p) == '*') {
        p->at++;
        const jvalue v = next_value(p);
        if (!jinja_as_int(v, &n) && !jinja_failed(p->cx)) (void)bad_format(p->cx, "* wants int");
    } else {
        for (; peek(p) >= '0' && peek(p) <= '9' && n <= max; p->at++)
            n = n * 10 + (int64_t)(peek(p) - '0');
    }
    if (n > max || n < -max) (void)bad_format(p->cx, "a width that is too large");
    return n;
}

static void one_conversion(percent *p, jbuf *out)
{
    jinja *cx = p->cx;
    spec s = {.width = 0, .precision = -1};
    jvalue v = JUNDEF;
    bool keyed = false;
    if (peek(p) == '(') {
        const size_t begin = ++p->at;
        while (p->at < p->format->len && peek(p) != ')') p->at++;
        if (p->values.type != J_DICT) {
            (void)bad_format(cx, "format requires a mapping");
            return;
        }
        const jvalue *found =
            jinja_dict_get(cx, p->values.u.d, jinja_sub(cx, p->format, begin, p->at));
        if (found == NULL) {
            (void)bad_format(cx, "a key is missing");
            return;
        }
        v = *found;
        keyed = true;
        p->at++;
    }
    for (;; p->at++) {
        const uint32_t c = peek(p);
        if (c == '-')
            s.left = true;
        else if (c == '+')
            s.plus = true;
        else if (c == ' ')
            s.space = true;
        else if (c == '0')
            s.zero = true;
        else if (c == '#')
            s.alt = true;
        else
            break;
    }
    s.width = number_or_star(p, WIDTH_MAX);
    if (s.width < 0) {
        s.left = true;
        s.width = -s.width;
    }
    if (peek(p) == '.') {
        p->at++;
        s.precision = number_or_star(p, PRECISION_MAX);
    }
    while (peek(p) == 'l' || peek(p) == 'h' || peek(p) == 'L') p->at++;
    const uint32_t type = peek(p);
    p->at++;
    if (type == '%') {
        const jchar c = '%';
        (void)jinja_buf_put(cx, out, &c, 1);
        return;
    }
    if (type == 0 || type >= 0x80 || strchr("sracdiuxXoeEfFgG", (int)type) == NULL) {
        (void)bad_format(cx, "unsupported format character");
        return;
    }
    s.type = (char)type;
    if (!keyed) v = next_value(p);
    if (!jinja_failed(cx)) convert(cx, out, v, &s);
}

jvalue jinja_percent(jinja *cx, const jstr *format, jvalue values)
{
    jbuf out = {0};
    percent p = {.cx = cx, .format = format, .values = values};
    while (p.at < format->len && !jinja_failed(cx)) {
        const jchar c = format->cp[p.at++];
        if (jinja_cp(c) != '%')
            (void)jinja_buf_put(cx, &out, &c, 1);
        else
            one_conversion(&p, &out);
    }
    const bool all = values.type == J_DICT || values.type == J_LIST ||
                     (values.type == J_TUPLE ? p.n_used >= values.u.l->len : p.n_used >= 1);
    if (!all) (void)bad_format(cx, "not all arguments converted");
    return jinja_buf_string(cx, &out);
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool parse_spec(jinja *cx, const jstr *text, spec *s)
{
    size_t at = 0;
    *s = (spec){.precision = -1, .fill = ' '};
#define CP(i) ((i) < text->len ? jinja_cp(text->cp[i]) : 0)
#define IS_ALIGN(c) ((c) == '<' || (c) == '>' || (c) == '^' || (c) == '=')
    if (IS_ALIGN(CP(1))) {
        s->fill = text->cp[0];
        s->align = (char)CP(1);
        at = 2;
    } else if (IS_ALIGN(CP(0))) {
        s->align = (char)CP(0);
        at = 1;
    }
    if (CP(at) == '+' || CP(at) == '-' || CP(at) == ' ') {
        s->plus = CP(at) == '+';
        s->space = CP(at) == ' ';
        at++;
    }
    if (CP(at) == '#') {
        s->alt = true;
        at++;
    }
    if (CP(at) == '0') {
        if (s->align == 0) {
            s->fill = '0';
            s->align = '=';
        }
        at++;
    }
    for (; CP(at) >= '0' && CP(at) <= '9' && s->width <= WIDTH_MAX; at++)
        s->width = s->width * 10 + (int64_t)(CP(at) - '0');
    if (CP(at) == ',') {
        s->comma = true;
        at++;
    }
    if (CP(at) == '.') {
        s->precision = 0;
        for (at++; CP(at) >= '0' && CP(at) <= '9' && s->precision <= PRECISION_MAX; at++)
            s->precision = s->precision * 10 + (int64_t)(CP(at) - '0');
    }
    if (CP(at) != 0 && CP(at) < 0x80) {
        s->type = (char)CP(at);
        at++;
    }
    if (at == text->len && s->width <= WIDTH_MAX && s->precision <= PRECISION_MAX) return true;
#undef CP
#undef IS_ALIGN
    (void)bad_format(cx, "invalid format specifier");
    return false;
}

static void put_field(jinja *cx, jbuf *out, jvalue v, const jstr *spec_text, bool repr)
{
    spec s;
    int64_t i;
    if (!parse_spec(cx, spec_text, &s)) return;
    if (repr || v.type == J_STRING || !jinja_is_number(v) || s.type == 's') {
        if (s.type != 0 && s.type != 's')
            (void)bad_format(cx, "unknown format code for a string");
        else
            format_text(cx, out, v, &s, repr);
        return;
    }
    const bool is_int = jinja_as_int(v, &i);
    if (is_int && v.type == J_BOOL && spec_text->len == 0) {
        format_text(cx, out, v, &s, false);
    } else if (is_int && (s.type == 0 || strchr("dxXon", s.type) != NULL)) {
        s.precision = -1;
        format_int(cx, out, i, &s);
    } else if (s.type == 0 && s.precision < 0) {
        char text[40];
        jinja_float_repr(jinja_number(v), text);
        put_number(cx, out, text, &s);
    } else if (s.type == '%') {
        jbuf number = {0};
        spec inner = {.precision = s.precision, .type = 'f', .fill = ' ', .plus = s.plus};
        format_float(cx, &number, jinja_number(v) * 100.0, &inner);
        (void)jinja_buf_ascii(cx, &number, "%", 0);
        if (!jinja_failed(cx)) put_padded(cx, out, number.cp, number.len, &s, true);
        free(number.cp);
    } else if (s.type == 0 || strchr("eEfFgG", s.type) != NULL) {
        if (s.type == 0) s.type = 'g';
        format_float(cx, out, jinja_number(v), &s);
    } else {
        (void)bad_format(cx, "unknown format code");
    }
}

/* The value that "0", "name", "name.attr" or "name[key]" stands for. */
static jvalue field_value(jrun *r, const jstr *name, const jcall *call, size_t *n_auto)
{
    jinja *cx = &r->cx;
    size_t end = 0;
    int64_t number = 0;
    bool digits = true;
    while (end < name->len && jinja_cp(name->cp[end]) != '.' && jinja_cp(name->cp[end]) != '[') {
        const uint32_t c = jinja_cp(name->cp[end++]);
        digits &= c >= '0' && c <= '9' && number < 100000000;
        if (digits) number = number * 10 + (int64_t)(c - '0');
    }
    jvalue v = JUNDEF;
    bool found = false;
    if (digits) {
        const size_t idx = end == 0 ? (*n_auto)++ : (size_t)number;
        found = idx < call->n_args;
        if (found) v = call->args[idx];
    } else {
        const jstr first = {.cp = name->cp, .len = end};
        for (size_t i = 0; i < call->n_named && !found; i++) {
            found = jinja_str_is(&first, call->names[i]);
            if (found) v = call->named[i];
        }
    }
    if (!found) return bad_format(cx, "an argument is missing");
    while (end < name->len && !jinja_failed(cx)) {
        const bool item = jinja_cp(name->cp[end]) == '[';
        const size_t begin = ++end;
        while (end < name->len && jinja_cp(name->cp[end]) != ']' &&
               (item || (jinja_cp(name->cp[end]) != '.' && jinja_cp(name->cp[end]) != '[')))
            end++;
        v = jinja_item(r, v, jinja_sub(cx, name, begin, end));
        if (item && end < name->len) end++;
    }
    return v;
}

/* Behind "{": one replacement field; returns the position behind "}". */
static size_t put_replacement(jrun *r, jbuf *out, const jstr *format, size_t at, const jcall *call,
                              size_t *n_auto)
{
    jinja *cx = &r->cx;
    const size_t begin = at;
    while (at < format->len && jinja_cp(format->cp[at]) != '}' && jinja_cp(format->cp[at]) != '!' &&
           jinja_cp(format->cp[at]) != ':')
        at++;
    const jstr name = {.cp = format->cp + begin, .len = at - begin};
    bool repr = false;
    if (at + 1 < format->len && jinja_cp(format->cp[at]) == '!') {
        repr = jinja_cp(format->cp[at + 1]) != 's';
        at += 2;
    }
    jstr spec_text = {0};
    if (at < format->len && jinja_cp(format->cp[at]) == ':') {
        const size_t spec_begin = ++at;
        while (at < format->len && jinja_cp(format->cp[at]) != '}') at++;
        spec_text = (jstr){.cp = format->cp + spec_begin, .len = at - spec_begin};
    }
    if (at >= format->len || jinja_cp(format->cp[at]) != '}') {
        (void)bad_format(cx, "expected '}' before end of string");
        return format->len;
    }
    const jvalue v = field_value(r, &name, call, n_auto);
    if (!jinja_failed(cx)) put_field(cx, out, v, &spec_text, repr);
    return at + 1;
}

jvalue jinja_format(jrun *r, const jstr *format, const jcall *call)
{
    jinja *cx = &r->cx;
    jbuf out = {0};
    size_t n_auto = 0;
    for (size_t at = 0; at < format->len && !jinja_failed(cx);) {
        const uint32_t c = jinja_cp(format->cp[at]);
        const uint32_t next = at + 1 < format->len ? jinja_cp(format->cp[at + 1]) : 0;
        if ((c == '{' || c == '}') && next == c) {
            (void)jinja_buf_put(cx, &out, format->cp + at, 1);
            at += 2;
        } else if (c == '{') {
            at = put_replacement(r, &out, format, at + 1, call, &n_auto);
        } else if (c == '}') {
            (void)bad_format(cx, "single '}' encountered");
        } else {
            (void)jinja_buf_put(cx, &out, format->cp + at++, 1);
        }
    }
    return jinja_buf_string(cx, &out);
}
