/* dtype.h - element types of weights and activations.  Threads: pure. */
#ifndef VLM_TENSOR_DTYPE_H
#define VLM_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(enum, name in safetensors, bytes per element) */
#define VLM_DTYPE_LIST(X)                                                                          \
    X(F32, "F32", 4)                                                                               \
    X(F16, "F16", 2)                                                                               \
    X(BF16, "BF16", 2)

typedef enum vlm_dtype {
#define VLM_DTYPE_ENUM(name, text, size) VLM_DTYPE_##name,
    VLM_DTYPE_LIST(VLM_DTYPE_ENUM)
#undef VLM_DTYPE_ENUM
        VLM_N_DTYPES,

    /* Packed weights: in an order of the backend's own (backend.h, pack), for matrix products
     * alone, whose other factor is rounded too. */
    VLM_DTYPE_Q8 = VLM_N_DTYPES, /* blocks of 32 of a row: 8 bits each, a scale in f16; times the
                                    same in 8 bits */
    VLM_DTYPE_Q4,                /* the same with 4 bits; times 8 bits */
    VLM_DTYPE_BF16_DOT,          /* bfloat16 times bfloat16 */
    VLM_N_WEIGHT_DTYPES
} vlm_dtype;

static inline bool vlm_dtype_is_packed(vlm_dtype dtype)
{
    return dtype >= VLM_N_DTYPES;
}

/* "F16", "Q8", ... */
const char *vlm_dtype_name(vlm_dtype dtype);
/* Bytes of an element; not of packed ones. */
size_t vlm_dtype_size(vlm_dtype dtype);
/* By the name in safetensors; false when the list has no such type. */
bool vlm_dtype_parse(const char *name, size_t len, vlm_dtype *dtype);

/* IEEE 754 binary16 and bfloat16 to float (exact) and back (round to nearest even). */
float vlm_f16_to_f32(uint16_t bits);
float vlm_bf16_to_f32(uint16_t bits);
uint16_t vlm_f32_to_f16(float value);
uint16_t vlm_f32_to_bf16(float value);

#endif
