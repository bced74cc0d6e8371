/* image.h - hostile bytes to RGB8: JPEG, PNG, WebP, GIF (first frame) and BMP.
 * The pixels are those of Pillow's ImageOps.exif_transpose(img).convert("RGB"): alpha dropped,
 * palettes resolved, CMYK by Pillow's formula, orientation applied.  One deviation on purpose:
 * 16-bit samples keep their high byte, gray too (Pillow clips those).
 * Not: resizing (resize.h), nor files or URLs; nothing is guessed from a name or a MIME type.
 * Ownership: vlm_image owns its pixels.  Threads: pure; any number at a time. */
#ifndef VLM_IMAGE_IMAGE_H
#define VLM_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* rgb[(y * width + x) * 3 + channel], R G B, top row first; malloc'ed, freed by vlm_image_fini,
 * unless it lies in the place that the limits named. */
typedef struct vlm_image {
    uint8_t *rgb;
    uint32_t width, height; /* pixels */
    bool in_place;          /* rgb is vlm_image_limits.place: not freed */
    /* The one colour that a PNG's tRNS or a GIF's graphics control declares transparent.  The
     * pixels are not touched by it, but Transformers paints them white (model/preproc.h). */
    bool has_key;
    uint8_t key[3]; /* R G B */
} vlm_image;

/* X(enum, text) */
#define VLM_IMAGE_FORMAT_LIST(X)                                                                   \
    X(JPEG, "JPEG")                                                                                \
    X(PNG, "PNG")                                                                                  \
    X(WEBP, "WebP")                                                                                \
    X(GIF, "GIF")                                                                                  \
    X(BMP, "BMP")

typedef enum vlm_image_format {
#define VLM_IMAGE_FORMAT_ENUM(name, text) VLM_IMAGE_##name,
    VLM_IMAGE_FORMAT_LIST(VLM_IMAGE_FORMAT_ENUM)
#undef VLM_IMAGE_FORMAT_ENUM
} vlm_image_format;

/* Checked against the file's header, before any pixel is allocated. */
typedef struct vlm_image_limits {
    size_t bytes_max;        /* of the file */
    uint64_t pixels_max;     /* width * height */
    uint32_t side_max;       /* width, height */
    uint32_t jpeg_scans_max; /* scans of a progressive JPEG, each of which costs a pass */

    /* Where the pixels go if they fit, instead of memory of their own; a picture that its EXIF data
     * turns does not.  NULL: nowhere. */
    void *place;
    size_t place_bytes;
} vlm_image_limits;

/* 20 MiB, 2^26 pixels, 16384 pixels a side, 200 scans. */
extern const vlm_image_limits vlm_image_limits_default;

/* "JPEG" for VLM_IMAGE_JPEG. */
const char *vlm_image_format_name(vlm_image_format format);

/* The format by the first bytes alone.  INVALID_ARGUMENT when they are none of the list's. */
VLM_MUST_USE vlm_status vlm_image_sniff(const void *data, size_t len, vlm_image_format *format,
                                        vlm_error *err);

/* Decode a whole file; on error *out is {0}.  Width and height are at least 1.
 * INVALID_ARGUMENT: unknown format, a limit exceeded, damaged or truncated data.
 * RESOURCE_EXHAUSTED: out of memory. */
VLM_MUST_USE vlm_status vlm_image_decode(const void *data, size_t len,
                                         const vlm_image_limits *limits, vlm_image *out,
                                         vlm_error *err);

/* Frees the pixels; *image is {0} after it.  Legal on {0}, and again. */
void vlm_image_fini(vlm_image *image);

#endif
