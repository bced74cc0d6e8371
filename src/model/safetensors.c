#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

enum { HEADER_LEN_MAX = 100 * 1000 * 1000, SHARDS_MAX = 1024 };

/* Every type of the format and its size in bits; those of vlm_dtype can be computed with. */
static const struct {
    const char *name;
    uint32_t n_bits;
} dtypes[] = {
    {"BOOL", 8}, {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
    {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},   {"I32", 32},    {"U32", 32},
    {"F32", 32}, {"C64", 64}, {"F64", 64}, {"I64", 64},    {"U64", 64},
};

struct vlm_safetensors {
    vlm_st_tensor *tensors; /* [n], sorted by name */
    size_t n, cap;
    vlm_arena names;
};

typedef struct reader {
    vlm_safetensors *out;
    const char *file; /* for messages */
    const char *data; /* behind the header */
    uint64_t data_len;
    uint32_t file_idx;
} reader;

static vlm_status read_dtype(const reader *r, const char *name, const vlm_json *node,
                             vlm_st_tensor *t, uint32_t *elem_size, vlm_error *err)
{
    vlm_bytes text = {0};
    const vlm_status status = vlm_json_opt_string(node, "dtype", &text, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "%s: tensor %s", r->file, name);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (!vlm_bytes_eq_str(text, dtypes[i].name)) continue;
        t->dtype_name = dtypes[i].name;
        t->dtype_known = vlm_dtype_parse(text.ptr, text.len, &t->dtype);
        *elem_size = dtypes[i].n_bits / 8;
        return VLM_OK;
    }
    return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: tensor %s: unknown dtype %.*s", r->file, name,
                    (int)(text.len < 32 ? text.len : 32), text.len == 0 ? "(none)" : text.ptr);
}

static vlm_status read_u64(const vlm_json *node, uint64_t *out)
{
    if (vlm_json_typeof(node) != VLM_JSON_INT || !vlm_json_int_fits(node) || vlm_json_int(node) < 0)
        return VLM_INVALID_ARGUMENT;
    *out = (uint64_t)vlm_json_int(node);
    return VLM_OK;
}

static vlm_status read_shape(const reader *r, const char *name, const vlm_json *node,
                             uint32_t elem_size, vlm_st_tensor *t, vlm_error *err)
{
    const vlm_json *shape = vlm_json_get(node, "shape");
    const size_t rank = vlm_json_array_len(shape);
    if (vlm_json_typeof(shape) != VLM_JSON_ARRAY || rank > VLM_ST_RANK_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "%s: tensor %s: shape must be an array of at most %d integers", r->file,
                        name, VLM_ST_RANK_MAX);
    t->rank = (uint32_t)rank;
    t->n_bytes = elem_size;
    for (size_t i = 0; i < rank; i++) {
        if (read_u64(vlm_json_at(shape, i), &t->shape[i]) != VLM_OK ||
            !vlm_u64_mul(t->n_bytes, t->shape[i], &t->n_bytes))
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "%s: tensor %s: shape[%zu] is no size, or the tensor is too large",
                            r->file, name, i);
    }
    return VLM_OK;
}

static vlm_status read_offsets(const reader *r, const char *name, const vlm_json *node,
                               vlm_st_tensor *t, vlm_error *err)
{
    const vlm_json *offsets = vlm_json_get(node, "data_offsets");
    uint64_t begin, end;
    if (vlm_json_array_len(offsets) != 2 || read_u64(vlm_json_at(offsets, 0), &begin) != VLM_OK ||
        read_u64(vlm_json_at(offsets, 1), &end) != VLM_OK || begin > end)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "%s: tensor %s: data_offsets must be two rising integers", r->file, name);
    if (end > r->data_len)
        return vlm_fail(err, VLM_DATA_LOSS,
                        "%s: tensor %s ends at byte %llu of the data, the file holds %llu: it is "
                        "truncated or damaged",
                        r->file, name, (unsigned long long)end, (unsigned long long)r->data_len);
    if (end - begin != t->n_bytes)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "%s: tensor %s: shape and dtype need %llu bytes, data_offsets give %llu",
                        r->file, name, (unsigned long long)t->n_bytes,
                        (unsigned long long)(end - begin));
    t->data = r->data + begin;
    return VLM_OK;
}

static vlm_status read_tensor(reader *r, const char *key, const vlm_json *node, vlm_error *err)
{
    vlm_safetensors *s = r->out;
    vlm_st_tensor t = {.file_idx = r->file_idx};
    uint32_t elem_size;
    if (vlm_json_typeof(node) != VLM_JSON_OBJECT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: tensor %s must be an object, not %s",
                        r->file, key, vlm_json_type_name(node));
    VLM_TRY(read_dtype(r, key, node, &t, &elem_size, err));
    VLM_TRY(read_shape(r, key, node, elem_size, &t, err));
    VLM_TRY(read_offsets(r, key, node, &t, err));
    t.name = vlm_arena_strndup(&s->names, key, strlen(key));
    if (t.name == NULL) return vlm_fail_memory(err, "tensor names");
    if (!vlm_grow((void **)&s->tensors, &s->cap, s->n + 1, VLM_ST_TENSORS_MAX, sizeof *s->tensors))
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%s: more than %d tensors", r->file,
                        VLM_ST_TENSORS_MAX);
    s->tensors[s->n++] = t;
    return VLM_OK;
}

static vlm_status check_metadata(const reader *r, const vlm_json *node, vlm_error *err)
{
    if (vlm_json_typeof(node) != VLM_JSON_OBJECT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: __metadata__ must be an object", r->file);
    for (vlm_json_iter it = vlm_json_iter_begin(node); vlm_json_iter_next(&it);)
        if (vlm_json_typeof(it.value) != VLM_JSON_STRING)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: __metadata__: %s must be a string",
                            r->file, it.key);
    return VLM_OK;
}

static int compare_places(const void *a, const void *b)
{
    const vlm_st_tensor *x = a, *y = b;
    const uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    if (p != q) return p < q ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const vlm_st_tensor *)a)->name, ((const vlm_st_tensor *)b)->name);
}

/* The tensors of one file must cover its data end to end: no overlap, no hole, nothing behind. */
static vlm_status check_cover(const reader *r, vlm_st_tensor *tensors, size_t n, vlm_error *err)
{
    if (n > 0) qsort(tensors, n, sizeof *tensors, compare_places);
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t begin = (uint64_t)((const char *)tensors[i].data - r->data);
        if (begin != at)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "%s: tensor %s begins at byte %llu of the data, the one before ends at "
                            "%llu: an overlap or a hole",
                            r->file, tensors[i].name, (unsigned long long)begin,
                            (unsigned long long)at);
        at = begin + tensors[i].n_bytes;
    }
    if (at != r->data_len)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: %llu bytes follow the last tensor's data",
                        r->file, (unsigned long long)(r->data_len - at));
    return VLM_OK;
}

static vlm_status read_header(reader *r, const vlm_json *root, vlm_error *err)
{
    const size_t first = r->out->n;
    if (vlm_json_typeof(root) != VLM_JSON_OBJECT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: the header must be an object", r->file);
    for (vlm_json_iter it = vlm_json_iter_begin(root); vlm_json_iter_next(&it);) {
        if (strcmp(it.key, "__metadata__") == 0)
            VLM_TRY(check_metadata(r, it.value, err));
        else
            VLM_TRY(read_tensor(r, it.key, it.value, err));
    }
    const size_t n = r->out->n - first;
    return check_cover(r, n > 0 ? r->out->tensors + first : NULL, n, err);
}

static vlm_status read_file(vlm_safetensors *s, vlm_bytes bytes, const char *name,
                            uint32_t file_idx, vlm_error *err)
{
    static const vlm_json_limits limits = {
        .len_max = HEADER_LEN_MAX, .depth_max = 8, .nodes_max = 20 * VLM_ST_TENSORS_MAX};
    if (bytes.len < 8)
        return vlm_fail(err, VLM_DATA_LOSS, "%s: %zu bytes, too short for a safetensors header",
                        name, bytes.len);
    uint64_t header_len = 0;
    for (int i = 7; i >= 0; i--) header_len = header_len << 8 | (unsigned char)bytes.ptr[i];
    if (header_len > HEADER_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "%s: a header of %llu bytes; not a safetensors file", name,
                        (unsigned long long)header_len);
    if (header_len > bytes.len - 8)
        return vlm_fail(err, VLM_DATA_LOSS,
                        "%s: the header needs %llu bytes, the file holds %zu: it is truncated",
                        name, (unsigned long long)header_len, bytes.len - 8);
    const char *header = bytes.ptr + 8;
    if (header_len == 0 || header[0] != '{')
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: the header does not begin with '{'", name);
    reader r = {
        .out = s,
        .file = name,
        .data = header + header_len,
        .data_len = bytes.len - 8 - header_len,
        .file_idx = file_idx,
    };
    vlm_json_doc *doc;
    vlm_status status = vlm_json_parse(header, (size_t)header_len, &limits, &doc, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "%s: header", name);
    status = read_header(&r, vlm_json_root(doc), err);
    vlm_json_free(doc);
    return status;
}

static vlm_status new_empty(vlm_safetensors **out, vlm_error *err)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return vlm_fail_memory(err, "tensors");
    vlm_arena_init(&(*out)->names, (size_t)HEADER_LEN_MAX * 2);
    return VLM_OK;
}

static vlm_status finish(vlm_safetensors *s, vlm_error *err)
{
    if (s->n > 1) qsort(s->tensors, s->n, sizeof *s->tensors, compare_names);
    for (size_t i = 1; i < s->n; i++)
        if (strcmp(s->tensors[i - 1].name, s->tensors[i].name) == 0)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "tensor %s is in two files",
                            s->tensors[i].name);
    return VLM_OK;
}

vlm_status vlm_safetensors_open_bytes(vlm_bytes bytes, const char *name, vlm_safetensors **out,
                                      vlm_error *err)
{
    VLM_TRY(new_empty(out, err));
    vlm_status status = read_file(*out, bytes, name, 0, err);
    if (status == VLM_OK) status = finish(*out, err);
    if (status != VLM_OK) {
        vlm_safetensors_close(*out);
        *out = NULL;
    }
    return status;
}

void vlm_safetensors_close(vlm_safetensors *s)
{
    if (s == NULL) return;
    free(s->tensors);
    vlm_arena_fini(&s->names);
    free(s);
}

static vlm_status read_one(vlm_folder *f, vlm_safetensors *s, const char *name, uint32_t file_idx,
                           vlm_error *err)
{
    vlm_bytes bytes;
    VLM_TRY(vlm_folder_bytes(f, name, &bytes, err));
    return read_file(s, bytes, name, file_idx, err);
}

static const char index_name[] = "model.safetensors.index.json";

/* Which of files [n] a name is; n if it is new. */
static size_t find_file(vlm_bytes name, const char *const *files, size_t n)
{
    size_t i = 0;
    while (i < n && !vlm_bytes_eq_str(name, files[i])) i++;
    return i;
}

/* Every tensor that the index promises must lie in the file that it names. */
static vlm_status check_index(const vlm_safetensors *s, const vlm_json *weight_map,
                              const char *const *files, size_t n_files, vlm_error *err)
{
    for (vlm_json_iter it = vlm_json_iter_begin(weight_map); vlm_json_iter_next(&it);) {
        const vlm_st_tensor *t = vlm_safetensors_find(s, it.key);
        const size_t file_idx = find_file(vlm_json_string(it.value), files, n_files);
        if (t == NULL || t->file_idx != file_idx)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: tensor %s is not in %s", index_name,
                            it.key, files[file_idx]);
    }
    return VLM_OK;
}

static vlm_status read_shards(vlm_folder *f, vlm_safetensors *s, vlm_error *err)
{
    const vlm_json *index;
    VLM_TRY(vlm_folder_json(f, index_name, &index, err));
    const vlm_json *weight_map = vlm_json_get(index, "weight_map");
    if (vlm_json_typeof(weight_map) != VLM_JSON_OBJECT || vlm_json_object_len(weight_map) == 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: weight_map must be an object of file names",
                        index_name);
    const char *files[SHARDS_MAX];
    size_t n_files = 0;
    for (vlm_json_iter it = vlm_json_iter_begin(weight_map); vlm_json_iter_next(&it);) {
        if (vlm_json_typeof(it.value) != VLM_JSON_STRING)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: weight_map: %s must be a file name",
                            index_name, it.key);
        const vlm_bytes name = vlm_json_string(it.value);
        if (find_file(name, files, n_files) < n_files) continue;
        if (n_files == SHARDS_MAX || memchr(name.ptr, '\0', name.len) != NULL)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "%s: weight_map: a bad file name, or more than %d files", index_name,
                            SHARDS_MAX);
        files[n_files++] = name.ptr;
    }
    for (size_t i = 0; i < n_files; i++) {
        const vlm_status status = read_one(f, s, files[i], (uint32_t)i, err);
        if (status == VLM_NOT_FOUND || status == VLM_INVALID_ARGUMENT)
            return vlm_fail_prefix(err, status, "%s", index_name);
        if (status != VLM_OK) return status;
    }
    VLM_TRY(finish(s, err));
    return check_index(s, weight_map, files, n_files, err);
}

static vlm_status read_only_file(vlm_folder *f, vlm_safetensors *s, vlm_error *err)
{
    char **names;
    size_t n;
    VLM_TRY(vlm_folder_names(f, ".safetensors", &names, &n, err));
    vlm_status status;
    if (n == 1)
        status = read_one(f, s, names[0], 0, err);
    else if (n == 0)
        status = vlm_fail(err, VLM_NOT_FOUND, "model.safetensors: not in the folder");
    else
        status = vlm_fail(err, VLM_NOT_FOUND, "%s: not in the folder, which holds %zu .safetensors",
                          index_name, n);
    vlm_folder_names_free(names, n);
    return status == VLM_OK ? finish(s, err) : status;
}

vlm_status vlm_safetensors_open_folder(vlm_folder *f, vlm_safetensors **out, vlm_error *err)
{
    vlm_status status;
    VLM_TRY(new_empty(out, err));
    if (vlm_folder_has(f, "model.safetensors")) {
        status = read_one(f, *out, "model.safetensors", 0, err);
        if (status == VLM_OK) status = finish(*out, err);
    } else if (vlm_folder_has(f, index_name)) {
        status = read_shards(f, *out, err);
    } else {
        status = read_only_file(f, *out, err);
    }
    if (status != VLM_OK) {
        vlm_safetensors_close(*out);
        *out = NULL;
    }
    return status;
}

const vlm_st_tensor *vlm_safetensors_find(const vlm_safetensors *s, const char *name)
{
    if (s->n == 0) return NULL;
    const vlm_st_tensor key = {.name = name};
    return bsearch(&key, s->tensors, s->n, sizeof *s->tensors, compare_names);
}

size_t vlm_safetensors_n(const vlm_safetensors *s)
{
    return s->n;
}

const vlm_st_tensor *vlm_safetensors_at(const vlm_safetensors *s, size_t idx)
{
    return &s->tensors[idx];
}
