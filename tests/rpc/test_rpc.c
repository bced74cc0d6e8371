/* A server and channels of this process on one loop: what a call's two ends see. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <grpc/health/v1/health.pb-c.h>

#include "base/clock.h"
#include "rpc/channel.h"
#include "rpc/health.h"
#include "rpc/server.h"

/* The HealthCheckRequest serves as a message that holds any bytes. */
typedef Grpc__Health__V1__HealthCheckRequest text_message;

typedef struct world {
    uv_loop_t loop;
    uv_timer_t limit;
    vlm_rpc_flusher flusher;
    vlm_rpc_server *server;
    vlm_rpc_channel *channel;
    vlm_rpc_health health;
    vlm_rpc_method methods[3 + VLM_RPC_HEALTH_METHODS];
    char path[64];
    vlm_addr addr;
    bool is_up;
    vlm_rpc_call *held; /* a call that is not answered */
    int n_cancelled;
} world;

typedef struct seen {
    world *w;
    int n_messages;
    size_t n_bytes;
    bool done;
    vlm_status status;
    char text[VLM_ERROR_MSG_LEN_MAX + 1], reason[32];
    vlm_rpc_client_call *call;
    int cancel_after; /* messages; 0: never */
} seen;

static void on_limit(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("the test takes too long");
}

static void start_echo(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    vlm_error error;
    (void)user;
    assert_int_equal(vlm_rpc_call_send(call, message->data, message->len, &error), VLM_OK);
    vlm_rpc_call_finish(call, NULL, NULL);
}

/* A thousand messages of a kilobyte, then an error. */
static void start_many(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    static char kilobyte[1024];
    vlm_error error;
    (void)user;
    (void)message;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(vlm_rpc_call_send(call, kilobyte, sizeof kilobyte, &error), VLM_OK);
    (void)vlm_fail(&error, VLM_ABORTED, "100%% gone: \xc3\xa9");
    vlm_rpc_call_finish(call, &error, "because");
}

static void on_held_cancelled(void *user)
{
    world *w = user;
    w->n_cancelled++;
    w->held = NULL;
}

static void start_hold(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    world *w = user;
    (void)message;
    w->held = call;
    vlm_rpc_call_watch(call, on_held_cancelled, NULL, w);
}

static void on_changed(void *user, bool is_up)
{
    ((world *)user)->is_up = is_up;
}

static void serve(world *w)
{
    vlm_error error;
    const vlm_rpc_server_options options = {.methods = w->methods,
                                            .n_methods = 3 + VLM_RPC_HEALTH_METHODS};
    assert_int_equal(vlm_rpc_server_open(&w->loop, &options, &w->server, &error), VLM_OK);
    assert_int_equal(vlm_rpc_server_listen(w->server, &w->addr, &error), VLM_OK);
}

static int set_up(void **state)
{
    world *w = calloc(1, sizeof *w);
    vlm_error error;
    (void)snprintf(w->path, sizeof w->path, "/tmp/vlm_test_rpc_%d", (int)getpid());
    w->addr = (vlm_addr){.kind = VLM_ADDR_UNIX};
    memcpy(w->addr.host, w->path, strlen(w->path) + 1);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    (void)uv_timer_init(&w->loop, &w->limit);
    (void)uv_timer_start(&w->limit, on_limit, 60000, 0);
    w->methods[0] = (vlm_rpc_method){"/t/Echo", start_echo, w};
    w->methods[1] = (vlm_rpc_method){"/t/Many", start_many, w};
    w->methods[2] = (vlm_rpc_method){"/t/Hold", start_hold, w};
    vlm_rpc_health_init(&w->health, "t", w->methods + 3);
    assert_int_equal(vlm_rpc_flusher_open(&w->flusher, &w->loop, &error), VLM_OK);
    serve(w);
    const vlm_rpc_channel_options options = {.loop = &w->loop,
                                             .flusher = &w->flusher,
                                             .unix_path = w->path,
                                             .backoff_ns = 1000000,
                                             .changed = on_changed,
                                             .user = w};
    assert_int_equal(vlm_rpc_channel_open(&options, &w->channel, &error), VLM_OK);
    while (!w->is_up) (void)uv_run(&w->loop, UV_RUN_ONCE);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world *w = *state;
    vlm_rpc_channel_close(w->channel);
    vlm_rpc_health_end(&w->health);
    vlm_rpc_server_close(w->server);
    vlm_rpc_flusher_close(&w->flusher);
    uv_close((uv_handle_t *)&w->limit, NULL);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
    return 0;
}

static void on_message(void *user, const uint8_t *data, size_t len)
{
    seen *s = user;
    (void)data;
    s->n_messages++;
    s->n_bytes += len;
    if (s->cancel_after == s->n_messages) {
        vlm_rpc_client_cancel(s->call);
        s->done = true;
    }
}

static void on_done(void *user, const vlm_error *error, const char *reason)
{
    seen *s = user;
    s->done = true;
    s->status = error == NULL ? VLM_OK : error->code;
    (void)snprintf(s->text, sizeof s->text, "%s", error == NULL ? "" : error->msg);
    (void)snprintf(s->reason, sizeof s->reason, "%s", reason == NULL ? "" : reason);
}

static void start_call(world *w, const char *path, vlm_bytes body, uint64_t timeout_ns, seen *s)
{
    text_message message = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    vlm_error error;
    s->w = w;
    message.service.data = (uint8_t *)(uintptr_t)body.ptr;
    message.service.len = body.len;
    const vlm_rpc_call_options options = {
        .path = path, .timeout_ns = timeout_ns, .message = on_message, .done = on_done, .user = s};
    assert_int_equal(vlm_rpc_channel_call(w->channel, &options, &message.base, &s->call, &error),
                     VLM_OK);
}

static void run_to_end(world *w, const seen *s)
{
    while (!s->done) (void)uv_run(&w->loop, UV_RUN_ONCE);
}

static void call(world *w, const char *path, vlm_bytes body, uint64_t timeout_ns, seen *s)
{
    start_call(w, path, body, timeout_ns, s);
    run_to_end(w, s);
}

static void test_echo(void **state)
{
    world *w = *state;
    for (size_t len = 0; len < (size_t)21 << 20; len = len * 9 + 1) {
        char *body = calloc(1, len + 1);
        seen s = {0};
        call(w, "/t/Echo", (vlm_bytes){.ptr = body, .len = len}, 0, &s);
        assert_int_equal(s.status, VLM_OK);
        assert_int_equal(s.n_messages, 1);
        assert_true(s.n_bytes >= len && s.n_bytes < len + 8);
        free(body);
    }
}

static void test_stream_and_trailers(void **state)
{
    world *w = *state;
    seen s = {0};
    call(w, "/t/Many", (vlm_bytes){0}, 0, &s);
    assert_int_equal(s.n_messages, 1000);
    assert_int_equal(s.n_bytes, 1000 * 1024);
    assert_int_equal(s.status, VLM_ABORTED);
    assert_string_equal(s.text, "100% gone: \xc3\xa9");
    assert_string_equal(s.reason, "because");
}

static void test_pause_holds_the_stream(void **state)
{
    world *w = *state;
    seen slow = {0}, other = {0};
    start_call(w, "/t/Many", (vlm_bytes){0}, 0, &slow);
    vlm_rpc_client_pause(slow.call, true);
    /* Another call is not held up, and the slow one gets no more than its window. */
    call(w, "/t/Many", (vlm_bytes){0}, 0, &other);
    assert_int_equal(other.n_messages, 1000);
    assert_false(slow.done);
    assert_true(slow.n_bytes <= 256 << 10);
    vlm_rpc_client_pause(slow.call, false);
    run_to_end(w, &slow);
    assert_int_equal(slow.n_messages, 1000);
}

static void test_many_calls_at_once(void **state)
{
    enum { N = 500 };
    world *w = *state;
    seen *all = calloc(N, sizeof *all);
    for (int i = 0; i < N; i++) start_call(w, "/t/Echo", vlm_bytes_of("hello"), 0, &all[i]);
    for (int i = 0; i < N; i++) {
        run_to_end(w, &all[i]);
        assert_int_equal(all[i].status, VLM_OK);
        assert_int_equal(all[i].n_messages, 1);
    }
    free(all);
}

static void test_cancel(void **state)
{
    world *w = *state;
    seen s = {0}, many = {.cancel_after = 3};
    start_call(w, "/t/Hold", (vlm_bytes){0}, 0, &s);
    while (w->held == NULL) (void)uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(vlm_rpc_server_n_calls(w->server), 1);
    vlm_rpc_client_cancel(s.call);
    while (w->n_cancelled == 0) (void)uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(vlm_rpc_server_n_calls(w->server), 0);
    call(w, "/t/Many", (vlm_bytes){0}, 0, &many);
    assert_int_equal(many.n_messages, 3);
    /* Before it was even sent. */
    start_call(w, "/t/Hold", (vlm_bytes){0}, 0, &s);
    vlm_rpc_client_cancel(s.call);
    seen after = {0};
    call(w, "/t/Echo", vlm_bytes_of("x"), 0, &after);
    assert_int_equal(after.status, VLM_OK);
    assert_null(w->held);
}

/* A gateway's clients may all leave at once: the connection must bear it. */
static void test_thousands_of_resets(void **state)
{
    enum { N = 3000, AT_ONCE = 100 };
    world *w = *state;
    for (int i = 0; i < N; i += AT_ONCE) {
        seen s[AT_ONCE] = {0};
        for (int k = 0; k < AT_ONCE; k++) start_call(w, "/t/Hold", (vlm_bytes){0}, 0, &s[k]);
        while (vlm_rpc_server_n_calls(w->server) < AT_ONCE) (void)uv_run(&w->loop, UV_RUN_ONCE);
        for (int k = 0; k < AT_ONCE; k++) vlm_rpc_client_cancel(s[k].call);
        while (vlm_rpc_server_n_calls(w->server) > 0) (void)uv_run(&w->loop, UV_RUN_ONCE);
    }
    assert_int_equal(w->n_cancelled, N);
    assert_true(w->is_up);
}

static void test_deadline(void **state)
{
    world *w = *state;
    seen s = {0};
    const uint64_t start = vlm_clock_ns();
    call(w, "/t/Hold", (vlm_bytes){0}, 50000000, &s);
    assert_int_equal(s.status, VLM_DEADLINE_EXCEEDED);
    assert_int_equal(w->n_cancelled, 1);
    assert_true(vlm_clock_ns() - start >= 50000000);
}

static void test_refusals(void **state)
{
    world *w = *state;
    seen s = {0};
    call(w, "/t/Nope", (vlm_bytes){0}, 0, &s);
    assert_int_equal(s.status, VLM_UNIMPLEMENTED);
    vlm_rpc_server_drain(w->server, NULL, NULL);
    seen refused = {0};
    if (vlm_rpc_channel_is_up(w->channel)) {
        call(w, "/t/Echo", (vlm_bytes){0}, 0, &refused);
        assert_int_equal(refused.status, VLM_UNAVAILABLE);
    }
}

static void test_server_goes_and_comes(void **state)
{
    world *w = *state;
    seen s = {0};
    start_call(w, "/t/Hold", (vlm_bytes){0}, 0, &s);
    while (w->held == NULL) (void)uv_run(&w->loop, UV_RUN_ONCE);
    vlm_rpc_server_close(w->server);
    run_to_end(w, &s);
    assert_int_equal(s.status, VLM_UNAVAILABLE);
    assert_false(w->is_up);
    serve(w);
    while (!w->is_up) (void)uv_run(&w->loop, UV_RUN_ONCE);
    seen again = {0};
    call(w, "/t/Echo", vlm_bytes_of("x"), 0, &again);
    assert_int_equal(again.status, VLM_OK);
}

static void test_health(void **state)
{
    world *w = *state;
    seen s = {0}, unknown = {0}, watch = {0}, watch_unknown = {0};
    call(w, "/grpc.health.v1.Health/Check", vlm_bytes_of("t"), 0, &s);
    assert_int_equal(s.status, VLM_OK);
    call(w, "/grpc.health.v1.Health/Check", vlm_bytes_of("u"), 0, &unknown);
    assert_int_equal(unknown.status, VLM_NOT_FOUND);
    start_call(w, "/grpc.health.v1.Health/Watch", vlm_bytes_of(""), 0, &watch);
    start_call(w, "/grpc.health.v1.Health/Watch", vlm_bytes_of("u"), 0, &watch_unknown);
    while (watch.n_messages < 1 || watch_unknown.n_messages < 1)
        (void)uv_run(&w->loop, UV_RUN_ONCE);
    vlm_rpc_health_set(&w->health, true);
    vlm_rpc_health_set(&w->health, true);
    while (watch.n_messages < 2) (void)uv_run(&w->loop, UV_RUN_ONCE);
    vlm_rpc_health_set(&w->health, false);
    while (watch.n_messages < 3) (void)uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(watch_unknown.n_messages, 1);
    vlm_rpc_client_cancel(watch_unknown.call);
    vlm_rpc_health_end(&w->health);
    run_to_end(w, &watch);
    assert_int_equal(watch.status, VLM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_echo, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stream_and_trailers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pause_holds_the_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_calls_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_thousands_of_resets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_goes_and_comes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_health, set_up, tear_down),
    };
    /* As main.c does: a peer that is gone is a failed write. */
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
