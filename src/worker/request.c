#include "worker/request.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "worker/pack.h"

enum { ARENA_MAX = 64 << 20 };

/* Decode the file of a picture and have the engine keep what it needs of it. */
static vlm_status add_picture(vlm_worker_request *r, const ProtobufCBinaryData *file,
                              vlm_engine *engine, vlm_decoders *decoders, vlm_pictures *set,
                              vlm_error *err)
{
    vlm_image_format format;
    vlm_image image = {0};
    const uint64_t start = vlm_clock_ns();
    vlm_status status =
        vlm_decoders_run(decoders, file->data, file->len, &r->cancel, &image, &format, err);
    r->image_ms += vlm_clock_seconds(start, vlm_clock_ns()) * 1e3;
    if (status == VLM_OK) status = engine->ops->pictures_add(engine, set, &image, err);
    vlm_image_fini(&image);
    if (status == VLM_INVALID_ARGUMENT) r->reason = "invalid_image";
    return status;
}

/* One at a time: a decoded picture takes far more memory than what the engine keeps of it. */
static vlm_status add_pictures(vlm_worker_request *r, const Vlm__V1__GenerateRequest *m,
                               vlm_engine *engine, vlm_decoders *decoders, vlm_pictures *set,
                               vlm_error *err)
{
    for (size_t i = 0; i < m->n_messages; i++)
        for (size_t p = 0; p < m->messages[i]->n_parts; p++) {
            const Vlm__V1__Part *part = m->messages[i]->parts[p];
            if (part->kind_case != VLM__V1__PART__KIND_IMAGE) continue;
            const vlm_status status = add_picture(r, &part->image, engine, decoders, set, err);
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
    vlm_pictures *set = NULL;
    vlm_engine_info info;
    vlm_request request;
    vlm_status status = VLM_OK;
    const size_t n = vlm_unpack_n_pictures(m);
    if (n > VLM_REQUEST_IMAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: %zu pictures; at most %d are taken",
                        n, VLM_REQUEST_IMAGES_MAX);
    engine->ops->info(engine, &info);
    if (n > 0) status = engine->ops->pictures_new(engine, (uint32_t)n, &set, err);
    if (status == VLM_OK) status = add_pictures(r, m, engine, decoders, set, err);
    if (status == VLM_OK)
        status = vlm_unpack_request(m, &info.sampling_default, set, n, arena, &request, err);
    if (status == VLM_OK && !atomic_load(&r->cancel))
        status = engine->ops->prepare(engine, &request, &r->job, err);
    engine->ops->pictures_free(engine, set);
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
