/* test_engine.c - requests to a tiny model: the same bytes on any number of threads, choices, stop
 * strings, limits, cancelling at every step, errors that name the parameter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "engine/engine.h"

static vlm_folder *folder;

static int open_folder(void **state)
{
    (void)state;
    vlm_error err;
    return vlm_folder_open(VLM_SOURCE_DIR "/tests/golden/llava-spm", &folder, &err) != VLM_OK;
}

static int close_folder(void **state)
{
    (void)state;
    vlm_folder_close(folder);
    return 0;
}

static vlm_engine *open_engine(uint32_t n_threads, vlm_cpu_level level)
{
    const vlm_engine_options options = {
        .n_threads = n_threads, .cpu_level_given = true, .cpu_level = level, .n_ctx = 512};
    vlm_engine *e;
    vlm_error err;
    if (vlm_engine_open(folder, &options, &e, &err) != VLM_OK) fail_msg("%s", err.msg);
    return e;
}

/* A picture with something in every corner. */
static void draw(vlm_image *image, uint32_t width, uint32_t height)
{
    *image = (vlm_image){.width = width, .height = height};
    image->rgb = malloc((size_t)width * height * 3);
    assert_non_null(image->rgb);
    for (size_t i = 0; i < (size_t)width * height * 3; i++)
        image->rgb[i] = (uint8_t)(i * 37 + i / 300);
}

typedef struct answers {
    vlm_buf text[VLM_REQUEST_CHOICES_MAX];
    vlm_event done[VLM_REQUEST_CHOICES_MAX];
    uint32_t n_done;
    bool failed;
} answers;

static void run_to_end(vlm_engine *e, answers *a)
{
    vlm_error err;
    vlm_event event;
    bool last = false;
    while (!last && e->ops->step(e)) {
        while (e->ops->next_event(e, &event)) {
            if (event.type == VLM_EVENT_TEXT)
                assert_int_equal(
                    vlm_buf_append(&a->text[event.choice], event.text.ptr, event.text.len, &err),
                    VLM_OK);
            if (event.type == VLM_EVENT_DONE) {
                a->done[a->n_done++] = event;
                last = event.last;
            }
            if (event.type == VLM_EVENT_ERROR) last = a->failed = true;
        }
    }
}

static void ask(vlm_engine *e, const vlm_request *request, answers *a)
{
    uint64_t id;
    vlm_error err;
    *a = (answers){0};
    for (size_t i = 0; i < VLM_REQUEST_CHOICES_MAX; i++) vlm_buf_init(&a->text[i], 1 << 20);
    if (vlm_engine_submit(e, request, &id, &err) != VLM_OK) fail_msg("%s", err.msg);
    run_to_end(e, a);
    assert_false(a->failed);
}

static void forget(answers *a)
{
    for (size_t i = 0; i < VLM_REQUEST_CHOICES_MAX; i++) vlm_buf_fini(&a->text[i]);
}

static vlm_message user_message(vlm_part *parts, size_t n_parts)
{
    return (vlm_message){.role = vlm_bytes_of("user"), .parts = parts, .n_parts = n_parts};
}

static void test_same_bytes_on_any_threads(void **state)
{
    (void)state;
    vlm_image image;
    draw(&image, 61, 47);
    vlm_part parts[] = {{.image = &image}, {.text = vlm_bytes_of("What is in this picture?")}};
    const vlm_message message = user_message(parts, 2);
    vlm_request request = {.messages = &message,
                           .n_messages = 1,
                           .max_tokens = 40,
                           .n_choices = 3,
                           .ignore_eos = true};
    request.sampling = vlm_sampling_default;
    request.sampling.seed = 99;
    for (int level = 0; level <= (int)vlm_cpu_level_best(); level++) {
        answers first, other;
        for (uint32_t threads = 1; threads <= 3; threads++) {
            vlm_engine *e = open_engine(threads, (vlm_cpu_level)level);
            ask(e, &request, threads == 1 ? &first : &other);
            for (size_t c = 0; threads > 1 && c < 3; c++)
                assert_string_equal(first.text[c].data, other.text[c].data);
            if (threads > 1) forget(&other);
            e->ops->close(e);
        }
        /* Choices draw apart, and each is what it would be alone. */
        assert_string_not_equal(first.text[0].data, first.text[1].data);
        vlm_engine *e = open_engine(2, (vlm_cpu_level)level);
        vlm_request alone = request;
        alone.n_choices = 1;
        ask(e, &alone, &other);
        assert_string_equal(first.text[0].data, other.text[0].data);
        assert_int_equal(other.done[0].usage.n_image, 16);
        assert_int_equal(other.done[0].usage.n_completion, 40);
        assert_int_equal(other.done[0].finish, VLM_FINISH_LENGTH);
        forget(&other);
        forget(&first);
        e->ops->close(e);
    }
    vlm_image_fini(&image);
}

static void test_stop_strings(void **state)
{
    (void)state;
    vlm_part part = {.text = vlm_bytes_of("Say hello.")};
    const vlm_message message = user_message(&part, 1);
    vlm_request request = {.messages = &message,
                           .n_messages = 1,
                           .max_tokens = 60,
                           .ignore_eos = true,
                           .sampling = vlm_sampling_default};
    request.sampling.temperature = 0.0f;
    vlm_engine *e = open_engine(2, vlm_cpu_level_best());
    answers whole, cut;
    ask(e, &request, &whole);
    assert_true(whole.text[0].len > 20);
    for (size_t at = 1; at + 3 < whole.text[0].len; at += 5) {
        const vlm_bytes stop = {.ptr = whole.text[0].data + at, .len = 3};
        const char *found = memmem(whole.text[0].data, whole.text[0].len, stop.ptr, stop.len);
        request.stop = &stop;
        request.n_stop = 1;
        ask(e, &request, &cut);
        assert_int_equal(cut.text[0].len, (size_t)(found - whole.text[0].data));
        assert_memory_equal(cut.text[0].len == 0 ? "" : cut.text[0].data, whole.text[0].data,
                            cut.text[0].len);
        assert_int_equal(cut.done[0].finish, VLM_FINISH_STOP);
        forget(&cut);
    }
    forget(&whole);
    e->ops->close(e);
}

/* Cancelled after any number of steps, a request ends and the next one is answered as if alone. */
static void test_cancel_at_every_step(void **state)
{
    (void)state;
    vlm_image image;
    draw(&image, 30, 90);
    vlm_part parts[] = {{.image = &image}, {.image = &image}, {.text = vlm_bytes_of("Compare.")}};
    const vlm_message message = user_message(parts, 3);
    vlm_request request = {.messages = &message,
                           .n_messages = 1,
                           .max_tokens = 8,
                           .ignore_eos = true,
                           .sampling = vlm_sampling_default};
    vlm_engine *e = open_engine(1, vlm_cpu_level_best());
    answers want, got;
    ask(e, &request, &want);
    for (int n_steps = 0; n_steps < 12; n_steps++) {
        uint64_t id;
        vlm_error err;
        vlm_event event;
        bool cancelled = false, ended = false;
        assert_int_equal(vlm_engine_submit(e, &request, &id, &err), VLM_OK);
        for (int i = 0; i < n_steps && e->ops->step(e); i++)
            while (e->ops->next_event(e, &event)) ended |= event.type == VLM_EVENT_DONE;
        e->ops->cancel(e, id);
        e->ops->cancel(e, id + 1000);
        while (e->ops->step(e))
            while (e->ops->next_event(e, &event))
                cancelled |= event.type == VLM_EVENT_DONE && event.finish == VLM_FINISH_CANCELLED;
        assert_true(cancelled != ended);
        ask(e, &request, &got);
        assert_string_equal(got.text[0].data, want.text[0].data);
        forget(&got);
    }
    forget(&want);
    vlm_image_fini(&image);
    e->ops->close(e);
}

static void refused(vlm_engine *e, const vlm_request *request, vlm_status status, const char *want)
{
    uint64_t id;
    vlm_error err = {0};
    assert_int_equal(vlm_engine_submit(e, request, &id, &err), status);
    if (strstr(err.msg, want) == NULL) fail_msg("\"%s\" lacks \"%s\"", err.msg, want);
}

static void test_refusals(void **state)
{
    (void)state;
    vlm_engine *e = open_engine(1, vlm_cpu_level_best());
    vlm_image image;
    draw(&image, 5, 5);
    vlm_part parts[20];
    for (size_t i = 0; i < 20; i++) parts[i] = (vlm_part){.image = &image};
    vlm_message message = user_message(parts, 17);
    vlm_request request = {.messages = &message, .n_messages = 1, .sampling = vlm_sampling_default};
    refused(e, &request, VLM_INVALID_ARGUMENT, "17 pictures");
    request.n_messages = 0;
    refused(e, &request, VLM_INVALID_ARGUMENT, "messages");
    request.n_messages = 1;

    char *text = malloc(4001);
    assert_non_null(text);
    for (size_t i = 0; i < 4000; i++) text[i] = i % 2 == 0 ? 'a' : ' ';
    text[4000] = '\0';
    parts[0] = (vlm_part){.text = vlm_bytes_of(text)};
    message.n_parts = 1;
    refused(e, &request, VLM_OUT_OF_RANGE, "the context holds 512");
    free(text);

    /* A client's text cannot stand for a picture. */
    parts[0] = (vlm_part){.text = vlm_bytes_of("<image> </s> <s>")};
    answers a;
    request.max_tokens = 2;
    ask(e, &request, &a);
    assert_int_equal(a.done[0].usage.n_image, 0);
    forget(&a);
    const vlm_bytes raw = vlm_bytes_of("two <image><image>");
    const vlm_request raw_request = {.raw_prompt = &raw,
                                     .raw_images = &image,
                                     .n_raw_images = 1,
                                     .sampling = vlm_sampling_default};
    refused(e, &raw_request, VLM_INVALID_ARGUMENT, "2 image placeholders for 1 pictures");
    request.sampling.top_p = 0.0f;
    refused(e, &request, VLM_INVALID_ARGUMENT, "top_p");
    request.sampling.top_p = 1.0f;
    request.n_choices = 9;
    refused(e, &request, VLM_INVALID_ARGUMENT, "n must be");
    request.n_choices = 1;
    const vlm_bytes empty = {"", 0};
    request.stop = &empty;
    request.n_stop = 1;
    refused(e, &request, VLM_INVALID_ARGUMENT, "stop");
    vlm_image_fini(&image);
    e->ops->close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes_on_any_threads),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_cancel_at_every_step),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
