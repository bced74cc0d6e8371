/* local.c - the engine of a model on this machine: opened, driven step by step, asked about itself.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/noalloc.h"
#include "engine/local.h"
#include "engine/memory.h"

enum {
    RUNNING_DEFAULT = 64,
    WAITING_DEFAULT = 256,
    STEP_US_DEFAULT = 50000,
    POPULATE_TOKENS = 4096, /* a few conversations with pictures */
};

static vlm_local *self(vlm_engine *e)
{
    return (vlm_local *)e;
}

static const vlm_local *self_const(const vlm_engine *e)
{
    return (const vlm_local *)e;
}

/* Say that requests have ended that never began. */
static void tell_dropped(vlm_local *l)
{
    while (l->dropped.first != NULL && l->n_events < VLM_LOCAL_EVENTS_MAX) {
        vlm_local_job *j = l->dropped.first;
        vlm_event *event = vlm_local_add_event(l, VLM_EVENT_DONE, j, 0);
        event->finish = VLM_FINISH_CANCELLED;
        event->last = true;
        event->usage = vlm_local_prompt_usage(j);
        event->timings.queue_s = vlm_clock_seconds(j->submitted_ns, l->now_ns);
        vlm_local_list_remove(&l->dropped, j);
        vlm_local_job_free(&l->base, (vlm_job *)j);
    }
}

static void tell_cancelled(vlm_local *l, vlm_local_job *j)
{
    uint32_t choice = 0;
    while (j->seqs[choice].state == VLM_SEQ_ENDED) choice++;
    vlm_local_add_done(l, &j->seqs[choice], VLM_FINISH_CANCELLED, true);
    vlm_local_end_job(l, j);
}

static void end_cancelled(vlm_local *l)
{
    vlm_local_job *next;
    for (vlm_local_job *j = l->running.first; j != NULL && l->n_cancelled > 0; j = next) {
        next = j->next;
        if (!j->cancelled || l->n_events == VLM_LOCAL_EVENTS_MAX) continue;
        l->n_cancelled--;
        tell_cancelled(l, j);
    }
}

static void start_phase(vlm_local *l, vlm_local_phase phase)
{
    l->phase = phase;
    if (phase == VLM_LOCAL_ENCODE) l->encode_since_ns = l->now_ns;
}

/* Something that takes a moment; false when there is nothing to do. */
static bool work(vlm_local *l)
{
    switch (l->phase) {
    case VLM_LOCAL_PLAN:
#ifdef VLM_DEBUG
        vlm_local_check(l);
#endif
        vlm_local_plan(l);
        if (l->batch.n_seqs > 0) {
            vlm_local_batch_start(l);
            start_phase(l, VLM_LOCAL_FORWARD);
            return true;
        }
        if (l->encode.n == 0) return false;
        start_phase(l, VLM_LOCAL_ENCODE);
        return true;
    case VLM_LOCAL_FORWARD:
        if (vlm_local_batch_piece(l)) start_phase(l, VLM_LOCAL_DRAW);
        return true;
    case VLM_LOCAL_DRAW:
        if (!vlm_local_draw(l)) return true;
        vlm_local_batch_end(l);
        start_phase(l, l->encode.n > 0 ? VLM_LOCAL_ENCODE : VLM_LOCAL_PLAN);
        return true;
    case VLM_LOCAL_ENCODE:
        if (l->encode.n > 0) vlm_local_encode_piece(l);
        /* Their turn is as long as the last batch's. */
        if (l->encode.n == 0 || l->now_ns - l->encode_since_ns >= l->forward_ns)
            start_phase(l, VLM_LOCAL_PLAN);
        return true;
    }
    return false;
}

static bool local_step(vlm_engine *e)
{
    vlm_local *l = self(e);
    if (l->next_event < l->n_events) return true;
    vlm_noalloc_begin();
    l->next_event = l->n_events = 0;
    vlm_buf_clear(&l->text);
    vlm_buf_clear(&l->token_bytes);
    l->now_ns = vlm_clock_ns();
    const uint64_t start = l->now_ns;
    tell_dropped(l);
    end_cancelled(l);
    bool busy = true;
    while (busy && l->n_events == 0 && l->now_ns - start < l->step_ns) busy = work(l);
    vlm_noalloc_end();
    return busy || l->n_events > 0;
}

static bool local_next_event(vlm_engine *e, vlm_event *out)
{
    vlm_local *l = self(e);
    if (l->next_event == l->n_events) return false;
    *out = l->events[l->next_event++];
    return true;
}

static vlm_local_job *find_running(vlm_local *l, uint64_t id)
{
    vlm_local_job *j = l->running.first;
    while (j != NULL && j->id != id) j = j->next;
    return j;
}

static vlm_local_job *find_waiting(const vlm_local *l, uint64_t id)
{
    for (vlm_fair_item *item = NULL; (item = vlm_fair_each(l->fair, item)) != NULL;) {
        vlm_local_job *j = (vlm_local_job *)item;
        if (j->id == id) return j;
    }
    return NULL;
}

static void local_cancel(vlm_engine *e, uint64_t id)
{
    vlm_local *l = self(e);
    vlm_local_job *j = find_running(l, id);
    if (j != NULL) {
        if (!j->cancelled) l->n_cancelled++;
        j->cancelled = true;
        return;
    }
    j = find_waiting(l, id);
    if (j == NULL) return;
    vlm_local_encode_forget(l, j);
    vlm_fair_remove(l->fair, &j->fair);
    vlm_local_list_add(&l->dropped, j);
}

/* A request whose reader is slow keeps its place in the cache while somebody else can go on without
 * it, but no features that others wait for. */
static void local_pause(vlm_engine *e, uint64_t id, bool paused)
{
    vlm_local *l = self(e);
    vlm_local_job *j = find_running(l, id);
    if (j == NULL) j = find_waiting(l, id);
    if (j == NULL) return;
    j->paused = paused;
    if (paused && j->started) vlm_local_pictures_release(l, j, true);
}

static vlm_status local_submit(vlm_engine *e, vlm_job *job, uint64_t *id, vlm_error *err)
{
    vlm_local *l = self(e);
    vlm_local_job *j = (vlm_local_job *)job;
    const uint32_t n_waiting = vlm_fair_n_waiting(l->fair);
    const vlm_bytes tenant = {.ptr = j->tenant, .len = j->tenant_len};
    if (n_waiting >= l->waiting_max || !vlm_fair_add(l->fair, &j->fair, tenant))
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%u requests are waiting already", n_waiting);
    *id = j->id = ++l->last_request_id;
    j->submitted_ns = vlm_clock_ns();
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
    *out = l->stats;
    out->n_running = l->running.n;
    out->n_waiting = vlm_fair_n_waiting(l->fair);
    out->is_settling = vlm_populate_thread_runs(l->populate);
    out->kv_usage = (double)vlm_slots_n_held(l->blocks) / vlm_slots_n(l->blocks);
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

/* The oldest request; a chunk in hand counts as far as its pieces have come. */
static void local_progress(const vlm_engine *e, vlm_engine_progress *out)
{
    const vlm_local *l = self_const(e);
    const vlm_local_batch *b = &l->batch;
    const vlm_local_job *j = l->running.first;
    *out = (vlm_engine_progress){0};
    if (j == NULL) return;
    const vlm_seq *seq = &j->seqs[0];
    const uint32_t n_prompt = (uint32_t)j->prompt.ids.len;
    uint32_t n_done = seq->n_computed;
    for (uint32_t i = 0; i < b->n_seqs && l->phase == VLM_LOCAL_FORWARD; i++)
        if (b->seqs[i] == seq)
            n_done += (uint32_t)((uint64_t)b->rows[i].n_rows * b->piece /
                                 vlm_model_n_forward_pieces(l->model));
    *out = (vlm_engine_progress){
        .n_images = j->prompt.n_images,
        .n_prompt_done = n_done < n_prompt ? n_done : n_prompt,
        .n_prompt = n_prompt,
    };
    for (uint32_t i = 0; i < j->prompt.n_images; i++)
        out->n_images_done += j->image_slots[i] != VLM_SLOT_NONE ||
                              seq->n_computed >= j->image_starts[i] + j->n_image_rows;
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
        .n_kv_tokens = l->n_kv_tokens,
        .kv_bytes = l->kv_bytes,
        .encoder_cache_bytes = vlm_slots_n(l->encoded) * l->features_len * sizeof(float),
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

static void free_list(vlm_local *l, vlm_local_list *list)
{
    while (list->first != NULL) {
        vlm_local_job *j = list->first;
        vlm_local_list_remove(list, j);
        vlm_local_job_free(&l->base, (vlm_job *)j);
    }
}

static void free_requests(vlm_local *l)
{
    vlm_local_encode_abort(l);
    free_list(l, &l->running);
    free_list(l, &l->dropped);
    free_list(l, &l->dead);
    for (vlm_fair_item *item; l->fair != NULL && (item = vlm_fair_each(l->fair, NULL)) != NULL;) {
        vlm_fair_remove(l->fair, item);
        vlm_local_job_free(&l->base, (vlm_job *)item);
    }
}

static void local_close(vlm_engine *e)
{
    if (e == NULL) return;
    vlm_local *l = self(e);
    vlm_populate_thread_stop(l->populate);
    free_requests(l);
    vlm_fair_free(l->fair);
    vlm_slots_free(l->blocks);
    vlm_slots_free(l->encoded);
    vlm_sampler_free(l->sampler);
    vlm_detok_free(l->token_detok);
    free(l->logits);
    free(l->logits_rows);
    free(l->batch.rows);
    free(l->batch.seqs);
    free(l->batch.ids);
    vlm_buf_fini(&l->text);
    vlm_buf_fini(&l->piece);
    vlm_buf_fini(&l->token_bytes);
    vlm_prepare_close(&l->prepare);
    if (l->backend != NULL) {
        l->backend->ops->free(l->backend, l->x);
        l->backend->ops->free(l->backend, l->last_rows);
        l->backend->ops->free(l->backend, l->logits_device);
        l->backend->ops->free(l->backend, l->features);
        vlm_kv_pool_fini(&l->kv);
        vlm_model_close(l->model);
        l->backend->ops->close(l->backend);
    }
    free(l);
}

static vlm_status local_pictures_new(vlm_engine *e, uint32_t n_max, vlm_pictures **out,
                                     vlm_error *err)
{
    vlm_local *l = self(e);
    return vlm_pictures_open(l->model, n_max, &l->pictures, out, err);
}

static vlm_status local_pictures_add(vlm_engine *e, vlm_pictures *set, const vlm_image *image,
                                     vlm_error *err)
{
    (void)e;
    return vlm_pictures_add(set, image, err);
}

static void local_pictures_free(vlm_engine *e, vlm_pictures *set)
{
    (void)e;
    vlm_pictures_unref(set);
}

static const vlm_engine_ops local_ops = {
    .close = local_close,
    .pictures_new = local_pictures_new,
    .pictures_add = local_pictures_add,
    .pictures_free = local_pictures_free,
    .prepare = vlm_local_prepare,
    .job_free = vlm_local_job_free,
    .submit = local_submit,
    .cancel = local_cancel,
    .step = local_step,
    .wake_ns = local_wake_ns,
    .pause = local_pause,
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

/* The caches, as large as the memory plan says. */
static vlm_status open_caches(vlm_local *l, const vlm_engine_options *o, vlm_error *err)
{
    vlm_memory_plan plan;
    VLM_TRY(vlm_memory_plan_of(l->model, o, l->running_max, &plan, err));
    l->pictures.bytes_max = plan.pixels_max;
    l->n_kv_tokens = plan.n_blocks * VLM_KV_BLOCK_TOKENS;
    l->kv_bytes = plan.n_blocks * plan.block_bytes;
    l->features_len = plan.picture_bytes / sizeof(float);
    VLM_TRY(vlm_model_kv_new(l->model, plan.n_blocks, o->kv_dtype, &l->kv, err));
    VLM_TRY(vlm_slots_new(plan.n_blocks, &l->blocks, err));
    VLM_TRY(vlm_slots_new(plan.n_pictures, &l->encoded, err));
    return device_floats(l, plan.n_pictures, l->features_len, &l->features, err);
}

/* What a step needs, so that it takes no memory itself. */
static vlm_status open_working_memory(vlm_local *l, vlm_error *err)
{
    const vlm_text_config *text = &vlm_model_config(l->model)->text;
    const size_t n_logits = (size_t)VLM_LOCAL_LOGIT_ROWS * text->vocab_size;
    vlm_local_batch *b = &l->batch;
    VLM_TRY(device_floats(l, l->n_rows_max, text->hidden_size, &l->x, err));
    VLM_TRY(device_floats(l, VLM_LOCAL_LOGIT_ROWS, text->hidden_size, &l->last_rows, err));
    VLM_TRY(device_floats(l, n_logits, 1, &l->logits_device, err));
    VLM_TRY(vlm_sampler_new(text->vocab_size, &l->sampler, err));
    l->logits = vlm_calloc(text->vocab_size, sizeof *l->logits);
    l->logits_rows = vlm_calloc(n_logits, sizeof *l->logits_rows);
    b->rows = vlm_calloc(l->n_rows_max, sizeof *b->rows);
    b->seqs = vlm_calloc(l->n_rows_max, sizeof *b->seqs);
    b->ids = vlm_calloc(l->n_rows_max, sizeof *b->ids);
    if (l->logits == NULL || l->logits_rows == NULL || b->rows == NULL || b->seqs == NULL ||
        b->ids == NULL)
        return vlm_fail_memory(err, "engine");
    /* What one token can say: its own text and what was held back before it, which for a run of
     * bytes that are no UTF-8 is three bytes for each token. */
    const size_t token_max = 4 * vlm_tokenizer_longest(l->prepare.tokenizer) + 4096;
    const size_t piece_max = token_max + (size_t)3 * vlm_model_n_ctx(l->model);
    const size_t n_choices = VLM_REQUEST_CHOICES_MAX, n_top = VLM_REQUEST_TOP_LOGPROBS_MAX;
    vlm_buf_init(&l->piece, piece_max);
    vlm_buf_init(&l->text, VLM_LOCAL_TEXT_LEN_MAX + n_choices * (piece_max + VLM_STOP_LEN_MAX));
    vlm_buf_init(&l->token_bytes, VLM_LOCAL_TEXT_LEN_MAX + n_choices * (1 + n_top) * token_max);
    VLM_TRY(vlm_buf_reserve(&l->piece, l->piece.len_max, err));
    VLM_TRY(vlm_buf_reserve(&l->text, l->text.len_max, err));
    VLM_TRY(vlm_buf_reserve(&l->token_bytes, l->token_bytes.len_max, err));
    VLM_TRY(vlm_detok_new(l->prepare.tokenizer, &l->token_detok, err));
    return vlm_detok_reserve(l->token_detok, 1, err);
}

static vlm_status open_parts(vlm_local *l, vlm_folder *folder, const vlm_engine_options *o,
                             vlm_error *err)
{
    const vlm_model_options model_options = {.dtype = o->dtype,
                                             .vision_dtype = o->vision_dtype,
                                             .pack_cache_bytes = o->pack_cache_bytes,
                                             .progress = o->load_progress,
                                             .user = o->load_user,
                                             .n_ctx = o->n_ctx};
    const uint32_t waiting_max = o->waiting_max == 0 ? WAITING_DEFAULT : o->waiting_max;
    l->waiting_max = waiting_max;
    l->running_max = o->running_max == 0 ? RUNNING_DEFAULT : o->running_max;
    /* Other tenants' requests need not wait until one of the tenant's who came first is over. */
    l->tenant_running_max = l->running_max - l->running_max / 8;
    if (l->tenant_running_max == l->running_max && l->running_max > 1) l->tenant_running_max--;
    l->chunk_max = o->chunk_max;
    l->no_prefix_cache = o->no_prefix_cache;
    VLM_TRY(vlm_fair_new(l->running_max + waiting_max, &l->fair, err));
    VLM_TRY(vlm_backend_cpu_open(l->n_threads, l->cpu_level, &l->backend, err));
    VLM_TRY(vlm_model_open(folder, l->backend, &model_options, &l->model, err));
    VLM_TRY(vlm_prepare_open(&l->prepare, folder, l->model, err));
    l->n_rows_max = vlm_model_n_rows_max(l->model);
    VLM_TRY(open_caches(l, o, err));
    VLM_TRY(open_working_memory(l, err));
    const uint32_t n_ctx = vlm_model_n_ctx(l->model);
    l->populate =
        vlm_populate_thread_start(&l->kv, n_ctx < POPULATE_TOKENS ? n_ctx : POPULATE_TOKENS);
    return VLM_OK;
}

vlm_status vlm_engine_open(vlm_folder *folder, const vlm_engine_options *options, vlm_engine **out,
                           vlm_error *err)
{
    *out = NULL;
    const vlm_cpu_level best = vlm_cpu_level_best();
    if (options->cpu_level_given && !vlm_cpu_level_has(options->cpu_level))
        return vlm_fail(err, VLM_UNIMPLEMENTED, "cpu-level %s: this CPU has only %s",
                        vlm_cpu_level_name(options->cpu_level), vlm_cpu_level_name(best));
    vlm_local *l = calloc(1, sizeof *l);
    if (l == NULL) return vlm_fail_memory(err, "engine");
    l->base.ops = &local_ops;
    l->cpu_level = options->cpu_level_given ? options->cpu_level : best;
    l->n_threads = options->n_threads == 0 ? vlm_cpu_count() : options->n_threads;
    if (l->n_threads > 256) l->n_threads = 256;
    l->step_ns = (uint64_t)(options->step_us == 0 ? STEP_US_DEFAULT : options->step_us) * 1000;
    const vlm_status status = open_parts(l, folder, options, err);
    if (status != VLM_OK) {
        local_close(&l->base);
        return status;
    }
    *out = &l->base;
    return VLM_OK;
}
