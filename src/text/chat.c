#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/template.h"

enum { VARS_MAX = 256, JSON_LEN_MAX = 1 << 20 };

/* LLaVA-1.5's prompt, for folders without a template: images in front of a turn's text. */
static const char builtin_source[] =
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{% endif %}{{ ' ' }}"
    "{% else %}{{ m['role'].upper() + ': ' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}"
    "{% if c['type'] in ['image', 'image_url'] %}{{ '<image>\\n' }}{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}{{ ' ' if m['role'] == 'user' else (eos_token or '</s>') }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

struct vlm_chat {
    vlm_template *template_default;
    vlm_template *template_tools; /* for requests with tools, or NULL */
    const char *source;
    vlm_json_doc *specials; /* {"bos_token": "...", ...}, or NULL */
};

void vlm_chat_free(vlm_chat *c)
{
    if (c == NULL) return;
    vlm_template_free(c->template_default);
    vlm_template_free(c->template_tools);
    vlm_json_free(c->specials);
    free(c);
}

const char *vlm_chat_source(const vlm_chat *c)
{
    return c->source;
}

static vlm_status parse(vlm_bytes source, const char *file, vlm_template **out, vlm_error *err)
{
    const vlm_status status = vlm_template_new(source, &vlm_template_limits_default, out, err);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "%s: chat template", file);
}

/* [{name, template}, ...]: "default", and "tool_use" for requests with tools. */
static vlm_status parse_list(vlm_chat *c, const vlm_json *list, const char *file, vlm_error *err)
{
    for (size_t i = 0; i < vlm_json_array_len(list); i++) {
        const vlm_json *item = vlm_json_at(list, i);
        vlm_bytes name = {0}, source = {0};
        vlm_status status = vlm_json_opt_string(item, "name", &name, err);
        if (status == VLM_OK) status = vlm_json_opt_string(item, "template", &source, err);
        if (status != VLM_OK) return vlm_fail_prefix(err, status, "%s: chat_template", file);
        vlm_template **slot = vlm_bytes_eq_str(name, "default")    ? &c->template_default
                              : vlm_bytes_eq_str(name, "tool_use") ? &c->template_tools
                                                                   : NULL;
        if (slot == NULL || source.ptr == NULL) continue;
        vlm_template_free(*slot);
        *slot = NULL;
        VLM_TRY(parse(source, file, slot, err));
    }
    if (c->template_default == NULL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: chat_template lists no \"default\"", file);
    return VLM_OK;
}

/* The member chat_template of a JSON file; *found is false when it has none. */
static vlm_status from_json_file(vlm_chat *c, vlm_bytes text, const char *file, bool *found,
                                 vlm_error *err)
{
    vlm_json_doc *doc;
    *found = false;
    if (text.ptr == NULL) return VLM_OK;
    vlm_status status = vlm_json_parse(text.ptr, text.len, &vlm_json_limits_default, &doc, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "%s", file);
    const vlm_json *node = vlm_json_get(vlm_json_root(doc), "chat_template");
    if (node != NULL) {
        *found = true;
        c->source = file;
        if (vlm_json_typeof(node) == VLM_JSON_STRING)
            status = parse(vlm_json_string(node), file, &c->template_default, err);
        else if (vlm_json_typeof(node) == VLM_JSON_ARRAY)
            status = parse_list(c, node, file, err);
        else
            status = vlm_fail(err, VLM_INVALID_ARGUMENT,
                              "%s: chat_template must be a string or a list, not %s", file,
                              vlm_json_type_name(node));
    }
    vlm_json_free(doc);
    return status;
}

static vlm_status find_template(vlm_chat *c, const vlm_chat_files *files, vlm_error *err)
{
    bool found;
    if (files->chat_template_jinja.ptr != NULL) {
        c->source = "chat_template.jinja";
        return parse(files->chat_template_jinja, c->source, &c->template_default, err);
    }
    VLM_TRY(from_json_file(c, files->chat_template_json, "chat_template.json", &found, err));
    if (found) return VLM_OK;
    VLM_TRY(from_json_file(c, files->tokenizer_config, "tokenizer_config.json", &found, err));
    if (found) return VLM_OK;
    c->source = "built-in LLaVA-1.5";
    return parse(vlm_bytes_of(builtin_source), c->source, &c->template_default, err);
}

/* The tokenizer's named tokens as a JSON object. */
static vlm_status copy_specials(vlm_chat *c, const vlm_tokenizer *tok, vlm_error *err)
{
    if (tok == NULL) return VLM_OK;
    vlm_buf json;
    vlm_buf_init(&json, JSON_LEN_MAX);
    vlm_status status = vlm_buf_append_char(&json, '{', err);
    for (size_t i = 0; i < vlm_tokenizer_n_specials(tok) && status == VLM_OK; i++) {
        vlm_bytes name, text;
        vlm_tokenizer_special_at(tok, i, &name, &text);
        if (i > 0) status = vlm_buf_append_char(&json, ',', err);
        if (status == VLM_OK) status = vlm_json_append_string(&json, name, err);
        if (status == VLM_OK) status = vlm_buf_append_char(&json, ':', err);
        if (status == VLM_OK) status = vlm_json_append_string(&json, text, err);
    }
    if (status == VLM_OK) status = vlm_buf_append_char(&json, '}', err);
    if (status == VLM_OK)
        status = vlm_json_parse(json.data, json.len, &vlm_json_limits_default, &c->specials, err);
    vlm_buf_fini(&json);
    return status;
}

vlm_status vlm_chat_new(const vlm_chat_files *files, const vlm_tokenizer *tok, vlm_chat **out,
                        vlm_error *err)
{
    *out = NULL;
    vlm_chat *c = calloc(1, sizeof *c);
    if (c == NULL) return vlm_fail_memory(err, "chat template");
    vlm_status status = find_template(c, files, err);
    if (status == VLM_OK) status = copy_specials(c, tok, err);
    if (status != VLM_OK) {
        vlm_chat_free(c);
        return status;
    }
    *out = c;
    return VLM_OK;
}

vlm_status vlm_chat_new_from_source(vlm_bytes source, vlm_chat **out, vlm_error *err)
{
    const vlm_chat_files files = {.chat_template_jinja = source};
    return vlm_chat_new(&files, NULL, out, err);
}

vlm_status vlm_chat_render(const vlm_chat *c, const vlm_json *request, vlm_buf *out,
                           vlm_spans *user_spans, vlm_error *err)
{
    static const char always[] =
        "{\"tools\":null,\"documents\":null,\"add_generation_prompt\":false}";
    if (vlm_json_typeof(request) != VLM_JSON_OBJECT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the request must be an object, not %s",
                        vlm_json_type_name(request));
    vlm_template_var vars[VARS_MAX];
    size_t n = 0;
    vlm_json_doc *defaults = NULL;
    VLM_TRY(vlm_json_parse(always, sizeof always - 1, &vlm_json_limits_default, &defaults, err));
    vlm_status status = VLM_OK;
    const vlm_json *const ours[] = {vlm_json_root(defaults),
                                    c->specials == NULL ? NULL : vlm_json_root(c->specials)};
    for (size_t k = 0; k < 2; k++)
        for (vlm_json_iter it = vlm_json_iter_begin(ours[k]);
             n < VARS_MAX && vlm_json_iter_next(&it);)
            vars[n++] = (vlm_template_var){.name = it.key, .value = it.value};
    for (vlm_json_iter it = vlm_json_iter_begin(request);
         status == VLM_OK && vlm_json_iter_next(&it);) {
        if (n == VARS_MAX) {
            status = vlm_fail(err, VLM_INVALID_ARGUMENT, "more than %d variables", VARS_MAX);
            break;
        }
        vars[n++] = (vlm_template_var){.name = it.key,
                                       .value = it.value,
                                       .user = true,
                                       .messages = strcmp(it.key, "messages") == 0};
    }
    const bool tools = vlm_json_get(request, "tools") != NULL;
    const vlm_template *t =
        tools && c->template_tools != NULL ? c->template_tools : c->template_default;
    if (status == VLM_OK) status = vlm_template_render(t, vars, n, out, user_spans, err);
    vlm_json_free(defaults);
    return status;
}
