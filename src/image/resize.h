/* resize.h - resampling that equals Pillow's Image.resize on RGB8, byte for byte.
 * Two passes, each a convolution in fixed point, in the order of Pillow 13; the filter's support
 * grows with the reduction, so that every source pixel counts.
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

/* A picture lying on a larger canvas of one colour; the canvas is never built. */
typedef struct vlm_canvas {
    const vlm_image *image;
    uint32_t width, height; /* of the canvas */
    uint32_t left, top;     /* where on it the picture lies, wholly inside */
    uint8_t fill[3];        /* R G B around it */
} vlm_canvas;

typedef struct vlm_rect {
    uint32_t x, y, width, height;
} vlm_rect;

/* *dst = src at width x height, newly allocated; {0} on error.  The same size is a plain copy.
 * INVALID_ARGUMENT: an empty picture or a side of 0.  RESOURCE_EXHAUSTED: out of memory. */
VLM_MUST_USE vlm_status vlm_image_resize(const vlm_image *src, uint32_t width, uint32_t height,
                                         vlm_resample filter, vlm_image *dst, vlm_error *err);

/* The part `window` of what src would be at width x height, without making the rest: work and
 * memory follow the window, so that a crop of a huge enlargement costs nothing.
 * INVALID_ARGUMENT: an empty picture, a side of 0, or a picture or window that sticks out.
 * RESOURCE_EXHAUSTED: out of memory. */
VLM_MUST_USE vlm_status vlm_image_resize_part(const vlm_canvas *src, uint32_t width,
                                              uint32_t height, vlm_rect window, vlm_resample filter,
                                              vlm_image *dst, vlm_error *err);

#endif
