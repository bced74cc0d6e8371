/* test_memory.c - each allocation of a request fails once, from prepare to the last event: an error
 * comes of it, never a crash or silence, and the next request is answered as ever. */
#include "engine/engine_case.h"

#include "failmalloc.h"

#if FAILMALLOC_AVAILABLE

/* The request with the picture, as far as the queue. */
static vlm_status submit(vlm_engine *e, vlm_request request, const vlm_image *image, uint64_t *id,
                         vlm_error *err)
{
    vlm_pictures *set;
    VLM_TRY(vlm_engine_pictures(e, image, 1, &set, err));
    request.pictures = set;
    const vlm_status status = vlm_engine_submit(e, &request, id, err);
    e->ops->pictures_free(e, set);
    return status;
}

/* The status of the request's end; what it said before is in got. */
static vlm_status try_request(vlm_engine *e, const vlm_request *request, const vlm_image *image,
                              answers *got)
{
    uint64_t id;
    vlm_error err = {0};
    vlm_event event;
    vlm_status end = submit(e, *request, image, &id, &err);
    if (end != VLM_OK) {
        failmalloc_off();
        assert_true(err.msg[0] != '\0');
        return end;
    }
    while (!got->over && e->ops->step(e))
        while (e->ops->next_event(e, &event)) {
            /* The test's own allocations are not meant to fail. */
            const unsigned left = failmalloc_left;
            failmalloc_left = 0;
            take_event(got, &event);
            if (event.type == VLM_EVENT_ERROR) {
                assert_true(event.error.msg[0] != '\0');
                end = event.error.code;
            }
            failmalloc_left = left;
        }
    failmalloc_off();
    assert_true(got->over);
    return end;
}

static void ask_about(vlm_engine *e, const vlm_request *request, const vlm_image *image, answers *a)
{
    uint64_t id;
    vlm_error err;
    answers_init(a);
    assert_int_equal(submit(e, *request, image, &id, &err), VLM_OK);
    run_to_end(e, id, a);
    assert_false(a->failed);
}

static void test_every_allocation_fails(void **state)
{
    (void)state;
    vlm_image image;
    draw(&image, 30, 20);
    const vlm_part parts[] = {{.is_picture = true}, {.text = vlm_bytes_of("What is this?")}};
    const vlm_message message = user_message(parts, 2);
    const vlm_bytes stop = vlm_bytes_of("zzz");
    vlm_request request = {.messages = &message,
                           .n_messages = 1,
                           .max_tokens = 6,
                           .n_choices = 2,
                           .ignore_eos = true,
                           .logprobs = true,
                           .n_top_logprobs = 3,
                           .stop = &stop,
                           .n_stop = 1,
                           .sampling = vlm_sampling_default};
    answers want, got;
    vlm_engine *e = open_with(&(vlm_engine_options){.n_threads = 1, .n_ctx = 512});
    ask_about(e, &request, &image, &want);
    e->ops->close(e);
    unsigned n_refused = 0, n_failed = 0;
    /* A new engine each time: one keeps the buffers that it has made. */
    for (unsigned n = 1;; n++) {
        e = open_with(&(vlm_engine_options){.n_threads = 1, .n_ctx = 512});
        answers_init(&got);
        if (!failmalloc_again(n)) {
            forget(&got);
            e->ops->close(e);
            break;
        }
        const vlm_status end = try_request(e, &request, &image, &got);
        if (end == VLM_OK) {
            same_answers(&want, &got);
        } else {
            assert_int_equal(end, VLM_RESOURCE_EXHAUSTED);
            n_refused += !got.started;
            n_failed += got.started;
        }
        forget(&got);
        ask_about(e, &request, &image, &got);
        same_answers(&want, &got);
        forget(&got);
        e->ops->close(e);
    }
    /* What has been taken in needs no memory any more. */
    assert_true(n_refused > 20 && n_failed == 0);
    forget(&want);
    vlm_image_fini(&image);
}

#else

static void test_every_allocation_fails(void **state)
{
    (void)state;
    print_message("the allocator cannot be replaced under a sanitizer\n");
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation_fails)};
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
