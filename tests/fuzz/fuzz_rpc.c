/* Bytes from a gRPC client into a server without a socket: no crash, and what is sent back stays
 * bounded.  The first byte says how the rest is cut. */
#include "fuzz.h"

#include <uv.h>

#include "rpc/health.h"
#include "rpc/server.h"

static void start_echo(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    vlm_error error;
    (void)user;
    const vlm_status status = vlm_rpc_call_send(call, message->data, message->len, &error);
    vlm_rpc_call_finish(call, status == VLM_OK ? NULL : &error, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    enum { WRITTEN_MAX = 64 << 20 };
    static const vlm_stream_handler none = {0};
    vlm_rpc_health health;
    vlm_rpc_method methods[1 + VLM_RPC_HEALTH_METHODS] = {{"/t/Echo", start_echo, NULL}};
    uv_loop_t loop;
    vlm_rpc_server *server;
    vlm_stream *stream;
    vlm_buf written;
    if (len < 1) return 0;
    const size_t piece = data[0] == 0 ? len : data[0];
    vlm_buf_init(&written, WRITTEN_MAX);
    vlm_rpc_health_init(&health, "t", methods + 1);
    const vlm_rpc_server_options options = {.methods = methods,
                                            .n_methods = 1 + VLM_RPC_HEALTH_METHODS};
    FUZZ_CHECK(uv_loop_init(&loop) == 0);
    FUZZ_CHECK(vlm_rpc_server_open(&loop, &options, &server, NULL) == VLM_OK);
    FUZZ_CHECK(vlm_stream_new_memory(&written, &none, NULL, &stream, NULL) == VLM_OK);
    vlm_rpc_server_accept(server, stream);
    for (size_t i = 1; i < len && vlm_rpc_server_n_connections(server) > 0; i += piece) {
        vlm_stream_push(stream, data + i, len - i < piece ? len - i : piece);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    FUZZ_CHECK(written.len < (size_t)WRITTEN_MAX);
    vlm_rpc_health_end(&health);
    vlm_rpc_server_close(server);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    FUZZ_CHECK(uv_loop_close(&loop) == 0);
    vlm_buf_fini(&written);
    return 0;
}
