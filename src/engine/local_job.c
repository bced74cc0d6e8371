/* local_job.c - a request made ready for the local engine: checked, copied, as ids and pixels. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/local.h"

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

/* Where the pictures' rows are among the prompt's tokens: all that are the image token stand for
 * them, in order. */
static void find_images(const vlm_local *l, vlm_local_job *j)
{
    const uint32_t image_token = vlm_model_config(l->model)->image_token_id;
    uint32_t n_found = 0;
    j->n_image_rows = vlm_model_n_image_tokens(l->model);
    for (uint32_t i = 0; i < j->prompt.ids.len; i++) {
        if (j->prompt.ids.data[i] != image_token || n_found == j->prompt.n_images) continue;
        j->image_starts[n_found] = i;
        memcpy(j->image_keys[n_found].bytes, vlm_pictures_key(j->prompt.pictures, n_found),
               sizeof j->image_keys[n_found].bytes);
        j->image_slots[n_found++] = VLM_SLOT_NONE;
        i += j->n_image_rows - 1;
    }
}

vlm_block_pictures vlm_local_block_pictures(const vlm_local_job *j)
{
    return (vlm_block_pictures){.keys = j->image_keys,
                                .starts = j->image_starts,
                                .n = j->prompt.n_images,
                                .n_rows = j->n_image_rows};
}

static vlm_status find_prompt_keys(vlm_local_job *j, vlm_bytes salt, vlm_error *err)
{
    const vlm_block_pictures pictures = vlm_local_block_pictures(j);
    const uint32_t n = (uint32_t)j->prompt.ids.len / VLM_KV_BLOCK_TOKENS;
    vlm_block_key_first(salt, &j->first_key);
    j->prompt_keys = vlm_calloc(n, sizeof *j->prompt_keys);
    if (j->prompt_keys == NULL) return vlm_fail_memory(err, "request");
    for (uint32_t i = 0; i < n; i++)
        vlm_block_key_next(i == 0 ? &j->first_key : &j->prompt_keys[i - 1],
                           j->prompt.ids.data + i * VLM_KV_BLOCK_TOKENS, i * VLM_KV_BLOCK_TOKENS,
                           &pictures, &j->prompt_keys[i]);
    j->n_prompt_keys = n;
    return VLM_OK;
}

/* All that a choice will ever need, so that steps take no memory. */
static vlm_status new_seq(const vlm_local *l, vlm_local_job *j, uint32_t choice, vlm_error *err)
{
    vlm_seq *seq = &j->seqs[choice];
    *seq = (vlm_seq){.job = j, .choice = choice};
    seq->state = choice == 0 ? VLM_SEQ_WAITS : VLM_SEQ_FORKS;
    VLM_TRY(vlm_stop_init(&seq->stop, j->stop_strings, j->n_stop, err));
    seq->answer = vlm_calloc(j->max_tokens, sizeof *seq->answer);
    seq->blocks = vlm_calloc(j->n_blocks_max, sizeof *seq->blocks);
    seq->keys = vlm_calloc(j->n_blocks_max - j->n_prompt_keys, sizeof *seq->keys);
    if (seq->answer == NULL || seq->blocks == NULL || seq->keys == NULL)
        return vlm_fail_memory(err, "request");
    VLM_TRY(vlm_detok_new(l->prepare.tokenizer, &seq->detok, err));
    VLM_TRY(vlm_detok_reserve(seq->detok, j->max_tokens, err));
    return j->n_stop == 0
               ? VLM_OK
               : vlm_buf_reserve(&seq->stop.held, VLM_STOP_LEN_MAX + l->piece.len_max, err);
}

static vlm_status new_seqs(const vlm_local *l, vlm_local_job *j, uint32_t max_tokens,
                           vlm_error *err)
{
    const uint32_t n_prompt = (uint32_t)j->prompt.ids.len, n_ctx = vlm_model_n_ctx(l->model);
    const uint32_t n_max = n_ctx < l->n_kv_tokens ? n_ctx : l->n_kv_tokens;
    if (n_prompt >= n_max)
        return vlm_fail(err, VLM_OUT_OF_RANGE,
                        "messages: the prompt has %u tokens, the key/value cache holds %u with the "
                        "answer",
                        n_prompt, n_max);
    const uint32_t n_left = n_max - n_prompt;
    j->max_tokens = max_tokens == 0 || max_tokens > n_left ? n_left : max_tokens;
    j->n_blocks_max = (n_prompt + j->max_tokens) / VLM_KV_BLOCK_TOKENS + 1;
    for (uint32_t c = 0; c < j->n_choices; c++) VLM_TRY(new_seq(l, j, c, err));
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
    if (r->tenant.len > VLM_TENANT_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "tenant is longer than %d bytes",
                        VLM_TENANT_LEN_MAX);
    VLM_TRY(copy_sampling(j, r, err));
    VLM_TRY(vlm_prepare_run(&l->prepare, r, &j->prompt, err));
    j->n_choices = r->n_choices == 0 ? 1 : r->n_choices;
    j->ignore_eos = r->ignore_eos;
    j->logprobs = r->logprobs;
    j->n_top_logprobs = r->n_top_logprobs;
    j->tenant_len = r->tenant.len;
    if (r->tenant.len > 0) memcpy(j->tenant, r->tenant.ptr, r->tenant.len);
    find_images(l, j);
    VLM_TRY(find_prompt_keys(j, r->cache_salt, err));
    return new_seqs(l, j, r->max_tokens, err);
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
    for (uint32_t c = 0; c < VLM_REQUEST_CHOICES_MAX; c++) {
        vlm_detok_free(j->seqs[c].detok);
        vlm_stop_fini(&j->seqs[c].stop);
        free(j->seqs[c].answer);
        free(j->seqs[c].blocks);
        free(j->seqs[c].keys);
    }
    vlm_prompt_fini(&j->prompt);
    free(j->prompt_keys);
    free(j->logit_bias);
    free(j->stop_text);
    free(j);
}
