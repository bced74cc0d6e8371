/* jinja_filters.c - Jinja's filters: the table, and those of single values.  Filters over sequences
 * are in jinja_filters_seq.c. */
#include "text/jinja_filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const no_names[1] = {NULL};

/* str(value), where every string filter begins. */
static const jstr *text_of(jinja *cx, jvalue v)
{
    static const jstr empty = {0};
    const jvalue s = jinja_str(cx, v);
    return s.type == J_STRING ? s.u.s : &empty;
}

#define NO_ARGS(name)                                                                              \
    do {                                                                                           \
        if (!jinja_bind(&r->cx, name, call, no_names, 0, NULL, NULL)) return JUNDEF;               \
    } while (0)

static jvalue f_upper(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("upper");
    return jinja_upper(&r->cx, text_of(&r->cx, v));
}
static jvalue f_lower(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("lower");
    return jinja_lower(&r->cx, text_of(&r->cx, v));
}
static jvalue f_capitalize(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("capitalize");
    return jinja_capitalize(&r->cx, text_of(&r->cx, v));
}
static jvalue f_title(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("title");
    return jinja_title(&r->cx, text_of(&r->cx, v), true);
}
static jvalue f_string(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("string");
    return jinja_str(&r->cx, v);
}
static jvalue f_safe(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("safe");
    return jinja_safe(&r->cx, jinja_str(&r->cx, v));
}
static jvalue f_escape(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("escape");
    return jinja_escape(&r->cx, v);
}
static jvalue f_forceescape(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("forceescape");
    const jstr *s = text_of(&r->cx, v);
    return jinja_escape(&r->cx, jinja_string(&r->cx, s->cp, s->len));
}

static jvalue f_trim(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"chars"};
    jvalue a[1];
    bool given[1];
    if (!jinja_bind(&r->cx, "trim", call, names, 1, a, given)) return JUNDEF;
    return jinja_strip(&r->cx, text_of(&r->cx, v), given[0] ? a[0] : JNONE, true, true);
}

static jvalue f_replace(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"old", "new", "count"};
    jinja *cx = &r->cx;
    jvalue a[3];
    bool given[3];
    int64_t count = -1;
    if (!jinja_bind(cx, "replace", call, names, 3, a, given)) return JUNDEF;
    if (!given[0] || !given[1] || (given[2] && a[2].type != J_NONE && !jinja_as_int(a[2], &count)))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: replace needs two strings");
    return jinja_replace(cx, text_of(cx, v), text_of(cx, a[0]), text_of(cx, a[1]), count);
}

static jvalue f_default(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"default_value", "boolean"};
    jvalue a[2];
    bool given[2];
    if (!jinja_bind(&r->cx, "default", call, names, 2, a, given)) return JUNDEF;
    const bool replace = v.type == J_UNDEFINED || (jinja_truth(a[1]) && !jinja_truth(v));
    if (!replace) return v;
    return given[0] ? a[0] : jinja_ascii(&r->cx, "");
}

static jvalue f_length(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("length");
    const int64_t n = jinja_length(&r->cx, v);
    return jinja_int(n);
}

static jvalue f_abs(jrun *r, jvalue v, const jcall *call)
{
    int64_t i;
    NO_ARGS("abs");
    if (jinja_as_int(v, &i) && i != INT64_MIN) return jinja_int(i < 0 ? -i : i);
    if (v.type == J_FLOAT) return jinja_float(fabs(v.u.f));
    return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "template: bad operand type for abs(): '%s'",
                      jinja_type_name(v));
}

/* The ASCII of a string without its white space and underscores between digits; false if too long.
 */
static bool number_text(const jstr *s, char *out, size_t size)
{
    size_t begin = 0, end = s->len, n = 0;
    while (begin < end && jinja_is_space(jinja_cp(s->cp[begin]))) begin++;
    while (end > begin && jinja_is_space(jinja_cp(s->cp[end - 1]))) end--;
    if (end - begin + 1 > size) return false;
    for (size_t i = begin; i < end; i++) {
        const uint32_t c = jinja_cp(s->cp[i]);
        if (c == '_' && i > begin && i + 1 < end && jinja_cp(s->cp[i - 1]) != '_') continue;
        if (c == 0 || c >= 0x80) return false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return n > 0;
}

static bool parse_float(const jstr *s, double *out)
{
    char text[400], *end;
    if (!number_text(s, text, sizeof text) || strpbrk(text, "xXpP") != NULL) return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

static bool parse_int(const jstr *s, int base, int64_t *out)
{
    char text[100], *end;
    if (!number_text(s, text, sizeof text)) return false;
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    const char kind = digits[0] == '0' ? (char)(digits[1] | 0x20) : '\0';
    const bool prefixed =
        (base == 16 && kind == 'x') || (base == 8 && kind == 'o') || (base == 2 && kind == 'b');
    if (prefixed) memmove(text + (digits - text), digits + 2, strlen(digits + 2) + 1);
    *out = strtoll(text, &end, base);
    return *end == '\0' && end != text && *out != INT64_MAX && *out != INT64_MIN;
}

static jvalue f_int(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"default", "base"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    int64_t i, base = 10;
    double f;
    if (!jinja_bind(cx, "int", call, names, 2, a, given)) return JUNDEF;
    if (given[1] && (!jinja_as_int(a[1], &base) || base < 2 || base > 36))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: int: base must be 2 to 36");
    if (jinja_as_int(v, &i)) return jinja_int(i);
    if (v.type == J_STRING && parse_int(v.u.s, (int)base, &i)) return jinja_int(i);
    const bool is_float =
        v.type == J_FLOAT ? (f = v.u.f, true) : v.type == J_STRING && parse_float(v.u.s, &f);
    if (is_float && isfinite(f)) {
        if (fabs(f) < 9.2e18) return jinja_int((int64_t)f);
        /* Python's integers have no end: such a one prints right here, and computes no further. */
        char digits[400];
        (void)snprintf(digits, sizeof digits, "%.0f", f);
        return jinja_ascii(cx, digits);
    }
    return given[0] ? a[0] : jinja_int(0);
}

static jvalue f_float(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"default"};
    jvalue a[1];
    bool given[1];
    double f;
    if (!jinja_bind(&r->cx, "float", call, names, 1, a, given)) return JUNDEF;
    if (jinja_is_number(v)) return jinja_float(jinja_number(v));
    if (v.type == J_STRING && parse_float(v.u.s, &f)) return jinja_float(f);
    return given[0] ? a[0] : jinja_float(0.0);
}

static jvalue f_round(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"precision", "method"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    int64_t precision = 0;
    if (!jinja_bind(cx, "round", call, names, 2, a, given)) return JUNDEF;
    if (given[0] && (!jinja_as_int(a[0], &precision) || precision < -300 || precision > 300))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                          "template: round: precision must be an integer");
    if (!jinja_is_number(v))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: round: not a number");
    const double x = jinja_number(v);
    if (!given[1] || (a[1].type == J_STRING && jinja_str_is(a[1].u.s, "common"))) {
        /* Python rounds the exact decimal value, as printf does. */
        char text[700];
        int64_t i;
        if (jinja_as_int(v, &i) && precision >= 0) return jinja_int(i);
        if (precision >= 0) {
            (void)snprintf(text, sizeof text, "%.*f", (int)precision, x);
            return jinja_float(strtod(text, NULL));
        }
        const double scale = pow(10.0, (double)-precision);
        const double y = nearbyint(x / scale) * scale;
        return jinja_as_int(v, &i) ? jinja_int((int64_t)y) : jinja_float(y);
    }
    const double scale = pow(10.0, (double)precision);
    if (a[1].type == J_STRING && jinja_str_is(a[1].u.s, "ceil"))
        return jinja_float(ceil(x * scale) / scale);
    if (a[1].type == J_STRING && jinja_str_is(a[1].u.s, "floor"))
        return jinja_float(floor(x * scale) / scale);
    return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                      "template: round: method must be common, ceil or "
                      "floor");
}

static jvalue f_indent(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"width", "first", "blank"};
    jinja *cx = &r->cx;
    jvalue a[3];
    bool given[3];
    int64_t width = 4;
    const jstr empty = {0};
    if (!jinja_bind(cx, "indent", call, names, 3, a, given)) return JUNDEF;
    jvalue margin = a[0];
    if (!given[0] || a[0].type != J_STRING) {
        if (given[0] && !jinja_as_int(a[0], &width))
            return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                              "template: indent: width must be an integer");
        margin = jinja_pad(cx, &empty, width, ' ', -1);
    }
    if (jinja_failed(cx)) return JUNDEF;
    const jstr *s = text_of(cx, v);
    jbuf buf = {0};
    bool begins = true, first = true;
    for (size_t i = 0; i <= s->len && !jinja_failed(cx); i++) {
        const bool blank = i == s->len || jinja_cp(s->cp[i]) == '\n';
        if (begins && (first ? jinja_truth(a[1]) && i <= s->len : !blank || jinja_truth(a[2])))
            (void)jinja_buf_put(cx, &buf, margin.u.s->cp, margin.u.s->len);
        if (i == s->len) break;
        (void)jinja_buf_put(cx, &buf, s->cp + i, 1);
        begins = jinja_cp(s->cp[i]) == '\n';
        if (begins) first = false;
    }
    return jinja_buf_string(cx, &buf);
}

static jvalue f_center(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"width"};
    jvalue a[1];
    bool given[1];
    int64_t width = 80;
    if (!jinja_bind(&r->cx, "center", call, names, 1, a, given)) return JUNDEF;
    if (given[0] && !jinja_as_int(a[0], &width))
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT,
                          "template: center: width must be an integer");
    return jinja_pad(&r->cx, text_of(&r->cx, v), width, ' ', 0);
}

static jvalue f_wordcount(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("wordcount");
    const jstr *s = text_of(&r->cx, v);
    int64_t n = 0;
    bool inside = false;
    for (size_t i = 0; i < s->len; i++) {
        const uint32_t c = jinja_cp(s->cp[i]);
        const bool word = c >= 0x80 || c == '_' || (c >= '0' && c <= '9') ||
                          (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        n += word && !inside;
        inside = word;
    }
    return jinja_int(n);
}

static jvalue f_truncate(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"length", "killwords", "end", "leeway"};
    jinja *cx = &r->cx;
    jvalue a[4];
    bool given[4];
    int64_t length = 255, leeway = 5;
    if (!jinja_bind(cx, "truncate", call, names, 4, a, given)) return JUNDEF;
    if ((given[0] && !jinja_as_int(a[0], &length)) ||
        (given[3] && a[3].type != J_NONE && !jinja_as_int(a[3], &leeway)))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: truncate: lengths must be integers");
    const jvalue end = given[2] ? jinja_str(cx, a[2]) : jinja_ascii(cx, "...");
    const jstr *s = text_of(cx, v);
    if (jinja_failed(cx)) return JUNDEF;
    if (length < (int64_t)end.u.s->len || leeway < 0)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: truncate: length is too small");
    if ((int64_t)s->len <= length + leeway) return jinja_sub(cx, s, 0, s->len);
    size_t cut = (size_t)length - end.u.s->len;
    if (!jinja_truth(a[1])) {
        size_t at = cut;
        while (at > 0 && jinja_cp(s->cp[at - 1]) != ' ') at--;
        if (at > 0) cut = at - 1;
    }
    const jvalue parts[2] = {jinja_sub(cx, s, 0, cut), end};
    return jinja_concat(cx, parts, 2);
}

static jvalue f_format(jrun *r, jvalue v, const jcall *call)
{
    jinja *cx = &r->cx;
    const jvalue format = jinja_str(cx, v);
    if (call->n_named > 0) {
        const jvalue d = jinja_dict_new(cx, J_DICT);
        for (size_t i = 0; i < call->n_named && !jinja_failed(cx); i++)
            (void)jinja_dict_set(cx, d.u.d, jinja_ascii(cx, call->names[i]), call->named[i]);
        return jinja_failed(cx) ? JUNDEF : jinja_percent(cx, format.u.s, d);
    }
    const jvalue values = jinja_list_new(cx, J_TUPLE, call->n_args);
    for (size_t i = 0; i < call->n_args; i++) (void)jinja_push(cx, values, call->args[i]);
    return jinja_failed(cx) ? JUNDEF : jinja_percent(cx, format.u.s, values);
}

static jvalue f_urlencode(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("urlencode");
    jinja *cx = &r->cx;
    const jstr *s = text_of(cx, v);
    jbuf buf = {0};
    for (size_t i = 0; i < s->len && !jinja_failed(cx); i++) {
        char bytes[4], text[4];
        const size_t n = vlm_utf8_encode(jinja_cp(s->cp[i]), bytes);
        for (size_t k = 0; k < n; k++) {
            const unsigned char c = (unsigned char)bytes[k];
            const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                               (c >= 'a' && c <= 'z') || (c < 0x80 && c > 0 && strchr("-._~/", c));
            (void)snprintf(text, sizeof text, plain ? "%c" : "%%%02X", c);
            (void)jinja_buf_ascii(cx, &buf, text, s->cp[i] & JINJA_MARK);
        }
    }
    return jinja_buf_string(cx, &buf);
}

/* Tags and comments go, white space is made one space. */
static jvalue f_striptags(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("striptags");
    jinja *cx = &r->cx;
    const jstr *s = text_of(cx, v);
    jbuf buf = {0};
    bool space = false, tag = false;
    for (size_t i = 0; i < s->len && !jinja_failed(cx); i++) {
        const uint32_t c = jinja_cp(s->cp[i]);
        if (c == '<') tag = true;
        if (!tag) {
            if (jinja_is_space(c)) {
                space = buf.len > 0;
            } else {
                const jchar blank = ' ';
                if (space) (void)jinja_buf_put(cx, &buf, &blank, 1);
                (void)jinja_buf_put(cx, &buf, s->cp + i, 1);
                space = false;
            }
        }
        if (c == '>') tag = false;
    }
    return jinja_buf_string(cx, &buf);
}

static jvalue f_filesizeformat(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"binary"};
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary_units[] = {"KiB", "MiB", "GiB", "TiB",
                                               "PiB", "EiB", "ZiB", "YiB"};
    jvalue a[1];
    bool given[1];
    char text[64];
    if (!jinja_bind(&r->cx, "filesizeformat", call, names, 1, a, given)) return JUNDEF;
    if (!jinja_is_number(v))
        return jinja_fail(&r->cx, VLM_INVALID_ARGUMENT, "template: filesizeformat: not a number");
    const bool binary = jinja_truth(a[0]);
    const double base = binary ? 1024.0 : 1000.0;
    double bytes = jinja_number(v), unit = base;
    size_t k = 0;
    if (bytes == 1.0) return jinja_ascii(&r->cx, "1 Byte");
    if (bytes < base) {
        (void)snprintf(text, sizeof text, "%.0f Bytes", bytes);
        return jinja_ascii(&r->cx, text);
    }
    while (k < 7 && bytes >= unit * base) {
        unit *= base;
        k++;
    }
    (void)snprintf(text, sizeof text, "%.1f %s", bytes / unit, binary ? binary_units[k] : units[k]);
    return jinja_ascii(&r->cx, text);
}

static jvalue f_attr(jrun *r, jvalue v, const jcall *call)
{
    static const char *const names[] = {"name"};
    jvalue a[1];
    bool given[1];
    if (!jinja_bind(&r->cx, "attr", call, names, 1, a, given)) return JUNDEF;
    if (v.type == J_DICT) return JUNDEF;
    return jinja_item(r, v, a[0]);
}

static jvalue f_pprint(jrun *r, jvalue v, const jcall *call)
{
    NO_ARGS("pprint");
    jbuf buf = {0};
    jinja_put_repr(&r->cx, &buf, v);
    return jinja_buf_string(&r->cx, &buf);
}

typedef struct filter {
    const char *name;
    jinja_filter_fn *fn;
} filter;

static const filter filters[] = {
    {"abs", f_abs},
    {"attr", f_attr},
    {"batch", jinja_f_batch},
    {"capitalize", f_capitalize},
    {"center", f_center},
    {"count", f_length},
    {"d", f_default},
    {"default", f_default},
    {"dictsort", jinja_f_dictsort},
    {"e", f_escape},
    {"escape", f_escape},
    {"filesizeformat", f_filesizeformat},
    {"first", jinja_f_first},
    {"float", f_float},
    {"forceescape", f_forceescape},
    {"format", f_format},
    {"groupby", jinja_f_groupby},
    {"indent", f_indent},
    {"int", f_int},
    {"items", jinja_f_items},
    {"join", jinja_f_join},
    {"last", jinja_f_last},
    {"length", f_length},
    {"list", jinja_f_list},
    {"lower", f_lower},
    {"map", jinja_f_map},
    {"max", jinja_f_max},
    {"min", jinja_f_min},
    {"pprint", f_pprint},
    {"reject", jinja_f_reject},
    {"rejectattr", jinja_f_rejectattr},
    {"replace", f_replace},
    {"reverse", jinja_f_reverse},
    {"round", f_round},
    {"safe", f_safe},
    {"select", jinja_f_select},
    {"selectattr", jinja_f_selectattr},
    {"slice", jinja_f_slice},
    {"sort", jinja_f_sort},
    {"string", f_string},
    {"striptags", f_striptags},
    {"sum", jinja_f_sum},
    {"title", f_title},
    {"tojson", jinja_tojson},
    {"trim", f_trim},
    {"truncate", f_truncate},
    {"unique", jinja_f_unique},
    {"upper", f_upper},
    {"urlencode", f_urlencode},
    {"wordcount", f_wordcount},
};

int jinja_filter_find(const char *name)
{
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (strcmp(filters[i].name, name) == 0) return (int)i;
    return -1;
}

jvalue jinja_filter_call(jrun *r, int id, jvalue value, const jcall *call)
{
    if (!jinja_step(&r->cx, 1)) return JUNDEF;
    return filters[id].fn(r, value, call);
}
