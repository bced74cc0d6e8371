/* pictures.h - vlm_pictures of the local engine: the pixels that preprocessing made of pictures,
 * each with a key that tells it from every other picture.
 * Not: decoding (image/), nor what the vision tower makes of the pixels (local_encode.c).
 * Ownership: sets are counted references; model and budget outlive all of them.
 * Threads: any; add from one at a time for one set.  What has been added never changes. */
#ifndef VLM_ENGINE_PICTURES_H
#define VLM_ENGINE_PICTURES_H

#include <stdatomic.h>

#include "base/sha256.h"
#include "engine/engine.h"
#include "model/model.h"

enum { VLM_PICTURES_KEY_LEN = VLM_SHA256_LEN };

/* What all sets together may take. */
typedef struct vlm_pictures_budget {
    size_t bytes_max;
    atomic_size_t n_bytes; /* of all sets there are */
} vlm_pictures_budget;

/* An empty set with room for n_max pictures, all of it counted in budget until the last reference
 * is dropped.  INVALID_ARGUMENT: n_max is above VLM_REQUEST_IMAGES_MAX.  RESOURCE_EXHAUSTED: out of
 * memory or of budget. */
VLM_MUST_USE vlm_status vlm_pictures_open(const vlm_model *model, uint32_t n_max,
                                          vlm_pictures_budget *budget, vlm_pictures **out,
                                          vlm_error *err);

/* Preprocess image as the next picture of the set; on error the set is as before.
 * INVALID_ARGUMENT: an empty picture, or no room is left.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_pictures_add(vlm_pictures *set, const vlm_image *image, vlm_error *err);

/* One more reference to the same set; NULL of NULL. */
vlm_pictures *vlm_pictures_ref(const vlm_pictures *set);
/* Drop a reference; the last one frees.  Legal on NULL. */
void vlm_pictures_unref(vlm_pictures *set);

/* How many have been added; 0 of NULL. */
uint32_t vlm_pictures_n(const vlm_pictures *set);
/* [vlm_model_n_pixels] of picture idx; those of the next one follow. */
const float *vlm_pictures_pixels(const vlm_pictures *set, uint32_t idx);
/* SHA-256 over the picture's size before preprocessing, the settings of preprocessing, the model's
 * type and the pixels. */
const uint8_t *vlm_pictures_key(const vlm_pictures *set, uint32_t idx);

#endif
