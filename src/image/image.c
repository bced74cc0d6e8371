#include "image/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/codecs.h"
#include "image/orient.h"

const vlm_image_limits vlm_image_limits_default = {
    .bytes_max = (size_t)20 << 20,
    .pixels_max = (uint64_t)1 << 26,
    .side_max = 16384,
    .jpeg_scans_max = 200,
};

static const char *const format_names[] = {
#define VLM_IMAGE_FORMAT_NAME(name, text) [VLM_IMAGE_##name] = (text),
    VLM_IMAGE_FORMAT_LIST(VLM_IMAGE_FORMAT_NAME)
#undef VLM_IMAGE_FORMAT_NAME
};

static vlm_codec_fn *const codecs[] = {
    [VLM_IMAGE_JPEG] = vlm_jpeg_decode, [VLM_IMAGE_PNG] = vlm_png_decode,
    [VLM_IMAGE_WEBP] = vlm_webp_decode, [VLM_IMAGE_GIF] = vlm_gif_decode,
    [VLM_IMAGE_BMP] = vlm_bmp_decode,
};

const char *vlm_image_format_name(vlm_image_format format)
{
    return format_names[format];
}

vlm_status vlm_image_sniff(const void *data, size_t len, vlm_image_format *format, vlm_error *err)
{
    const vlm_bytes file = {data, len};
    static const struct {
        const char *magic;
        size_t len;
        vlm_image_format format;
    } table[] = {
        {"\xff\xd8\xff", 3, VLM_IMAGE_JPEG},
        {"\x89PNG\r\n\x1a\n", 8, VLM_IMAGE_PNG},
        {"GIF87a", 6, VLM_IMAGE_GIF},
        {"GIF89a", 6, VLM_IMAGE_GIF},
        {"BM", 2, VLM_IMAGE_BMP},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (vlm_bytes_starts(file, (vlm_bytes){table[i].magic, table[i].len})) {
            *format = table[i].format;
            return VLM_OK;
        }
    }
    if (len >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(file.ptr + 8, "WEBP", 4) == 0) {
        *format = VLM_IMAGE_WEBP;
        return VLM_OK;
    }
    if (len == 0) return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: the file is empty");
    return vlm_fail(err, VLM_INVALID_ARGUMENT,
                    "image: not a JPEG, PNG, WebP, GIF or BMP file by its first bytes");
}

vlm_status vlm_image_decode(const void *data, size_t len, const vlm_image_limits *limits,
                            vlm_image *out, vlm_error *err)
{
    *out = (vlm_image){0};
    if (len > limits->bytes_max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "image: the file has %zu bytes, at most %zu are "
                        "taken",
                        len, limits->bytes_max);
    vlm_image_format format = VLM_IMAGE_JPEG;
    VLM_TRY(vlm_image_sniff(data, len, &format, err));
    uint32_t orientation = 1;
    VLM_TRY(codecs[format]((vlm_bytes){data, len}, limits, out, &orientation, err));
    const vlm_status status = vlm_image_orient(out, orientation, err);
    if (status != VLM_OK) vlm_image_fini(out);
    return status;
}

void vlm_image_fini(vlm_image *image)
{
    if (!image->in_place) free(image->rgb);
    *image = (vlm_image){0};
}

vlm_status vlm_image_check_size(uint64_t width, uint64_t height, const vlm_image_limits *limits,
                                vlm_error *err)
{
    if (width == 0 || height == 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: %llu x %llu pixels is an empty picture",
                        (unsigned long long)width, (unsigned long long)height);
    if (width > limits->side_max || height > limits->side_max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "image: %llu x %llu pixels, a side may have at most %u",
                        (unsigned long long)width, (unsigned long long)height, limits->side_max);
    /* Both fit 32 bits, so that the product fits 64. */
    if (width * height > limits->pixels_max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: %llu x %llu pixels, at most %llu in all",
                        (unsigned long long)width, (unsigned long long)height,
                        (unsigned long long)limits->pixels_max);
    return VLM_OK;
}

vlm_status vlm_image_alloc(uint64_t width, uint64_t height, const vlm_image_limits *limits,
                           vlm_image *out, vlm_error *err)
{
    *out = (vlm_image){0};
    VLM_TRY(vlm_image_check_size(width, height, limits, err));
    size_t n_bytes = 0;
    if (vlm_size_mul((size_t)width, (size_t)height, &n_bytes) &&
        vlm_size_mul(n_bytes, 3, &n_bytes)) {
        out->in_place = n_bytes <= limits->place_bytes;
        out->rgb = out->in_place ? memset(limits->place, 0, n_bytes) : vlm_calloc(n_bytes, 1);
    }
    if (out->rgb == NULL) return vlm_fail_memory(err, "image: pixels");
    out->width = (uint32_t)width;
    out->height = (uint32_t)height;
    return VLM_OK;
}
