/* local.c - the engine of a model on this machine: one sequence at a time, first come first served.
 * A step is a few pieces of the model, so that a cancelled request stops soon. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/local.h"

enum { WAITING_DEFAULT = 256, STEP_US_DEFAULT = 50000 };
#define PIXELS_MAX_DEFAULT ((size_t)2 << 30)

static vlm_local *self(vlm_engine *e)
{
    return (vlm_local *)e;
}

static const vlm_local *self_const(const vlm_engine *e)
{
    return (const vlm_local *)e;
}

static void queue_add(vlm_local_queue *q, vlm_local_job *j)
{
    j->next = NULL;
    if (q->last == NULL)
        q->first = j;
    else
        q->last->next = j;
    q->last = j;
    q->n++;
}

/* The job with this id is taken out; NULL when there is none. */
static vlm_local_job *queue_remove(vlm_local_queue *q, uint64_t id)
{
    vlm_local_job *before = NULL;
    for (vlm_local_job *j = q->first; j != NULL; before = j, j = j->next) {
        if (j->id != id) continue;
        if (before == NULL)
            q->first = j->next;
        else
            before->next = j->next;
        if (q->last == j) q->last = before;
        q->n--;
        return j;
    }
    return NULL;
}

static vlm_local_job *queue_take(vlm_local_queue *q)
{
    return q->first == NULL ? NULL : queue_remove(q, q->first->id);
}

static void queue_free(vlm_local_queue *q, vlm_engine *e)
{
    for (vlm_local_job *j; (j = queue_take(q)) != NULL;) vlm_local_job_free(e, (vlm_job *)j);
}

/* Say that a request has ended that never began. */
static void tell_dropped(vlm_local *l, vlm_local_job *j)
{
    vlm_event *event = vlm_local_add_event(l, VLM_EVENT_DONE, j->id);
    event->finish = VLM_FINISH_CANCELLED;
    event->last = true;
    event->usage = vlm_local_prompt_usage(l, j);
    event->timings.queue_s = vlm_clock_seconds(j->submitted_ns, vlm_clock_ns());
    vlm_local_job_free(&l->base, (vlm_job *)j);
}

static bool local_step(vlm_engine *e)
{
    vlm_local *l = self(e);
    if (l->next_event < l->n_events) return true;
    l->next_event = l->n_events = 0;
    vlm_buf_clear(&l->text);

    vlm_local_job *j = queue_take(&l->dropped);
    if (j != NULL) {
        tell_dropped(l, j);
        return true;
    }
    if (l->run.job != NULL) {
        vlm_local_run_step(l);
        return true;
    }
    j = queue_take(&l->waiting);
    if (j == NULL) return false;
    vlm_local_run_start(l, j);
    return true;
}

static bool local_next_event(vlm_engine *e, vlm_event *out)
{
    vlm_local *l = self(e);
    if (l->next_event == l->n_events) return false;
    *out = l->events[l->next_event++];
    return true;
}

static void local_cancel(vlm_engine *e, uint64_t id)
{
    vlm_local *l = self(e);
    if (l->run.job != NULL && l->run.job->id == id) l->run.job->cancelled = true;
    vlm_local_job *j = queue_remove(&l->waiting, id);
    if (j != NULL) queue_add(&l->dropped, j);
}

static vlm_status local_submit(vlm_engine *e, vlm_job *job, uint64_t *id, vlm_error *err)
{
    vlm_local *l = self(e);
    vlm_local_job *j = (vlm_local_job *)job;
    if (l->waiting.n >= l->waiting_max)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%u requests are waiting already",
                        l->waiting.n);
    *id = j->id = ++l->last_request_id;
    j->submitted_ns = vlm_clock_ns();
    queue_add(&l->waiting, j);
    return VLM_OK;
}

static uint64_t local_wake_ns(const vlm_engine *e)
{
    (void)e;
    return UINT64_MAX;
}

static void local_stats(const vlm_engine *e, vlm_engine_stats *out)
{
    const vlm_local *l = self_const(e);
    *out = (vlm_engine_stats){.n_running = l->run.job != NULL, .n_waiting = l->waiting.n};
    if (l->run.job != NULL)
        out->kv_usage = (double)(l->run.n_filled + l->run.n_answered) / vlm_model_n_ctx(l->model);
}

static vlm_status local_tokenize(vlm_engine *e, vlm_bytes text, bool add_special, bool plain,
                                 uint32_t **ids, size_t *n, vlm_error *err)
{
    const vlm_encode_options how = {.add_special = add_special, .plain = plain};
    vlm_ids list = {0};
    const vlm_status status =
        vlm_tokenizer_encode(self(e)->prepare.tokenizer, text, &how, &list, err);
    if (status != VLM_OK) {
        vlm_ids_fini(&list);
        return status;
    }
    *ids = list.data;
    *n = list.len;
    return VLM_OK;
}

static vlm_status local_detokenize(vlm_engine *e, const uint32_t *ids, size_t n, bool keep_special,
                                   vlm_buf *out, vlm_error *err)
{
    return vlm_tokenizer_decode(self(e)->prepare.tokenizer, ids, n, !keep_special, out, err);
}

/* A chunk counts as far as its pieces have come. */
static void local_progress(const vlm_engine *e, vlm_engine_progress *out)
{
    const vlm_local *l = self_const(e);
    const vlm_local_run *r = &l->run;
    *out = (vlm_engine_progress){0};
    if (r->job == NULL) return;
    *out = (vlm_engine_progress){
        .n_images_done = r->n_encoded,
        .n_images = r->job->prompt.n_images,
        .n_prompt_done = r->n_filled,
        .n_prompt = (uint32_t)r->job->prompt.ids.len,
    };
    if (r->phase == VLM_LOCAL_PREFILL)
        out->n_prompt_done +=
            (uint32_t)((uint64_t)r->n_chunk * r->piece / vlm_model_n_forward_pieces(l->model));
}

static void local_info(const vlm_engine *e, vlm_engine_info *out)
{
    const vlm_local *l = self_const(e);
    const vlm_config *c = vlm_model_config(l->model);
    *out = (vlm_engine_info){
        .model_type = c->model_type,
        .device = l->backend->ops->name,
        .cpu_level = vlm_cpu_level_name(l->cpu_level),
        .tokenizer = vlm_tokenizer_kind(l->prepare.tokenizer),
        .chat_template = vlm_chat_source(l->prepare.chat),
        .n_ctx = vlm_model_n_ctx(l->model),
        .n_image_tokens = vlm_model_n_image_tokens(l->model),
        .n_vocab = c->text.vocab_size,
        .n_threads = l->n_threads,
        .weight_bytes = vlm_model_weight_bytes(l->model),
        .sampling_default = vlm_sampling_default,
    };
    vlm_sampling *s = &out->sampling_default;
    const vlm_generation_config *g = &c->generation;
    s->temperature = g->do_sample ? 1.0f : 0.0f;
    if (g->do_sample && g->has_temperature) s->temperature = g->temperature;
    if (g->do_sample && g->has_top_p) s->top_p = g->top_p;
    if (g->do_sample && g->has_top_k) s->top_k = g->top_k;
    if (g->do_sample && g->has_min_p) s->min_p = g->min_p;
    if (g->has_repetition_penalty) s->repetition_penalty = g->repetition_penalty;
}

static void local_close(vlm_engine *e)
{
    if (e == NULL) return;
    vlm_local *l = self(e);
    vlm_local_run_end(l);
    queue_free(&l->waiting, e);
    queue_free(&l->dropped, e);
    vlm_sampler_free(l->sampler);
    free(l->logits);
    free(l->raw_logits);
    free(l->prompt_logits);
    vlm_buf_fini(&l->text);
    vlm_buf_fini(&l->logprobs.bytes);
    vlm_prepare_close(&l->prepare);
    if (l->backend != NULL) {
        l->backend->ops->free(l->backend, l->x);
        l->backend->ops->free(l->backend, l->logits_device);
        l->backend->ops->free(l->backend, l->features);
        if (l->model != NULL) vlm_model_cache_free(l->model, &l->cache);
        vlm_model_close(l->model);
        l->backend->ops->close(l->backend);
    }
    free(l);
}

static const vlm_engine_ops local_ops = {
    .close = local_close,
    .pictures_new = vlm_local_pictures_new,
    .pictures_add = vlm_local_pictures_add,
    .pictures_free = vlm_local_pictures_free,
    .prepare = vlm_local_prepare,
    .job_free = vlm_local_job_free,
    .submit = local_submit,
    .cancel = local_cancel,
    .step = local_step,
    .wake_ns = local_wake_ns,
    /* No pause: what one sequence can leave unread is bounded by the context. */
    .pause = NULL,
    .progress = local_progress,
    .next_event = local_next_event,
    .info = local_info,
    .stats = local_stats,
    .tokenize = local_tokenize,
    .detokenize = local_detokenize,
};

static vlm_status device_floats(vlm_local *l, size_t n_rows, size_t n_cols, float **out,
                                vlm_error *err)
{
    size_t n, n_bytes;
    void *ptr = NULL;
    if (!vlm_size_mul(n_rows, n_cols, &n) || !vlm_size_mul(n, sizeof(float), &n_bytes))
        return vlm_fail_memory(err, "engine");
    VLM_TRY(l->backend->ops->alloc(l->backend, n_bytes, &ptr, err));
    *out = ptr;
    return VLM_OK;
}

static vlm_status open_parts(vlm_local *l, vlm_folder *folder, const vlm_engine_options *o,
                             vlm_error *err)
{
    const vlm_model_options model_options = {.dtype = o->dtype, .n_ctx = o->n_ctx};
    VLM_TRY(vlm_backend_cpu_open(l->n_threads, l->cpu_level, &l->backend, err));
    VLM_TRY(vlm_model_open(folder, l->backend, &model_options, &l->model, err));
    VLM_TRY(vlm_prepare_open(&l->prepare, folder, l->model, err));
    VLM_TRY(vlm_model_cache_new(l->model, &l->cache, err));

    const vlm_text_config *text = &vlm_model_config(l->model)->text;
    const size_t n_image_rows = (size_t)VLM_REQUEST_IMAGES_MAX * vlm_model_n_image_tokens(l->model);
    VLM_TRY(vlm_sampler_new(text->vocab_size, &l->sampler, err));
    VLM_TRY(device_floats(l, vlm_model_n_rows_max(l->model), text->hidden_size, &l->x, err));
    VLM_TRY(device_floats(l, n_image_rows, text->hidden_size, &l->features, err));
    VLM_TRY(device_floats(l, 1, text->vocab_size, &l->logits_device, err));
    l->logits = vlm_calloc(text->vocab_size, sizeof *l->logits);
    l->raw_logits = vlm_calloc(text->vocab_size, sizeof *l->raw_logits);
    l->prompt_logits = vlm_calloc(text->vocab_size, sizeof *l->prompt_logits);
    if (l->logits == NULL || l->raw_logits == NULL || l->prompt_logits == NULL)
        return vlm_fail_memory(err, "engine");
    return VLM_OK;
}

vlm_status vlm_engine_open(vlm_folder *folder, const vlm_engine_options *options, vlm_engine **out,
                           vlm_error *err)
{
    *out = NULL;
    const vlm_cpu_level best = vlm_cpu_level_best();
    if (options->cpu_level_given && options->cpu_level > best)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "cpu-level %s: this CPU has only %s",
                        vlm_cpu_level_name(options->cpu_level), vlm_cpu_level_name(best));
    vlm_local *l = calloc(1, sizeof *l);
    if (l == NULL) return vlm_fail_memory(err, "engine");
    l->base.ops = &local_ops;
    l->cpu_level = options->cpu_level_given ? options->cpu_level : best;
    l->n_threads = options->n_threads == 0 ? vlm_cpu_count() : options->n_threads;
    if (l->n_threads > 256) l->n_threads = 256;
    l->waiting_max = options->waiting_max == 0 ? WAITING_DEFAULT : options->waiting_max;
    l->step_ns = (uint64_t)(options->step_us == 0 ? STEP_US_DEFAULT : options->step_us) * 1000;
    l->pictures_budget.bytes_max =
        options->pixels_max == 0 ? PIXELS_MAX_DEFAULT : options->pixels_max;
    vlm_buf_init(&l->logprobs.bytes, VLM_LOCAL_TEXT_LEN_MAX);
    vlm_buf_init(&l->text, VLM_LOCAL_TEXT_LEN_MAX);
    const vlm_status status = open_parts(l, folder, options, err);
    if (status != VLM_OK) {
        local_close(&l->base);
        return status;
    }
    *out = &l->base;
    return VLM_OK;
}
