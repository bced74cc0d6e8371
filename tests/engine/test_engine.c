/* test_engine.c - requests to a tiny model: the same bytes on any number of threads, choices, stop
 * strings, limits, cancelling at every step, errors that name the parameter. */
#include "engine/engine_case.h"

static void test_same_bytes_on_any_threads(void **state)
{
    (void)state;
    vlm_image image;
    draw(&image, 61, 47);
    vlm_part parts[] = {{.is_picture = true}, {.text = vlm_bytes_of("What is in this picture?")}};
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
            vlm_pictures *set = make_pictures(e, &image, 1);
            request.pictures = set;
            ask(e, &request, threads == 1 ? &first : &other);
            e->ops->pictures_free(e, set);
            for (size_t c = 0; threads > 1 && c < 3; c++)
                assert_string_equal(first.text[c].data, other.text[c].data);
            if (threads > 1) forget(&other);
            e->ops->close(e);
        }
        /* Choices draw apart, and each is what it would be alone. */
        assert_string_not_equal(first.text[0].data, first.text[1].data);
        vlm_engine *e = open_engine(2, (vlm_cpu_level)level);
        vlm_pictures *set = make_pictures(e, &image, 1);
        vlm_request alone = request;
        alone.pictures = set;
        alone.n_choices = 1;
        ask(e, &alone, &other);
        e->ops->pictures_free(e, set);
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

/* How many steps a request takes, all its events with it. */
static int count_steps(vlm_engine *e, const vlm_request *request)
{
    uint64_t id;
    vlm_error err;
    vlm_event event;
    int n = 0;
    assert_int_equal(vlm_engine_submit(e, request, &id, &err), VLM_OK);
    for (; e->ops->step(e); n++)
        while (e->ops->next_event(e, &event)) continue;
    return n;
}

/* Cancelled after any number of steps, a request ends at the next one, and what comes after it is
 * answered as if alone. */
static void test_cancel_at_every_step(void **state)
{
    (void)state;
    vlm_image images[2];
    draw(&images[0], 30, 90);
    draw(&images[1], 90, 30);
    vlm_part parts[] = {
        {.is_picture = true}, {.is_picture = true}, {.text = vlm_bytes_of("Compare.")}};
    const vlm_message message = user_message(parts, 3);
    vlm_request request = {.messages = &message,
                           .n_messages = 1,
                           .max_tokens = 3,
                           .n_choices = 2,
                           .ignore_eos = true,
                           .sampling = vlm_sampling_default};
    /* With nothing remembered every request computes all. */
    vlm_engine *e = open_with(&(vlm_engine_options){.n_threads = 1,
                                                    .n_ctx = 512,
                                                    .step_us = 1,
                                                    .no_prefix_cache = true,
                                                    .encoder_cache_bytes = 1});
    vlm_pictures *set = make_pictures(e, images, 2);
    request.pictures = set;
    answers want, got, next;
    ask(e, &request, &want);
    const int n_all = count_steps(e, &request);
    assert_true(n_all > 50);
    for (int n_steps = 0; n_steps <= n_all; n_steps++) {
        uint64_t id, next_id;
        vlm_error err;
        vlm_event event;
        answers_init(&got);
        answers_init(&next);
        assert_int_equal(vlm_engine_submit(e, &request, &id, &err), VLM_OK);
        assert_int_equal(vlm_engine_submit(e, &request, &next_id, &err), VLM_OK);
        for (int i = 0; i < n_steps && !got.over && e->ops->step(e); i++)
            while (e->ops->next_event(e, &event))
                take_event(event.request_id == id ? &got : &next, &event);
        const bool over = got.over;
        e->ops->cancel(e, id);
        e->ops->cancel(e, id + 1000);
        assert_true(e->ops->step(e) || (over && next.over));
        while (e->ops->next_event(e, &event))
            take_event(event.request_id == id ? &got : &next, &event);
        assert_true(got.over && got.cancelled == !over);
        same_answers(&want, &got);
        run_to_end(e, next_id, &next);
        same_answers(&want, &next);
        forget(&got);
        forget(&next);
    }
    vlm_engine_stats stats;
    e->ops->stats(e, &stats);
    assert_true(stats.kv_usage == 0.0);
    forget(&want);
    e->ops->pictures_free(e, set);
    vlm_image_fini(&images[0]);
    vlm_image_fini(&images[1]);
    e->ops->close(e);
}

/* In the queue: told at the next step, before anything else is computed, and without a start. */
static void test_cancel_in_queue(void **state)
{
    (void)state;
    vlm_part part = {.text = vlm_bytes_of("Say hello.")};
    const vlm_message message = user_message(&part, 1);
    vlm_request request = {.messages = &message,
                           .n_messages = 1,
                           .max_tokens = 5,
                           .ignore_eos = true,
                           .sampling = vlm_sampling_default};
    vlm_engine *e = open_with(&(vlm_engine_options){
        .n_threads = 1, .n_ctx = 512, .running_max = 1, .waiting_max = 4, .step_us = 1});
    answers want, got[4];
    uint64_t id[4], none;
    vlm_error err;
    vlm_event event;
    vlm_engine_stats stats;
    ask(e, &request, &want);
    for (size_t i = 0; i < 4; i++) {
        answers_init(&got[i]);
        assert_int_equal(vlm_engine_submit(e, &request, &id[i], &err), VLM_OK);
    }
    assert_int_equal(vlm_engine_submit(e, &request, &none, &err), VLM_RESOURCE_EXHAUSTED);
    e->ops->stats(e, &stats);
    assert_true(stats.n_running == 0 && stats.n_waiting == 4 && stats.kv_usage == 0.0);
    assert_true(e->ops->step(e));
    e->ops->cancel(e, id[2]);
    e->ops->cancel(e, id[3]);
    e->ops->cancel(e, id[3]);
    e->ops->stats(e, &stats);
    assert_true(stats.n_running == 1 && stats.n_waiting == 1);
    while (e->ops->next_event(e, &event)) take_event(&got[0], &event);
    assert_true(e->ops->step(e));
    for (size_t i = 2; i < 4; i++) {
        assert_true(e->ops->next_event(e, &event));
        assert_int_equal(event.request_id, id[i]);
        take_event(&got[i], &event);
        assert_true(got[i].cancelled && got[i].over && !got[i].started);
    }
    assert_false(e->ops->next_event(e, &event));
    for (size_t i = 0; i < 2; i++) {
        run_to_end(e, id[i], &got[i]);
        same_answers(&want, &got[i]);
    }
    assert_false(e->ops->step(e));
    assert_true(e->ops->wake_ns(e) == UINT64_MAX);
    e->ops->stats(e, &stats);
    assert_true(stats.n_running == 0 && stats.n_waiting == 0);
    for (size_t i = 0; i < 4; i++) forget(&got[i]);
    forget(&want);
    e->ops->close(e);
}

/* The last token that is allowed ends the sequence: it has stopped, not been cut. */
static void test_end_at_the_limit(void **state)
{
    (void)state;
    vlm_part part = {.text = vlm_bytes_of("Say hello.")};
    const vlm_message message = user_message(&part, 1);
    const vlm_logit_bias to_end = {.id = 2, .bias = 100.0f};
    vlm_request request = {.messages = &message,
                           .n_messages = 1,
                           .max_tokens = 1,
                           .n_choices = 2,
                           .sampling = vlm_sampling_default};
    request.sampling.logit_bias = &to_end;
    request.sampling.n_logit_bias = 1;
    vlm_engine *e = open_engine(1, vlm_cpu_level_best());
    answers a;
    ask(e, &request, &a);
    for (size_t c = 0; c < 2; c++) {
        assert_int_equal(a.done[c].finish, VLM_FINISH_STOP);
        assert_int_equal(a.done[c].usage.n_completion, 1);
        assert_int_equal(a.n_ids[c], 0);
    }
    forget(&a);
    request.ignore_eos = true;
    ask(e, &request, &a);
    assert_int_equal(a.done[0].finish, VLM_FINISH_LENGTH);
    assert_int_equal(a.n_ids[0], 1);
    assert_int_equal(a.ids[0][0], 2);
    forget(&a);
    /* As many as fit: prompt and answer fill the context. */
    request.max_tokens = 0;
    request.n_choices = 1;
    request.sampling.n_logit_bias = 0;
    ask(e, &request, &a);
    assert_int_equal(a.done[0].usage.n_prompt + a.done[0].usage.n_completion, 512);
    assert_true(a.done[0].timings.decode_s > 0.0 && a.done[0].timings.prefill_s > 0.0);
    assert_true(a.done[0].timings.queue_s >= 0.0 && a.done[0].timings.image_s == 0.0);
    forget(&a);
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
    for (size_t i = 0; i < 20; i++) parts[i] = (vlm_part){.is_picture = true};
    vlm_message message = user_message(parts, 17);
    vlm_request request = {.messages = &message, .n_messages = 1, .sampling = vlm_sampling_default};
    refused(e, &request, VLM_INVALID_ARGUMENT, "17 pictures");
    request.n_messages = 0;
    refused(e, &request, VLM_INVALID_ARGUMENT, "messages");
    request.n_messages = 1;
    vlm_pictures *set = make_pictures(e, &image, 1);
    message.n_parts = 2;
    refused(e, &request, VLM_INVALID_ARGUMENT, "2 picture parts for 0 pictures");
    request.pictures = set;
    refused(e, &request, VLM_INVALID_ARGUMENT, "2 picture parts for 1 pictures");
    message.n_parts = 0;
    refused(e, &request, VLM_INVALID_ARGUMENT, "0 picture parts for 1 pictures");
    request.pictures = NULL;

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
    const vlm_request raw_request = {
        .raw_prompt = &raw, .pictures = set, .sampling = vlm_sampling_default};
    refused(e, &raw_request, VLM_INVALID_ARGUMENT, "2 image placeholders for 1 pictures");
    request.sampling.top_p = 0.0f;
    refused(e, &request, VLM_INVALID_ARGUMENT, "top_p");
    request.sampling.top_p = 1.0f;
    request.logprobs = true;
    request.n_top_logprobs = 21;
    refused(e, &request, VLM_INVALID_ARGUMENT, "top_logprobs must be at most 20");
    request.logprobs = false;
    request.n_choices = 9;
    refused(e, &request, VLM_INVALID_ARGUMENT, "n must be");
    request.n_choices = 1;
    const vlm_bytes empty = {"", 0};
    request.stop = &empty;
    request.n_stop = 1;
    refused(e, &request, VLM_INVALID_ARGUMENT, "stop");
    e->ops->pictures_free(e, set);
    vlm_image_fini(&image);
    e->ops->close(e);
}

/* Pictures hold memory until the last job that has them ends; there is a limit, which is known
 * before any picture is there. */
static void test_pictures_have_a_limit(void **state)
{
    (void)state;
    vlm_image images[2];
    draw(&images[0], 30, 20);
    images[1] = images[0];
    const vlm_part parts[] = {
        {.is_picture = true}, {.is_picture = true}, {.text = vlm_bytes_of("What is this?")}};
    const vlm_message message = user_message(parts, 3), text = user_message(parts + 2, 1);
    vlm_request request = {
        .messages = &message, .n_messages = 1, .max_tokens = 1, .sampling = vlm_sampling_default};
    /* The model's pictures are 56 x 56. */
    const size_t n_picture = (size_t)3 * 56 * 56 * sizeof(float);
    vlm_engine *e =
        open_with(&(vlm_engine_options){.n_ctx = 512, .pixels_max = 3 * n_picture + 100});
    vlm_pictures *set, *small, *none;
    vlm_job *jobs[2];
    vlm_error err;
    answers a;
    assert_int_equal(e->ops->pictures_new(e, 4, &none, &err), VLM_RESOURCE_EXHAUSTED);
    for (size_t round = 0; round < 3; round++) {
        set = make_pictures(e, images, 2);
        assert_int_equal(e->ops->pictures_new(e, 2, &none, &err), VLM_RESOURCE_EXHAUSTED);
        assert_non_null(strstr(err.msg, "pictures"));
        assert_null(none);
        assert_int_equal(e->ops->pictures_new(e, 1, &small, &err), VLM_OK);
        request.pictures = set;
        assert_int_equal(e->ops->prepare(e, &request, &jobs[0], &err), VLM_OK);
        assert_int_equal(e->ops->prepare(e, &request, &jobs[1], &err), VLM_OK);
        e->ops->pictures_free(e, set);
        e->ops->pictures_free(e, small);
        request.messages = &text;
        request.pictures = NULL;
        ask(e, &request, &a);
        forget(&a);
        request.messages = &message;
        e->ops->job_free(e, jobs[0]);
        assert_int_equal(e->ops->pictures_new(e, 2, &none, &err), VLM_RESOURCE_EXHAUSTED);
        uint64_t id;
        answers_init(&a);
        assert_int_equal(e->ops->submit(e, jobs[1], &id, &err), VLM_OK);
        run_to_end(e, id, &a);
        forget(&a);
        assert_int_equal(e->ops->pictures_new(e, 3, &set, &err), VLM_OK);
        e->ops->pictures_free(e, set);
    }
    vlm_image_fini(&images[0]);
    e->ops->close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes_on_any_threads),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_cancel_at_every_step),
        cmocka_unit_test(test_cancel_in_queue),
        cmocka_unit_test(test_end_at_the_limit),
        cmocka_unit_test(test_pictures_have_a_limit),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
