#include "engine/pictures.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

enum { KEY_HEAD_MAX = 256 };

struct vlm_pictures {
    atomic_uint n_refs;
    const vlm_model *model;
    vlm_pictures_budget *budget;
    size_t n_bytes; /* counted in budget */
    uint32_t n, n_max;
    float *pixels; /* [n_max, vlm_model_n_pixels], lazily backed */
    uint8_t keys[VLM_REQUEST_IMAGES_MAX][VLM_PICTURES_KEY_LEN];
};

/* All or nothing: what is refused is never counted, or two that ask at once could refuse each
 * other. */
static vlm_status take(vlm_pictures_budget *budget, size_t n, vlm_error *err)
{
    size_t before = atomic_load(&budget->n_bytes);
    do {
        if (n > budget->bytes_max || before > budget->bytes_max - n)
            return vlm_fail(err, VLM_RESOURCE_EXHAUSTED,
                            "the pictures of the requests that wait take %zu MiB already",
                            before >> 20);
    } while (!atomic_compare_exchange_weak(&budget->n_bytes, &before, before + n));
    return VLM_OK;
}

vlm_status vlm_pictures_open(const vlm_model *model, uint32_t n_max, vlm_pictures_budget *budget,
                             vlm_pictures **out, vlm_error *err)
{
    size_t n_floats, n_bytes;
    *out = NULL;
    if (n_max > VLM_REQUEST_IMAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: %u pictures, at most %d", n_max,
                        VLM_REQUEST_IMAGES_MAX);
    if (!vlm_size_mul(vlm_model_n_pixels(model), n_max, &n_floats) ||
        !vlm_size_mul(n_floats, sizeof(float), &n_bytes))
        return vlm_fail_memory(err, "pixels");
    VLM_TRY(take(budget, n_bytes, err));
    vlm_pictures *set = calloc(1, sizeof *set);
    float *pixels = vlm_calloc(n_floats, sizeof *pixels);
    if (set == NULL || pixels == NULL) {
        free(set);
        free(pixels);
        atomic_fetch_sub(&budget->n_bytes, n_bytes);
        return vlm_fail_memory(err, "pixels");
    }
    atomic_init(&set->n_refs, 1);
    set->model = model;
    set->budget = budget;
    set->n_bytes = n_bytes;
    set->n_max = n_max;
    set->pixels = pixels;
    *out = set;
    return VLM_OK;
}

/* What a key is made of besides the pixels, field by field: a struct has padding. */
typedef struct key_head {
    uint8_t data[KEY_HEAD_MAX];
    size_t len;
} key_head;

/* Little-endian. */
static void put_u32(key_head *h, uint32_t value)
{
    assert(h->len + 4 <= KEY_HEAD_MAX);
    for (int i = 0; i < 4; i++) h->data[h->len++] = (uint8_t)(value >> (8 * i));
}

static void put_f64(key_head *h, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u32(h, (uint32_t)bits);
    put_u32(h, (uint32_t)(bits >> 32));
}

static void put_preproc(key_head *h, const vlm_preproc *p)
{
    put_u32(h, p->do_convert_rgb);
    put_u32(h, p->do_pad);
    put_u32(h, p->do_resize);
    put_u32(h, p->do_center_crop);
    put_u32(h, p->do_rescale);
    put_u32(h, p->do_normalize);
    put_u32(h, (uint32_t)p->resample);
    put_u32(h, p->shortest_edge);
    put_u32(h, p->size_width);
    put_u32(h, p->size_height);
    put_u32(h, p->crop_width);
    put_u32(h, p->crop_height);
    put_f64(h, p->rescale_factor);
    for (int i = 0; i < 3; i++) put_f64(h, p->mean[i]);
    for (int i = 0; i < 3; i++) put_f64(h, p->std[i]);
    put_u32(h, p->out_width);
    put_u32(h, p->out_height);
}

static void make_key(const vlm_model *model, const vlm_image *image, const float *pixels,
                     uint8_t key[VLM_PICTURES_KEY_LEN])
{
    const vlm_bytes type = vlm_bytes_of(vlm_model_config(model)->model_type);
    key_head head = {.len = 0};
    put_u32(&head, image->width);
    put_u32(&head, image->height);
    put_preproc(&head, vlm_model_preproc(model));
    put_u32(&head, (uint32_t)type.len);
    const vlm_bytes parts[] = {
        {.ptr = (const char *)head.data, .len = head.len},
        type,
        {.ptr = (const char *)pixels, .len = vlm_model_n_pixels(model) * sizeof *pixels},
    };
    vlm_sha256_parts(parts, sizeof parts / sizeof *parts, key);
}

vlm_status vlm_pictures_add(vlm_pictures *set, const vlm_image *image, vlm_error *err)
{
    if (set->n == set->n_max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: more than the %u pictures announced",
                        set->n_max);
    float *pixels = set->pixels + set->n * vlm_model_n_pixels(set->model);
    VLM_TRY(vlm_model_preprocess(set->model, image, pixels, err));
    make_key(set->model, image, pixels, set->keys[set->n]);
    set->n++;
    return VLM_OK;
}

vlm_pictures *vlm_pictures_ref(const vlm_pictures *set)
{
    vlm_pictures *same = (vlm_pictures *)(uintptr_t)set;
    if (same != NULL) atomic_fetch_add(&same->n_refs, 1);
    return same;
}

void vlm_pictures_unref(vlm_pictures *set)
{
    if (set == NULL || atomic_fetch_sub(&set->n_refs, 1) > 1) return;
    atomic_fetch_sub(&set->budget->n_bytes, set->n_bytes);
    free(set->pixels);
    free(set);
}

uint32_t vlm_pictures_n(const vlm_pictures *set)
{
    return set == NULL ? 0 : set->n;
}

const float *vlm_pictures_pixels(const vlm_pictures *set, uint32_t idx)
{
    assert(idx < set->n_max);
    return set->pixels + idx * vlm_model_n_pixels(set->model);
}

const uint8_t *vlm_pictures_key(const vlm_pictures *set, uint32_t idx)
{
    assert(idx < set->n_max);
    return set->keys[idx];
}
