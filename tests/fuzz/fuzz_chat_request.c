/* fuzz_chat_request.c - any bytes as the body of a chat completion, under wide and tight limits:
 * either a 400 whose body is JSON, or a request within the limits that survives the wire to a
 * worker, in memory linear in the body. */
#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "fuzz/fuzz.h"
#include "gateway/chat_request.h"

static bool is_utf8(ProtobufCBinaryData data)
{
    return vlm_utf8_valid((const char *)data.data, data.len);
}

static void check_error(const vlm_api_error *e)
{
    vlm_buf body;
    vlm_json_doc *doc;
    vlm_buf_init(&body, 65536);
    FUZZ_CHECK(e->http_status == 400 && e->message[0] != '\0' && e->retry_after_s == 0);
    FUZZ_CHECK(vlm_api_error_write(e, &body, NULL) == VLM_OK);
    FUZZ_CHECK(vlm_json_parse(body.data, body.len, &vlm_json_limits_default, &doc, NULL) == VLM_OK);
    const vlm_json *error = vlm_json_get(vlm_json_root(doc), "error");
    FUZZ_CHECK(vlm_json_object_len(error) == 4);
    FUZZ_CHECK(vlm_json_typeof(vlm_json_get(error, "message")) == VLM_JSON_STRING);
    vlm_json_free(doc);
    vlm_buf_fini(&body);
}

static void check_sampling(const Vlm__V1__Sampling *s)
{
    FUZZ_CHECK(s->opt_temperature_case == 0 || (s->temperature >= 0.0f && s->temperature <= 2.0f));
    FUZZ_CHECK(s->opt_top_p_case == 0 || (s->top_p > 0.0f && s->top_p <= 1.0f));
    FUZZ_CHECK(s->opt_min_p_case == 0 || (s->min_p >= 0.0f && s->min_p <= 1.0f));
    FUZZ_CHECK(s->opt_repetition_penalty_case == 0 ||
               (s->repetition_penalty > 0.0f && s->repetition_penalty <= 100.0f));
    FUZZ_CHECK(s->opt_frequency_penalty_case == 0 || fabsf(s->frequency_penalty) <= 2.0f);
    FUZZ_CHECK(s->opt_presence_penalty_case == 0 || fabsf(s->presence_penalty) <= 2.0f);
    FUZZ_CHECK(s->n_logit_bias <= 1024);
    for (size_t i = 0; i < s->n_logit_bias; i++)
        FUZZ_CHECK(fabsf(s->logit_bias[i]->bias) <= 100.0f);
}

static void check_messages(const vlm_chat_request *r, const vlm_chat_limits *limits)
{
    size_t n_images = 0, n_urls = 0;
    FUZZ_CHECK(r->grpc.n_messages > 0 && r->grpc.n_messages <= 4096);
    for (size_t i = 0; i < r->grpc.n_messages; i++) {
        const Vlm__V1__Message *m = r->grpc.messages[i];
        FUZZ_CHECK(m->role.len > 0 && is_utf8(m->role) && is_utf8(m->name));
        for (size_t k = 0; k < m->n_parts; k++) {
            const Vlm__V1__Part *part = m->parts[k];
            if (part->kind_case == VLM__V1__PART__KIND_TEXT) {
                FUZZ_CHECK(is_utf8(part->text));
                continue;
            }
            FUZZ_CHECK(part->kind_case == VLM__V1__PART__KIND_IMAGE);
            FUZZ_CHECK(part->image.len <= limits->image_bytes_max);
            n_images++;
            n_urls += part->image.len == 0;
        }
    }
    FUZZ_CHECK(n_images == r->n_images && n_images <= limits->images_max);
    FUZZ_CHECK(n_urls == r->n_urls && (n_urls == 0 || limits->image_urls));
    for (size_t i = 0; i < r->n_urls; i++) {
        FUZZ_CHECK(r->urls[i].slot->data == NULL && strncmp(r->urls[i].param, "messages[", 9) == 0);
        FUZZ_CHECK((r->urls[i].url[0] | 0x20) == 'h');
    }
}

static void check_wire(const vlm_chat_request *r)
{
    const size_t len = vlm__v1__generate_request__get_packed_size(&r->grpc);
    uint8_t *wire = malloc(len + 1), *again = malloc(len + 1);
    FUZZ_CHECK(wire != NULL && again != NULL);
    FUZZ_CHECK(vlm__v1__generate_request__pack(&r->grpc, wire) == len);
    Vlm__V1__GenerateRequest *m = vlm__v1__generate_request__unpack(NULL, len, wire);
    FUZZ_CHECK(m != NULL && vlm__v1__generate_request__get_packed_size(m) == len);
    FUZZ_CHECK(vlm__v1__generate_request__pack(m, again) == len && memcmp(wire, again, len) == 0);
    FUZZ_CHECK(m->n_messages == r->grpc.n_messages && m->n_stop == r->grpc.n_stop);
    vlm__v1__generate_request__free_unpacked(m, NULL);
    free(wire);
    free(again);
}

static bool run(const uint8_t *data, size_t len, const vlm_chat_limits *limits)
{
    vlm_chat_request r;
    vlm_api_error error;
    if (!vlm_chat_request_parse((const char *)data, len, limits, &r, &error)) {
        check_error(&error);
        return false;
    }
    FUZZ_CHECK(r.n >= 1 && r.n <= 8 && r.grpc.n == r.n && r.grpc.top_logprobs <= 20);
    FUZZ_CHECK(r.stream || !r.include_usage);
    FUZZ_CHECK(r.logprobs || r.grpc.top_logprobs == 0);
    FUZZ_CHECK(r.grpc.n_stop <= 16 && is_utf8(r.grpc.model));
    for (size_t i = 0; i < r.grpc.n_stop; i++)
        FUZZ_CHECK(r.grpc.stop[i].len > 0 && r.grpc.stop[i].len <= 256 && is_utf8(r.grpc.stop[i]));
    FUZZ_CHECK(r.arena.used_bytes <= 16 * len + 16384);
    check_sampling(r.grpc.sampling);
    check_messages(&r, limits);
    check_wire(&r);
    vlm_chat_request_fini(&r);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const vlm_chat_limits wide = {.image_bytes_max = 20 << 20,
                                  .images_max = 16,
                                  .json = vlm_json_limits_default,
                                  .image_urls = true};
    const vlm_chat_limits tight = {.image_bytes_max = 8,
                                   .images_max = 1,
                                   .json = {.len_max = 4096, .depth_max = 8, .nodes_max = 100}};
    const bool ok = run(data, len, &wide);
    FUZZ_CHECK(!run(data, len, &tight) || ok);
    return 0;
}
