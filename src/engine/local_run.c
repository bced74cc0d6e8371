/* local_run.c - the local engine's request in hand, from its pictures to its last choice, a piece
 * of the model at a time. */
#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "engine/local.h"
#include "engine/logprobs.h"

vlm_event *vlm_local_add_event(vlm_local *l, vlm_event_type type, uint64_t request_id)
{
    assert(l->n_events < VLM_LOCAL_EVENTS_MAX);
    vlm_event *event = &l->events[l->n_events++];
    *event = (vlm_event){.type = type, .request_id = request_id};
    return event;
}

static vlm_event *add_event(vlm_local *l, vlm_event_type type)
{
    vlm_event *event = vlm_local_add_event(l, type, l->run.job->id);
    event->choice = l->run.choice;
    return event;
}

void vlm_local_run_end(vlm_local *l)
{
    if (l->run.job == NULL) return;
    vlm_detok_free(l->run.detok);
    vlm_stop_fini(&l->run.stop);
    vlm_local_job_free(&l->base, (vlm_job *)l->run.job);
    l->run = (vlm_local_run){0};
}

static void fail_run(vlm_local *l, const vlm_error *error)
{
    add_event(l, VLM_EVENT_ERROR)->error = *error;
    vlm_local_run_end(l);
}

vlm_usage vlm_local_prompt_usage(const vlm_local *l, const vlm_local_job *job)
{
    return (vlm_usage){
        .n_prompt = (uint32_t)job->prompt.ids.len,
        .n_image = job->prompt.n_images * vlm_model_n_image_tokens(l->model),
    };
}

static void add_done(vlm_local *l, vlm_finish finish, bool last)
{
    vlm_event *event = add_event(l, VLM_EVENT_DONE);
    event->finish = finish;
    event->last = last;
    event->usage = vlm_local_prompt_usage(l, l->run.job);
    event->usage.n_completion = l->run.n_answered;
    event->timings = l->run.timings;
}

/* Count the time since the last mark as spent on one thing. */
static void spend(vlm_local *l, double *seconds)
{
    l->backend->ops->sync(l->backend);
    const uint64_t now = vlm_clock_ns();
    *seconds += vlm_clock_seconds(l->run.mark_ns, now);
    l->run.mark_ns = now;
}

/* Begin the current choice at the logits that followed the prompt. */
static vlm_status start_choice(vlm_local *l, vlm_error *err)
{
    vlm_local_run *r = &l->run;
    const vlm_local_job *j = r->job;
    vlm_sampling sampling = j->sampling;
    sampling.choice = r->choice;
    vlm_sampler_start(l->sampler, &sampling, j->prompt.ids.data, j->prompt.ids.len);
    vlm_detok_reset(r->detok);
    vlm_stop_fini(&r->stop);
    r->n_answered = 0;
    r->timings.decode_s = 0.0;
    return vlm_stop_init(&r->stop, j->stop_strings, j->n_stop, err);
}

void vlm_local_run_start(vlm_local *l, vlm_local_job *job)
{
    vlm_local_run *r = &l->run;
    vlm_error error = {0};
    *r = (vlm_local_run){.job = job};
    r->timings.queue_s = vlm_clock_seconds(job->submitted_ns, vlm_clock_ns());
    vlm_status status = vlm_stop_init(&r->stop, NULL, 0, &error);
    if (status == VLM_OK) status = vlm_detok_new(l->prepare.tokenizer, &r->detok, &error);
    if (status != VLM_OK) {
        fail_run(l, &error);
        return;
    }
    add_event(l, VLM_EVENT_STARTED)->usage = vlm_local_prompt_usage(l, job);
}

static void encode_piece(vlm_local *l)
{
    vlm_local_run *r = &l->run;
    const size_t row_len = vlm_model_config(l->model)->text.hidden_size;
    const size_t n_rows = vlm_model_n_image_tokens(l->model);
    vlm_model_encode_piece(l->model, vlm_pictures_pixels(r->job->prompt.pictures, r->n_encoded),
                           l->features + r->n_encoded * n_rows * row_len, r->piece++);
    if (r->piece == vlm_model_n_encode_pieces(l->model)) {
        r->piece = 0;
        r->n_encoded++;
    }
    spend(l, &r->timings.image_s);
}

/* Embed the next rows of the prompt, as many as go through the model at a time. */
static void start_chunk(vlm_local *l)
{
    vlm_local_run *r = &l->run;
    const vlm_ids *ids = &r->job->prompt.ids;
    const uint32_t n_left = (uint32_t)ids->len - r->n_filled;
    const uint32_t n_max = vlm_model_n_rows(l->model, r->n_filled);
    r->n_chunk = n_left < n_max ? n_left : n_max;
    vlm_model_embed(l->model, l->x, ids->data + r->n_filled, r->n_chunk, l->features,
                    &r->feature_row);
}

static vlm_status prefill_piece(vlm_local *l, vlm_error *err)
{
    vlm_local_run *r = &l->run;
    const vlm_text_config *text = &vlm_model_config(l->model)->text;
    vlm_status status = VLM_OK;
    if (r->piece == 0) start_chunk(l);
    vlm_model_forward_piece(l->model, &l->cache, l->x, r->n_chunk, r->n_filled, r->piece++);
    if (r->piece == vlm_model_n_forward_pieces(l->model)) {
        r->piece = 0;
        r->n_filled += r->n_chunk;
        if (r->n_filled == r->job->prompt.ids.len) {
            vlm_model_logits(l->model, l->logits_device,
                             l->x + (size_t)(r->n_chunk - 1) * text->hidden_size, 1);
            l->backend->ops->download(l->backend, l->prompt_logits, l->logits_device,
                                      text->vocab_size * sizeof *l->prompt_logits);
            r->phase = VLM_LOCAL_DECODE;
            status = start_choice(l, err);
        }
    }
    spend(l, &r->timings.prefill_s);
    return status;
}

static bool is_end(const vlm_local *l, uint32_t id)
{
    const vlm_config *c = vlm_model_config(l->model);
    if (l->run.job->ignore_eos) return false;
    for (uint32_t i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] == id) return true;
    return false;
}

/* Tell that the choice is over, then go on to the next one or end. */
static vlm_status finish_choice(vlm_local *l, vlm_finish finish, vlm_error *err)
{
    vlm_local_run *r = &l->run;
    const bool last = r->choice + 1 == r->job->n_choices;
    add_done(l, finish, last);
    if (last) {
        vlm_local_run_end(l);
        return VLM_OK;
    }
    r->choice++;
    return start_choice(l, err);
}

/* Fill l->logprobs for a token from the logits as the model gave them. */
static vlm_status find_logprobs(vlm_local *l, uint32_t id, vlm_error *err)
{
    vlm_local_logprobs *p = &l->logprobs;
    const uint32_t n_vocab = vlm_model_config(l->model)->text.vocab_size;
    const vlm_log_softmax softmax = vlm_log_softmax_of(l->raw_logits, n_vocab);
    uint32_t ids[VLM_REQUEST_TOP_LOGPROBS_MAX];
    size_t ends[VLM_REQUEST_TOP_LOGPROBS_MAX];
    const uint32_t n = vlm_logprobs_top(l->raw_logits, n_vocab, l->run.job->n_top_logprobs, ids);
    vlm_buf_clear(&p->bytes);
    VLM_TRY(vlm_tokenizer_token_bytes(l->prepare.tokenizer, id, &p->bytes, err));
    const size_t len = p->bytes.len;
    for (uint32_t i = 0; i < n; i++) {
        VLM_TRY(vlm_tokenizer_token_bytes(l->prepare.tokenizer, ids[i], &p->bytes, err));
        ends[i] = p->bytes.len;
    }
    /* Only now does the buffer stay where it is. */
    size_t begin = len;
    const char *data = p->bytes.data == NULL ? "" : p->bytes.data;
    p->token = (vlm_token_logprob){.logprob = vlm_logprob(softmax, l->raw_logits[id]),
                                   .bytes = {.ptr = data, .len = len},
                                   .top = p->top,
                                   .n_top = n};
    for (uint32_t i = 0; i < n; i++) {
        p->top[i] = (vlm_top_logprob){.id = ids[i],
                                      .logprob = vlm_logprob(softmax, l->raw_logits[ids[i]]),
                                      .bytes = {.ptr = data + begin, .len = ends[i] - begin}};
        begin = ends[i];
    }
    return VLM_OK;
}

/* The text that a token makes certain, in l->text; at the end of a choice all that is left. */
static vlm_status take_text(vlm_local *l, const uint32_t *id, bool ends, vlm_error *err)
{
    vlm_local_run *r = &l->run;
    vlm_buf piece;
    vlm_buf_init(&piece, VLM_LOCAL_TEXT_LEN_MAX);
    vlm_status status = VLM_OK;
    if (id != NULL) status = vlm_detok_push(r->detok, *id, &piece, err);
    if (status == VLM_OK && ends) status = vlm_detok_flush(r->detok, &piece, err);
    if (status == VLM_OK) status = vlm_stop_push(&r->stop, vlm_buf_bytes(&piece), &l->text, err);
    if (status == VLM_OK && ends) status = vlm_stop_flush(&r->stop, &l->text, err);
    vlm_buf_fini(&piece);
    return status;
}

/* Draw a token from l->logits and say what comes of it. */
static vlm_status draw(vlm_local *l, vlm_error *err)
{
    vlm_local_run *r = &l->run;
    const vlm_local_job *j = r->job;
    const size_t n_bytes = vlm_model_config(l->model)->text.vocab_size * sizeof *l->logits;
    const uint64_t position = j->prompt.ids.len + r->n_answered;
    if (j->logprobs) memcpy(l->raw_logits, l->logits, n_bytes);
    const uint32_t id = vlm_sampler_next(l->sampler, l->logits, position);
    r->last_id = id;
    r->n_answered++;
    if (is_end(l, id)) {
        VLM_TRY(take_text(l, NULL, true, err));
        spend(l, &r->timings.decode_s);
        if (l->text.len > 0) add_event(l, VLM_EVENT_TEXT)->text = vlm_buf_bytes(&l->text);
        return finish_choice(l, VLM_FINISH_STOP, err);
    }

    const bool full = r->n_answered == j->max_tokens;
    VLM_TRY(take_text(l, &id, full, err));
    if (j->logprobs) VLM_TRY(find_logprobs(l, id, err));
    spend(l, &r->timings.decode_s);
    vlm_event *event = add_event(l, VLM_EVENT_TEXT);
    event->text = vlm_buf_bytes(&l->text);
    event->has_token = true;
    event->token_id = id;
    event->logprob = j->logprobs ? &l->logprobs.token : NULL;
    if (r->stop.hit) return finish_choice(l, VLM_FINISH_STOP, err);
    return full ? finish_choice(l, VLM_FINISH_LENGTH, err) : VLM_OK;
}

static vlm_status decode_piece(vlm_local *l, vlm_error *err)
{
    vlm_local_run *r = &l->run;
    const size_t n_bytes = vlm_model_config(l->model)->text.vocab_size * sizeof *l->logits;
    if (r->n_answered == 0) {
        memcpy(l->logits, l->prompt_logits, n_bytes);
        return draw(l, err);
    }
    const uint32_t n_past = (uint32_t)r->job->prompt.ids.len + r->n_answered - 1;
    /* An image token that the model itself says has no picture: it is embedded like a word. */
    if (r->piece == 0) vlm_model_embed_text(l->model, l->x, &r->last_id, 1);
    vlm_model_forward_piece(l->model, &l->cache, l->x, 1, n_past, r->piece++);
    if (r->piece < vlm_model_n_forward_pieces(l->model)) {
        spend(l, &r->timings.decode_s);
        return VLM_OK;
    }
    r->piece = 0;
    vlm_model_logits(l->model, l->logits_device, l->x, 1);
    l->backend->ops->download(l->backend, l->logits, l->logits_device, n_bytes);
    return draw(l, err);
}

static vlm_status run_piece(vlm_local *l, vlm_error *err)
{
    vlm_local_run *r = &l->run;
    if (r->phase == VLM_LOCAL_ENCODE && r->n_encoded == r->job->prompt.n_images)
        r->phase = VLM_LOCAL_PREFILL;
    switch (r->phase) {
    case VLM_LOCAL_ENCODE: encode_piece(l); break;
    case VLM_LOCAL_PREFILL: return prefill_piece(l, err);
    case VLM_LOCAL_DECODE: return decode_piece(l, err);
    }
    return VLM_OK;
}

void vlm_local_run_step(vlm_local *l)
{
    vlm_error error = {0};
    vlm_status status = VLM_OK;
    if (l->run.job->cancelled) {
        add_done(l, VLM_FINISH_CANCELLED, true);
        vlm_local_run_end(l);
        return;
    }
    const uint64_t start = vlm_clock_ns();
    l->run.mark_ns = start;
    do {
        status = run_piece(l, &error);
    } while (status == VLM_OK && l->n_events == 0 && l->run.mark_ns - start < l->step_ns);
    if (status != VLM_OK) fail_run(l, &error);
}
