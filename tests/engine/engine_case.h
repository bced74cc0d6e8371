/* engine_case.h - what the engine's tests share: opening a golden model, asking, and checking of
 * every answer that its events come as engine.h says. */
#ifndef VLM_TESTS_ENGINE_ENGINE_CASE_H
#define VLM_TESTS_ENGINE_ENGINE_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

enum { CASE_IDS_MAX = 512 };

static vlm_folder *folder;

static inline int open_folder(void **state)
{
    (void)state;
    vlm_error err;
    return vlm_folder_open(VLM_SOURCE_DIR "/tests/golden/llava-spm", &folder, &err) != VLM_OK;
}

static inline int close_folder(void **state)
{
    (void)state;
    vlm_folder_close(folder);
    return 0;
}

static inline vlm_engine *open_with(const vlm_engine_options *options)
{
    vlm_engine *e;
    vlm_error err;
    if (vlm_engine_open(folder, options, &e, &err) != VLM_OK) fail_msg("%s", err.msg);
    return e;
}

static inline vlm_engine *open_engine(uint32_t n_threads, vlm_cpu_level level)
{
    return open_with(&(vlm_engine_options){
        .n_threads = n_threads, .cpu_level_given = true, .cpu_level = level, .n_ctx = 512});
}

/* Bytes of the key/value cache for as many tokens. */
static inline size_t kv_bytes_of(uint32_t n_tokens)
{
    vlm_engine_info info;
    vlm_engine *e = open_with(&(vlm_engine_options){.n_threads = 1, .n_ctx = 512});
    e->ops->info(e, &info);
    e->ops->close(e);
    return info.kv_bytes / info.n_kv_tokens * n_tokens;
}

/* A picture with something in every corner. */
static inline void draw(vlm_image *image, uint32_t width, uint32_t height)
{
    *image = (vlm_image){.width = width, .height = height};
    image->rgb = malloc((size_t)width * height * 3);
    assert_non_null(image->rgb);
    for (size_t i = 0; i < (size_t)width * height * 3; i++)
        image->rgb[i] = (uint8_t)(i * 37 + i / 300);
}

/* To be freed with pictures_free once the request has been prepared. */
static inline vlm_pictures *make_pictures(vlm_engine *e, const vlm_image *images, uint32_t n)
{
    vlm_pictures *set;
    vlm_error err;
    if (vlm_engine_pictures(e, images, n, &set, &err) != VLM_OK) fail_msg("%s", err.msg);
    return set;
}

static inline vlm_message user_message(const vlm_part *parts, size_t n_parts)
{
    return (vlm_message){.role = vlm_bytes_of("user"), .parts = parts, .n_parts = n_parts};
}

typedef struct answers {
    vlm_buf text[VLM_REQUEST_CHOICES_MAX];
    uint32_t ids[VLM_REQUEST_CHOICES_MAX][CASE_IDS_MAX];
    uint32_t n_ids[VLM_REQUEST_CHOICES_MAX];
    bool rested[VLM_REQUEST_CHOICES_MAX]; /* the text that was held back has come */
    vlm_event done[VLM_REQUEST_CHOICES_MAX];
    bool ended[VLM_REQUEST_CHOICES_MAX];
    uint32_t n_done;
    bool started, failed, cancelled, over;
} answers;

static inline void answers_init(answers *a)
{
    *a = (answers){0};
    for (size_t i = 0; i < VLM_REQUEST_CHOICES_MAX; i++) vlm_buf_init(&a->text[i], 1 << 20);
}

static inline void forget(answers *a)
{
    for (size_t i = 0; i < VLM_REQUEST_CHOICES_MAX; i++) vlm_buf_fini(&a->text[i]);
}

static inline void take_text(answers *a, const vlm_event *event)
{
    const uint32_t c = event->choice;
    assert_true(a->started && c < VLM_REQUEST_CHOICES_MAX && !a->ended[c] && !a->rested[c]);
    if (event->has_token) {
        assert_true(a->n_ids[c] < CASE_IDS_MAX);
        a->ids[c][a->n_ids[c]++] = event->token_id;
    } else {
        assert_true(event->text.len > 0 && event->logprob == NULL);
        a->rested[c] = true;
    }
    vlm_error err;
    assert_int_equal(vlm_buf_append(&a->text[c], event->text.ptr, event->text.len, &err), VLM_OK);
}

static inline void take_done(answers *a, const vlm_event *event)
{
    a->cancelled = event->finish == VLM_FINISH_CANCELLED;
    a->over = event->last;
    assert_true(event->usage.n_prompt > 0 && event->usage.n_image <= event->usage.n_prompt);
    assert_true(a->cancelled ? event->last : a->started);
    if (!a->started) {
        assert_int_equal(event->usage.n_completion, 0);
        return;
    }
    assert_false(a->ended[event->choice]);
    a->ended[event->choice] = true;
    /* A token that ended the sequence is counted, but has no text. */
    const uint32_t n = event->usage.n_completion, n_texts = a->n_ids[event->choice];
    assert_true(n == n_texts || (event->finish == VLM_FINISH_STOP && n == n_texts + 1));
    a->done[event->choice] = *event;
    a->n_done++;
}

/* An event of this request. */
static inline void take_event(answers *a, const vlm_event *event)
{
    assert_false(a->over);
    switch (event->type) {
    case VLM_EVENT_STARTED:
        assert_false(a->started);
        assert_true(event->usage.n_prompt > 0);
        a->started = true;
        break;
    case VLM_EVENT_TEXT: take_text(a, event); break;
    case VLM_EVENT_DONE: take_done(a, event); break;
    case VLM_EVENT_ERROR: a->failed = a->over = true; break;
    }
}

static inline void run_to_end(vlm_engine *e, uint64_t id, answers *a)
{
    vlm_event event;
    while (!a->over && e->ops->step(e))
        while (e->ops->next_event(e, &event)) {
            assert_int_equal(event.request_id, id);
            take_event(a, &event);
        }
    assert_true(a->over);
}

static inline void ask(vlm_engine *e, const vlm_request *request, answers *a)
{
    uint64_t id;
    vlm_error err;
    answers_init(a);
    if (vlm_engine_submit(e, request, &id, &err) != VLM_OK) fail_msg("%s", err.msg);
    run_to_end(e, id, a);
    assert_false(a->failed);
}

/* The same text, or its beginning where one was cancelled. */
static inline void same_answers(const answers *want, const answers *got)
{
    for (uint32_t c = 0; c < VLM_REQUEST_CHOICES_MAX; c++) {
        const size_t len = got->cancelled ? got->text[c].len : want->text[c].len;
        assert_true(len <= want->text[c].len);
        if (!got->cancelled) assert_int_equal(got->text[c].len, len);
        if (len > 0) assert_memory_equal(got->text[c].data, want->text[c].data, len);
        if (!got->cancelled) assert_int_equal(got->n_ids[c], want->n_ids[c]);
        assert_true(got->n_ids[c] <= want->n_ids[c]);
        assert_memory_equal(got->ids[c], want->ids[c], got->n_ids[c] * sizeof got->ids[c][0]);
    }
}

#endif
