/* cmd_bench.c - `vlmd bench`: how fast a model is on this machine, and with --check-determinism
 * whether its answers depend on anything but their requests. */
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/bench_runs.h"
#include "cli/cmd.h"
#include "cli/compute.h"
#include "cli/determinism.h"
#include "cli/model_arg.h"

enum { REPORT_LEN_MAX = 1 << 24 };

static const char *model_of(const vlm_options *opt)
{
    return opt->n_args > 0 ? opt->args[0] : "demo";
}

static const char *dtype_of(const vlm_options *opt)
{
    static const char *const names[] = {
#define DTYPE_NAME(id, text, supported) [id] = text,
        VLM_OPT_DTYPE_LIST(DTYPE_NAME)};
    return names[opt->dtype];
}

static vlm_status write_buf(vlm_buf *out, vlm_error *err)
{
    const vlm_status status = vlm_cli_write(out->data, out->len, err);
    vlm_buf_clear(out);
    return status;
}

/* "{"model":"demo" */
static vlm_status open_json(const vlm_options *opt, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "{\"model\":", err));
    return vlm_json_append_string(out, vlm_bytes_of(model_of(opt)), err);
}

static vlm_status results_json(const vlm_options *opt, const vlm_engine_info *info,
                               const vlm_bench_results *results, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(open_json(opt, out, err));
    VLM_TRY(vlm_buf_printf(out, err,
                           ",\"dtype\":\"%s\",\"threads\":%u,\"cpu_level\":\"%s\",\"results\":[",
                           dtype_of(opt), info->n_threads, info->cpu_level));
    for (size_t i = 0; i < results->n; i++) {
        const vlm_bench_result *r = &results->items[i];
        VLM_TRY(vlm_buf_printf(
            out, err, "%s{\"test\":\"%s\",\"n\":%u,\"batch\":%u,\"value\":%.9g,\"unit\":\"%s\"}",
            i > 0 ? "," : "", vlm_bench_test_name(r->test), r->n, r->batch, r->value,
            vlm_bench_test_unit(r->test)));
    }
    return vlm_buf_append_str(out, "]}\n", err);
}

/* As many digits as one reads. */
static vlm_status append_value(const vlm_bench_result *r, vlm_buf *out, vlm_error *err)
{
    if (r->test == VLM_BENCH_MEMORY)
        return vlm_buf_printf(out, err, " %11.1f  MB\n", r->value * 1e-6);
    const char *unit = vlm_bench_test_unit(r->test);
    if (strcmp(unit, "s") == 0 && r->value < 1.0)
        return vlm_buf_printf(out, err, " %11.2f  ms\n", r->value * 1e3);
    return vlm_buf_printf(out, err, r->value < 100.0 ? " %11.2f  %s\n" : " %11.0f  %s\n", r->value,
                          unit);
}

static vlm_status append_count(uint32_t n, vlm_buf *out, vlm_error *err)
{
    return n > 0 ? vlm_buf_printf(out, err, " %6u", n) : vlm_buf_printf(out, err, " %6s", "-");
}

static vlm_status results_text(const vlm_options *opt, const vlm_engine_info *info,
                               const vlm_bench_results *results, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_printf(out, err, "%s: weights %s, %u threads, %s\n", model_of(opt),
                           opt->dtype == VLM_OPT_DTYPE_AUTO ? "as stored" : dtype_of(opt),
                           info->n_threads, info->cpu_level));
    VLM_TRY(vlm_buf_printf(out, err, "%-10s %6s %6s %11s  %s\n", "test", "n", "batch", "value",
                           "unit"));
    for (size_t i = 0; i < results->n; i++) {
        const vlm_bench_result *r = &results->items[i];
        VLM_TRY(vlm_buf_printf(out, err, "%-10s", vlm_bench_test_name(r->test)));
        VLM_TRY(append_count(r->n, out, err));
        VLM_TRY(append_count(r->batch, out, err));
        VLM_TRY(append_value(r, out, err));
    }
    return VLM_OK;
}

static vlm_status print_results(const vlm_options *opt, const vlm_engine *engine,
                                const vlm_bench_results *results, vlm_error *err)
{
    vlm_buf out;
    vlm_engine_info info;
    engine->ops->info(engine, &info);
    vlm_buf_init(&out, REPORT_LEN_MAX);
    vlm_status status = opt->json ? results_json(opt, &info, results, &out, err)
                                  : results_text(opt, &info, results, &out, err);
    if (status == VLM_OK) status = write_buf(&out, err);
    vlm_buf_fini(&out);
    return status;
}

static int measure(const vlm_options *opt, const vlm_bench_plan *plan)
{
    vlm_error err;
    vlm_folder *folder = NULL;
    vlm_engine *engine = NULL;
    vlm_bench_results results;
    const uint64_t start = vlm_clock_ns();
    vlm_status status = vlm_cli_open_engine(opt, &folder, &engine, &err);
    const double load_s = vlm_clock_seconds(start, vlm_clock_ns());
    if (status == VLM_OK) status = vlm_bench_measure(engine, plan, load_s, &results, &err);
    if (status == VLM_OK) status = print_results(opt, engine, &results, &err);
    if (engine != NULL) engine->ops->close(engine);
    vlm_folder_close(folder);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}

/* The check's report as it grows. */
typedef struct report {
    const vlm_options *opt;
    vlm_buf out;
    size_t n_runs;
    vlm_determinism_run total; /* of all runs; the difference is the first one's */
} report;

static vlm_status run_text(report *r, const vlm_determinism_run *run, vlm_error *err)
{
    static const char *const line = "%-5s %-11s %7s %6s %8s %9s %8s %11s %11s %10s\n";
    if (r->n_runs == 1)
        VLM_TRY(vlm_buf_printf(&r->out, err, line, "dtype", "run", "threads", "flight", "requests",
                               "different", "seconds", "preemptions", "prefix hits", "image hits"));
    return vlm_buf_printf(
        &r->out, err, "%-5s %-11s %7u %6zu %8zu %9zu %8.2f %11llu %11llu %10llu\n", run->dtype,
        run->name, run->n_threads, run->n_flight, run->n_requests, run->n_different, run->seconds,
        (unsigned long long)run->n_preemptions, (unsigned long long)run->n_prefix_hits,
        (unsigned long long)run->n_image_hits);
}

static vlm_status counts_json(const vlm_determinism_run *run, vlm_buf *out, vlm_error *err)
{
    return vlm_buf_printf(
        out, err,
        "\"requests\":%zu,\"differences\":%zu,\"seconds\":%.6g,\"preemptions\":%llu,"
        "\"prefix_hits\":%llu,\"image_hits\":%llu",
        run->n_requests, run->n_different, run->seconds, (unsigned long long)run->n_preemptions,
        (unsigned long long)run->n_prefix_hits, (unsigned long long)run->n_image_hits);
}

static vlm_status run_json(report *r, const vlm_determinism_run *run, vlm_error *err)
{
    if (r->n_runs == 1) {
        VLM_TRY(open_json(r->opt, &r->out, err));
        VLM_TRY(vlm_buf_append_str(&r->out, ",\"runs\":[", err));
    }
    VLM_TRY(vlm_buf_printf(
        &r->out, err, "%s{\"dtype\":\"%s\",\"run\":\"%s\",\"threads\":%u,\"flight\":%zu,",
        r->n_runs > 1 ? "," : "", run->dtype, run->name, run->n_threads, run->n_flight));
    VLM_TRY(counts_json(run, &r->out, err));
    return vlm_buf_append_str(&r->out, "}", err);
}

static vlm_status on_run(void *user, const vlm_determinism_run *run, vlm_error *err)
{
    report *r = user;
    vlm_determinism_run *total = &r->total;
    if (total->n_different == 0 && run->n_different > 0) {
        total->dtype = run->dtype;
        total->name = run->name;
        total->first = run->first;
        total->difference = run->difference;
        total->error = run->error;
    }
    total->n_requests += run->n_requests;
    total->n_different += run->n_different;
    total->seconds += run->seconds;
    total->n_preemptions += run->n_preemptions;
    total->n_prefix_hits += run->n_prefix_hits;
    total->n_image_hits += run->n_image_hits;
    r->n_runs++;
    if (r->opt->json) return run_json(r, run, err);
    VLM_TRY(run_text(r, run, err));
    return write_buf(&r->out, err);
}

static vlm_status end_report(report *r, vlm_error *err)
{
    const vlm_determinism_run *t = &r->total;
    if (!r->opt->json) {
        VLM_TRY(vlm_buf_printf(&r->out, err,
                               "%zu answers, %zu different; %llu preemptions, %llu prompt tokens "
                               "and %llu pictures found in caches\n",
                               t->n_requests, t->n_different, (unsigned long long)t->n_preemptions,
                               (unsigned long long)t->n_prefix_hits,
                               (unsigned long long)t->n_image_hits));
        return write_buf(&r->out, err);
    }
    VLM_TRY(vlm_buf_append_str(&r->out, "],\"total\":{", err));
    VLM_TRY(counts_json(t, &r->out, err));
    VLM_TRY(vlm_buf_append_str(&r->out, "},\"first\":", err));
    if (t->n_different == 0)
        VLM_TRY(vlm_buf_append_str(&r->out, "null", err));
    else
        VLM_TRY(vlm_buf_printf(&r->out, err,
                               "{\"dtype\":\"%s\",\"run\":\"%s\",\"request\":%zu,\"choice\":%u,"
                               "\"token\":%zu,\"what\":\"%s\"}",
                               t->dtype, t->name, t->first, t->difference.choice,
                               t->difference.token, t->difference.what));
    VLM_TRY(vlm_buf_append_str(&r->out, "}\n", err));
    return write_buf(&r->out, err);
}

static vlm_status fail_different(const vlm_determinism_run *t, vlm_error *err)
{
    const bool failed = t->error.code != VLM_OK;
    return vlm_fail(err, VLM_INTERNAL,
                    "%zu answers differ from those computed alone; first: %s, %s, request %zu, "
                    "choice %u, token %zu: %s%s%s",
                    t->n_different, t->dtype, t->name, t->first, t->difference.choice,
                    t->difference.token, t->difference.what, failed ? ": " : "",
                    failed ? t->error.msg : "");
}

static int check(const vlm_options *opt)
{
    vlm_error err;
    vlm_folder *folder = NULL;
    report r = {.opt = opt};
    vlm_buf_init(&r.out, REPORT_LEN_MAX);
    vlm_status status = vlm_model_arg_open(opt->n_args > 0 ? opt->args[0] : NULL, &folder, &err);
    if (status == VLM_OK) status = vlm_determinism_check(folder, opt, on_run, &r, &err);
    if (status == VLM_OK) status = end_report(&r, &err);
    if (status == VLM_OK && r.total.n_different > 0) status = fail_different(&r.total, &err);
    vlm_buf_fini(&r.out);
    vlm_folder_close(folder);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}

int vlm_cmd_bench(const vlm_options *opt)
{
    vlm_error err;
    vlm_bench_plan plan;
    if (vlm_bench_plan_make(opt, &plan, &err) != VLM_OK) {
        (void)vlm_cli_fail(&err);
        return VLM_EXIT_USAGE;
    }
    if (vlm_cli_is_mock(vlm_cli_model_arg(opt))) {
        (void)vlm_fail(&err, VLM_INVALID_ARGUMENT, "mock computes nothing that could be measured");
        return vlm_cli_fail(&err);
    }
    return opt->check_determinism ? check(opt) : measure(opt, &plan);
}
