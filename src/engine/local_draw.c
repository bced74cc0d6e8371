/* local_draw.c - from the logits of a batch to tokens, text and events. */
#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "engine/local.h"
#include "engine/logprobs.h"

vlm_event *vlm_local_add_event(vlm_local *l, vlm_event_type type, const vlm_local_job *j,
                               uint32_t choice)
{
    assert(l->n_events < VLM_LOCAL_EVENTS_MAX);
    vlm_event *event = &l->events[l->n_events++];
    *event = (vlm_event){.type = type, .request_id = j->id, .choice = choice};
    return event;
}

vlm_usage vlm_local_prompt_usage(const vlm_local_job *j)
{
    return (vlm_usage){
        .n_prompt = (uint32_t)j->prompt.ids.len,
        .n_image = j->prompt.n_images * j->n_image_rows,
        .n_cached = j->n_cached,
    };
}

static double above_zero(double x)
{
    return x > 0.0 ? x : 0.0;
}

void vlm_local_add_done(vlm_local *l, const vlm_seq *seq, vlm_finish finish, bool last)
{
    const vlm_local_job *j = seq->job;
    const uint64_t first_ns = j->first_ns != 0 ? j->first_ns : l->now_ns;
    vlm_event *event = vlm_local_add_event(l, VLM_EVENT_DONE, j, seq->choice);
    event->finish = finish;
    event->last = last;
    event->usage = vlm_local_prompt_usage(j);
    event->usage.n_completion = seq->n_answer;
    event->timings = (vlm_timings){
        .queue_s = vlm_clock_seconds(j->submitted_ns, j->started_ns),
        .image_s = j->image_s,
        .prefill_s = above_zero(vlm_clock_seconds(j->started_ns, first_ns) - j->image_prefill_s),
        .decode_s = vlm_clock_seconds(first_ns, l->now_ns),
    };
}

/* Nothing of a job that goes may be read again, but by the batch in hand. */
void vlm_local_end_job(vlm_local *l, vlm_local_job *j)
{
    for (uint32_t c = 0; c < j->n_choices; c++) {
        vlm_seq_release(l, &j->seqs[c]);
        j->seqs[c].state = VLM_SEQ_ENDED;
    }
    vlm_local_pictures_release(l, j, true);
    vlm_local_encode_forget(l, j);
    vlm_local_batch_forget(l, j);
    vlm_local_list_remove(&l->running, j);
    vlm_fair_remove(l->fair, &j->fair);
    if (j->n_in_batch > 0)
        vlm_local_list_add(&l->dead, j);
    else
        vlm_local_job_free(&l->base, (vlm_job *)j);
}

static void fail_job(vlm_local *l, vlm_local_job *j, const vlm_error *error)
{
    vlm_local_add_event(l, VLM_EVENT_ERROR, j, 0)->error = *error;
    vlm_local_end_job(l, j);
}

/* True when the request has ended with it. */
static bool finish_choice(vlm_local *l, vlm_seq *seq, vlm_finish finish)
{
    vlm_local_job *j = seq->job;
    const bool last = ++j->n_ended == j->n_choices;
    vlm_local_add_done(l, seq, finish, last);
    vlm_seq_release(l, seq);
    seq->state = VLM_SEQ_ENDED;
    if (last) vlm_local_end_job(l, j);
    return last;
}

static bool is_end(const vlm_local *l, const vlm_local_job *j, uint32_t id)
{
    const vlm_config *c = vlm_model_config(l->model);
    if (j->ignore_eos) return false;
    for (uint32_t i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] == id) return true;
    return false;
}

/* Fill p for a token from the logits as the model gave them. */
static vlm_status find_logprobs(vlm_local *l, const vlm_local_job *j, const float *logits,
                                uint32_t id, vlm_local_logprobs *p, vlm_error *err)
{
    const uint32_t n_vocab = vlm_model_config(l->model)->text.vocab_size;
    const vlm_log_softmax softmax = vlm_log_softmax_of(logits, n_vocab);
    uint32_t ids[VLM_REQUEST_TOP_LOGPROBS_MAX];
    const uint32_t n = vlm_logprobs_top(logits, n_vocab, j->n_top_logprobs, ids);
    vlm_buf *bytes = &l->token_bytes;
    size_t begin = bytes->len;
    VLM_TRY(vlm_detok_token_bytes(l->token_detok, id, bytes, err));
    p->token = (vlm_token_logprob){.logprob = vlm_logprob(softmax, logits[id]),
                                   .bytes = {bytes->data + begin, bytes->len - begin},
                                   .top = p->top,
                                   .n_top = n};
    for (uint32_t i = 0; i < n; i++) {
        begin = bytes->len;
        VLM_TRY(vlm_detok_token_bytes(l->token_detok, ids[i], bytes, err));
        p->top[i] = (vlm_top_logprob){.id = ids[i],
                                      .logprob = vlm_logprob(softmax, logits[ids[i]]),
                                      .bytes = {bytes->data + begin, bytes->len - begin}};
    }
    return VLM_OK;
}

/* The text that a token makes certain, at the end of l->text; at the end of a choice all that is
 * left. */
static vlm_status take_text(vlm_local *l, vlm_seq *seq, const uint32_t *id, bool ends,
                            vlm_bytes *out, vlm_error *err)
{
    const size_t begin = l->text.len;
    vlm_buf_clear(&l->piece);
    if (id != NULL) VLM_TRY(vlm_detok_push(seq->detok, *id, &l->piece, err));
    if (ends) VLM_TRY(vlm_detok_flush(seq->detok, &l->piece, err));
    VLM_TRY(vlm_stop_push(&seq->stop, vlm_buf_bytes(&l->piece), &l->text, err));
    if (ends) VLM_TRY(vlm_stop_flush(&seq->stop, &l->text, err));
    *out = (vlm_bytes){.ptr = l->text.data + begin, .len = l->text.len - begin};
    return VLM_OK;
}

static uint32_t sample(vlm_local *l, const vlm_seq *seq, const float *logits)
{
    const vlm_local_job *j = seq->job;
    const size_t n_bytes = vlm_model_config(l->model)->text.vocab_size * sizeof *logits;
    vlm_sampling sampling = j->sampling;
    sampling.choice = seq->choice;
    const vlm_token_history history = {.prompt = j->prompt.ids.data,
                                       .n_prompt = j->prompt.ids.len,
                                       .answer = seq->answer,
                                       .n_answer = seq->n_answer};
    memcpy(l->logits, logits, n_bytes);
    return vlm_sampler_next(l->sampler, &sampling, &history, l->logits, vlm_seq_n_tokens(seq));
}

/* Draw a token from logits [n_vocab] and say what comes of it; *gone when the request ended. */
static vlm_status draw(vlm_local *l, vlm_seq *seq, const float *logits, bool *gone, vlm_error *err)
{
    const vlm_local_job *j = seq->job;
    vlm_bytes text;
    const uint32_t id = sample(l, seq, logits);
    seq->answer[seq->n_answer++] = id;
    if (is_end(l, j, id)) {
        VLM_TRY(take_text(l, seq, NULL, true, &text, err));
        if (text.len > 0) vlm_local_add_event(l, VLM_EVENT_TEXT, j, seq->choice)->text = text;
        *gone = finish_choice(l, seq, VLM_FINISH_STOP);
        return VLM_OK;
    }

    const bool full = seq->n_answer == j->max_tokens;
    vlm_local_logprobs *p = &l->logprobs[l->n_events];
    VLM_TRY(take_text(l, seq, &id, full, &text, err));
    if (j->logprobs) VLM_TRY(find_logprobs(l, j, logits, id, p, err));
    vlm_event *event = vlm_local_add_event(l, VLM_EVENT_TEXT, j, seq->choice);
    event->text = text;
    event->has_token = true;
    event->token_id = id;
    event->logprob = j->logprobs ? &p->token : NULL;
    if (seq->stop.hit || full)
        *gone = finish_choice(l, seq, seq->stop.hit ? VLM_FINISH_STOP : VLM_FINISH_LENGTH);
    return VLM_OK;
}

/* A sequence has come to its end; with the prompt's all choices begin. */
static void draw_all(vlm_local *l, vlm_seq *seq, const float *logits)
{
    vlm_local_job *j = seq->job;
    bool begins[VLM_REQUEST_CHOICES_MAX] = {false}, gone = false;
    vlm_error error;
    vlm_status status = VLM_OK;
    if (j->first_ns == 0) j->first_ns = l->now_ns;
    begins[seq->choice] = true;
    for (uint32_t c = 0; c < j->n_choices; c++) {
        if (j->seqs[c].state != VLM_SEQ_FORKS) continue;
        vlm_seq_fork(l, &j->seqs[c], seq);
        begins[c] = true;
    }
    const uint32_t n_choices = j->n_choices;
    for (uint32_t c = 0; c < n_choices && status == VLM_OK && !gone; c++)
        if (begins[c]) status = draw(l, &j->seqs[c], logits, &gone, &error);
    if (status != VLM_OK && !gone) fail_job(l, j, &error);
}

/* Logits for the next sequences that have come to their end; false when there are none left. */
static bool next_logits(vlm_local *l)
{
    vlm_local_batch *b = &l->batch;
    const vlm_text_config *text = &vlm_model_config(l->model)->text;
    const size_t hidden = text->hidden_size;
    b->n_logits = b->next_logits = 0;
    for (; b->next_draw < b->n_seqs && b->n_logits < VLM_LOCAL_LOGIT_ROWS; b->next_draw++) {
        const vlm_seq *seq = b->seqs[b->next_draw];
        const vlm_seq_rows *rows = &b->rows[b->next_draw];
        if (seq == NULL || seq->n_computed < vlm_seq_n_tokens(seq)) continue;
        l->backend->ops->copy(l->backend, l->last_rows + b->n_logits * hidden,
                              l->x + (rows->row + rows->n_rows - 1) * hidden,
                              hidden * sizeof *l->x);
        b->logits_of[b->n_logits++] = b->next_draw;
    }
    if (b->n_logits == 0) return false;
    vlm_model_logits(l->model, l->logits_device, l->last_rows, b->n_logits);
    l->backend->ops->download(l->backend, l->logits_rows, l->logits_device,
                              (size_t)b->n_logits * text->vocab_size * sizeof *l->logits_rows);
    return true;
}

/* For all that one sequence can say; or the rest of the batch waits for the next step. */
static bool has_room(const vlm_local *l)
{
    return l->n_events + VLM_LOCAL_EVENTS_OF_DRAW <= VLM_LOCAL_EVENTS_MAX &&
           l->text.len <= VLM_LOCAL_TEXT_LEN_MAX && l->token_bytes.len <= VLM_LOCAL_TEXT_LEN_MAX;
}

bool vlm_local_draw(vlm_local *l)
{
    vlm_local_batch *b = &l->batch;
    if (b->next_logits == b->n_logits && !next_logits(l)) return true;
    l->now_ns = vlm_clock_ns();
    for (; b->next_logits < b->n_logits && has_room(l); b->next_logits++) {
        vlm_seq *seq = b->seqs[b->logits_of[b->next_logits]];
        const size_t n_vocab = vlm_model_config(l->model)->text.vocab_size;
        if (seq != NULL) draw_all(l, seq, l->logits_rows + b->next_logits * n_vocab);
    }
    return b->next_logits == b->n_logits && b->next_draw == b->n_seqs;
}
