/* bench_pictures.h - pictures made from a number, for measurements: the same number gives always
 * the same picture, another number another one, of another size as a rule.
 * Not: pictures of something.  Threads: pure. */
#ifndef VLM_CLI_BENCH_PICTURES_H
#define VLM_CLI_BENCH_PICTURES_H

#include <stdint.h>

#include "base/status.h"
#include "image/image.h"

enum { VLM_BENCH_SIDE_MIN = 96, VLM_BENCH_SIDE_MAX = 383 };

/* Coloured fields with some noise, both sides within the limits above.  Fields, so that what is
 * left after shrinking differs too.  Freed by vlm_image_fini.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_bench_picture(uint32_t n, vlm_image *out, vlm_error *err);

#endif
