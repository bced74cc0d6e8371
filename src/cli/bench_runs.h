/* bench_runs.h - what `vlmd bench` measures, over the facade of the engine: what to measure by the
 * options, and the measurements.
 * Not: how it is printed (cmd_bench.c).  Threads: the main thread. */
#ifndef VLM_CLI_BENCH_RUNS_H
#define VLM_CLI_BENCH_RUNS_H

#include "cli/options.h"
#include "engine/engine.h"

/* X(enum, name, unit) */
#define VLM_BENCH_TEST_LIST(X)                                                                     \
    X(LOAD, "load", "s")           /* until the engine is open */                                  \
    X(PREFILL, "prefill", "tok/s") /* prompt of n tokens, until its first token */                 \
    X(DECODE, "decode", "tok/s")   /* batch answers of n tokens, while all are computed */         \
    X(ENCODE, "encode", "s")       /* a picture of n tokens */                                     \
    X(TTFT_NEW, "ttft_new", "s")   /* first token after n with a new picture */                    \
    X(TTFT_SAME, "ttft_same", "s") /* the same once more */                                        \
    X(TTFT_NEXT, "ttft_next", "s") /* after n: a second question about it */                       \
    X(MEMORY, "memory", "B")       /* resident, at the end */

typedef enum vlm_bench_test {
#define VLM_BENCH_TEST_ENUM(id, name, unit) VLM_BENCH_##id,
    VLM_BENCH_TEST_LIST(VLM_BENCH_TEST_ENUM)
#undef VLM_BENCH_TEST_ENUM
        VLM_BENCH_N_TESTS
} vlm_bench_test;

const char *vlm_bench_test_name(vlm_bench_test test);
const char *vlm_bench_test_unit(vlm_bench_test test);

enum { VLM_BENCH_PROMPTS_MAX = 16, VLM_BENCH_RESULTS_MAX = 32, VLM_BENCH_RUNS_MAX = 100 };

/* What to measure. */
typedef struct vlm_bench_plan {
    bool tests[VLM_BENCH_N_TESTS];
    uint32_t prompt_tokens[VLM_BENCH_PROMPTS_MAX];
    size_t n_prompts;
    uint32_t n_tokens; /* of an answer of decode */
    uint32_t n_runs;
} vlm_bench_plan;

/* From --tests, --prompt-tokens, --tokens and --runs.  INVALID_ARGUMENT names the option. */
VLM_MUST_USE vlm_status vlm_bench_plan_make(const vlm_options *opt, vlm_bench_plan *plan,
                                            vlm_error *err);

typedef struct vlm_bench_result {
    vlm_bench_test test;
    uint32_t n, batch; /* 0: says nothing of this test */
    double value;      /* in the test's unit, the median of its runs */
} vlm_bench_result;

typedef struct vlm_bench_results {
    vlm_bench_result items[VLM_BENCH_RESULTS_MAX];
    size_t n;
} vlm_bench_results;

/* Measure; load_s is the result of load.  What the context is too short for is left out, with a
 * warning in the log.  Every status of prepare, submit and an ERROR event. */
VLM_MUST_USE vlm_status vlm_bench_measure(vlm_engine *engine, const vlm_bench_plan *plan,
                                          double load_s, vlm_bench_results *results,
                                          vlm_error *err);

#endif
