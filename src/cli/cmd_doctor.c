/* cmd_doctor.c - `vlmd doctor`: what of this machine makes models slow or impossible, and what to
 * do about it. */
#include "base/cpu.h"
#include "base/json.h"
#include "cli/cmd.h"
#include "cli/doctor_checks.h"
#include "cli/doctor_models.h"

enum { REPORT_LEN_MAX = 1 << 20 };

typedef struct report {
    vlm_findings findings;
    vlm_speed speed;
    size_t available; /* bytes of memory */
    vlm_doctor_models models;
} report;

static const char *const level_names[] = {
    [VLM_FINDING_OK] = "ok", [VLM_FINDING_WARNING] = "warning", [VLM_FINDING_FAILURE] = "failure"};

static vlm_status report_text(const vlm_findings *findings, vlm_buf *out, vlm_error *err)
{
    for (size_t i = 0; i < findings->n; i++) {
        const vlm_finding *f = &findings->items[i];
        VLM_TRY(
            vlm_buf_printf(out, err, "%-14s %-8s %s\n", f->name, level_names[f->level], f->text));
        if (f->remedy[0] != '\0')
            VLM_TRY(vlm_buf_printf(out, err, "%-14s %-8s %s\n", "", "", f->remedy));
    }
    return VLM_OK;
}

static vlm_status append_model(const vlm_doctor_model *m, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "{\"name\":", err));
    VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(m->name), err));
    return vlm_buf_printf(
        out, err,
        ",\"dtype\":\"%s\",\"context\":%u,\"weight_bytes\":%.0f,\"kv_bytes\":%.0f,"
        "\"memory_bytes\":%.0f,\"fits\":%s,\"prompt_tok_s\":%.2f,"
        "\"answer_tok_s\":%.2f}",
        m->dtype, m->n_ctx, m->weight_bytes, m->kv_bytes, m->memory_bytes,
        m->fits ? "true" : "false", m->prompt_tok_s, m->answer_tok_s);
}

static vlm_status report_json(const report *r, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "{\"checks\":[", err));
    for (size_t i = 0; i < r->findings.n; i++) {
        const vlm_finding *f = &r->findings.items[i];
        VLM_TRY(vlm_buf_printf(out, err, "%s{\"name\":\"%s\",\"status\":\"%s\",\"text\":",
                               i == 0 ? "" : ",", f->name, level_names[f->level]));
        VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(f->text), err));
        VLM_TRY(vlm_buf_append_str(out, ",\"remedy\":", err));
        VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(f->remedy), err));
        VLM_TRY(vlm_buf_append_str(out, "}", err));
    }
    VLM_TRY(vlm_buf_printf(out, err,
                           "],\"cpu\":{\"level\":\"%s\",\"threads\":%u},\"memory\":{"
                           "\"available_bytes\":%zu,\"read_bytes_s\":%.0f},\"models\":[",
                           vlm_cpu_level_name(vlm_cpu_level_best()), r->speed.n_threads,
                           r->available, r->speed.read_bytes_s));
    for (size_t i = 0; i < r->models.n; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_char(out, ',', err));
        VLM_TRY(append_model(&r->models.items[i], out, err));
    }
    return vlm_buf_append_str(out, "]}\n", err);
}

/* A warning is no failure: the exit code says whether models can run at all. */
int vlm_cmd_doctor(const vlm_options *opt)
{
    static report r;
    vlm_buf out;
    vlm_error err;
    vlm_doctor_check(&r.findings, &r.available, &r.speed);
    vlm_status status = VLM_OK;
    if (opt->n_args > 0)
        status = vlm_doctor_this_model(opt, r.available, &r.speed, &r.models, &r.findings, &err);
    else
        vlm_doctor_usual_models(r.available, &r.speed, &r.models, &r.findings);
    vlm_buf_init(&out, REPORT_LEN_MAX);
    if (status == VLM_OK)
        status = opt->json ? report_json(&r, &out, &err) : report_text(&r.findings, &out, &err);
    if (status == VLM_OK) status = vlm_cli_write(out.data, out.len, &err);
    vlm_buf_fini(&out);
    if (status != VLM_OK) return vlm_cli_fail(&err);
    for (size_t i = 0; i < r.findings.n; i++)
        if (r.findings.items[i].level == VLM_FINDING_FAILURE) return VLM_EXIT_FAILED;
    return VLM_EXIT_DONE;
}
