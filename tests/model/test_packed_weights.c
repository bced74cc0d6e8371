/* Models whose weights are packed: near the model as stored, the same from memory, from the cache's
 * file and from a folder that vlm_model_write made; and a cache that is damaged, full or not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../failmalloc.h"
#include "../model/one_sequence.h"
#include "base/file.h"
#include "base/log.h"
#include "model/model.h"
#include "model/pack_cache.h"

enum { N_IDS = 24, N_CTX = 64, PATH_LEN_MAX = 512 };
#define GOLDEN VLM_SOURCE_DIR "/tests/golden/"

static char root[64]; /* a temporary folder: the cache, copies of models */

typedef struct opened {
    vlm_folder *folder;
    vlm_backend *backend;
    vlm_model *model;
} opened;

static vlm_status open_path(const char *path, const vlm_model_options *options, opened *o,
                            vlm_error *err)
{
    *o = (opened){0};
    VLM_TRY(vlm_folder_open(path, &o->folder, err));
    VLM_TRY(vlm_backend_cpu_open(2, vlm_cpu_level_best(), &o->backend, err));
    return vlm_model_open(o->folder, o->backend, options, &o->model, err);
}

static void close_opened(opened *o)
{
    vlm_model_close(o->model);
    if (o->backend != NULL) o->backend->ops->close(o->backend);
    vlm_folder_close(o->folder);
}

/* Logits of all ids and of one picture's features [*n], freed by the caller. */
static float *results_of(opened *o, size_t *n)
{
    const vlm_text_config *t = &vlm_model_config(o->model)->text;
    const size_t hidden = t->hidden_size, vocab = t->vocab_size;
    const size_t n_features = vlm_model_n_image_tokens(o->model) * hidden;
    const size_t n_pixels = vlm_model_n_pixels(o->model);
    one_sequence cache;
    vlm_error err;
    uint32_t ids[N_IDS];
    for (uint32_t i = 0; i < N_IDS; i++) ids[i] = (uint32_t)((i * 7919u + 3) % vocab);
    *n = N_IDS * vocab + n_features;
    float *results = calloc(*n, sizeof *results), *x = calloc(N_IDS * hidden, sizeof *x);
    float *pixels = calloc(n_pixels, sizeof *pixels);
    assert_true(results != NULL && x != NULL && pixels != NULL);
    for (size_t i = 0; i < n_pixels; i++) pixels[i] = (float)(i * 31 % 101) / 50.0f - 1.0f;
    assert_int_equal(one_sequence_open(&cache, o->model, &err), VLM_OK);
    vlm_model_embed_text(o->model, x, ids, N_IDS);
    one_sequence_forward(&cache, x, N_IDS, 0);
    vlm_model_logits(o->model, results, x, N_IDS);
    vlm_model_encode(o->model, pixels, results + N_IDS * vocab, NULL);
    one_sequence_close(&cache);
    free(pixels);
    free(x);
    return results;
}

static float *results_at(const char *path, const vlm_model_options *options, size_t *n)
{
    opened o;
    vlm_error err;
    if (open_path(path, options, &o, &err) != VLM_OK) fail_msg("%s: %s", path, err.msg);
    float *results = results_of(&o, n);
    close_opened(&o);
    return results;
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0.0, aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

static void near_what_is_stored(void **state)
{
    (void)state;
    static const struct {
        vlm_weight_dtype dtype;
        double least;
    } dtypes[] = {{VLM_WEIGHT_DTYPE_BF16, 0.9998},
                  {VLM_WEIGHT_DTYPE_Q8, 0.9995},
                  {VLM_WEIGHT_DTYPE_Q4, 0.99}};
    static const char *const names[] = {"llava-spm", "llava-bpe"};
    for (size_t m = 0; m < 2; m++) {
        char path[PATH_LEN_MAX];
        size_t n;
        (void)snprintf(path, sizeof path, GOLDEN "%s", names[m]);
        vlm_model_options options = {.n_ctx = N_CTX};
        float *want = results_at(path, &options, &n);
        for (size_t d = 0; d < 3; d++) {
            options.dtype = dtypes[d].dtype;
            float *got = results_at(path, &options, &n);
            const double similar = cosine(want, got, n);
            print_message("%s, dtype %d: cosine %.6f\n", names[m], (int)options.dtype, similar);
            /* Rounding shows, so it was done, and is small. */
            assert_true(similar >= dtypes[d].least && similar < 0.99999999);
            free(got);
        }
        free(want);
    }
}

static void same_results(const char *path, const vlm_model_options *options, const float *want,
                         size_t n_want)
{
    size_t n;
    float *got = results_at(path, options, &n);
    assert_int_equal(n, n_want);
    assert_memory_equal(got, want, n * sizeof *got);
    free(got);
}

static void copy_file(const char *from, const char *to)
{
    vlm_buf bytes;
    vlm_error err;
    assert_int_equal(vlm_file_read(from, "test", 64 << 20, &bytes, &err), VLM_OK);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, f), bytes.len);
    assert_int_equal(fclose(f), 0);
    vlm_buf_fini(&bytes);
}

/* A copy of a golden model in the temporary folder; its weights only with_weights. */
static void copy_model(const char *name, const char *copy, bool with_weights, char *path)
{
    static const char *const files[] = {"config.json", "preprocessor_config.json",
                                        "model.safetensors"};
    char from[PATH_LEN_MAX], to[2 * PATH_LEN_MAX];
    (void)snprintf(path, PATH_LEN_MAX, "%s/%s", root, copy);
    assert_int_equal(mkdir(path, 0700), 0);
    for (size_t i = 0; i < (with_weights ? 3 : 2); i++) {
        (void)snprintf(from, sizeof from, GOLDEN "%s/%s", name, files[i]);
        (void)snprintf(to, sizeof to, "%s/%s", path, files[i]);
        copy_file(from, to);
    }
}

static void written_and_read_again(void **state)
{
    (void)state;
    static const char *const names[] = {"llava-spm", "llava-odd", "mixed-dtypes"};
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_LEN_MAX], written[PATH_LEN_MAX], copy[32], file[2 * PATH_LEN_MAX];
        opened o;
        vlm_error err;
        size_t n;
        (void)snprintf(path, sizeof path, GOLDEN "%s", names[i]);
        (void)snprintf(copy, sizeof copy, "written-%zu", i);
        copy_model(names[i], copy, false, written);
        (void)snprintf(file, sizeof file, "%s/model.safetensors", written);
        const vlm_model_options options = {.n_ctx = N_CTX, .dtype = VLM_WEIGHT_DTYPE_Q4};
        assert_int_equal(open_path(path, &options, &o, &err), VLM_OK);
        assert_int_equal(vlm_model_write(o.model, file, &err), VLM_OK);
        float *want = results_of(&o, &n);
        close_opened(&o);
        /* As it is, and whatever dtype is asked for: what is packed stays so. */
        same_results(written, &(vlm_model_options){.n_ctx = N_CTX}, want, n);
        same_results(written, &(vlm_model_options){.n_ctx = N_CTX, .dtype = VLM_WEIGHT_DTYPE_Q4},
                     want, n);
        free(want);
    }
}

/* The only file of the cache, or an empty path. */
static size_t cache_files(char *path, size_t len)
{
    char folder[PATH_LEN_MAX];
    size_t n = 0;
    path[0] = '\0';
    (void)snprintf(folder, sizeof folder, "%s/vlmd/packed", getenv("XDG_CACHE_HOME"));
    DIR *dir = opendir(folder);
    if (dir == NULL) return 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] == '.') continue;
        (void)snprintf(path, len, "%s/%s", folder, e->d_name);
        n++;
    }
    (void)closedir(dir);
    return n;
}

static void new_cache(const char *name)
{
    char path[PATH_LEN_MAX];
    (void)snprintf(path, sizeof path, "%s/cache-%s", root, name);
    assert_int_equal(setenv("XDG_CACHE_HOME", path, 1), 0);
}

/* Bytes of weights that lie in maps; the rest was packed anew. */
static size_t mapped_at(const char *path, const vlm_model_options *options, const float *want,
                        size_t n_want)
{
    opened o;
    vlm_error err;
    size_t n;
    if (open_path(path, options, &o, &err) != VLM_OK) fail_msg("%s: %s", path, err.msg);
    const size_t mapped = vlm_model_mapped_bytes(o.model);
    float *got = results_of(&o, &n);
    assert_int_equal(n, n_want);
    assert_memory_equal(got, want, n * sizeof *got);
    free(got);
    close_opened(&o);
    return mapped;
}

static void kept_and_mapped(void **state)
{
    (void)state;
    char path[PATH_LEN_MAX], file[2 * PATH_LEN_MAX], again[2 * PATH_LEN_MAX];
    size_t n;
    const vlm_model_options options = {
        .n_ctx = N_CTX, .dtype = VLM_WEIGHT_DTYPE_Q8, .pack_cache_bytes = 64 << 20};
    new_cache("kept");
    copy_model("llava-spm", "kept", true, path);
    float *want =
        results_at(path, &(vlm_model_options){.n_ctx = N_CTX, .dtype = options.dtype}, &n);
    assert_int_equal(cache_files(file, sizeof file), 0);
    const size_t before = mapped_at(path, &options, want, n);
    assert_int_equal(cache_files(file, sizeof file), 1);
    const size_t after = mapped_at(path, &options, want, n);
    assert_true(after > before);

    /* Damaged in its header, cut, and empty: packed anew and put in its place. */
    for (int damage = 0; damage < 3; damage++) {
        FILE *f = fopen(file, damage == 2 ? "wb" : "r+b");
        assert_non_null(f);
        if (damage == 0) assert_int_equal(fwrite("garbage!garbage!", 1, 16, f), 16);
        if (damage == 1) assert_int_equal(ftruncate(fileno(f), 5000), 0);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(mapped_at(path, &options, want, n), before);
        assert_int_equal(mapped_at(path, &options, want, n), after);
    }
    /* A tensor of another size under the right name, as if a shape had changed. */
    vlm_st_tensor tensor = {
        .name = "language_model.lm_head.weight.Q8.16x64-2",
        .dtype_name = "U8",
        .rank = 1,
        .shape = {64},
        .n_bytes = 64,
        .data = want,
    };
    vlm_error err;
    assert_int_equal(vlm_safetensors_write(file, &tensor, 1, &err), VLM_OK);
    assert_int_equal(mapped_at(path, &options, want, n), before);
    assert_int_equal(mapped_at(path, &options, want, n), after);

    /* Another state of the model's file is another model. */
    char weights[2 * PATH_LEN_MAX];
    (void)snprintf(weights, sizeof weights, "%s/model.safetensors", path);
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, weights, times, 0), 0);
    assert_int_equal(mapped_at(path, &options, want, n), before);
    assert_int_equal(cache_files(again, sizeof again), 2);
    free(want);
}

static void bounded(void **state)
{
    (void)state;
    char path[PATH_LEN_MAX], file[2 * PATH_LEN_MAX];
    size_t n;
    new_cache("bounded");
    copy_model("llava-spm", "bounded", true, path);
    vlm_model_options options = {.n_ctx = N_CTX, .dtype = VLM_WEIGHT_DTYPE_Q8};
    float *want = results_at(path, &options, &n);
    options.pack_cache_bytes = 100000; /* less than the model takes */
    (void)mapped_at(path, &options, want, n);
    assert_int_equal(cache_files(file, sizeof file), 0);
    /* Room for one of two: the one that was used longest ago goes. */
    options.pack_cache_bytes = 1500000;
    const size_t packed = mapped_at(path, &options, want, n);
    assert_int_equal(cache_files(file, sizeof file), 1);
    options.dtype = VLM_WEIGHT_DTYPE_Q4;
    free(want);
    want = results_at(path, &(vlm_model_options){.n_ctx = N_CTX, .dtype = options.dtype}, &n);
    (void)mapped_at(path, &options, want, n);
    char other[2 * PATH_LEN_MAX];
    assert_int_equal(cache_files(other, sizeof other), 1);
    assert_string_not_equal(file, other);
    assert_true(packed > 0);

    /* What a killed process left goes after an hour. */
    char stale[2 * PATH_LEN_MAX + 32];
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    (void)snprintf(stale, sizeof stale, "%s.partial-12345", other);
    copy_file(other, stale);
    assert_int_equal(utimensat(AT_FDCWD, stale, times, 0), 0);
    options.vision_dtype = VLM_WEIGHT_DTYPE_F32;
    opened o;
    vlm_error err;
    assert_int_equal(open_path(path, &options, &o, &err), VLM_OK);
    close_opened(&o);
    assert_false(vlm_path_is_file(stale));
    free(want);
}

static void no_place(void **state)
{
    (void)state;
    char path[PATH_LEN_MAX], file[2 * PATH_LEN_MAX];
    size_t n;
    copy_model("llava-spm", "no-place", true, path);
    vlm_model_options options = {.n_ctx = N_CTX, .dtype = VLM_WEIGHT_DTYPE_Q8};
    float *want = results_at(path, &options, &n);
    options.pack_cache_bytes = 64 << 20;
    /* A file where the folder should be. */
    (void)snprintf(file, sizeof file, "%s/model.safetensors", path);
    assert_int_equal(setenv("XDG_CACHE_HOME", file, 1), 0);
    (void)mapped_at(path, &options, want, n);
    char *home = strdup(getenv("HOME") == NULL ? "/" : getenv("HOME"));
    assert_non_null(home);
    assert_int_equal(unsetenv("HOME"), 0);
    assert_int_equal(setenv("XDG_CACHE_HOME", "relative", 1), 0);
    (void)mapped_at(path, &options, want, n);
    assert_int_equal(setenv("HOME", home, 1), 0);
    free(home);
    free(want);
}

static void wrong_packed_tensors_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *want; /* a name in the written file, as many bytes long */
    } cases[] = {
        {"1.self_attn.q_proj.weight.Q8.16x64-2", "1.self_attn.q_proj.weight.Q8.16x64-9",
         "q_proj.weight is packed in an order"},
        {"norm.weight\":{\"dtype\":\"F16\",\"shape\":[128]",
         "norm.weight\":{\"dtype\":\"F16\",\"shape\":[64]}", "model.safetensors"},
    };
    char written[PATH_LEN_MAX], file[2 * PATH_LEN_MAX];
    opened o;
    vlm_error err;
    copy_model("llava-spm", "wrong", false, written);
    (void)snprintf(file, sizeof file, "%s/model.safetensors", written);
    const vlm_model_options options = {.n_ctx = N_CTX, .dtype = VLM_WEIGHT_DTYPE_Q8};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(open_path(GOLDEN "llava-spm", &options, &o, &err), VLM_OK);
        assert_int_equal(vlm_model_write(o.model, file, &err), VLM_OK);
        close_opened(&o);
        vlm_buf bytes;
        assert_int_equal(vlm_file_read(file, "test", 64 << 20, &bytes, &err), VLM_OK);
        char *at = memmem(bytes.data, bytes.len, cases[i].from, strlen(cases[i].from));
        assert_non_null(at);
        memcpy(at, cases[i].to, strlen(cases[i].to));
        FILE *f = fopen(file, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bytes.data, 1, bytes.len, f), bytes.len);
        assert_int_equal(fclose(f), 0);
        vlm_buf_fini(&bytes);
        assert_int_not_equal(open_path(written, &(vlm_model_options){.n_ctx = N_CTX}, &o, &err),
                             VLM_OK);
        if (strstr(err.msg, cases[i].want) == NULL) fail_msg("case %zu: %s", i, err.msg);
        close_opened(&o);
    }
}

static uint64_t last_done, last_total;

static void note_progress(void *user, uint64_t n_done, uint64_t n_total)
{
    (void)user;
    assert_true(n_done >= last_done && n_done <= n_total);
    last_done = n_done;
    last_total = n_total;
}

static void progress_rises(void **state)
{
    (void)state;
    opened o;
    vlm_error err;
    const vlm_model_options options = {
        .n_ctx = N_CTX, .dtype = VLM_WEIGHT_DTYPE_Q4, .progress = note_progress};
    last_done = 0;
    assert_int_equal(open_path(GOLDEN "llava-spm", &options, &o, &err), VLM_OK);
    close_opened(&o);
    assert_true(last_done > last_total / 2);
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    char path[PATH_LEN_MAX];
    new_cache("failing");
    copy_model("llava-spm", "failing", true, path);
    vlm_backend *backend;
    vlm_error err;
    assert_int_equal(vlm_backend_cpu_open(1, vlm_cpu_level_best(), &backend, &err), VLM_OK);
    const vlm_model_options options = {
        .n_ctx = N_CTX, .dtype = VLM_WEIGHT_DTYPE_Q4, .pack_cache_bytes = 64 << 20};
    size_t n_failed = 0, n_opened = 0;
    for (unsigned i = 1; failmalloc_again(i); i += 1 + i / 16) {
        vlm_folder *folder = NULL;
        vlm_model *model = NULL;
        vlm_status status = vlm_folder_open(path, &folder, &err);
        if (status == VLM_OK) status = vlm_model_open(folder, backend, &options, &model, &err);
        failmalloc_off();
        n_failed += status != VLM_OK;
        n_opened += status == VLM_OK;
        if (status != VLM_OK && status != VLM_RESOURCE_EXHAUSTED)
            fail_msg("allocation %u: %d %s", i, (int)status, err.msg);
        vlm_model_close(model);
        vlm_folder_close(folder);
    }
    print_message("%zu failed, %zu opened\n", n_failed, n_opened);
    assert_true(n_failed > 20 && n_opened > 0);
    backend->ops->close(backend);
#else
    skip();
#endif
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/vlmd-packed-XXXXXX");
    vlm_log_init(VLM_LOG_TEXT, VLM_LOG_ERROR);
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int remove_root(void **state)
{
    (void)state;
    char command[PATH_LEN_MAX + 16];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", root);
    FILE *p = popen(command, "r");
    return p == NULL ? -1 : pclose(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_what_is_stored),
        cmocka_unit_test(written_and_read_again),
        cmocka_unit_test(kept_and_mapped),
        cmocka_unit_test(bounded),
        cmocka_unit_test(no_place),
        cmocka_unit_test(wrong_packed_tensors_are_named),
        cmocka_unit_test(progress_rises),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
