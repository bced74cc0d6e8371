/* one_sequence.h - a paged key/value cache for one sequence, its blocks in no particular order. */
#ifndef VLM_TESTS_MODEL_ONE_SEQUENCE_H
#define VLM_TESTS_MODEL_ONE_SEQUENCE_H

#include "model/model.h"

enum { ONE_SEQUENCE_BLOCKS = 32 };

typedef struct one_sequence {
    vlm_model *model;
    vlm_kv_pool kv;
    uint32_t blocks[ONE_SEQUENCE_BLOCKS];
} one_sequence;

static inline vlm_status one_sequence_open(one_sequence *s, vlm_model *model, vlm_error *err)
{
    *s = (one_sequence){.model = model};
    for (uint32_t i = 0; i < ONE_SEQUENCE_BLOCKS; i++)
        s->blocks[i] = (i * 13 + 5) % ONE_SEQUENCE_BLOCKS;
    return vlm_model_kv_new(model, ONE_SEQUENCE_BLOCKS, VLM_DTYPE_F32, &s->kv, err);
}

static inline void one_sequence_close(one_sequence *s)
{
    vlm_kv_pool_fini(&s->kv);
}

static inline vlm_seq_rows one_sequence_rows(const one_sequence *s, uint32_t n, uint32_t n_past)
{
    return (vlm_seq_rows){.n_rows = n, .n_past = n_past, .blocks = s->blocks};
}

static inline void one_sequence_forward(one_sequence *s, float *x, uint32_t n, uint32_t n_past)
{
    const vlm_seq_rows rows = one_sequence_rows(s, n, n_past);
    vlm_model_forward(s->model, &s->kv, x, &(vlm_batch){.seqs = &rows, .n_seqs = 1, .n_rows = n});
}

#endif
