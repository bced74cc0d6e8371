/* test_models.c - the models of a gateway: found by name and alias, listed, come and gone, and what
 * each counts on one page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "gateway/models.h"

typedef struct fake_host {
    vlm_model_state state[2];
    size_t wanted;
} fake_host;

static vlm_model_state state_of(void *user, size_t model)
{
    return ((fake_host *)user)->state[model];
}

static bool takes(void *user, size_t model)
{
    return ((fake_host *)user)->state[model] == VLM_MODEL_LOADED;
}

static void want(void *user, size_t model)
{
    ((fake_host *)user)->wanted = model;
}

static const char *const names[] = {"A", "B\"x"};
static const vlm_model_alias aliases[] = {{"small", 1}};

static vlm_models_host host_of(fake_host *f)
{
    return (vlm_models_host){.names = names,
                             .n = 2,
                             .aliases = aliases,
                             .n_aliases = 1,
                             .state = state_of,
                             .takes = takes,
                             .want = want,
                             .user = f};
}

static size_t found(const vlm_models *m, const char *name)
{
    size_t i;
    return vlm_models_find(m, vlm_bytes_of(name), &i) ? i : SIZE_MAX;
}

static void test_with_a_host(void **unused)
{
    (void)unused;
    fake_host f = {.state = {VLM_MODEL_LOADED, VLM_MODEL_UNLOADED}};
    const vlm_models_host host = host_of(&f);
    vlm_models *m;
    vlm_error err;
    vlm_buf out;
    assert_int_equal(vlm_models_new(&host, &m, &err), VLM_OK);
    assert_int_equal(found(m, "A"), 0);
    assert_int_equal(found(m, "B\"x"), 1);
    assert_int_equal(found(m, "small"), 1);
    assert_true(found(m, "") == SIZE_MAX);
    assert_true(found(m, "a") == SIZE_MAX);
    vlm_models_note(m, "C"); /* the list is the host's */
    vlm_models_set_gone(m, 0, true);
    assert_int_equal(vlm_models_n(m), 2);
    assert_true(vlm_models_takes(m, 0));
    assert_false(vlm_models_takes(m, 1));
    vlm_models_want(m, 1);
    assert_int_equal(f.wanted, 1);
    assert_true(vlm_models_metrics(m, 0) != vlm_models_metrics(m, 1));
    vlm_buf_init(&out, 1 << 20);
    assert_int_equal(vlm_models_append_list(m, &out, &err), VLM_OK);
    assert_string_equal(
        out.data,
        "{\"object\":\"list\",\"data\":["
        "{\"id\":\"A\",\"object\":\"model\",\"created\":0,\"owned_by\":\"vlmd\",\"status\":"
        "\"loaded\"},"
        "{\"id\":\"B\\\"x\",\"object\":\"model\",\"created\":0,\"owned_by\":\"vlmd\",\"status\":"
        "\"unloaded\"},"
        "{\"id\":\"small\",\"object\":\"model\",\"created\":0,\"owned_by\":\"vlmd\",\"root\":"
        "\"B\\\"x\","
        "\"status\":\"unloaded\"}]}");
    vlm_buf_clear(&out);
    vlm_counter_add(vlm_models_metrics(m, 1), VLM_METRIC_PROMPT_TOKENS, 0, 7);
    assert_int_equal(vlm_metrics_write(vlm_models_metrics(m, 0), &out, &err), VLM_OK);
    assert_non_null(strstr(out.data, "vlmd_prompt_tokens_total{model_name=\"A\"} 0\n"
                                     "vlmd_prompt_tokens_total{model_name=\"B\\\"x\"} 7\n"));
    vlm_buf_fini(&out);
    vlm_models_free(m);
}

static void test_without_a_host(void **unused)
{
    (void)unused;
    vlm_models *m;
    vlm_error err;
    vlm_buf out;
    assert_int_equal(vlm_models_new(NULL, &m, &err), VLM_OK);
    assert_true(found(m, "") == SIZE_MAX);
    vlm_models_note(m, "A");
    vlm_models_note(m, "A");
    vlm_models_note(m, "");
    assert_int_equal(vlm_models_n(m), 1);
    assert_int_equal(found(m, ""), 0);
    vlm_models_note(m, "B");
    assert_true(found(m, "") == SIZE_MAX);
    assert_int_equal(vlm_models_state(m, 1), VLM_MODEL_LOADED);
    assert_true(vlm_models_takes(m, 1));
    vlm_models_set_gone(m, 0, true);
    assert_int_equal(found(m, ""), 1);
    assert_true(found(m, "A") == SIZE_MAX);
    vlm_buf_init(&out, 1 << 20);
    assert_int_equal(vlm_models_append_list(m, &out, &err), VLM_OK);
    assert_string_equal(out.data,
                        "{\"object\":\"list\",\"data\":[{\"id\":\"B\",\"object\":\"model\","
                        "\"created\":0,\"owned_by\":\"vlmd\"}]}");
    vlm_models_set_gone(m, 0, false);
    assert_int_equal(found(m, "A"), 0);
    for (int i = 0; i < 2 * VLM_MODELS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "m%d", i);
        vlm_models_note(m, name);
    }
    assert_int_equal(vlm_models_n(m), VLM_MODELS_MAX);
    vlm_buf_fini(&out);
    vlm_models_free(m);
}

static void test_no_memory(void **unused)
{
    (void)unused;
#if FAILMALLOC_AVAILABLE
    fake_host f = {.state = {VLM_MODEL_LOADED, VLM_MODEL_UNLOADED}};
    const vlm_models_host host = host_of(&f);
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_models *m;
        vlm_error err;
        const vlm_status status = vlm_models_new(&host, &m, &err);
        const bool hit = failmalloc_hit;
        failmalloc_off();
        assert_int_equal(status, hit ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
        if (hit) assert_null(m);
        vlm_models_free(m);
    }
#else
    print_message("the allocator cannot be replaced under a sanitizer\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_with_a_host),
        cmocka_unit_test(test_without_a_host),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
