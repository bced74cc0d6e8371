/* jinja_value.h - the values of a template being rendered, and the state of a rendering.
 * Strings are arrays of code points whose highest bit marks a client's text: whatever copies code
 * points keeps the mark, comparisons and character classes ignore it.
 * Errors are sticky: the first one is kept in the state, the failing function returns undefined,
 * and every loop looks at jinja_failed(). Memory comes from the rendering's arena and is freed with
 * it. Not: for other rooms.  Threads: a rendering belongs to one. */
#ifndef VLM_TEXT_JINJA_VALUE_H
#define VLM_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/status.h"
#include "text/template.h"

typedef uint32_t jchar;
#define JINJA_MARK 0x80000000u

static inline uint32_t jinja_cp(jchar c)
{
    return c & ~JINJA_MARK;
}

typedef enum jtype {
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STRING,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_RANGE,
    J_VIEW,      /* keys(), values(), items() of a dict: a list that is not a list */
    J_ITER,      /* what map, select and the like return: a list that can only be iterated */
    J_NAMESPACE, /* a dict whose members can be set */
    J_FUNC,      /* global function, bound method, macro, loop */
} jtype;

typedef struct jstr {
    const jchar *cp;
    size_t len;
    bool safe; /* marked with the filter safe */
} jstr;

typedef struct jlist jlist;
typedef struct jdict jdict;
typedef struct jfunc jfunc;

typedef struct jrange {
    int64_t start, step;
    size_t len;
} jrange;

typedef struct jvalue {
    jtype type;
    union {
        bool b;
        int64_t i;
        double f;
        const jstr *s;
        jlist *l; /* LIST, TUPLE, VIEW, ITER */
        jdict *d; /* DICT, NAMESPACE */
        const jrange *r;
        const jfunc *fn;
        const char *name; /* UNDEFINED: what was not there, or NULL */
    } u;
} jvalue;

struct jlist {
    jvalue *items;
    size_t len, cap;
};

typedef struct jentry {
    jvalue key, value;
} jentry;

struct jdict {
    jentry *items;
    size_t len, cap;
};

/* Growing text, malloc'ed. */
typedef struct jbuf {
    jchar *cp;
    size_t len, cap;
} jbuf;

typedef struct jinja {
    const vlm_template_limits *limits;
    vlm_arena arena;
    uint64_t steps;
    uint32_t depth; /* of calls and of C recursion over values */
    vlm_status status;
    vlm_error *err;
} jinja;

#define JUNDEF ((jvalue){.type = J_UNDEFINED})
#define JNONE ((jvalue){.type = J_NONE})

static inline jvalue jinja_bool(bool b)
{
    return (jvalue){.type = J_BOOL, .u.b = b};
}
static inline jvalue jinja_int(int64_t i)
{
    return (jvalue){.type = J_INT, .u.i = i};
}
static inline jvalue jinja_float(double f)
{
    return (jvalue){.type = J_FLOAT, .u.f = f};
}
static inline bool jinja_failed(const jinja *cx)
{
    return cx->status != VLM_OK;
}

/* Keep the first error; returns undefined. */
jvalue jinja_fail(jinja *cx, vlm_status status, const char *fmt, ...) VLM_PRINTF(3, 4);
/* Count work; false (and the error) when the fuel is used up or something failed before. */
bool jinja_step(jinja *cx, uint64_t n);
/* Enter one more level of C recursion; false when too deep.  Leave with depth--. */
bool jinja_enter(jinja *cx);
void *jinja_alloc(jinja *cx, size_t n, size_t elem_size); /* zeroed; NULL is an error already */

/* Strings. */
jvalue jinja_string(jinja *cx, const jchar *cp, size_t len);
jvalue jinja_string_of(const jstr *s);
jvalue jinja_ascii(jinja *cx, const char *text);
jvalue jinja_utf8(jinja *cx, vlm_bytes text, bool mark); /* bad UTF-8 becomes U+FFFD */
jvalue jinja_sub(jinja *cx, const jstr *s, size_t begin, size_t end);
jvalue jinja_safe(jinja *cx, jvalue s); /* the same text, marked safe */
bool jinja_str_is(const jstr *s, const char *ascii);
bool jinja_str_eq(const jstr *a, const jstr *b);
int jinja_str_cmp(const jstr *a, const jstr *b);
/* Index of needle in s[from, end), SIZE_MAX if absent. */
size_t jinja_str_find(jinja *cx, const jstr *s, const jstr *needle, size_t from, size_t end);
size_t jinja_str_rfind(jinja *cx, const jstr *s, const jstr *needle, size_t from, size_t end);
bool jinja_is_space(uint32_t cp); /* Python's str.isspace */

bool jinja_buf_put(jinja *cx, jbuf *buf, const jchar *cp, size_t len);
bool jinja_buf_ascii(jinja *cx, jbuf *buf, const char *text, jchar mark);
jvalue jinja_buf_string(jinja *cx, jbuf *buf); /* copies and frees buf */
/* Python's str() and repr(). */
void jinja_put_str(jinja *cx, jbuf *buf, jvalue v);
void jinja_put_repr(jinja *cx, jbuf *buf, jvalue v);
jvalue jinja_str(jinja *cx, jvalue v); /* str(v) as a string; a string as it is */
void jinja_float_repr(double f, char out[40]);

/* Lists and dicts. */
jvalue jinja_list_new(jinja *cx, jtype type, size_t cap);
bool jinja_push(jinja *cx, jvalue list, jvalue item);
jvalue jinja_dict_new(jinja *cx, jtype type);
bool jinja_dict_set(jinja *cx, jdict *d, jvalue key, jvalue value);
const jvalue *jinja_dict_get(jinja *cx, const jdict *d, jvalue key);
const jvalue *jinja_dict_get_ascii(jinja *cx, const jdict *d, const char *key);
bool jinja_hashable(jvalue v);

/* What Python says. */
const char *jinja_type_name(jvalue v);
bool jinja_truth(jvalue v);
bool jinja_equal(jinja *cx, jvalue a, jvalue b);
/* -1, 0, 1; an error for types that have no order. */
int jinja_compare(jinja *cx, jvalue a, jvalue b);
bool jinja_is_number(jvalue v); /* also booleans */
double jinja_number(jvalue v);
bool jinja_as_int(jvalue v, int64_t *out); /* INT and BOOL */
/* All items of anything that can be iterated, as a list; an error for others. */
jvalue jinja_iterate(jinja *cx, jvalue v);
/* -1 when it has no length (the error is set). */
int64_t jinja_length(jinja *cx, jvalue v);

#endif
