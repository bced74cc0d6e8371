/* test_list.c - what the Hub says of a revision: hostile answers, what a model needs of it,
 * digests, origins of URLs, the environment, and that no allocation is missed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "hub/env.h"
#include "hub/http.h"
#include "hub/list.h"

#define SHA "1111111111111111111111111111111111111111"
#define GIT "\"size\":3,\"blobId\":\"cccccccccccccccccccccccccccccccccccccccc\""
#define LFS                                                                                        \
    "\"size\":7,\"lfs\":{\"size\":7,\"sha256\":"                                                   \
    "\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"}"
#define FILE_OF(name, rest) "{\"rfilename\":\"" name "\"," rest "}"
#define LIST_OF(files) "{\"sha\":\"" SHA "\",\"siblings\":[" files "]}"

static vlm_status parse(const char *text, vlm_hub_list *list, vlm_error *err)
{
    return vlm_hub_list_parse(text, strlen(text), list, err);
}

static void test_parse(void **state)
{
    (void)state;
    vlm_hub_list list;
    vlm_error err;
    assert_int_equal(parse(LIST_OF(FILE_OF("model.safetensors", LFS) "," FILE_OF(
                               "config.json", GIT) "," FILE_OF("a/b.json", GIT)),
                           &list, &err),
                     VLM_OK);
    assert_string_equal(list.commit, SHA);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.files[0].name, "config.json");
    assert_false(list.files[0].is_sha256);
    assert_int_equal(list.files[0].size, 3);
    assert_true(list.files[1].is_sha256);
    assert_int_equal(strlen(list.files[1].digest), 64);
    vlm_hub_list_fini(&list);
}

static void test_hostile(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{}",
        "[]",
        "null",
        "{\"sha\":\"" SHA "\"}",
        "{\"sha\":\"" SHA "\",\"siblings\":{}}",
        "{\"sha\":\"111\",\"siblings\":[]}",
        "{\"sha\":\"../../../../../../../../../../../../../x\",\"siblings\":[]}",
        "{\"sha\":7,\"siblings\":[]}",
        LIST_OF("1"),
        LIST_OF("null"),
        LIST_OF("{}"),
        LIST_OF(FILE_OF("..", GIT)),
        LIST_OF(FILE_OF("../x", GIT)),
        LIST_OF(FILE_OF("/x", GIT)),
        LIST_OF(FILE_OF("x/", GIT)),
        LIST_OF(FILE_OF("a/./b", GIT)),
        LIST_OF(FILE_OF("a\\\\b", GIT)),
        LIST_OF(FILE_OF("a\\u0000b", GIT)),
        LIST_OF(FILE_OF("a\\nb", GIT)),
        LIST_OF(FILE_OF("C:x", GIT)),
        LIST_OF(FILE_OF("x", "\"size\":3")),
        LIST_OF(FILE_OF("x", "\"size\":-1,\"blobId\":\"" SHA "\"")),
        LIST_OF(FILE_OF("x", "\"blobId\":\"" SHA "\"")),
        LIST_OF(FILE_OF("x", "\"size\":3,\"blobId\":\"../../../../../../../../../../../../../x\"")),
        LIST_OF(FILE_OF("x", "\"size\":3,\"lfs\":{\"sha256\":\"" SHA "\"}")),
        LIST_OF(FILE_OF("x", "\"size\":99999999999999999999,\"blobId\":\"" SHA "\"")),
        LIST_OF(FILE_OF("x", GIT) "," FILE_OF("x", GIT)),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        vlm_hub_list list;
        vlm_error err;
        if (parse(texts[i], &list, &err) == VLM_OK) fail_msg("taken: %s", texts[i]);
        assert_null(list.files);
    }
}

/* The names that select leaves, with a space after each; or its error. */
static void selected(const char *text, char out[1024])
{
    vlm_hub_list list;
    vlm_error err;
    assert_int_equal(parse(text, &list, &err), VLM_OK);
    out[0] = '\0';
    size_t len = 0;
    if (vlm_hub_list_select(&list, &err) != VLM_OK)
        (void)snprintf(out, 1024, "%s", err.msg);
    else
        for (size_t i = 0; i < list.n; i++)
            len += (size_t)snprintf(out + len, 1024 - len, "%s ", list.files[i].name);
    vlm_hub_list_fini(&list);
}

static void test_select(void **state)
{
    (void)state;
    char text[1024];
    selected(LIST_OF(FILE_OF("model.safetensors", LFS) "," FILE_OF("config.json", GIT) "," FILE_OF(
                 "tokenizer.model", LFS) "," FILE_OF("README.md", GIT) "," FILE_OF("x.bin", LFS)),
             text);
    assert_string_equal(text, "config.json tokenizer.model model.safetensors ");
    selected(LIST_OF(FILE_OF("model-00001-of-00001.safetensors", LFS) "," FILE_OF(
                 "config.json", GIT) "," FILE_OF("model.safetensors.index.json",
                                                 GIT) "," FILE_OF("o.safetensors", LFS)),
             text);
    assert_string_equal(
        text, "config.json model-00001-of-00001.safetensors model.safetensors.index.json ");
    selected(LIST_OF(FILE_OF("other.safetensors", LFS) "," FILE_OF("config.json", GIT)), text);
    assert_string_equal(text, "config.json other.safetensors ");
    selected(LIST_OF(FILE_OF("model.safetensors", LFS)), text);
    assert_non_null(strstr(text, "config.json"));
    selected(LIST_OF(FILE_OF("a.safetensors", LFS) "," FILE_OF("b.safetensors", LFS) "," FILE_OF(
                 "config.json", GIT)),
             text);
    assert_non_null(strstr(text, "2 .safetensors files"));
    selected(LIST_OF(FILE_OF("m.gguf", LFS) "," FILE_OF("config.json", GIT)), text);
    assert_non_null(strstr(text, "gguf (m.gguf)"));
    selected(LIST_OF(FILE_OF("config.json", GIT)), text);
    assert_string_equal(text, "holds no weights");
}

static void test_digests(void **state)
{
    (void)state;
    char out[VLM_HUB_DIGEST_LEN_MAX + 1];
    vlm_hub_digest *d = vlm_hub_digest_new(true, 3);
    vlm_hub_digest_add(d, "a", 1);
    vlm_hub_digest_add(d, "bc", 2);
    vlm_hub_digest_end(d, out);
    vlm_hub_digest_free(d);
    assert_string_equal(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    d = vlm_hub_digest_new(false, 6); /* echo hello | git hash-object --stdin */
    vlm_hub_digest_add(d, "hello\n", 6);
    vlm_hub_digest_end(d, out);
    vlm_hub_digest_free(d);
    assert_string_equal(out, "ce013625030ba8dba906f756967f9e9ca394464a");
}

static void test_origins(void **state)
{
    (void)state;
    static const char *const same[][2] = {
        {"https://a.b/c", "https://a.b:443/d?e"},
        {"HTTPS://A.b", "https://a.B/"},
        {"http://a:80/", "http://a"},
        {"http://[::1]:8080/x", "http://[::1]:8080"},
        {"http://[::1]/x", "http://[::1]:80"},
    };
    static const char *const other[][2] = {
        {"https://a.b/", "http://a.b/"},
        {"https://a.b/", "https://a.b.c/"},
        {"https://a.b/", "https://a.b:444/"},
        {"https://a.b/", "https://xa.b/"},
        {"https://a.b/", "https://a.b@c.d/"},
        {"https://a.b/", "https://c.d#@a.b/"},
        {"https://a.b/", "https://a.b\\@c.d/"},
        {"https://a.b/", "ftp://a.b/"},
        {"https://a.b/", ""},
        {"https://", "https://"},
        {"http://127.0.0.1/", "http://localhost/"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (!vlm_hub_same_origin(same[i][0], same[i][1])) fail_msg("%s %s", same[i][0], same[i][1]);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (vlm_hub_same_origin(other[i][0], other[i][1]))
            fail_msg("%s %s", other[i][0], other[i][1]);
}

static void clear_environment(void)
{
    static const char *const names[] = {
        "HF_ENDPOINT",    "HF_TOKEN",       "HF_TOKEN_PATH",
        "HF_HOME",        "XDG_CACHE_HOME", "HUGGING_FACE_HUB_TOKEN",
        "HF_HUB_OFFLINE", "HOME",           "TRANSFORMERS_OFFLINE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) (void)unsetenv(names[i]);
}

static void test_environment(void **state)
{
    (void)state;
    vlm_hub_env env;
    vlm_error err;
    clear_environment();
    assert_int_equal(vlm_hub_env_read(&env, &err), VLM_OK);
    assert_string_equal(env.endpoint, "https://huggingface.co");
    assert_string_equal(env.token, "");
    assert_false(env.is_offline);
    (void)setenv("HF_ENDPOINT", "http://127.0.0.1:80//", 1);
    (void)setenv("HF_TOKEN", " hf_x\n", 1);
    (void)setenv("HF_HUB_OFFLINE", "True", 1);
    assert_int_equal(vlm_hub_env_read(&env, &err), VLM_OK);
    assert_string_equal(env.endpoint, "http://127.0.0.1:80");
    assert_string_equal(env.token, "hf_x");
    assert_true(env.is_offline);
    static const char *const bad[] = {"x",           "ftp://a",     "https://",
                                      "https://a b", "https://a@b", "https://a?b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        (void)setenv("HF_ENDPOINT", bad[i], 1);
        assert_int_equal(vlm_hub_env_read(&env, &err), VLM_INVALID_ARGUMENT);
    }
    clear_environment();
    (void)setenv("HF_TOKEN", "a\r\nX: y", 1);
    assert_int_equal(vlm_hub_env_read(&env, &err), VLM_INVALID_ARGUMENT);
    assert_null(strstr(err.msg, "X: y"));
    clear_environment();
}

static void test_no_memory(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    static const char text[] =
        LIST_OF(FILE_OF("model.safetensors", LFS) "," FILE_OF("config.json", GIT));
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_hub_list list;
        vlm_error err;
        vlm_status status = parse(text, &list, &err);
        if (status == VLM_OK) status = vlm_hub_list_select(&list, &err);
        const bool hit = failmalloc_hit;
        failmalloc_off();
        assert_int_equal(status, hit ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
        vlm_hub_list_fini(&list);
    }
#else
    print_message("the allocator cannot be replaced under a sanitizer\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),     cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_select),    cmocka_unit_test(test_digests),
        cmocka_unit_test(test_origins),   cmocka_unit_test(test_environment),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
