#include "gateway/keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum { FILE_LEN_MAX = 1 << 20, KEY_LEN_MAX = 512 };

static vlm_bytes next_line(vlm_bytes *rest)
{
    const char *end = memchr(rest->ptr, '\n', rest->len);
    vlm_bytes line = {.ptr = rest->ptr, .len = end == NULL ? rest->len : (size_t)(end - rest->ptr)};
    const size_t used = line.len + (end != NULL);
    rest->ptr += used;
    rest->len -= used;
    while (line.len > 0 && (line.ptr[line.len - 1] == '\r' || line.ptr[line.len - 1] == ' '))
        line.len--;
    return line;
}

static vlm_status read_lines(vlm_keys *keys, vlm_bytes text, const char *path, vlm_error *err)
{
    size_t cap = 0;
    while (text.len > 0) {
        const vlm_bytes line = next_line(&text);
        if (line.len == 0 || line.ptr[0] == '#') continue;
        if (line.len > KEY_LEN_MAX)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: a key has at most %d bytes", path,
                            KEY_LEN_MAX);
        if (!vlm_grow((void **)&keys->digests, &cap, keys->n + 1, FILE_LEN_MAX,
                      sizeof *keys->digests))
            return vlm_fail_memory(err, "keys");
        vlm_sha256(line.ptr, line.len, keys->digests[keys->n++]);
    }
    if (keys->n == 0) return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: there is no key in it", path);
    return VLM_OK;
}

vlm_status vlm_keys_read(vlm_keys *keys, const char *path, vlm_error *err)
{
    vlm_buf text;
    vlm_keys fresh = {0};
    VLM_TRY(vlm_file_read(path, path, FILE_LEN_MAX, &text, err));
    const vlm_status status = read_lines(&fresh, vlm_buf_bytes(&text), path, err);
    vlm_buf_fini(&text);
    if (status != VLM_OK) {
        vlm_keys_fini(&fresh);
        return status;
    }
    vlm_keys_fini(keys);
    *keys = fresh;
    return VLM_OK;
}

void vlm_keys_fini(vlm_keys *keys)
{
    free(keys->digests);
    *keys = (vlm_keys){0};
}

int vlm_keys_find(const vlm_keys *keys, vlm_bytes key)
{
    uint8_t digest[VLM_SHA256_LEN];
    int found = -1;
    vlm_sha256(key.ptr, key.len, digest);
    /* All of all: neither the place of a key nor the first wrong byte shows in the time. */
    for (size_t i = 0; i < keys->n; i++) {
        unsigned difference = 0;
        for (size_t k = 0; k < VLM_SHA256_LEN; k++)
            difference |= (unsigned)(digest[k] ^ keys->digests[i][k]);
        found = difference == 0 ? (int)i : found;
    }
    return found;
}
