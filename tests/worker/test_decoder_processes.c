/* Decoder processes that end, from outside, with their worker, or because there is no sandbox; what
 * is left behind; a worker without memory. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "failmalloc.h"
#include "worker/decoder_faults.h"
#include "worker/decoder_wire.h"
#include "worker/decoders.h"
#include "worker/decoders_help.h"
#include "worker/sandbox.h"

/* SECOND: the second pixel of make_bmp's top row. */
enum { N_CHILDREN = 3, TIMEOUT_MS = 3000, SIDE = 64, SECOND = ((SIDE - 1) * SIDE + 1) % 251 };

static uint8_t *picture;
static size_t picture_len;

static vlm_decoders *open_decoders(void)
{
    const vlm_decoders_options options = {.n = N_CHILDREN,
                                          .limits = vlm_image_limits_default,
                                          .timeout_ms = TIMEOUT_MS,
                                          .faults = true};
    vlm_decoders *d = NULL;
    vlm_error error;
    if (vlm_decoders_open(&options, &d, &error) != VLM_OK) fail_msg("%s", error.msg);
    return d;
}

static vlm_status run(vlm_decoders *d, vlm_error *err)
{
    vlm_image image;
    vlm_image_format format;
    const vlm_status status = vlm_decoders_run(d, picture, picture_len, NULL, &image, &format, err);
    if (status == VLM_OK && (image.width != SIDE || image.rgb[3] != SECOND)) return VLM_INTERNAL;
    vlm_image_fini(&image);
    return status;
}

static vlm_status run_fault(vlm_decoders *d, const char *word, vlm_error *err)
{
    char file[64];
    vlm_image image;
    vlm_image_format format;
    const int len = snprintf(file, sizeof file, "%s%s", VLM_DECODER_FAULT_MARK, word);
    const vlm_status status = vlm_decoders_run(d, file, (size_t)len, NULL, &image, &format, err);
    vlm_image_fini(&image);
    return status;
}

static void sleep_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

/* The fork server: the only child of this process. */
static pid_t server_pid(void)
{
    const pids p = children_of(getpid());
    assert_int_equal(p.n, 1);
    return p.pid[0];
}

/* All of them end within two seconds; reaped: and their parent has taken note, which it can when
 * the last thread is gone, one that a sanitizer has started too. */
static bool end_soon(const pids *p, bool reaped)
{
    enum { LOOKS = 200, LOOK_MS = 10 };
    for (int look = 0; look < LOOKS; look++) {
        int n_left = 0;
        for (int i = 0; i < p->n; i++)
            n_left += reaped ? kill(p->pid[i], 0) == 0 : is_alive(p->pid[i]);
        if (n_left == 0) return true;
        sleep_ms(LOOK_MS);
    }
    return false;
}

static void test_nothing_left(void **state)
{
    (void)state;
    uint64_t memory = 0;
    const int n_fds = count_fds(&memory);
    for (int i = 0; i < 10; i++) {
        vlm_decoders *d = open_decoders();
        for (int k = 0; k < 5; k++) assert_int_equal(run(d, NULL), VLM_OK);
        assert_int_equal(run_fault(d, "crash", NULL), VLM_INVALID_ARGUMENT);
        const pids decoders = children_of(server_pid());
        assert_true(decoders.n >= 1 && decoders.n <= N_CHILDREN + 1);
        vlm_decoders_close(d);
        for (int k = 0; k < decoders.n; k++) assert_false(is_alive(decoders.pid[k]));
        assert_int_equal(count_fds(&memory), n_fds);
        assert_int_equal(memory, 0);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
    }
    vlm_decoders_close(NULL);
}

static void test_no_zombies(void **state)
{
    (void)state;
    vlm_decoders *d = open_decoders();
    const pid_t server = server_pid();
    for (int i = 0; i < 30; i++)
        assert_int_equal(run_fault(d, i % 2 == 0 ? "crash" : "lie-seq", NULL),
                         VLM_INVALID_ARGUMENT);
    assert_int_equal(run(d, NULL), VLM_OK);
    sleep_ms(200);
    int n_of_server = 0;
    DIR *dir = opendir("/proc");
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        pid_t parent = 0;
        char now = 0;
        const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && look_at(pid, &parent, &now) && parent == server) n_of_server++;
    }
    (void)closedir(dir);
    assert_int_equal(n_of_server, N_CHILDREN);
    vlm_decoders_close(d);
}

/* Idle children that somebody kills are not noticed by any picture. */
static void test_killed_while_idle(void **state)
{
    (void)state;
    vlm_decoders *d = open_decoders();
    for (int round = 0; round < 5; round++) {
        const pids decoders = children_of(server_pid());
        for (int i = 0; i < decoders.n; i++) (void)kill(decoders.pid[i], SIGKILL);
        assert_true(end_soon(&decoders, true));
        for (int i = 0; i < 2 * N_CHILDREN; i++) {
            vlm_error error = {0};
            if (run(d, &error) != VLM_OK) fail_msg("%s", error.msg);
        }
    }
    vlm_decoders_close(d);
}

static void *kill_soon(void *user)
{
    const pids *const decoders = user;
    sleep_ms(100);
    for (int i = 0; i < decoders->n; i++) (void)kill(decoders->pid[i], SIGKILL);
    return NULL;
}

static void test_killed_at_work(void **state)
{
    (void)state;
    vlm_decoders *d = open_decoders();
    vlm_error error = {0};
    pthread_t killer;
    pids decoders = children_of(server_pid());
    const uint64_t start = vlm_clock_ns();
    assert_int_equal(pthread_create(&killer, NULL, kill_soon, &decoders), 0);
    assert_int_equal(run_fault(d, "hang", &error), VLM_INVALID_ARGUMENT);
    assert_non_null(strstr(error.msg, "crashed"));
    assert_true(vlm_clock_seconds(start, vlm_clock_ns()) < TIMEOUT_MS * 1e-3);
    (void)pthread_join(killer, NULL);
    assert_int_equal(run(d, NULL), VLM_OK);
    vlm_decoders_close(d);
}

/* A worker that drains gets SIGTERM with all its processes, and still answers. */
static void test_signals_of_the_group(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    vlm_decoders *d = open_decoders();
    const pid_t server = server_pid();
    const pids decoders = children_of(server);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        (void)kill(server, signals[i]);
        for (int k = 0; k < decoders.n; k++) (void)kill(decoders.pid[k], signals[i]);
    }
    sleep_ms(50);
    assert_true(is_alive(server));
    for (int k = 0; k < decoders.n; k++) assert_true(is_alive(decoders.pid[k]));
    assert_int_equal(run(d, NULL), VLM_OK);
    vlm_decoders_close(d);
}

/* Without the fork server there are no children, and no picture waits for one. */
static void test_server_killed(void **state)
{
    (void)state;
    vlm_decoders *d = open_decoders();
    const pid_t server = server_pid();
    const pids decoders = children_of(server);
    (void)kill(server, SIGKILL);
    assert_true(end_soon(&decoders, false));
    int n_given_to_dead = 0;
    for (int i = 0; i < 5; i++) {
        vlm_error error = {0};
        const uint64_t start = vlm_clock_ns();
        const vlm_status status = run(d, &error);
        /* A picture may reach each of the dead before its end has been seen. */
        if (status == VLM_INVALID_ARGUMENT && n_given_to_dead < decoders.n) {
            n_given_to_dead++;
            continue;
        }
        assert_int_equal(status, VLM_UNAVAILABLE);
        assert_non_null(strstr(error.msg, "decoder processes"));
        assert_true(vlm_clock_seconds(start, vlm_clock_ns()) < 1);
    }
    vlm_decoders_close(d);
}

/* In a process of its own: opens decoders, says who they are, and waits for its end, one decoder
 * at work. */
static void live_as_worker(int out)
{
    vlm_decoders *d = open_decoders();
    pids all = children_of(server_pid());
    if (run(d, NULL) != VLM_OK) all.n = 0;
    all.pid[all.n++] = server_pid();
    if (write(out, &all, sizeof all) == (ssize_t)sizeof all) (void)run_fault(d, "hang", NULL);
    for (;;) (void)pause();
}

static void test_worker_killed(void **state)
{
    (void)state;
    int pipe_fds[2];
    pids all = {.n = 0};
    assert_int_equal(pipe(pipe_fds), 0);
    const pid_t worker = fork();
    if (worker == 0) live_as_worker(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], &all, sizeof all), sizeof all);
    assert_int_equal(all.n, N_CHILDREN + 1);
    for (int i = 0; i < all.n; i++) assert_true(is_alive(all.pid[i]));
    sleep_ms(100);
    const uint64_t start = vlm_clock_ns();
    (void)kill(worker, SIGKILL);
    assert_true(end_soon(&all, false));
    print_message("all ended within %.0f ms\n", vlm_clock_seconds(start, vlm_clock_ns()) * 1e3);
    (void)waitpid(worker, NULL, 0);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

/* prctl(PR_SET_SECCOMP) fails, as in a container that forbids it. */
static bool forbid_seccomp(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

static int open_without_seccomp(void)
{
    const vlm_decoders_options options = {.n = 2, .limits = vlm_image_limits_default};
    vlm_decoders *d = NULL;
    vlm_error error = {0};
    if (!forbid_seccomp()) return 1;
    if (vlm_decoders_open(&options, &d, &error) != VLM_FAILED_PRECONDITION) return 2;
    if (d != NULL || strstr(error.msg, "seccomp") == NULL) return 3;
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : 4;
}

static void test_no_sandbox(void **state)
{
    (void)state;
    int status = 0;
    const pid_t pid = fork();
    if (pid == 0) _exit(open_without_seccomp());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_bad_options(void **state)
{
    (void)state;
    const vlm_image_limits limits = vlm_image_limits_default;
    vlm_decoders_options table[] = {
        {.n = VLM_DECODERS_MAX + 1, .limits = limits},
        {.n = 1},
        {.n = 1, .limits = limits},
        {.n = 1, .limits = limits},
    };
    table[2].limits.pixels_max = UINT64_MAX;
    table[2].limits.side_max = UINT32_MAX;
    table[3].limits.bytes_max = SIZE_MAX;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        vlm_decoders *d = NULL;
        vlm_error error = {0};
        assert_int_equal(vlm_decoders_open(&table[i], &d, &error), VLM_INVALID_ARGUMENT);
        assert_null(d);
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* A picture of 2000 x 2000 pixels that is to be turned needs 12 MB; its child refuses and goes on.
 */
static void test_little_memory(void **state)
{
    (void)state;
    const vlm_decoders_options options = {
        .n = 1, .limits = vlm_image_limits_default, .memory_max = 8 << 20};
    vlm_decoders *d = NULL;
    vlm_error error = {0};
    vlm_image image;
    vlm_image_format format;
    char path[1024];
    vlm_buf file;
    if (!vlm_sandbox_is_strict()) {
        print_message("no memory limit under a sanitizer\n");
        skip();
    }
    (void)snprintf(path, sizeof path, "%s/worker/turned.png", VLM_TEST_DATA);
    assert_int_equal(vlm_file_read(path, "turned.png", 1 << 20, &file, &error), VLM_OK);
    assert_int_equal(vlm_decoders_open(&options, &d, &error), VLM_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vlm_decoders_run(d, file.data, file.len, NULL, &image, &format, &error),
                         VLM_INVALID_ARGUMENT);
        if (strstr(error.msg, "too much memory") == NULL) fail_msg("%s", error.msg);
        assert_int_equal(run(d, NULL), VLM_OK);
    }
    vlm_decoders_stats stats;
    vlm_decoders_get_stats(d, &stats);
    assert_int_equal(stats.n_restarts, 0);
    vlm_decoders_close(d);
    vlm_buf_fini(&file);
}

#if FAILMALLOC_AVAILABLE
static void test_no_memory_here(void **state)
{
    (void)state;
    vlm_decoders *d = open_decoders();
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_image image;
        vlm_image_format format;
        const vlm_status status =
            vlm_decoders_run(d, picture, picture_len, NULL, &image, &format, NULL);
        failmalloc_off();
        if (status == VLM_RESOURCE_EXHAUSTED) n_failed++;
        if (status == VLM_OK) assert_int_equal(image.rgb[3], SECOND);
        vlm_image_fini(&image);
    }
    assert_int_equal(n_failed, 1);
    assert_int_equal(run(d, NULL), VLM_OK);
    vlm_decoders_close(d);
}
#else
static void test_no_memory_here(void **state)
{
    (void)state;
    print_message("a sanitizer keeps its own allocator\n");
    skip();
}
#endif

static void test_reply_is_sane(void **state)
{
    (void)state;
    const vlm_image_limits limits = {.pixels_max = 100, .side_max = 50};
    const vlm_decoder_reply good = {
        .magic = VLM_DECODER_MAGIC, .seq = 7, .status = VLM_OK, .width = 50, .height = 2};
    const vlm_decoder_reply bad = {
        .magic = VLM_DECODER_MAGIC, .seq = 7, .status = VLM_INVALID_ARGUMENT, .msg = "text"};
    vlm_decoder_reply r = good;
    assert_true(vlm_decoder_reply_is_sane(&good, sizeof good, 7, &limits));
    assert_true(vlm_decoder_reply_is_sane(&bad, sizeof bad, 7, &limits));
    assert_false(vlm_decoder_reply_is_sane(&good, sizeof good, 8, &limits));
    assert_false(vlm_decoder_reply_is_sane(&good, sizeof good - 1, 7, &limits));
    assert_false(vlm_decoder_reply_is_sane(&good, sizeof good + 1, 7, &limits));
    r.height = 3;
    assert_false(vlm_decoder_reply_is_sane(&r, sizeof r, 7, &limits));
    r = good;
    r.width = 51;
    assert_false(vlm_decoder_reply_is_sane(&r, sizeof r, 7, &limits));
    r = good;
    r.width = r.height = 0x80000000u;
    assert_false(vlm_decoder_reply_is_sane(&r, sizeof r, 7, &limits));
    for (uint32_t status = 1; status < 40; status++) {
        r = bad;
        r.status = status;
        assert_int_equal(vlm_decoder_reply_is_sane(&r, sizeof r, 7, &limits),
                         status == VLM_INVALID_ARGUMENT || status == VLM_RESOURCE_EXHAUSTED);
    }
    r = bad;
    r.msg[0] = '\0';
    assert_false(vlm_decoder_reply_is_sane(&r, sizeof r, 7, &limits));
    r.msg[0] = (char)0xC3;
    assert_false(vlm_decoder_reply_is_sane(&r, sizeof r, 7, &limits));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_left),         cmocka_unit_test(test_no_zombies),
        cmocka_unit_test(test_killed_while_idle),    cmocka_unit_test(test_killed_at_work),
        cmocka_unit_test(test_signals_of_the_group), cmocka_unit_test(test_server_killed),
        cmocka_unit_test(test_worker_killed),        cmocka_unit_test(test_no_sandbox),
        cmocka_unit_test(test_bad_options),          cmocka_unit_test(test_little_memory),
        cmocka_unit_test(test_no_memory_here),       cmocka_unit_test(test_reply_is_sane),
    };
    picture = make_bmp(SIDE, SIDE, &picture_len);
    const int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(picture);
    return n_failed;
}
