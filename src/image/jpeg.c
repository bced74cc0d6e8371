/* JPEG through libjpeg-turbo: the accurate integer DCT and smooth upsampling, as Pillow uses it. */
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

#include "base/mem.h"
#include "image/codecs.h"
#include "image/exif.h"

/* Everything that lives across a longjmp out of the library. */
typedef struct reader {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf on_error;
    const vlm_image_limits *limits;
    vlm_buf exif, xmp;
    uint8_t *cmyk; /* one row */
    vlm_image image;
    vlm_status status;
    vlm_error *err;
} reader;

static reader *reader_of(j_common_ptr cinfo)
{
    return cinfo->client_data;
}

static _Noreturn void on_error(j_common_ptr cinfo)
{
    reader *const r = reader_of(cinfo);
    if (cinfo->err->msg_code == JERR_OUT_OF_MEMORY) {
        r->status = vlm_fail_memory(r->err, "image: JPEG decoder");
    } else {
        char text[JMSG_LENGTH_MAX];
        cinfo->err->format_message(cinfo, text);
        r->status = vlm_fail(r->err, VLM_INVALID_ARGUMENT, "image: JPEG: %s", text);
    }
    longjmp(r->on_error, 1);
}

/* Bytes between two segments and odd version numbers hurt no pixel, and cameras write them; every
 * other warning means that pixels are made up. */
static void on_message(j_common_ptr cinfo, int level)
{
    const int code = cinfo->err->msg_code;
    if (level >= 0 || code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR ||
        code == JWRN_ADOBE_XFORM)
        return;
    on_error(cinfo);
}

static void on_output(j_common_ptr cinfo)
{
    (void)cinfo;
}

static void on_progress(j_common_ptr cinfo)
{
    reader *const r = reader_of(cinfo);
    if ((uint32_t)r->cinfo.input_scan_number <= r->limits->jpeg_scans_max) return;
    r->status = vlm_fail(r->err, VLM_INVALID_ARGUMENT, "image: JPEG: more than %u scans",
                         r->limits->jpeg_scans_max);
    longjmp(r->on_error, 1);
}

static void stop(reader *r, vlm_status status)
{
    if (status == VLM_OK) return;
    r->status = status;
    longjmp(r->on_error, 1);
}

/* EXIF may be cut into several segments; of XMP the last counts. */
static void collect_metadata(reader *r)
{
    static const vlm_bytes exif = {"Exif\0\0", 6};
    static const vlm_bytes xmp = {"http://ns.adobe.com/xap/1.0/\0", 29};
    for (jpeg_saved_marker_ptr m = r->cinfo.marker_list; m != NULL; m = m->next) {
        const vlm_bytes body = {(const char *)m->data, m->data_length};
        if (vlm_bytes_starts(body, exif)) {
            stop(r, vlm_buf_append(&r->exif, body.ptr + exif.len, body.len - exif.len, r->err));
        } else if (vlm_bytes_starts(body, xmp)) {
            vlm_buf_clear(&r->xmp);
            stop(r, vlm_buf_append(&r->xmp, body.ptr + xmp.len, body.len - xmp.len, r->err));
        }
    }
}

/* a * b / 255, rounded. */
static int mul_255(int a, int b)
{
    const int t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* Adobe writes ink inverted, and so does everybody who writes CMYK JPEGs. */
static void cmyk_to_rgb(const uint8_t *cmyk, uint8_t *rgb, size_t n_pixels)
{
    for (size_t i = 0; i < n_pixels; i++, cmyk += 4, rgb += 3) {
        const int light = cmyk[3];
        for (int c = 0; c < 3; c++) {
            const int v = light - mul_255(255 - cmyk[c], light);
            rgb[c] = (uint8_t)(v < 0 ? 0 : v);
        }
    }
}

static void read_header(reader *r, vlm_bytes file)
{
    struct jpeg_decompress_struct *const c = &r->cinfo;
    /* Coefficients of four full components, and what the library keeps beside them.  JPEG's sides
     * have 16 bits. */
    const uint64_t n_pixels =
        r->limits->pixels_max < UINT32_MAX ? r->limits->pixels_max : UINT32_MAX;
    c->mem->max_memory_to_use = (long)(n_pixels * 8) + (16L << 20);
    jpeg_mem_src(c, (const unsigned char *)file.ptr, file.len);
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xFFFF);
    (void)jpeg_read_header(c, TRUE);
    collect_metadata(r);
    if (c->num_components != 1 && c->num_components != 3 && c->num_components != 4)
        stop(r, vlm_fail(r->err, VLM_INVALID_ARGUMENT, "image: JPEG: %d components, not 1, 3 or 4",
                         c->num_components));
    c->out_color_space = c->num_components == 4 ? JCS_CMYK : JCS_RGB;
    c->dct_method = JDCT_ISLOW;
    c->do_fancy_upsampling = TRUE;
}

static void read_pixels(reader *r)
{
    struct jpeg_decompress_struct *const c = &r->cinfo;
    stop(r, vlm_image_check_size(c->image_width, c->image_height, r->limits, r->err));
    if (c->out_color_space == JCS_CMYK) {
        r->cmyk = vlm_calloc(c->image_width, 4);
        if (r->cmyk == NULL) stop(r, vlm_fail_memory(r->err, "image: JPEG row"));
    }
    (void)jpeg_start_decompress(c);
    stop(r, vlm_image_alloc(c->output_width, c->output_height, r->limits, &r->image, r->err));
    while (c->output_scanline < c->output_height) {
        uint8_t *const rgb = r->image.rgb + (size_t)c->output_scanline * c->output_width * 3;
        JSAMPROW row = r->cmyk != NULL ? r->cmyk : rgb;
        (void)jpeg_read_scanlines(c, &row, 1);
        if (r->cmyk != NULL) cmyk_to_rgb(r->cmyk, rgb, c->output_width);
    }
    (void)jpeg_finish_decompress(c);
}

/* Apart from its caller, so that no local of the function that calls setjmp changes after it. */
static void decode(reader *r, vlm_bytes file)
{
    if (setjmp(r->on_error) != 0) return;
    jpeg_create_decompress(&r->cinfo);
    r->cinfo.progress = &r->progress;
    read_header(r, file);
    read_pixels(r);
}

vlm_status vlm_jpeg_decode(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                           uint32_t *orientation, vlm_error *err)
{
    *out = (vlm_image){0};
    *orientation = 1;
    reader *const r = vlm_calloc(1, sizeof *r);
    if (r == NULL) return vlm_fail_memory(err, "image: JPEG decoder");
    r->limits = limits;
    r->err = err;
    vlm_buf_init(&r->exif, file.len);
    vlm_buf_init(&r->xmp, file.len);
    r->cinfo.err = jpeg_std_error(&r->errors);
    r->cinfo.client_data = r;
    r->errors.error_exit = on_error;
    r->errors.emit_message = on_message;
    r->errors.output_message = on_output;
    r->progress.progress_monitor = on_progress;
    decode(r, file);
    jpeg_destroy_decompress(&r->cinfo);
    if (r->status == VLM_OK) {
        *orientation = vlm_exif_choose(vlm_buf_bytes(&r->exif), vlm_buf_bytes(&r->xmp));
        *out = r->image;
    } else {
        vlm_image_fini(&r->image);
    }
    const vlm_status status = r->status;
    free(r->cmyk);
    vlm_buf_fini(&r->exif);
    vlm_buf_fini(&r->xmp);
    free(r);
    return status;
}
