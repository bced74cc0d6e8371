/* Resizing against Pillow's bytes, windows against the whole, and failing memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "image/pictures.h"
#include "image/resize.h"

/* Noise that Python can make as well. */
static vlm_image make_noise(uint32_t width, uint32_t height)
{
    vlm_image image = {.rgb = malloc((size_t)width * height * 3), .width = width, .height = height};
    assert_non_null(image.rgb);
    uint32_t s = width * 65537 + height;
    for (size_t i = 0; i < (size_t)width * height * 3; i++) {
        s = s * 1103515245 + 12345;
        image.rgb[i] = (uint8_t)(s >> 16);
    }
    return image;
}

/* Digests of Image.resize((to_width, to_height), filter) in Pillow 13, filters 0 to 5. */
static const struct {
    uint32_t width, height, to_width, to_height;
    uint64_t digests[VLM_RESAMPLE_N];
} table[] = {
    {31,
     17,
     31,
     17,
     {0xefae966ad54e5ccc, 0xefae966ad54e5ccc, 0xefae966ad54e5ccc, 0xefae966ad54e5ccc,
      0xefae966ad54e5ccc, 0xefae966ad54e5ccc}},
    {31,
     17,
     9,
     5,
     {0x21df4e92d79e1ee9, 0x789e95a5bdb530d0, 0x251c59025db5e9af, 0xb3569dac4d564427,
      0x1e61712080b1c5e7, 0x06ad9004783b8308}},
    {31,
     17,
     64,
     40,
     {0xb93c029a29c7d96a, 0xcf037c476caa1d86, 0xa6f450e55df95cd2, 0x3ce998b741c2befb,
      0xb93c029a29c7d96a, 0xb66543ac1133b186}},
    {17,
     60,
     40,
     9,
     {0xe1f6386be2733af1, 0x88cc334ed330f3a5, 0x3d287f2a0c9840c6, 0x8a3769697d2e64f1,
      0xde6abebc7471e7ec, 0xf482a64d335c367e}},
    {40,
     40,
     40,
     13,
     {0xa33633f14b957336, 0xadfe279abb5ca10a, 0x76e2e09c330dd9c4, 0x421420a83db16f6b,
      0xe059d7b95b305236, 0xeae58f53234745d8}},
    {40,
     40,
     13,
     40,
     {0x64159620dd233ec9, 0xc096ae5f4788155a, 0x64c5b2dbf1c8498a, 0x6c77a3bd277d73ce,
      0x18a37f9d6f472850, 0xb7ad92dd689febb3}},
    {1,
     50,
     7,
     7,
     {0xa7ccb2ab8d7dbfce, 0xe541233f4b32b01c, 0xd5e5fe4d4f4395aa, 0x5af9c8db42180c6c,
      0xf957dbe919304b33, 0x5a717d744e4b5e25}},
    {50,
     1,
     7,
     7,
     {0x6e0ba1a16e61d91d, 0xbcf8646d351e0215, 0x70e5d93d675bb7e5, 0x2d1aa96c4ceaf0fb,
      0x7cfa858a2149d06b, 0xcabb5d2caa16f984}},
    {1,
     1,
     5,
     3,
     {0x77bac937d77024a0, 0x77bac937d77024a0, 0x77bac937d77024a0, 0x77bac937d77024a0,
      0x77bac937d77024a0, 0x77bac937d77024a0}},
    {33,
     47,
     1,
     1,
     {0xce85eb1aa9e3f906, 0x25dbef1adb8f51d0, 0x25df551adb9234f9, 0x25dbef1adb8f51d0,
      0x25dbef1adb8f51d0, 0x25df551adb9234f9}},
    {20,
     200,
     24,
     24,
     {0xbacd0118e3e81495, 0x896b775e3db9c244, 0x88ef9f9421c880fe, 0xf968f510f588bb99,
      0xfc1a9ca51f241c15, 0x5e7ea65b2b00df06}},
    {97,
     89,
     53,
     61,
     {0xb350d3d15cad18c5, 0x2f1f38e9426fe2ae, 0x5bc73602d9c58cc5, 0x245775d6b73a75ae,
      0x840057b16f760559, 0x8c2c9c6de4a1e8ec}},
};

static void test_equals_pillow(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        vlm_image src = make_noise(table[i].width, table[i].height);
        for (int filter = 0; filter < VLM_RESAMPLE_N; filter++) {
            vlm_image dst;
            vlm_error err = {0};
            assert_int_equal(vlm_image_resize(&src, table[i].to_width, table[i].to_height,
                                              (vlm_resample)filter, &dst, &err),
                             VLM_OK);
            if (digest_image(&dst) != table[i].digests[filter])
                fail_msg("%u x %u to %u x %u with filter %d", src.width, src.height, dst.width,
                         dst.height, filter);
            vlm_image_fini(&dst);
        }
        vlm_image_fini(&src);
    }
}

/* The whole that a canvas stands for. */
static vlm_image build_canvas(const vlm_canvas *c)
{
    vlm_image whole = make_noise(c->width, c->height);
    for (uint32_t y = 0; y < c->height; y++) {
        for (uint32_t x = 0; x < c->width; x++) {
            const bool inside = y >= c->top && y - c->top < c->image->height && x >= c->left &&
                                x - c->left < c->image->width;
            const uint8_t *const p =
                inside ? c->image->rgb + ((size_t)(y - c->top) * c->image->width + x - c->left) * 3
                       : c->fill;
            memcpy(whole.rgb + ((size_t)y * c->width + x) * 3, p, 3);
        }
    }
    return whole;
}

/* A part is the same bytes as in the whole, with either pass first, on a canvas or without one. */
static void test_part_of_canvas(void **state)
{
    (void)state;
    vlm_image image = make_noise(23, 37);
    const vlm_canvas canvases[] = {
        {.image = &image, .width = 23, .height = 37},
        {.image = &image, .width = 37, .height = 37, .left = 7, .fill = {1, 200, 90}},
        {.image = &image, .width = 23, .height = 60, .top = 11, .fill = {1, 200, 90}},
    };
    const uint32_t sizes[][2] = {{50, 80}, {11, 19}, {40, 9}, {9, 70}, {23, 12}, {37, 37}};
    for (size_t c = 0; c < sizeof canvases / sizeof *canvases; c++) {
        vlm_image whole = build_canvas(&canvases[c]);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            const uint32_t width = sizes[s][0], height = sizes[s][1];
            const vlm_rect window = {width / 3, height / 4, width / 2, height / 3};
            for (int filter = 0; filter < VLM_RESAMPLE_N; filter++) {
                vlm_image all, part;
                vlm_error err = {0};
                assert_int_equal(
                    vlm_image_resize(&whole, width, height, (vlm_resample)filter, &all, &err),
                    VLM_OK);
                assert_int_equal(vlm_image_resize_part(&canvases[c], width, height, window,
                                                       (vlm_resample)filter, &part, &err),
                                 VLM_OK);
                for (uint32_t y = 0; y < window.height; y++)
                    assert_memory_equal(part.rgb + (size_t)y * window.width * 3,
                                        all.rgb + ((size_t)(window.y + y) * width + window.x) * 3,
                                        (size_t)window.width * 3);
                vlm_image_fini(&all);
                vlm_image_fini(&part);
            }
        }
        vlm_image_fini(&whole);
    }
    vlm_image_fini(&image);
}

/* The crop of an enlargement that would take gigabytes. */
static void test_part_of_huge(void **state)
{
    (void)state;
    vlm_image image = make_noise(16384, 1);
    const vlm_canvas canvas = {.image = &image, .width = 16384, .height = 1};
    vlm_image part;
    vlm_error err = {0};
    assert_int_equal(vlm_image_resize_part(&canvas, 16384 * 336, 336,
                                           (vlm_rect){16384 * 168 - 168, 0, 336, 336},
                                           VLM_RESAMPLE_BICUBIC, &part, &err),
                     VLM_OK);
    assert_int_equal(part.width, 336);
    vlm_image_fini(&part);
    vlm_image_fini(&image);
}

static void test_refused(void **state)
{
    (void)state;
    vlm_image image = make_noise(4, 3), none = {0}, dst;
    vlm_error err = {0};
    const vlm_canvas canvas = {.image = &image, .width = 4, .height = 3};
    const vlm_canvas small = {.image = &image, .width = 4, .height = 3, .left = 1};
    assert_int_equal(vlm_image_resize(&none, 4, 4, VLM_RESAMPLE_BOX, &dst, &err),
                     VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_image_resize(&image, 0, 4, VLM_RESAMPLE_BOX, &dst, &err),
                     VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_image_resize(&image, 4, 0, VLM_RESAMPLE_BOX, &dst, &err),
                     VLM_INVALID_ARGUMENT);
    assert_int_equal(
        vlm_image_resize_part(&canvas, 8, 8, (vlm_rect){5, 0, 4, 4}, VLM_RESAMPLE_BOX, &dst, &err),
        VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_image_resize_part(&canvas, 8, 8, (vlm_rect){0, UINT32_MAX, 4, 4},
                                           VLM_RESAMPLE_BOX, &dst, &err),
                     VLM_INVALID_ARGUMENT);
    assert_int_equal(
        vlm_image_resize_part(&small, 8, 8, (vlm_rect){0, 0, 4, 4}, VLM_RESAMPLE_BOX, &dst, &err),
        VLM_INVALID_ARGUMENT);
    assert_null(dst.rgb);
    vlm_image_fini(&image);
}

static void test_every_allocation_fails(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    vlm_image image = make_noise(20, 30);
    const uint32_t sizes[][2] = {{10, 20}, {40, 10}};
    for (size_t s = 0; s < 2; s++) {
        unsigned n = 1;
        for (; failmalloc_again(n); n++) {
            vlm_image dst;
            vlm_error err = {0};
            const vlm_status status = vlm_image_resize(&image, sizes[s][0], sizes[s][1],
                                                       VLM_RESAMPLE_BICUBIC, &dst, &err);
            const bool hit = failmalloc_hit;
            failmalloc_off();
            assert_int_equal(status, hit ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
            vlm_image_fini(&dst);
        }
        assert_true(n > 8);
    }
    vlm_image_fini(&image);
#else
    print_message("a sanitizer owns the allocator: not run\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_pillow),          cmocka_unit_test(test_part_of_canvas),
        cmocka_unit_test(test_part_of_huge),           cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
