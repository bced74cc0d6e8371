#include "text/template.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_eval.h"

const vlm_template_limits vlm_template_limits_default = {
    .source_max = (size_t)1 << 20,
    .nesting_max = 200,
    .steps_max = 10000000,
    .string_max = (size_t)16 << 20,
    .output_max = (size_t)16 << 20,
    .memory_max = (size_t)256 << 20,
    .call_depth_max = 200,
    .range_max = 100000,
};

struct vlm_template {
    jtemplate tree;
    vlm_template_limits limits;
};

vlm_status vlm_template_new(vlm_bytes source, const vlm_template_limits *limits, vlm_template **out,
                            vlm_error *err)
{
    *out = NULL;
    vlm_template *t = calloc(1, sizeof *t);
    if (t == NULL) return vlm_fail_memory(err, "template");
    t->limits = *limits;
    vlm_arena_init(&t->tree.arena, limits->memory_max);
    const vlm_status status = vlm_jinja_parse(source, limits, &t->tree, err);
    if (status != VLM_OK) {
        vlm_template_free(t);
        return status;
    }
    *out = t;
    return VLM_OK;
}

void vlm_template_free(vlm_template *t)
{
    if (t == NULL) return;
    free(t->tree.names);
    vlm_arena_fini(&t->tree.arena);
    free(t);
}

/* Code points to UTF-8, with the byte ranges of marked ones. */
static vlm_status write_out(const jbuf *text, vlm_buf *out, vlm_spans *spans, vlm_error *err)
{
    size_t n_bytes = 0;
    for (size_t i = 0; i < text->len; i++) {
        char bytes[4];
        n_bytes += vlm_utf8_encode(jinja_cp(text->cp[i]), bytes);
    }
    VLM_TRY(vlm_buf_reserve(out, n_bytes, err));
    size_t at = out->len;
    for (size_t i = 0; i < text->len; i++) {
        char bytes[4];
        const size_t n = vlm_utf8_encode(jinja_cp(text->cp[i]), bytes);
        memcpy(out->data + at, bytes, n);
        if (spans != NULL && (text->cp[i] & JINJA_MARK) != 0)
            VLM_TRY(vlm_spans_append(spans, at, at + n, err));
        at += n;
    }
    out->len = at;
    if (out->data != NULL) out->data[at] = '\0';
    return VLM_OK;
}

static void set_vars(jrun *r, const vlm_template_var *vars, size_t n_vars)
{
    for (size_t i = 0; i < n_vars && !jinja_failed(&r->cx); i++) {
        const char *name = vlm_jinja_name(r->t, vars[i].name);
        if (name == NULL) continue; /* the template never says it */
        jvalue value = jinja_from_json(&r->cx, vars[i].value, vars[i].user);
        if (vars[i].messages) jinja_name_reasoning(&r->cx, value);
        jinja_scope_set(r, r->global, name, value);
    }
}

vlm_status vlm_template_render(const vlm_template *t, const vlm_template_var *vars, size_t n_vars,
                               vlm_buf *out, vlm_spans *user_spans, vlm_error *err)
{
    vlm_error local = {0};
    jbuf text = {0};
    jrun r = {
        .cx = {.limits = &t->limits, .err = err == NULL ? &local : err},
        .t = &t->tree,
        .out = &text,
    };
    vlm_arena_init(&r.cx.arena, t->limits.memory_max);
    r.global = jinja_scope_new(&r, NULL);
    set_vars(&r, vars, n_vars);
    if (!jinja_failed(&r.cx)) (void)jinja_exec(&r, r.global, t->tree.body);
    vlm_status status = r.cx.status;
    const size_t n_spans = user_spans == NULL ? 0 : user_spans->len;
    if (status == VLM_OK) {
        status = write_out(&text, out, user_spans, err);
        if (status != VLM_OK && user_spans != NULL) user_spans->len = n_spans;
    }
    free(text.cp);
    vlm_arena_fini(&r.cx.arena);
    return status;
}
