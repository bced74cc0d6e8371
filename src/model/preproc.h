/* preproc.h - a picture to the pixels that a vision tower reads, as preprocessor_config.json says:
 * pad to a square, resize, crop the centre, rescale, normalise, in this order.
 * Source: Transformers' CLIPImageProcessorPil and LlavaImageProcessorPil (do_pad); the bytes before
 * rescaling are Pillow's.  Transformers drops an alpha channel when it loads a picture, but a
 * single transparent colour survives that and is painted white. Not: processors that cut a picture
 * into tiles or keep its own size; they are refused by name. Threads: a vlm_preproc is plain data;
 * any number may run at a time. */
#ifndef VLM_MODEL_PREPROC_H
#define VLM_MODEL_PREPROC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"
#include "image/image.h"
#include "image/resize.h"

typedef struct vlm_preproc {
    bool do_convert_rgb; /* pixels of the picture's transparent colour become white, first */
    bool do_pad;         /* to a square in the mean colour, before resizing */
    bool do_resize;
    bool do_center_crop;
    bool do_rescale;
    bool do_normalize;
    vlm_resample resample;
    uint32_t shortest_edge;           /* pixels; 0: size_width x size_height instead */
    uint32_t size_width, size_height; /* pixels */
    uint32_t crop_width, crop_height; /* pixels */
    double rescale_factor;
    double mean[3], std[3];         /* R, G, B */
    uint32_t out_width, out_height; /* pixels of what vlm_preproc_run writes */
} vlm_preproc;

/* Read the root of preprocessor_config.json.  NULL: the folder has none, and CLIP's defaults for
 * image_size (pixels a side) are taken.  What would not give every picture the same size is
 * refused. INVALID_ARGUMENT names a bad field, UNIMPLEMENTED one that is not supported. */
VLM_MUST_USE vlm_status vlm_preproc_parse(const vlm_json *config, uint32_t image_size,
                                          vlm_preproc *out, vlm_error *err);

/* pixels [3, out_height, out_width] f32, R G B planes.
 * INVALID_ARGUMENT: an empty picture.
 * RESOURCE_EXHAUSTED: out of memory. */
VLM_MUST_USE vlm_status vlm_preproc_run(const vlm_preproc *p, const vlm_image *image, float *pixels,
                                        vlm_error *err);

#endif
