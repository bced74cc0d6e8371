#include "cli/bench_requests.h"

#include <string.h>

#include "base/clock.h"
#include "cli/bench_pictures.h"

enum { PROMPT_LEN_MAX = 1 << 24 };

/* The prompt as LLaVA-1.5 knows it. */
static vlm_status talk_text(const vlm_bench_request *r, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "USER: ", err));
    for (size_t i = 0; i < r->n_images; i++) VLM_TRY(vlm_buf_append_str(out, "<image>\n", err));
    VLM_TRY(vlm_buf_append(out, r->prompt.ptr, r->prompt.len, err));
    VLM_TRY(vlm_buf_append_str(out, " ASSISTANT:", err));
    if (r->next.len == 0) return VLM_OK;
    VLM_TRY(vlm_buf_append_char(out, ' ', err));
    VLM_TRY(vlm_buf_append(out, r->answer.ptr, r->answer.len, err));
    VLM_TRY(vlm_buf_append_str(out, " USER: ", err));
    VLM_TRY(vlm_buf_append(out, r->next.ptr, r->next.len, err));
    return vlm_buf_append_str(out, " ASSISTANT:", err);
}

/* The engine's job of a request.  The only place that knows vlm_request. */
static vlm_status prepare(vlm_engine *e, const vlm_bench_request *r, vlm_job **job,
                          uint64_t *start_ns, vlm_error *err)
{
    vlm_image images[VLM_BENCH_IMAGES_MAX] = {{0}};
    vlm_part first[VLM_BENCH_IMAGES_MAX + 1];
    const vlm_part answer = {.text = r->answer}, next = {.text = r->next};
    vlm_buf text;
    vlm_buf_init(&text, PROMPT_LEN_MAX);
    vlm_status status = VLM_OK;
    for (size_t i = 0; status == VLM_OK && i < r->n_images; i++) {
        status = vlm_bench_picture(r->images[i], &images[i], err);
        first[i] = (vlm_part){.is_picture = true};
    }
    first[r->n_images] = (vlm_part){.text = r->prompt};
    if (status == VLM_OK && r->form == VLM_BENCH_TALK) status = talk_text(r, &text, err);
    const vlm_bytes whole = r->form == VLM_BENCH_WHOLE ? r->prompt : vlm_buf_bytes(&text);
    const vlm_message messages[3] = {
        {.role = vlm_bytes_of("user"), .parts = first, .n_parts = r->n_images + 1},
        {.role = vlm_bytes_of("assistant"), .parts = &answer, .n_parts = 1},
        {.role = vlm_bytes_of("user"), .parts = &next, .n_parts = 1}};
    vlm_request request = {.sampling = r->sampling,
                           .n_choices = r->n_choices,
                           .max_tokens = r->max_tokens,
                           .stop = r->stops,
                           .n_stop = r->n_stops,
                           .ignore_eos = r->ignore_eos,
                           .logprobs = r->logprobs,
                           .n_top_logprobs = r->n_top_logprobs,
                           .cache_salt = r->cache_salt,
                           .tenant = r->tenant};
    if (r->form == VLM_BENCH_CHAT) {
        request.messages = messages;
        request.n_messages = r->next.len > 0 ? 3 : 1;
    } else {
        request.raw_prompt = &whole;
    }
    vlm_pictures *pictures = NULL;
    *start_ns = vlm_clock_ns();
    if (status == VLM_OK)
        status = vlm_engine_pictures(e, images, (uint32_t)r->n_images, &pictures, err);
    request.pictures = pictures;
    if (status == VLM_OK) status = e->ops->prepare(e, &request, job, err);
    e->ops->pictures_free(e, pictures);
    for (size_t i = 0; i < r->n_images; i++) vlm_image_fini(&images[i]);
    vlm_buf_fini(&text);
    return status;
}

vlm_status vlm_bench_try(vlm_engine *engine, const vlm_bench_request *request, vlm_error *err)
{
    vlm_job *job;
    uint64_t start_ns;
    VLM_TRY(prepare(engine, request, &job, &start_ns, err));
    engine->ops->job_free(engine, job);
    return VLM_OK;
}

vlm_bench_form vlm_bench_form_of(vlm_engine *engine)
{
    const vlm_bench_request probe = {.form = VLM_BENCH_CHAT,
                                     .prompt = vlm_bytes_of("What is this?"),
                                     .n_images = 1,
                                     .sampling = vlm_sampling_default,
                                     .max_tokens = 1};
    const vlm_status status = vlm_bench_try(engine, &probe, NULL);
    /* Rendered, if too long. */
    return status == VLM_OK || status == VLM_OUT_OF_RANGE ? VLM_BENCH_CHAT : VLM_BENCH_TALK;
}

/* A request that the engine has. */
typedef struct flying {
    uint64_t id, submit_ns;
    size_t idx;
} flying;

typedef struct flight {
    vlm_engine *engine;
    flying all[VLM_BENCH_FLIGHT_MAX];
    size_t n;
    vlm_bench_said_fn *said;
    void *user;
} flight;

static vlm_status take_off(flight *f, const vlm_bench_request *request, size_t idx, vlm_error *err)
{
    vlm_event failed = {.type = VLM_EVENT_ERROR};
    vlm_job *job = NULL;
    flying *one = &f->all[f->n];
    *one = (flying){.idx = idx};
    vlm_status status = prepare(f->engine, request, &job, &one->submit_ns, &failed.error);
    if (status == VLM_OK) {
        status = f->engine->ops->submit(f->engine, job, &one->id, &failed.error);
        if (status != VLM_OK) f->engine->ops->job_free(f->engine, job);
    }
    if (status == VLM_OK) {
        f->n++;
        return VLM_OK;
    }
    const vlm_bench_said said = {
        .idx = idx, .submit_ns = one->submit_ns, .step_ns = vlm_clock_ns(), .event = &failed};
    return f->said(f->user, &said, err);
}

static vlm_status hear(flight *f, const vlm_event *event, uint64_t step_ns, vlm_error *err)
{
    size_t i = 0;
    while (i < f->n && f->all[i].id != event->request_id) i++;
    if (i == f->n) return vlm_fail(err, VLM_INTERNAL, "an event of a request that is none");
    const vlm_bench_said said = {
        .idx = f->all[i].idx, .submit_ns = f->all[i].submit_ns, .step_ns = step_ns, .event = event};
    const bool last =
        event->type == VLM_EVENT_ERROR || (event->type == VLM_EVENT_DONE && event->last);
    if (last) f->all[i] = f->all[--f->n];
    return f->said(f->user, &said, err);
}

static vlm_status step(flight *f, vlm_error *err)
{
    vlm_event event;
    const bool busy = f->engine->ops->step(f->engine);
    const uint64_t step_ns = vlm_clock_ns();
    while (f->engine->ops->next_event(f->engine, &event)) VLM_TRY(hear(f, &event, step_ns, err));
    if (busy || f->n == 0 || f->engine->ops->wake_ns(f->engine) != UINT64_MAX) return VLM_OK;
    return vlm_fail(err, VLM_INTERNAL, "the engine stopped with %zu requests left", f->n);
}

/* Nobody hears the rest. */
static void drop(flight *f)
{
    vlm_event event;
    for (size_t i = 0; i < f->n; i++) f->engine->ops->cancel(f->engine, f->all[i].id);
    do {
        while (f->engine->ops->next_event(f->engine, &event)) continue;
    } while (f->engine->ops->step(f->engine));
}

vlm_status vlm_bench_answer(vlm_engine *engine, const vlm_bench_request *requests,
                            const size_t *order, size_t n, size_t n_flight, vlm_bench_said_fn *said,
                            void *user, vlm_error *err)
{
    flight f = {.engine = engine, .said = said, .user = user};
    size_t n_begun = 0;
    vlm_status status = VLM_OK;
    while (status == VLM_OK && (n_begun < n || f.n > 0)) {
        while (status == VLM_OK && n_begun < n && f.n < n_flight) {
            const size_t idx = order == NULL ? n_begun : order[n_begun];
            n_begun++;
            status = take_off(&f, &requests[idx], idx, err);
        }
        if (status == VLM_OK) status = step(&f, err);
    }
    if (status != VLM_OK) drop(&f);
    return status;
}

uint32_t vlm_bench_roll(vlm_bench_dice *dice, uint32_t n_sides)
{
    const uint64_t n = dice->n_rolled++;
    const uint32_t counter[4] = {(uint32_t)n, (uint32_t)(n >> 32), 0, 0x64696365u};
    const uint32_t key[2] = {(uint32_t)dice->seed, (uint32_t)(dice->seed >> 32)};
    uint32_t out[4];
    vlm_philox(counter, key, out);
    return out[0] % n_sides;
}

static const char *const words[] = {
    "what",  "is",     "the",   "colour",  "of",     "this",  "circle", "square",
    "where", "are",    "how",   "many",    "red",    "blue",  "green",  "shapes",
    "left",  "right",  "above", "below",   "tell",   "me",    "about",  "every",
    "star",  "heart",  "cross", "near",    "middle", "one",   "two",    "three",
    "a",     "and",    "or",    "not",     "yellow", "black", "white",  "picture",
    "there", "please", "why",   "because", "window", "river", "42",     "7",
};
static const char *const stops[] = {"e", ".", " a", "the", "o", "is"};

#define N_OF(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

vlm_status vlm_bench_words(vlm_bench_dice *dice, uint32_t n_words, vlm_buf *out, vlm_error *err)
{
    for (uint32_t i = 0; i < n_words; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_char(out, ' ', err));
        VLM_TRY(vlm_buf_append_str(out, words[vlm_bench_roll(dice, N_OF(words))], err));
    }
    return VLM_OK;
}

enum {
    PREFIXES = 4, /* beginnings of texts that requests share */
    SHARED_PICTURES = 6,
    TOKENS_OF_A_WORD = 3,  /* of the words above, about */
    TOKENS_OF_A_TURN = 24, /* what a template puts around it */
    MAX_TOKENS = 24,
    LONG_TOKENS = 96
};

typedef struct maker {
    vlm_bench_set *set;
    vlm_bench_dice dice;
    vlm_bytes prefixes[PREFIXES];
    vlm_bench_form form;
    uint32_t n_ctx, n_image_tokens;
} maker;

static bool chance(maker *m, uint32_t percent)
{
    return vlm_bench_roll(&m->dice, 100) < percent;
}

/* between least and most, both included */
static uint32_t between(maker *m, uint32_t least, uint32_t most)
{
    return least + (most > least ? vlm_bench_roll(&m->dice, most - least + 1) : 0);
}

static vlm_status text_of(maker *m, vlm_bytes prefix, uint32_t n_words, vlm_bytes *out,
                          vlm_error *err)
{
    vlm_buf text;
    vlm_buf_init(&text, PROMPT_LEN_MAX);
    vlm_status status = vlm_buf_append(&text, prefix.ptr, prefix.len, err);
    if (status == VLM_OK && prefix.len > 0) status = vlm_buf_append_str(&text, ". ", err);
    if (status == VLM_OK) status = vlm_bench_words(&m->dice, n_words, &text, err);
    if (status == VLM_OK) {
        const char *copy = vlm_arena_strndup(&m->set->arena, text.data, text.len);
        *out = (vlm_bytes){.ptr = copy, .len = text.len};
        if (copy == NULL) status = vlm_fail_memory(err, "requests");
    }
    vlm_buf_fini(&text);
    return status;
}

/* How many words fit beside the pictures of a request. */
static uint32_t word_room(const maker *m, size_t n_images)
{
    const uint64_t taken = n_images * m->n_image_tokens + LONG_TOKENS + 2 * TOKENS_OF_A_TURN;
    const uint64_t room = m->n_ctx > taken ? (m->n_ctx - taken) / TOKENS_OF_A_WORD : 0;
    return room > 320 ? 320 : (uint32_t)room;
}

static vlm_status make_prefixes(maker *m, vlm_error *err)
{
    const uint32_t room = word_room(m, 0) / 2;
    for (size_t i = 0; i < PREFIXES; i++)
        VLM_TRY(
            text_of(m, (vlm_bytes){0}, between(m, 1, room < 60 ? room : 60), &m->prefixes[i], err));
    return VLM_OK;
}

static vlm_status make_prompt(maker *m, size_t idx, vlm_bench_request *r, vlm_error *err)
{
    if (idx > 0 && chance(m, 10)) {
        /* What somebody asked before, word for word. */
        *r = m->set->items[vlm_bench_roll(&m->dice, (uint32_t)idx)];
        return VLM_OK;
    }
    r->form = m->form;
    r->n_images = chance(m, 50) ? 0 : between(m, 1, VLM_BENCH_IMAGES_MAX);
    while (r->n_images > 0 && word_room(m, r->n_images) < 8) r->n_images--;
    for (size_t i = 0; i < r->n_images; i++)
        r->images[i] = chance(m, 70) ? vlm_bench_roll(&m->dice, SHARED_PICTURES)
                                     : SHARED_PICTURES + (uint32_t)(idx * VLM_BENCH_IMAGES_MAX + i);
    uint32_t room = word_room(m, r->n_images);
    vlm_bytes prefix = {0};
    if (chance(m, 50)) prefix = m->prefixes[vlm_bench_roll(&m->dice, PREFIXES)];
    room = chance(m, 15) ? room : room < 20 ? room : 20;
    VLM_TRY(text_of(m, prefix, between(m, 1, room), &r->prompt, err));
    if (!chance(m, 12)) return VLM_OK;
    VLM_TRY(text_of(m, (vlm_bytes){0}, between(m, 1, 4), &r->answer, err));
    return text_of(m, (vlm_bytes){0}, between(m, 1, 4), &r->next, err);
}

static void make_sampling(maker *m, vlm_sampling *s)
{
    *s = vlm_sampling_default;
    s->temperature = chance(m, 50) ? 1.0f : 0.0f;
    s->seed = vlm_bench_roll(&m->dice, 1u << 30);
    if (chance(m, 30)) s->top_p = 0.5f + (float)vlm_bench_roll(&m->dice, 50) / 100.0f;
    if (chance(m, 15)) s->top_k = between(m, 1, 40);
    if (chance(m, 15)) s->min_p = (float)vlm_bench_roll(&m->dice, 20) / 100.0f;
    if (chance(m, 15)) s->repetition_penalty = 1.3f;
    if (chance(m, 15)) s->frequency_penalty = 0.5f;
    if (chance(m, 15)) s->presence_penalty = -0.5f;
}

static vlm_status make_one(maker *m, size_t idx, vlm_error *err)
{
    vlm_bench_request r = {0};
    VLM_TRY(make_prompt(m, idx, &r, err));
    make_sampling(m, &r.sampling);
    r.n_choices = chance(m, 70) ? 1 : chance(m, 60) ? between(m, 2, 3) : between(m, 4, 8);
    /* Some are long, so that a cache without room must put answers off. */
    r.max_tokens = between(m, 0, 3) > 0 ? between(m, 1, MAX_TOKENS) : between(m, 25, LONG_TOKENS);
    r.ignore_eos = chance(m, 50);
    r.logprobs = chance(m, 30);
    r.n_top_logprobs = r.logprobs && chance(m, 70) ? 3 : 0;
    r.n_stops = chance(m, 25) ? between(m, 1, VLM_BENCH_STOPS_MAX) : 0;
    for (size_t i = 0; i < r.n_stops; i++)
        r.stops[i] = vlm_bytes_of(stops[vlm_bench_roll(&m->dice, N_OF(stops))]);
    r.cache_salt = vlm_bytes_of(chance(m, 10) ? "salt" : NULL);
    r.tenant = vlm_bytes_of(chance(m, 30) ? "tenant" : NULL);
    m->set->items[idx] = r;
    return VLM_OK;
}

vlm_status vlm_bench_set_make(vlm_bench_set *set, size_t n, uint64_t seed, vlm_bench_form form,
                              uint32_t n_ctx, uint32_t n_image_tokens, vlm_error *err)
{
    *set = (vlm_bench_set){.n = n};
    maker m = {.set = set,
               .dice = {.seed = seed},
               .form = form,
               .n_ctx = n_ctx,
               .n_image_tokens = n_image_tokens};
    vlm_arena_init(&set->arena, (size_t)1 << 30);
    set->items = vlm_arena_array(&set->arena, n, sizeof *set->items);
    vlm_status status = set->items != NULL ? VLM_OK : vlm_fail_memory(err, "requests");
    if (status == VLM_OK) status = make_prefixes(&m, err);
    for (size_t i = 0; status == VLM_OK && i < n; i++) status = make_one(&m, i, err);
    if (status != VLM_OK) vlm_bench_set_fini(set);
    return status;
}

void vlm_bench_set_fini(vlm_bench_set *set)
{
    vlm_arena_fini(&set->arena);
    *set = (vlm_bench_set){0};
}

/* Half the text, or a picture less when there is hardly any. */
static bool shorten(vlm_bench_request *r)
{
    if (r->prompt.len > 8)
        r->prompt.len /= 2;
    else if (r->n_images > 0)
        r->n_images--;
    else if (r->next.len > 0)
        r->next.len = 0;
    else
        return false;
    return true;
}

vlm_status vlm_bench_set_fit(vlm_bench_set *set, vlm_engine *engine, vlm_error *err)
{
    for (size_t i = 0; i < set->n; i++) {
        vlm_status status;
        do {
            status = vlm_bench_try(engine, &set->items[i], err);
        } while (status == VLM_OUT_OF_RANGE && shorten(&set->items[i]));
        if (status != VLM_OK) return vlm_fail_prefix(err, status, "request %zu", i);
    }
    return VLM_OK;
}
