/* jinja_ast.h - the syntax tree of a template, and its parser.
 * Nodes live in the template's arena and never change after parsing.  Names are interned: equal
 * names are equal pointers.
 * Not: for other rooms.  Threads: immutable after parsing. */
#ifndef VLM_TEXT_JINJA_AST_H
#define VLM_TEXT_JINJA_AST_H

#include "text/jinja_lex.h"
#include "text/jinja_value.h"

typedef enum jexpr_type {
    JX_CONST,
    JX_NAME,
    JX_LIST,
    JX_TUPLE,
    JX_DICT,   /* items: key, value, key, value, ... */
    JX_ATTR,   /* a.name */
    JX_ITEM,   /* a[b] */
    JX_SLICE,  /* a[items[0]:items[1]:items[2]], NULL where left out */
    JX_CALL,   /* a(args) */
    JX_FILTER, /* a | fn(args) */
    JX_TEST,   /* a is fn(args) */
    JX_NOT,
    JX_NEG,
    JX_POS,
    JX_AND,
    JX_OR,
    JX_BINARY,  /* op */
    JX_CONCAT,  /* items joined by ~ */
    JX_COMPARE, /* items[0] ops[0] items[1] ops[1] items[2] ... */
    JX_COND,    /* items: value, condition, other or NULL */
} jexpr_type;

typedef enum jop {
    JOP_ADD,
    JOP_SUB,
    JOP_MUL,
    JOP_DIV,
    JOP_FLOORDIV,
    JOP_MOD,
    JOP_POW,
    JOP_EQ,
    JOP_NE,
    JOP_LT,
    JOP_LE,
    JOP_GT,
    JOP_GE,
    JOP_IN,
    JOP_NOT_IN,
} jop;

typedef struct jexpr jexpr;

/* What is inside the parentheses of a call: a, name=b, *c, **d. */
typedef struct jarg {
    const char *name; /* keyword, or NULL */
    int stars;        /* 0, 1, 2 */
    const jexpr *value;
} jarg;

struct jexpr {
    jexpr_type type;
    uint32_t line;
    const jexpr *a, *b;
    const jexpr **items;
    size_t n_items;
    const jarg *args;
    size_t n_args;
    const char *name; /* NAME, ATTR; FILTER and TEST for messages */
    int fn;           /* FILTER, TEST: index in the table, -1 for one that does not exist */
    jop op;
    const jop *ops;
    jvalue value; /* CONST */
};

typedef enum jstmt_type {
    JS_TEXT,
    JS_PRINT,
    JS_IF,
    JS_FOR,
    JS_SET,
    JS_SET_BLOCK,
    JS_MACRO,
    JS_CALL_BLOCK,
    JS_FILTER_BLOCK,
    JS_WITH,
    JS_SCOPE, /* generation */
    JS_BREAK,
    JS_CONTINUE,
} jstmt_type;

typedef struct jstmt jstmt;

typedef struct jbody {
    const jstmt *first;
} jbody;

/* A macro, or the body of a call block. */
typedef struct jmacro {
    const char *name;
    const char **params;
    const jexpr **defaults; /* [n_params], NULL where there is none */
    size_t n_params;
    bool uses_varargs, uses_kwargs, uses_caller;
    jbody body;
} jmacro;

struct jstmt {
    jstmt_type type;
    uint32_t line;
    const jstmt *next;
    jstr text;           /* TEXT */
    const jexpr *target; /* FOR, SET, SET_BLOCK: NAME, ATTR of a namespace, or TUPLE of names */
    const jexpr *expr;   /* PRINT, IF condition, FOR iterable, SET value, CALL_BLOCK call;
                            FILTER_BLOCK and SET_BLOCK: filters over a CONST placeholder, or NULL */
    const jexpr *filter; /* FOR: the condition behind if, or NULL */
    bool recursive;      /* FOR */
    jbody body, other;   /* other: else */
    const jmacro *macro; /* MACRO, CALL_BLOCK */
    const char **names;  /* WITH */
    const jexpr **values;
    size_t n_names;
};

typedef struct jtemplate {
    vlm_arena arena;
    jbody body;
    const char **names; /* interned */
    size_t n_names, cap_names;
} jtemplate;

/* INVALID_ARGUMENT "line N: ...", RESOURCE_EXHAUSTED.  out's arena must have been initialised. */
VLM_MUST_USE vlm_status vlm_jinja_parse(vlm_bytes source, const vlm_template_limits *limits,
                                        jtemplate *out, vlm_error *err);
/* The interned name, NULL when the template never says it. */
const char *vlm_jinja_name(const jtemplate *t, const char *name);

/* Index of a filter or test by name, -1 if there is none (jinja_filters.c, jinja_tests.c). */
int jinja_filter_find(const char *name);
int jinja_test_find(const char *name);

#endif
