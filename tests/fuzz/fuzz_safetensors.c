/* fuzz_safetensors.c - hostile bytes to vlm_safetensors_open_bytes.  Every tensor of what it
 * accepts must lie in the file, be found by its name, and together they must fill the data. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/safetensors.h"

/* Read both ends of a range, where a sanitizer sees a byte too many. */
static unsigned touch(const void *data, uint64_t len)
{
    const unsigned char *p = data;
    return len == 0 ? 0 : (unsigned)p[0] + p[len - 1];
}

static void check_tensor(const vlm_safetensors *s, size_t idx, const char *end, uint64_t *n_bytes)
{
    const vlm_st_tensor *t = vlm_safetensors_at(s, idx);
    FUZZ_CHECK(vlm_safetensors_find(s, t->name) == t);
    FUZZ_CHECK(t->file_idx == 0 && t->rank <= VLM_ST_RANK_MAX && t->dtype_name != NULL);
    FUZZ_CHECK(t->n_bytes <= (uint64_t)(end - (const char *)t->data));
    uint64_t n_elems = 1;
    for (uint32_t i = 0; i < t->rank; i++) n_elems *= t->shape[i];
    FUZZ_CHECK(n_elems <= t->n_bytes);
    if (t->dtype_known) {
        FUZZ_CHECK(strcmp(t->dtype_name, vlm_dtype_name(t->dtype)) == 0);
        FUZZ_CHECK(n_elems * vlm_dtype_size(t->dtype) == t->n_bytes);
    }
    if (idx > 0) FUZZ_CHECK(strcmp(vlm_safetensors_at(s, idx - 1)->name, t->name) < 0);
    *n_bytes += t->n_bytes;
    volatile unsigned sink = touch(t->data, t->n_bytes);
    (void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    vlm_safetensors *s;
    vlm_error err;
    const vlm_bytes bytes = {.ptr = (const char *)data, .len = len};
    const vlm_status status = vlm_safetensors_open_bytes(bytes, "x.safetensors", &s, &err);
    if (status != VLM_OK) {
        FUZZ_CHECK(s == NULL && err.code == status);
        FUZZ_CHECK(strstr(err.msg, "x.safetensors") != NULL);
        return 0;
    }
    uint64_t n_bytes = 0, header_len = 0;
    for (size_t i = 0; i < vlm_safetensors_n(s); i++)
        check_tensor(s, i, (const char *)data + len, &n_bytes);
    for (int i = 7; i >= 0; i--) header_len = header_len << 8 | data[i];
    FUZZ_CHECK(8 + header_len + n_bytes == len);
    vlm_safetensors_close(s);
    return 0;
}
