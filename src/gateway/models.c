#include "gateway/models.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

typedef struct model {
    char name[VLM_MODEL_NAME_BYTES_MAX + 1];
    vlm_metrics *metrics;
    bool is_gone; /* no worker serves it any more */
} model;

struct vlm_models {
    const vlm_models_host *host;
    vlm_metrics *metrics; /* the first model's, and the page */
    model models[VLM_MODELS_MAX];
    size_t n;
    bool said_full;
};

static vlm_status add(vlm_models *m, const char *name, vlm_error *err)
{
    const size_t len = strnlen(name, VLM_MODEL_NAME_BYTES_MAX);
    model *new = &m->models[m->n];
    if (m->n == VLM_MODELS_MAX)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "more than %d models", VLM_MODELS_MAX);
    if (m->n == 0) {
        vlm_metrics_set_model(m->metrics, name);
        new->metrics = m->metrics;
    } else {
        VLM_TRY(vlm_metrics_new_model(m->metrics, name, &new->metrics, err));
    }
    memcpy(new->name, name, len);
    new->name[len] = '\0';
    m->n++;
    return VLM_OK;
}

vlm_status vlm_models_new(const vlm_models_host *host, vlm_models **out, vlm_error *err)
{
    vlm_models *m = calloc(1, sizeof *m);
    *out = m;
    if (m == NULL) return vlm_fail_memory(err, "models");
    m->host = host;
    vlm_status status = vlm_metrics_new(&m->metrics, err);
    for (size_t i = 0; status == VLM_OK && host != NULL && i < host->n; i++)
        status = add(m, host->names[i], err);
    if (status == VLM_OK) return VLM_OK;
    vlm_models_free(m);
    *out = NULL;
    return status;
}

void vlm_models_free(vlm_models *m)
{
    if (m == NULL) return;
    vlm_metrics_free(m->metrics);
    free(m);
}

static bool find_name(const vlm_models *m, vlm_bytes name, size_t *out)
{
    for (size_t i = 0; i < m->n; i++) {
        if (!vlm_bytes_eq_str(name, m->models[i].name)) continue;
        *out = i;
        return true;
    }
    return false;
}

void vlm_models_set_gone(vlm_models *m, size_t i, bool is_gone)
{
    if (m->host == NULL) m->models[i].is_gone = is_gone;
}

void vlm_models_note(vlm_models *m, const char *name)
{
    size_t i;
    vlm_error error;
    if (m->host != NULL || name[0] == '\0' || find_name(m, vlm_bytes_of(name), &i)) return;
    if (add(m, name, &error) == VLM_OK) return;
    if (!m->said_full) vlm_log(VLM_LOG_WARN, "model %s: %s", name, error.msg);
    m->said_full = true; /* it is noted again and again */
}

size_t vlm_models_n(const vlm_models *m)
{
    return m->n;
}

const char *vlm_models_name(const vlm_models *m, size_t i)
{
    return m->models[i].name;
}

vlm_metrics *vlm_models_metrics(vlm_models *m, size_t i)
{
    return i < m->n ? m->models[i].metrics : m->metrics;
}

static bool find_only(const vlm_models *m, size_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (m->models[i].is_gone) continue;
        *out = i;
        n++;
    }
    return n == 1;
}

bool vlm_models_find(const vlm_models *m, vlm_bytes name, size_t *out)
{
    const vlm_models_host *h = m->host;
    if (name.len == 0) return find_only(m, out);
    if (find_name(m, name, out)) return !m->models[*out].is_gone;
    for (size_t i = 0; h != NULL && i < h->n_aliases; i++) {
        if (!vlm_bytes_eq_str(name, h->aliases[i].name)) continue;
        *out = h->aliases[i].model;
        return true;
    }
    return false;
}

vlm_model_state vlm_models_state(const vlm_models *m, size_t i)
{
    return m->host == NULL ? VLM_MODEL_LOADED : m->host->state(m->host->user, i);
}

bool vlm_models_takes(const vlm_models *m, size_t i)
{
    return m->host == NULL || m->host->takes(m->host->user, i);
}

void vlm_models_want(vlm_models *m, size_t i)
{
    if (m->host != NULL) m->host->want(m->host->user, i);
}

bool vlm_models_has_usable(const vlm_models *m)
{
    for (size_t i = 0; i < m->n; i++) {
        const vlm_model_state state = vlm_models_state(m, i);
        if (state == VLM_MODEL_LOADED || state == VLM_MODEL_UNLOADED) return true;
    }
    return false;
}

const vlm_models_host *vlm_models_host_of(const vlm_models *m)
{
    return m->host;
}

vlm_status vlm_models_append(const vlm_models *m, size_t i, vlm_bytes name, vlm_buf *out,
                             vlm_error *err)
{
    static const char *const states[] = {
#define STATE_TEXT(name, text) text,
        VLM_MODEL_STATE_LIST(STATE_TEXT)
#undef STATE_TEXT
    };
    VLM_TRY(vlm_buf_append_str(out, "{\"id\":", err));
    VLM_TRY(vlm_json_append_string(out, name, err));
    VLM_TRY(
        vlm_buf_append_str(out, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"vlmd\"", err));
    if (!vlm_bytes_eq_str(name, m->models[i].name)) {
        VLM_TRY(vlm_buf_append_str(out, ",\"root\":", err));
        VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(m->models[i].name), err));
    }
    if (m->host != NULL)
        VLM_TRY(vlm_buf_printf(out, err, ",\"status\":\"%s\"", states[vlm_models_state(m, i)]));
    return vlm_buf_append_char(out, '}', err);
}

vlm_status vlm_models_append_list(const vlm_models *m, vlm_buf *out, vlm_error *err)
{
    const vlm_models_host *h = m->host;
    VLM_TRY(vlm_buf_append_str(out, "{\"object\":\"list\",\"data\":[", err));
    bool is_first = true;
    for (size_t i = 0; i < m->n; i++) {
        if (m->models[i].is_gone) continue;
        if (!is_first) VLM_TRY(vlm_buf_append_char(out, ',', err));
        is_first = false;
        VLM_TRY(vlm_models_append(m, i, vlm_bytes_of(m->models[i].name), out, err));
    }
    for (size_t i = 0; h != NULL && i < h->n_aliases; i++) {
        VLM_TRY(vlm_buf_append_char(out, ',', err));
        VLM_TRY(
            vlm_models_append(m, h->aliases[i].model, vlm_bytes_of(h->aliases[i].name), out, err));
    }
    return vlm_buf_append_str(out, "]}", err);
}
