#include "worker/request.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "worker/pack.h"

enum { ARENA_MAX = 64 << 20 };

static size_t count_images(const Vlm__V1__GenerateRequest *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_messages; i++)
        for (size_t p = 0; p < m->messages[i]->n_parts; p++)
            n += m->messages[i]->parts[p]->kind_case == VLM__V1__PART__KIND_IMAGE;
    return n;
}

/* The file of a picture that is being decoded, and where it stands. */
static vlm_status decode_image(vlm_worker_request *r, const ProtobufCBinaryData *file,
                               vlm_decoders *decoders, vlm_image *out, vlm_error *err)
{
    vlm_image_format format;
    const uint64_t start = vlm_clock_ns();
    const vlm_status status =
        vlm_decoders_run(decoders, file->data, file->len, &r->cancel, out, &format, err);
    r->image_ms += vlm_clock_seconds(start, vlm_clock_ns()) * 1e3;
    if (status == VLM_INVALID_ARGUMENT) r->reason = "invalid_image";
    return status;
}

static vlm_status decode_images(vlm_worker_request *r, const Vlm__V1__GenerateRequest *m,
                                vlm_decoders *decoders, vlm_image *images, vlm_error *err)
{
    for (size_t i = 0; i < m->n_messages; i++)
        for (size_t p = 0; p < m->messages[i]->n_parts; p++) {
            const Vlm__V1__Part *part = m->messages[i]->parts[p];
            if (part->kind_case != VLM__V1__PART__KIND_IMAGE) continue;
            const vlm_status status =
                decode_image(r, &part->image, decoders, &images[r->n_images], err);
            if (status != VLM_OK)
                return vlm_fail_prefix(err, status, "messages[%zu].content[%zu]", i, p);
            r->n_images++;
        }
    return VLM_OK;
}

static vlm_status prepare(vlm_worker_request *r, const Vlm__V1__GenerateRequest *m,
                          vlm_engine *engine, vlm_decoders *decoders, vlm_arena *arena,
                          vlm_error *err)
{
    vlm_image images[VLM_REQUEST_IMAGES_MAX] = {{0}};
    vlm_engine_info info;
    vlm_request request;
    const size_t n_images = count_images(m);
    if (n_images > VLM_REQUEST_IMAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: %zu pictures; at most %d are taken",
                        n_images, VLM_REQUEST_IMAGES_MAX);
    engine->ops->info(engine, &info);
    vlm_status status = decode_images(r, m, decoders, images, err);
    if (status == VLM_OK)
        status =
            vlm_unpack_request(m, &info.sampling_default, images, n_images, arena, &request, err);
    if (status == VLM_OK && !atomic_load(&r->cancel))
        status = engine->ops->prepare(engine, &request, &r->job, err);
    for (size_t i = 0; i < n_images; i++) vlm_image_fini(&images[i]);
    if (status == VLM_OUT_OF_RANGE) r->reason = "context_length";
    if (status == VLM_RESOURCE_EXHAUSTED) r->reason = "overloaded";
    return status;
}

void vlm_worker_request_run(vlm_worker_request *r, vlm_engine *engine, vlm_decoders *decoders,
                            const char *model)
{
    vlm_arena arena;
    vlm_arena_init(&arena, ARENA_MAX);
    Vlm__V1__GenerateRequest *m =
        vlm__v1__generate_request__unpack(NULL, r->message.len, (const uint8_t *)r->message.data);
    vlm_buf_fini(&r->message);
    if (m == NULL) {
        r->status = vlm_fail(&r->error, VLM_INVALID_ARGUMENT, "GenerateRequest: broken message");
        return;
    }
    r->logprobs = m->logprobs != 0;
    const vlm_bytes name = {.ptr = (const char *)m->model.data, .len = m->model.len};
    if (name.len > 0 && !vlm_bytes_eq_str(name, model)) {
        r->reason = "model_not_found";
        r->status = vlm_fail(&r->error, VLM_NOT_FOUND, "model: there is no such model here");
    } else {
        r->status = prepare(r, m, engine, decoders, &arena, &r->error);
    }
    vlm__v1__generate_request__free_unpacked(m, NULL);
    vlm_arena_fini(&arena);
}
