/* local_plan.c - what to compute next: who is let in, whose turn it is to wait, and which rows make
 * the next batch.  Sequences that decode come first, so that running answers stay smooth; then
 * prompts, the tenant that was served least first, in chunks. */
#include "base/clock.h"
#include "engine/local.h"

enum {
    /* Rows of a batch when answers are running: a prompt's chunk makes them wait no longer than
     * some steps. */
    ROWS_BESIDE_ANSWERS = 64,
    CHUNK_LEAST = 16,
};

static uint32_t n_left(const vlm_seq *seq)
{
    return vlm_seq_n_tokens(seq) - seq->n_computed;
}

/* It needs one row to draw its next token. */
static bool decodes(const vlm_seq *seq)
{
    return seq->state == VLM_SEQ_RUNS && !seq->job->paused && seq->n_answer > 0 && n_left(seq) == 1;
}

static bool prefills(const vlm_seq *seq)
{
    return seq->state == VLM_SEQ_RUNS && !seq->job->paused && !decodes(seq);
}

/* The sequences of running requests, oldest first: from NULL on, NULL at the end. */
static vlm_seq *next_seq(const vlm_local *l, const vlm_seq *seq)
{
    vlm_local_job *j = seq == NULL ? l->running.first : seq->job;
    uint32_t c = seq == NULL ? 0 : seq->choice + 1;
    if (j != NULL && c == j->n_choices) {
        j = j->next;
        c = 0;
    }
    return j == NULL ? NULL : &j->seqs[c];
}

static uint32_t n_runs(const vlm_local *l)
{
    uint32_t n = 0;
    for (const vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;) n += s->state == VLM_SEQ_RUNS;
    return n;
}

/* Put a sequence off: it is computed anew when there is room, from what is still in the cache. */
static void put_off(vlm_local *l, vlm_seq *seq)
{
    vlm_seq_release(l, seq);
    seq->state = VLM_SEQ_WAITS;
    l->stats.n_preemptions++;
    vlm_local_pictures_release(l, seq->job, false);
}

static vlm_seq *youngest(const vlm_local *l)
{
    vlm_seq *found = NULL;
    for (vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;)
        if (s->state == VLM_SEQ_RUNS) found = s;
    return found;
}

/* Every sequence that decodes has a place for its next token; the youngest go without. */
static void make_room(vlm_local *l)
{
    for (vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;) {
        if (!decodes(s)) continue;
        while (!vlm_seq_make_room(l, s)) {
            vlm_seq *victim = youngest(l);
            put_off(l, victim);
            if (victim == s) break;
        }
    }
}

/* Those that were put off go on before anybody new begins.  A place for the next block of each that
 * runs is left, so that the newcomer is not put off at once.  False when somebody must wait. */
static bool go_on(vlm_local *l, uint32_t *n_running)
{
    for (vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;) {
        if (s->state != VLM_SEQ_WAITS || s->job->paused) continue;
        if (!vlm_seq_start(l, s, *n_running)) return false;
        ++*n_running;
    }
    return true;
}

static void let_in(vlm_local *l, vlm_local_job *j)
{
    vlm_fair_start(l->fair, &j->fair);
    vlm_local_list_add(&l->running, j);
    j->started = true;
    j->started_ns = l->now_ns;
    l->stats.n_prefix_queries += j->prompt.ids.len;
    vlm_event *event = vlm_local_add_event(l, VLM_EVENT_STARTED, j, 0);
    event->usage = vlm_local_prompt_usage(j);
}

static void admit(vlm_local *l)
{
    uint32_t n_running = n_runs(l);
    if (!go_on(l, &n_running)) return;
    while (l->running.n < l->running_max && l->n_events < VLM_LOCAL_EVENTS_MAX) {
        vlm_fair_item *item = vlm_fair_next(l->fair, l->tenant_running_max);
        if (item == NULL) return;
        vlm_local_job *j = (vlm_local_job *)item;
        if (!vlm_seq_start(l, &j->seqs[0], n_running)) return;
        n_running++;
        let_in(l, j);
    }
}

static void add_rows(vlm_local *l, vlm_seq *seq, uint32_t n)
{
    vlm_local_batch *b = &l->batch;
    b->rows[b->n_seqs] = (vlm_seq_rows){
        .row = b->n_rows, .n_rows = n, .n_past = seq->n_computed, .blocks = seq->blocks};
    b->seqs[b->n_seqs++] = seq;
    b->n_rows += n;
    seq->planned = true;
}

/* At most n_max, in turn when there are more. */
static void add_decoding(vlm_local *l, uint32_t n_max)
{
    uint32_t n_ready = 0;
    for (const vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;) n_ready += decodes(s);
    const uint32_t first = n_ready > n_max ? l->rotation % n_ready : 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        uint32_t idx = 0;
        for (vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;) {
            if (!decodes(s) || (idx++ < first) != (pass == 1)) continue;
            if (l->batch.n_rows < n_max) add_rows(l, s, 1);
        }
    }
    l->rotation = first + n_max;
}

/* How many rows of a prompt can be computed now: up to the first picture that is not there. */
static uint32_t rows_at_hand(vlm_local *l, vlm_seq *seq, uint32_t n_max)
{
    vlm_local_job *j = seq->job;
    vlm_seq_find_more(l, seq);
    const uint32_t n_fit = vlm_model_n_rows(l->model, seq->n_computed);
    uint32_t n = n_left(seq);
    if (n > n_max) n = n_max;
    if (n > n_fit) n = n_fit;
    for (uint32_t i = 0; i < j->prompt.n_images; i++) {
        const uint32_t start = j->image_starts[i];
        if (start >= seq->n_computed + n) break;
        if (start + j->n_image_rows <= seq->n_computed) continue;
        if (vlm_local_picture_hold(l, j, i)) continue;
        return start > seq->n_computed ? start - seq->n_computed : 0;
    }
    return n;
}

static vlm_seq *next_prompt(const vlm_local *l)
{
    vlm_seq *best = NULL;
    for (vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;) {
        if (!prefills(s) || s->planned) continue;
        if (best == NULL || vlm_fair_spent(&s->job->fair) < vlm_fair_spent(&best->job->fair))
            best = s;
    }
    return best;
}

static void add_prompts(vlm_local *l, uint32_t n_max)
{
    vlm_seq *seq;
    while (n_max > 0 && (seq = next_prompt(l)) != NULL) {
        const uint32_t n = rows_at_hand(l, seq, n_max);
        seq->planned = true;
        if (n == 0) continue;
        add_rows(l, seq, n);
        n_max -= n;
    }
}

/* Rows of prompts beside n_decoding others. */
static uint32_t chunk_rows(const vlm_local *l, uint32_t n_decoding)
{
    uint32_t n = l->n_rows_max;
    if (l->chunk_max > 0)
        n = l->chunk_max;
    else if (n_decoding > ROWS_BESIDE_ANSWERS - CHUNK_LEAST)
        n = CHUNK_LEAST;
    else if (n_decoding > 0)
        n = ROWS_BESIDE_ANSWERS - n_decoding;
    const uint32_t n_room = l->n_rows_max - n_decoding;
    return n < n_room ? n : n_room;
}

static void plan_rows(vlm_local *l)
{
    bool has_prompts = false;
    for (vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;) {
        s->planned = false;
        has_prompts = has_prompts || prefills(s);
    }
    const uint32_t n_reserved = has_prompts ? l->n_rows_max / 4 : 0;
    add_decoding(l, l->n_rows_max - n_reserved);
    const uint32_t n_decoding = l->batch.n_rows;
    if (has_prompts) add_prompts(l, chunk_rows(l, n_decoding));
    /* Answers that run wait for one picture at most. */
    vlm_local_encode_plan(l, n_decoding > 0 ? 1 : VLM_LOCAL_ENCODE_MAX);
}

/* Whether somebody would go on or begin if there were blocks. */
static bool waits_for_blocks(const vlm_local *l)
{
    for (const vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;)
        if (s->state == VLM_SEQ_WAITS && !s->job->paused) return true;
    return l->running.n < l->running_max && vlm_fair_next(l->fair, l->tenant_running_max) != NULL;
}

static vlm_seq *youngest_paused(const vlm_local *l)
{
    vlm_seq *found = NULL;
    for (vlm_seq *s = NULL; (s = next_seq(l, s)) != NULL;)
        if (s->state == VLM_SEQ_RUNS && s->job->paused) found = s;
    return found;
}

static bool plan_once(vlm_local *l)
{
    admit(l);
    make_room(l);
    plan_rows(l);
    return l->batch.n_seqs > 0 || l->encode.n > 0;
}

void vlm_local_plan(vlm_local *l)
{
    if (plan_once(l)) return;
    /* Nobody can go on while all hold pictures and need others.  Given back, they are still there
     * for the first who asks. */
    for (vlm_local_job *j = l->running.first; j != NULL; j = j->next)
        vlm_local_pictures_release(l, j, true);
    plan_rows(l);
    /* Nor while those whose readers are slow hold the blocks. */
    vlm_seq *victim;
    while (l->batch.n_seqs == 0 && l->encode.n == 0 && waits_for_blocks(l) &&
           (victim = youngest_paused(l)) != NULL) {
        put_off(l, victim);
        (void)plan_once(l);
    }
}
