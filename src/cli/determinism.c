#include "cli/determinism.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/bench_requests.h"
#include "cli/compute.h"
#include "cli/progress.h"

enum { FLIGHT = 16, SEED = 20, THREADS = 2 };

/* A way to compute the requests. */
typedef struct way {
    const char *name;
    uint32_t n_threads; /* 0: --threads or THREADS */
    uint32_t n_flight, chunk_max;
    bool
        alone; /* one after the other as they stand, no prefix cache: what others are compared to */
    bool again; /* on the engine of the way before */
    bool tiny;  /* caches that hold hardly anything */
} way;

static const way ways[] = {
    {.name = "alone", .n_threads = 1, .n_flight = 1, .alone = true},
    {.name = "together", .n_flight = FLIGHT},
    {.name = "warm", .n_flight = FLIGHT, .again = true},
    {.name = "tiny", .n_flight = FLIGHT, .tiny = true},
    {.name = "chunk 1", .n_flight = FLIGHT, .chunk_max = 1},
    {.name = "chunk 7", .n_flight = FLIGHT, .chunk_max = 7},
    {.name = "chunk 64", .n_flight = FLIGHT, .chunk_max = 64},
    {.name = "chunk 512", .n_flight = FLIGHT, .chunk_max = 512},
    {.name = "one thread", .n_threads = 1, .n_flight = FLIGHT},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static const struct {
    vlm_weight_dtype dtype;
    const char *name;
} dtypes[] = {
    {VLM_WEIGHT_DTYPE_F32, "f32"}, {VLM_WEIGHT_DTYPE_F16, "f16"}, {VLM_WEIGHT_DTYPE_BF16, "bf16"},
    {VLM_WEIGHT_DTYPE_Q8, "q8"},   {VLM_WEIGHT_DTYPE_Q4, "q4"},
};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

typedef struct check {
    vlm_folder *folder;
    vlm_engine_options options; /* but for what a way decides */
    uint32_t n_threads;
    const char *dtype;
    vlm_determinism_fn *told;
    void *user;

    vlm_engine *engine;
    vlm_bench_set set;
    size_t *order;                 /* [set.n] */
    vlm_record *reference, *other; /* [set.n] */
    size_t tiny_kv_bytes;          /* of the key/value cache that is too small */
    size_t n_done;                 /* requests of this run */
    vlm_progress progress;
} check;

static vlm_status new_records(size_t n, vlm_record **out, vlm_error *err)
{
    *out = vlm_calloc(n, sizeof **out);
    if (*out == NULL) return vlm_fail_memory(err, "answers");
    for (size_t i = 0; i < n; i++) vlm_record_init(&(*out)[i]);
    return VLM_OK;
}

static void free_records(vlm_record **records, size_t n)
{
    for (size_t i = 0; *records != NULL && i < n; i++) vlm_record_fini(&(*records)[i]);
    free(*records);
    *records = NULL;
}

/* A key/value cache hardly larger than the longest answer, by what the reference took. */
static size_t tiny_kv_bytes(const check *c)
{
    vlm_engine_info info;
    size_t longest = 0, bytes;
    c->engine->ops->info(c->engine, &info);
    for (size_t i = 0; i < c->set.n; i++) {
        const vlm_record_choice *choices = c->reference[i].choices;
        for (size_t k = 0; k < VLM_REQUEST_CHOICES_MAX; k++) {
            const size_t n = (size_t)choices[0].n_prompt + choices[k].n_completion;
            if (n > longest) longest = n;
        }
    }
    return vlm_size_mul(longest + 32, info.kv_bytes / info.n_kv_tokens, &bytes) ? bytes : 0;
}

static void close_engine(check *c)
{
    if (c->engine != NULL) c->engine->ops->close(c->engine);
    c->engine = NULL;
}

static vlm_status open_engine(check *c, const way *w, vlm_error *err)
{
    vlm_engine_options options = c->options;
    options.n_threads = w->n_threads > 0 ? w->n_threads : c->n_threads;
    options.chunk_max = w->chunk_max;
    options.no_prefix_cache = w->alone;
    if (w->tiny) {
        options.kv_bytes = c->tiny_kv_bytes;
        options.encoder_cache_bytes = 1;
    }
    close_engine(c);
    return vlm_engine_open(c->folder, &options, &c->engine, err);
}

/* Which requests there are, decided with the first engine, the same for all dtypes. */
static vlm_status make_set(check *c, size_t n, vlm_error *err)
{
    vlm_engine_info info;
    c->engine->ops->info(c->engine, &info);
    VLM_TRY(vlm_bench_set_make(&c->set, n, SEED, vlm_bench_form_of(c->engine), info.n_ctx,
                               info.n_image_tokens, err));
    c->order = vlm_calloc(n, sizeof *c->order);
    if (c->order == NULL) return vlm_fail_memory(err, "order of requests");
    return vlm_bench_set_fit(&c->set, c->engine, err);
}

static void shuffle(check *c, uint64_t seed)
{
    vlm_bench_dice dice = {.seed = seed};
    for (size_t i = 0; i < c->set.n; i++) c->order[i] = i;
    for (size_t i = c->set.n; i > 1; i--) {
        const size_t k = vlm_bench_roll(&dice, (uint32_t)i), swap = c->order[k];
        c->order[k] = c->order[i - 1];
        c->order[i - 1] = swap;
    }
}

static vlm_status on_said(void *user, const vlm_bench_said *said, vlm_error *err)
{
    check *c = user;
    const vlm_event *event = said->event;
    vlm_progress_update(&c->progress, c->n_done, c->set.n);
    if (event->type == VLM_EVENT_ERROR || (event->type == VLM_EVENT_DONE && event->last))
        c->n_done++;
    return vlm_record_add(&c->other[said->idx], event, err);
}

/* The reference has nothing to be compared to, but must have worked. */
static vlm_status check_reference(const check *c, vlm_error *err)
{
    for (size_t i = 0; i < c->set.n; i++)
        if (c->reference[i].failed)
            return vlm_fail(err, VLM_INTERNAL, "request %zu fails alone: %s", i,
                            c->reference[i].error.msg);
    return VLM_OK;
}

static void compare(const check *c, vlm_determinism_run *run)
{
    vlm_record_difference difference;
    for (size_t i = 0; i < c->set.n; i++) {
        if (!vlm_record_differ(&c->reference[i], &c->other[i], &difference)) continue;
        if (run->n_different++ > 0) continue;
        run->first = i;
        run->difference = difference;
        if (c->other[i].failed) run->error = c->other[i].error;
    }
}

static vlm_status answer_all(check *c, const way *w, vlm_determinism_run *run, vlm_error *err)
{
    vlm_engine_stats before, after;
    char what[64];
    (void)snprintf(what, sizeof what, "%s, %s", c->dtype, w->name);
    vlm_progress_start(&c->progress, what, VLM_PROGRESS_ITEMS, "requests");
    c->n_done = 0;
    c->engine->ops->stats(c->engine, &before);
    const uint64_t start = vlm_clock_ns();
    const vlm_status status = vlm_bench_answer(c->engine, c->set.items, w->alone ? NULL : c->order,
                                               c->set.n, w->n_flight, on_said, c, err);
    run->seconds = vlm_clock_seconds(start, vlm_clock_ns());
    vlm_progress_clear(&c->progress);
    c->engine->ops->stats(c->engine, &after);
    run->n_preemptions = after.n_preemptions - before.n_preemptions;
    run->n_prefix_hits = after.n_prefix_hits - before.n_prefix_hits;
    run->n_image_hits = after.n_image_hits - before.n_image_hits;
    return status;
}

static vlm_status run_way(check *c, const way *w, size_t n_requests, vlm_error *err)
{
    vlm_determinism_run run = {.dtype = c->dtype,
                               .name = w->name,
                               .n_threads = w->n_threads > 0 ? w->n_threads : c->n_threads,
                               .n_flight = w->n_flight,
                               .n_requests = n_requests};
    if (!w->again) VLM_TRY(open_engine(c, w, err));
    assert(c->engine != NULL);
    if (c->set.items == NULL) VLM_TRY(make_set(c, n_requests, err));
    shuffle(c, (uint64_t)(w - ways));
    VLM_TRY(new_records(n_requests, &c->other, err));
    VLM_TRY(answer_all(c, w, &run, err));
    if (w->alone) {
        free_records(&c->reference, n_requests);
        c->reference = c->other;
        c->other = NULL;
        VLM_TRY(check_reference(c, err));
        c->tiny_kv_bytes = tiny_kv_bytes(c);
    } else {
        compare(c, &run);
        free_records(&c->other, n_requests);
    }
    return c->told(c->user, &run, err);
}

vlm_status vlm_determinism_check(vlm_folder *folder, const vlm_options *opt,
                                 vlm_determinism_fn *told, void *user, vlm_error *err)
{
    check c = {.folder = folder,
               .options = vlm_cli_engine_options(opt),
               .n_threads = opt->threads > 0 ? opt->threads : THREADS,
               .told = told,
               .user = user};
    const vlm_weight_dtype only = c.options.dtype;
    vlm_status status = VLM_OK;
    for (size_t d = 0; d < DTYPES; d++) {
        if (only != VLM_WEIGHT_DTYPE_AUTO && only != dtypes[d].dtype) continue;
        c.options.dtype = dtypes[d].dtype;
        c.dtype = dtypes[d].name;
        for (size_t i = 0; status == VLM_OK && i < WAYS; i++) {
            status = run_way(&c, &ways[i], opt->requests, err);
            if (status != VLM_OK)
                status = vlm_fail_prefix(err, status, "%s, %s", c.dtype, ways[i].name);
        }
    }
    close_engine(&c);
    free_records(&c.reference, opt->requests);
    free_records(&c.other, opt->requests);
    free(c.order);
    vlm_bench_set_fini(&c.set);
    return status;
}
