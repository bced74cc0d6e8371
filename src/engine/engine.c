#include "engine/engine.h"

vlm_status vlm_engine_submit(vlm_engine *e, const vlm_request *request, uint64_t *id,
                             vlm_error *err)
{
    vlm_job *job;
    VLM_TRY(e->ops->prepare(e, request, &job, err));
    const vlm_status status = e->ops->submit(e, job, id, err);
    if (status != VLM_OK) e->ops->job_free(e, job);
    return status;
}
