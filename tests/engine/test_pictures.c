/* test_pictures.c - pictures made ready: keys that tell them apart, what they may take together,
 * references, and every allocation failing once. */
#include "engine/engine_case.h"

#include "engine/pictures.h"
#include "failmalloc.h"

enum { KEY_LEN = VLM_PICTURES_KEY_LEN, N_RANDOM = 2000 };

typedef struct models {
    vlm_folder *folder;
    vlm_backend *backend;
    vlm_model *model;
} models;

static models spm, odd;

static void open_model(models *m, const char *name)
{
    char path[512];
    vlm_error err;
    const vlm_model_options options = {.n_ctx = 512};
    (void)snprintf(path, sizeof path, "%s/tests/golden/%s", VLM_SOURCE_DIR, name);
    assert_int_equal(vlm_folder_open(path, &m->folder, &err), VLM_OK);
    assert_int_equal(vlm_backend_cpu_open(1, vlm_cpu_level_best(), &m->backend, &err), VLM_OK);
    assert_int_equal(vlm_model_open(m->folder, m->backend, &options, &m->model, &err), VLM_OK);
}

static void close_model(models *m)
{
    vlm_model_close(m->model);
    m->backend->ops->close(m->backend);
    vlm_folder_close(m->folder);
}

static int open_models(void **state)
{
    (void)state;
    open_model(&spm, "llava-spm");
    open_model(&odd, "llava-odd");
    return 0;
}

static int close_models(void **state)
{
    (void)state;
    close_model(&spm);
    close_model(&odd);
    return 0;
}

static vlm_pictures_budget budget_of(size_t bytes_max)
{
    return (vlm_pictures_budget){.bytes_max = bytes_max};
}

static void key_of(const vlm_model *model, const vlm_image *image, uint8_t key[KEY_LEN])
{
    vlm_pictures_budget budget = budget_of(SIZE_MAX);
    vlm_pictures *set;
    vlm_error err;
    assert_int_equal(vlm_pictures_open(model, 1, &budget, &set, &err), VLM_OK);
    assert_int_equal(vlm_pictures_add(set, image, &err), VLM_OK);
    memcpy(key, vlm_pictures_key(set, 0), KEY_LEN);
    vlm_pictures_unref(set);
    assert_int_equal(atomic_load(&budget.n_bytes), 0);
}

static bool same_key(const vlm_model *model, const vlm_image *a, const vlm_image *b)
{
    uint8_t keys[2][KEY_LEN];
    key_of(model, a, keys[0]);
    key_of(model, b, keys[1]);
    return memcmp(keys[0], keys[1], KEY_LEN) == 0;
}

static void test_keys(void **state)
{
    (void)state;
    vlm_image a, b;
    draw(&a, 30, 100);
    draw(&b, 30, 100);
    assert_true(same_key(spm.model, &a, &b));
    assert_true(same_key(odd.model, &a, &b));
    b.rgb[(size_t)(50 * 30 + 15) * 3 + 1] ^= 0x40;
    assert_false(same_key(spm.model, &a, &b));
    b.rgb[(size_t)(50 * 30 + 15) * 3 + 1] ^= 0x40;
    assert_true(same_key(spm.model, &a, &b));
    /* The one transparent colour is painted white: other pixels. */
    b.has_key = true;
    memcpy(b.key, b.rgb + (size_t)(50 * 30 + 15) * 3, sizeof b.key);
    assert_false(same_key(spm.model, &a, &b));
    b.has_key = false;
    b.width = 100;
    b.height = 30;
    assert_false(same_key(spm.model, &a, &b));

    /* Black throughout: the same pixels after preprocessing, whatever the size. */
    memset(a.rgb, 0, (size_t)30 * 100 * 3);
    memset(b.rgb, 0, (size_t)30 * 100 * 3);
    assert_false(same_key(spm.model, &a, &b));
    b.width = 30;
    b.height = 99;
    assert_false(same_key(spm.model, &a, &b));
    b.height = 100;
    assert_true(same_key(spm.model, &a, &b));

    uint8_t keys[2][KEY_LEN];
    key_of(spm.model, &a, keys[0]);
    key_of(odd.model, &a, keys[1]);
    assert_memory_not_equal(keys[0], keys[1], KEY_LEN);
    vlm_image_fini(&a);
    vlm_image_fini(&b);
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, KEY_LEN);
}

static uint32_t random_below(uint64_t *seed, uint32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % n;
}

static void test_random_pictures(void **state)
{
    (void)state;
    static uint8_t keys[N_RANDOM][KEY_LEN], rgb[24 * 24 * 3];
    uint64_t seed = 7;
    for (size_t i = 0; i < N_RANDOM; i++) {
        const vlm_image image = {.rgb = rgb,
                                 .width = 1 + random_below(&seed, 24),
                                 .height = 1 + random_below(&seed, 24)};
        for (size_t k = 0; k < (size_t)image.width * image.height * 3; k++)
            rgb[k] = (uint8_t)random_below(&seed, 256);
        key_of(spm.model, &image, keys[i]);
    }
    qsort(keys, N_RANDOM, KEY_LEN, by_bytes);
    for (size_t i = 1; i < N_RANDOM; i++) assert_memory_not_equal(keys[i - 1], keys[i], KEY_LEN);
}

/* Pixels are those of vlm_model_preprocess, end to end, and lie still while others are added. */
static void test_pixels(void **state)
{
    (void)state;
    const size_t n_pixels = vlm_model_n_pixels(spm.model);
    vlm_pictures_budget budget = budget_of(SIZE_MAX);
    vlm_pictures *set;
    vlm_error err;
    float *want = malloc(n_pixels * sizeof *want);
    assert_non_null(want);
    assert_int_equal(vlm_pictures_n(NULL), 0);
    assert_null(vlm_pictures_ref(NULL));
    vlm_pictures_unref(NULL);
    assert_int_equal(vlm_pictures_open(spm.model, 3, &budget, &set, &err), VLM_OK);
    const float *first = vlm_pictures_pixels(set, 0);
    for (uint32_t i = 0; i < 3; i++) {
        vlm_image image;
        draw(&image, 20 + 7 * i, 40 - 9 * i);
        assert_int_equal(vlm_pictures_n(set), i);
        assert_int_equal(vlm_pictures_add(set, &(vlm_image){0}, &err), VLM_INVALID_ARGUMENT);
        assert_int_equal(vlm_pictures_n(set), i);
        assert_int_equal(vlm_pictures_add(set, &image, &err), VLM_OK);
        assert_int_equal(vlm_model_preprocess(spm.model, &image, want, &err), VLM_OK);
        assert_ptr_equal(vlm_pictures_pixels(set, i), first + i * n_pixels);
        assert_memory_equal(vlm_pictures_pixels(set, i), want, n_pixels * sizeof *want);
        if (i == 2) {
            assert_int_equal(vlm_pictures_add(set, &image, &err), VLM_INVALID_ARGUMENT);
            assert_non_null(strstr(err.msg, "3 pictures"));
        }
        vlm_image_fini(&image);
    }
    vlm_pictures_unref(set);
    free(want);
}

/* Reserved with open, whatever is added, until the last reference goes. */
static void test_budget(void **state)
{
    (void)state;
    const size_t n_picture = vlm_model_n_pixels(spm.model) * sizeof(float);
    vlm_pictures_budget budget = budget_of(4 * n_picture);
    vlm_pictures *set, *other, *none;
    vlm_error err;
    assert_int_equal(vlm_pictures_open(spm.model, 17, &budget, &none, &err), VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg, "messages: 17 pictures, at most 16");
    assert_int_equal(vlm_pictures_open(spm.model, 5, &budget, &none, &err), VLM_RESOURCE_EXHAUSTED);
    assert_null(none);
    assert_int_equal(atomic_load(&budget.n_bytes), 0);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(vlm_pictures_open(spm.model, 3, &budget, &set, &err), VLM_OK);
        assert_int_equal(atomic_load(&budget.n_bytes), 3 * n_picture);
        assert_int_equal(vlm_pictures_open(spm.model, 2, &budget, &none, &err),
                         VLM_RESOURCE_EXHAUSTED);
        assert_int_equal(vlm_pictures_open(spm.model, 1, &budget, &other, &err), VLM_OK);
        assert_int_equal(vlm_pictures_open(spm.model, 1, &budget, &none, &err),
                         VLM_RESOURCE_EXHAUSTED);
        assert_ptr_equal(vlm_pictures_ref(set), set);
        vlm_pictures_unref(set);
        assert_int_equal(atomic_load(&budget.n_bytes), 4 * n_picture);
        vlm_pictures_unref(other);
        assert_int_equal(atomic_load(&budget.n_bytes), 3 * n_picture);
        vlm_pictures_unref(set);
        assert_int_equal(atomic_load(&budget.n_bytes), 0);
    }
    assert_int_equal(vlm_pictures_open(spm.model, 0, &budget, &set, &err), VLM_OK);
    assert_int_equal(vlm_pictures_n(set), 0);
    vlm_pictures_unref(set);
}

#if FAILMALLOC_AVAILABLE

static void test_every_allocation_fails(void **state)
{
    (void)state;
    vlm_image image;
    draw(&image, 61, 47);
    vlm_pictures_budget budget = budget_of(SIZE_MAX);
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_pictures *set;
        vlm_error err = {0};
        vlm_status status = vlm_pictures_open(spm.model, 2, &budget, &set, &err);
        if (status == VLM_OK) status = vlm_pictures_add(set, &image, &err);
        failmalloc_off();
        if (status != VLM_OK) {
            assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
            assert_non_null(strstr(err.msg, "out of memory"));
            assert_int_equal(vlm_pictures_n(set), 0);
            n_failed++;
        }
        /* A set that could not be filled can be filled later. */
        if (set != NULL) assert_int_equal(vlm_pictures_add(set, &image, &err), VLM_OK);
        vlm_pictures_unref(set);
        assert_int_equal(atomic_load(&budget.n_bytes), 0);
    }
    assert_true(n_failed > 2);
    vlm_image_fini(&image);
}

#else

static void test_every_allocation_fails(void **state)
{
    (void)state;
    print_message("the allocator cannot be replaced under a sanitizer\n");
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_random_pictures),
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
