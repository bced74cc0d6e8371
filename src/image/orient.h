/* orient.h - turns and mirrors a picture as EXIF's Orientation asks.
 * Not: finding the orientation (exif.h).  Threads: pure. */
#ifndef VLM_IMAGE_ORIENT_H
#define VLM_IMAGE_ORIENT_H

#include <stdint.h>

#include "base/status.h"
#include "image/image.h"

/* orientation 1..8 (EXIF 2.32, section 4.6.4.A): bring the picture upright.  5..8 swap width and
 * height.  RESOURCE_EXHAUSTED: out of memory, *image unchanged. */
VLM_MUST_USE vlm_status vlm_image_orient(vlm_image *image, uint32_t orientation, vlm_error *err);

#endif
