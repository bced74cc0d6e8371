/* jinja_methods.h - the methods of strings, for the look-up in jinja_methods.c.
 * Not: for other rooms.  Threads: one. */
#ifndef VLM_TEXT_JINJA_METHODS_H
#define VLM_TEXT_JINJA_METHODS_H

#include <stddef.h>

#include "text/jinja_eval.h"

typedef jvalue jmethod_fn(jrun *r, jvalue self, const jcall *call);

typedef struct jmethod {
    jtype type; /* of self */
    const char *name;
    jmethod_fn *fn;
} jmethod;

extern const jmethod jinja_string_methods[];
extern const size_t jinja_n_string_methods;

#endif
