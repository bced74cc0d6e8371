/* doctor_speed.h - how fast this machine reads memory and multiplies matrices: about half a second
 * of measuring with all CPUs, and what follows from it for a model of a known size.
 * Not: a benchmark (vlmd bench): neighbours make one short measurement too low.  Threads: one. */
#ifndef VLM_CLI_DOCTOR_SPEED_H
#define VLM_CLI_DOCTOR_SPEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ways of holding weights.  X(enum, text of --dtype, bits of a weight over a whole LLaVA) */
#define VLM_SPEED_DTYPE_LIST(X)                                                                    \
    X(F16, "f16", 16.0)                                                                            \
    X(Q8, "q8", 8.7)                                                                               \
    X(Q4, "q4", 5.6)

typedef enum vlm_speed_dtype {
#define VLM_SPEED_DTYPE_ENUM(name, text, bits) VLM_SPEED_##name,
    VLM_SPEED_DTYPE_LIST(VLM_SPEED_DTYPE_ENUM)
#undef VLM_SPEED_DTYPE_ENUM
        VLM_N_SPEED_DTYPES
} vlm_speed_dtype;

/* 0: could not be measured. */
typedef struct vlm_speed {
    uint32_t n_threads;
    bool is_disturbed;                        /* others used the CPUs: the figures are too low */
    double read_bytes_s;                      /* from memory, all threads together */
    double prompt_flop_s[VLM_N_SPEED_DTYPES]; /* products with many rows */
    double answer_flop_s[VLM_N_SPEED_DTYPES]; /* with one row, its weights in cache */
} vlm_speed;

/* Takes an eighth of memory_max bytes at most. */
void vlm_speed_measure(size_t memory_max, vlm_speed *out);

/* Bytes a second that all threads together read from n_bytes again and again, which may lie in
 * caches: the mean of seconds of reading, as an answer meets it.  0: could not be measured. */
double vlm_speed_read(uint32_t n_threads, size_t n_bytes, double seconds);
/* Seconds until all threads have begun and ended a piece of work that takes no time. */
double vlm_speed_handover(uint32_t n_threads);

/* Tokens a second of a model of n_weights; 0 when unknown.
 * prompt: rate / 2 / weights.  answer: the lesser of that with one row and bandwidth / bytes. */
double vlm_speed_prompt(const vlm_speed *s, vlm_speed_dtype dtype, double n_weights);
double vlm_speed_answer(const vlm_speed *s, vlm_speed_dtype dtype, double n_weights);

const char *vlm_speed_dtype_name(vlm_speed_dtype dtype);
double vlm_speed_dtype_bits(vlm_speed_dtype dtype);

#endif
