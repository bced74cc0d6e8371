#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum { NAME_LEN_MAX = 256, SHAPE_TEXT_LEN_MAX = 192 };
/* Pages of a source are given back from here on: its next reader is another start. */
enum { FORGET_BYTES_MIN = 1 << 20 };

/* A tensor that is bound, for vlm_weights_write. */
typedef struct bound {
    vlm_st_tensor tensor;
    char *name; /* of a packed matrix, else NULL: the files' own */
} bound;

struct vlm_weights {
    const vlm_safetensors *files;
    vlm_backend *backend;
    vlm_weights_options options;
    void **converted; /* [n_converted] device memory */
    size_t n_converted, cap_converted;
    void **packed; /* [n_packed] host memory */
    size_t n_packed, cap_packed;
    bound *bounds;
    size_t n_bounds, cap_bounds;
    size_t mapped_bytes, converted_bytes;
    uint64_t n_done, n_total; /* bytes of matrices in the files, for progress */
};

static vlm_weight_dtype vision_dtype(const vlm_weights_options *o)
{
    if (o->vision_dtype != VLM_WEIGHT_DTYPE_AUTO) return o->vision_dtype;
    const bool is_int = o->dtype == VLM_WEIGHT_DTYPE_Q8 || o->dtype == VLM_WEIGHT_DTYPE_Q4;
    return is_int ? VLM_WEIGHT_DTYPE_Q8 : o->dtype;
}

vlm_status vlm_weights_new(const vlm_safetensors *files, vlm_backend *backend,
                           const vlm_weights_options *options, vlm_weights **out, vlm_error *err)
{
    *out = NULL;
    vlm_weights *w = calloc(1, sizeof *w);
    if (w == NULL) return vlm_fail_memory(err, "weights");
    w->files = files;
    w->backend = backend;
    w->options = *options;
    w->options.vision_dtype = vision_dtype(options);
    for (size_t i = 0; i < vlm_safetensors_n(files); i++) {
        const vlm_st_tensor *t = vlm_safetensors_at(files, i);
        if (t->rank > 1) w->n_total += t->n_bytes;
    }
    *out = w;
    return VLM_OK;
}

void vlm_weights_free(vlm_weights *w)
{
    if (w == NULL) return;
    for (size_t i = 0; i < w->n_converted; i++) w->backend->ops->free(w->backend, w->converted[i]);
    for (size_t i = 0; i < w->n_packed; i++) free(w->packed[i]);
    for (size_t i = 0; i < w->n_bounds; i++) free(w->bounds[i].name);
    free(w->converted);
    free(w->packed);
    free(w->bounds);
    free(w);
}

static vlm_status join(char *name, const char *prefix, const char *rest, vlm_error *err)
{
    const int n = snprintf(name, NAME_LEN_MAX, "%s%s", prefix, rest);
    if (n < 0 || n >= NAME_LEN_MAX)
        return vlm_fail(err, VLM_INTERNAL, "tensor name %s… is too long", prefix);
    return VLM_OK;
}

/* The name under which a packed matrix is kept: the order of its bytes is a part of it. */
static bool packed_name(const vlm_weights *w, const char *name, vlm_dtype dtype,
                        char out[NAME_LEN_MAX])
{
    const int n = snprintf(out, NAME_LEN_MAX, "%s.%s.%s", name, vlm_dtype_name(dtype),
                           w->backend->ops->pack_layout);
    return n >= 0 && n < NAME_LEN_MAX;
}

/* A matrix packed in any way; NULL when there is none. */
static const vlm_st_tensor *find_packed(const vlm_weights *w, const vlm_safetensors *files,
                                        const char *name, vlm_dtype *dtype)
{
    char packed[NAME_LEN_MAX];
    for (int d = VLM_N_DTYPES; d < VLM_N_WEIGHT_DTYPES; d++) {
        if (!packed_name(w, name, (vlm_dtype)d, packed)) continue;
        const vlm_st_tensor *t = vlm_safetensors_find(files, packed);
        *dtype = (vlm_dtype)d;
        if (t != NULL) return t;
    }
    return NULL;
}

/* Whether the files hold a matrix packed as another version did it. */
static bool is_packed_otherwise(const vlm_weights *w, const char *name)
{
    const size_t len = strlen(name);
    for (size_t i = 0; i < vlm_safetensors_n(w->files); i++) {
        const char *other = vlm_safetensors_at(w->files, i)->name;
        if (strncmp(other, name, len) != 0 || other[len] != '.') continue;
        for (int d = VLM_N_DTYPES; d < VLM_N_WEIGHT_DTYPES; d++) {
            const char *dtype = vlm_dtype_name((vlm_dtype)d);
            const size_t dtype_len = strlen(dtype);
            if (strncmp(other + len + 1, dtype, dtype_len) == 0 &&
                other[len + 1 + dtype_len] == '.')
                return true;
        }
    }
    return false;
}

vlm_status vlm_weights_prefix(const vlm_weights *w, const char *const *prefixes, size_t n_prefixes,
                              const char *probe, const char **out, vlm_error *err)
{
    char name[NAME_LEN_MAX];
    for (size_t i = 0; i < n_prefixes; i++) {
        vlm_dtype dtype;
        VLM_TRY(join(name, prefixes[i], probe, err));
        if (vlm_safetensors_find(w->files, name) == NULL &&
            find_packed(w, w->files, name, &dtype) == NULL)
            continue;
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

/* The tensor of that name, which kernels can read and which has the shape. */
static vlm_status find_tensor(const vlm_weights *w, const char *name, uint32_t n_rows,
                              uint32_t n_cols, bool is_vector, const vlm_st_tensor **out,
                              vlm_error *err)
{
    char shape[SHAPE_TEXT_LEN_MAX];
    const vlm_st_tensor *t = vlm_safetensors_find(w->files, name);
    if (t == NULL && is_packed_otherwise(w, name))
        return vlm_fail(err, VLM_UNIMPLEMENTED,
                        "tensor %s is packed in an order that this version does not read: make the "
                        "folder anew with vlmd quantize",
                        name);
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
    *out = t;
    return VLM_OK;
}

static vlm_status remember(vlm_weights *w, const vlm_st_tensor *t, const char *name, vlm_error *err)
{
    if (!vlm_grow((void **)&w->bounds, &w->cap_bounds, w->n_bounds + 1, SIZE_MAX,
                  sizeof *w->bounds))
        return vlm_fail_memory(err, "weights");
    bound *b = &w->bounds[w->n_bounds];
    *b = (bound){.tensor = *t};
    if (name != NULL) {
        b->name = strdup(name);
        if (b->name == NULL) return vlm_fail_memory(err, "weights");
        b->tensor.name = b->name;
    }
    w->n_bounds++;
    return VLM_OK;
}

/* Bind a tensor as it is, or narrowed. */
static vlm_status bind_stored(vlm_weights *w, const vlm_st_tensor *t, vlm_dtype dtype,
                              uint32_t n_rows, uint32_t n_cols, vlm_weight *out, vlm_error *err)
{
    VLM_TRY(remember(w, t, NULL, err));
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

/* Packed bytes that lie in a file. */
static vlm_status bind_packed(vlm_weights *w, const vlm_st_tensor *t, const char *name,
                              vlm_dtype dtype, uint32_t n_rows, uint32_t n_cols, vlm_weight *out,
                              vlm_error *err)
{
    const size_t want = w->backend->ops->packed_bytes(w->backend, dtype, n_rows, n_cols);
    if (t->n_bytes != want)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "tensor %s has %llu bytes, a packed matrix [%u, %u] has %zu", t->name,
                        (unsigned long long)t->n_bytes, n_rows, n_cols, want);
    const void *data = NULL;
    VLM_TRY(w->backend->ops->reserve(w->backend, n_cols, err));
    VLM_TRY(remember(w, t, name, err));
    VLM_TRY(w->backend->ops->weight(w->backend, t->data, want, &data, err));
    w->mapped_bytes += want;
    *out = (vlm_weight){.data = data, .dtype = dtype, .n_rows = n_rows, .n_cols = n_cols};
    return VLM_OK;
}

static void count_progress(vlm_weights *w, uint64_t n_bytes)
{
    w->n_done += n_bytes;
    if (w->options.progress != NULL) w->options.progress(w->options.user, w->n_done, w->n_total);
}

/* Pack a tensor into memory of our own. */
static vlm_status pack(vlm_weights *w, const vlm_st_tensor *t, const char *name, vlm_dtype dtype,
                       uint32_t n_rows, uint32_t n_cols, vlm_weight *out, vlm_error *err)
{
    const vlm_backend_ops *ops = w->backend->ops;
    const size_t n_bytes = ops->packed_bytes(w->backend, dtype, n_rows, n_cols);
    if (w->options.plan_only) {
        w->converted_bytes += n_bytes;
        *out = (vlm_weight){.data = t->data, .dtype = dtype, .n_rows = n_rows, .n_cols = n_cols};
        return VLM_OK;
    }
    if (!vlm_grow((void **)&w->packed, &w->cap_packed, w->n_packed + 1, SIZE_MAX,
                  sizeof *w->packed))
        return vlm_fail_memory(err, "weights");
    const vlm_weight src = {.data = t->data, .dtype = t->dtype, .n_rows = n_rows, .n_cols = n_cols};
    vlm_st_tensor packed = {.dtype_name = "U8", .rank = 1, .shape = {n_bytes}, .n_bytes = n_bytes};
    void *host = vlm_alloc_huge(n_bytes);
    if (host == NULL) return vlm_fail_memory(err, t->name);
    packed.data = w->packed[w->n_packed++] = host;
    ops->pack(w->backend, host, dtype, &src);
    if (t->n_bytes >= FORGET_BYTES_MIN) vlm_map_forget(t->data, (size_t)t->n_bytes);
    count_progress(w, t->n_bytes);
    VLM_TRY(bind_packed(w, &packed, name, dtype, n_rows, n_cols, out, err));
    w->mapped_bytes -= n_bytes;
    w->converted_bytes += n_bytes;
    return VLM_OK;
}

static vlm_dtype narrowed(vlm_weight_dtype wanted, const vlm_st_tensor *t)
{
    return wanted == VLM_WEIGHT_DTYPE_F16    ? VLM_DTYPE_F16
           : wanted == VLM_WEIGHT_DTYPE_BF16 ? VLM_DTYPE_BF16
                                             : t->dtype;
}

vlm_status vlm_weights_matrix(vlm_weights *w, const char *prefix, const char *name, uint32_t n_rows,
                              uint32_t n_cols, vlm_weight *out, vlm_error *err)
{
    char joined[NAME_LEN_MAX];
    const vlm_st_tensor *t;
    VLM_TRY(join(joined, prefix, name, err));
    VLM_TRY(find_tensor(w, joined, n_rows, n_cols, false, &t, err));
    return bind_stored(w, t, narrowed(w->options.dtype, t), n_rows, n_cols, out, err);
}

vlm_status vlm_weights_vector(vlm_weights *w, const char *prefix, const char *name, uint32_t n,
                              vlm_weight *out, vlm_error *err)
{
    char joined[NAME_LEN_MAX];
    const vlm_st_tensor *t;
    VLM_TRY(join(joined, prefix, name, err));
    VLM_TRY(find_tensor(w, joined, 1, n, true, &t, err));
    return bind_stored(w, t, t->dtype, 1, n, out, err);
}

/* The packed dtype that a part's matrices shall have; false: none. */
static bool packed_dtype(const vlm_weights *w, vlm_weight_part part, vlm_dtype *dtype)
{
    const vlm_weight_dtype wanted =
        part == VLM_PART_VISION ? w->options.vision_dtype : w->options.dtype;
    switch (wanted) {
    case VLM_WEIGHT_DTYPE_BF16: *dtype = VLM_DTYPE_BF16_DOT; return true;
    case VLM_WEIGHT_DTYPE_Q8: *dtype = VLM_DTYPE_Q8; return part != VLM_PART_TEXT_FIRST;
    case VLM_WEIGHT_DTYPE_Q4:
        *dtype = part == VLM_PART_TEXT || part == VLM_PART_VISION ? VLM_DTYPE_Q4 : VLM_DTYPE_Q8;
        return true;
    default: return false;
    }
}

bool vlm_weights_packs(const vlm_weights *w, vlm_weight_part part, const char *prefix,
                       const char *name)
{
    char joined[NAME_LEN_MAX];
    vlm_error err;
    vlm_dtype dtype;
    if (join(joined, prefix, name, &err) != VLM_OK) return false;
    return find_packed(w, w->files, joined, &dtype) != NULL || packed_dtype(w, part, &dtype);
}

vlm_status vlm_weights_linear(vlm_weights *w, vlm_weight_part part, const char *prefix,
                              const char *name, uint32_t n_rows, uint32_t n_cols, vlm_weight *out,
                              vlm_error *err)
{
    char joined[NAME_LEN_MAX], packed[NAME_LEN_MAX];
    const vlm_st_tensor *t;
    vlm_dtype dtype;
    *out = (vlm_weight){0};
    VLM_TRY(join(joined, prefix, name, err));
    t = find_packed(w, w->files, joined, &dtype);
    if (t != NULL) return bind_packed(w, t, t->name, dtype, n_rows, n_cols, out, err);
    VLM_TRY(find_tensor(w, joined, n_rows, n_cols, false, &t, err));
    if (!packed_dtype(w, part, &dtype))
        return bind_stored(
            w, t, narrowed(part == VLM_PART_VISION ? w->options.vision_dtype : w->options.dtype, t),
            n_rows, n_cols, out, err);
    if (!packed_name(w, joined, dtype, packed))
        return vlm_fail(err, VLM_INTERNAL, "tensor name %s is too long", joined);
    const vlm_st_tensor *before =
        w->options.packed == NULL ? NULL : vlm_safetensors_find(w->options.packed, packed);
    if (before != NULL &&
        before->n_bytes == w->backend->ops->packed_bytes(w->backend, dtype, n_rows, n_cols))
        return bind_packed(w, before, packed, dtype, n_rows, n_cols, out, err);
    return pack(w, t, packed, dtype, n_rows, n_cols, out, err);
}

size_t vlm_weights_mapped_bytes(const vlm_weights *w)
{
    return w->mapped_bytes;
}

size_t vlm_weights_converted_bytes(const vlm_weights *w)
{
    return w->converted_bytes;
}

size_t vlm_weights_n_packed(const vlm_weights *w)
{
    return w->n_packed;
}

vlm_status vlm_weights_write(const vlm_weights *w, const char *path, bool all_tensors,
                             vlm_error *err)
{
    vlm_st_tensor *tensors = vlm_calloc(w->n_bounds, sizeof *tensors);
    if (tensors == NULL) return vlm_fail_memory(err, "weights");
    size_t n = 0;
    for (size_t i = 0; i < w->n_bounds; i++)
        if (all_tensors || w->bounds[i].name != NULL) tensors[n++] = w->bounds[i].tensor;
    const vlm_status status = vlm_safetensors_write(path, tensors, n, err);
    free(tensors);
    return status;
}
