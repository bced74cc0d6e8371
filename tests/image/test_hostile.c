/* Files that ask for too much, or are none: each refused in words, before pixels are allocated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "image/image.h"
#include "image/pictures.h"

#define BYTES(text) (text), sizeof(text) - 1

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        size_t len;
        const char *words;
    } table[] = {
        {"", 0, "the file is empty"},
        {BYTES("hello, I am a text file called photo.jpg"), "not a JPEG, PNG"},
        {BYTES("RIFF\4\0\0\0WAVE"), "not a JPEG, PNG"},
        {BYTES("<svg xmlns='http://www.w3.org/2000/svg'/>"), "not a JPEG, PNG"},
        {BYTES("\xff\xd8\xff"), "JPEG"},
        {BYTES("\xff\xd8\xff\xd9"), "JPEG"},
        {BYTES("\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\3\1\x22\0\2\x11\1\3\x11\1"
               "\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0"),
         "a side may have at most 16384"},
        {BYTES("\xff\xd8\xff\xc0\0\x0e\x08\0\x10\0\x10\2\1\x11\0\2\x11\0"
               "\xff\xda\0\x0a\2\1\0\2\0\0\x3f\0"),
         "2 components"},
        {BYTES("\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x10\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0"),
         "JPEG"},
        {BYTES("\x89PNG\r\n\x1a\n"), "no IHDR"},
        {BYTES("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x4e\x20\0\0\x4e\x20\x08\2\0\0\0\0\0\0\0"),
         "20000 x 20000 pixels, a side may have at most 16384"},
        {BYTES("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x40\0\0\0\x10\1\x08\2\0\0\0\0\0\0\0"),
         "at most 67108864 in all"},
        {BYTES("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\0\0\0\0\1\x08\2\0\0\0\0\0\0\0"),
         "empty picture"},
        {BYTES("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\0\0\0\0"), "PNG"},
        {BYTES("RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0\xff\xff\xff\xff\xff\xff"),
         "without frames"},
        {BYTES("RIFF\x2e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0\xff\xff\xff\xff\xff\xff"
               "ANMF\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
         "16777216 x 16777216"},
        {BYTES("RIFF\xff\xff\xff\xffWEBPVP8 "), "truncated"},
        {BYTES("RIFF\0\0\0\0WEBPVP8 "), "damaged"},
        {BYTES("GIF89a"), "truncated"},
        {BYTES("GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;"), "65535 x 65535"},
        {BYTES("GIF89a\1\0\1\0\0\0\0,\xff\xff\0\0\1\0\1\0\0\2\2\x44\1\0;"), "65536 x 1"},
        {BYTES("GIF89a\1\0\1\0\0\0\0,\0\0\0\0\0\0\1\0\0\2\2\x44\1\0;"), "empty picture"},
        {BYTES("GIF89a\1\0\1\0\0\0\0;"), "no picture"},
        {BYTES("BM"), "truncated"},
        {BYTES("BM is the beginning of a sentence, not of a picture."), "unknown header"},
        {BYTES("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\0\0\1\0\1\0\0\0\1\0\x18\0\0\0\0\0\0\0\0\0"
               "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
         "65536 x 1"},
        {BYTES("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\2\0\0\0\1\0\x07\0\0\0\0\0\0\0\0\0"
               "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
         "7 bits a pixel"},
        {BYTES("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\2\0\0\0\1\0\x18\0\4\0\0\0\0\0\0\0"
               "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
         "unsupported compression 4"},
        {BYTES("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\0\0\0\x80\1\0\x18\0\0\0\0\0\0\0\0"
               "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
         "2147483648"},
        {BYTES("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\2\0\0\0\1\0\x08\0\1\0\0\0\0\0\0\0"
               "\0\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0"),
         "65536 colours"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        vlm_image image;
        vlm_error err = {0};
        const vlm_status status =
            vlm_image_decode(table[i].data, table[i].len, &vlm_image_limits_default, &image, &err);
        if (status != VLM_INVALID_ARGUMENT) fail_msg("%zu: status %d, %s", i, status, err.msg);
        if (strstr(err.msg, table[i].words) == NULL) fail_msg("%zu: %s", i, err.msg);
        assert_null(image.rgb);
    }
}

static void test_limits_are_the_callers(void **state)
{
    (void)state;
    static const char *const names[] = {"progressive.jpg", "rgb.png", "lossy.webp", "first.gif",
                                        "plain.bmp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        vlm_buf file = read_picture(names[i]);
        vlm_image image;
        vlm_error err = {0};
        assert_int_equal(
            vlm_image_decode(file.data, file.len, &vlm_image_limits_default, &image, &err), VLM_OK);
        const uint64_t n_pixels = (uint64_t)image.width * image.height;
        const uint32_t side = image.width > image.height ? image.width : image.height;
        vlm_image_fini(&image);
        vlm_image_limits limits = vlm_image_limits_default;
        limits.bytes_max = file.len - 1;
        assert_int_equal(vlm_image_decode(file.data, file.len, &limits, &image, &err),
                         VLM_INVALID_ARGUMENT);
        limits = vlm_image_limits_default;
        limits.pixels_max = n_pixels - 1;
        assert_int_equal(vlm_image_decode(file.data, file.len, &limits, &image, &err),
                         VLM_INVALID_ARGUMENT);
        limits.pixels_max = n_pixels;
        limits.side_max = side - 1;
        assert_int_equal(vlm_image_decode(file.data, file.len, &limits, &image, &err),
                         VLM_INVALID_ARGUMENT);
        limits.side_max = side;
        assert_int_equal(vlm_image_decode(file.data, file.len, &limits, &image, &err), VLM_OK);
        vlm_image_fini(&image);
        vlm_buf_fini(&file);
    }
}

/* A progressive JPEG of ten scans, with its last scan repeated. */
static void test_scan_bomb(void **state)
{
    (void)state;
    vlm_buf file = read_picture("progressive.jpg");
    size_t last = 0;
    for (size_t i = 0; i + 1 < file.len; i++) {
        if ((uint8_t)file.data[i] == 0xFF && (uint8_t)file.data[i + 1] == 0xDA) last = i;
    }
    const size_t scan_len = file.len - 2 - last;
    enum { N_SCANS = 1000 };
    char *const bomb = malloc(file.len + scan_len * N_SCANS);
    assert_non_null(bomb);
    memcpy(bomb, file.data, file.len - 2);
    size_t len = file.len - 2;
    for (int i = 0; i < N_SCANS; i++, len += scan_len)
        memcpy(bomb + len, file.data + last, scan_len);
    bomb[len] = (char)0xFF;
    bomb[len + 1] = (char)0xD9;
    vlm_image image;
    vlm_error err = {0};
    assert_int_equal(vlm_image_decode(bomb, len + 2, &vlm_image_limits_default, &image, &err),
                     VLM_INVALID_ARGUMENT);
    free(bomb);

    vlm_image_limits limits = vlm_image_limits_default;
    limits.jpeg_scans_max = 9; /* it has ten */
    assert_int_equal(vlm_image_decode(file.data, file.len, &limits, &image, &err),
                     VLM_INVALID_ARGUMENT);
    assert_non_null(strstr(err.msg, "more than 9 scans"));
    limits.jpeg_scans_max = 10;
    assert_int_equal(vlm_image_decode(file.data, file.len, &limits, &image, &err), VLM_OK);
    vlm_image_fini(&image);
    vlm_buf_fini(&file);
}

/* Every byte turned over, one at a time: an error, or a picture of legal size. */
static void test_every_byte_flipped(void **state)
{
    (void)state;
    static const char *const names[] = {"orient6.jpg",          "cmyk_prog.jpg", "interlaced.png",
                                        "gray4_key.png",        "orient6.webp",  "anim.webp",
                                        "part_transparent.gif", "b4.bmp",        "rle8.bmp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        vlm_buf file = read_picture(names[i]);
        for (size_t k = 0; k < file.len; k++) {
            file.data[k] = (char)~file.data[k];
            vlm_image image;
            vlm_error err = {0};
            vlm_image_limits limits = vlm_image_limits_default;
            limits.pixels_max = 1 << 20;
            const vlm_status status = vlm_image_decode(file.data, file.len, &limits, &image, &err);
            if (status == VLM_OK) {
                assert_in_range((uint64_t)image.width * image.height, 1, limits.pixels_max);
                (void)digest_image(&image);
            } else {
                assert_int_equal(status, VLM_INVALID_ARGUMENT);
                assert_null(image.rgb);
            }
            vlm_image_fini(&image);
            file.data[k] = (char)~file.data[k];
        }
        vlm_buf_fini(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits_are_the_callers),
        cmocka_unit_test(test_scan_bomb),
        cmocka_unit_test(test_every_byte_flipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
