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
 * is never needed: kernels read f16 and bf16 exactly as the f32 they stand for. */
typedef enum vlm_weight_dtype {
    VLM_WEIGHT_DTYPE_AUTO, /* as stored */
    VLM_WEIGHT_DTYPE_F32,
    VLM_WEIGHT_DTYPE_F16,
    VLM_WEIGHT_DTYPE_BF16,
} vlm_weight_dtype;

typedef struct vlm_weights vlm_weights;

/* files and backend must outlive the binder. */
VLM_MUST_USE vlm_status vlm_weights_new(const vlm_safetensors *files, vlm_backend *backend,
                                        vlm_weight_dtype dtype, vlm_weights **out, vlm_error *err);
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
/* Bind a vector of n elements. */
VLM_MUST_USE vlm_status vlm_weights_vector(vlm_weights *w, const char *prefix, const char *name,
                                           uint32_t n, vlm_weight *out, vlm_error *err);
/* Bytes of weights bound so far that lie in the map, and that were converted. */
size_t vlm_weights_mapped_bytes(const vlm_weights *w);
size_t vlm_weights_converted_bytes(const vlm_weights *w);

#endif
