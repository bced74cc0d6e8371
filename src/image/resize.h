/* resize.h - resampling that equals Pillow's Image.resize on RGB8, byte for byte.
 * Two passes, rows first, each a convolution in fixed point; the filter's support grows with the
 * reduction, so that every source pixel counts.
 * Not: padding, cropping (model/preproc.h) or colour management; values are taken as they lie.
 * Threads: pure. */
#ifndef VLM_IMAGE_RESIZE_H
#define VLM_IMAGE_RESIZE_H

#include <stdint.h>

#include "base/status.h"
#include "image/image.h"

/* X(enum, text): the position in the list is Pillow's number, as in preprocessor_config.json. */
#define VLM_RESAMPLE_LIST(X)                                                                       \
    X(NEAREST, "nearest")                                                                          \
    X(LANCZOS, "lanczos")                                                                          \
    X(BILINEAR, "bilinear")                                                                        \
    X(BICUBIC, "bicubic")                                                                          \
    X(BOX, "box")                                                                                  \
    X(HAMMING, "hamming")

typedef enum vlm_resample {
#define VLM_RESAMPLE_ENUM(name, text) VLM_RESAMPLE_##name,
    VLM_RESAMPLE_LIST(VLM_RESAMPLE_ENUM)
#undef VLM_RESAMPLE_ENUM
        VLM_RESAMPLE_N
} vlm_resample;

/* *dst = src at width x height, newly allocated; {0} on error.  The same size is a plain copy.
 * INVALID_ARGUMENT: an empty picture, a side of 0 or above 2^20, or more than 2^28 pixels.
 * RESOURCE_EXHAUSTED: out of memory. */
VLM_MUST_USE vlm_status vlm_image_resize(const vlm_image *src, uint32_t width, uint32_t height,
                                         vlm_resample filter, vlm_image *dst, vlm_error *err);

#endif
