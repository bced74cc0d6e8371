/* model.h - one vision-language model on one device: what the engine sees of the room.
 * Opens a folder, checks every tensor, and offers the stages of an answer: preprocess, encode,
 * embed, forward, logits.
 * Not: text (text/), sampling and scheduling (engine/).
 * Ownership: a model owns its maps, weights and working memory; folder and backend must outlive it.
 * Threads: preprocess from any; everything else from one thread at a time. */
#ifndef VLM_MODEL_MODEL_H
#define VLM_MODEL_MODEL_H

#include "image/image.h"
#include "model/config.h"
#include "model/folder.h"
#include "model/llama.h"
#include "model/preproc.h"
#include "model/weights.h"
#include "tensor/backend.h"

typedef struct vlm_model vlm_model;

typedef struct vlm_model_options {
    vlm_weight_dtype dtype, vision_dtype; /* vlm_weights_options */
    /* Packed weights are kept for the next start in files of so many bytes together (pack_cache.h);
     * 0: not at all. */
    size_t pack_cache_bytes;
    /* As in vlm_weights_options. */
    bool plan_only;
    void (*progress)(void *user, uint64_t n_done, uint64_t n_total);
    void *user;
    uint32_t n_ctx;      /* longest sequence; 0: the model's, at most VLM_CTX_DEFAULT_MAX */
    uint32_t n_rows_max; /* most rows of one forward call; 0: as piece_flop allows */
    double piece_flop;   /* of one piece of encode or forward; 0: VLM_PIECE_FLOP */
} vlm_model_options;

enum { VLM_CTX_DEFAULT_MAX = 32768 };

/* Errors name the file and the tensor or field.  Every status. */
VLM_MUST_USE vlm_status vlm_model_open(vlm_folder *folder, vlm_backend *backend,
                                       const vlm_model_options *options, vlm_model **out,
                                       vlm_error *err);
void vlm_model_close(vlm_model *m); /* NULL is legal */

const vlm_config *vlm_model_config(const vlm_model *m);
const vlm_preproc *vlm_model_preproc(const vlm_model *m);
uint32_t vlm_model_n_ctx(const vlm_model *m);
uint32_t vlm_model_n_rows_max(const vlm_model *m);
/* How many rows to run at a time after n_past others, so that no piece is long: 1..n_rows_max. */
uint32_t vlm_model_n_rows(const vlm_model *m, uint32_t n_past);
/* Rows that one image takes. */
uint32_t vlm_model_n_image_tokens(const vlm_model *m);
/* Shape of the vision tower's selected hidden states of one image. */
void vlm_model_hidden_shape(const vlm_model *m, uint32_t *n_tokens, uint32_t *width);
/* Floats of one preprocessed image: 3 * side * side. */
size_t vlm_model_n_pixels(const vlm_model *m);
size_t vlm_model_weight_bytes(const vlm_model *m);
size_t vlm_model_mapped_bytes(const vlm_model *m); /* of them, read where they lie in the files */
/* As vlm_llama_token_weights. */
void vlm_model_token_weights(const vlm_model *m, double *n_weights, double *n_bytes);

/* pixels [n_pixels] on the host.  Every status of vlm_preproc_run. */
VLM_MUST_USE vlm_status vlm_model_preprocess(const vlm_model *m, const vlm_image *image,
                                             float *pixels, vlm_error *err);

/* One picture: pixels [n_pixels] on the host, features [n_image_tokens, hidden] on the device;
 * hidden_states NULL or on the host. */
void vlm_model_encode(vlm_model *m, const float *pixels, float *features, float *hidden_states);

/* Pictures that are encoded side by side. */
typedef struct vlm_encode_batch {
    const float *const *pixels; /* [n] */
    float *const *features;     /* [n] */
    uint32_t n;                 /* 1..vlm_model_n_encode_max */
} vlm_encode_batch;

/* As many pictures as go together without making the pieces long. */
uint32_t vlm_model_n_encode_max(const vlm_model *m);
/* In pieces from 0 on in order and with the same batch; no other may be encoded in between. */
uint32_t vlm_model_n_encode_pieces(const vlm_model *m, uint32_t n);
void vlm_model_encode_piece(vlm_model *m, const vlm_encode_batch *batch, uint32_t piece);

/* x [n, hidden] = embeddings of ids [n] (each < vocabulary), those equal to the image token
 * replaced in order by the rows of features from *feature_row on, which is moved forward. */
void vlm_model_embed(vlm_model *m, float *x, const uint32_t *ids, uint32_t n, const float *features,
                     size_t *feature_row);

/* The same without pictures: every id is a word, the image token too. */
void vlm_model_embed_text(vlm_model *m, float *x, const uint32_t *ids, uint32_t n);

/* Rows of features to rows of x. */
void vlm_model_splice(vlm_model *m, float *x, const float *features, uint32_t n);

/* As vlm_llama_forward and vlm_llama_logits. */
void vlm_model_forward(vlm_model *m, const vlm_kv_pool *kv, float *x, const vlm_batch *batch);
/* The same in pieces from 0 on in order and with the same arguments; no other forward may run in
 * between. */
uint32_t vlm_model_n_forward_pieces(const vlm_model *m);
void vlm_model_forward_piece(vlm_model *m, const vlm_kv_pool *kv, float *x, const vlm_batch *batch,
                             uint32_t piece);
void vlm_model_logits(vlm_model *m, float *logits, float *x, uint32_t n);

/* A key/value cache of n_blocks blocks on the model's device; vlm_kv_pool_fini frees it.  As
 * vlm_kv_pool_init. */
VLM_MUST_USE vlm_status vlm_model_kv_new(vlm_model *m, uint32_t n_blocks, vlm_dtype dtype,
                                         vlm_kv_pool *pool, vlm_error *err);

/* Write the weights as they are held to one safetensors file.  Every status of vlm_weights_write.
 */
VLM_MUST_USE vlm_status vlm_model_write(const vlm_model *m, const char *path, vlm_error *err);

/* Bytes of anonymous memory that an open model holds: converted weights and working memory. */
size_t vlm_model_working_bytes(const vlm_model *m);

#endif
