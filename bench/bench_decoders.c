/* bench_decoders.c - what it costs to decode a picture in a child process instead of in place:
 *     bench_decoders [ROUNDS]
 * JPEGs of 1 and 12 million pixels, quality 85, colours at half resolution, with the detail of a
 * photograph; both ways take turns, and the median of each counts.  Also how long it takes to start
 * the decoders, and to have a new child after a crash. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "base/clock.h"
#include "worker/decoder_faults.h"
#include "worker/decoders.h"

enum { ROUNDS_MAX = 10000, QUALITY = 85 };

typedef struct samples {
    double ms[ROUNDS_MAX];
    size_t n;
} samples;

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(samples *s)
{
    qsort(s->ms, s->n, sizeof s->ms[0], by_size);
    return s->ms[s->n / 2];
}

static double ms_since(uint64_t start)
{
    return vlm_clock_seconds(start, vlm_clock_ns()) * 1e3;
}

/* Large shapes, fine waves and some noise. */
static void paint_row(uint8_t *row, uint32_t width, uint32_t y, uint32_t *noise)
{
    for (uint32_t x = 0; x < width; x++)
        for (uint32_t c = 0; c < 3; c++) {
            *noise = *noise * 1664525u + 1013904223u;
            const double wave = sin(0.003 * (x + 40.0 * c)) * cos(0.004 * y) * 80 +
                                sin(0.35 * x + 0.21 * y) * 15 + (*noise >> 28);
            row[x * 3 + c] = (uint8_t)(120 + wave);
        }
}

static unsigned char *make_jpeg(uint32_t width, uint32_t height, unsigned long *len)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *file = NULL;
    uint32_t noise = 1;
    uint8_t *row = malloc((size_t)width * 3);
    if (row == NULL) return NULL;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &file, len);
    c.image_width = width;
    c.image_height = height;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, QUALITY, TRUE);
    jpeg_start_compress(&c, TRUE);
    for (uint32_t y = 0; y < height; y++) {
        paint_row(row, width, y, &noise);
        (void)jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(row);
    return file;
}

static vlm_status time_in_place(const void *file, size_t len, samples *s, vlm_error *err)
{
    vlm_image image;
    const uint64_t start = vlm_clock_ns();
    VLM_TRY(vlm_image_decode(file, len, &vlm_image_limits_default, &image, err));
    s->ms[s->n++] = ms_since(start);
    vlm_image_fini(&image);
    return VLM_OK;
}

static vlm_status time_in_child(vlm_decoders *d, const void *file, size_t len, samples *s,
                                vlm_error *err)
{
    vlm_image image;
    vlm_image_format format;
    const uint64_t start = vlm_clock_ns();
    VLM_TRY(vlm_decoders_run(d, file, len, NULL, &image, &format, err));
    s->ms[s->n++] = ms_since(start);
    vlm_image_fini(&image);
    return VLM_OK;
}

static vlm_status compare(vlm_decoders *d, uint32_t width, uint32_t height, size_t n_rounds,
                          vlm_error *err)
{
    static samples here, there;
    unsigned long len = 0;
    unsigned char *file = make_jpeg(width, height, &len);
    vlm_status status = file == NULL ? vlm_fail_memory(err, "JPEG") : VLM_OK;
    here.n = there.n = 0;
    for (size_t i = 0; i < n_rounds && status == VLM_OK; i++) {
        status = time_in_place(file, len, &here, err);
        if (status == VLM_OK) status = time_in_child(d, file, len, &there, err);
    }
    free(file);
    if (status != VLM_OK) return status;
    const double a = median(&here), b = median(&there);
    (void)printf("%u x %u, %lu KB, %zu rounds: in place %.2f ms, in a child %.2f ms, %+.2f ms\n",
                 width, height, len / 1000, n_rounds, a, b, b - a);
    return VLM_OK;
}

/* From a picture that kills its child to the next one's pixels. */
static vlm_status time_crashes(vlm_decoders *d, vlm_error *err)
{
    enum { N_CRASHES = 40 };
    static const char crash[] = VLM_DECODER_FAULT_MARK "crash";
    static const char nothing[] = VLM_DECODER_FAULT_MARK "nothing";
    static samples s;
    for (int i = 0; i < N_CRASHES; i++) {
        vlm_image image;
        vlm_image_format format;
        const uint64_t start = vlm_clock_ns();
        if (vlm_decoders_run(d, crash, strlen(crash), NULL, &image, &format, err) == VLM_OK)
            return vlm_fail(err, VLM_INTERNAL, "no crash");
        VLM_TRY(vlm_decoders_run(d, nothing, strlen(nothing), NULL, &image, &format, err));
        s.ms[s.n++] = ms_since(start);
        vlm_image_fini(&image);
    }
    (void)printf("a crash and a picture by the next child: %.2f ms\n", median(&s));
    return VLM_OK;
}

int main(int argc, char **argv)
{
    enum { N_ROUNDS = 300, LARGE_SHARE = 5 };
    vlm_decoders *d = NULL;
    vlm_error err;
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : N_ROUNDS;
    if (n < LARGE_SHARE || n > ROUNDS_MAX) n = N_ROUNDS;
    const vlm_decoders_options options = {.limits = vlm_image_limits_default, .faults = true};
    const uint64_t start = vlm_clock_ns();
    vlm_status status = vlm_decoders_open(&options, &d, &err);
    if (status == VLM_OK) (void)printf("started within %.2f ms\n", ms_since(start));
    if (status == VLM_OK) status = compare(d, 1024, 1024, n, &err);
    if (status == VLM_OK) status = compare(d, 4000, 3000, n / LARGE_SHARE, &err);
    if (status == VLM_OK) status = time_crashes(d, &err);
    vlm_decoders_close(d);
    if (status != VLM_OK) (void)fprintf(stderr, "bench_decoders: %s\n", err.msg);
    return status != VLM_OK;
}
