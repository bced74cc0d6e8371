/* test_request.c - a worker's request and its pictures: room is found before the first one is
 * decoded, they are decoded one at a time, and an error names the one that it came of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/decoders_help.h"
#include "worker/mock.h"
#include "worker/pack.h"
#include "worker/request.h"

static vlm_decoders *decoders;
static vlm_engine *mock;

/* The mock engine, but for what a test makes of its pictures. */
static struct {
    vlm_engine base;
    vlm_engine_ops ops;
    vlm_status new_status, add_status;
    uint32_t n_new, n_max, n_added, n_freed, bad;
} fake;

static vlm_status fake_new(vlm_engine *e, uint32_t n_max, vlm_pictures **out, vlm_error *err)
{
    (void)e;
    *out = NULL;
    fake.n_new++;
    fake.n_max = n_max;
    if (fake.new_status != VLM_OK) return vlm_fail(err, fake.new_status, "no room");
    return mock->ops->pictures_new(mock, n_max, out, err);
}

static vlm_status fake_add(vlm_engine *e, vlm_pictures *set, const vlm_image *image, vlm_error *err)
{
    (void)e;
    if (fake.add_status != VLM_OK && fake.n_added == fake.bad)
        return vlm_fail(err, fake.add_status, "not this one");
    fake.n_added++;
    return mock->ops->pictures_add(mock, set, image, err);
}

static void fake_free(vlm_engine *e, vlm_pictures *set)
{
    (void)e;
    fake.n_freed += set != NULL;
    mock->ops->pictures_free(mock, set);
}

static void fake_info(const vlm_engine *e, vlm_engine_info *out)
{
    (void)e;
    mock->ops->info(mock, out);
}

static vlm_status fake_prepare(vlm_engine *e, const vlm_request *request, vlm_job **out,
                               vlm_error *err)
{
    (void)e;
    return mock->ops->prepare(mock, request, out, err);
}

/* A system message, then a text between n pictures, all the same 8 x 6 BMP; r->message is its. */
static void pack_request(vlm_worker_request *r, uint32_t n)
{
    Vlm__V1__Part parts[VLM_REQUEST_IMAGES_MAX + 2], *list[VLM_REQUEST_IMAGES_MAX + 2];
    Vlm__V1__Part rule = VLM__V1__PART__INIT, *rules[] = {&rule};
    Vlm__V1__Message system = VLM__V1__MESSAGE__INIT, user = VLM__V1__MESSAGE__INIT,
                     *messages[] = {&system, &user};
    Vlm__V1__GenerateRequest m = VLM__V1__GENERATE_REQUEST__INIT;
    size_t len;
    uint8_t *file = make_bmp(8, 6, &len);
    rule.kind_case = VLM__V1__PART__KIND_TEXT;
    rule.text = (ProtobufCBinaryData){.data = (uint8_t *)"be brief", .len = 8};
    for (uint32_t i = 0; i <= n; i++) {
        vlm__v1__part__init(&parts[i]);
        parts[i].kind_case = i == 1 ? VLM__V1__PART__KIND_TEXT : VLM__V1__PART__KIND_IMAGE;
        if (i == 1)
            parts[i].text = (ProtobufCBinaryData){.data = (uint8_t *)"see", .len = 3};
        else
            parts[i].image = (ProtobufCBinaryData){.data = file, .len = len};
        list[i] = &parts[i];
    }
    system.role = (ProtobufCBinaryData){.data = (uint8_t *)"system", .len = 6};
    system.n_parts = 1;
    system.parts = rules;
    user.role = (ProtobufCBinaryData){.data = (uint8_t *)"user", .len = 4};
    user.n_parts = n + 1;
    user.parts = list;
    m.n_messages = 2;
    m.messages = messages;
    memset(r, 0, sizeof *r);
    vlm_buf_init(&r->message, 1 << 20);
    assert_int_equal(vlm_pack_message(&m.base, &r->message, &r->error), VLM_OK);
    free(file);
}

static uint64_t n_decoded(void)
{
    vlm_decoders_stats stats;
    vlm_decoders_get_stats(decoders, &stats);
    return stats.n_decoded[VLM_IMAGE_BMP];
}

static void run(vlm_worker_request *r, uint32_t n)
{
    pack_request(r, n);
    vlm_worker_request_run(r, &fake.base, decoders, "m");
    assert_int_equal(fake.n_freed, fake.n_new > 0 && fake.new_status == VLM_OK);
    mock->ops->job_free(mock, r->job);
}

static int reset(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    fake.ops = (vlm_engine_ops){.pictures_new = fake_new,
                                .pictures_add = fake_add,
                                .pictures_free = fake_free,
                                .info = fake_info,
                                .prepare = fake_prepare};
    fake.base.ops = &fake.ops;
    return 0;
}

static void test_all_pictures_come(void **state)
{
    (void)state;
    vlm_worker_request r;
    const uint64_t before = n_decoded();
    run(&r, VLM_REQUEST_IMAGES_MAX);
    if (r.status != VLM_OK) fail_msg("%s", r.error.msg);
    assert_true(r.job != NULL && r.reason == NULL);
    assert_int_equal(r.n_images, VLM_REQUEST_IMAGES_MAX);
    assert_int_equal(fake.n_max, VLM_REQUEST_IMAGES_MAX);
    assert_int_equal(fake.n_added, VLM_REQUEST_IMAGES_MAX);
    assert_int_equal(n_decoded() - before, VLM_REQUEST_IMAGES_MAX);
}

static void test_no_room_before_the_first(void **state)
{
    (void)state;
    vlm_worker_request r;
    const uint64_t before = n_decoded();
    fake.new_status = VLM_RESOURCE_EXHAUSTED;
    run(&r, 3);
    assert_int_equal(r.status, VLM_RESOURCE_EXHAUSTED);
    assert_string_equal(r.reason, "overloaded");
    assert_int_equal(fake.n_max, 3);
    assert_int_equal(fake.n_added, 0);
    assert_int_equal(n_decoded(), before);
}

static void test_too_many(void **state)
{
    (void)state;
    vlm_worker_request r;
    const uint64_t before = n_decoded();
    run(&r, VLM_REQUEST_IMAGES_MAX + 1);
    assert_int_equal(r.status, VLM_INVALID_ARGUMENT);
    assert_string_equal(r.error.msg, "messages: 17 pictures; at most 16 are taken");
    assert_int_equal(fake.n_new, 0);
    assert_int_equal(n_decoded(), before);
}

static void test_the_bad_one_is_named(void **state)
{
    (void)state;
    static const struct {
        vlm_status status;
        const char *reason;
    } table[] = {{VLM_INVALID_ARGUMENT, "invalid_image"}, {VLM_RESOURCE_EXHAUSTED, "overloaded"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        vlm_worker_request r;
        const uint64_t before = n_decoded();
        (void)reset(state);
        fake.add_status = table[i].status;
        fake.bad = 2;
        run(&r, 5);
        assert_int_equal(r.status, table[i].status);
        assert_string_equal(r.reason, table[i].reason);
        assert_string_equal(r.error.msg, "messages[1].content[3]: not this one");
        /* No more than those up to it. */
        assert_int_equal(n_decoded() - before, 3);
        assert_int_equal(r.n_images, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_all_pictures_come, reset),
        cmocka_unit_test_setup(test_no_room_before_the_first, reset),
        cmocka_unit_test_setup(test_too_many, reset),
        cmocka_unit_test_setup(test_the_bad_one_is_named, reset),
    };
    vlm_error err;
    if (vlm_decoders_open(
            &(vlm_decoders_options){
                .n = 1, .limits = {.bytes_max = 1 << 20, .pixels_max = 1 << 16, .side_max = 256}},
            &decoders, &err) != VLM_OK ||
        vlm_mock_open(&(vlm_mock_options){0}, &mock, &err) != VLM_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    const int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    mock->ops->close(mock);
    vlm_decoders_close(decoders);
    return n_failed;
}
