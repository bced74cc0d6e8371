/* fuzz_st_index.c - a hostile model.safetensors.index.json over a folder of two good shards and a
 * broken one.  What it accepts must have every tensor that it promises, in a file of the folder. */
#include <string.h>

#include "base/json.h"
#include "fuzz/fuzz.h"
#include "model/safetensors.h"

/* A shard with the tensor a (or b): two bytes of data behind a header of 0x36 bytes. */
#define SHARD(tensor)                                                                              \
    "\x36\0\0\0\0\0\0\0{\"" tensor "\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}"  \
    "xy"

static const char shard_a[] = SHARD("a");
static const char shard_b[] = SHARD("b");
static const char index_name[] = "model.safetensors.index.json";

static void check_accepted(vlm_folder *folder, const vlm_safetensors *s)
{
    const vlm_json *index;
    FUZZ_CHECK(vlm_folder_json(folder, index_name, &index, NULL) == VLM_OK);
    const vlm_json *weight_map = vlm_json_get(index, "weight_map");
    FUZZ_CHECK(vlm_json_object_len(weight_map) > 0);
    for (vlm_json_iter it = vlm_json_iter_begin(weight_map); vlm_json_iter_next(&it);) {
        const vlm_st_tensor *t = vlm_safetensors_find(s, it.key);
        FUZZ_CHECK(t != NULL && t->n_bytes == 2 && memcmp(t->data, "xy", 2) == 0);
        const bool is_a = strcmp(t->name, "a") == 0;
        FUZZ_CHECK(vlm_bytes_eq_str(vlm_json_string(it.value), is_a ? "A" : "B"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const vlm_builtin_file files[] = {
        {"A", shard_a, sizeof shard_a - 1},
        {"B", shard_b, sizeof shard_b - 1},
        {"C", shard_a, sizeof shard_a - 2},
        {index_name, data, len},
    };
    vlm_folder *folder;
    vlm_safetensors *s;
    vlm_error err;
    FUZZ_CHECK(vlm_folder_open_builtin(files, sizeof files / sizeof files[0], &folder, &err) ==
               VLM_OK);
    const vlm_status status = vlm_safetensors_open_folder(folder, &s, &err);
    FUZZ_CHECK((status == VLM_OK) == (s != NULL));
    if (status == VLM_OK)
        check_accepted(folder, s);
    else
        FUZZ_CHECK(err.code == status && err.msg[0] != '\0');
    vlm_safetensors_close(s);
    vlm_folder_close(folder);
    return 0;
}
