/* PNG through libpng.  Only IHDR, PLTE, tRNS and IDAT reach the library; of the rest eXIf and an
 * uncompressed XMP text are read here, so nothing but the pixels is ever inflated. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "image/codecs.h"
#include "image/exif.h"

enum { SIGNATURE_LEN = 8, CHUNK_HEAD_LEN = 8, CHUNK_CRC_LEN = 4, IHDR_LEN = 13 };

typedef struct reader {
    png_structp png;
    png_infop info;
    jmp_buf on_error;
    vlm_bytes file;
    size_t pos;
    vlm_image image;
    vlm_status status;
    vlm_error *err;
} reader;

static _Noreturn void on_error(png_structp png, png_const_charp text)
{
    reader *const r = png_get_error_ptr(png);
    /* The library has no code for it, only these words. */
    const bool no_memory = strstr(text, "emory") != NULL;
    if (r->status == VLM_OK)
        r->status = no_memory
                        ? vlm_fail_memory(r->err, "image: PNG decoder")
                        : vlm_fail_at(r->err, VLM_INVALID_ARGUMENT, r->pos, "image: PNG: %s", text);
    longjmp(r->on_error, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t len)
{
    reader *const r = png_get_io_ptr(png);
    if (len > r->file.len - r->pos) png_error(png, "the file is truncated");
    memcpy(out, r->file.ptr + r->pos, len);
    r->pos += len;
}

/* The body of an iTXt chunk that holds uncompressed XMP; empty for any other. */
static vlm_bytes xmp_of_itxt(vlm_bytes body)
{
    /* keyword NUL, not compressed, method, language NUL, translated keyword NUL, text */
    static const vlm_bytes head = {"XML:com.adobe.xmp\0\0\0", 20};
    if (!vlm_bytes_starts(body, head)) return (vlm_bytes){0};
    const char *p = body.ptr + head.len;
    const char *const end = body.ptr + body.len;
    for (int i = 0; i < 2; i++) {
        p = memchr(p, 0, (size_t)(end - p));
        if (p == NULL) return (vlm_bytes){0};
        p++;
    }
    return (vlm_bytes){p, (size_t)(end - p)};
}

/* The single colour that tRNS makes transparent, as Pillow understands it.  A palette with more
 * than one transparent entry, or with a half transparent one, has none. */
static void read_key(const uint8_t *ihdr, vlm_bytes palette, vlm_bytes trns, vlm_image *image)
{
    const uint8_t depth = ihdr[8], color = ihdr[9];
    const uint8_t *const t = (const uint8_t *)trns.ptr;
    if (color == PNG_COLOR_TYPE_PALETTE) {
        size_t n_opaque = 0, transparent = 0;
        for (size_t i = 0; i < trns.len; i++) {
            n_opaque += t[i] == 255;
            if (t[i] == 0) transparent = i;
        }
        image->has_key = trns.len > 0 && n_opaque == trns.len - 1 && t[transparent] == 0;
        if (image->has_key && palette.len / 3 > transparent)
            memcpy(image->key, palette.ptr + transparent * 3, 3);
    } else if (color == PNG_COLOR_TYPE_RGB && trns.len >= 6) {
        image->has_key = true;
        for (int c = 0; c < 3; c++) image->key[c] = t[c * 2] != 0 ? 255 : t[c * 2 + 1];
    } else if (color == PNG_COLOR_TYPE_GRAY && depth < 16 && trns.len >= 2) {
        /* Not scaled to 8 bits as the samples are; and of 1 bit, white is never found. */
        const uint8_t v = t[0] != 0 ? 255 : t[1];
        image->has_key = depth > 1 || v == 0;
        memset(image->key, v, 3);
    }
}

/* What the library does not tell: the orientation and the transparent colour. */
static void read_metadata(vlm_bytes file, vlm_image *image, uint32_t *orientation)
{
    vlm_bytes exif = {0}, xmp = {0}, palette = {0}, trns = {0};
    const uint8_t *const ihdr = (const uint8_t *)file.ptr + SIGNATURE_LEN + CHUNK_HEAD_LEN;
    size_t pos = SIGNATURE_LEN;
    while (file.len - pos >= CHUNK_HEAD_LEN + CHUNK_CRC_LEN) {
        const char *const type = file.ptr + pos + 4;
        const size_t len = vlm_read_u32be((const uint8_t *)file.ptr + pos);
        pos += CHUNK_HEAD_LEN;
        if (len > file.len - pos - CHUNK_CRC_LEN) break;
        const vlm_bytes body = {file.ptr + pos, len};
        if (memcmp(type, "eXIf", 4) == 0) exif = body;
        if (memcmp(type, "PLTE", 4) == 0) palette = body;
        if (memcmp(type, "tRNS", 4) == 0) trns = body;
        if (memcmp(type, "iTXt", 4) == 0 && xmp_of_itxt(body).len > 0) xmp = xmp_of_itxt(body);
        if (memcmp(type, "IEND", 4) == 0) break;
        pos += len + CHUNK_CRC_LEN;
    }
    *orientation = vlm_exif_choose(exif, xmp);
    read_key(ihdr, palette, trns, image);
}

static void set_up(reader *r)
{
    png_set_read_fn(r->png, r, on_read);
    png_set_user_limits(r->png, 0x7FFFFFFF, 0x7FFFFFFF); /* the IHDR was checked */
    png_set_chunk_cache_max(r->png, 8);
    png_set_chunk_malloc_max(r->png, (png_alloc_size_t)1 << 20);
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
}

static void set_transforms(reader *r)
{
    const int color = png_get_color_type(r->png, r->info);
    png_set_strip_16(r->png);
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(r->png);
    if (color == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(r->png);
    if ((color & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(r->png);
    png_set_strip_alpha(r->png);
}

static void read_pixels(reader *r)
{
    png_read_info(r->png, r->info);
    set_transforms(r);
    const int n_passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    const size_t stride = (size_t)r->image.width * 3;
    if (png_get_rowbytes(r->png, r->info) != stride) png_error(r->png, "unknown kind of pixels");
    for (int pass = 0; pass < n_passes; pass++) {
        for (uint32_t y = 0; y < r->image.height; y++)
            png_read_row(r->png, r->image.rgb + y * stride, NULL);
    }
    png_read_end(r->png, NULL);
}

static vlm_status check_header(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                               vlm_error *err)
{
    if (file.len < SIGNATURE_LEN + CHUNK_HEAD_LEN + IHDR_LEN ||
        memcmp(file.ptr + SIGNATURE_LEN, "\0\0\0\x0dIHDR", CHUNK_HEAD_LEN) != 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: PNG: no IHDR at the beginning");
    const uint8_t *const ihdr = (const uint8_t *)file.ptr + SIGNATURE_LEN + CHUNK_HEAD_LEN;
    return vlm_image_alloc(vlm_read_u32be(ihdr), vlm_read_u32be(ihdr + 4), limits, out, err);
}

/* Apart from its caller, so that no local of the function that calls setjmp changes after it. */
static void decode(reader *r)
{
    if (setjmp(r->on_error) != 0) return;
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
    if (r->png != NULL) r->info = png_create_info_struct(r->png);
    if (r->info == NULL) {
        r->status = vlm_fail_memory(r->err, "image: PNG decoder");
        return;
    }
    set_up(r);
    read_pixels(r);
}

vlm_status vlm_png_decode(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                          uint32_t *orientation, vlm_error *err)
{
    *out = (vlm_image){0};
    *orientation = 1;
    reader r = {.file = file, .err = err};
    VLM_TRY(check_header(file, limits, &r.image, err));
    decode(&r);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    if (r.status != VLM_OK) {
        vlm_image_fini(&r.image);
        return r.status;
    }
    read_metadata(file, &r.image, orientation);
    *out = r.image;
    return VLM_OK;
}
