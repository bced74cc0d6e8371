/* llama.h - the LLaMA decoder (also Mistral and Qwen2, which differ in biases and window): rows of
 * embeddings to logits over a paged key/value cache.
 * Source: Transformers, modeling_llama.py, modeling_mistral.py, modeling_qwen2.py.
 * Not: where the rows come from (llava.h), nor who holds which block of the cache (engine/kv.h).
 * Threads: weights are read by any; scratch and cache belong to the caller's thread. */
#ifndef VLM_MODEL_LLAMA_H
#define VLM_MODEL_LLAMA_H

#include "model/config.h"
#include "model/kv_pool.h"
#include "model/weights.h"
#include "tensor/backend.h"

typedef struct vlm_llama_layer {
    vlm_weight norm1;                          /* input_layernorm [hidden] */
    vlm_weight q;                              /* [n_heads * head_dim, hidden] */
    vlm_weight k, v;                           /* [n_kv_heads * head_dim, hidden] */
    vlm_weight o;                              /* [hidden, n_heads * head_dim] */
    vlm_weight q_bias, k_bias, v_bias, o_bias; /* absent where the family has none */
    vlm_weight norm2;                          /* post_attention_layernorm [hidden] */
    vlm_weight gate, up;                       /* [mlp, hidden] */
    vlm_weight down;                           /* [hidden, mlp] */
    vlm_weight gate_bias, up_bias, down_bias;
    uint32_t window; /* sliding window in tokens, 0: none */
} vlm_llama_layer;

typedef struct vlm_llama {
    vlm_weight embed;        /* [n_vocab, hidden] */
    vlm_weight norm;         /* [hidden] */
    vlm_weight head;         /* [n_vocab, hidden]; the embedding itself when tied */
    vlm_llama_layer *layers; /* [n_layers] */
    float *rope;             /* [n_positions, head_dim/2, 2], on the host */
    uint32_t n_layers, n_positions;
    uint32_t hidden, mlp, n_vocab, n_heads, n_kv_heads, head_dim;
    float eps;
    vlm_act act;
} vlm_llama;

/* The rows that go through the decoder together: sequences one after the other, each with tokens
 * that follow those it has in the cache. */
typedef struct vlm_batch {
    const vlm_seq_rows *seqs; /* [n_seqs]; row 0 is the first sequence's first */
    uint32_t n_seqs, n_rows;
} vlm_batch;

/* Working memory for up to n_rows_max rows at a time. */
typedef struct vlm_llama_scratch {
    uint32_t n_rows_max;
    size_t n_bytes;
    float *norm;         /* [rows, hidden] */
    float *q, *attn;     /* [rows, n_heads * head_dim] */
    float *k, *v;        /* [rows, n_kv_heads * head_dim] */
    float *gate, *up;    /* [rows, mlp] */
    uint32_t *positions; /* [rows], on the host */
} vlm_llama_scratch;

/* n_positions: the longest sequence that will be run, 1..max_positions of the config.
 * Every status of vlm_weights_*; RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_llama_bind(vlm_llama *m, const vlm_config *config, uint32_t n_positions,
                                       vlm_weights *weights, vlm_error *err);
void vlm_llama_fini(vlm_llama *m);
/* Weights that every token is multiplied with, the head among them, and their bytes as b holds
 * them. */
void vlm_llama_token_weights(const vlm_llama *m, vlm_backend *b, double *n_weights,
                             double *n_bytes);

VLM_MUST_USE vlm_status vlm_llama_scratch_init(vlm_llama_scratch *s, const vlm_llama *m,
                                               uint32_t n_rows_max, vlm_backend *b, vlm_error *err);
void vlm_llama_scratch_fini(vlm_llama_scratch *s, vlm_backend *b);

/* Run all layers over a batch, whose keys and values are written to the cache.  x [n_rows, hidden]
 * on the device holds the embeddings and receives the last layer's hidden states (before the final
 * norm).  n_rows <= n_rows_max, no sequence longer than n_positions.  A row's result depends on its
 * own sequence alone. */
void vlm_llama_forward(const vlm_llama *m, vlm_llama_scratch *s, vlm_backend *b,
                       const vlm_kv_pool *kv, float *x, const vlm_batch *batch);

/* The same in vlm_llama_n_pieces pieces, from 0 on in order and with the same arguments; x and the
 * scratch hold what lies between two of them. */
uint32_t vlm_llama_n_pieces(const vlm_llama *m);
void vlm_llama_forward_piece(const vlm_llama *m, vlm_llama_scratch *s, vlm_backend *b,
                             const vlm_kv_pool *kv, float *x, const vlm_batch *batch,
                             uint32_t piece);

/* The most rows after n_past others of which each piece stays within piece_flop; at least 1. */
uint32_t vlm_llama_piece_rows(const vlm_llama *m, double piece_flop, uint32_t n_past);

/* logits [n, n_vocab] of hidden states x [n, hidden]; both on the device, x is overwritten by its
 * norm. */
void vlm_llama_logits(const vlm_llama *m, vlm_backend *b, float *logits, float *x, uint32_t n);

#endif
