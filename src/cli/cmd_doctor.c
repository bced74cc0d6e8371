/* cmd_doctor.c - `vlmd doctor`: what of this machine makes models slow or impossible, and what to
 * do about it. */
#include "base/json.h"
#include "cli/cmd.h"
#include "cli/doctor_checks.h"

enum { REPORT_LEN_MAX = 1 << 20 };

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

static vlm_status report_json(const vlm_findings *findings, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "{\"checks\":[", err));
    for (size_t i = 0; i < findings->n; i++) {
        const vlm_finding *f = &findings->items[i];
        VLM_TRY(vlm_buf_printf(out, err, "%s{\"name\":\"%s\",\"status\":\"%s\",\"text\":",
                               i == 0 ? "" : ",", f->name, level_names[f->level]));
        VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(f->text), err));
        VLM_TRY(vlm_buf_append_str(out, ",\"remedy\":", err));
        VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(f->remedy), err));
        VLM_TRY(vlm_buf_append_str(out, "}", err));
    }
    return vlm_buf_append_str(out, "]}\n", err);
}

/* A warning is no failure: the exit code says whether models can run at all. */
int vlm_cmd_doctor(const vlm_options *opt)
{
    vlm_findings findings;
    vlm_buf out;
    vlm_error err;
    vlm_doctor_check(&findings);
    vlm_buf_init(&out, REPORT_LEN_MAX);
    vlm_status status =
        opt->json ? report_json(&findings, &out, &err) : report_text(&findings, &out, &err);
    if (status == VLM_OK) status = vlm_cli_write(out.data, out.len, &err);
    vlm_buf_fini(&out);
    if (status != VLM_OK) return vlm_cli_fail(&err);
    for (size_t i = 0; i < findings.n; i++)
        if (findings.items[i].level == VLM_FINDING_FAILURE) return VLM_EXIT_FAILED;
    return VLM_EXIT_DONE;
}
