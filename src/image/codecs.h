/* codecs.h - the decoders behind image.h, one file each, and what they share.
 * Not: for anyone outside image/ and its tests; everything else sees image.h.
 * Every decoder checks the limits with vlm_image_alloc before it takes memory for pixels, never
 * prints, aborts or exits, and leaves *out at {0} on error.  Orientation is reported, not applied.
 * Threads: pure. */
#ifndef VLM_IMAGE_CODECS_H
#define VLM_IMAGE_CODECS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "image/image.h"

/* file: the whole file, already known by its first bytes.  *orientation: EXIF's 1..8.
 * INVALID_ARGUMENT, RESOURCE_EXHAUSTED as vlm_image_decode. */
typedef vlm_status vlm_codec_fn(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                                uint32_t *orientation, vlm_error *err);

VLM_MUST_USE vlm_codec_fn vlm_jpeg_decode;
VLM_MUST_USE vlm_codec_fn vlm_png_decode;
VLM_MUST_USE vlm_codec_fn vlm_webp_decode;
VLM_MUST_USE vlm_codec_fn vlm_gif_decode;
VLM_MUST_USE vlm_codec_fn vlm_bmp_decode;

/* INVALID_ARGUMENT when a side is 0 or a limit is exceeded. */
VLM_MUST_USE vlm_status vlm_image_check_size(uint64_t width, uint64_t height,
                                             const vlm_image_limits *limits, vlm_error *err);

/* vlm_image_check_size, then *out = width x height black pixels. */
VLM_MUST_USE vlm_status vlm_image_alloc(uint64_t width, uint64_t height,
                                        const vlm_image_limits *limits, vlm_image *out,
                                        vlm_error *err);

/* How to read integers from a file; the caller has checked that the bytes are there. */
static inline uint32_t vlm_read_u16le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static inline uint32_t vlm_read_u32le(const uint8_t *p)
{
    return vlm_read_u16le(p) | vlm_read_u16le(p + 2) << 16;
}
static inline uint32_t vlm_read_u32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

#endif
