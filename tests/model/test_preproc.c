/* preprocessor_config.json in all its spellings, and the floats that Transformers makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "model/preproc.h"

static vlm_status parse(const char *text, vlm_preproc *p, vlm_error *err)
{
    vlm_json_doc *doc = NULL;
    assert_int_equal(vlm_json_parse(text, strlen(text), &vlm_json_limits_default, &doc, err),
                     VLM_OK);
    const vlm_status status = vlm_preproc_parse(vlm_json_root(doc), 336, p, err);
    vlm_json_free(doc);
    return status;
}

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t shortest_edge, out_width, out_height;
    } table[] = {
        {"{}", 224, 224, 224},
        {"{\"size\":{\"shortest_edge\":336},\"crop_size\":{\"height\":336,\"width\":336}}", 336,
         336, 336},
        {"{\"feature_extractor_type\":\"CLIPFeatureExtractor\",\"size\":336,\"crop_size\":336}",
         336, 336, 336},
        {"{\"size\":null,\"crop_size\":null,\"resample\":null,\"image_mean\":null}", 224, 224, 224},
        {"{\"size\":[30,40],\"do_center_crop\":false}", 0, 40, 30},
        {"{\"size\":{\"height\":30,\"width\":40},\"do_center_crop\":false}", 0, 40, 30},
        {"{\"size\":10,\"crop_size\":{\"height\":30,\"width\":40}}", 10, 40, 30},
        {"{\"do_resize\":false,\"crop_size\":7}", 224, 7, 7},
        {"{\"image_processor_type\":\"LlavaImageProcessor\",\"do_pad\":true,"
         "\"do_center_crop\":false,\"size\":{\"shortest_edge\":50}}",
         50, 50, 50},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        vlm_preproc p;
        vlm_error err = {0};
        if (parse(table[i].text, &p, &err) != VLM_OK) fail_msg("%s: %s", table[i].text, err.msg);
        assert_int_equal(p.shortest_edge, table[i].shortest_edge);
        assert_int_equal(p.out_width, table[i].out_width);
        assert_int_equal(p.out_height, table[i].out_height);
    }
    vlm_preproc p;
    assert_int_equal(vlm_preproc_parse(NULL, 336, &p, NULL), VLM_OK);
    assert_int_equal(p.out_width, 336);
    assert_int_equal(p.resample, VLM_RESAMPLE_BICUBIC);
    assert_true(p.do_resize && p.do_center_crop && p.do_rescale && p.do_normalize && !p.do_pad);
    assert_int_equal(vlm_preproc_parse(NULL, 0, &p, NULL), VLM_INVALID_ARGUMENT);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        vlm_status status;
        const char *words;
    } table[] = {
        {"[]", VLM_INVALID_ARGUMENT, "an object"},
        {"{\"image_processor_type\":\"LlavaNextImageProcessor\"}", VLM_UNIMPLEMENTED,
         "image_processor_type LlavaNextImageProcessor"},
        {"{\"image_processor_type\":7}", VLM_INVALID_ARGUMENT, "image_processor_type"},
        {"{\"size\":{\"longest_edge\":300}}", VLM_UNIMPLEMENTED, "size.longest_edge"},
        {"{\"size\":{\"shortest_edge\":3,\"longest_edge\":300}}", VLM_UNIMPLEMENTED,
         "size.longest_edge"},
        {"{\"size\":{\"height\":3}}", VLM_INVALID_ARGUMENT, "size"},
        {"{\"size\":\"big\"}", VLM_INVALID_ARGUMENT, "size"},
        {"{\"size\":0}", VLM_INVALID_ARGUMENT, "size"},
        {"{\"size\":1e3}", VLM_INVALID_ARGUMENT, "size"},
        {"{\"size\":99999999999999999999}", VLM_INVALID_ARGUMENT, "size"},
        {"{\"crop_size\":{\"shortest_edge\":3}}", VLM_INVALID_ARGUMENT, "crop_size"},
        {"{\"crop_size\":-1}", VLM_INVALID_ARGUMENT, "crop_size"},
        {"{\"do_center_crop\":false}", VLM_UNIMPLEMENTED, "do_center_crop"},
        {"{\"do_resize\":false,\"do_center_crop\":false}", VLM_UNIMPLEMENTED, "do_center_crop"},
        {"{\"resample\":6}", VLM_INVALID_ARGUMENT, "resample"},
        {"{\"resample\":\"bicubic\"}", VLM_INVALID_ARGUMENT, "resample"},
        {"{\"image_mean\":[0.5,0.5]}", VLM_INVALID_ARGUMENT, "image_mean"},
        {"{\"image_std\":[0.5,0,0.5]}", VLM_INVALID_ARGUMENT, "image_std"},
        {"{\"image_std\":[0.5,\"x\",0.5]}", VLM_INVALID_ARGUMENT, "image_std"},
        {"{\"image_std\":[0.5,null,0.5]}", VLM_INVALID_ARGUMENT, "image_std"},
        {"{\"rescale_factor\":0}", VLM_INVALID_ARGUMENT, "rescale_factor"},
        {"{\"pad_size\":{\"height\":3,\"width\":3}}", VLM_UNIMPLEMENTED, "pad_size"},
        {"{\"image_processor_type\":\"LlavaImageProcessor\",\"do_pad\":true,\"image_mean\":2}",
         VLM_INVALID_ARGUMENT, "image_mean"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        vlm_preproc p;
        vlm_error err = {0};
        assert_int_equal(parse(table[i].text, &p, &err), table[i].status);
        if (strstr(err.msg, table[i].words) == NULL) fail_msg("%s: %s", table[i].text, err.msg);
    }
}

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

static uint64_t digest(const void *data, size_t len)
{
    const uint8_t *const bytes = data;
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < len; i++) h = (h ^ bytes[i]) * 0x100000001b3;
    return h;
}

/* Digests of the float32 bytes of Transformers 5.23's CLIPImageProcessorPil and
 * LlavaImageProcessorPil (the one that pads) with Pillow 13. */
static const struct run {
    const char *config;
    uint32_t width, height;
    uint64_t digest;
} runs[] = {
#include "model/preproc_runs.inc"
};

static void test_equals_transformers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        vlm_preproc p;
        vlm_error err = {0};
        assert_int_equal(parse(runs[i].config, &p, &err), VLM_OK);
        vlm_image image = make_noise(runs[i].width, runs[i].height);
        const size_t n = (size_t)p.out_width * p.out_height * 3;
        float *const pixels = malloc(n * sizeof *pixels);
        assert_non_null(pixels);
        assert_int_equal(vlm_preproc_run(&p, &image, pixels, &err), VLM_OK);
        if (digest(pixels, n * sizeof *pixels) != runs[i].digest)
            fail_msg("%u x %u: %s", image.width, image.height, runs[i].config);
        free(pixels);
        vlm_image_fini(&image);
    }
}

static void test_transparent_colour_is_white(void **state)
{
    (void)state;
    uint8_t rgb[] = {1, 2, 3, 9, 9, 9};
    const vlm_image image = {
        .rgb = rgb, .width = 2, .height = 1, .has_key = true, .key = {1, 2, 3}};
    vlm_preproc p;
    vlm_error err = {0};
    float pixels[6];
    assert_int_equal(parse("{\"do_resize\":false,\"crop_size\":{\"height\":1,\"width\":2},"
                           "\"do_rescale\":false,\"do_normalize\":false}",
                           &p, &err),
                     VLM_OK);
    assert_int_equal(vlm_preproc_run(&p, &image, pixels, &err), VLM_OK);
    const float white[6] = {255, 9, 255, 9, 255, 9};
    assert_memory_equal(pixels, white, sizeof white);
    assert_int_equal(rgb[0], 1);
    p.do_convert_rgb = false;
    assert_int_equal(vlm_preproc_run(&p, &image, pixels, &err), VLM_OK);
    const float same[6] = {1, 9, 2, 9, 3, 9};
    assert_memory_equal(pixels, same, sizeof same);
}

static void test_every_allocation_fails(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    vlm_image image = make_noise(20, 30);
    image.has_key = true;
    vlm_preproc p;
    assert_int_equal(vlm_preproc_parse(NULL, 8, &p, NULL), VLM_OK);
    float pixels[3 * 8 * 8];
    unsigned n = 1;
    for (; failmalloc_again(n); n++) {
        vlm_error err = {0};
        const vlm_status status = vlm_preproc_run(&p, &image, pixels, &err);
        const bool hit = failmalloc_hit;
        failmalloc_off();
        assert_int_equal(status, hit ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
    }
    assert_true(n > 8);
    vlm_image_fini(&image);
#else
    print_message("a sanitizer owns the allocator: not run\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_equals_transformers),
        cmocka_unit_test(test_transparent_colour_is_white),
        cmocka_unit_test(test_every_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
