#include "model/llama.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "model/piece.h"
#include "model/rope.h"

/* A layer's, in order. */
typedef enum layer_piece {
    PIECE_QKV,
    PIECE_ATTENTION,
    PIECE_GATE,
    PIECE_UP,
    PIECE_DOWN,
    N_LAYER_PIECES
} layer_piece;

typedef struct matrix_spec {
    const char *weight, *bias;
    uint32_t n_rows, n_cols;
    bool has_bias;
    vlm_weight *out, *out_bias;
} matrix_spec;

static vlm_status bind_layer(vlm_llama_layer *l, const vlm_llama *m, const vlm_text_config *t,
                             const char *root, uint32_t idx, vlm_weights *w, vlm_error *err)
{
    char prefix[160];
    (void)snprintf(prefix, sizeof prefix, "%slayers.%u.", root, idx);
    const uint32_t q_width = m->n_heads * m->head_dim, kv_width = m->n_kv_heads * m->head_dim;
    const bool qkv = t->attention_bias_qkv, o = t->attention_bias_o, mlp = t->mlp_bias;
    const matrix_spec specs[] = {
        {"self_attn.q_proj.weight", "self_attn.q_proj.bias", q_width, m->hidden, qkv, &l->q,
         &l->q_bias},
        {"self_attn.k_proj.weight", "self_attn.k_proj.bias", kv_width, m->hidden, qkv, &l->k,
         &l->k_bias},
        {"self_attn.v_proj.weight", "self_attn.v_proj.bias", kv_width, m->hidden, qkv, &l->v,
         &l->v_bias},
        {"self_attn.o_proj.weight", "self_attn.o_proj.bias", m->hidden, q_width, o, &l->o,
         &l->o_bias},
        {"mlp.gate_proj.weight", "mlp.gate_proj.bias", m->mlp, m->hidden, mlp, &l->gate,
         &l->gate_bias},
        {"mlp.up_proj.weight", "mlp.up_proj.bias", m->mlp, m->hidden, mlp, &l->up, &l->up_bias},
        {"mlp.down_proj.weight", "mlp.down_proj.bias", m->hidden, m->mlp, mlp, &l->down,
         &l->down_bias},
    };
    VLM_TRY(vlm_weights_vector(w, prefix, "input_layernorm.weight", m->hidden, &l->norm1, err));
    VLM_TRY(vlm_weights_vector(w, prefix, "post_attention_layernorm.weight", m->hidden, &l->norm2,
                               err));
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        const matrix_spec *s = &specs[i];
        const bool is_fine = s->out == &l->v || s->out == &l->o || idx < (m->n_layers + 7) / 8;
        const vlm_weight_part part = idx == 0  ? VLM_PART_TEXT_FIRST
                                     : is_fine ? VLM_PART_TEXT_FINE
                                               : VLM_PART_TEXT;
        VLM_TRY(vlm_weights_linear(w, part, prefix, s->weight, s->n_rows, s->n_cols, s->out, err));
        if (s->has_bias)
            VLM_TRY(vlm_weights_vector(w, prefix, s->bias, s->n_rows, s->out_bias, err));
    }
    l->window = t->layer_window[idx] ? t->sliding_window : 0;
    return VLM_OK;
}

static vlm_status bind_all(vlm_llama *m, const vlm_config *config, vlm_weights *w, vlm_error *err)
{
    static const char *const prefixes[] = {"language_model.model.", "model.language_model.",
                                           "model.language_model.model."};
    static const char *const head_prefixes[] = {"language_model.", "", "model.language_model.",
                                                "model."};
    const vlm_text_config *t = &config->text;
    const char *root, *embed_root;
    VLM_TRY(vlm_weights_prefix(w, prefixes, sizeof prefixes / sizeof prefixes[0],
                               "embed_tokens.weight", &root, err));
    VLM_TRY(
        vlm_weights_matrix(w, root, "embed_tokens.weight", m->n_vocab, m->hidden, &m->embed, err));
    embed_root = root;
    VLM_TRY(vlm_weights_vector(w, root, "norm.weight", m->hidden, &m->norm, err));
    for (uint32_t i = 0; i < m->n_layers; i++)
        VLM_TRY(bind_layer(&m->layers[i], m, t, root, i, w, err));
    /* A head in the files goes before config.json's word that it is tied, as in Transformers
     * (PreTrainedModel.tie_weights): the two differ, or it makes no difference. */
    const vlm_status status =
        vlm_weights_prefix(w, head_prefixes, sizeof head_prefixes / sizeof head_prefixes[0],
                           "lm_head.weight", &root, err);
    if (status == VLM_NOT_FOUND && t->tie_word_embeddings) {
        m->head = m->embed;
        if (!vlm_weights_packs(w, VLM_PART_TEXT_FINE, embed_root, "embed_tokens.weight"))
            return VLM_OK;
        return vlm_weights_linear(w, VLM_PART_TEXT_FINE, embed_root, "embed_tokens.weight",
                                  m->n_vocab, m->hidden, &m->head, err);
    }
    if (status != VLM_OK) return status;
    return vlm_weights_linear(w, VLM_PART_TEXT_FINE, root, "lm_head.weight", m->n_vocab, m->hidden,
                              &m->head, err);
}

vlm_status vlm_llama_bind(vlm_llama *m, const vlm_config *config, uint32_t n_positions,
                          vlm_weights *weights, vlm_error *err)
{
    const vlm_text_config *t = &config->text;
    assert(n_positions >= 1);
    *m = (vlm_llama){
        .n_layers = t->n_layers,
        .n_positions = n_positions,
        .hidden = t->hidden_size,
        .mlp = t->intermediate_size,
        .n_vocab = t->vocab_size,
        .n_heads = t->n_heads,
        .n_kv_heads = t->n_kv_heads,
        .head_dim = t->head_dim,
        .eps = t->rms_norm_eps,
        .act = t->hidden_act,
    };
    m->layers = vlm_calloc(m->n_layers, sizeof *m->layers);
    if (m->layers == NULL) return vlm_fail_memory(err, "decoder");
    vlm_status status = bind_all(m, config, weights, err);
    if (status == VLM_OK) status = vlm_rope_table(t, n_positions, &m->rope, err);
    if (status != VLM_OK) vlm_llama_fini(m);
    return status;
}

static void add_weight(vlm_backend *b, const vlm_weight *w, double *n_weights, double *n_bytes)
{
    const double n = (double)w->n_rows * w->n_cols;
    *n_weights += n;
    *n_bytes += vlm_dtype_is_packed(w->dtype)
                    ? (double)b->ops->packed_bytes(b, w->dtype, w->n_rows, w->n_cols)
                    : n * (double)vlm_dtype_size(w->dtype);
}

void vlm_llama_token_weights(const vlm_llama *m, vlm_backend *b, double *n_weights, double *n_bytes)
{
    *n_weights = *n_bytes = 0.0;
    for (uint32_t i = 0; i < m->n_layers; i++) {
        const vlm_llama_layer *l = &m->layers[i];
        const vlm_weight *const all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            add_weight(b, all[k], n_weights, n_bytes);
    }
    add_weight(b, &m->head, n_weights, n_bytes);
}

void vlm_llama_fini(vlm_llama *m)
{
    free(m->layers);
    free(m->rope);
    m->layers = NULL;
    m->rope = NULL;
}

vlm_status vlm_llama_scratch_init(vlm_llama_scratch *s, const vlm_llama *m, uint32_t n_rows_max,
                                  vlm_backend *b, vlm_error *err)
{
    *s = (vlm_llama_scratch){.n_rows_max = n_rows_max};
    const size_t q_width = (size_t)m->n_heads * m->head_dim;
    const size_t kv_width = (size_t)m->n_kv_heads * m->head_dim;
    const struct {
        size_t n_cols;
        float **out;
    } parts[] = {
        {m->hidden, &s->norm}, {q_width, &s->q},   {q_width, &s->attn}, {kv_width, &s->k},
        {kv_width, &s->v},     {m->mlp, &s->gate}, {m->mlp, &s->up},
    };
    s->positions = vlm_calloc(n_rows_max, sizeof *s->positions);
    vlm_status status = s->positions == NULL ? vlm_fail_memory(err, "decoder") : VLM_OK;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && status == VLM_OK; i++) {
        size_t n, n_bytes;
        void *ptr = NULL;
        if (!vlm_size_mul(parts[i].n_cols, n_rows_max, &n) ||
            !vlm_size_mul(n, sizeof(float), &n_bytes))
            status = vlm_fail_memory(err, "decoder");
        else
            status = b->ops->alloc(b, n_bytes, &ptr, err);
        *parts[i].out = ptr;
        if (status == VLM_OK) s->n_bytes += n_bytes;
    }
    if (status != VLM_OK) vlm_llama_scratch_fini(s, b);
    return status;
}

void vlm_llama_scratch_fini(vlm_llama_scratch *s, vlm_backend *b)
{
    float *const parts[] = {s->norm, s->q, s->attn, s->k, s->v, s->gate, s->up};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) b->ops->free(b, parts[i]);
    free(s->positions);
    *s = (vlm_llama_scratch){0};
}

/* LlamaAttention's first half; the new rows' keys and values go to their places in the cache. */
static void project(const vlm_llama *m, const vlm_llama_layer *l, vlm_llama_scratch *s,
                    vlm_backend *b, const vlm_kv_layer *kv, const float *x, const vlm_batch *batch)
{
    const vlm_backend_ops *ops = b->ops;
    const uint32_t n = batch->n_rows;
    ops->rms_norm(b, s->norm, x, n, &l->norm1, m->eps);
    ops->linear(b, s->q, s->norm, n, &l->q, &l->q_bias, false);
    ops->linear(b, s->k, s->norm, n, &l->k, &l->k_bias, false);
    ops->linear(b, s->v, s->norm, n, &l->v, &l->v_bias, false);
    ops->rope(b, s->q, n, m->n_heads, m->head_dim, s->positions, m->rope);
    ops->rope(b, s->k, n, m->n_kv_heads, m->head_dim, s->positions, m->rope);
    ops->kv_write(b, kv, batch->seqs, batch->n_seqs, s->k, s->v);
}

static void attend(const vlm_llama *m, const vlm_llama_layer *l, vlm_llama_scratch *s,
                   vlm_backend *b, const vlm_kv_layer *kv, float *x, const vlm_batch *batch)
{
    const vlm_attn_args args = {
        .q = s->q,
        .out = s->attn,
        .kv = kv,
        .seqs = batch->seqs,
        .n_seqs = batch->n_seqs,
        .n_heads = m->n_heads,
        .window = l->window,
        .scale = 1.0f / sqrtf((float)m->head_dim),
    };
    b->ops->attn_paged(b, &args);
    b->ops->linear(b, x, s->attn, batch->n_rows, &l->o, &l->o_bias, true);
}

/* Each row's place in its sequence. */
static void set_positions(const vlm_llama *m, vlm_llama_scratch *s, const vlm_batch *batch)
{
    for (uint32_t i = 0; i < batch->n_seqs; i++) {
        const vlm_seq_rows *seq = &batch->seqs[i];
        assert(seq->row + seq->n_rows <= batch->n_rows);
        assert(seq->n_past + seq->n_rows <= m->n_positions);
        for (uint32_t r = 0; r < seq->n_rows; r++) s->positions[seq->row + r] = seq->n_past + r;
    }
}

uint32_t vlm_llama_n_pieces(const vlm_llama *m)
{
    return m->n_layers * N_LAYER_PIECES;
}

/* After the attention LlamaMLP: x += down(act(gate(norm x)) * up(norm x)). */
void vlm_llama_forward_piece(const vlm_llama *m, vlm_llama_scratch *s, vlm_backend *b,
                             const vlm_kv_pool *kv, float *x, const vlm_batch *batch,
                             uint32_t piece)
{
    assert(batch->n_rows <= s->n_rows_max && piece < vlm_llama_n_pieces(m));
    const vlm_backend_ops *ops = b->ops;
    const uint32_t layer = piece / N_LAYER_PIECES, n = batch->n_rows;
    const vlm_llama_layer *l = &m->layers[layer];
    switch ((layer_piece)(piece % N_LAYER_PIECES)) {
    case PIECE_QKV:
        if (layer == 0) set_positions(m, s, batch);
        project(m, l, s, b, &kv->layers[layer], x, batch);
        break;
    case PIECE_ATTENTION: attend(m, l, s, b, &kv->layers[layer], x, batch); break;
    case PIECE_GATE:
        ops->rms_norm(b, s->norm, x, n, &l->norm2, m->eps);
        ops->linear(b, s->gate, s->norm, n, &l->gate, &l->gate_bias, false);
        break;
    case PIECE_UP:
        ops->linear(b, s->up, s->norm, n, &l->up, &l->up_bias, false);
        ops->act_mul(b, s->gate, s->up, (size_t)n * m->mlp, m->act);
        break;
    case PIECE_DOWN: ops->linear(b, x, s->gate, n, &l->down, &l->down_bias, true); break;
    case N_LAYER_PIECES: break;
    }
}

void vlm_llama_forward(const vlm_llama *m, vlm_llama_scratch *s, vlm_backend *b,
                       const vlm_kv_pool *kv, float *x, const vlm_batch *batch)
{
    for (uint32_t i = 0; i < vlm_llama_n_pieces(m); i++)
        vlm_llama_forward_piece(m, s, b, kv, x, batch, i);
}

/* Two operations for each weight; in the attention four for each element of a query and each key
 * it meets. */
uint32_t vlm_llama_piece_rows(const vlm_llama *m, double piece_flop, uint32_t n_past)
{
    const double hidden = m->hidden, q_width = (double)m->n_heads * m->head_dim;
    const double kv_width = (double)m->n_kv_heads * m->head_dim;
    const double qkv = 2.0 * hidden * (q_width + 2.0 * kv_width);
    const double n_keys = (double)n_past + VLM_PIECE_ROWS_STEP;
    const double attention = q_width * (4.0 * n_keys + 2.0 * hidden);
    const double mlp = 2.0 * hidden * m->mlp;
    const double most = qkv > attention ? qkv : attention;
    return vlm_piece_rows(piece_flop, mlp > most ? mlp : most);
}

void vlm_llama_logits(const vlm_llama *m, vlm_backend *b, float *logits, float *x, uint32_t n)
{
    const vlm_weight none = {0};
    b->ops->rms_norm(b, x, x, n, &m->norm, m->eps);
    b->ops->linear(b, logits, x, n, &m->head, &none, false);
}
