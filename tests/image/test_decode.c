/* Every kind of file against the pixels that Pillow gives, cut files, and failing memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "image/image.h"
#include "image/pictures.h"

/* Size, digest and transparent colour of ImageOps.exif_transpose(img).convert("RGB") in Pillow 13,
 * but for gray16.png and interlaced_gray16.png: those are the samples' high bytes. */
static const struct picture {
    const char *name;
    uint32_t width, height;
    uint64_t digest;
    bool has_key;
    uint8_t key[3];
} pictures[] = {
    {"alpha.webp", 80, 50, 0xb0908f414ca35b6b, false, {0}},
    {"alpha_lossy.webp", 23, 12, 0xc66d1a43b5a1d22c, false, {0}},
    {"anim.gif", 20, 14, 0xd7cec0fc9dc6fe4e, false, {0}},
    {"anim.webp", 20, 14, 0xbc41d02c2378479c, false, {0}},
    {"b1.bmp", 11, 5, 0x5c957e6abbfd0404, false, {0}},
    {"b16.bmp", 7, 5, 0xc45cbe46bdf993d1, false, {0}},
    {"b24_topdown.bmp", 7, 5, 0x5c60b49a5fe32dd6, false, {0}},
    {"b32.bmp", 7, 5, 0x79c27d0c58133400, false, {0}},
    {"b32_v4.bmp", 7, 5, 0xb31db0090d10e49a, false, {0}},
    {"b32_v5.bmp", 7, 5, 0x0a55e819d586f1ba, false, {0}},
    {"b4.bmp", 11, 5, 0x9329c9a4246922ba, false, {0}},
    {"b565.bmp", 7, 5, 0x7a98424a95854736, false, {0}},
    {"b8.bmp", 7, 5, 0x73f7d7e3ba221d20, false, {0}},
    {"b8_short.bmp", 7, 5, 0x5ef927b032128dcc, false, {0}},
    {"bits1.png", 70, 70, 0xb1a45e1646ae1a41, false, {0}},
    {"cmyk.jpg", 100, 80, 0xce75140a2da47f2b, false, {0}},
    {"cmyk_prog.jpg", 21, 13, 0xe2a8b8b8e8dfbaa3, false, {0}},
    {"dot.png", 1, 1, 0x6090841827d326b9, false, {0}},
    {"first.gif", 100, 100, 0x25907966886f05fd, false, {0}},
    {"gray.jpg", 90, 120, 0x5c13cb38483d3790, false, {0}},
    {"gray16.png", 13, 7, 0x5831bce6cf5558b7, false, {0}},
    {"gray2.png", 13, 6, 0x6b40794c536c8c0a, false, {0}},
    {"gray4_key.png", 13, 6, 0x9f28bc091aaaec7b, true, {5, 5, 5}},
    {"interlaced.png", 21, 11, 0xdbee49e45e67da31, false, {0}},
    {"interlaced_gray16.png", 3, 5, 0x5714c6312d86696e, false, {0}},
    {"la.png", 66, 44, 0x7b4868237292513a, false, {0}},
    {"la16.png", 9, 5, 0xa8266777ebc48928, false, {0}},
    {"line.png", 200, 1, 0xa94283c77b01f6e5, false, {0}},
    {"lossy.webp", 150, 110, 0xb03badf690f1ebde, false, {0}},
    {"no_table.gif", 6, 9, 0x83a90e6f98e9b8eb, true, {3, 3, 3}},
    {"orient1.jpg", 24, 16, 0xc2e086e99018e85e, false, {0}},
    {"orient2.jpg", 24, 16, 0x31701e6c3a07cb83, false, {0}},
    {"orient3.jpg", 24, 16, 0x06159231fdc6b749, false, {0}},
    {"orient4.jpg", 24, 16, 0x522ea989912a5df7, false, {0}},
    {"orient5.jpg", 16, 24, 0xad32ad43756e7098, false, {0}},
    {"orient6.jpg", 16, 24, 0x4a2c4bf4161cd18c, false, {0}},
    {"orient6.webp", 9, 17, 0x8708591b601e8223, false, {0}},
    {"orient7.jpg", 16, 24, 0x850d3a4211b0d875, false, {0}},
    {"orient8.jpg", 16, 24, 0x05210d0413894d1c, false, {0}},
    {"orient8_long.png", 9, 17, 0xebe62bbf441fdda0, false, {0}},
    {"os2.bmp", 7, 5, 0xbe19d90baf90e0cc, false, {0}},
    {"outside.gif", 9, 7, 0xf16996ec7b108b5d, false, {0}},
    {"pal2_short.png", 13, 6, 0x269df9dc0ce596e9, false, {0}},
    {"palette.png", 120, 90, 0xd5dee90bdd848c3e, true, {164, 190, 139}},
    {"part.gif", 12, 8, 0x5b0523d20f6d7fd1, false, {0}},
    {"part_transparent.gif", 12, 8, 0x60eb3740d26faf83, true, {150, 83, 149}},
    {"photo.jpg", 320, 240, 0x4dc1d462330bbe9e, false, {0}},
    {"plain.bmp", 45, 60, 0x15c8e9356c72cdd3, false, {0}},
    {"progressive.jpg", 211, 333, 0x0ff8a9a43e1baa95, false, {0}},
    {"restart.jpg", 25, 14, 0x166bab4c8ac1e6f1, false, {0}},
    {"rgb.png", 64, 64, 0xdf452f0873888724, false, {0}},
    {"rgb16.png", 9, 5, 0xa6a5db068aa2133a, false, {0}},
    {"rgb_key.png", 4, 4, 0xa85c6e129f9d0c75, true, {1, 2, 3}},
    {"rgba.png", 80, 50, 0xb0908f414ca35b6b, false, {0}},
    {"rgba16.png", 7, 5, 0x2abf63ab233d76fc, false, {0}},
    {"rle4.bmp", 6, 3, 0xc61a18c51c07f985, false, {0}},
    {"rle8.bmp", 6, 4, 0x116d98c278fd9404, false, {0}},
    {"rotated.jpg", 100, 160, 0xec04f15c5682a193, false, {0}},
    {"s420_prog.jpg", 33, 19, 0xb809f94b805074bf, false, {0}},
    {"s440.jpg", 31, 17, 0x2a21f5a0b68af25f, false, {0}},
    {"s444.jpg", 57, 43, 0x90c520d0812d678e, false, {0}},
    {"tall.png", 20, 400, 0xdc26b512964de1e2, false, {0}},
    {"xmp3.jpg", 19, 11, 0x8f8a428d5b9445a0, false, {0}},
};

enum { N_PICTURES = sizeof pictures / sizeof *pictures };

static void test_pixels(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_PICTURES; i++) {
        const struct picture *const want = &pictures[i];
        vlm_buf file = read_picture(want->name);
        vlm_image image;
        vlm_error err = {0};
        if (vlm_image_decode(file.data, file.len, &vlm_image_limits_default, &image, &err) !=
            VLM_OK)
            fail_msg("%s: %s", want->name, err.msg);
        if (image.width != want->width || image.height != want->height)
            fail_msg("%s: %u x %u", want->name, image.width, image.height);
        if (digest_image(&image) != want->digest) fail_msg("%s: other pixels", want->name);
        if (image.has_key != want->has_key) fail_msg("%s: transparent colour", want->name);
        if (want->has_key) assert_memory_equal(image.key, want->key, 3);
        vlm_image_fini(&image);
        assert_null(image.rgb);
        vlm_buf_fini(&file);
    }
}

/* A file that ends early is refused, or what is gone was no pixel of the first frame. */
static void test_truncated(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_PICTURES; i++) {
        vlm_buf file = read_picture(pictures[i].name);
        size_t n_refused = 0;
        for (size_t percent = 0; percent < 100; percent++) {
            /* Exactly as long, so that a sanitizer sees a read beyond the end. */
            const size_t len = file.len * percent / 100;
            char *const part = malloc(len + (len == 0));
            assert_non_null(part);
            memcpy(part, file.data, len);
            vlm_image image;
            vlm_error err = {0};
            const vlm_status status =
                vlm_image_decode(part, len, &vlm_image_limits_default, &image, &err);
            if (status == VLM_OK) {
                if (digest_image(&image) != pictures[i].digest)
                    fail_msg("%s: other pixels after %zu%%", pictures[i].name, percent);
            } else {
                if (status != VLM_INVALID_ARGUMENT)
                    fail_msg("%s, %zu%%: %s", pictures[i].name, percent, err.msg);
                assert_null(image.rgb);
                if (strncmp(err.msg, "image: ", 7) != 0) fail_msg("%s", err.msg);
                n_refused++;
            }
            vlm_image_fini(&image);
            free(part);
        }
        /* Of the animations the first frame is a small part. */
        if (n_refused < 20) fail_msg("%s: only %zu refused", pictures[i].name, n_refused);
        vlm_buf_fini(&file);
    }
}

#if FAILMALLOC_AVAILABLE
static uint64_t digest_of(const char *name)
{
    for (size_t i = 0; i < N_PICTURES; i++) {
        if (strcmp(pictures[i].name, name) == 0) return pictures[i].digest;
    }
    fail_msg("%s: not in the table", name);
    return 0;
}
#endif

static void test_every_allocation_fails(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    /* No lossless WebP: Debian 12's libwebp 1.2.4 dereferences NULL when its Huffman tables find no
     * memory. */
    static const char *const names[] = {
        "cmyk.jpg",    "progressive.jpg", "rotated.jpg",          "xmp3.jpg",
        "palette.png", "interlaced.png",  "orient8_long.png",     "lossy.webp",
        "anim.webp",   "first.gif",       "part_transparent.gif", "b8.bmp",
        "rle4.bmp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        vlm_buf file = read_picture(names[i]);
        const uint64_t want = digest_of(names[i]);
        unsigned n = 1;
        for (; failmalloc_again(n); n++) {
            vlm_image image;
            vlm_error err = {0};
            const vlm_status status =
                vlm_image_decode(file.data, file.len, &vlm_image_limits_default, &image, &err);
            failmalloc_off();
            /* libwebp and giflib call some of their own failed allocations damage. */
            const bool blames_file =
                strstr(names[i], ".webp") != NULL || strstr(names[i], ".gif") != NULL;
            if (status != VLM_OK && status != VLM_RESOURCE_EXHAUSTED && !blames_file)
                fail_msg("%s, allocation %u: %s", names[i], n, err.msg);
            /* libjpeg asks again for less; whatever it got, the pixels must be right. */
            if (status == VLM_OK && digest_image(&image) != want)
                fail_msg("%s, allocation %u: other pixels", names[i], n);
            vlm_image_fini(&image);
        }
        assert_true(n > 2);
        vlm_buf_fini(&file);
    }
#else
    print_message("a sanitizer owns the allocator: not run\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
