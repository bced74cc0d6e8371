#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { NAME_LEN_MAX = 256, SHAPE_TEXT_LEN_MAX = 192 };

struct vlm_weights {
    const vlm_safetensors *files;
    vlm_backend *backend;
    vlm_weight_dtype dtype;
    void **converted; /* [n_converted] device memory */
    size_t n_converted, cap_converted;
    size_t mapped_bytes, converted_bytes;
};

vlm_status vlm_weights_new(const vlm_safetensors *files, vlm_backend *backend,
                           vlm_weight_dtype dtype, vlm_weights **out, vlm_error *err)
{
    *out = NULL;
    vlm_weights *w = calloc(1, sizeof *w);
    if (w == NULL) return vlm_fail_memory(err, "weights");
    w->files = files;
    w->backend = backend;
    w->dtype = dtype;
    *out = w;
    return VLM_OK;
}

void vlm_weights_free(vlm_weights *w)
{
    if (w == NULL) return;
    for (size_t i = 0; i < w->n_converted; i++) w->backend->ops->free(w->backend, w->converted[i]);
    free(w->converted);
    free(w);
}

static vlm_status join(char *name, const char *prefix, const char *rest, vlm_error *err)
{
    const int n = snprintf(name, NAME_LEN_MAX, "%s%s", prefix, rest);
    if (n < 0 || n >= NAME_LEN_MAX)
        return vlm_fail(err, VLM_INTERNAL, "tensor name %s… is too long", prefix);
    return VLM_OK;
}

vlm_status vlm_weights_prefix(const vlm_weights *w, const char *const *prefixes, size_t n_prefixes,
                              const char *probe, const char **out, vlm_error *err)
{
    char name[NAME_LEN_MAX];
    for (size_t i = 0; i < n_prefixes; i++) {
        VLM_TRY(join(name, prefixes[i], probe, err));
        if (vlm_safetensors_find(w->files, name) == NULL) continue;
        *out = prefixes[i];
        return VLM_OK;
    }
    return vlm_fail(err, VLM_NOT_FOUND, "tensor %s%s is missing", prefixes[0], probe);
}

static void shape_text(const vlm_st_tensor *t, char text[SHAPE_TEXT_LEN_MAX])
{
    size_t len = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < t->rank && len + 24 < SHAPE_TEXT_LEN_MAX; i++) {
        const int n = snprintf(text + len, SHAPE_TEXT_LEN_MAX - len, "%s%llu", i > 0 ? ", " : "",
                               (unsigned long long)t->shape[i]);
        len += n > 0 ? (size_t)n : 0;
    }
}

static bool shape_fits(const vlm_st_tensor *t, uint32_t n_rows, uint32_t n_cols, bool is_vector)
{
    if (is_vector) return t->rank == 1 && t->shape[0] == n_cols;
    if (t->rank < 2 || t->shape[0] != n_rows) return false;
    uint64_t cols = 1;
    for (uint32_t i = 1; i < t->rank; i++)
        if (!vlm_u64_mul(cols, t->shape[i], &cols)) return false;
    return cols == n_cols;
}

/* Elements at any alignment to host [n], as they are or narrowed. */
static void fill(void *host, vlm_dtype to, const vlm_st_tensor *t, size_t n)
{
    const size_t size = vlm_dtype_size(t->dtype);
    if (to == t->dtype) {
        memcpy(host, t->data, n * size);
        return;
    }
    uint16_t *out = host;
    for (size_t i = 0; i < n; i++) {
        float value;
        uint16_t half;
        memcpy(size == 4 ? (void *)&value : (void *)&half, (const char *)t->data + i * size, size);
        if (t->dtype == VLM_DTYPE_F16) value = vlm_f16_to_f32(half);
        if (t->dtype == VLM_DTYPE_BF16) value = vlm_bf16_to_f32(half);
        out[i] = to == VLM_DTYPE_F16 ? vlm_f32_to_f16(value) : vlm_f32_to_bf16(value);
    }
}

/* Put a tensor into memory of our own: narrowed, or only moved to where its elements are aligned.
 */
static vlm_status convert(vlm_weights *w, const vlm_st_tensor *t, vlm_dtype to, const void **out,
                          vlm_error *err)
{
    const size_t n = (size_t)(t->n_bytes / vlm_dtype_size(t->dtype));
    size_t n_bytes;
    if (!vlm_size_mul(n, vlm_dtype_size(to), &n_bytes)) return vlm_fail_memory(err, t->name);
    if (!vlm_grow((void **)&w->converted, &w->cap_converted, w->n_converted + 1, SIZE_MAX,
                  sizeof *w->converted))
        return vlm_fail_memory(err, "weights");
    void *host = vlm_alloc_aligned(n_bytes);
    if (host == NULL) return vlm_fail_memory(err, t->name);
    fill(host, to, t, n);
    void *device;
    const vlm_status status = w->backend->ops->alloc(w->backend, n_bytes, &device, err);
    if (status == VLM_OK) {
        w->backend->ops->upload(w->backend, device, host, n_bytes);
        w->backend->ops->sync(w->backend);
        w->converted[w->n_converted++] = device;
        w->converted_bytes += n_bytes;
        *out = device;
    }
    free(host);
    return status;
}

static vlm_status bind(vlm_weights *w, const char *prefix, const char *rest, uint32_t n_rows,
                       uint32_t n_cols, bool is_vector, vlm_weight *out, vlm_error *err)
{
    char name[NAME_LEN_MAX], shape[SHAPE_TEXT_LEN_MAX];
    *out = (vlm_weight){0};
    VLM_TRY(join(name, prefix, rest, err));
    const vlm_st_tensor *t = vlm_safetensors_find(w->files, name);
    if (t == NULL) return vlm_fail(err, VLM_NOT_FOUND, "tensor %s is missing", name);
    if (!shape_fits(t, n_rows, n_cols, is_vector)) {
        shape_text(t, shape);
        if (is_vector)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "tensor %s has shape [%s], config.json asks for [%u]", name, shape,
                            n_cols);
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "tensor %s has shape [%s], config.json asks for [%u, %u]", name, shape,
                        n_rows, n_cols);
    }
    if (!t->dtype_known)
        return vlm_fail(err, VLM_UNIMPLEMENTED,
                        "tensor %s has dtype %s; f32, f16 and bf16 can be "
                        "computed",
                        name, t->dtype_name);

    vlm_dtype dtype = t->dtype;
    if (!is_vector && w->dtype == VLM_WEIGHT_DTYPE_F16) dtype = VLM_DTYPE_F16;
    if (!is_vector && w->dtype == VLM_WEIGHT_DTYPE_BF16) dtype = VLM_DTYPE_BF16;
    const void *data = NULL;
    const bool aligned = (uintptr_t)t->data % vlm_dtype_size(t->dtype) == 0;
    if (dtype != t->dtype || !aligned) {
        VLM_TRY(convert(w, t, dtype, &data, err));
    } else {
        VLM_TRY(w->backend->ops->weight(w->backend, t->data, (size_t)t->n_bytes, &data, err));
        w->mapped_bytes += (size_t)t->n_bytes;
    }
    *out = (vlm_weight){.data = data, .dtype = dtype, .n_rows = n_rows, .n_cols = n_cols};
    return VLM_OK;
}

vlm_status vlm_weights_matrix(vlm_weights *w, const char *prefix, const char *name, uint32_t n_rows,
                              uint32_t n_cols, vlm_weight *out, vlm_error *err)
{
    return bind(w, prefix, name, n_rows, n_cols, false, out, err);
}

vlm_status vlm_weights_vector(vlm_weights *w, const char *prefix, const char *name, uint32_t n,
                              vlm_weight *out, vlm_error *err)
{
    return bind(w, prefix, name, 1, n, true, out, err);
}

size_t vlm_weights_mapped_bytes(const vlm_weights *w)
{
    return w->mapped_bytes;
}

size_t vlm_weights_converted_bytes(const vlm_weights *w)
{
    return w->converted_bytes;
}
