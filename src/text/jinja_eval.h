/* jinja_eval.h - running a template: scopes, calls, and what the files of filters, tests and
 * methods offer to expressions.  Not: for other rooms.  Threads: one rendering, one thread. */
#ifndef VLM_TEXT_JINJA_EVAL_H
#define VLM_TEXT_JINJA_EVAL_H

#include "text/jinja_ast.h"
#include "text/jinja_value.h"

typedef struct jvar {
    const char *name; /* interned */
    jvalue value;
} jvar;

typedef struct jscope jscope;
struct jscope {
    jscope *parent;
    jvar *vars;
    size_t n, cap;
};

/* What a call was given. */
typedef struct jcall {
    jvalue *args;
    size_t n_args;
    const char **names; /* [n_named] */
    jvalue *named;
    size_t n_named;
} jcall;

typedef struct jrun {
    jinja cx; /* first: functions of values take it */
    const jtemplate *t;
    jscope *global;
    jbuf *out;
    uint32_t n_calls;
} jrun;

typedef enum jfunc_type { JF_GLOBAL, JF_METHOD, JF_MACRO, JF_LOOP } jfunc_type;

typedef struct jloop {
    jvalue items; /* list */
    size_t idx;
    uint32_t depth;
    const jstmt *stmt;
    jscope *scope;       /* that the loop stands in */
    jvalue last_changed; /* list of the arguments of changed(), undefined before */
} jloop;

struct jfunc {
    jfunc_type type;
    const char *name;
    int id;      /* GLOBAL, METHOD: index in the table */
    jvalue self; /* METHOD; of joiner and cycler: their state, a list */
    const jmacro *macro;
    jscope *scope; /* MACRO: where it was defined */
    jloop *loop;   /* LOOP */
};

/* Expressions and statements. */
jvalue jinja_eval(jrun *r, jscope *scope, const jexpr *e);
typedef enum jflow { JFLOW_NEXT, JFLOW_BREAK, JFLOW_CONTINUE } jflow;
jflow jinja_exec(jrun *r, jscope *scope, jbody body);
jscope *jinja_scope_new(jrun *r, jscope *parent);
void jinja_scope_set(jrun *r, jscope *scope, const char *name, jvalue value);
jvalue jinja_call_value(jrun *r, jvalue fn, const jcall *call);
jvalue jinja_call_macro(jrun *r, const jfunc *fn, const jcall *call);
jvalue jinja_loop_call(jrun *r, const jfunc *fn, const jcall *call);
/* Bind the names of a target to a value; an error when the numbers differ. */
void jinja_assign(jrun *r, jscope *scope, const jexpr *target, jvalue value);
/* The value of a block's text after the filters over its placeholder. */
jvalue jinja_apply_block_filters(jrun *r, jscope *scope, const jexpr *filters, jvalue text);

/* a.name and a[key]; undefined when there is none. */
jvalue jinja_attr(jrun *r, jvalue object, const char *name);
jvalue jinja_item(jrun *r, jvalue object, jvalue key);
jvalue jinja_slice(jinja *cx, jvalue object, jvalue start, jvalue stop, jvalue step);
jvalue jinja_binary(jinja *cx, jop op, jvalue a, jvalue b);
bool jinja_contains(jinja *cx, jvalue item, jvalue container);

/* Arguments of a call by position or name.  Undefined when absent and, with an error, when given
 * twice; call jinja_args_done to refuse what is left over. */
typedef struct jparams {
    const char *const *names; /* [n] in order of position */
    size_t n;
} jparams;
/* values [n]; given [n] says which were there.  An error for too many or unknown arguments. */
bool jinja_bind(jinja *cx, const char *fn, const jcall *call, const char *const *names, size_t n,
                jvalue *values, bool *given);

jvalue jinja_filter_call(jrun *r, int id, jvalue value, const jcall *call);
bool jinja_test_call(jrun *r, int id, jvalue value, const jcall *call);
/* A bound method of a string, dict, list or special object; undefined when it has none so named. */
jvalue jinja_method(jrun *r, jvalue self, const char *name);
jvalue jinja_method_call(jrun *r, const jfunc *fn, const jcall *call);
/* A global function by name; undefined when there is none. */
jvalue jinja_global(jrun *r, const char *name);
jvalue jinja_global_call(jrun *r, const jfunc *fn, const jcall *call);

/* Texts: Python's methods and Jinja's filters share them. */
jvalue jinja_strip(jinja *cx, const jstr *s, jvalue chars, bool left, bool right);
jvalue jinja_upper(jinja *cx, const jstr *s);
jvalue jinja_lower(jinja *cx, const jstr *s);
jvalue jinja_capitalize(jinja *cx, const jstr *s);
jvalue jinja_title(jinja *cx, const jstr *s,
                   bool filter); /* words of the filter keep apostrophes */
jvalue jinja_swapcase(jinja *cx, const jstr *s);
jvalue jinja_replace(jinja *cx, const jstr *s, const jstr *from, const jstr *to, int64_t count);
jvalue jinja_escape(jinja *cx, jvalue v); /* HTML; safe strings as they are */
jvalue jinja_concat(jinja *cx, const jvalue *items, size_t n);
jvalue jinja_join(jinja *cx, jvalue list, const jstr *separator);
jvalue jinja_pad(jinja *cx, const jstr *s, int64_t width, uint32_t fill, int where); /* -1 0 1 */

/* "format" % values, and "format".format(...). */
jvalue jinja_percent(jinja *cx, const jstr *format, jvalue values);
jvalue jinja_format(jrun *r, const jstr *format, const jcall *call);

/* json.dumps; from JSON. */
jvalue jinja_tojson(jrun *r, jvalue v, const jcall *call);
jvalue jinja_from_json(jinja *cx, const vlm_json *node, bool mark);
/* template.h: vlm_template_var.messages. */
void jinja_name_reasoning(jinja *cx, jvalue messages);

#endif
