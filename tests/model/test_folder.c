/* test_folder.c - a directory and a built-in set look the same; names cannot leave the folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failmalloc.h"
#include "model/folder.h"

static char root[64]; /* a directory of this test: inner/ with the files, outside beside it */
static char inner[80];

static void path_of(const char *rest, char path[256])
{
    (void)snprintf(path, 256, "%s/%s", root, rest);
}

static void put(const char *rest, const char *text)
{
    char path[256];
    path_of(rest, path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static const char *const names[] = {"config.json", "bad.json",      "list.json",
                                    "empty.json",  "b.safetensors", "a.safetensors"};
static const char *const texts[] = {"{\"a\":[1,2]}", "{\"a\":1", "[1]", "", "weights", "x"};
enum { N_FILES = sizeof names / sizeof names[0] };

static int set_up(void **state)
{
    (void)state;
    char path[256];
    (void)snprintf(root, sizeof root, "/tmp/vlm_folder_XXXXXX");
    if (mkdtemp(root) == NULL) return 1;
    (void)snprintf(inner, sizeof inner, "%s/inner", root);
    if (mkdir(inner, 0700) != 0) return 1;
    for (size_t i = 0; i < N_FILES; i++) {
        char rest[64];
        (void)snprintf(rest, sizeof rest, "inner/%s", names[i]);
        put(rest, texts[i]);
    }
    put("outside", "secret");
    path_of("inner/folder.safetensors", path);
    if (mkdir(path, 0700) != 0) return 1;
    path_of("inner/pipe.json", path);
    return mkfifo(path, 0600);
}

static int tear_down(void **state)
{
    (void)state;
    char path[256];
    static const char *const others[] = {"inner/pipe.json", "outside"};
    for (size_t i = 0; i < 2; i++) {
        path_of(others[i], path);
        if (unlink(path) != 0) return 1;
    }
    for (size_t i = 0; i < N_FILES; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", inner, names[i]);
        if (unlink(path) != 0) return 1;
    }
    path_of("inner/folder.safetensors", path);
    return rmdir(path) != 0 || rmdir(inner) != 0 || rmdir(root) != 0;
}

/* The same files, kind 0 from the directory, kind 1 built in. */
static vlm_status open_kind(int kind, vlm_folder **f, vlm_error *err)
{
    static vlm_builtin_file files[N_FILES];
    if (kind == 0) return vlm_folder_open(inner, f, err);
    for (size_t i = 0; i < N_FILES; i++)
        files[i] = (vlm_builtin_file){names[i], texts[i], strlen(texts[i])};
    return vlm_folder_open_builtin(files, N_FILES, f, err);
}

static void test_contents(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        vlm_folder *f;
        vlm_error err;
        vlm_bytes bytes, again;
        assert_int_equal(open_kind(kind, &f, &err), VLM_OK);
        /* Twice over: what was handed out first stays where it is. */
        assert_int_equal(vlm_folder_bytes(f, names[0], &bytes, &err), VLM_OK);
        for (size_t i = 0; i < N_FILES; i++) {
            assert_true(vlm_folder_has(f, names[i]));
            assert_int_equal(vlm_folder_bytes(f, names[i], &again, &err), VLM_OK);
            assert_int_equal(again.len, strlen(texts[i]));
            if (again.len > 0) assert_memory_equal(again.ptr, texts[i], again.len);
        }
        assert_int_equal(vlm_folder_bytes(f, names[0], &again, &err), VLM_OK);
        assert_ptr_equal(again.ptr, bytes.ptr);
        vlm_folder_close(f);
    }
    vlm_folder_close(NULL);
}

static void test_json(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        vlm_folder *f;
        vlm_error err;
        const vlm_json *node, *again;
        assert_int_equal(open_kind(kind, &f, &err), VLM_OK);
        assert_int_equal(vlm_folder_json(f, "config.json", &node, &err), VLM_OK);
        assert_int_equal(vlm_json_array_len(vlm_json_get(node, "a")), 2);
        assert_int_equal(vlm_folder_json(f, "config.json", &again, &err), VLM_OK);
        assert_ptr_equal(node, again);
        static const char *const bad[] = {"bad.json", "list.json", "empty.json"};
        for (size_t i = 0; i < 3; i++)
            for (int twice = 0; twice < 2; twice++) {
                assert_int_equal(vlm_folder_json(f, bad[i], &node, &err), VLM_INVALID_ARGUMENT);
                assert_ptr_equal(strstr(err.msg, bad[i]), err.msg);
            }
        assert_int_equal(vlm_folder_json(f, "none.json", &node, &err), VLM_NOT_FOUND);
        assert_non_null(strstr(err.msg, "none.json"));
        vlm_folder_close(f);
    }
}

static void test_names_that_leave_the_folder(void **state)
{
    (void)state;
    static const char *const hostile[] = {
        "../outside",       "..", ".",  "", "/etc/passwd", "./config.json",
        "x/../config.json", "/",  "a/b"};
    char longer[400];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    for (int kind = 0; kind < 2; kind++) {
        vlm_folder *f;
        vlm_error err;
        vlm_bytes bytes;
        assert_int_equal(open_kind(kind, &f, &err), VLM_OK);
        for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
            assert_false(vlm_folder_has(f, hostile[i]));
            assert_int_not_equal(vlm_folder_bytes(f, hostile[i], &bytes, &err), VLM_OK);
        }
        assert_false(vlm_folder_has(f, longer));
        assert_int_not_equal(vlm_folder_bytes(f, longer, &bytes, &err), VLM_OK);
        vlm_folder_close(f);
    }
}

static void test_what_is_no_file(void **state)
{
    (void)state;
    vlm_folder *f;
    vlm_error err;
    vlm_bytes bytes;
    assert_int_equal(vlm_folder_open(inner, &f, &err), VLM_OK);
    assert_false(vlm_folder_has(f, "folder.safetensors"));
    assert_int_not_equal(vlm_folder_bytes(f, "folder.safetensors", &bytes, &err), VLM_OK);
    /* A pipe without a writer must not be waited for. */
    assert_false(vlm_folder_has(f, "pipe.json"));
    assert_int_equal(vlm_folder_bytes(f, "pipe.json", &bytes, &err), VLM_INVALID_ARGUMENT);
    vlm_folder_close(f);
}

static void test_names_by_suffix(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        vlm_folder *f;
        vlm_error err;
        char **found;
        size_t n;
        assert_int_equal(open_kind(kind, &f, &err), VLM_OK);
        assert_int_equal(vlm_folder_names(f, ".safetensors", &found, &n, &err), VLM_OK);
        assert_int_equal(n, 2);
        assert_string_equal(found[0], "a.safetensors");
        assert_string_equal(found[1], "b.safetensors");
        vlm_folder_names_free(found, n);
        assert_int_equal(vlm_folder_names(f, ".gguf", &found, &n, &err), VLM_OK);
        assert_int_equal(n, 0);
        vlm_folder_names_free(found, n);
        vlm_folder_close(f);
    }
}

static void test_folders_that_cannot_be_opened(void **state)
{
    (void)state;
    vlm_folder *f;
    vlm_error err = {0};
    char path[256];
    path_of("none", path);
    assert_int_equal(vlm_folder_open(path, &f, &err), VLM_NOT_FOUND);
    assert_null(f);
    assert_non_null(strstr(err.msg, path));
    path_of("outside", path);
    assert_int_equal(vlm_folder_open(path, &f, &err), VLM_INVALID_ARGUMENT);
    assert_null(f);
    assert_int_equal(vlm_folder_open("", &f, &err), VLM_NOT_FOUND);
    static char longer[8192];
    memset(longer, '/', sizeof longer - 1);
    assert_int_equal(vlm_folder_open(longer, &f, &err), VLM_INVALID_ARGUMENT);
    assert_null(f);
}

static void test_out_of_memory(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    for (int kind = 0; kind < 2; kind++) {
        unsigned n_failed = 0;
        for (unsigned n = 1; failmalloc_again(n); n++) {
            vlm_folder *f;
            vlm_error err;
            const vlm_json *node;
            char **found = NULL;
            size_t n_found = 0;
            vlm_status status = open_kind(kind, &f, &err);
            if (status == VLM_OK) status = vlm_folder_json(f, "config.json", &node, &err);
            if (status == VLM_OK)
                status = vlm_folder_names(f, ".safetensors", &found, &n_found, &err);
            failmalloc_off();
            n_failed += status != VLM_OK;
            vlm_folder_names_free(found, n_found);
            /* What failed for want of memory works again later. */
            if (f != NULL) {
                assert_int_equal(vlm_folder_json(f, "config.json", &node, &err), VLM_OK);
                assert_int_equal(vlm_json_object_len(node), 1);
            }
            vlm_folder_close(f);
        }
        assert_true(n_failed >= 5);
    }
#else
    print_message("a sanitizer's allocator cannot be made to fail\n");
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_names_that_leave_the_folder),
        cmocka_unit_test(test_what_is_no_file),
        cmocka_unit_test(test_names_by_suffix),
        cmocka_unit_test(test_folders_that_cannot_be_opened),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
