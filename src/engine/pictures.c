#include "engine/pictures.h"
#include <stdatomic.h>
#include <stdlib.h>
#include "base/sha256.h"
struct vlm_pictures { atomic_uint refs; float *pixels; size_t n_pixels; vlm_slot_key keys[16]; };
vlm_pictures *vlm_pictures_ref(vlm_pictures *p) { atomic_fetch_add(&p->refs, 1); return p; }
void vlm_pictures_unref(vlm_pictures *p) { if (p == NULL || atomic_fetch_sub(&p->refs, 1) != 1) return; free(p->pixels); free(p); }
const float *vlm_pictures_pixels(const vlm_pictures *p, uint32_t i) { return p->pixels + i * p->n_pixels; }
const vlm_slot_key *vlm_pictures_key(const vlm_pictures *p, uint32_t i) { return &p->keys[i]; }
vlm_pictures *vlm_pictures_shim(const vlm_model *m, float *pixels, uint32_t n)
{
    vlm_pictures *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->refs = 1; p->pixels = pixels; p->n_pixels = vlm_model_n_pixels(m);
    for (uint32_t i = 0; i < n; i++) vlm_sha256(pixels + i * p->n_pixels, p->n_pixels * 4, p->keys[i].bytes);
    return p;
}
