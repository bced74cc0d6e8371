/* fuzz_hub_list.c - hostile text to vlm_hub_list_parse and vlm_hub_list_select.  What they accept
 * holds only names that stay in a folder, digests of their lengths, and no name twice. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "hub/list.h"

static void check_file(const vlm_hub_file *f)
{
    FUZZ_CHECK(f->name[0] != '\0' && strchr(f->name, '/') == NULL);
    FUZZ_CHECK(strcmp(f->name, ".") != 0 && strcmp(f->name, "..") != 0);
    FUZZ_CHECK(strlen(f->digest) == (f->is_sha256 ? 64u : 40u));
    FUZZ_CHECK(strspn(f->digest, "0123456789abcdef") == strlen(f->digest));
    FUZZ_CHECK(f->size <= INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    vlm_hub_list list;
    vlm_error err;
    if (vlm_hub_list_parse((const char *)data, size, &list, &err) != VLM_OK) {
        FUZZ_CHECK(list.files == NULL && list.n == 0);
        return 0;
    }
    FUZZ_CHECK(strlen(list.commit) == VLM_HUB_COMMIT_LEN);
    for (size_t i = 0; i < list.n; i++) check_file(&list.files[i]);
    for (size_t i = 1; i < list.n; i++)
        FUZZ_CHECK(strcmp(list.files[i - 1].name, list.files[i].name) < 0);
    const size_t n = list.n;
    if (vlm_hub_list_select(&list, &err) == VLM_OK) FUZZ_CHECK(list.n >= 2 && list.n <= n);
    vlm_hub_list_fini(&list);
    return 0;
}
