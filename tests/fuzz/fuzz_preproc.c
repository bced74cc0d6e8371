/* The first four bytes make a picture, the rest is preprocessor_config.json. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/preproc.h"

static void run(const vlm_preproc *p, const uint8_t head[4])
{
    const uint32_t width = head[0] % 64 + 1U, height = head[1] % 64 + 1U;
    const size_t n = (size_t)p->out_width * p->out_height * 3;
    if (n > 1 << 18) return; /* legal, and slow */
    vlm_image image = {.rgb = malloc((size_t)width * height * 3), .width = width, .height = height};
    float *const pixels = malloc(n * sizeof *pixels);
    FUZZ_CHECK(image.rgb != NULL && pixels != NULL);
    memset(image.rgb, head[2], (size_t)width * height * 3);
    image.has_key = head[3] % 2 != 0;
    memset(image.key, head[2], sizeof image.key);
    vlm_error err = {0};
    memset(pixels, 0xFF, n * sizeof *pixels); /* NaN: every pixel must be written */
    const vlm_status status = vlm_preproc_run(p, &image, pixels, &err);
    FUZZ_CHECK(status == VLM_OK || status == VLM_RESOURCE_EXHAUSTED);
    for (size_t i = 0; status == VLM_OK && i < n; i++) FUZZ_CHECK(!isnan(pixels[i]));
    free(pixels);
    vlm_image_fini(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 4) return 0;
    vlm_json_doc *doc = NULL;
    vlm_error err = {0};
    if (vlm_json_parse((const char *)data + 4, len - 4, &vlm_json_limits_default, &doc, &err) !=
        VLM_OK)
        return 0;
    vlm_preproc p;
    const vlm_status status = vlm_preproc_parse(vlm_json_root(doc), 336, &p, &err);
    if (status == VLM_OK) {
        FUZZ_CHECK(p.out_width >= 1 && p.out_height >= 1);
        run(&p, data);
    } else {
        FUZZ_CHECK(err.code == status && err.msg[0] != 0);
    }
    vlm_json_free(doc);
    return 0;
}
