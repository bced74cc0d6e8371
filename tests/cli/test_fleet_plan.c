/* test_fleet_plan.c - names and aliases of several models, and how memory is shared out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/fleet_plan.h"

#define MIB ((size_t)1 << 20)

static vlm_options options_of(const char *const *args, size_t n_args, const char *const *aliases,
                              size_t n_aliases)
{
    vlm_options opt = {.command = VLM_COMMAND_SERVE, .n_args = n_args, .alias = {.n = n_aliases}};
    for (size_t i = 0; i < n_args; i++) opt.args[i] = args[i];
    for (size_t i = 0; i < n_aliases; i++) opt.alias.values[i] = aliases[i];
    return opt;
}

static void test_names(void **state)
{
    (void)state;
    static vlm_fleet_plan p;
    vlm_error err;
    vlm_options opt = options_of(NULL, 0, NULL, 0);
    assert_int_equal(vlm_fleet_plan_names(&opt, &p, &err), VLM_OK);
    assert_int_equal(p.n, 1);
    assert_string_equal(p.models[0].name, "demo");
    assert_null(p.models[0].arg);

    static const char *const args[] = {"mock", "ORG/NAME"};
    static const char *const aliases[] = {"a=mock", "b=ORG/NAME", "c=ORG/NAME"};
    opt = options_of(args, 2, aliases, 3);
    assert_int_equal(vlm_fleet_plan_names(&opt, &p, &err), VLM_OK);
    assert_int_equal(p.n, 2);
    assert_string_equal(p.models[1].name, "ORG/NAME");
    assert_int_equal(p.n_aliases, 3);
    assert_string_equal(p.aliases[2].name, "c");
    assert_int_equal(p.aliases[0].model, 0);
    assert_int_equal(p.aliases[2].model, 1);
}

static void test_names_that_are_refused(void **state)
{
    (void)state;
    static vlm_fleet_plan p;
    vlm_error err;
    static const char *const twice[] = {"mock", "mock"};
    vlm_options opt = options_of(twice, 2, NULL, 0);
    assert_int_equal(vlm_fleet_plan_names(&opt, &p, &err), VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg, "two models are called mock");
    static const char *const args[] = {"mock", "demo"};
    static const char *const bad[] = {"x",         "=mock",   "x=", "x=none",  "x=moc",
                                      "mock=demo", "x=mock=", "=",  "x=mockx", "demo=mock"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        opt = options_of(args, 2, &bad[i], 1);
        assert_int_equal(vlm_fleet_plan_names(&opt, &p, &err), VLM_INVALID_ARGUMENT);
        assert_non_null(strstr(err.msg, "--alias"));
    }
    static const char *const same[] = {"x=mock", "x=demo"};
    opt = options_of(args, 2, same, 2);
    assert_int_equal(vlm_fleet_plan_names(&opt, &p, &err), VLM_INVALID_ARGUMENT);
}

static void share(vlm_fleet_plan *p, size_t budget_mib, size_t a_mib, size_t b_mib)
{
    vlm_error err;
    *p = (vlm_fleet_plan){.n = 2, .budget_bytes = budget_mib * MIB};
    p->models[0].need_bytes = a_mib * MIB;
    p->models[1].need_bytes = b_mib * MIB;
    assert_int_equal(vlm_fleet_plan_shares(p, &err), VLM_OK);
}

static void test_shares(void **state)
{
    (void)state;
    static vlm_fleet_plan p;
    vlm_error err;
    share(&p, 1200, 100, 500); /* both fit: all of it, by need */
    assert_int_equal(p.models[0].share_bytes / MIB, 200);
    assert_int_equal(p.models[1].share_bytes / MIB, 1000);
    share(&p, 100000, 100, 500); /* far more than they can use */
    assert_int_equal(p.models[0].share_bytes / MIB, 400);
    assert_int_equal(p.models[1].share_bytes / MIB, 2000);
    share(&p, 600, 100, 500); /* just */
    assert_int_equal(p.models[0].share_bytes / MIB, 100);
    assert_int_equal(p.models[1].share_bytes / MIB, 500);
    share(&p, 560, 100, 500); /* only one at a time */
    assert_int_equal(p.models[0].share_bytes / MIB, 125);
    assert_int_equal(p.models[1].share_bytes / MIB, 560);
    p.budget_bytes = 499 * MIB;
    assert_int_equal(vlm_fleet_plan_shares(&p, &err), VLM_FAILED_PRECONDITION);
    assert_non_null(strstr(err.msg, "500 MiB"));
    p.models[0].need_bytes = p.models[1].need_bytes = p.budget_bytes = SIZE_MAX;
    assert_int_equal(vlm_fleet_plan_shares(&p, &err), VLM_OK);
    assert_true(p.models[0].share_bytes == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_names_that_are_refused),
        cmocka_unit_test(test_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
