/* fuzz_systext.c - any text to the readers of /proc and /sys. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/systext.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = malloc(len + 1);
    FUZZ_CHECK(text != NULL);
    if (len > 0) memcpy(text, data, len);
    text[len] = '\0';
    vlm_cpu_ids ids;
    vlm_cpu_ticks ticks;
    uint64_t n;
    double x;
    char word[16];
    if (!vlm_systext_cpu_list(text, &ids)) memset(&ids, 0xff, sizeof ids);
    FUZZ_CHECK(vlm_cpu_ids_count(&ids) <= VLM_CPU_IDS_MAX);
    (void)vlm_systext_ticks(text, &ids, &ticks);
    (void)vlm_systext_number(text, &n);
    (void)vlm_systext_field(text, "SwapFree:", &n);
    FUZZ_CHECK(!vlm_systext_load(text, &x) || (isfinite(x) && x >= 0.0));
    FUZZ_CHECK(!vlm_systext_quota_v2(text, &x) || (isfinite(x) && x > 0.0));
    FUZZ_CHECK(!vlm_systext_quota_v1(text, text, &x) || x == 1.0);
    FUZZ_CHECK(!vlm_systext_chosen(text, word, sizeof word) || strlen(word) > 0);
    FUZZ_CHECK(!vlm_systext_cgroup_path(text, "", word, sizeof word) || word[0] == '/');
    FUZZ_CHECK(!vlm_systext_cgroup_path(text, "cpu", word, sizeof word) || word[0] == '/');
    free(text);
    return 0;
}
