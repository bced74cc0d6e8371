/* pictures.h - the pictures named on the command line.  Threads: one. */
#ifndef VLM_CLI_PICTURES_H
#define VLM_CLI_PICTURES_H

#include "cli/options.h"
#include "engine/engine.h"
#include "image/image.h"

/* --max-image-bytes and the like. */
vlm_image_limits vlm_cli_image_limits(const vlm_options *opt);

/* Decode the file into out, within the limits of the options.  Every status; the text begins with
 * the file's name as it was given.  Free with vlm_image_fini. */
VLM_MUST_USE vlm_status vlm_cli_read_picture(const char *path, const vlm_options *opt,
                                             vlm_image *out, vlm_error *err);

/* The same into a set of the engine. */
VLM_MUST_USE vlm_status vlm_cli_add_picture(vlm_engine *engine, vlm_pictures *set, const char *path,
                                            const vlm_options *opt, vlm_error *err);

/* All of opt->image, in order; NULL when there is none. */
VLM_MUST_USE vlm_status vlm_cli_read_pictures(vlm_engine *engine, const vlm_options *opt,
                                              vlm_pictures **out, vlm_error *err);

#endif
