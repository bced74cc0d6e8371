/* test_memory_plan.c - how memory is shared out, in bytes; and a cache too small for a request says
 * so before anything is computed. */
#include "engine/engine_case.h"

#include <sys/resource.h>

#include "engine/memory.h"

enum { N_CTX = 512, ROOM_FOR = 64 /* tokens */ };

static vlm_backend *backend;
static vlm_model *model;

static int open_model(void **state)
{
    vlm_error err;
    const vlm_model_options options = {.n_ctx = N_CTX};
    return open_folder(state) != 0 ||
           vlm_backend_cpu_open(1, vlm_cpu_level_best(), &backend, &err) != VLM_OK ||
           vlm_model_open(folder, backend, &options, &model, &err) != VLM_OK;
}

static int close_model(void **state)
{
    vlm_model_close(model);
    backend->ops->close(backend);
    return close_folder(state);
}

static vlm_memory_plan plan_of(vlm_engine_options options, uint32_t running_max)
{
    vlm_memory_plan plan;
    vlm_error err;
    if (vlm_memory_plan_of(model, &options, running_max, &plan, &err) != VLM_OK)
        fail_msg("%s", err.msg);
    return plan;
}

static size_t pictures_bytes(const vlm_memory_plan *p)
{
    return p->n_pictures * p->picture_bytes;
}

static void test_bytes_of_parts(void **state)
{
    (void)state;
    /* 3 layers, keys and values, 4 heads of 32 numbers; 16 tokens of 128 numbers for a picture. */
    const size_t block_bytes = (size_t)3 * 2 * 4 * 32 * VLM_KV_BLOCK_TOKENS * sizeof(float);
    vlm_memory_plan p = plan_of((vlm_engine_options){.kv_bytes = 10 * block_bytes}, 64);
    assert_int_equal(p.block_bytes, block_bytes);
    assert_int_equal(p.n_blocks, 10);
    assert_int_equal(p.picture_bytes, (size_t)16 * 128 * sizeof(float));
    assert_int_equal(p.fixed_bytes, vlm_model_mapped_bytes(model) + vlm_model_working_bytes(model));
    assert_true(p.fixed_bytes > 0);
    p = plan_of((vlm_engine_options){.kv_bytes = 11 * block_bytes - 1}, 64);
    assert_int_equal(p.n_blocks, 10);
    p = plan_of((vlm_engine_options){.kv_bytes = 1}, 64);
    assert_int_equal(p.n_blocks, 1);
    p = plan_of((vlm_engine_options){.kv_bytes = 10 * block_bytes, .kv_dtype = VLM_DTYPE_F16}, 64);
    assert_int_equal(p.block_bytes, block_bytes / 2);
    assert_int_equal(p.n_blocks, 20);
    p = plan_of((vlm_engine_options){.encoder_cache_bytes = 5 * p.picture_bytes + 1}, 64);
    assert_int_equal(p.n_pictures, 5);
    p = plan_of((vlm_engine_options){.encoder_cache_bytes = 1, .pixels_max = 12345}, 64);
    assert_int_equal(p.n_pictures, 1);
    assert_int_equal(p.pixels_max, 12345);
    p = plan_of((vlm_engine_options){0}, 64);
    assert_int_equal(pictures_bytes(&p), (size_t)256 << 20);
    assert_int_equal(p.pixels_max, (size_t)2 << 30);
}

/* All parts together come to what was given, but for less than a block. */
static void test_given_memory(void **state)
{
    (void)state;
    const vlm_dtype dtypes[] = {VLM_DTYPE_F32, VLM_DTYPE_F16};
    for (size_t i = 0; i < 2; i++)
        for (size_t mib = 16; mib <= 4096; mib = mib * 5 / 3) {
            const vlm_engine_options o = {.memory_max = mib << 20, .kv_dtype = dtypes[i]};
            const vlm_memory_plan p = plan_of(o, 64);
            const size_t all =
                p.fixed_bytes + pictures_bytes(&p) + p.pixels_max + p.n_blocks * p.block_bytes;
            assert_true(p.n_blocks >= 1 && p.n_pictures >= 1 && p.pixels_max > 0);
            assert_true(all <= o.memory_max && o.memory_max - all < p.block_bytes);
            /* Most of it is for keys and values. */
            assert_true(p.n_blocks * p.block_bytes > (o.memory_max - p.fixed_bytes) / 2);
        }
}

static void test_too_little_memory(void **state)
{
    (void)state;
    const vlm_memory_plan least = plan_of((vlm_engine_options){.kv_bytes = 1}, 64);
    vlm_engine_options o = {.encoder_cache_bytes = (size_t)3 << 20, .pixels_max = (size_t)2 << 20};
    const size_t needed =
        least.fixed_bytes + o.encoder_cache_bytes + o.pixels_max + least.block_bytes;
    char want[3][64];
    vlm_memory_plan p;
    vlm_error err;
    o.memory_max = needed;
    assert_int_equal(plan_of(o, 64).n_blocks, 1);
    for (size_t less = 1; less < needed; less = less * 7 + 1) {
        o.memory_max = needed - less;
        err = (vlm_error){0};
        assert_int_equal(vlm_memory_plan_of(model, &o, 64, &p, &err), VLM_FAILED_PRECONDITION);
        (void)snprintf(want[0], sizeof want[0], "memory %zu MiB", o.memory_max >> 20);
        (void)snprintf(want[1], sizeof want[1], "take %zu MiB", least.fixed_bytes >> 20);
        (void)snprintf(want[2], sizeof want[2], "pictures 5 MiB");
        for (size_t i = 0; i < 3; i++)
            if (strstr(err.msg, want[i]) == NULL) fail_msg("no \"%s\" in: %s", want[i], err.msg);
    }
    /* The engine says the same. */
    vlm_engine *e;
    assert_int_equal(vlm_engine_open(folder, &o, &e, &err), VLM_FAILED_PRECONDITION);
    assert_null(e);
    assert_non_null(strstr(err.msg, want[0]));
}

/* Without numbers: a context for each request that runs, 16 at most and one at least, however
 * little the machine has. */
static void test_default(void **state)
{
    (void)state;
    const uint32_t one = N_CTX / VLM_KV_BLOCK_TOKENS + 1;
    const vlm_engine_options o = {.encoder_cache_bytes = 1};
    for (uint32_t running_max = 1; running_max <= 300; running_max = running_max * 2 + 1) {
        const vlm_memory_plan p = plan_of(o, running_max);
        assert_true(p.n_blocks >= one);
        assert_true(p.n_blocks <= one * (running_max < 16 ? running_max : 16));
    }
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)1 << 20; /* far less than this process has already */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    vlm_memory_plan p;
    vlm_error err;
    const vlm_status status = vlm_memory_plan_of(model, &o, 64, &p, &err);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(status, VLM_OK);
    assert_int_equal(p.n_blocks, one);
}

/* An engine with a cache for ROOM_FOR tokens. */
static vlm_engine *open_small(void)
{
    const size_t block_bytes = plan_of((vlm_engine_options){0}, 1).block_bytes;
    vlm_engine_info info;
    vlm_engine *e = open_with(&(vlm_engine_options){
        .n_threads = 1, .n_ctx = N_CTX, .kv_bytes = ROOM_FOR / VLM_KV_BLOCK_TOKENS * block_bytes});
    e->ops->info(e, &info);
    assert_int_equal(info.n_kv_tokens, ROOM_FOR);
    assert_int_equal(info.kv_bytes, ROOM_FOR / VLM_KV_BLOCK_TOKENS * block_bytes);
    return e;
}

/* A text of exactly so many tokens, the one that begins it included. */
static void text_of(vlm_engine *e, uint32_t n_tokens, char *text, size_t text_size)
{
    size_t n = 0, len = 0;
    vlm_error err;
    while (n < n_tokens) {
        uint32_t *ids;
        assert_true(len + 6 < text_size);
        len += (size_t)snprintf(text + len, text_size - len, "%d ", (int)(len % 7));
        assert_int_equal(e->ops->tokenize(e, vlm_bytes_of(text), true, false, &ids, &n, &err),
                         VLM_OK);
        free(ids);
        if (n == n_tokens + 1) text[--len] = '\0'; /* the space was one too many */
        if (n == n_tokens + 1) n--;
    }
    assert_int_equal(n, n_tokens);
}

static vlm_status prepare(vlm_engine *e, const char *text, uint32_t max_tokens, vlm_job **job,
                          vlm_error *err)
{
    const vlm_bytes prompt = vlm_bytes_of(text);
    const vlm_request request = {.raw_prompt = &prompt,
                                 .max_tokens = max_tokens,
                                 .ignore_eos = true,
                                 .sampling = vlm_sampling_default};
    *err = (vlm_error){0};
    return e->ops->prepare(e, &request, job, err);
}

static void test_prompt_too_long_for_cache(void **state)
{
    (void)state;
    char text[2048], want[64];
    vlm_error err;
    vlm_job *job;
    vlm_engine *e = open_small();
    for (uint32_t n = ROOM_FOR - 3; n < ROOM_FOR + 40; n++) {
        text_of(e, n, text, sizeof text);
        const vlm_status status = prepare(e, text, 1, &job, &err);
        assert_int_equal(status, n < ROOM_FOR ? VLM_OK : VLM_OUT_OF_RANGE);
        e->ops->job_free(e, job);
        if (status == VLM_OK) continue;
        assert_null(job);
        (void)snprintf(want, sizeof want, "has %u tokens", n);
        assert_non_null(strstr(err.msg, want));
        assert_non_null(strstr(err.msg, "holds 64 "));
    }
    e->ops->close(e);
}

/* Answers end where the cache does. */
static void test_answers_as_long_as_cache(void **state)
{
    (void)state;
    static const uint32_t n_prompts[] = {5, 15, 16, 17, 31, 32, 33, 48, 62, 63};
    static const uint32_t max_tokens[] = {0, ROOM_FOR, UINT32_MAX, 1};
    char text[2048];
    vlm_error err;
    vlm_job *job;
    vlm_engine *e = open_small();
    for (size_t i = 0; i < sizeof n_prompts / sizeof n_prompts[0]; i++)
        for (size_t k = 0; k < 4; k++) {
            uint64_t id;
            answers got;
            answers_init(&got);
            text_of(e, n_prompts[i], text, sizeof text);
            assert_int_equal(prepare(e, text, max_tokens[k], &job, &err), VLM_OK);
            assert_int_equal(e->ops->submit(e, job, &id, &err), VLM_OK);
            run_to_end(e, id, &got);
            const vlm_usage *usage = &got.done[0].usage;
            assert_int_equal(usage->n_prompt, n_prompts[i]);
            assert_int_equal(usage->n_completion, k == 3 ? 1 : ROOM_FOR - n_prompts[i]);
            assert_int_equal(got.done[0].finish, VLM_FINISH_LENGTH);
            forget(&got);
        }
    e->ops->close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_of_parts),
        cmocka_unit_test(test_given_memory),
        cmocka_unit_test(test_too_little_memory),
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_prompt_too_long_for_cache),
        cmocka_unit_test(test_answers_as_long_as_cache),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
