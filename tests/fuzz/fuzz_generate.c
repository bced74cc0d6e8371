/* A packed GenerateRequest into what the engine takes and through the mock engine to its end: no
 * crash, and every accepted request answers within its limits. */
#include "fuzz.h"

#include <string.h>

#include "base/utf8.h"
#include "worker/mock.h"
#include "worker/pack.h"

static vlm_engine *engine;

static void run(vlm_job *job, const vlm_request *request)
{
    enum { STEPS_MAX = 2000 };
    uint64_t id;
    uint32_t n_done = 0;
    bool last = false;
    FUZZ_CHECK(engine->ops->submit(engine, job, &id, NULL) == VLM_OK);
    for (int i = 0; !last; i++) {
        vlm_event event;
        if (i == STEPS_MAX) engine->ops->cancel(engine, id);
        FUZZ_CHECK(engine->ops->step(engine));
        while (!last && engine->ops->next_event(engine, &event)) {
            FUZZ_CHECK(event.request_id == id);
            FUZZ_CHECK(vlm_utf8_valid(event.text.ptr, event.text.len));
            n_done += event.type == VLM_EVENT_DONE;
            last = event.type == VLM_EVENT_ERROR || event.last;
            if (event.type == VLM_EVENT_DONE && request->max_tokens > 0)
                FUZZ_CHECK(event.usage.n_completion <= request->max_tokens);
        }
    }
    FUZZ_CHECK(n_done <= VLM_REQUEST_CHOICES_MAX);
    while (engine->ops->step(engine)) {
        vlm_event event;
        while (engine->ops->next_event(engine, &event)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t pixels[3 * 4 * 4];
    vlm_image images[VLM_REQUEST_IMAGES_MAX];
    if (engine == NULL) FUZZ_CHECK(vlm_mock_open(&(vlm_mock_options){0}, &engine, NULL) == VLM_OK);
    for (size_t i = 0; i < VLM_REQUEST_IMAGES_MAX; i++)
        images[i] = (vlm_image){.rgb = pixels, .width = 4, .height = 4};
    Vlm__V1__GenerateRequest *m = vlm__v1__generate_request__unpack(NULL, len, data);
    if (m == NULL) return 0;
    vlm_arena arena;
    vlm_request request;
    vlm_job *job = NULL;
    vlm_error error;
    vlm_arena_init(&arena, 64 << 20);
    /* Those above the most that are taken are missing: unpacking must notice. */
    const size_t n_parts = vlm_unpack_n_pictures(m);
    const uint32_t n =
        n_parts < VLM_REQUEST_IMAGES_MAX ? (uint32_t)n_parts : VLM_REQUEST_IMAGES_MAX;
    vlm_pictures *set;
    FUZZ_CHECK(vlm_engine_pictures(engine, images, n, &set, NULL) == VLM_OK);
    vlm_status status =
        vlm_unpack_request(m, &vlm_sampling_default, set, n, &arena, &request, &error);
    if (status == VLM_OK) status = engine->ops->prepare(engine, &request, &job, &error);
    engine->ops->pictures_free(engine, set);
    if (status == VLM_OK)
        run(job, &request);
    else
        FUZZ_CHECK(error.code == status && error.msg[0] != '\0');
    vlm_arena_fini(&arena);
    vlm__v1__generate_request__free_unpacked(m, NULL);
    return 0;
}
