#include "rpc/health.h"

#include <grpc/health/v1/health.pb-c.h>
#include <stdlib.h>

#include "base/buf.h"

typedef Grpc__Health__V1__HealthCheckResponse response;

struct vlm_rpc_watch {
    vlm_rpc_health *health;
    vlm_rpc_call *call;
    vlm_rpc_watch *prev, *next;
    bool known; /* the service is ours */
};

/* False: it has been finished with an error. */
static bool send_state(vlm_rpc_call *call, const vlm_rpc_health *h, bool known)
{
    enum { LEN_MAX = 16 };
    uint8_t bytes[LEN_MAX];
    response r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    vlm_error error;
    if (!known)
        r.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    else
        r.status = h->serving
                       ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                       : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    const size_t len = protobuf_c_message_pack(&r.base, bytes);
    if (vlm_rpc_call_send(call, bytes, len, &error) == VLM_OK) return true;
    vlm_rpc_call_finish(call, &error, NULL);
    return false;
}

/* False: the call has been finished with an error. */
static bool read_service(const vlm_rpc_health *h, vlm_rpc_call *call, const vlm_buf *message,
                         bool *known)
{
    Grpc__Health__V1__HealthCheckRequest *request = grpc__health__v1__health_check_request__unpack(
        NULL, message->len, (const uint8_t *)message->data);
    if (request == NULL) {
        vlm_error error;
        (void)vlm_fail(&error, VLM_INTERNAL, "HealthCheckRequest: no such message");
        vlm_rpc_call_finish(call, &error, NULL);
        return false;
    }
    const vlm_bytes name = {.ptr = (const char *)request->service.data,
                            .len = request->service.len};
    *known = name.len == 0 || vlm_bytes_eq_str(name, h->service);
    grpc__health__v1__health_check_request__free_unpacked(request, NULL);
    return true;
}

static void start_check(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    const vlm_rpc_health *h = user;
    bool known;
    if (!read_service(h, call, message, &known)) return;
    if (!known) {
        vlm_error error;
        (void)vlm_fail(&error, VLM_NOT_FOUND, "unknown service");
        vlm_rpc_call_finish(call, &error, NULL);
    } else if (send_state(call, h, true)) {
        vlm_rpc_call_finish(call, NULL, NULL);
    }
}

static void free_watch(vlm_rpc_watch *w)
{
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        w->health->watches = w->next;
    if (w->next != NULL) w->next->prev = w->prev;
    free(w);
}

static void on_cancelled(void *user)
{
    free_watch(user);
}

static void start_watch(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    vlm_rpc_health *h = user;
    bool known;
    if (!read_service(h, call, message, &known)) return;
    vlm_rpc_watch *w = calloc(1, sizeof *w);
    if (w == NULL) {
        vlm_error error;
        (void)vlm_fail_memory(&error, "watch");
        vlm_rpc_call_finish(call, &error, NULL);
        return;
    }
    if (!send_state(call, h, known)) {
        free(w);
        return;
    }
    *w = (vlm_rpc_watch){.health = h, .call = call, .next = h->watches, .known = known};
    if (w->next != NULL) w->next->prev = w;
    h->watches = w;
    vlm_rpc_call_watch(call, on_cancelled, NULL, w);
}

void vlm_rpc_health_init(vlm_rpc_health *h, const char *service,
                         vlm_rpc_method methods[VLM_RPC_HEALTH_METHODS])
{
    *h = (vlm_rpc_health){.service = service};
    methods[0] =
        (vlm_rpc_method){.path = "/grpc.health.v1.Health/Check", .start = start_check, .user = h};
    methods[1] =
        (vlm_rpc_method){.path = "/grpc.health.v1.Health/Watch", .start = start_watch, .user = h};
}

void vlm_rpc_health_set(vlm_rpc_health *h, bool serving)
{
    if (h->serving == serving) return;
    h->serving = serving;
    vlm_rpc_watch *next;
    for (vlm_rpc_watch *w = h->watches; w != NULL; w = next) {
        next = w->next;
        if (w->known && !send_state(w->call, h, true)) free_watch(w);
    }
}

void vlm_rpc_health_end(vlm_rpc_health *h)
{
    while (h->watches != NULL) {
        vlm_rpc_call *call = h->watches->call;
        free_watch(h->watches);
        vlm_rpc_call_finish(call, NULL, NULL);
    }
}
