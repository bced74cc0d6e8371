/* local_job.c - a request made ready for the local engine: checked, copied, as ids and pictures. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/local.h"

vlm_status vlm_local_pictures_new(vlm_engine *e, uint32_t n_max, vlm_pictures **out, vlm_error *err)
{
    vlm_local *l = (vlm_local *)e;
    return vlm_pictures_open(l->model, n_max, &l->pictures_budget, out, err);
}

vlm_status vlm_local_pictures_add(vlm_engine *e, vlm_pictures *set, const vlm_image *image,
                                  vlm_error *err)
{
    (void)e;
    return vlm_pictures_add(set, image, err);
}

void vlm_local_pictures_free(vlm_engine *e, vlm_pictures *set)
{
    (void)e;
    vlm_pictures_unref(set);
}

/* Copy what the request's caller may free. */
static vlm_status copy_sampling(vlm_local_job *j, const vlm_request *r, vlm_error *err)
{
    size_t n_stop_bytes = 0;
    vlm_stop check;
    const vlm_status status = vlm_stop_init(&check, r->stop, r->n_stop, err);
    vlm_stop_fini(&check);
    if (status != VLM_OK) return status;
    for (size_t i = 0; i < r->n_stop; i++) n_stop_bytes += r->stop[i].len;
    j->stop_text = vlm_calloc(n_stop_bytes, 1);
    j->logit_bias = vlm_calloc(r->sampling.n_logit_bias, sizeof *j->logit_bias);
    if (j->stop_text == NULL || j->logit_bias == NULL) return vlm_fail_memory(err, "request");
    char *next = j->stop_text;
    for (size_t i = 0; i < r->n_stop; i++) {
        memcpy(next, r->stop[i].ptr, r->stop[i].len);
        j->stop_strings[i] = (vlm_bytes){.ptr = next, .len = r->stop[i].len};
        next += r->stop[i].len;
    }
    j->n_stop = r->n_stop;
    j->sampling = r->sampling;
    if (r->sampling.n_logit_bias > 0)
        memcpy(j->logit_bias, r->sampling.logit_bias,
               r->sampling.n_logit_bias * sizeof *j->logit_bias);
    j->sampling.logit_bias = j->logit_bias;
    return VLM_OK;
}

static vlm_status fill_job(vlm_local *l, vlm_local_job *j, const vlm_request *r, vlm_error *err)
{
    const uint32_t n_vocab = vlm_model_config(l->model)->text.vocab_size;
    VLM_TRY(vlm_sampling_check(&r->sampling, n_vocab, err));
    if (r->n_choices > VLM_REQUEST_CHOICES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "n must be at most %d", VLM_REQUEST_CHOICES_MAX);
    if (r->logprobs && r->n_top_logprobs > VLM_REQUEST_TOP_LOGPROBS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "top_logprobs must be at most %d",
                        VLM_REQUEST_TOP_LOGPROBS_MAX);
    VLM_TRY(copy_sampling(j, r, err));
    VLM_TRY(vlm_prepare_run(&l->prepare, r, &j->prompt, err));
    const uint32_t n_left = vlm_model_n_ctx(l->model) - (uint32_t)j->prompt.ids.len;
    j->n_choices = r->n_choices == 0 ? 1 : r->n_choices;
    j->max_tokens = r->max_tokens == 0 || r->max_tokens > n_left ? n_left : r->max_tokens;
    j->ignore_eos = r->ignore_eos;
    j->logprobs = r->logprobs;
    j->n_top_logprobs = r->n_top_logprobs;
    return VLM_OK;
}

vlm_status vlm_local_prepare(vlm_engine *e, const vlm_request *request, vlm_job **out,
                             vlm_error *err)
{
    *out = NULL;
    vlm_local_job *j = calloc(1, sizeof *j);
    if (j == NULL) return vlm_fail_memory(err, "request");
    const vlm_status status = fill_job((vlm_local *)e, j, request, err);
    if (status != VLM_OK) {
        vlm_local_job_free(e, (vlm_job *)j);
        return status;
    }
    *out = (vlm_job *)j;
    return VLM_OK;
}

void vlm_local_job_free(vlm_engine *e, vlm_job *job)
{
    vlm_local_job *j = (vlm_local_job *)job;
    (void)e;
    if (j == NULL) return;
    vlm_prompt_fini(&j->prompt);
    free(j->logit_bias);
    free(j->stop_text);
    free(j);
}
