#include "worker/mock.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/stop.h"
#include "worker/mock_text.h"

enum {
    IMAGE_TOKENS = 16,
    CTX_DEFAULT = 1 << 20,
    RUNNING_DEFAULT = 64,
    WAITING_DEFAULT = 256,
    TEXT_LEN_MAX = 64 << 20,
    CRASH_DELAY_MS = 30, /* so that the first token is on its way */
};

typedef struct mock_choice {
    size_t next;     /* byte of the answer */
    uint32_t n_done; /* words */
    vlm_stop stop;
    bool over, flushed;
} mock_choice;

typedef struct mock_job {
    struct mock_job *prev, *next;
    uint64_t id;
    vlm_buf answer;
    vlm_mock_faults faults;
    uint32_t n_prompt, n_image, n_cut; /* tokens; words of the answer that are given */
    uint32_t n_choices, choice, n_top;
    bool logprobs, ends_by_length;
    char *stop_text;
    vlm_bytes stop_strings[VLM_STOP_STRINGS_MAX];
    size_t n_stop;
    mock_choice choices[VLM_REQUEST_CHOICES_MAX];
    bool started, cancelled, paused, answered;
    uint64_t submitted_ns, started_ns, first_ns, due_ns;
} mock_job;

typedef struct mock_list {
    mock_job *first, *last;
    uint32_t n;
} mock_list;

typedef struct mock {
    vlm_engine base;
    vlm_mock_options options;
    mock_list running, waiting;
    mock_job *cursor; /* whose turn it is to emit */
    mock_job *ended;  /* its last event is being read */
    uint64_t last_id;
    vlm_buf text; /* of the event handed out last */
    vlm_token_logprob logprob;
    vlm_top_logprob top[VLM_REQUEST_TOP_LOGPROBS_MAX];
    vlm_mock_vocab *vocab;
} mock;

static mock *self(vlm_engine *e)
{
    return (mock *)e;
}

static void list_add(mock_list *list, mock_job *j)
{
    j->next = NULL;
    j->prev = list->last;
    if (list->last != NULL)
        list->last->next = j;
    else
        list->first = j;
    list->last = j;
    list->n++;
}

static void list_remove(mock_list *list, mock_job *j)
{
    if (j->prev != NULL)
        j->prev->next = j->next;
    else
        list->first = j->next;
    if (j->next != NULL)
        j->next->prev = j->prev;
    else
        list->last = j->prev;
    list->n--;
}

static void free_job(mock_job *j)
{
    if (j == NULL) return;
    for (uint32_t i = 0; i < j->n_choices; i++) vlm_stop_fini(&j->choices[i].stop);
    vlm_buf_fini(&j->answer);
    free(j->stop_text);
    free(j);
}

static void mock_job_free(vlm_engine *e, vlm_job *job)
{
    (void)e;
    free_job((mock_job *)job);
}

static vlm_status mock_pictures_new(vlm_engine *e, uint32_t n_max, vlm_pictures **out,
                                    vlm_error *err)
{
    (void)e;
    *out = NULL;
    if (n_max > VLM_REQUEST_IMAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "at most %d images", VLM_REQUEST_IMAGES_MAX);
    vlm_mock_pictures *set = calloc(1, sizeof *set);
    if (set == NULL) return vlm_fail_memory(err, "pictures");
    set->n_max = n_max;
    *out = (vlm_pictures *)set;
    return VLM_OK;
}

static vlm_status mock_pictures_add(vlm_engine *e, vlm_pictures *set, const vlm_image *image,
                                    vlm_error *err)
{
    (void)e;
    return vlm_mock_add_picture((vlm_mock_pictures *)set, image, err);
}

/* A job has its answer from the start and so needs no reference. */
static void mock_pictures_free(vlm_engine *e, vlm_pictures *set)
{
    (void)e;
    free(set);
}

static vlm_status copy_stop(mock_job *j, const vlm_request *r, vlm_error *err)
{
    size_t n_bytes = 0;
    for (size_t i = 0; i < r->n_stop; i++) n_bytes += r->stop[i].len;
    j->stop_text = vlm_calloc(n_bytes, 1);
    if (j->stop_text == NULL) return vlm_fail_memory(err, "request");
    char *next = j->stop_text;
    for (size_t i = 0; i < r->n_stop && i < VLM_STOP_STRINGS_MAX; i++) {
        memcpy(next, r->stop[i].ptr, r->stop[i].len);
        j->stop_strings[i] = (vlm_bytes){.ptr = next, .len = r->stop[i].len};
        next += r->stop[i].len;
    }
    j->n_stop = r->n_stop;
    return VLM_OK;
}

static vlm_status fill_job(mock *m, mock_job *j, const vlm_request *r, vlm_error *err)
{
    const uint32_t n_ctx = m->options.n_ctx;
    const uint32_t n_choices = r->n_choices == 0 ? 1 : r->n_choices;
    if (r->raw_prompt != NULL || r->n_messages == 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: there are none");
    if (n_choices > VLM_REQUEST_CHOICES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "n must be at most %d", VLM_REQUEST_CHOICES_MAX);
    if (r->n_top_logprobs > VLM_REQUEST_TOP_LOGPROBS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "top_logprobs must be at most %d",
                        VLM_REQUEST_TOP_LOGPROBS_MAX);
    VLM_TRY(vlm_sampling_check(&r->sampling, VLM_MOCK_VOCAB_SIZE, err));
    vlm_stop check;
    const vlm_status status = vlm_stop_init(&check, r->stop, r->n_stop, err);
    vlm_stop_fini(&check);
    if (status != VLM_OK) return status;
    VLM_TRY(copy_stop(j, r, err));

    uint64_t n_words = 0, n_images = 0;
    vlm_mock_count(r, &n_words, &n_images);
    if (n_images > VLM_REQUEST_IMAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "at most %d images", VLM_REQUEST_IMAGES_MAX);
    const uint32_t n_given = r->pictures == NULL ? 0 : ((const vlm_mock_pictures *)r->pictures)->n;
    if (n_images != n_given)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "messages: %" PRIu64 " picture parts for %" PRIu32 " pictures", n_images,
                        n_given);
    const uint64_t n_prompt = n_words + n_images * IMAGE_TOKENS;
    if (n_prompt >= n_ctx)
        return vlm_fail(err, VLM_OUT_OF_RANGE,
                        "the prompt has %" PRIu64 " tokens; the context holds %" PRIu32, n_prompt,
                        n_ctx);
    j->n_prompt = (uint32_t)n_prompt;
    j->n_image = (uint32_t)n_images * IMAGE_TOKENS;
    VLM_TRY(vlm_mock_answer(r, m->options.faults, &j->faults, &j->answer, err));
    const uint32_t n_answer = vlm_mock_n_words(vlm_buf_bytes(&j->answer));
    uint32_t n_max = n_ctx - j->n_prompt;
    if (r->max_tokens > 0 && r->max_tokens < n_max) n_max = r->max_tokens;
    j->ends_by_length = n_answer > n_max;
    j->n_cut = j->ends_by_length ? n_max : n_answer;
    j->n_choices = n_choices;
    for (uint32_t i = 0; i < n_choices; i++)
        VLM_TRY(vlm_stop_init(&j->choices[i].stop, j->stop_strings, j->n_stop, err));
    j->logprobs = r->logprobs;
    j->n_top = r->n_top_logprobs;
    return VLM_OK;
}

static vlm_status mock_prepare(vlm_engine *e, const vlm_request *request, vlm_job **out,
                               vlm_error *err)
{
    *out = NULL;
    mock_job *j = calloc(1, sizeof *j);
    if (j == NULL) return vlm_fail_memory(err, "request");
    vlm_buf_init(&j->answer, TEXT_LEN_MAX);
    const vlm_status status = fill_job(self(e), j, request, err);
    if (status != VLM_OK) {
        free_job(j);
        return status;
    }
    *out = (vlm_job *)j;
    return VLM_OK;
}

static vlm_status mock_submit(vlm_engine *e, vlm_job *job, uint64_t *id, vlm_error *err)
{
    mock *m = self(e);
    mock_job *j = (mock_job *)job;
    if (m->waiting.n + m->running.n >= m->options.waiting_max + m->options.running_max)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%" PRIu32 " requests are waiting already",
                        m->waiting.n);
    *id = j->id = ++m->last_id;
    j->submitted_ns = vlm_clock_ns();
    list_add(&m->waiting, j);
    return VLM_OK;
}

static mock_job *find_job(mock *m, uint64_t id)
{
    for (mock_job *j = m->running.first; j != NULL; j = j->next)
        if (j->id == id) return j;
    for (mock_job *j = m->waiting.first; j != NULL; j = j->next)
        if (j->id == id) return j;
    return NULL;
}

static void mock_cancel(vlm_engine *e, uint64_t id)
{
    mock_job *j = find_job(self(e), id);
    if (j != NULL) j->cancelled = true;
}

static void mock_pause(vlm_engine *e, uint64_t id, bool paused)
{
    mock_job *j = find_job(self(e), id);
    if (j != NULL) j->paused = paused;
}

static bool is_due(const mock_job *j, uint64_t now)
{
    return j->cancelled || (!j->paused && j->due_ns <= now);
}

/* Bring in those that wait, as many as may run; a cancelled one needs no place. */
static void admit(mock *m, uint64_t now)
{
    mock_job *next;
    for (mock_job *j = m->waiting.first; j != NULL; j = next) {
        next = j->next;
        if (m->running.n >= m->options.running_max && !j->cancelled) continue;
        list_remove(&m->waiting, j);
        j->started_ns = j->due_ns = now;
        list_add(&m->running, j);
    }
}

static void drop_ended(mock *m)
{
    if (m->ended == NULL) return;
    list_remove(&m->running, m->ended);
    free_job(m->ended);
    m->ended = NULL;
}

static bool mock_step(vlm_engine *e)
{
    mock *m = self(e);
    const uint64_t now = vlm_clock_ns();
    drop_ended(m);
    if (m->cursor != NULL) return true;
    admit(m, now);
    for (mock_job *j = m->running.first; j != NULL; j = j->next) {
        if (!is_due(j, now)) continue;
        m->cursor = j;
        return true;
    }
    return false;
}

static uint64_t mock_wake_ns(const vlm_engine *e)
{
    const mock *m = (const mock *)e;
    uint64_t wake = UINT64_MAX;
    for (const mock_job *j = m->running.first; j != NULL; j = j->next)
        if (!j->paused && j->due_ns < wake) wake = j->due_ns;
    return wake;
}

static vlm_usage usage_of(const mock_job *j, uint32_t n_completion)
{
    return (vlm_usage){
        .n_prompt = j->n_prompt, .n_completion = n_completion, .n_image = j->n_image};
}

static void end_job(mock *m, mock_job *j)
{
    m->ended = j;
    m->cursor = j->next;
}

static void start_job(mock *m, mock_job *j, uint64_t now, vlm_event *out)
{
    j->started = true;
    j->due_ns = now + (uint64_t)m->options.prefill_ms * 1000000;
    if (j->faults.hang) j->due_ns = UINT64_MAX;
    *out = (vlm_event){.type = VLM_EVENT_STARTED, .request_id = j->id, .usage = usage_of(j, 0)};
}

static void fill_logprob(mock *m, const mock_job *j, vlm_bytes word)
{
    for (uint32_t i = 0; i < j->n_top; i++)
        m->top[i] =
            (vlm_top_logprob){.id = i, .logprob = i == 0 ? 0.0f : -20.0f - (float)i, .bytes = word};
    m->logprob = (vlm_token_logprob){.bytes = word, .top = m->top, .n_top = j->n_top};
}

/* The next word of the choice whose turn it is. */
static void emit_word(mock *m, mock_job *j, uint64_t now, vlm_event *out)
{
    mock_choice *c = &j->choices[j->choice];
    const vlm_bytes answer = vlm_buf_bytes(&j->answer);
    const vlm_bytes word = vlm_mock_word(answer, &c->next);
    vlm_buf_clear(&m->text);
    c->n_done++;
    vlm_error error;
    *out = (vlm_event){.type = VLM_EVENT_TEXT,
                       .request_id = j->id,
                       .choice = j->choice,
                       .has_token = true,
                       .token_id = vlm_mock_word_id(word)};
    if (vlm_stop_push(&c->stop, word, &m->text, &error) != VLM_OK) {
        *out = (vlm_event){.type = VLM_EVENT_ERROR, .request_id = j->id, .error = error};
        end_job(m, j);
        return;
    }
    out->text = vlm_buf_bytes(&m->text);
    if (j->logprobs) {
        fill_logprob(m, j, word);
        out->logprob = &m->logprob;
    }
    c->over = c->stop.hit || c->n_done == j->n_cut;
    if (j->first_ns == 0) j->first_ns = now;
    j->answered = true;
}

/* The choice has ended: the text held back, then DONE. */
static void emit_end(mock *m, mock_job *j, uint64_t now, vlm_event *out)
{
    mock_choice *c = &j->choices[j->choice];
    if (!c->flushed) {
        c->flushed = true;
        vlm_buf_clear(&m->text);
        if (vlm_stop_flush(&c->stop, &m->text, NULL) == VLM_OK && m->text.len > 0) {
            *out = (vlm_event){.type = VLM_EVENT_TEXT,
                               .request_id = j->id,
                               .choice = j->choice,
                               .text = vlm_buf_bytes(&m->text)};
            return;
        }
    }
    const uint64_t first = j->first_ns == 0 ? now : j->first_ns;
    *out = (vlm_event){
        .type = VLM_EVENT_DONE,
        .request_id = j->id,
        .choice = j->choice,
        .finish = !c->stop.hit && j->ends_by_length ? VLM_FINISH_LENGTH : VLM_FINISH_STOP,
        .usage = usage_of(j, c->n_done),
        .timings = {.queue_s = vlm_clock_seconds(j->submitted_ns, j->started_ns),
                    .prefill_s = vlm_clock_seconds(j->started_ns, first),
                    .decode_s = vlm_clock_seconds(first, now)},
    };
    c->next = SIZE_MAX;
}

/* The choice that goes on after this one, round and round; n_choices when all have ended. */
static uint32_t next_choice(const mock_job *j)
{
    for (uint32_t i = 1; i <= j->n_choices; i++) {
        const uint32_t c = (j->choice + i) % j->n_choices;
        if (j->choices[c].next != SIZE_MAX) return c;
    }
    return j->n_choices;
}

static void run_faults(mock_job *j)
{
    if (j->faults.crash && j->answered) (void)raise(SIGSEGV);
    while (j->faults.stall) (void)pause();
}

/* The event of the job at the cursor; moves the cursor when its turn is over. */
static void emit(mock *m, mock_job *j, uint64_t now, vlm_event *out)
{
    if (j->cancelled) {
        *out = (vlm_event){.type = VLM_EVENT_DONE,
                           .request_id = j->id,
                           .finish = VLM_FINISH_CANCELLED,
                           .last = true,
                           .usage = usage_of(j, j->choices[0].n_done)};
        end_job(m, j);
        return;
    }
    if (!j->started) {
        start_job(m, j, now, out);
        m->cursor = j->next;
        return;
    }
    run_faults(j);
    if (j->faults.error != VLM_OK) {
        *out = (vlm_event){.type = VLM_EVENT_ERROR, .request_id = j->id};
        (void)vlm_fail(&out->error, j->faults.error, "the mock engine was asked to fail");
        end_job(m, j);
        return;
    }
    mock_choice *c = &j->choices[j->choice];
    if (!c->over && c->n_done < j->n_cut) {
        emit_word(m, j, now, out);
        if (m->ended == j || c->over) return; /* its end follows at once */
    } else {
        emit_end(m, j, now, out);
        if (out->type != VLM_EVENT_DONE) return;
    }
    const uint32_t next = next_choice(j);
    if (next == j->n_choices) {
        out->last = true;
        end_job(m, j);
        return;
    }
    if (next <= j->choice || j->n_choices == 1) {
        uint64_t ms = j->faults.has_slow ? j->faults.slow_ms : m->options.token_ms;
        if (j->faults.crash) ms += CRASH_DELAY_MS;
        j->due_ns = now + ms * 1000000;
        m->cursor = j->next;
    }
    j->choice = next;
}

static bool mock_next_event(vlm_engine *e, vlm_event *out)
{
    mock *m = self(e);
    const uint64_t now = vlm_clock_ns();
    drop_ended(m);
    while (m->cursor != NULL && !is_due(m->cursor, now)) m->cursor = m->cursor->next;
    if (m->cursor == NULL) return false;
    emit(m, m->cursor, now, out);
    return true;
}

static void mock_progress(const vlm_engine *e, vlm_engine_progress *out)
{
    (void)e;
    *out = (vlm_engine_progress){0};
}

static void mock_stats(const vlm_engine *e, vlm_engine_stats *out)
{
    const mock *m = (const mock *)e;
    *out = (vlm_engine_stats){.n_running = m->running.n, .n_waiting = m->waiting.n};
}

static void mock_info(const vlm_engine *e, vlm_engine_info *out)
{
    const mock *m = (const mock *)e;
    *out = (vlm_engine_info){
        .model_type = "mock",
        .device = "none",
        .cpu_level = "none",
        .tokenizer = "words",
        .chat_template = "none",
        .n_ctx = m->options.n_ctx,
        .n_image_tokens = IMAGE_TOKENS,
        .n_vocab = VLM_MOCK_VOCAB_SIZE,
        .n_threads = 1,
        .sampling_default = vlm_sampling_default,
    };
}

static vlm_status mock_tokenize(vlm_engine *e, vlm_bytes text, bool add_special, bool plain,
                                uint32_t **ids, size_t *n, vlm_error *err)
{
    (void)add_special;
    (void)plain;
    return vlm_mock_tokenize(self(e)->vocab, text, ids, n, err);
}

static vlm_status mock_detokenize(vlm_engine *e, const uint32_t *ids, size_t n, bool keep_special,
                                  vlm_buf *out, vlm_error *err)
{
    (void)keep_special;
    return vlm_mock_detokenize(self(e)->vocab, ids, n, out, err);
}

static void mock_close(vlm_engine *e)
{
    if (e == NULL) return;
    mock *m = self(e);
    mock_list *lists[] = {&m->running, &m->waiting};
    for (size_t i = 0; i < 2; i++) {
        mock_job *next;
        for (mock_job *j = lists[i]->first; j != NULL; j = next) {
            next = j->next;
            free_job(j);
        }
    }
    vlm_mock_vocab_free(m->vocab);
    vlm_buf_fini(&m->text);
    free(m);
}

static const vlm_engine_ops mock_ops = {
    .close = mock_close,
    .pictures_new = mock_pictures_new,
    .pictures_add = mock_pictures_add,
    .pictures_free = mock_pictures_free,
    .prepare = mock_prepare,
    .job_free = mock_job_free,
    .submit = mock_submit,
    .cancel = mock_cancel,
    .step = mock_step,
    .wake_ns = mock_wake_ns,
    .pause = mock_pause,
    .progress = mock_progress,
    .next_event = mock_next_event,
    .info = mock_info,
    .stats = mock_stats,
    .tokenize = mock_tokenize,
    .detokenize = mock_detokenize,
};

vlm_status vlm_mock_open(const vlm_mock_options *options, vlm_engine **out, vlm_error *err)
{
    *out = NULL;
    mock *m = calloc(1, sizeof *m);
    if (m == NULL) return vlm_fail_memory(err, "engine");
    m->base.ops = &mock_ops;
    m->options = *options;
    if (m->options.n_ctx == 0) m->options.n_ctx = CTX_DEFAULT;
    if (m->options.running_max == 0) m->options.running_max = RUNNING_DEFAULT;
    if (m->options.waiting_max == 0) m->options.waiting_max = WAITING_DEFAULT;
    vlm_buf_init(&m->text, TEXT_LEN_MAX);
    const vlm_status status = vlm_mock_vocab_new(&m->vocab, err);
    if (status != VLM_OK) {
        mock_close(&m->base);
        return status;
    }
    *out = &m->base;
    return VLM_OK;
}
