#include "cli/fleet_plan.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

static bool find(const vlm_fleet_plan *p, const char *name, size_t len, size_t *out)
{
    for (size_t i = 0; i < p->n; i++) {
        if (strlen(p->models[i].name) != len || memcmp(p->models[i].name, name, len) != 0) continue;
        *out = i;
        return true;
    }
    return false;
}

static vlm_status add_model(const vlm_options *opt, const char *arg, vlm_fleet_plan *p,
                            vlm_error *err)
{
    vlm_fleet_model *m = &p->models[p->n];
    size_t other;
    m->arg = arg;
    VLM_TRY(vlm_model_arg_name(arg, opt->model_name, m->name, err));
    if (find(p, m->name, strlen(m->name), &other))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "two models are called %s", m->name);
    p->n++;
    return VLM_OK;
}

/* NAME=MODEL, where MODEL is an argument as it was given, or the name that came of it. */
static vlm_status add_alias(const char *text, vlm_fleet_plan *p, vlm_error *err)
{
    const char *equals = strchr(text, '=');
    const size_t len = equals == NULL ? 0 : (size_t)(equals - text);
    vlm_model_alias *a = &p->aliases[p->n_aliases];
    char *name = p->alias_names[p->n_aliases];
    size_t other;
    if (len == 0 || len > VLM_MODEL_NAME_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "--alias must be NAME=MODEL with a name of 1 to %d bytes, not '%s'",
                        VLM_MODEL_NAME_LEN_MAX, text);
    memcpy(name, text, len);
    name[len] = '\0';
    bool is_taken = find(p, name, len, &other);
    for (size_t i = 0; i < p->n_aliases; i++) is_taken |= strcmp(p->alias_names[i], name) == 0;
    if (is_taken) return vlm_fail(err, VLM_INVALID_ARGUMENT, "--alias: %s is taken already", name);
    bool is_found = find(p, equals + 1, strlen(equals + 1), &a->model);
    for (size_t i = 0; i < p->n && !is_found; i++) {
        const char *arg = p->models[i].arg;
        is_found = arg != NULL && strcmp(arg, equals + 1) == 0;
        if (is_found) a->model = i;
    }
    if (!is_found)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "--alias %s: %s is none of the models", text,
                        equals + 1);
    a->name = name;
    p->n_aliases++;
    return VLM_OK;
}

vlm_status vlm_fleet_plan_names(const vlm_options *opt, vlm_fleet_plan *p, vlm_error *err)
{
    *p = (vlm_fleet_plan){0};
    if (opt->n_args > 1 && opt->model_name != NULL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "--model-name is for one model; --alias NAME=MODEL names several");
    if (opt->n_args == 0) VLM_TRY(add_model(opt, NULL, p, err));
    for (size_t i = 0; i < opt->n_args; i++) VLM_TRY(add_model(opt, opt->args[i], p, err));
    for (size_t i = 0; i < opt->alias.n; i++) VLM_TRY(add_alias(opt->alias.values[i], p, err));
    return VLM_OK;
}

/* More would hold prompts of long ago alone. */
#define PART_MAX 4.0

vlm_status vlm_fleet_plan_shares(vlm_fleet_plan *p, vlm_error *err)
{
    size_t sum = 0;
    for (size_t i = 0; i < p->n; i++) {
        const vlm_fleet_model *m = &p->models[i];
        if (m->need_bytes > p->budget_bytes)
            return vlm_fail(err, VLM_FAILED_PRECONDITION,
                            "%s needs %zu MiB of memory with a whole context, and there are %zu "
                            "MiB; see --memory, --ctx and --dtype",
                            m->name, m->need_bytes >> 20, p->budget_bytes >> 20);
        if (!vlm_size_add(sum, m->need_bytes, &sum)) sum = SIZE_MAX;
    }
    for (size_t i = 0; i < p->n; i++) {
        vlm_fleet_model *m = &p->models[i];
        double part = sum <= p->budget_bytes ? (double)p->budget_bytes / (double)sum : 1.25;
        if (part > PART_MAX) part = PART_MAX;
        const double share = (double)m->need_bytes * part;
        m->share_bytes = share < (double)p->budget_bytes ? (size_t)share : p->budget_bytes;
        if (m->share_bytes < m->need_bytes) m->share_bytes = m->need_bytes;
    }
    return VLM_OK;
}
