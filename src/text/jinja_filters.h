/* jinja_filters.h - the filters over sequences, for the table in jinja_filters.c.
 * Not: for other rooms.  Threads: one. */
#ifndef VLM_TEXT_JINJA_FILTERS_H
#define VLM_TEXT_JINJA_FILTERS_H

#include "base/utf8.h"
#include "text/jinja_eval.h"

typedef jvalue jinja_filter_fn(jrun *r, jvalue value, const jcall *call);

jinja_filter_fn jinja_f_batch, jinja_f_dictsort, jinja_f_first, jinja_f_groupby, jinja_f_items,
    jinja_f_join, jinja_f_last, jinja_f_list, jinja_f_map, jinja_f_max, jinja_f_min, jinja_f_reject,
    jinja_f_rejectattr, jinja_f_reverse, jinja_f_select, jinja_f_selectattr, jinja_f_slice,
    jinja_f_sort, jinja_f_sum, jinja_f_unique;

#endif
