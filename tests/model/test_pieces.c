/* test_pieces.c - where a forward pass or an image is cut changes no byte: rows at a time, pieces,
 * and what else the model does between two pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "../model/one_sequence.h"
#include "model/model.h"
#include "model/piece.h"

enum { N_IDS = 75, N_CTX = 96 };

static const char *const folders[] = {"llava-spm",      "llava-bpe",    "llava-odd",
                                      "mistral-window", "qwen2-window", "yarn-biases",
                                      "linear-headdim", "mixed-dtypes"};
enum { N_FOLDERS = sizeof folders / sizeof folders[0] };

typedef struct opened {
    vlm_folder *folder;
    vlm_backend *backend;
    vlm_model *model;
    one_sequence cache;
    size_t hidden, vocab;
} opened;

static opened open_model(const char *name, vlm_cpu_level level, uint32_t n_rows_max,
                         double piece_flop)
{
    opened o = {0};
    vlm_error err;
    char path[512];
    (void)snprintf(path, sizeof path, "%s/tests/golden/%s", VLM_SOURCE_DIR, name);
    const vlm_model_options options = {
        .n_ctx = N_CTX, .n_rows_max = n_rows_max, .piece_flop = piece_flop};
    assert_int_equal(vlm_folder_open(path, &o.folder, &err), VLM_OK);
    assert_int_equal(vlm_backend_cpu_open(2, level, &o.backend, &err), VLM_OK);
    if (vlm_model_open(o.folder, o.backend, &options, &o.model, &err) != VLM_OK)
        fail_msg("%s: %s", name, err.msg);
    assert_int_equal(one_sequence_open(&o.cache, o.model, &err), VLM_OK);
    o.hidden = vlm_model_config(o.model)->text.hidden_size;
    o.vocab = vlm_model_config(o.model)->text.vocab_size;
    return o;
}

static void close_model(opened *o)
{
    one_sequence_close(&o->cache);
    vlm_model_close(o->model);
    o->backend->ops->close(o->backend);
    vlm_folder_close(o->folder);
}

static float *floats(size_t n)
{
    float *x = calloc(n, sizeof *x);
    assert_non_null(x);
    return x;
}

static void same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0)
            fail_msg("element %zu: %a and %a", i, (double)a[i], (double)b[i]);
}

static void fill_ids(const opened *o, uint32_t *ids)
{
    for (uint32_t i = 0; i < N_IDS; i++) ids[i] = (uint32_t)((i * 7919u + 3) % o->vocab);
}

/* Logits of all rows [N_IDS, vocab], at most n_rows at a time. */
static float *logits_by_rows(opened *o, uint32_t n_rows)
{
    uint32_t ids[N_IDS];
    float *logits = floats(N_IDS * o->vocab), *x = floats((size_t)N_IDS * o->hidden);
    fill_ids(o, ids);
    for (uint32_t done = 0; done < N_IDS; done += n_rows) {
        const uint32_t n = N_IDS - done < n_rows ? N_IDS - done : n_rows;
        vlm_model_embed_text(o->model, x, ids + done, n);
        one_sequence_forward(&o->cache, x, n, done);
        vlm_model_logits(o->model, logits + done * o->vocab, x, n);
    }
    free(x);
    return logits;
}

static void test_rows_at_a_time(void **state)
{
    (void)state;
    for (int level = 0; level <= (int)vlm_cpu_level_best(); level++)
        for (size_t f = 0; f < N_FOLDERS; f++) {
            opened o = open_model(folders[f], (vlm_cpu_level)level, 0, 0.0);
            assert_int_equal(vlm_model_n_rows_max(o.model), N_CTX);
            float *whole = logits_by_rows(&o, 512);
            const uint32_t n_rows[] = {1, 7, 64};
            for (size_t i = 0; i < sizeof n_rows / sizeof n_rows[0]; i++) {
                float *parts = logits_by_rows(&o, n_rows[i]);
                same(whole, parts, N_IDS * o.vocab);
                free(parts);
            }
            free(whole);
            close_model(&o);
        }
}

static float *some_pixels(const opened *o)
{
    const size_t n = vlm_model_n_pixels(o->model);
    float *pixels = floats(n);
    for (size_t i = 0; i < n; i++) pixels[i] = (float)(i * 37 % 1009) / 500.0f - 1.0f;
    return pixels;
}

static size_t features_len(const opened *o)
{
    return vlm_model_n_image_tokens(o->model) * o->hidden;
}

/* Two passes at once, a piece of each in turn, give what each gives alone. */
static void test_pieces_in_turn(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FOLDERS; f++) {
        opened o = open_model(folders[f], vlm_cpu_level_best(), 0, 0.0);
        uint32_t ids[N_IDS];
        fill_ids(&o, ids);
        float *pixels = some_pixels(&o), *alone = floats(features_len(&o));
        float *mixed = floats(features_len(&o)), *x = floats((size_t)N_IDS * o.hidden);
        float *logits = floats(o.vocab), *want = logits_by_rows(&o, N_IDS);
        vlm_model_encode(o.model, pixels, alone, NULL);

        vlm_model_embed_text(o.model, x, ids, N_IDS);
        const uint32_t n_encode = vlm_model_n_encode_pieces(o.model, 1);
        const uint32_t n_forward = vlm_model_n_forward_pieces(o.model);
        const vlm_seq_rows rows = one_sequence_rows(&o.cache, N_IDS, 0);
        const vlm_batch batch = {.seqs = &rows, .n_seqs = 1, .n_rows = N_IDS};
        const float *const pixels_list[] = {pixels};
        const vlm_encode_batch images = {.pixels = pixels_list, .features = &mixed, .n = 1};
        for (uint32_t i = 0; i < n_encode || i < n_forward; i++) {
            if (i < n_encode) vlm_model_encode_piece(o.model, &images, i);
            if (i < n_forward) vlm_model_forward_piece(o.model, &o.cache.kv, x, &batch, i);
        }
        vlm_model_logits(o.model, logits, x + (size_t)(N_IDS - 1) * o.hidden, 1);
        same(alone, mixed, features_len(&o));
        same(want + (N_IDS - 1) * o.vocab, logits, o.vocab);
        free(pixels);
        free(alone);
        free(mixed);
        free(x);
        free(logits);
        free(want);
        close_model(&o);
    }
}

/* Pieces of less work are more, and come to the same. */
static void test_small_pieces(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FOLDERS; f++) {
        opened whole = open_model(folders[f], vlm_cpu_level_best(), 0, 0.0);
        opened parts = open_model(folders[f], vlm_cpu_level_best(), 0, 6e4);
        assert_true(vlm_model_n_rows_max(parts.model) < N_IDS);
        assert_true(vlm_model_n_encode_pieces(parts.model, 1) >
                    vlm_model_n_encode_pieces(whole.model, 1));
        assert_int_equal(vlm_model_n_encode_max(parts.model), 1);
        assert_true(vlm_model_n_rows(parts.model, 90) <= vlm_model_n_rows(parts.model, 0));
        assert_true(vlm_model_n_rows(parts.model, 90) >= 1);
        float *pixels = some_pixels(&whole);
        float *a = floats(features_len(&whole)), *b = floats(features_len(&whole));
        vlm_model_encode(whole.model, pixels, a, NULL);
        vlm_model_encode(parts.model, pixels, b, NULL);
        same(a, b, features_len(&whole));
        float *want = logits_by_rows(&whole, N_IDS);
        float *got = logits_by_rows(&parts, vlm_model_n_rows_max(parts.model));
        same(want, got, N_IDS * whole.vocab);
        free(pixels);
        free(a);
        free(b);
        free(want);
        free(got);
        close_model(&whole);
        close_model(&parts);
    }
}

/* Pictures side by side: each gets the features that it gets alone. */
static void test_images_side_by_side(void **state)
{
    (void)state;
    enum { N = 3 };
    for (size_t f = 0; f < N_FOLDERS; f++) {
        opened o = open_model(folders[f], vlm_cpu_level_best(), 0, 0.0);
        assert_true(vlm_model_n_encode_max(o.model) >= N);
        const float *pixels[N];
        float *together[N], *alone = floats(features_len(&o));
        for (size_t i = 0; i < N; i++) {
            float *p = some_pixels(&o);
            for (size_t k = 0; k < vlm_model_n_pixels(o.model); k++) p[k] *= (float)i - 0.5f;
            pixels[i] = p;
            together[i] = floats(features_len(&o));
        }
        const vlm_encode_batch batch = {.pixels = pixels, .features = together, .n = N};
        for (uint32_t i = 0; i < vlm_model_n_encode_pieces(o.model, N); i++)
            vlm_model_encode_piece(o.model, &batch, i);
        for (size_t i = 0; i < N; i++) {
            vlm_model_encode(o.model, pixels[i], alone, NULL);
            same(alone, together[i], features_len(&o));
            free((float *)(uintptr_t)pixels[i]);
            free(together[i]);
        }
        free(alone);
        close_model(&o);
    }
}

/* Sequences in one batch, some with tokens in the cache: each gets the rows that it gets alone. */
static void test_sequences_in_one_batch(void **state)
{
    (void)state;
    enum { N_PAST = 40, N_SEQS = 3, BLOCKS = 6 };
    static const uint32_t n_past[N_SEQS] = {0, N_PAST, 7}, n_new[N_SEQS] = {20, 1, 9};
    for (size_t f = 0; f < N_FOLDERS; f++) {
        opened o = open_model(folders[f], vlm_cpu_level_best(), 0, 0.0);
        uint32_t ids[N_IDS];
        fill_ids(&o, ids);
        float *x = floats((size_t)N_CTX * o.hidden), *alone = floats((size_t)N_CTX * o.hidden);
        vlm_seq_rows seqs[N_SEQS];
        uint32_t n_rows = 0;
        for (uint32_t i = 0; i < N_SEQS; i++) {
            /* Alone, over blocks of its own; the rows in its past first. */
            vlm_seq_rows seq = {.n_rows = n_past[i], .blocks = o.cache.blocks + i * BLOCKS};
            vlm_batch batch = {.seqs = &seq, .n_seqs = 1, .n_rows = n_past[i]};
            vlm_model_embed_text(o.model, x, ids + i, n_past[i]);
            if (n_past[i] > 0) vlm_model_forward(o.model, &o.cache.kv, x, &batch);
            seq.n_past = n_past[i];
            batch.n_rows = seq.n_rows = n_new[i];
            float *rows = alone + (size_t)n_rows * o.hidden;
            vlm_model_embed_text(o.model, rows, ids + i + n_past[i], n_new[i]);
            vlm_model_forward(o.model, &o.cache.kv, rows, &batch);
            seqs[i] = seq;
            seqs[i].row = n_rows;
            n_rows += n_new[i];
        }
        for (uint32_t i = 0; i < N_SEQS; i++)
            vlm_model_embed_text(o.model, x + (size_t)seqs[i].row * o.hidden, ids + i + n_past[i],
                                 n_new[i]);
        const vlm_batch batch = {.seqs = seqs, .n_seqs = N_SEQS, .n_rows = n_rows};
        vlm_model_forward(o.model, &o.cache.kv, x, &batch);
        same(alone, x, n_rows * o.hidden);
        free(x);
        free(alone);
        close_model(&o);
    }
}

/* A piece's rows: few enough for its work, a whole number of blocks where they are many. */
static void test_piece_rows(void **state)
{
    (void)state;
    const struct {
        double flop_per_row;
        uint32_t n_rows;
    } cases[] = {
        {1.0, 512},      {1e10 / 512, 512}, {1e10 / 511.5, 480},      {1e10 / 200, 192},
        {1e10 / 97, 96}, {1e10 / 96, 96},   {1e10 / 95.5, 95},        {1e10 / 1.5, 1},
        {1e12, 1},       {1e300, 1},        {2.0 * 11008 * 4096, 96}, /* a matrix of a 7B's MLP */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(vlm_piece_rows(VLM_PIECE_FLOP, cases[i].flop_per_row), cases[i].n_rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_at_a_time),         cmocka_unit_test(test_pieces_in_turn),
        cmocka_unit_test(test_small_pieces),           cmocka_unit_test(test_images_side_by_side),
        cmocka_unit_test(test_sequences_in_one_batch), cmocka_unit_test(test_piece_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
