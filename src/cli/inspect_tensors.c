#include "cli/inspect_tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

enum { DTYPES_MAX = 32, SHAPE_TEXT_LEN_MAX = 200 };

typedef struct group {
    char *pattern; /* the name with every number between dots replaced by a star */
    const vlm_st_tensor *first;
    size_t n;
} group;

typedef struct totals {
    uint64_t n_params, n_bytes;
    const char *dtypes[DTYPES_MAX];
    uint64_t dtype_bytes[DTYPES_MAX];
    size_t n_dtypes;
} totals;

void vlm_inspect_size_text(uint64_t n_bytes, char text[32])
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double value = (double)n_bytes;
    size_t unit = 0;
    while (value >= 1000.0 && unit < 4) {
        value /= 1000.0;
        unit++;
    }
    (void)snprintf(text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

static void shape_text(const vlm_st_tensor *t, char text[SHAPE_TEXT_LEN_MAX])
{
    int len = snprintf(text, SHAPE_TEXT_LEN_MAX, "[");
    for (uint32_t i = 0; i < t->rank && len < SHAPE_TEXT_LEN_MAX - 24; i++)
        len += snprintf(text + len, (size_t)(SHAPE_TEXT_LEN_MAX - len), "%s%llu", i > 0 ? "," : "",
                        (unsigned long long)t->shape[i]);
    (void)snprintf(text + len, (size_t)(SHAPE_TEXT_LEN_MAX - len), "]");
}

static uint64_t n_elements(const vlm_st_tensor *t)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

/* Tensors of one folder cover their files, so that no sum can overflow. */
static totals sum_up(const vlm_safetensors *files)
{
    totals sum = {0};
    for (size_t i = 0; i < vlm_safetensors_n(files); i++) {
        const vlm_st_tensor *t = vlm_safetensors_at(files, i);
        size_t d = 0;
        while (d < sum.n_dtypes && strcmp(sum.dtypes[d], t->dtype_name) != 0) d++;
        if (d == DTYPES_MAX) continue;
        if (d == sum.n_dtypes) sum.dtypes[sum.n_dtypes++] = t->dtype_name;
        sum.dtype_bytes[d] += t->n_bytes;
        sum.n_bytes += t->n_bytes;
        sum.n_params += n_elements(t);
    }
    return sum;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void make_pattern(const char *name, char *out)
{
    for (size_t i = 0; name[i] != '\0';) {
        size_t end = i;
        if (i == 0 || name[i - 1] == '.')
            while (is_digit(name[end])) end++;
        if (end > i && (name[end] == '.' || name[end] == '\0')) {
            *out++ = '*';
            i = end;
        } else {
            *out++ = name[i++];
        }
    }
    *out = '\0';
}

static int compare_groups(const void *a, const void *b)
{
    const group *x = a, *y = b;
    const int by_pattern = strcmp(x->pattern, y->pattern);
    if (by_pattern != 0) return by_pattern;
    const int by_dtype = strcmp(x->first->dtype_name, y->first->dtype_name);
    if (by_dtype != 0) return by_dtype;
    if (x->first->rank != y->first->rank) return x->first->rank < y->first->rank ? -1 : 1;
    return memcmp(x->first->shape, y->first->shape, sizeof x->first->shape);
}

static vlm_status append_groups(group *groups, size_t n, vlm_buf *out, vlm_error *err)
{
    char shape[SHAPE_TEXT_LEN_MAX];
    if (n > 1) qsort(groups, n, sizeof *groups, compare_groups);
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && compare_groups(&groups[i], &groups[end]) == 0) end++;
        shape_text(groups[i].first, shape);
        VLM_TRY(vlm_buf_printf(out, err, "  %-72s %-5s %s", groups[i].pattern,
                               groups[i].first->dtype_name, shape));
        if (end - i > 1) VLM_TRY(vlm_buf_printf(out, err, " x%zu", end - i));
        VLM_TRY(vlm_buf_append_str(out, "\n", err));
        i = end;
    }
    return VLM_OK;
}

vlm_status vlm_inspect_tensors_text(const vlm_safetensors *files, vlm_buf *out, vlm_error *err)
{
    const size_t n = vlm_safetensors_n(files);
    vlm_arena names;
    vlm_arena_init(&names, (size_t)1 << 30);
    group *groups = vlm_calloc(n, sizeof *groups);
    vlm_status status = groups == NULL ? vlm_fail_memory(err, "tensors") : VLM_OK;
    for (size_t i = 0; i < n && status == VLM_OK; i++) {
        const vlm_st_tensor *t = vlm_safetensors_at(files, i);
        groups[i] = (group){.pattern = vlm_arena_alloc(&names, strlen(t->name) + 1), .first = t};
        if (groups[i].pattern == NULL)
            status = vlm_fail_memory(err, "tensors");
        else
            make_pattern(t->name, groups[i].pattern);
    }
    const totals sum = sum_up(files);
    char size[32];
    vlm_inspect_size_text(sum.n_bytes, size);
    if (status == VLM_OK)
        status = vlm_buf_printf(out, err, "tensors         %zu, %.3f million parameters, %s", n,
                                (double)sum.n_params / 1e6, size);
    for (size_t d = 0; d < sum.n_dtypes && status == VLM_OK; d++) {
        vlm_inspect_size_text(sum.dtype_bytes[d], size);
        status = vlm_buf_printf(out, err, "%s%s %s", d == 0 ? " (" : ", ", sum.dtypes[d], size);
    }
    if (status == VLM_OK) status = vlm_buf_append_str(out, sum.n_dtypes > 0 ? ")\n" : "\n", err);
    if (status == VLM_OK) status = append_groups(groups, n, out, err);
    free(groups);
    vlm_arena_fini(&names);
    return status;
}

vlm_status vlm_inspect_tensors_json(const vlm_safetensors *files, vlm_buf *out, vlm_error *err)
{
    char shape[SHAPE_TEXT_LEN_MAX];
    VLM_TRY(vlm_buf_append_str(out, "\"tensors\":[", err));
    for (size_t i = 0; i < vlm_safetensors_n(files); i++) {
        const vlm_st_tensor *t = vlm_safetensors_at(files, i);
        shape_text(t, shape);
        VLM_TRY(vlm_buf_append_str(out, i > 0 ? ",{\"name\":" : "{\"name\":", err));
        VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(t->name), err));
        VLM_TRY(vlm_buf_printf(out, err, ",\"dtype\":\"%s\",\"shape\":%s,\"bytes\":%llu}",
                               t->dtype_name, shape, (unsigned long long)t->n_bytes));
    }
    const totals sum = sum_up(files);
    VLM_TRY(vlm_buf_printf(out, err, "],\"parameters\":%llu,\"bytes\":%llu,\"bytes_by_dtype\":{",
                           (unsigned long long)sum.n_params, (unsigned long long)sum.n_bytes));
    for (size_t d = 0; d < sum.n_dtypes; d++)
        VLM_TRY(vlm_buf_printf(out, err, "%s\"%s\":%llu", d > 0 ? "," : "", sum.dtypes[d],
                               (unsigned long long)sum.dtype_bytes[d]));
    return vlm_buf_append_str(out, "}", err);
}
