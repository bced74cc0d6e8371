/* Which way up: EXIF and XMP as cameras write them, and as nobody should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/exif.h"
#include "image/orient.h"

#define BYTES(text)                                                                                \
    {                                                                                              \
        (text), sizeof(text) - 1                                                                   \
    }
#define LITTLE "II*\0\x08\0\0\0"
#define BIG "MM\0*\0\0\0\x08"

static void test_exif(void **state)
{
    (void)state;
    static const struct {
        vlm_bytes exif;
        uint32_t orientation;
    } table[] = {
        {{0}, 0},
        {BYTES("Exif\0\0"), 0},
        {BYTES(LITTLE "\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"), 6},
        {BYTES("Exif\0\0" LITTLE "\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"), 6},
        {BYTES("Exif\0\0Exif\0\0" LITTLE "\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"), 6},
        {BYTES(BIG "\0\1\1\x12\0\3\0\0\0\1\0\x08\0\0"), 8},
        {BYTES(BIG "\0\1\1\x12\0\4\0\0\0\1\0\0\0\3"), 3},
        /* Outside 1..8, a list of two, a type that holds no integer: there, and upright. */
        {BYTES(LITTLE "\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0"), 1},
        {BYTES(LITTLE "\1\0\x12\1\3\0\1\0\0\0\0\0\0\0"), 1},
        {BYTES(LITTLE "\1\0\x12\1\3\0\2\0\0\0\6\0\6\0"), 1},
        {BYTES(LITTLE "\1\0\x12\1\2\0\1\0\0\0\6\0\0\0"), 1},
        /* The last of two counts; what is behind the end does not. */
        {BYTES(LITTLE "\2\0\x12\1\3\0\1\0\0\0\6\0\0\0\x12\1\3\0\1\0\0\0\3\0\0\0"), 3},
        {BYTES(LITTLE "\2\0\x12\1\3\0\1\0\0\0\6\0\0\0\x12\1\3\0\1\0\0\0\3\0\0"), 6},
        {BYTES(LITTLE "\xff\xff\x12\1\3\0\1\0\0\0\6\0\0"), 0},
        {BYTES("II*\0\xff\xff\xff\xff\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"), 0},
        {BYTES("II*\0\x17\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"), 0},
        {BYTES("II+\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"), 0},
        {BYTES("MM*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0"), 0},
        {BYTES(LITTLE), 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        /* Exactly as long, so that a sanitizer sees a read beyond the end. */
        const size_t len = table[i].exif.len;
        char *const copy = malloc(len + (len == 0));
        assert_non_null(copy);
        if (len > 0) memcpy(copy, table[i].exif.ptr, len);
        const uint32_t got = vlm_exif_orientation((vlm_bytes){copy, len});
        if (got != table[i].orientation) fail_msg("%zu: %u", i, got);
        free(copy);
    }
}

static void test_xmp(void **state)
{
    (void)state;
    static const struct {
        const char *xmp;
        uint32_t orientation;
    } table[] = {
        {"", 0},
        {"tiff:Orientation", 0},
        {"tiff:Orientation=\"", 0},
        {"<d tiff:Orientation=\"6\"/>", 6},
        {"<tiff:Orientation>8</tiff:Orientation>", 8},
        {"<tiff:Orientation>x</tiff:Orientation><tiff:Orientation>3</tiff:Orientation>", 3},
        {"<d tiff:Orientation='6'/>", 0},
        {"<d tiff:Orientation=\"9\"/>", 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const uint32_t got = vlm_xmp_orientation(vlm_bytes_of(table[i].xmp));
        if (got != table[i].orientation) fail_msg("%s: %u", table[i].xmp, got);
    }
    const vlm_bytes exif = BYTES(LITTLE "\1\0\x12\1\3\0\1\0\0\0\6\0\0\0");
    const vlm_bytes xmp = BYTES("<d tiff:Orientation=\"3\"/>");
    const vlm_bytes none = {0};
    assert_int_equal(vlm_exif_choose(exif, xmp), 6);
    assert_int_equal(vlm_exif_choose(none, xmp), 3);
    assert_int_equal(vlm_exif_choose(none, none), 1);
}

/* The eight pictures of the EXIF standard: where the stored "F" of 2 x 3 pixels goes. */
static void test_orient(void **state)
{
    (void)state;
    static const struct {
        uint32_t width;
        char pixels[7];
    } table[9] = {
        [1] = {2, "abcdef"}, [2] = {2, "badcfe"}, [3] = {2, "fedcba"}, [4] = {2, "efcdab"},
        [5] = {3, "acebdf"}, [6] = {3, "ecafdb"}, [7] = {3, "fdbeca"}, [8] = {3, "bdface"},
    };
    for (uint32_t o = 1; o <= 8; o++) {
        vlm_image image = {.rgb = malloc(18), .width = 2, .height = 3, .has_key = true};
        assert_non_null(image.rgb);
        for (int i = 0; i < 6; i++) memset(image.rgb + (ptrdiff_t)i * 3, "abcdef"[i], 3);
        assert_int_equal(vlm_image_orient(&image, o, NULL), VLM_OK);
        assert_int_equal(image.width, table[o].width);
        assert_int_equal(image.height, 6 / table[o].width);
        assert_true(image.has_key);
        for (int i = 0; i < 6; i++) assert_int_equal(image.rgb[i * 3 + 1], table[o].pixels[i]);
        vlm_image_fini(&image);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exif),
        cmocka_unit_test(test_xmp),
        cmocka_unit_test(test_orient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
