#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_node.h"
#include "base/mem.h"
#include "base/utf8.h"

enum { DEPTH_CAP = 512 };

const vlm_json_limits vlm_json_limits_default = {
    .len_max = (size_t)64 << 20, .depth_max = 64, .nodes_max = 1000000};
const vlm_json_limits vlm_json_limits_large = {
    .len_max = (size_t)256 << 20, .depth_max = 64, .nodes_max = 20000000};

/* A container that is still open: its items, or keys and values in turn, lie in parser.nodes from
 * start on until it closes. */
typedef struct open_container {
    bool is_object;
    size_t start;
} open_container;

typedef struct parser {
    char *text; /* text[len] is NUL; strings are resolved where they lie, behind pos */
    size_t len, pos;
    const vlm_json_limits *limits;
    vlm_arena *arena;
    vlm_json *nodes;
    size_t n_nodes, nodes_cap;
    size_t n_values; /* values and keys seen so far */
    open_container open[DEPTH_CAP];
    size_t depth;
} parser;

static vlm_status bad(const parser *p, const char *what, vlm_error *err)
{
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, p->pos, "JSON: %s at byte %zu", what, p->pos);
}

static char peek(const parser *p)
{
    return p->text[p->pos];
}

static void skip_space(parser *p)
{
    for (;;) {
        const char c = peek(p);
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
        p->pos++;
    }
}

static vlm_status push(parser *p, vlm_json node, vlm_error *err)
{
    if (++p->n_values > p->limits->nodes_max)
        return vlm_fail_at(err, VLM_RESOURCE_EXHAUSTED, p->pos,
                           "JSON: more than %zu values and keys", p->limits->nodes_max);
    if (!vlm_grow((void **)&p->nodes, &p->nodes_cap, p->n_nodes + 1, SIZE_MAX, sizeof *p->nodes))
        return vlm_fail_memory(err, "JSON");
    p->nodes[p->n_nodes++] = node;
    return VLM_OK;
}

/* The code unit of four hexadecimal digits, -1 when they are not. */
static long hex4(const char *digits)
{
    long unit = 0;
    for (int i = 0; i < 4; i++) {
        const char c = digits[i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return -1; /* the NUL at the end too */
        unit = unit * 16 + digit;
    }
    return unit;
}

static bool is_low_surrogate(long unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* "\uXXXX", with the second half of a surrogate pair; pos is at the 'u'.  Advances *out. */
static vlm_status unicode_escape(parser *p, char **out, vlm_error *err)
{
    const long unit = hex4(p->text + p->pos + 1);
    if (unit < 0) return bad(p, "bad escape", err);
    p->pos += 5;
    uint32_t cp = (uint32_t)unit;
    if (unit >= 0xD800 && unit <= 0xDFFF) {
        const bool high = unit < 0xDC00 && peek(p) == '\\' && p->text[p->pos + 1] == 'u';
        const long low = high ? hex4(p->text + p->pos + 2) : -1;
        if (is_low_surrogate(low)) {
            p->pos += 6;
            cp = 0x10000u + (((uint32_t)unit - 0xD800u) << 10) + ((uint32_t)low - 0xDC00u);
        } else {
            cp = VLM_UTF8_REPLACEMENT;
        }
    }
    *out += vlm_utf8_encode(cp, *out);
    return VLM_OK;
}

static vlm_status escape(parser *p, char **out, vlm_error *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char c = peek(p);
    if (c == 'u') return unicode_escape(p, out, err);
    const char *found = c == '\0' ? NULL : strchr(from, c);
    if (found == NULL) return bad(p, "bad escape", err);
    *(*out)++ = to[found - from];
    p->pos++;
    return VLM_OK;
}

/* pos is at the opening quote, afterwards behind the closing one.  The text of a string, its
 * escapes resolved, is never longer than its source, so it is written over it, and a NUL over the
 * quote. */
static vlm_status parse_string(parser *p, vlm_json *node, vlm_error *err)
{
    const size_t start = ++p->pos;
    char *out = p->text + start;
    for (;;) {
        const unsigned char c = (unsigned char)peek(p);
        if (c == '"') break;
        if (c == '\\') {
            p->pos++;
            VLM_TRY(escape(p, &out, err));
        } else if (c >= 0x20) {
            *out++ = (char)c;
            p->pos++;
        } else {
            return bad(
                p, p->pos == p->len ? "unterminated string" : "control character in a string", err);
        }
    }
    p->pos++;
    *out = '\0';
    *node = (vlm_json){.type = VLM_JSON_STRING,
                       .len = (uint32_t)(out - (p->text + start)),
                       .as.string = p->text + start};
    return VLM_OK;
}

static size_t skip_digits(const char *text, size_t i)
{
    while (text[i] >= '0' && text[i] <= '9') i++;
    return i;
}

/* Length of the number at text as RFC 8259 section 6 spells it, 0 when there is none. */
static size_t number_len(const char *text, bool *is_int)
{
    *is_int = true;
    size_t i = text[0] == '-' ? 1 : 0;
    const size_t whole = i;
    i = skip_digits(text, i);
    if (i == whole || (text[whole] == '0' && i > whole + 1)) return 0;
    if (text[i] == '.') {
        *is_int = false;
        const size_t fraction = ++i;
        i = skip_digits(text, i);
        if (i == fraction) return 0;
    }
    if (text[i] == 'e' || text[i] == 'E') {
        *is_int = false;
        i++;
        if (text[i] == '+' || text[i] == '-') i++;
        const size_t exponent = i;
        i = skip_digits(text, i);
        if (i == exponent) return 0;
    }
    return i;
}

static bool int_value(const char *text, size_t len, int64_t *out)
{
    const bool negative = text[0] == '-';
    int64_t value = 0;
    for (size_t i = negative ? 1 : 0; i < len; i++) {
        const int digit = text[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    *out = value;
    return true;
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '-' || c == '.';
}

/* A number, true, false or null. */
static vlm_status parse_word(parser *p, vlm_json *node, vlm_error *err)
{
    const char *word = p->text + p->pos;
    size_t len = 0;
    while (is_word(word[len])) len++;
    if (len == 0) return bad(p, "unexpected character", err);
    bool is_int;
    if (len == 4 && memcmp(word, "null", 4) == 0) {
        *node = (vlm_json){.type = VLM_JSON_NULL};
    } else if (len == 4 && memcmp(word, "true", 4) == 0) {
        *node = (vlm_json){.type = VLM_JSON_BOOL, .as.boolean = true};
    } else if (len == 5 && memcmp(word, "false", 5) == 0) {
        *node = (vlm_json){.type = VLM_JSON_BOOL, .as.boolean = false};
    } else if (number_len(word, &is_int) == len) {
        *node = (vlm_json){.type = is_int ? VLM_JSON_INT : VLM_JSON_DOUBLE};
        node->int_fits = is_int && int_value(word, len, &node->as.integer);
        /* Ends where the word does: what follows is no part of any number. */
        if (!node->int_fits) node->as.real = strtod(word, NULL);
    } else {
        return bad(p, "neither a number nor true, false or null", err);
    }
    p->pos += len;
    return VLM_OK;
}

static int compare_members(const void *a, const void *b)
{
    const vlm_json *x = *(const vlm_json *const *)a, *y = *(const vlm_json *const *)b;
    return vlm_json_compare_keys(x->as.string, x->len, y->as.string, y->len);
}

static vlm_status fail_twice(const parser *p, const vlm_json *key, vlm_error *err)
{
    const uint64_t pos = (uint64_t)(key->as.string - p->text);
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, pos,
                       "JSON: an object holds the key \"%.64s\" twice, at byte %llu",
                       key->as.string, (unsigned long long)pos);
}

/* Sorting, unlike hashing, has no bad case that a file could aim at. */
static vlm_status sort_members(const parser *p, vlm_json_members *members, size_t n, vlm_error *err)
{
    if (n <= VLM_JSON_SMALL_OBJECT_MAX) {
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < i; k++) {
                const vlm_json *x = &members->pairs[2 * k], *y = &members->pairs[2 * i];
                if (vlm_json_compare_keys(x->as.string, x->len, y->as.string, y->len) == 0)
                    return fail_twice(p, y, err);
            }
        return VLM_OK;
    }
    members->sorted = vlm_arena_array(p->arena, n, sizeof(const vlm_json *));
    if (members->sorted == NULL) return vlm_fail_memory(err, "JSON");
    for (size_t i = 0; i < n; i++) members->sorted[i] = &members->pairs[2 * i];
    qsort(members->sorted, n, sizeof(const vlm_json *), compare_members);
    for (size_t i = 1; i < n; i++)
        if (compare_members(&members->sorted[i - 1], &members->sorted[i]) == 0)
            return fail_twice(p, members->sorted[i], err);
    return VLM_OK;
}

static vlm_status build_object(const parser *p, const vlm_json *nodes, size_t n_nodes,
                               vlm_json *object, vlm_error *err)
{
    vlm_json_members *members =
        vlm_arena_alloc(p->arena, sizeof *members + (n_nodes + 1) * sizeof *nodes);
    if (members == NULL) return vlm_fail_memory(err, "JSON");
    memcpy(members->pairs, nodes, n_nodes * sizeof *nodes);
    members->pairs[n_nodes].is_end = true;
    object->as.members = members;
    return sort_members(p, members, n_nodes / 2, err);
}

/* pos is at the closing bracket: the nodes since the opening one become one node. */
static vlm_status close_container(parser *p, vlm_error *err)
{
    const open_container top = p->open[--p->depth];
    const size_t n_nodes = p->n_nodes - top.start;
    const vlm_json *nodes = n_nodes > 0 ? p->nodes + top.start : NULL;
    vlm_json node = {.type = top.is_object ? VLM_JSON_OBJECT : VLM_JSON_ARRAY,
                     .len = (uint32_t)(top.is_object ? n_nodes / 2 : n_nodes)};
    if (n_nodes > 0 && top.is_object) {
        VLM_TRY(build_object(p, nodes, n_nodes, &node, err));
    } else if (n_nodes > 0) {
        vlm_json *items = vlm_arena_array(p->arena, n_nodes, sizeof *items);
        if (items == NULL) return vlm_fail_memory(err, "JSON");
        memcpy(items, nodes, n_nodes * sizeof *items);
        node.as.items = items;
    }
    p->n_nodes = top.start;
    p->pos++;
    return push(p, node, err);
}

static vlm_status open_one(parser *p, vlm_error *err)
{
    const size_t depth_max = p->limits->depth_max < DEPTH_CAP ? p->limits->depth_max : DEPTH_CAP;
    if (p->depth >= depth_max)
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, p->pos,
                           "JSON: nested deeper than %zu at byte %zu", depth_max, p->pos);
    p->open[p->depth++] = (open_container){.is_object = peek(p) == '{', .start = p->n_nodes};
    p->pos++;
    return VLM_OK;
}

static vlm_status parse_key(parser *p, vlm_error *err)
{
    skip_space(p);
    if (peek(p) != '"') return bad(p, "a key in quotes is missing", err);
    vlm_json key;
    VLM_TRY(parse_string(p, &key, err));
    /* Keys are looked up and handed out as C strings. */
    if (memchr(key.as.string, '\0', key.len) != NULL)
        return bad(p, "a key holds a NUL character", err);
    VLM_TRY(push(p, key, err));
    skip_space(p);
    if (peek(p) != ':') return bad(p, "a colon is missing", err);
    p->pos++;
    return VLM_OK;
}

/* Up to the first scalar or empty container, through all brackets that open before it. */
static vlm_status parse_begin(parser *p, vlm_error *err)
{
    for (;;) {
        skip_space(p);
        vlm_json node;
        if (peek(p) == '"') {
            VLM_TRY(parse_string(p, &node, err));
            return push(p, node, err);
        }
        if (peek(p) != '[' && peek(p) != '{') {
            VLM_TRY(parse_word(p, &node, err));
            return push(p, node, err);
        }
        VLM_TRY(open_one(p, err));
        const bool is_object = p->open[p->depth - 1].is_object;
        skip_space(p);
        if (peek(p) == (is_object ? '}' : ']')) return close_container(p, err);
        if (is_object) VLM_TRY(parse_key(p, err));
    }
}

static vlm_status parse_text(parser *p, vlm_error *err)
{
    VLM_TRY(parse_begin(p, err));
    while (p->depth > 0) {
        const bool is_object = p->open[p->depth - 1].is_object;
        skip_space(p);
        if (peek(p) == (is_object ? '}' : ']')) {
            VLM_TRY(close_container(p, err));
        } else if (peek(p) == ',') {
            p->pos++;
            if (is_object) VLM_TRY(parse_key(p, err));
            VLM_TRY(parse_begin(p, err));
        } else {
            return bad(p,
                       p->pos == p->len ? "end of text inside an object or array"
                                        : "a comma or closing bracket is missing",
                       err);
        }
    }
    skip_space(p);
    return p->pos == p->len ? VLM_OK : bad(p, "text after the value", err);
}

vlm_status vlm_json_parse(const char *text, size_t len, const vlm_json_limits *limits,
                          vlm_json_doc **doc, vlm_error *err)
{
    *doc = NULL;
    if (len > limits->len_max || len >= UINT32_MAX)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "JSON: longer than %zu bytes",
                        limits->len_max);
    const size_t bad_at = vlm_utf8_first_bad(text, len);
    if (bad_at < len)
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, bad_at, "JSON: not UTF-8 at byte %zu",
                           bad_at);

    vlm_json_doc *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL) return vlm_fail_memory(err, "JSON");
    vlm_arena_init(&fresh->arena, SIZE_MAX);
    fresh->text = malloc(len + 1);
    parser p = {.text = fresh->text, .len = len, .limits = limits, .arena = &fresh->arena};
    vlm_status status = VLM_OK;
    if (fresh->text == NULL) {
        status = vlm_fail_memory(err, "JSON");
    } else {
        if (len > 0) memcpy(fresh->text, text, len);
        fresh->text[len] = '\0';
        status = parse_text(&p, err);
    }
    if (status == VLM_OK) {
        fresh->root = p.nodes[0];
        *doc = fresh;
    } else {
        vlm_json_free(fresh);
    }
    free(p.nodes);
    return status;
}

void vlm_json_free(vlm_json_doc *doc)
{
    if (doc == NULL) return;
    vlm_arena_fini(&doc->arena);
    free(doc->text);
    free(doc);
}
