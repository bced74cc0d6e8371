/* weights.h - binds a model's weight fields to the tensors of its files: by name, with the shape
 * checked, so that nothing after loading meets a wrong size.
 * A missing tensor, a wrong shape or a dtype that cannot be computed is an error with the tensor's
 * name.
 * Not: reading files (safetensors.h), nor which weights a model has (clip.c, llama.c, ...).
 * Ownership: a bound weight points into the mapped file, or into memory that the binder converted
 * and owns; both live until vlm_weights_free.
 * Threads: one at a time while binding; bound weights are read by any. */
#ifndef VLM_MODEL_WEIGHTS_H
#define VLM_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/safetensors.h"
#include "tensor/backend.h"

/* How weights are held: as stored, or converted at load when that makes them narrower.  Widening
 * is never needed: kernels read f16 and bf16 exactly as the f32 they stand for.
 * BF16, Q8 and Q4 pack the matrices of products (backend.h, pack); a tensor that the files hold
 * packed already is taken as it is. */
typedef enum vlm_weight_dtype {
    VLM_WEIGHT_DTYPE_AUTO, /* as stored */
    VLM_WEIGHT_DTYPE_F32,
    VLM_WEIGHT_DTYPE_F16,
    VLM_WEIGHT_DTYPE_BF16,
    VLM_WEIGHT_DTYPE_Q8,
    VLM_WEIGHT_DTYPE_Q4,
} vlm_weight_dtype;

/* What a matrix of products is, for parts differ in what precision they need.  Measured on random
 * weights of a 7B decoder, cosine of the logits to float32 (bench/LOG.md):
 * - Q8 alone 0.9992; with layer 0 as stored 0.9996: what comes in there is small, and all that
 *   follows is built on it.
 * - Q4 alone 0.93; with the head and the attention's values and outputs in Q8 0.977, and with the
 *   first eighth of the layers too 0.993. */
typedef enum vlm_weight_part {
    VLM_PART_VISION,
    VLM_PART_TEXT,
    VLM_PART_TEXT_FINE,  /* Q8 where others have Q4 */
    VLM_PART_TEXT_FIRST, /* layer 0: as stored where others have Q8, Q8 where they have Q4 */
} vlm_weight_part;

typedef struct vlm_weights_options {
    vlm_weight_dtype dtype;
    vlm_weight_dtype vision_dtype; /* AUTO: Q8 when dtype is Q8 or Q4, BF16 when that, else as
                                      stored */
    const vlm_safetensors *packed; /* matrices that were packed before, or NULL; outlives all */
    bool
        plan_only; /* count what packed matrices take, but pack none: for reports, not to compute */
    /* Called while matrices are packed, with bytes of the files; or NULL. */
    void (*progress)(void *user, uint64_t n_done, uint64_t n_total);
    void *user;
} vlm_weights_options;

typedef struct vlm_weights vlm_weights;

/* files and backend must outlive the binder. */
VLM_MUST_USE vlm_status vlm_weights_new(const vlm_safetensors *files, vlm_backend *backend,
                                        const vlm_weights_options *options, vlm_weights **out,
                                        vlm_error *err);
void vlm_weights_free(vlm_weights *w);

/* The prefixes under which the parts of a model may lie, oldest generation first; the first one for
 * which prefix + probe is a tensor is copied to out.  NOT_FOUND names the first candidate. */
VLM_MUST_USE vlm_status vlm_weights_prefix(const vlm_weights *w, const char *const *prefixes,
                                           size_t n_prefixes, const char *probe, const char **out,
                                           vlm_error *err);

/* Bind the matrix prefix + name, which must be [n_rows, n_cols] (or hold n_rows * n_cols elements
 * in row-major order with n_rows first, as a convolution's [out, in, kh, kw]). */
VLM_MUST_USE vlm_status vlm_weights_matrix(vlm_weights *w, const char *prefix, const char *name,
                                           uint32_t n_rows, uint32_t n_cols, vlm_weight *out,
                                           vlm_error *err);
/* The same for a matrix that only vlm_backend_ops.linear takes, which may be packed. */
VLM_MUST_USE vlm_status vlm_weights_linear(vlm_weights *w, vlm_weight_part part, const char *prefix,
                                           const char *name, uint32_t n_rows, uint32_t n_cols,
                                           vlm_weight *out, vlm_error *err);
/* Whether vlm_weights_linear would hold that matrix packed. */
bool vlm_weights_packs(const vlm_weights *w, vlm_weight_part part, const char *prefix,
                       const char *name);
/* Bind a vector of n elements. */
VLM_MUST_USE vlm_status vlm_weights_vector(vlm_weights *w, const char *prefix, const char *name,
                                           uint32_t n, vlm_weight *out, vlm_error *err);
/* Bytes of weights bound so far that lie in maps, and that were converted. */
size_t vlm_weights_mapped_bytes(const vlm_weights *w);
size_t vlm_weights_converted_bytes(const vlm_weights *w);
/* Matrices that were packed by this binder. */
size_t vlm_weights_n_packed(const vlm_weights *w);

/* Write what is bound to a file, whole or not at all: the packed matrices, and with all_tensors the
 * others too, as they are stored.  Every status of vlm_safetensors_write. */
VLM_MUST_USE vlm_status vlm_weights_write(const vlm_weights *w, const char *path, bool all_tensors,
                                          vlm_error *err);

#endif
