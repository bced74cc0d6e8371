#ifndef VLM_ENGINE_PICTURES_H
#define VLM_ENGINE_PICTURES_H
#include "engine/slots.h"
#include "model/model.h"
typedef struct vlm_pictures vlm_pictures;
vlm_pictures *vlm_pictures_ref(vlm_pictures *p);
void vlm_pictures_unref(vlm_pictures *p);
const float *vlm_pictures_pixels(const vlm_pictures *p, uint32_t i);
const vlm_slot_key *vlm_pictures_key(const vlm_pictures *p, uint32_t i);
vlm_pictures *vlm_pictures_shim(const vlm_model *m, float *pixels, uint32_t n);
#endif
