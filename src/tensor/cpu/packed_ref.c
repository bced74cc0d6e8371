#include <assert.h>
#include <math.h>
#include <string.h>

#include "tensor/cpu/kernels.h"
#include "tensor/cpu/packed.h"

size_t vlm_pack_chunk_bytes(vlm_dtype dtype)
{
    switch (dtype) {
    case VLM_DTYPE_Q8: return sizeof(vlm_q8_chunk);
    case VLM_DTYPE_Q4: return sizeof(vlm_q4_chunk);
    default: assert(dtype == VLM_DTYPE_BF16_DOT); return sizeof(vlm_bf16_chunk);
    }
}

static void prepare_x8(vlm_x8 *to, size_t stride, const float *x, size_t n_k, int32_t offset)
{
    const size_t n_blocks = 2 * vlm_pack_n_chunks(n_k);
    for (size_t b = 0; b < n_blocks; b++, to += stride) {
        const size_t first = b * VLM_PACK_BLOCK;
        const size_t len = first >= n_k                   ? 0
                           : n_k - first < VLM_PACK_BLOCK ? n_k - first
                                                          : VLM_PACK_BLOCK;
        float most = 0.0f;
        bool finite = true;
        for (size_t i = 0; i < len; i++) {
            const float size = fabsf(x[first + i]);
            if (size > most) most = size;
            finite = finite && isfinite(size);
        }
        memset(to->q, 0, sizeof to->q);
        to->correction = 0;
        to->scale = !finite ? NAN : most < VLM_X8_LEAST ? 0.0f : most / 127.0f;
        if (!finite || most < VLM_X8_LEAST) continue;
        const float inverse = 127.0f / most;
        int32_t sum = 0;
        for (size_t i = 0; i < len; i++) {
            to->q[i] = (int8_t)rintf(x[first + i] * inverse);
            sum += to->q[i];
        }
        to->correction = -offset * sum;
    }
}

static void prepare_q8(void *to, size_t stride, const float *x, size_t n_k)
{
    prepare_x8(to, stride, x, n_k, VLM_Q8_OFFSET);
}

static void prepare_q4(void *to, size_t stride, const float *x, size_t n_k)
{
    prepare_x8(to, stride, x, n_k, VLM_Q4_OFFSET);
}

static void prepare_bf16(void *to, size_t stride, const float *x, size_t n_k)
{
    vlm_x16 *block = to;
    for (size_t first = 0; first < vlm_pack_n_chunks(n_k) * VLM_PACK_CHUNK;
         first += VLM_PACK_BLOCK, block += stride) {
        for (size_t i = 0; i < VLM_PACK_BLOCK; i++)
            block->v[i] = first + i < n_k ? vlm_f32_to_bf16(x[first + i]) : 0;
    }
}

static void put(float *y, float sum, const float *bias, size_t o, bool add)
{
    if (bias != NULL) sum += bias[o];
    *y = add ? *y + sum : sum;
}

static int32_t dot_q8(const void *w, size_t half, size_t o, const vlm_x8 *x)
{
    const vlm_q8_chunk *chunk = w;
    int32_t sum = x->correction;
    for (size_t i = 0; i < VLM_PACK_BLOCK; i++) sum += chunk->q[half][i / 4][o][i % 4] * x->q[i];
    return sum;
}

static int32_t dot_q4(const void *w, size_t half, size_t o, const vlm_x8 *x)
{
    const vlm_q4_chunk *chunk = w;
    int32_t sum = x->correction;
    for (size_t i = 0; i < VLM_PACK_BLOCK / 2; i++) {
        const uint8_t q = chunk->q[half][i / 4][o][i % 4];
        sum += vlm_q4_levels[q & 15] * x->q[i];
        sum += vlm_q4_levels[q >> 4] * x->q[i + VLM_PACK_BLOCK / 2];
    }
    return sum;
}

/* Both kinds of chunk begin with their scales. */
typedef struct chunk_scales {
    uint16_t scale[2][VLM_PACK_OUTS];
} chunk_scales;

static void packed_int(float *y, size_t y_stride, const vlm_x8 *x, size_t n, const unsigned char *w,
                       size_t chunk_bytes,
                       int32_t (*dot)(const void *, size_t, size_t, const vlm_x8 *), size_t n_out,
                       size_t n_chunks, const float *bias, bool add)
{
    for (size_t o = 0; o < n_out; o++) {
        const unsigned char *group = w + o / VLM_PACK_OUTS * n_chunks * chunk_bytes;
        for (size_t r = 0; r < n; r++) {
            float sum = 0.0f;
            for (size_t b = 0; b < 2 * n_chunks; b++) {
                const unsigned char *chunk = group + b / 2 * chunk_bytes;
                const chunk_scales *scales = (const chunk_scales *)(const void *)chunk;
                const vlm_x8 *block = &x[b * n + r];
                const float scale = vlm_f16_to_f32(scales->scale[b % 2][o % VLM_PACK_OUTS]);
                sum = fmaf((float)dot(chunk, b % 2, o % VLM_PACK_OUTS, block), scale * block->scale,
                           sum);
            }
            put(&y[r * y_stride + o], sum, bias, o, add);
        }
    }
}

static void packed_q8(float *y, size_t y_stride, const void *x, size_t n, const void *w,
                      size_t n_out, size_t n_chunks, const float *bias, bool add)
{
    packed_int(y, y_stride, x, n, w, sizeof(vlm_q8_chunk), dot_q8, n_out, n_chunks, bias, add);
}

static void packed_q4(float *y, size_t y_stride, const void *x, size_t n, const void *w,
                      size_t n_out, size_t n_chunks, const float *bias, bool add)
{
    packed_int(y, y_stride, x, n, w, sizeof(vlm_q4_chunk), dot_q4, n_out, n_chunks, bias, add);
}

static void packed_bf16(float *y, size_t y_stride, const void *x, size_t n, const void *w,
                        size_t n_out, size_t n_chunks, const float *bias, bool add)
{
    const vlm_x16 *rows = x;
    for (size_t o = 0; o < n_out; o++) {
        const vlm_bf16_chunk *group = (const vlm_bf16_chunk *)w + o / VLM_PACK_OUTS * n_chunks;
        const size_t lane = o % VLM_PACK_OUTS;
        for (size_t r = 0; r < n; r++) {
            float sum = 0.0f;
            for (size_t k = 0; k < n_chunks * VLM_PACK_CHUNK; k += 2) {
                const uint16_t *v = rows[k / VLM_PACK_BLOCK * n + r].v + k % VLM_PACK_BLOCK;
                const uint16_t *pair = group[k / VLM_PACK_CHUNK].w[k % VLM_PACK_CHUNK / 2][lane];
                sum = fmaf(vlm_bf16_to_f32(v[1]), vlm_bf16_to_f32(pair[1]), sum);
                sum = fmaf(vlm_bf16_to_f32(v[0]), vlm_bf16_to_f32(pair[0]), sum);
            }
            put(&y[r * y_stride + o], sum, bias, o, add);
        }
    }
}

void vlm_cpu_fill_packed_reference(vlm_cpu_kernels *kernels)
{
    kernels->prepare[VLM_DTYPE_Q8] = prepare_q8;
    kernels->prepare[VLM_DTYPE_Q4] = prepare_q4;
    kernels->prepare[VLM_DTYPE_BF16_DOT] = prepare_bf16;
    kernels->packed[VLM_DTYPE_Q8] = packed_q8;
    kernels->packed[VLM_DTYPE_Q4] = packed_q4;
    kernels->packed[VLM_DTYPE_BF16_DOT] = packed_bf16;
    vlm_cpu_fill_pack_reference(kernels);
}
