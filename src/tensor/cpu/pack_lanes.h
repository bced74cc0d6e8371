/* pack_lanes.h - packing of one chunk, for 16 outputs side by side, in plain C that the compiler
 * turns into the vectors of the file that includes it; additions and roundings are in a fixed
 * order, so that every level gives the same bytes.
 * Not: an interface; for pack_*.c, each of which defines VLM_PACK_LEVEL.  Threads: pure. */
#ifndef VLM_TENSOR_CPU_PACK_LANES_H
#define VLM_TENSOR_CPU_PACK_LANES_H

#include <math.h>
#include <string.h>

#include "tensor/cpu/kernels.h"
#include "tensor/cpu/packed.h"

#if defined(VLM_PACK_LEVEL)

enum { OUTS = VLM_PACK_OUTS, BLOCK = VLM_PACK_BLOCK, CHUNK = VLM_PACK_CHUNK };

/* Adding it rounds a small float to a whole number, to nearest even. */
static const float rounder = 12582912.0f;

static float round_small(float x)
{
    return (x + rounder) - rounder;
}

/* Columns become rows: the outputs side by side. */
static void transpose(float to[CHUNK][OUTS], const float *w)
{
    for (size_t k = 0; k < CHUNK; k++)
        for (size_t o = 0; o < OUTS; o++) to[k][o] = w[o * CHUNK + k];
}

/* The scales of a block in f16 and as the float they stand for; those of blocks that are not finite
 * become NaN in f16 and 0 here, so that their weights are 0 and nothing overflows. */
static void round_scales(uint16_t bits[OUTS], float scale[OUTS])
{
    for (size_t o = 0; o < OUTS; o++) {
        const bool finite = fabsf(scale[o]) <= 65504.0f;
        bits[o] = vlm_f32_to_f16(finite ? scale[o] : NAN);
        scale[o] = finite ? vlm_f16_to_f32(bits[o]) : 0.0f;
    }
}

/* max |x| of a block; NaN where a value is not finite. */
static void largest(float most[OUTS], float w[BLOCK][OUTS])
{
    float poison[OUTS];
    for (size_t o = 0; o < OUTS; o++) most[o] = poison[o] = 0.0f;
    for (size_t k = 0; k < BLOCK; k++) {
        for (size_t o = 0; o < OUTS; o++) {
            const float size = fabsf(w[k][o]);
            most[o] = size > most[o] ? size : most[o];
            poison[o] += w[k][o] * 0.0f;
        }
    }
    for (size_t o = 0; o < OUTS; o++) most[o] += poison[o];
}

static void inverses(float inverse[OUTS], const float scale[OUTS])
{
    for (size_t o = 0; o < OUTS; o++) inverse[o] = scale[o] == 0.0f ? 0.0f : 1.0f / scale[o];
}

/* words[o] |= (q[o] + offset) << shift, a byte each. */
static void add_bytes(uint32_t words[OUTS], const float q[OUTS], int32_t offset, unsigned shift)
{
    for (size_t o = 0; o < OUTS; o++) words[o] |= (uint32_t)((int32_t)q[o] + offset) << shift;
}

/* 4 columns of each output, the first in the lowest byte. */
static void put_words(uint8_t to[OUTS][4], const uint32_t words[OUTS])
{
    for (size_t o = 0; o < OUTS; o++)
        for (unsigned j = 0; j < 4; j++) to[o][j] = (uint8_t)(words[o] >> (8 * j));
}

static void pack_q8(void *to, const float *w)
{
    vlm_q8_chunk *chunk = to;
    float columns[CHUNK][OUTS];
    transpose(columns, w);
    for (size_t b = 0; b < 2; b++) {
        float(*block)[OUTS] = columns + b * BLOCK;
        float scale[OUTS], inverse[OUTS];
        largest(scale, block);
        for (size_t o = 0; o < OUTS; o++) scale[o] /= 127.0f;
        round_scales(chunk->scale[b], scale);
        inverses(inverse, scale);
        for (size_t i = 0; i < BLOCK / 4; i++) {
            uint32_t words[OUTS] = {0};
            for (size_t j = 0; j < 4; j++) {
                float q[OUTS];
                for (size_t o = 0; o < OUTS; o++) {
                    const float x = round_small(block[4 * i + j][o] * inverse[o]);
                    q[o] = x > 127.0f ? 127.0f : x < -127.0f ? -127.0f : x;
                    q[o] = inverse[o] == 0.0f ? 0.0f : q[o];
                }
                add_bytes(words, q, VLM_Q8_OFFSET, (unsigned)(8 * j));
            }
            put_words(chunk->q[b][i], words);
        }
    }
}

/* Values of the levels, and the middles between them. */
typedef struct levels {
    float value[16], middle[15];
} levels;

static void set_levels(levels *l)
{
    for (int i = 0; i < 16; i++) l->value[i] = (float)(vlm_q4_levels[i] - VLM_Q4_OFFSET);
    for (int i = 0; i < 15; i++) l->middle[i] = 0.5f * (l->value[i] + l->value[i + 1]);
}

/* value[o] = the level nearest to x[o]. */
static void nearest(float value[OUTS], const levels *l, const float x[OUTS])
{
    for (size_t o = 0; o < OUTS; o++) value[o] = l->value[0];
    for (size_t i = 0; i < 15; i++) {
        const float middle = l->middle[i], next = l->value[i + 1];
        for (size_t o = 0; o < OUTS; o++) value[o] = x[o] > middle ? next : value[o];
    }
}

/* What a block gains with the levels nearest to x inverse: with s = x . v and v2 = v . v, the
 * squared error is least for the scale s / v2 and then smaller by s^2 / v2. */
static void try_inverse(float w[BLOCK][OUTS], const levels *l, const float inverse[OUTS],
                        float best_gain[OUTS], float best_scale[OUTS])
{
    float dot[OUTS] = {0}, norm[OUTS] = {0};
    for (size_t k = 0; k < BLOCK; k++) {
        float x[OUTS], value[OUTS];
        for (size_t o = 0; o < OUTS; o++) x[o] = w[k][o] * inverse[o];
        nearest(value, l, x);
        for (size_t o = 0; o < OUTS; o++) {
            dot[o] += w[k][o] * value[o];
            norm[o] += value[o] * value[o];
        }
    }
    for (size_t o = 0; o < OUTS; o++) {
        const float scale = norm[o] > 0.0f ? dot[o] / norm[o] : 0.0f;
        const float gain = dot[o] * scale;
        const bool better = gain > best_gain[o];
        best_scale[o] = better ? scale : best_scale[o];
        best_gain[o] = better ? gain : best_gain[o];
    }
}

/* One output's best scale so far, and what it was found with. */
typedef struct search {
    float most[OUTS], gain[OUTS], scale[OUTS];
    float times[OUTS]; /* the largest magnitude falls on this level's value */
} search;

static void try_times(search *s, float w[BLOCK][OUTS], const levels *l, const float times[OUTS])
{
    float inverse[OUTS], before[OUTS];
    for (size_t o = 0; o < OUTS; o++) {
        inverse[o] = s->most[o] > 0.0f ? times[o] / s->most[o] : 0.0f;
        before[o] = s->gain[o];
    }
    try_inverse(w, l, inverse, s->gain, s->scale);
    for (size_t o = 0; o < OUTS; o++) s->times[o] = s->gain[o] > before[o] ? times[o] : s->times[o];
}

/* The scale of either sign with the least squared error: the levels reach farther on one side.
 * Three tries for each sign, then around the best at half the distance and at a quarter. */
static void search_scales(float scale[OUTS], float w[BLOCK][OUTS], const levels *l)
{
    static const float first[] = {0.85f, 0.95f, 1.05f}, then[] = {0.05f, 0.025f};
    search s = {.gain = {0.0f}};
    float times[OUTS];
    largest(s.most, w);
    for (int t = 0; t < 6; t++) {
        const float end = first[t / 2] * l->value[0];
        for (size_t o = 0; o < OUTS; o++) times[o] = t % 2 == 0 ? end : -end;
        try_times(&s, w, l, times);
    }
    for (int t = 0; t < 4; t++) {
        const float factor = 1.0f + (t % 2 == 0 ? -then[t / 2] : then[t / 2]);
        const float *best = s.times;
        if (t % 2 == 0)
            for (size_t o = 0; o < OUTS; o++) times[o] = best[o];
        float near_best[OUTS];
        for (size_t o = 0; o < OUTS; o++) near_best[o] = times[o] * factor;
        try_times(&s, w, l, near_best);
    }
    for (size_t o = 0; o < OUTS; o++) scale[o] = s.most[o] >= 0.0f ? s.scale[o] : NAN;
}

/* index[o] = which level is nearest to x[o] inverse[o]. */
static void find_index(float index[OUTS], const levels *l, const float x[OUTS],
                       const float inverse[OUTS])
{
    float scaled[OUTS];
    for (size_t o = 0; o < OUTS; o++) {
        scaled[o] = x[o] * inverse[o];
        index[o] = 0.0f;
    }
    for (size_t i = 0; i < 15; i++) {
        const float middle = l->middle[i];
        for (size_t o = 0; o < OUTS; o++) index[o] += scaled[o] > middle ? 1.0f : 0.0f;
    }
}

static void pack_q4(void *to, const float *w)
{
    vlm_q4_chunk *chunk = to;
    float columns[CHUNK][OUTS];
    levels l;
    set_levels(&l);
    transpose(columns, w);
    for (size_t b = 0; b < 2; b++) {
        float(*block)[OUTS] = columns + b * BLOCK;
        float scale[OUTS], inverse[OUTS];
        search_scales(scale, block, &l);
        round_scales(chunk->scale[b], scale);
        inverses(inverse, scale);
        for (size_t i = 0; i < BLOCK / 8; i++) {
            uint32_t words[OUTS] = {0};
            for (size_t j = 0; j < 8; j++) {
                const unsigned half = j < 4 ? 0 : 4; /* of a byte */
                float index[OUTS];
                find_index(index, &l, block[4 * (i + half) + j % 4], inverse);
                add_bytes(words, index, 0, (unsigned)(8 * (j % 4)) + half);
            }
            put_words(chunk->q[b][i], words);
        }
    }
}

static void pack_bf16(void *to, const float *w)
{
    vlm_bf16_chunk *chunk = to;
    for (size_t k = 0; k < CHUNK; k++)
        for (size_t o = 0; o < OUTS; o++)
            chunk->w[k / 2][o][k % 2] = vlm_f32_to_bf16(w[o * CHUNK + k]);
}

void VLM_PACK_LEVEL(vlm_cpu_kernels *kernels)
{
    kernels->pack[VLM_DTYPE_Q8] = pack_q8;
    kernels->pack[VLM_DTYPE_Q4] = pack_q4;
    kernels->pack[VLM_DTYPE_BF16_DOT] = pack_bf16;
}

#endif
#endif
