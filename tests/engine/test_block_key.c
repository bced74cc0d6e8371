/* test_block_key.c - keys of the prefix cache: all that decides what is in a block changes its key,
 * and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/block_key.h"

enum { BLOCK = VLM_KV_BLOCK_TOKENS, N_BLOCKS = 6, N_TOKENS = N_BLOCKS * BLOCK, PICTURES_MAX = 4 };

/* All that the keys of a sequence are made of. */
typedef struct sequence {
    const char *salt;
    uint32_t ids[N_TOKENS];
    vlm_slot_key pictures[PICTURES_MAX];
    uint32_t starts[PICTURES_MAX];
    uint32_t n_pictures, n_rows;
} sequence;

static uint64_t random_state = 1;

static uint32_t random_u32(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

static vlm_slot_key random_key(void)
{
    vlm_slot_key key;
    for (size_t i = 0; i < sizeof key.bytes; i++) key.bytes[i] = (uint8_t)(random_u32() >> 24);
    return key;
}

/* Two pictures of 20 rows: one over blocks 1 and 2, one over 3 and 4. */
static sequence some_sequence(void)
{
    sequence s = {.salt = "salt", .starts = {20, 55}, .n_pictures = 2, .n_rows = 20};
    for (uint32_t i = 0; i < N_TOKENS; i++) s.ids[i] = random_u32() % 32000;
    for (uint32_t i = 0; i < PICTURES_MAX; i++) s.pictures[i] = random_key();
    return s;
}

static vlm_block_pictures pictures_of(const sequence *s)
{
    return (vlm_block_pictures){
        .keys = s->pictures, .starts = s->starts, .n = s->n_pictures, .n_rows = s->n_rows};
}

static void keys_of(const sequence *s, vlm_slot_key keys[N_BLOCKS])
{
    const vlm_block_pictures pictures = pictures_of(s);
    vlm_slot_key first;
    vlm_block_key_first(vlm_bytes_of(s->salt), &first);
    for (uint32_t i = 0; i < N_BLOCKS; i++)
        vlm_block_key_next(i == 0 ? &first : &keys[i - 1], s->ids + i * BLOCK, i * BLOCK, &pictures,
                           &keys[i]);
}

static bool same_key(const vlm_slot_key *a, const vlm_slot_key *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* The keys of both are equal below block first, and different from there on. */
static void differ_from(const sequence *a, const sequence *b, uint32_t first)
{
    vlm_slot_key keys_a[N_BLOCKS], keys_b[N_BLOCKS];
    keys_of(a, keys_a);
    keys_of(b, keys_b);
    for (uint32_t i = 0; i < N_BLOCKS; i++)
        assert_int_equal(same_key(&keys_a[i], &keys_b[i]), i < first);
}

static void test_equal(void **state)
{
    (void)state;
    const sequence a = some_sequence();
    sequence b = a;
    char salt[] = "salt";
    b.salt = salt;
    differ_from(&a, &b, N_BLOCKS);
    /* What lies behind the count is not looked at. */
    b.pictures[2] = random_key();
    b.starts[3] = 1;
    differ_from(&a, &b, N_BLOCKS);
}

static void test_tokens(void **state)
{
    (void)state;
    const sequence a = some_sequence();
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        for (uint32_t bit = 0; bit < 32; bit += 1 + i % 3) {
            sequence b = a;
            b.ids[i] ^= 1u << bit;
            differ_from(&a, &b, i / BLOCK);
        }
        if (i == 0 || a.ids[i] == a.ids[i - 1]) continue;
        sequence b = a;
        b.ids[i] = a.ids[i - 1];
        b.ids[i - 1] = a.ids[i];
        differ_from(&a, &b, (i - 1) / BLOCK);
    }
}

static void test_salt(void **state)
{
    (void)state;
    static const char *const salts[] = {"", "a", "b", "ab", "a ", "A", "salt", "salT"};
    enum { N = sizeof salts / sizeof salts[0] };
    sequence a = some_sequence(), b = a;
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < N; k++) {
            a.salt = salts[i];
            b.salt = salts[k];
            differ_from(&a, &b, i == k ? N_BLOCKS : 0);
        }
    /* No salt is the empty one; a NUL is a byte like others. */
    vlm_slot_key none, empty, nul;
    vlm_block_key_first((vlm_bytes){0}, &none);
    vlm_block_key_first(vlm_bytes_of(""), &empty);
    vlm_block_key_first((vlm_bytes){.ptr = "", .len = 1}, &nul);
    assert_true(same_key(&none, &empty));
    assert_false(same_key(&none, &nul));
}

/* Each bit of a picture's key counts from the first block on that has rows of it. */
static void test_pictures_key(void **state)
{
    (void)state;
    const sequence a = some_sequence();
    for (uint32_t i = 0; i < a.n_pictures; i++)
        for (uint32_t bit = 0; bit < 256; bit++) {
            sequence b = a;
            b.pictures[i].bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            differ_from(&a, &b, a.starts[i] / BLOCK);
        }
    sequence b = a;
    b.pictures[0] = a.pictures[1];
    b.pictures[1] = a.pictures[0];
    differ_from(&a, &b, a.starts[0] / BLOCK);
}

/* Tokens of several blocks that are all the same, and a picture anywhere among them: only where it
 * begins tells the sequences apart. */
static void test_pictures_start(void **state)
{
    (void)state;
    sequence a = some_sequence(), b;
    for (uint32_t i = 0; i < N_TOKENS; i++) a.ids[i] = 7;
    a.n_pictures = 1;
    b = a;
    for (uint32_t n_rows = 1; n_rows <= 40; n_rows += 13)
        for (uint32_t i = 0; i + n_rows <= N_TOKENS; i++)
            for (uint32_t k = 0; k + n_rows <= N_TOKENS; k++) {
                a.n_rows = b.n_rows = n_rows;
                a.starts[0] = i;
                b.starts[0] = k;
                differ_from(&a, &b, i == k ? N_BLOCKS : (i < k ? i : k) / BLOCK);
            }
    /* One picture or none; two of them end to end or one after the other. */
    a.starts[0] = 40;
    b = a;
    b.n_pictures = 0;
    differ_from(&a, &b, 2);
    a.n_pictures = b.n_pictures = 2;
    a.n_rows = b.n_rows = 3;
    a.pictures[1] = b.pictures[1] = a.pictures[0];
    a.starts[1] = 43;
    b.starts[0] = 40;
    b.starts[1] = 44;
    differ_from(&a, &b, 2);
}

static void next_key(const sequence *s, const vlm_slot_key *before, uint32_t block,
                     vlm_slot_key *out)
{
    const vlm_block_pictures pictures = pictures_of(s);
    vlm_block_key_next(before, s->ids + block * BLOCK, block * BLOCK, &pictures, out);
}

/* Beside the key before it a block knows of no picture but those with rows in it. */
static void test_other_blocks_pictures(void **state)
{
    (void)state;
    sequence a = some_sequence();
    const vlm_slot_key before = random_key();
    vlm_slot_key want, got;
    for (uint32_t block = 0; block < N_BLOCKS; block++) {
        const uint32_t begin = block * BLOCK, end = begin + BLOCK;
        a.n_rows = 5;
        a.n_pictures = 0;
        next_key(&a, &before, block, &want);
        a.n_pictures = 1;
        for (uint32_t start = 0; start + 5 <= N_TOKENS; start++) {
            a.starts[0] = start;
            next_key(&a, &before, block, &got);
            assert_int_equal(same_key(&want, &got), start + 5 <= begin || start >= end);
        }
    }
    /* The picture of this block between others that may be anything. */
    a = some_sequence();
    a.n_rows = 16;
    a.n_pictures = 3;
    memcpy(a.starts, (uint32_t[]){0, 37, 80}, 3 * sizeof a.starts[0]);
    next_key(&a, &before, 2, &want);
    sequence b = a;
    b.pictures[0] = random_key();
    b.pictures[2] = random_key();
    b.starts[0] = 16;
    b.starts[2] = 60;
    next_key(&b, &before, 2, &got);
    assert_true(same_key(&want, &got));
    b.pictures[1] = random_key();
    next_key(&b, &before, 2, &got);
    assert_false(same_key(&want, &got));
    /* As many pictures as a block can have: one of one row for each token. */
    vlm_slot_key keys[BLOCK];
    uint32_t starts[BLOCK];
    for (uint32_t i = 0; i < BLOCK; i++) {
        keys[i] = random_key();
        starts[i] = BLOCK + i;
    }
    vlm_block_pictures many = {.keys = keys, .starts = starts, .n = BLOCK, .n_rows = 1};
    vlm_block_key_next(&before, a.ids, BLOCK, &many, &want);
    for (uint32_t i = 0; i < BLOCK; i++) {
        keys[i].bytes[31] ^= 1;
        vlm_block_key_next(&before, a.ids, BLOCK, &many, &got);
        assert_false(same_key(&want, &got));
        keys[i].bytes[31] ^= 1;
    }
}

/* A block knows by itself which of a picture's rows it has, whatever the key before it says. */
static void test_which_rows(void **state)
{
    (void)state;
    enum { N_ROWS = 40, BLOCK_IDX = 3, FIRST = BLOCK_IDX * BLOCK - N_ROWS + 1 };
    sequence a = some_sequence();
    const vlm_slot_key before = random_key();
    vlm_slot_key keys[N_ROWS + BLOCK - 1];
    for (uint32_t i = 0; i < N_TOKENS; i++) a.ids[i] = 7;
    a.n_pictures = 1;
    a.n_rows = N_ROWS;
    for (uint32_t i = 0; i < N_ROWS + BLOCK - 1; i++) {
        a.starts[0] = FIRST + i;
        next_key(&a, &before, BLOCK_IDX, &keys[i]);
        for (uint32_t k = 0; k < i; k++) assert_false(same_key(&keys[i], &keys[k]));
    }
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(vlm_slot_key));
}

/* Half of them are one token away from each other, half have nothing in common. */
static void test_many_blocks(void **state)
{
    (void)state;
    enum { N = 100000 };
    vlm_slot_key *keys = calloc(N, sizeof *keys);
    assert_non_null(keys);
    const vlm_slot_key before = random_key();
    const vlm_block_pictures none = {.n = 0};
    uint32_t ids[BLOCK];
    for (uint32_t i = 0; i < N / 2; i++) {
        for (uint32_t k = 0; k < BLOCK; k++) ids[k] = 7;
        ids[i % BLOCK] = 8 + i / BLOCK;
        vlm_block_key_next(&before, ids, 0, &none, &keys[i]);
    }
    for (uint32_t i = N / 2; i < N; i++) {
        const vlm_slot_key picture = random_key();
        const uint32_t start = random_u32() % 64;
        const vlm_block_pictures one = {
            .keys = &picture, .starts = &start, .n = i % 2, .n_rows = 1 + i % 30};
        for (uint32_t k = 0; k < BLOCK; k++) ids[k] = random_u32() % 32000;
        vlm_block_key_next(&before, ids, 32, &one, &keys[i]);
    }
    qsort(keys, N, sizeof *keys, by_bytes);
    for (uint32_t i = 1; i < N; i++) assert_false(same_key(&keys[i - 1], &keys[i]));
    free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),          cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_salt),           cmocka_unit_test(test_pictures_key),
        cmocka_unit_test(test_pictures_start), cmocka_unit_test(test_other_blocks_pictures),
        cmocka_unit_test(test_which_rows),     cmocka_unit_test(test_many_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
