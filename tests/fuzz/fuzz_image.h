/* fuzz_image.h - the body of the fuzz targets of the picture decoders, one of which each forces. */
#ifndef VLM_TESTS_FUZZ_IMAGE_H
#define VLM_TESTS_FUZZ_IMAGE_H

#include "fuzz/fuzz.h"
#include "image/codecs.h"
#include "image/image.h"
#include "image/orient.h"

/* Small, so that a run takes no longer than the bytes deserve. */
static const vlm_image_limits fuzz_image_limits = {
    .bytes_max = (size_t)1 << 20, .pixels_max = 1 << 18, .side_max = 2048, .jpeg_scans_max = 20};

static void fuzz_check_image(const vlm_image *image)
{
    FUZZ_CHECK(image->rgb != NULL);
    FUZZ_CHECK(image->width >= 1 && image->width <= fuzz_image_limits.side_max);
    FUZZ_CHECK(image->height >= 1 && image->height <= fuzz_image_limits.side_max);
    const size_t n = (size_t)image->width * image->height;
    FUZZ_CHECK(n <= fuzz_image_limits.pixels_max);
    /* Every byte is there, and under a memory sanitizer was written. */
    volatile uint8_t sink = 0;
    for (size_t i = 0; i < n * 3; i++) sink = (uint8_t)(sink ^ image->rgb[i]);
}

static int fuzz_decode(vlm_codec_fn *codec, const uint8_t *data, size_t len)
{
    vlm_image image = {0};
    vlm_error err = {0};
    uint32_t orientation = 0;
    const vlm_bytes file = {(const char *)data, len};
    const vlm_status status = codec(file, &fuzz_image_limits, &image, &orientation, &err);
    if (status == VLM_OK) {
        FUZZ_CHECK(orientation >= 1 && orientation <= 8);
        fuzz_check_image(&image);
        FUZZ_CHECK(vlm_image_orient(&image, orientation, &err) == VLM_OK);
        fuzz_check_image(&image);
    } else {
        FUZZ_CHECK(image.rgb == NULL);
        FUZZ_CHECK(status == VLM_INVALID_ARGUMENT || status == VLM_RESOURCE_EXHAUSTED);
        FUZZ_CHECK(err.code == status && err.msg[0] != 0);
    }
    vlm_image_fini(&image);
    return 0;
}

#endif
