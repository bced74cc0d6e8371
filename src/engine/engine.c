#include "engine/engine.h"

vlm_status vlm_engine_pictures(vlm_engine *e, const vlm_image *images, uint32_t n,
                               vlm_pictures **out, vlm_error *err)
{
    vlm_pictures *set = NULL;
    vlm_status status = VLM_OK;
    *out = NULL;
    if (n == 0) return VLM_OK;
    VLM_TRY(e->ops->pictures_new(e, n, &set, err));
    for (uint32_t i = 0; i < n && status == VLM_OK; i++)
        status = e->ops->pictures_add(e, set, &images[i], err);
    if (status != VLM_OK) {
        e->ops->pictures_free(e, set);
        return status;
    }
    *out = set;
    return VLM_OK;
}

vlm_status vlm_engine_submit(vlm_engine *e, const vlm_request *request, uint64_t *id,
                             vlm_error *err)
{
    vlm_job *job;
    VLM_TRY(e->ops->prepare(e, request, &job, err));
    const vlm_status status = e->ops->submit(e, job, id, err);
    if (status != VLM_OK) e->ops->job_free(e, job);
    return status;
}
