/* pixel_dump.c - a picture as raw bytes on stdout, for comparisons with other programs:
 *     pixel_dump decode FILE
 *     pixel_dump resize FILE WIDTH HEIGHT FILTER      (FILTER: Pillow's number)
 *     pixel_dump preproc FILE CONFIG SIDE             (CONFIG: preprocessor_config.json, or -)
 *     pixel_dump bench FILE SIDE                      (times on stderr, nothing on stdout)
 * Output: width and height as little-endian uint32, then RGB8 or, for preproc, planes of float32.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "image/image.h"
#include "image/resize.h"
#include "model/preproc.h"

static bool write_all(uint32_t width, uint32_t height, const void *data, size_t len)
{
    const uint32_t size[2] = {width, height};
    return fwrite(size, sizeof size, 1, stdout) == 1 && fwrite(data, 1, len, stdout) == len;
}

static vlm_status load(const char *path, vlm_image *image, vlm_error *err)
{
    vlm_buf file;
    vlm_status status = vlm_file_read(path, "the picture", (size_t)64 << 20, &file, err);
    if (status == VLM_OK)
        status = vlm_image_decode(file.data, file.len, &vlm_image_limits_default, image, err);
    vlm_buf_fini(&file);
    return status;
}

static vlm_status read_config(const char *path, uint32_t side, vlm_preproc *p, vlm_error *err)
{
    if (strcmp(path, "-") == 0) return vlm_preproc_parse(NULL, side, p, err);
    vlm_buf text;
    vlm_json_doc *doc = NULL;
    vlm_status status = vlm_file_read(path, "the configuration", 1 << 20, &text, err);
    if (status == VLM_OK)
        status = vlm_json_parse(text.data, text.len, &vlm_json_limits_default, &doc, err);
    if (status == VLM_OK) status = vlm_preproc_parse(vlm_json_root(doc), side, p, err);
    vlm_json_free(doc);
    vlm_buf_fini(&text);
    return status;
}

static vlm_status preproc(const vlm_image *image, const char *config, uint32_t side, vlm_error *err)
{
    vlm_preproc p;
    VLM_TRY(read_config(config, side, &p, err));
    const size_t n = (size_t)p.out_width * p.out_height * 3;
    float *const pixels = vlm_calloc(n, sizeof *pixels);
    if (pixels == NULL) return vlm_fail_memory(err, "pixels");
    vlm_status status = vlm_preproc_run(&p, image, pixels, err);
    if (status == VLM_OK && !write_all(p.out_width, p.out_height, pixels, n * sizeof *pixels))
        status = vlm_fail(err, VLM_UNAVAILABLE, "stdout: cannot write");
    free(pixels);
    return status;
}

static vlm_status bench(const char *path, uint32_t side, vlm_error *err)
{
    double decode = 1e9, resize = 1e9;
    vlm_image image = {0}, small = {0};
    for (int round = 0; round < 5; round++) {
        vlm_image_fini(&image);
        vlm_image_fini(&small);
        const uint64_t t0 = vlm_clock_ns();
        VLM_TRY(load(path, &image, err));
        const uint64_t t1 = vlm_clock_ns();
        VLM_TRY(vlm_image_resize(&image, side, side, VLM_RESAMPLE_BICUBIC, &small, err));
        const uint64_t t2 = vlm_clock_ns();
        if (vlm_clock_seconds(t0, t1) < decode) decode = vlm_clock_seconds(t0, t1);
        if (vlm_clock_seconds(t1, t2) < resize) resize = vlm_clock_seconds(t1, t2);
    }
    (void)fprintf(stderr, "%ux%u: decode %.1f ms, resize to %u %.1f ms (best of 5)\n", image.width,
                  image.height, decode * 1e3, side, resize * 1e3);
    vlm_image_fini(&image);
    vlm_image_fini(&small);
    return VLM_OK;
}

static vlm_status run(int argc, char **argv, vlm_error *err)
{
    const char *const verb = argc > 2 ? argv[1] : "";
    if (strcmp(verb, "bench") == 0 && argc == 4)
        return bench(argv[2], (uint32_t)strtoul(argv[3], NULL, 10), err);
    const bool is_decode = strcmp(verb, "decode") == 0 && argc == 3;
    const bool is_resize = strcmp(verb, "resize") == 0 && argc == 6;
    const bool is_preproc = strcmp(verb, "preproc") == 0 && argc == 5;
    if (!is_decode && !is_resize && !is_preproc)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "wrong usage; the source says how");
    vlm_image image = {0};
    VLM_TRY(load(argv[2], &image, err));
    vlm_status status = VLM_OK;
    if (is_preproc) {
        status = preproc(&image, argv[3], (uint32_t)strtoul(argv[4], NULL, 10), err);
        vlm_image_fini(&image);
        return status;
    }
    if (is_resize) {
        vlm_image resized = {0};
        const unsigned long filter = strtoul(argv[5], NULL, 10);
        status = filter < VLM_RESAMPLE_N
                     ? vlm_image_resize(&image, (uint32_t)strtoul(argv[3], NULL, 10),
                                        (uint32_t)strtoul(argv[4], NULL, 10), (vlm_resample)filter,
                                        &resized, err)
                     : vlm_fail(err, VLM_INVALID_ARGUMENT, "no such filter");
        vlm_image_fini(&image);
        image = resized;
    }
    if (status == VLM_OK &&
        !write_all(image.width, image.height, image.rgb, (size_t)image.width * image.height * 3))
        status = vlm_fail(err, VLM_UNAVAILABLE, "stdout: cannot write");
    vlm_image_fini(&image);
    return status;
}

int main(int argc, char **argv)
{
    vlm_error err = {0};
    if (run(argc, argv, &err) == VLM_OK) return 0;
    (void)fprintf(stderr, "pixel_dump: %s\n", err.msg);
    return 1;
}
