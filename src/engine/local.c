/* local.c - the engine of a model on this machine: one sequence at a time, first come first served.
 * A step is one image, one chunk of a prompt or one token, so that a cancelled request stops within
 * one step. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/prepare.h"
#include "engine/stop.h"
#include "model/model.h"

enum { WAITING_DEFAULT = 256, EVENTS_MAX = 3, TEXT_LEN_MAX = 1 << 20 };

typedef struct job {
    struct job *next;
    uint64_t id;
    bool cancelled;
    vlm_prompt prompt;
    vlm_sampling sampling;
    vlm_logit_bias *logit_bias; /* copy that sampling points to */
    uint32_t n_choices, max_tokens;
    char *stop_text; /* copies of the stop strings, end to end */
    vlm_bytes stop_strings[VLM_STOP_STRINGS_MAX];
    size_t n_stop;
    bool ignore_eos;
    uint64_t submitted_ns;
} job;

typedef enum phase { PHASE_ENCODE, PHASE_PREFILL, PHASE_DECODE } phase;

/* The request being computed. */
typedef struct run {
    job *job;
    phase phase;
    uint32_t n_encoded; /* images */
    uint32_t n_filled;  /* prompt tokens in the cache */
    size_t feature_row; /* next row of features to splice in */
    uint32_t choice;
    uint32_t n_answered; /* tokens of this choice */
    uint32_t last_id;
    vlm_detok *detok;
    vlm_stop stop;
    vlm_timings timings;
    uint64_t started_ns;
} run;

typedef struct local {
    vlm_engine base;
    vlm_backend *backend;
    vlm_model *model;
    vlm_prepare prepare;
    vlm_llama_cache cache;
    vlm_sampler *sampler;
    float *x;             /* [n_rows_max, hidden] on the device */
    float *logits_device; /* [n_vocab] */
    float *logits;        /* [n_vocab] */
    float *prompt_logits; /* [n_vocab], after the prompt: where every choice starts */
    float *features;      /* [VLM_REQUEST_IMAGES_MAX * n_image_tokens, hidden], lazily backed */
    uint32_t n_threads, waiting_max, n_waiting;
    vlm_cpu_level cpu_level;
    uint64_t last_request_id;
    job *first, *last; /* waiting */
    run run;
    vlm_event events[EVENTS_MAX];
    uint32_t n_events, next_event;
    vlm_buf text; /* the text of the event in events */
} local;

static local *self(vlm_engine *e)
{
    return (local *)e;
}

static void job_free(job *j)
{
    if (j == NULL) return;
    vlm_prompt_fini(&j->prompt);
    free(j->logit_bias);
    free(j->stop_text);
    free(j);
}

static vlm_event *add_event(local *l, vlm_event_type type)
{
    assert(l->n_events < EVENTS_MAX);
    vlm_event *event = &l->events[l->n_events++];
    *event = (vlm_event){.type = type, .request_id = l->run.job->id, .choice = l->run.choice};
    return event;
}

static void end_run(local *l)
{
    vlm_detok_free(l->run.detok);
    vlm_stop_fini(&l->run.stop);
    job_free(l->run.job);
    l->run = (run){0};
}

static void fail_run(local *l, const vlm_error *error)
{
    add_event(l, VLM_EVENT_ERROR)->error = *error;
    end_run(l);
}

static vlm_usage usage_of(const local *l)
{
    const run *r = &l->run;
    return (vlm_usage){
        .n_prompt = (uint32_t)r->job->prompt.ids.len,
        .n_completion = r->n_answered,
        .n_image = r->job->prompt.n_images * vlm_model_n_image_tokens(l->model),
    };
}

static void add_done(local *l, vlm_finish finish, bool last)
{
    vlm_event *event = add_event(l, VLM_EVENT_DONE);
    event->finish = finish;
    event->last = last;
    event->usage = usage_of(l);
    event->timings = l->run.timings;
}

/* Begin the current choice at the logits that followed the prompt. */
static vlm_status start_choice(local *l, vlm_error *err)
{
    run *r = &l->run;
    const job *j = r->job;
    vlm_sampling sampling = j->sampling;
    sampling.choice = r->choice;
    vlm_sampler_start(l->sampler, &sampling, j->prompt.ids.data, j->prompt.ids.len);
    vlm_detok_reset(r->detok);
    vlm_stop_fini(&r->stop);
    r->n_answered = 0;
    return vlm_stop_init(&r->stop, j->stop_strings, j->n_stop, err);
}

static vlm_status start_run(local *l, vlm_error *err)
{
    run *r = &l->run;
    const uint64_t now = vlm_clock_ns();
    *r = (run){.job = l->first, .phase = PHASE_ENCODE, .started_ns = now};
    l->first = l->first->next;
    if (l->first == NULL) l->last = NULL;
    l->n_waiting--;
    r->timings.queue_s = vlm_clock_seconds(r->job->submitted_ns, now);
    add_event(l, VLM_EVENT_STARTED)->usage = usage_of(l);
    VLM_TRY(vlm_stop_init(&r->stop, NULL, 0, err));
    return vlm_detok_new(l->prepare.tokenizer, &r->detok, err);
}

static void encode_step(local *l)
{
    run *r = &l->run;
    const uint64_t start = vlm_clock_ns();
    const size_t n_pixels = vlm_model_n_pixels(l->model);
    const size_t row_len = vlm_model_config(l->model)->text.hidden_size;
    const size_t n_rows = vlm_model_n_image_tokens(l->model);
    vlm_model_encode(l->model, r->job->prompt.pixels + r->n_encoded * n_pixels,
                     l->features + r->n_encoded * n_rows * row_len, NULL);
    l->backend->ops->sync(l->backend);
    r->n_encoded++;
    r->timings.image_s += vlm_clock_seconds(start, vlm_clock_ns());
}

static vlm_status prefill_step(local *l, vlm_error *err)
{
    run *r = &l->run;
    const uint64_t start = vlm_clock_ns();
    const vlm_ids *ids = &r->job->prompt.ids;
    const uint32_t n_left = (uint32_t)ids->len - r->n_filled;
    const uint32_t n_max = vlm_model_n_rows_max(l->model);
    const uint32_t n = n_left < n_max ? n_left : n_max;
    const vlm_text_config *text = &vlm_model_config(l->model)->text;

    vlm_model_embed(l->model, l->x, ids->data + r->n_filled, n, l->features, &r->feature_row);
    vlm_model_forward(l->model, &l->cache, l->x, n, r->n_filled);
    r->n_filled += n;
    vlm_status status = VLM_OK;
    if (r->n_filled == ids->len) {
        vlm_model_logits(l->model, l->logits_device, l->x + (size_t)(n - 1) * text->hidden_size, 1);
        l->backend->ops->download(l->backend, l->prompt_logits, l->logits_device,
                                  text->vocab_size * sizeof *l->prompt_logits);
        r->phase = PHASE_DECODE;
        status = start_choice(l, err);
    }
    l->backend->ops->sync(l->backend);
    r->timings.prefill_s += vlm_clock_seconds(start, vlm_clock_ns());
    return status;
}

static bool is_end(const local *l, uint32_t id)
{
    const vlm_config *c = vlm_model_config(l->model);
    if (l->run.job->ignore_eos) return false;
    for (uint32_t i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] == id) return true;
    return false;
}

/* The choice is over: hand out the text held back, then go on to the next choice or end. */
static vlm_status finish_choice(local *l, vlm_finish finish, vlm_error *err)
{
    run *r = &l->run;
    VLM_TRY(vlm_stop_flush(&r->stop, &l->text, err));
    if (l->text.len > 0) {
        add_event(l, VLM_EVENT_TEXT)->text = vlm_buf_bytes(&l->text);
    }
    const bool last = r->choice + 1 == r->job->n_choices;
    add_done(l, finish, last);
    if (last) {
        end_run(l);
        return VLM_OK;
    }
    r->choice++;
    r->timings.decode_s = 0.0;
    return start_choice(l, err);
}

/* The logits from which the next token is drawn, in l->logits. */
static void next_logits(local *l)
{
    run *r = &l->run;
    const vlm_text_config *text = &vlm_model_config(l->model)->text;
    const size_t n_bytes = text->vocab_size * sizeof *l->logits;
    if (r->n_answered == 0) {
        memcpy(l->logits, l->prompt_logits, n_bytes);
        return;
    }
    const uint32_t n_past = (uint32_t)r->job->prompt.ids.len + r->n_answered - 1;
    /* An image token that the model itself says has no picture: it is embedded like a word. */
    vlm_model_embed_text(l->model, l->x, &r->last_id, 1);
    vlm_model_forward(l->model, &l->cache, l->x, 1, n_past);
    vlm_model_logits(l->model, l->logits_device, l->x, 1);
    l->backend->ops->download(l->backend, l->logits, l->logits_device, n_bytes);
}

static vlm_status decode_step(local *l, vlm_error *err)
{
    run *r = &l->run;
    const uint64_t start = vlm_clock_ns();
    const uint64_t position = r->job->prompt.ids.len + r->n_answered;
    next_logits(l);
    const uint32_t id = vlm_sampler_next(l->sampler, l->logits, position);
    r->last_id = id;
    r->n_answered++;
    r->timings.decode_s += vlm_clock_seconds(start, vlm_clock_ns());
    if (is_end(l, id)) {
        vlm_buf rest;
        vlm_buf_init(&rest, TEXT_LEN_MAX);
        vlm_status status = vlm_detok_flush(r->detok, &rest, err);
        if (status == VLM_OK) status = vlm_stop_push(&r->stop, vlm_buf_bytes(&rest), &l->text, err);
        vlm_buf_fini(&rest);
        return status == VLM_OK ? finish_choice(l, VLM_FINISH_STOP, err) : status;
    }

    vlm_buf piece;
    vlm_buf_init(&piece, TEXT_LEN_MAX);
    vlm_status status = vlm_detok_push(r->detok, id, &piece, err);
    const bool full = r->n_answered == r->job->max_tokens;
    if (status == VLM_OK && full) status = vlm_detok_flush(r->detok, &piece, err);
    if (status == VLM_OK) status = vlm_stop_push(&r->stop, vlm_buf_bytes(&piece), &l->text, err);
    vlm_buf_fini(&piece);
    if (status != VLM_OK) return status;
    if (r->stop.hit) return finish_choice(l, VLM_FINISH_STOP, err);
    if (full) return finish_choice(l, VLM_FINISH_LENGTH, err);
    vlm_event *event = add_event(l, VLM_EVENT_TEXT);
    event->text = vlm_buf_bytes(&l->text);
    event->has_token = true;
    event->token_id = id;
    return VLM_OK;
}

static bool local_step(vlm_engine *e)
{
    local *l = self(e);
    vlm_error error = {0};
    if (l->next_event < l->n_events) return true;
    l->next_event = l->n_events = 0;
    vlm_buf_clear(&l->text);

    vlm_status status = VLM_OK;
    if (l->run.job == NULL) {
        if (l->first == NULL) return false;
        status = start_run(l, &error);
    }
    if (status == VLM_OK && l->run.job->cancelled) {
        add_done(l, VLM_FINISH_CANCELLED, true);
        end_run(l);
        return true;
    }
    if (status == VLM_OK) {
        if (l->run.phase == PHASE_ENCODE && l->run.n_encoded == l->run.job->prompt.n_images)
            l->run.phase = PHASE_PREFILL;
        switch (l->run.phase) {
        case PHASE_ENCODE: encode_step(l); break;
        case PHASE_PREFILL: status = prefill_step(l, &error); break;
        case PHASE_DECODE: status = decode_step(l, &error); break;
        }
    }
    if (status != VLM_OK) fail_run(l, &error);
    return true;
}

static bool local_next_event(vlm_engine *e, vlm_event *out)
{
    local *l = self(e);
    if (l->next_event == l->n_events) return false;
    *out = l->events[l->next_event++];
    return true;
}

static void local_cancel(vlm_engine *e, uint64_t id)
{
    local *l = self(e);
    if (l->run.job != NULL && l->run.job->id == id) l->run.job->cancelled = true;
    for (job *j = l->first; j != NULL; j = j->next)
        if (j->id == id) j->cancelled = true;
}

/* Copy what the request's caller may free. */
static vlm_status copy_sampling(job *j, const vlm_request *r, vlm_error *err)
{
    size_t n_stop_bytes = 0;
    vlm_stop check;
    const vlm_status status = vlm_stop_init(&check, r->stop, r->n_stop, err);
    vlm_stop_fini(&check);
    if (status != VLM_OK) return status;
    for (size_t i = 0; i < r->n_stop; i++) n_stop_bytes += r->stop[i].len;
    j->stop_text = vlm_calloc(n_stop_bytes, 1);
    j->logit_bias = vlm_calloc(r->sampling.n_logit_bias, sizeof *j->logit_bias);
    if (j->stop_text == NULL || j->logit_bias == NULL) return vlm_fail_memory(err, "request");
    char *next = j->stop_text;
    for (size_t i = 0; i < r->n_stop; i++) {
        memcpy(next, r->stop[i].ptr, r->stop[i].len);
        j->stop_strings[i] = (vlm_bytes){.ptr = next, .len = r->stop[i].len};
        next += r->stop[i].len;
    }
    j->n_stop = r->n_stop;
    j->sampling = r->sampling;
    if (r->sampling.n_logit_bias > 0)
        memcpy(j->logit_bias, r->sampling.logit_bias,
               r->sampling.n_logit_bias * sizeof *j->logit_bias);
    j->sampling.logit_bias = j->logit_bias;
    return VLM_OK;
}

static vlm_status fill_job(local *l, job *j, const vlm_request *r, vlm_error *err)
{
    const uint32_t n_vocab = vlm_model_config(l->model)->text.vocab_size;
    VLM_TRY(vlm_sampling_check(&r->sampling, n_vocab, err));
    if (r->n_choices > VLM_REQUEST_CHOICES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "n must be at most %d", VLM_REQUEST_CHOICES_MAX);
    VLM_TRY(copy_sampling(j, r, err));
    VLM_TRY(vlm_prepare_run(&l->prepare, r, &j->prompt, err));
    const uint32_t n_left = vlm_model_n_ctx(l->model) - (uint32_t)j->prompt.ids.len;
    j->n_choices = r->n_choices == 0 ? 1 : r->n_choices;
    j->max_tokens = r->max_tokens == 0 || r->max_tokens > n_left ? n_left : r->max_tokens;
    j->ignore_eos = r->ignore_eos;
    return VLM_OK;
}

static vlm_status local_prepare(vlm_engine *e, const vlm_request *request, vlm_job **out,
                                vlm_error *err)
{
    *out = NULL;
    job *j = calloc(1, sizeof *j);
    if (j == NULL) return vlm_fail_memory(err, "request");
    const vlm_status status = fill_job(self(e), j, request, err);
    if (status != VLM_OK) {
        job_free(j);
        return status;
    }
    *out = (vlm_job *)j;
    return VLM_OK;
}

static void local_job_free(vlm_engine *e, vlm_job *j)
{
    (void)e;
    job_free((job *)j);
}

static vlm_status local_submit(vlm_engine *e, vlm_job *prepared, uint64_t *id, vlm_error *err)
{
    local *l = self(e);
    job *j = (job *)prepared;
    if (l->n_waiting >= l->waiting_max)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%u requests are waiting already",
                        l->n_waiting);
    *id = j->id = ++l->last_request_id;
    j->submitted_ns = vlm_clock_ns();
    if (l->last == NULL)
        l->first = j;
    else
        l->last->next = j;
    l->last = j;
    l->n_waiting++;
    return VLM_OK;
}

static uint64_t local_wake_ns(const vlm_engine *e)
{
    (void)e;
    return UINT64_MAX;
}

static void local_stats(const vlm_engine *e, vlm_engine_stats *out)
{
    const local *l = (const local *)e;
    *out = (vlm_engine_stats){.n_running = l->run.job != NULL, .n_waiting = l->n_waiting};
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

static void local_progress(const vlm_engine *e, vlm_engine_progress *out)
{
    const run *r = &((const local *)e)->run;
    *out = (vlm_engine_progress){0};
    if (r->job == NULL) return;
    *out = (vlm_engine_progress){
        .n_images_done = r->n_encoded,
        .n_images = r->job->prompt.n_images,
        .n_prompt_done = r->n_filled,
        .n_prompt = (uint32_t)r->job->prompt.ids.len,
    };
}

static void local_info(const vlm_engine *e, vlm_engine_info *out)
{
    const local *l = (const local *)e;
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
    local *l = self(e);
    if (l->run.job != NULL) end_run(l);
    while (l->first != NULL) {
        job *next = l->first->next;
        job_free(l->first);
        l->first = next;
    }
    vlm_sampler_free(l->sampler);
    free(l->logits);
    free(l->prompt_logits);
    vlm_buf_fini(&l->text);
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
    .prepare = local_prepare,
    .job_free = local_job_free,
    .submit = local_submit,
    .wake_ns = local_wake_ns,
    /* No pause: what one sequence can leave unread is bounded by the context. */
    .stats = local_stats,
    .tokenize = local_tokenize,
    .detokenize = local_detokenize,
    .cancel = local_cancel,
    .step = local_step,
    .next_event = local_next_event,
    .progress = local_progress,
    .info = local_info,
};

static vlm_status device_floats(local *l, size_t n_rows, size_t n_cols, float **out, vlm_error *err)
{
    size_t n, n_bytes;
    void *ptr = NULL;
    if (!vlm_size_mul(n_rows, n_cols, &n) || !vlm_size_mul(n, sizeof(float), &n_bytes))
        return vlm_fail_memory(err, "engine");
    VLM_TRY(l->backend->ops->alloc(l->backend, n_bytes, &ptr, err));
    *out = ptr;
    return VLM_OK;
}

static vlm_status open_parts(local *l, vlm_folder *folder, const vlm_engine_options *o,
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
    l->prompt_logits = vlm_calloc(text->vocab_size, sizeof *l->prompt_logits);
    if (l->logits == NULL || l->prompt_logits == NULL) return vlm_fail_memory(err, "engine");
    return VLM_OK;
}

vlm_status vlm_engine_submit(vlm_engine *e, const vlm_request *request, uint64_t *id,
                             vlm_error *err)
{
    vlm_job *j;
    VLM_TRY(e->ops->prepare(e, request, &j, err));
    const vlm_status status = e->ops->submit(e, j, id, err);
    if (status != VLM_OK) e->ops->job_free(e, j);
    return status;
}

vlm_status vlm_engine_open(vlm_folder *folder, const vlm_engine_options *options, vlm_engine **out,
                           vlm_error *err)
{
    *out = NULL;
    const vlm_cpu_level best = vlm_cpu_level_best();
    if (options->cpu_level_given && options->cpu_level > best)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "cpu-level %s: this CPU has only %s",
                        vlm_cpu_level_name(options->cpu_level), vlm_cpu_level_name(best));
    local *l = calloc(1, sizeof *l);
    if (l == NULL) return vlm_fail_memory(err, "engine");
    l->base.ops = &local_ops;
    l->cpu_level = options->cpu_level_given ? options->cpu_level : best;
    l->n_threads = options->n_threads == 0 ? vlm_cpu_count() : options->n_threads;
    if (l->n_threads > 256) l->n_threads = 256;
    l->waiting_max = options->waiting_max == 0 ? WAITING_DEFAULT : options->waiting_max;
    vlm_buf_init(&l->text, TEXT_LEN_MAX);
    const vlm_status status = open_parts(l, folder, options, err);
    if (status != VLM_OK) {
        local_close(&l->base);
        return status;
    }
    *out = &l->base;
    return VLM_OK;
}
