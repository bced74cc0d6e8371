/* jinja_strings.c - the methods of strings, as Python's str has them. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/jinja_methods.h"

static const char *const no_names[1] = {NULL};

/* n arguments, all strings; a[i].type tells which are there. */
static bool strings(jinja *cx, const char *fn, const jcall *call, size_t n, size_t n_min, jvalue *a)
{
    bool given[4];
    if (!jinja_bind(cx, fn, call, no_names, call->n_named > 0 ? 0 : n, a, given)) return false;
    for (size_t i = 0; i < n; i++) {
        if ((i < n_min && !given[i]) || (given[i] && a[i].type != J_STRING)) {
            (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: %s needs a string", fn);
            return false;
        }
    }
    return true;
}

static jvalue m_strip(jrun *r, jvalue self, const jcall *call)
{
    return jinja_strip(&r->cx, self.u.s, call->n_args > 0 ? call->args[0] : JNONE, true, true);
}
static jvalue m_lstrip(jrun *r, jvalue self, const jcall *call)
{
    return jinja_strip(&r->cx, self.u.s, call->n_args > 0 ? call->args[0] : JNONE, true, false);
}
static jvalue m_rstrip(jrun *r, jvalue self, const jcall *call)
{
    return jinja_strip(&r->cx, self.u.s, call->n_args > 0 ? call->args[0] : JNONE, false, true);
}
static jvalue m_upper(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    return jinja_upper(&r->cx, self.u.s);
}
static jvalue m_lower(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    return jinja_lower(&r->cx, self.u.s);
}
static jvalue m_capitalize(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    return jinja_capitalize(&r->cx, self.u.s);
}
static jvalue m_title(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    return jinja_title(&r->cx, self.u.s, false);
}
static jvalue m_swapcase(jrun *r, jvalue self, const jcall *call)
{
    (void)call;
    return jinja_swapcase(&r->cx, self.u.s);
}
static jvalue m_format(jrun *r, jvalue self, const jcall *call)
{
    return jinja_format(r, self.u.s, call);
}

static jvalue split_spaces(jinja *cx, const jstr *s, int64_t max, bool from_right)
{
    const jvalue out = jinja_list_new(cx, J_LIST, 0);
    size_t begin = 0, end = s->len;
    if (from_right) {
        for (;;) {
            while (end > 0 && jinja_is_space(jinja_cp(s->cp[end - 1]))) end--;
            if (end == 0 || jinja_failed(cx)) break;
            size_t at = end;
            while (at > 0 && !jinja_is_space(jinja_cp(s->cp[at - 1]))) at--;
            if (max >= 0 && (int64_t)out.u.l->len == max) at = 0;
            (void)jinja_push(cx, out, jinja_sub(cx, s, at, end));
            end = at;
        }
        for (size_t i = 0; !jinja_failed(cx) && i < out.u.l->len / 2; i++) {
            const jvalue swap = out.u.l->items[i];
            out.u.l->items[i] = out.u.l->items[out.u.l->len - 1 - i];
            out.u.l->items[out.u.l->len - 1 - i] = swap;
        }
        return out;
    }
    for (;;) {
        while (begin < s->len && jinja_is_space(jinja_cp(s->cp[begin]))) begin++;
        if (begin == s->len || jinja_failed(cx)) return out;
        end = begin;
        if (max >= 0 && (int64_t)out.u.l->len == max)
            end = s->len;
        else
            while (end < s->len && !jinja_is_space(jinja_cp(s->cp[end]))) end++;
        (void)jinja_push(cx, out, jinja_sub(cx, s, begin, end));
        begin = end;
    }
}

static jvalue split_at(jinja *cx, const jstr *s, const jstr *sep, int64_t max, bool from_right)
{
    const jvalue out = jinja_list_new(cx, J_LIST, 0);
    if (sep->len == 0) return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: empty separator");
    size_t begin = 0, end = s->len;
    while (!jinja_failed(cx) && (max < 0 || (int64_t)out.u.l->len < max)) {
        const size_t at = from_right ? jinja_str_rfind(cx, s, sep, 0, end)
                                     : jinja_str_find(cx, s, sep, begin, s->len);
        if (at == SIZE_MAX) break;
        if (from_right) {
            (void)jinja_push(cx, out, jinja_sub(cx, s, at + sep->len, end));
            end = at;
        } else {
            (void)jinja_push(cx, out, jinja_sub(cx, s, begin, at));
            begin = at + sep->len;
        }
    }
    (void)jinja_push(cx, out, jinja_sub(cx, s, begin, end));
    for (size_t i = 0; from_right && !jinja_failed(cx) && i < out.u.l->len / 2; i++) {
        const jvalue swap = out.u.l->items[i];
        out.u.l->items[i] = out.u.l->items[out.u.l->len - 1 - i];
        out.u.l->items[out.u.l->len - 1 - i] = swap;
    }
    return out;
}

static jvalue split(jrun *r, jvalue self, const jcall *call, bool from_right)
{
    static const char *const names[] = {"sep", "maxsplit"};
    jinja *cx = &r->cx;
    jvalue a[2];
    bool given[2];
    int64_t max = -1;
    if (!jinja_bind(cx, "split", call, names, 2, a, given)) return JUNDEF;
    if (given[1] && !jinja_as_int(a[1], &max))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: maxsplit must be an integer");
    if (!given[0] || a[0].type == J_NONE) return split_spaces(cx, self.u.s, max, from_right);
    if (a[0].type != J_STRING)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: split needs a string");
    return split_at(cx, self.u.s, a[0].u.s, max, from_right);
}
static jvalue m_split(jrun *r, jvalue self, const jcall *call)
{
    return split(r, self, call, false);
}
static jvalue m_rsplit(jrun *r, jvalue self, const jcall *call)
{
    return split(r, self, call, true);
}

/* str.splitlines' line ends. */
static size_t line_end(const jstr *s, size_t at)
{
    const uint32_t cp = jinja_cp(s->cp[at]);
    if (cp == '\r' && at + 1 < s->len && jinja_cp(s->cp[at + 1]) == '\n') return 2;
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
                   cp == 0x2029
               ? 1
               : 0;
}

static jvalue m_splitlines(jrun *r, jvalue self, const jcall *call)
{
    jinja *cx = &r->cx;
    const jstr *s = self.u.s;
    const bool keep = (call->n_args > 0 && jinja_truth(call->args[0])) ||
                      (call->n_named > 0 && jinja_truth(call->named[0]));
    const jvalue out = jinja_list_new(cx, J_LIST, 0);
    size_t begin = 0;
    for (size_t at = 0; at < s->len && !jinja_failed(cx);) {
        const size_t n = line_end(s, at);
        if (n > 0) {
            (void)jinja_push(cx, out, jinja_sub(cx, s, begin, keep ? at + n : at));
            begin = at + n;
        }
        at += n > 0 ? n : 1;
    }
    if (begin < s->len) (void)jinja_push(cx, out, jinja_sub(cx, s, begin, s->len));
    return out;
}

/* The optional start and end of find, count, startswith. */
static bool bounds(jinja *cx, const jstr *s, const jcall *call, size_t *begin, size_t *end)
{
    int64_t v[2] = {0, (int64_t)s->len};
    const int64_t len = (int64_t)s->len;
    for (size_t i = 0; i < 2; i++) {
        if (call->n_args <= i + 1 || call->args[i + 1].type == J_NONE) continue;
        if (!jinja_as_int(call->args[i + 1], &v[i])) {
            (void)jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: an index must be an integer");
            return false;
        }
        if (v[i] < 0) v[i] = v[i] + len < 0 ? 0 : v[i] + len;
        if (v[i] > len) v[i] = i == 0 ? len + 1 : len;
    }
    *begin = (size_t)v[0];
    *end = (size_t)v[1];
    return true;
}

static bool affix_matches(const jstr *s, const jstr *affix, size_t begin, size_t end, bool at_end)
{
    if (begin > end || affix->len > end - begin) return false;
    const size_t at = at_end ? end - affix->len : begin;
    for (size_t i = 0; i < affix->len; i++)
        if (jinja_cp(s->cp[at + i]) != jinja_cp(affix->cp[i])) return false;
    return true;
}

static jvalue affix(jrun *r, jvalue self, const jcall *call, bool at_end)
{
    jinja *cx = &r->cx;
    size_t begin, end;
    if (call->n_args < 1 || call->n_named > 0)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: startswith needs a string");
    if (!bounds(cx, self.u.s, call, &begin, &end)) return JUNDEF;
    const jvalue what = call->args[0];
    if (what.type == J_STRING)
        return jinja_bool(affix_matches(self.u.s, what.u.s, begin, end, at_end));
    if (what.type != J_TUPLE)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                          "template: startswith needs a string or a tuple of strings, not %s",
                          jinja_type_name(what));
    for (size_t i = 0; i < what.u.l->len; i++)
        if (what.u.l->items[i].type == J_STRING &&
            affix_matches(self.u.s, what.u.l->items[i].u.s, begin, end, at_end))
            return jinja_bool(true);
    return jinja_bool(false);
}
static jvalue m_startswith(jrun *r, jvalue self, const jcall *call)
{
    return affix(r, self, call, false);
}
static jvalue m_endswith(jrun *r, jvalue self, const jcall *call)
{
    return affix(r, self, call, true);
}

static jvalue find(jrun *r, jvalue self, const jcall *call, bool last, bool must)
{
    jinja *cx = &r->cx;
    size_t begin, end;
    if (call->n_args < 1 || call->args[0].type != J_STRING)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: find needs a string");
    if (!bounds(cx, self.u.s, call, &begin, &end)) return JUNDEF;
    const jstr *what = call->args[0].u.s;
    const size_t at = last ? jinja_str_rfind(cx, self.u.s, what, begin, end)
                           : jinja_str_find(cx, self.u.s, what, begin, end);
    if (at == SIZE_MAX && must)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: substring not found");
    return jinja_int(at == SIZE_MAX ? -1 : (int64_t)at);
}
static jvalue m_find(jrun *r, jvalue self, const jcall *call)
{
    return find(r, self, call, false, false);
}
static jvalue m_rfind(jrun *r, jvalue self, const jcall *call)
{
    return find(r, self, call, true, false);
}
static jvalue m_index(jrun *r, jvalue self, const jcall *call)
{
    return find(r, self, call, false, true);
}
static jvalue m_rindex(jrun *r, jvalue self, const jcall *call)
{
    return find(r, self, call, true, true);
}

static jvalue m_count(jrun *r, jvalue self, const jcall *call)
{
    jinja *cx = &r->cx;
    size_t begin, end;
    if (call->n_args < 1 || call->args[0].type != J_STRING)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: count needs a string");
    if (!bounds(cx, self.u.s, call, &begin, &end)) return JUNDEF;
    const jstr *what = call->args[0].u.s;
    int64_t n = 0;
    while (begin <= end && !jinja_failed(cx)) {
        const size_t at = jinja_str_find(cx, self.u.s, what, begin, end);
        if (at == SIZE_MAX) break;
        n++;
        begin = at + (what->len > 0 ? what->len : 1);
    }
    return jinja_int(n);
}

static jvalue m_replace(jrun *r, jvalue self, const jcall *call)
{
    static const char *const names[] = {"old", "new", "count"};
    jinja *cx = &r->cx;
    jvalue a[3];
    bool given[3];
    int64_t count = -1;
    if (!jinja_bind(cx, "replace", call, names, 3, a, given)) return JUNDEF;
    if (a[0].type != J_STRING || a[1].type != J_STRING || (given[2] && !jinja_as_int(a[2], &count)))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: replace needs two strings");
    return jinja_replace(cx, self.u.s, a[0].u.s, a[1].u.s, count);
}

static jvalue m_join(jrun *r, jvalue self, const jcall *call)
{
    jinja *cx = &r->cx;
    if (call->n_args != 1)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: join needs one argument");
    const jvalue list = jinja_iterate(cx, call->args[0]);
    if (jinja_failed(cx)) return JUNDEF;
    for (size_t i = 0; i < list.u.l->len; i++)
        if (list.u.l->items[i].type != J_STRING)
            return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                              "template: sequence item %zu: expected str instance, %s found", i,
                              jinja_type_name(list.u.l->items[i]));
    return jinja_join(cx, list, self.u.s);
}

static jvalue all_chars(jvalue self, bool (*is)(uint32_t))
{
    bool ok = self.u.s->len > 0;
    for (size_t i = 0; i < self.u.s->len && ok; i++) ok = is(jinja_cp(self.u.s->cp[i]));
    return jinja_bool(ok);
}
static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}
static bool is_decimal(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_ND || cp == 0xB2 || cp == 0xB3 || cp == 0xB9;
}
static bool is_letter(uint32_t cp)
{
    return category(cp) >= UTF8PROC_CATEGORY_LU && category(cp) <= UTF8PROC_CATEGORY_LO;
}
static bool is_alnum(uint32_t cp)
{
    return is_letter(cp) ||
           (category(cp) >= UTF8PROC_CATEGORY_ND && category(cp) <= UTF8PROC_CATEGORY_NO);
}
static jvalue m_isdigit(jrun *r, jvalue self, const jcall *call)
{
    (void)r, (void)call;
    return all_chars(self, is_decimal);
}
static jvalue m_isalpha(jrun *r, jvalue self, const jcall *call)
{
    (void)r, (void)call;
    return all_chars(self, is_letter);
}
static jvalue m_isalnum(jrun *r, jvalue self, const jcall *call)
{
    (void)r, (void)call;
    return all_chars(self, is_alnum);
}
static jvalue m_isspace(jrun *r, jvalue self, const jcall *call)
{
    (void)r, (void)call;
    return all_chars(self, jinja_is_space);
}

static jvalue is_case(jvalue self, utf8proc_category_t want, utf8proc_category_t other)
{
    bool any = false;
    for (size_t i = 0; i < self.u.s->len; i++) {
        const utf8proc_category_t c = category(jinja_cp(self.u.s->cp[i]));
        if (c == other || c == UTF8PROC_CATEGORY_LT) return jinja_bool(false);
        any |= c == want;
    }
    return jinja_bool(any);
}
static jvalue m_isupper(jrun *r, jvalue self, const jcall *call)
{
    (void)r, (void)call;
    return is_case(self, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LL);
}
static jvalue m_islower(jrun *r, jvalue self, const jcall *call)
{
    (void)r, (void)call;
    return is_case(self, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LU);
}

static jvalue pad(jrun *r, jvalue self, const jcall *call, int where)
{
    jinja *cx = &r->cx;
    int64_t width;
    uint32_t fill = ' ';
    if (call->n_args < 1 || !jinja_as_int(call->args[0], &width))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: a width must be an integer");
    if (call->n_args > 1) {
        if (call->args[1].type != J_STRING || call->args[1].u.s->len != 1)
            return jinja_fail(cx, VLM_INVALID_ARGUMENT,
                              "template: the fill character must be one character");
        fill = call->args[1].u.s->cp[0];
    }
    return jinja_pad(cx, self.u.s, width, fill, where);
}
static jvalue m_ljust(jrun *r, jvalue self, const jcall *call)
{
    return pad(r, self, call, -1);
}
static jvalue m_rjust(jrun *r, jvalue self, const jcall *call)
{
    return pad(r, self, call, 1);
}
static jvalue m_center(jrun *r, jvalue self, const jcall *call)
{
    return pad(r, self, call, 0);
}
static jvalue m_zfill(jrun *r, jvalue self, const jcall *call)
{
    jinja *cx = &r->cx;
    int64_t width;
    const jstr *s = self.u.s;
    if (call->n_args != 1 || !jinja_as_int(call->args[0], &width))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: a width must be an integer");
    const bool sign = s->len > 0 && (jinja_cp(s->cp[0]) == '-' || jinja_cp(s->cp[0]) == '+');
    if (!sign) return jinja_pad(cx, s, width, '0', 1);
    const jstr rest = {.cp = s->cp + 1, .len = s->len - 1};
    const jvalue parts[2] = {jinja_sub(cx, s, 0, 1), jinja_pad(cx, &rest, width - 1, '0', 1)};
    return jinja_concat(cx, parts, 2);
}

static jvalue m_removeprefix(jrun *r, jvalue self, const jcall *call)
{
    jvalue a[1];
    if (!strings(&r->cx, "removeprefix", call, 1, 1, a)) return JUNDEF;
    const jstr *s = self.u.s;
    const bool there = affix_matches(s, a[0].u.s, 0, s->len, false);
    return jinja_sub(&r->cx, s, there ? a[0].u.s->len : 0, s->len);
}
static jvalue m_removesuffix(jrun *r, jvalue self, const jcall *call)
{
    jvalue a[1];
    if (!strings(&r->cx, "removesuffix", call, 1, 1, a)) return JUNDEF;
    const jstr *s = self.u.s;
    const bool there = affix_matches(s, a[0].u.s, 0, s->len, true);
    return jinja_sub(&r->cx, s, 0, there ? s->len - a[0].u.s->len : s->len);
}

static jvalue partition(jrun *r, jvalue self, const jcall *call, bool last)
{
    jinja *cx = &r->cx;
    jvalue a[1];
    if (!strings(cx, "partition", call, 1, 1, a)) return JUNDEF;
    const jstr *s = self.u.s, *sep = a[0].u.s;
    const jvalue out = jinja_list_new(cx, J_TUPLE, 3);
    const size_t at =
        last ? jinja_str_rfind(cx, s, sep, 0, s->len) : jinja_str_find(cx, s, sep, 0, s->len);
    const bool found = at != SIZE_MAX;
    const size_t split_begin = found ? at : last ? 0 : s->len;
    const size_t split_end = found ? at + sep->len : last ? 0 : s->len;
    (void)jinja_push(cx, out, jinja_sub(cx, s, 0, split_begin));
    (void)jinja_push(cx, out, jinja_sub(cx, s, split_begin, split_end));
    (void)jinja_push(cx, out, jinja_sub(cx, s, split_end, s->len));
    return out;
}
static jvalue m_partition(jrun *r, jvalue self, const jcall *call)
{
    return partition(r, self, call, false);
}
static jvalue m_rpartition(jrun *r, jvalue self, const jcall *call)
{
    return partition(r, self, call, true);
}

static jvalue m_expandtabs(jrun *r, jvalue self, const jcall *call)
{
    jinja *cx = &r->cx;
    int64_t size = 8;
    if (call->n_args > 0 && (!jinja_as_int(call->args[0], &size) || size < 0 || size > 1000))
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: a tab size of 0 to 1000 is needed");
    jbuf buf = {0};
    int64_t column = 0;
    for (size_t i = 0; i < self.u.s->len && !jinja_failed(cx); i++) {
        const jchar c = self.u.s->cp[i];
        if (jinja_cp(c) == '\t') {
            const jchar space = ' ' | (c & JINJA_MARK);
            for (int64_t n = size > 0 ? size - column % size : 0; n > 0; n--, column++)
                (void)jinja_buf_put(cx, &buf, &space, 1);
            continue;
        }
        (void)jinja_buf_put(cx, &buf, &c, 1);
        column = jinja_cp(c) == '\n' || jinja_cp(c) == '\r' ? 0 : column + 1;
    }
    return jinja_buf_string(cx, &buf);
}

const jmethod jinja_string_methods[] = {
    {J_STRING, "strip", m_strip},
    {J_STRING, "lstrip", m_lstrip},
    {J_STRING, "rstrip", m_rstrip},
    {J_STRING, "upper", m_upper},
    {J_STRING, "lower", m_lower},
    {J_STRING, "casefold", m_lower},
    {J_STRING, "capitalize", m_capitalize},
    {J_STRING, "title", m_title},
    {J_STRING, "swapcase", m_swapcase},
    {J_STRING, "format", m_format},
    {J_STRING, "split", m_split},
    {J_STRING, "rsplit", m_rsplit},
    {J_STRING, "splitlines", m_splitlines},
    {J_STRING, "startswith", m_startswith},
    {J_STRING, "endswith", m_endswith},
    {J_STRING, "find", m_find},
    {J_STRING, "rfind", m_rfind},
    {J_STRING, "index", m_index},
    {J_STRING, "rindex", m_rindex},
    {J_STRING, "count", m_count},
    {J_STRING, "replace", m_replace},
    {J_STRING, "join", m_join},
    {J_STRING, "isdigit", m_isdigit},
    {J_STRING, "isdecimal", m_isdigit},
    {J_STRING, "isnumeric", m_isdigit},
    {J_STRING, "isalpha", m_isalpha},
    {J_STRING, "isalnum", m_isalnum},
    {J_STRING, "isspace", m_isspace},
    {J_STRING, "isupper", m_isupper},
    {J_STRING, "islower", m_islower},
    {J_STRING, "ljust", m_ljust},
    {J_STRING, "rjust", m_rjust},
    {J_STRING, "center", m_center},
    {J_STRING, "zfill", m_zfill},
    {J_STRING, "removeprefix", m_removeprefix},
    {J_STRING, "removesuffix", m_removesuffix},
    {J_STRING, "partition", m_partition},
    {J_STRING, "rpartition", m_rpartition},
    {J_STRING, "expandtabs", m_expandtabs},
};
const size_t jinja_n_string_methods = sizeof jinja_string_methods / sizeof jinja_string_methods[0];
