/* jinja_string.c - what Python's string methods and Jinja's string filters share. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/jinja_eval.h"

static bool in_set(const jstr *set, jchar c)
{
    for (size_t i = 0; i < set->len; i++)
        if (jinja_cp(set->cp[i]) == jinja_cp(c)) return true;
    return false;
}

jvalue jinja_strip(jinja *cx, const jstr *s, jvalue chars, bool left, bool right)
{
    const bool spaces = chars.type == J_NONE || chars.type == J_UNDEFINED;
    if (!spaces && chars.type != J_STRING)
        return jinja_fail(cx, VLM_INVALID_ARGUMENT, "template: strip arg must be None or str");
    size_t begin = 0, end = s->len;
    if (!jinja_step(cx, s->len / 64)) return JUNDEF;
#define STRIPPED(c) (spaces ? jinja_is_space(jinja_cp(c)) : in_set(chars.u.s, c))
    while (left && begin < end && STRIPPED(s->cp[begin])) begin++;
    while (right && end > begin && STRIPPED(s->cp[end - 1])) end--;
#undef STRIPPED
    return jinja_sub(cx, s, begin, end);
}

/* One case mapping may give several characters (Unicode's SpecialCasing). */
static size_t map_upper(uint32_t cp, uint32_t out[3])
{
    static const struct {
        uint32_t cp, to[3];
    } special[] = {
        {0xDF, {'S', 'S', 0}},          {0x149, {0x2BC, 'N', 0}},       {0x1F0, {'J', 0x30C, 0}},
        {0x587, {0x535, 0x552, 0}},     {0xFB00, {'F', 'F', 0}},        {0xFB01, {'F', 'I', 0}},
        {0xFB02, {'F', 'L', 0}},        {0xFB03, {'F', 'F', 'I'}},      {0xFB04, {'F', 'F', 'L'}},
        {0xFB05, {'S', 'T', 0}},        {0xFB06, {'S', 'T', 0}},        {0x1E96, {'H', 0x331, 0}},
        {0x1E97, {'T', 0x308, 0}},      {0x1E98, {'W', 0x30A, 0}},      {0x1E99, {'Y', 0x30A, 0}},
        {0x390, {0x399, 0x308, 0x301}}, {0x3B0, {0x3A5, 0x308, 0x301}},
    };
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
        if (special[i].cp != cp) continue;
        memcpy(out, special[i].to, sizeof special[i].to);
        return out[2] != 0 ? 3 : 2;
    }
    out[0] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
    return 1;
}

static bool is_cased(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT: return true;
    default: return false;
    }
}

/* A capital sigma at the end of a word is written differently (Final_Sigma). */
static bool is_final_sigma(const jstr *s, size_t at)
{
    const bool before = at > 0 && is_cased(jinja_cp(s->cp[at - 1]));
    const bool behind = at + 1 < s->len && is_cased(jinja_cp(s->cp[at + 1]));
    return before && !behind;
}

static void put_upper(jinja *cx, jbuf *buf, jchar c)
{
    uint32_t out[3] = {0};
    const size_t n = map_upper(jinja_cp(c), out);
    for (size_t i = 0; i < n; i++) {
        const jchar mapped = out[i] | (c & JINJA_MARK);
        (void)jinja_buf_put(cx, buf, &mapped, 1);
    }
}

static void put_lower(jinja *cx, jbuf *buf, const jstr *s, size_t at)
{
    const uint32_t cp = jinja_cp(s->cp[at]);
    const jchar mark = s->cp[at] & JINJA_MARK;
    jchar out[2] = {(uint32_t)utf8proc_tolower((utf8proc_int32_t)cp) | mark, 0x307 | mark};
    if (cp == 0x3A3) out[0] = (is_final_sigma(s, at) ? 0x3C2u : 0x3C3u) | mark;
    if (cp == 0x130) out[0] = 'i' | mark; /* and a dot above */
    (void)jinja_buf_put(cx, buf, out, cp == 0x130 ? 2 : 1);
}

static void put_title(jinja *cx, jbuf *buf, jchar c)
{
    const uint32_t cp = jinja_cp(c);
    if (cp == 0xDF) {
        const jchar out[2] = {'S' | (c & JINJA_MARK), 's' | (c & JINJA_MARK)};
        (void)jinja_buf_put(cx, buf, out, 2);
        return;
    }
    const jchar mapped = (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp) | (c & JINJA_MARK);
    (void)jinja_buf_put(cx, buf, &mapped, 1);
}

/* Case never unmarks a safe string. */
static jvalue finish(jinja *cx, const jstr *s, jbuf *buf)
{
    const jvalue out = jinja_buf_string(cx, buf);
    return s->safe ? jinja_safe(cx, out) : out;
}

jvalue jinja_upper(jinja *cx, const jstr *s)
{
    jbuf buf = {0};
    for (size_t i = 0; i < s->len && !jinja_failed(cx); i++) put_upper(cx, &buf, s->cp[i]);
    return finish(cx, s, &buf);
}

jvalue jinja_lower(jinja *cx, const jstr *s)
{
    jbuf buf = {0};
    for (size_t i = 0; i < s->len && !jinja_failed(cx); i++) put_lower(cx, &buf, s, i);
    return finish(cx, s, &buf);
}

jvalue jinja_capitalize(jinja *cx, const jstr *s)
{
    jbuf buf = {0};
    if (s->len > 0) put_title(cx, &buf, s->cp[0]);
    for (size_t i = 1; i < s->len && !jinja_failed(cx); i++) put_lower(cx, &buf, s, i);
    return finish(cx, s, &buf);
}

/* Python's title begins a word behind whatever is no letter, an apostrophe too; the filter's words
 * end at white space, - ( { [ and < alone. */
jvalue jinja_title(jinja *cx, const jstr *s, bool filter)
{
    jbuf buf = {0};
    bool begins = true;
    for (size_t i = 0; i < s->len && !jinja_failed(cx); i++) {
        const uint32_t cp = jinja_cp(s->cp[i]);
        if (begins)
            put_title(cx, &buf, s->cp[i]);
        else
            put_lower(cx, &buf, s, i);
        begins = filter ? jinja_is_space(cp) || (cp < 0x80 && strchr("-({[<", (int)cp) != NULL)
                        : !is_cased(cp);
    }
    return finish(cx, s, &buf);
}

jvalue jinja_swapcase(jinja *cx, const jstr *s)
{
    jbuf buf = {0};
    for (size_t i = 0; i < s->len && !jinja_failed(cx); i++) {
        const uint32_t cp = jinja_cp(s->cp[i]);
        if (utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LU)
            put_lower(cx, &buf, s, i);
        else
            put_upper(cx, &buf, s->cp[i]);
    }
    return finish(cx, s, &buf);
}

jvalue jinja_replace(jinja *cx, const jstr *s, const jstr *from, const jstr *to, int64_t count)
{
    jbuf buf = {0};
    size_t at = 0;
    for (int64_t n = 0; (count < 0 || n < count) && !jinja_failed(cx); n++) {
        size_t found = jinja_str_find(cx, s, from, at, s->len);
        if (found == SIZE_MAX) break;
        if (from->len == 0) {
            /* Between all characters. */
            (void)jinja_buf_put(cx, &buf, to->cp, to->len);
            if (at == s->len) {
                at++;
                break;
            }
            (void)jinja_buf_put(cx, &buf, s->cp + at++, 1);
            continue;
        }
        (void)jinja_buf_put(cx, &buf, s->cp + at, found - at);
        (void)jinja_buf_put(cx, &buf, to->cp, to->len);
        at = found + from->len;
    }
    if (at < s->len) (void)jinja_buf_put(cx, &buf, s->cp + at, s->len - at);
    return finish(cx, s, &buf);
}

jvalue jinja_escape(jinja *cx, jvalue v)
{
    if (v.type == J_STRING && v.u.s->safe) return v;
    const jvalue text = jinja_str(cx, v);
    if (jinja_failed(cx)) return JUNDEF;
    jbuf buf = {0};
    for (size_t i = 0; i < text.u.s->len && !jinja_failed(cx); i++) {
        const jchar c = text.u.s->cp[i];
        const char *entity = NULL;
        switch (jinja_cp(c)) {
        case '&': entity = "&amp;"; break;
        case '<': entity = "&lt;"; break;
        case '>': entity = "&gt;"; break;
        case '\'': entity = "&#39;"; break;
        case '"': entity = "&#34;"; break;
        default: break;
        }
        if (entity == NULL)
            (void)jinja_buf_put(cx, &buf, &c, 1);
        else
            (void)jinja_buf_ascii(cx, &buf, entity, c & JINJA_MARK);
    }
    return jinja_safe(cx, jinja_buf_string(cx, &buf));
}

jvalue jinja_concat(jinja *cx, const jvalue *items, size_t n)
{
    jbuf buf = {0};
    for (size_t i = 0; i < n && !jinja_failed(cx); i++) jinja_put_str(cx, &buf, items[i]);
    return jinja_buf_string(cx, &buf);
}

jvalue jinja_join(jinja *cx, jvalue list, const jstr *separator)
{
    jbuf buf = {0};
    for (size_t i = 0; i < list.u.l->len && !jinja_failed(cx); i++) {
        if (i > 0) (void)jinja_buf_put(cx, &buf, separator->cp, separator->len);
        jinja_put_str(cx, &buf, list.u.l->items[i]);
    }
    return jinja_buf_string(cx, &buf);
}

jvalue jinja_pad(jinja *cx, const jstr *s, int64_t width, uint32_t fill, int where)
{
    if (width > 0 && (uint64_t)width > cx->limits->string_max)
        return jinja_fail(cx, VLM_RESOURCE_EXHAUSTED,
                          "template: a string of more than %zu characters", cx->limits->string_max);
    const size_t total = width > 0 && (size_t)width > s->len ? (size_t)width - s->len : 0;
    /* str.center puts the odd one left when the width is odd. */
    const size_t left = where < 0 ? 0 : where > 0 ? total : total / 2 + (total & (size_t)width & 1);
    jbuf buf = {0};
    for (size_t i = 0; i < left; i++) (void)jinja_buf_put(cx, &buf, &fill, 1);
    (void)jinja_buf_put(cx, &buf, s->cp, s->len);
    for (size_t i = left; i < total; i++) (void)jinja_buf_put(cx, &buf, &fill, 1);
    return jinja_buf_string(cx, &buf);
}
