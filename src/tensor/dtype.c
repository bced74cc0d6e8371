#include "tensor/dtype.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[VLM_N_WEIGHT_DTYPES] = {
#define VLM_DTYPE_ROW(name, text, size) {text, size},
    VLM_DTYPE_LIST(VLM_DTYPE_ROW)
#undef VLM_DTYPE_ROW
        [VLM_DTYPE_Q8] = {"Q8", 0},
    [VLM_DTYPE_Q4] = {"Q4", 0},
    [VLM_DTYPE_BF16_DOT] = {"BF16_DOT", 0},
};

const char *vlm_dtype_name(vlm_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t vlm_dtype_size(vlm_dtype dtype)
{
    assert(!vlm_dtype_is_packed(dtype));
    return dtypes[dtype].size;
}

bool vlm_dtype_parse(const char *name, size_t len, vlm_dtype *dtype)
{
    for (int i = 0; i < VLM_N_DTYPES; i++) {
        if (strlen(dtypes[i].name) != len || memcmp(dtypes[i].name, name, len) != 0) continue;
        *dtype = (vlm_dtype)i;
        return true;
    }
    return false;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float vlm_f16_to_f32(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    const uint32_t magnitude = (uint32_t)(bits & 0x7fffu) << 13;
    /* Infinity, and NaN made quiet as the F16C instruction does. */
    if ((bits & 0x7c00u) == 0x7c00u) {
        const uint32_t quiet = (bits & 0x03ffu) != 0 ? 0x00400000u : 0;
        return float_of_bits(sign | 0x7f800000u | magnitude | quiet);
    }
    /* The exponents' biases differ by 127 - 15; the product is exact for subnormal halves too. */
    return float_of_bits(sign | bits_of_float(float_of_bits(magnitude) * 0x1p112f));
}

float vlm_bf16_to_f32(uint16_t bits)
{
    return float_of_bits((uint32_t)bits << 16);
}

uint16_t vlm_f32_to_f16(float value)
{
    const uint32_t bits = bits_of_float(value);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x03ffu));
    /* From 65520, halfway between the largest half and 2^16, on: infinity. */
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        /* Below 2^-14: the addition makes the float unit round to a multiple of 2^-24. */
        const uint32_t rounded = bits_of_float(float_of_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    const uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0x0fffu + odd) >> 13));
}

uint16_t vlm_f32_to_bf16(float value)
{
    const uint32_t bits = bits_of_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x0040u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
