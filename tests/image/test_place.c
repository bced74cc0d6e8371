/* Pixels decoded into a place of the caller's: the same ones, or in memory of their own. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "image/image.h"
#include "image/pictures.h"

enum { PLACE_BYTES = 1 << 22, DIRT = 0xA5 };

static void compare(const char *name, size_t spare_bytes, const vlm_buf *file,
                    const vlm_image *expected)
{
    const size_t n_bytes = (size_t)expected->width * expected->height * 3;
    uint8_t *const place = malloc(PLACE_BYTES);
    vlm_image_limits limits = vlm_image_limits_default;
    vlm_image image;
    vlm_error error;
    assert_non_null(place);
    assert_true(n_bytes < PLACE_BYTES);
    memset(place, DIRT, PLACE_BYTES);
    limits.place = place;
    limits.place_bytes = n_bytes + spare_bytes;
    if (vlm_image_decode(file->data, file->len, &limits, &image, &error) != VLM_OK)
        fail_msg("%s: %s", name, error.msg);
    assert_int_equal(image.in_place, image.rgb == place);
    /* Only a turned picture lies elsewhere although it fits. */
    if (!image.in_place && strstr(name, "orient") == NULL && strstr(name, "rotated") == NULL &&
        strstr(name, "xmp") == NULL)
        fail_msg("%s: not in its place", name);
    if (memcmp(image.rgb, expected->rgb, n_bytes) != 0) fail_msg("%s: other pixels", name);
    for (size_t i = n_bytes; i < PLACE_BYTES; i++)
        if (place[i] != DIRT) fail_msg("%s: wrote at %zu", name, i);
    vlm_image_fini(&image);
    free(place);
}

static void check_too_small(const vlm_buf *file, const vlm_image *expected)
{
    uint8_t place[3] = {DIRT, DIRT, DIRT};
    vlm_image_limits limits = vlm_image_limits_default;
    vlm_image image;
    const size_t n_bytes = (size_t)expected->width * expected->height * 3;
    limits.place = place;
    limits.place_bytes = sizeof place;
    if (n_bytes <= sizeof place) return;
    assert_int_equal(vlm_image_decode(file->data, file->len, &limits, &image, NULL), VLM_OK);
    assert_false(image.in_place);
    assert_memory_equal(image.rgb, expected->rgb, n_bytes);
    for (size_t i = 0; i < sizeof place; i++) assert_int_equal(place[i], DIRT);
    vlm_image_fini(&image);
}

static void test_all_pictures(void **state)
{
    (void)state;
    int n = 0;
    DIR *dir = opendir(VLM_TEST_DATA "/image");
    const struct dirent *entry;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        vlm_image expected;
        if (entry->d_name[0] == '.') continue;
        vlm_buf file = read_picture(entry->d_name);
        assert_int_equal(
            vlm_image_decode(file.data, file.len, &vlm_image_limits_default, &expected, NULL),
            VLM_OK);
        assert_false(expected.in_place);
        compare(entry->d_name, 0, &file, &expected);
        compare(entry->d_name, 100, &file, &expected);
        check_too_small(&file, &expected);
        vlm_image_fini(&expected);
        vlm_buf_fini(&file);
        n++;
    }
    (void)closedir(dir);
    assert_true(n > 40);
}

/* A damaged file's error frees nothing that is not its own. */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const names[] = {"photo.jpg", "rgb.png", "lossy.webp", "first.gif",
                                        "b24_topdown.bmp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        static uint8_t place[PLACE_BYTES];
        vlm_buf file = read_picture(names[i]);
        vlm_image image;
        vlm_image_limits limits = vlm_image_limits_default;
        limits.place = place;
        limits.place_bytes = sizeof place;
        assert_int_equal(vlm_image_decode(file.data, file.len / 2, &limits, &image, NULL),
                         VLM_INVALID_ARGUMENT);
        assert_null(image.rgb);
        assert_false(image.in_place);
        vlm_buf_fini(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_pictures),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
