#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hub/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void ids(void **state)
{
    (void)state;
    static const char *const good[] = {"org/name",    "llava-hf/llava-1.5-7b-hf",
                                       "a/b@main",    "a/b@refs/pr/1",
                                       "a/b@0123abc", "a_b/c.d-e",
                                       "A/9"};
    static const char *const bad[] = {
        "",      "name",     "/",      "a/",       "/b",       "a/b/c",      "../x",    "a/..",
        "a/.b",  "./a",      "a/b@",   "a/b@../c", "a/b@/c",   "a/b@c/../d", "a b/c",   "a/b c",
        "a/b\n", "~/models", "a\\b/c", "a/b@c@d",  "/abs/dir", "a/b..c",     "a/b@.git"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!vlm_hub_is_id(good[i])) fail_msg("%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (vlm_hub_is_id(bad[i])) fail_msg("%s", bad[i]);
    char longer[400];
    memset(longer, 'a', sizeof longer);
    longer[5] = '/';
    longer[sizeof longer - 1] = '\0';
    assert_false(vlm_hub_is_id(longer));
}

typedef struct cache {
    char root[64];
} cache;

static void make_dir(const cache *c, const char *rest)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", c->root, rest);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void make_file(const cache *c, const char *rest, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", c->root, rest);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
    static cache c;
    (void)snprintf(c.root, sizeof c.root, "/tmp/vlm_hub_XXXXXX");
    if (mkdtemp(c.root) == NULL) return 1;
    make_dir(&c, "models--org--name");
    make_dir(&c, "models--org--name/refs");
    make_dir(&c, "models--org--name/snapshots");
    make_dir(&c, "models--org--name/snapshots/0123abcd");
    make_dir(&c, "models--org--name/snapshots/4567");
    make_file(&c, "models--org--name/refs/main", "0123abcd");
    make_file(&c, "models--org--name/refs/v2", "4567\n");
    make_file(&c, "models--org--name/refs/gone", "89ab");
    make_file(&c, "models--org--name/refs/evil", "../../../etc");
    make_file(&c, "models--org--name/refs/empty", "");
    for (const char *const *name = (const char *const[]){"HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                                         "XDG_CACHE_HOME", "HOME", NULL};
         *name != NULL; name++)
        (void)unsetenv(*name);
    (void)setenv("HF_HUB_CACHE", c.root, 1);
    *state = &c;
    return 0;
}

static int tear_down(void **state)
{
    const cache *c = *state;
    static const char *const files[] = {"main", "v2", "gone", "evil", "empty"};
    static const char *const dirs[] = {"models--org--name/refs",
                                       "models--org--name/snapshots/0123abcd",
                                       "models--org--name/snapshots/4567",
                                       "models--org--name/snapshots",
                                       "models--org--name",
                                       ""};
    char path[256];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/models--org--name/refs/%s", c->root, files[i]);
        (void)unlink(path);
    }
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", c->root, dirs[i]);
        (void)rmdir(path);
    }
    return 0;
}

static void snapshots(void **state)
{
    const cache *c = *state;
    static const struct {
        const char *id, *want; /* below the cache; NULL: not found */
        vlm_status status;
    } cases[] = {
        {"org/name", "models--org--name/snapshots/0123abcd", VLM_OK},
        {"org/name@main", "models--org--name/snapshots/0123abcd", VLM_OK},
        {"org/name@v2", "models--org--name/snapshots/4567", VLM_OK},
        {"org/name@4567", "models--org--name/snapshots/4567", VLM_OK},
        {"org/name@gone", NULL, VLM_NOT_FOUND},
        {"org/name@9999", NULL, VLM_NOT_FOUND},
        {"org/other", NULL, VLM_NOT_FOUND},
        {"org/name@evil", NULL, VLM_INVALID_ARGUMENT},
        {"org/name@empty", NULL, VLM_INVALID_ARGUMENT},
        {"org", NULL, VLM_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vlm_buf path;
        vlm_buf_init(&path, 4096);
        vlm_error err;
        const vlm_status status = vlm_hub_find(cases[i].id, &path, &err);
        if (status != cases[i].status) fail_msg("%s: %d", cases[i].id, status);
        if (status == VLM_OK) {
            char want[256];
            (void)snprintf(want, sizeof want, "%s/%s", c->root, cases[i].want);
            assert_string_equal(path.data, want);
        } else {
            assert_null(strstr(err.msg, c->root));
        }
        vlm_buf_fini(&path);
    }
}

/* The first variable that is set and not empty. */
static void where_the_cache_is(void **state)
{
    (void)state;
    static const struct {
        const char *variable, *want;
    } places[] = {{"HOME", "/v/.cache/huggingface/hub"},
                  {"XDG_CACHE_HOME", "/v/huggingface/hub"},
                  {"HF_HOME", "/v/hub"},
                  {"HUGGINGFACE_HUB_CACHE", "/v"},
                  {"HF_HUB_CACHE", "/v"}};
    enum { N = sizeof places / sizeof places[0] };
    vlm_error err;
    vlm_buf path;
    vlm_buf_init(&path, 4096);
    for (size_t i = 0; i < N; i++) (void)unsetenv(places[i].variable);
    assert_int_equal(vlm_hub_cache_dir(&path, &err), VLM_NOT_FOUND);
    assert_int_equal(vlm_hub_find("org/name", &path, &err), VLM_NOT_FOUND);
    assert_int_equal(path.len, 0);
    for (size_t i = 0; i < N; i++) {
        /* Those that it goes before name another place; those that go before it are empty. */
        for (size_t k = 0; k < N; k++)
            (void)setenv(places[k].variable, k < i ? "/other" : k == i ? "/v" : "", 1);
        vlm_buf_clear(&path);
        assert_int_equal(vlm_hub_cache_dir(&path, &err), VLM_OK);
        assert_string_equal(path.data, places[i].want);
        vlm_buf_clear(&path);
        assert_int_equal(vlm_hub_find("org/name@x", &path, &err), VLM_NOT_FOUND);
        char want[256];
        (void)snprintf(want, sizeof want, "%s/models--org--name/snapshots/x", places[i].want);
        assert_string_equal(path.data, want);
    }
    vlm_buf_fini(&path);
    for (size_t i = 0; i < N; i++) (void)unsetenv(places[i].variable);
    vlm_buf_init(&path, 3);
    (void)setenv("HF_HUB_CACHE", "/too/long", 1);
    assert_int_equal(vlm_hub_cache_dir(&path, &err), VLM_RESOURCE_EXHAUSTED);
    vlm_buf_fini(&path);
    (void)unsetenv("HF_HUB_CACHE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids),
        cmocka_unit_test_setup_teardown(snapshots, set_up, tear_down),
        cmocka_unit_test(where_the_cache_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
