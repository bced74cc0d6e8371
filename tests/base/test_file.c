#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct fixture {
    char dir[64], path[96];
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    if (f == NULL) return 1;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/vlm_file_XXXXXX");
    if (mkdtemp(f->dir) == NULL) return 1;
    (void)snprintf(f->path, sizeof f->path, "%s/x", f->dir);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    (void)unlink(f->path);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static void put(const fixture *f, size_t len)
{
    FILE *file = fopen(f->path, "wb");
    assert_non_null(file);
    for (size_t i = 0; i < len; i++) assert_int_not_equal(fputc((int)(i % 251), file), EOF);
    assert_int_equal(fclose(file), 0);
}

static void whole_files(void **state)
{
    const fixture *f = *state;
    const size_t lens[] = {0, 1, 65535, 65536, 65537, 200000};
    for (size_t k = 0; k < sizeof lens / sizeof lens[0]; k++) {
        put(f, lens[k]);
        vlm_error err;
        vlm_map map;
        assert_int_equal(vlm_map_open(f->path, "x", &map, &err), VLM_OK);
        assert_int_equal(map.len, lens[k]);
        assert_int_equal(map.data == NULL, lens[k] == 0);
        vlm_buf buf;
        assert_int_equal(vlm_file_read(f->path, "x", lens[k], &buf, &err), VLM_OK);
        assert_int_equal(buf.len, lens[k]);
        if (lens[k] > 0) assert_memory_equal(buf.data, map.data, lens[k]);
        for (size_t i = 0; i < lens[k]; i++) assert_int_equal((unsigned char)buf.data[i], i % 251);
        vlm_buf_fini(&buf);
        vlm_map_close(&map);
        assert_null(map.data);
        vlm_map_close(&map);
        if (lens[k] == 0) continue;
        assert_int_equal(vlm_file_read(f->path, "x", lens[k] - 1, &buf, &err),
                         VLM_RESOURCE_EXHAUSTED);
        assert_null(buf.data);
    }
}

static void what_cannot_be_opened(void **state)
{
    const fixture *f = *state;
    vlm_error err;
    vlm_map map;
    vlm_buf buf;
    assert_int_equal(vlm_map_open(f->path, "model.safetensors", &map, &err), VLM_NOT_FOUND);
    assert_string_equal(err.msg, "model.safetensors: cannot open: No such file or directory");
    assert_int_equal(vlm_file_read(f->path, "x", 10, &buf, &err), VLM_NOT_FOUND);
    assert_int_equal(vlm_map_open(f->dir, "x", &map, &err), VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_file_read(f->dir, "x", 10, &buf, &err), VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg, "x: not a regular file");
    assert_int_equal(vlm_map_open("/dev/zero", "x", &map, &err), VLM_INVALID_ARGUMENT);
    /* A FIFO without a writer must not hang. */
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(vlm_map_open(f->path, "x", &map, &err), VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_file_read(f->path, "x", 10, &buf, &err), VLM_INVALID_ARGUMENT);
    assert_false(vlm_path_is_file(f->path));
    assert_int_equal(unlink(f->path), 0);
    put(f, 1);
    assert_true(vlm_path_is_file(f->path));
    assert_false(vlm_path_is_dir(f->path));
    assert_true(vlm_path_is_dir(f->dir));
    assert_false(vlm_path_is_dir("/nonexistent/x"));
    char below[128];
    (void)snprintf(below, sizeof below, "%s/y", f->path);
    assert_int_equal(vlm_map_open(below, "y", &map, &err), VLM_NOT_FOUND);
    if (geteuid() == 0) return; /* root opens everything */
    assert_int_equal(chmod(f->path, 0), 0);
    assert_int_equal(vlm_map_open(f->path, "x", &map, &err), VLM_PERMISSION_DENIED);
}

/* A mapped file that nothing holds open any more leaks no descriptor. */
static void descriptors_are_closed(void **state)
{
    const fixture *f = *state;
    put(f, 100);
    const int before = dup(0);
    assert_true(before >= 0);
    assert_int_equal(close(before), 0);
    for (int i = 0; i < 50; i++) {
        vlm_map map;
        vlm_buf buf;
        assert_int_equal(vlm_map_open(f->path, "x", &map, NULL), VLM_OK);
        assert_int_equal(vlm_file_read(f->path, "x", 99, &buf, NULL), VLM_RESOURCE_EXHAUSTED);
        assert_int_equal(vlm_map_open(f->dir, "x", &(vlm_map){0}, NULL), VLM_INVALID_ARGUMENT);
        vlm_map_close(&map);
    }
    const int after = dup(0);
    assert_int_equal(after, before);
    assert_int_equal(close(after), 0);
}

enum { PIPE_LEN = 300000 };

static void *write_pipe(void *arg)
{
    const int fd = *(const int *)arg;
    char *data = malloc(PIPE_LEN);
    for (size_t i = 0; data != NULL && i < PIPE_LEN; i++) data[i] = (char)(i % 253);
    const vlm_status status = vlm_fd_write(fd, "pipe", data, PIPE_LEN, NULL);
    free(data);
    (void)close(fd);
    return status == VLM_OK ? arg : NULL;
}

static void pipes(void **state)
{
    (void)state;
    for (size_t limit = PIPE_LEN - 1; limit <= PIPE_LEN; limit++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pthread_t writer;
        assert_int_equal(pthread_create(&writer, NULL, write_pipe, &fds[1]), 0);
        vlm_buf buf;
        vlm_error err;
        const vlm_status status = vlm_fd_read(fds[0], "standard input", limit, &buf, &err);
        char rest[4096];
        while (read(fds[0], rest, sizeof rest) > 0) {
        }
        void *wrote;
        assert_int_equal(pthread_join(writer, &wrote), 0);
        assert_non_null(wrote);
        (void)close(fds[0]);
        if (limit < PIPE_LEN) {
            assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
            assert_string_equal(err.msg, "standard input: larger than 299999 bytes");
            continue;
        }
        assert_int_equal(status, VLM_OK);
        assert_int_equal(buf.len, PIPE_LEN);
        for (size_t i = 0; i < PIPE_LEN; i++) assert_int_equal((unsigned char)buf.data[i], i % 253);
        vlm_buf_fini(&buf);
    }
}

static void writes_that_fail(void **state)
{
    (void)state;
    vlm_error err;
    const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full < 0) skip(); /* not Linux */
    assert_int_equal(vlm_fd_write(full, "out", "x", 1, &err), VLM_RESOURCE_EXHAUSTED);
    assert_int_equal(vlm_fd_write(full, "out", "", 0, &err), VLM_OK);
    (void)close(full);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    (void)close(fds[0]);
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(vlm_fd_write(fds[1], "out", "x", 1, &err), VLM_UNAVAILABLE);
    assert_string_equal(err.msg, "out: cannot write: Broken pipe");
    (void)close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_opened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(descriptors_are_closed, set_up, tear_down),
        cmocka_unit_test(pipes),
        cmocka_unit_test(writes_that_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
