/* BMP, a strict reader of our own: what Pillow reads, and refused by name what it does not. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/codecs.h"

enum { FILE_HEADER_LEN = 14, CORE_HEADER_LEN = 12, INFO_HEADER_LEN = 40 };
enum { RGB = 0, RLE8 = 1, RLE4 = 2, BITFIELDS = 3 };

typedef struct bmp {
    const uint8_t *data;
    size_t len;        /* bytes of the file */
    size_t pixels_pos; /* where the pixels begin */
    uint32_t width, height;
    bool top_down;
    uint32_t bits, compression;
    uint32_t masks[4];   /* R G B A, as BITFIELDS gives them */
    uint8_t rgb[256][3]; /* of an indexed picture */
} bmp;

static vlm_status fail(vlm_error *err, const char *what)
{
    return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: BMP: %s", what);
}

static bool has(const bmp *b, size_t pos, size_t n)
{
    return pos <= b->len && b->len - pos >= n;
}

/* Sizes, depth and compression; *palette_pos is where the header and its masks end. */
static vlm_status read_header(bmp *b, size_t *palette_pos, size_t *n_colors, vlm_error *err)
{
    if (!has(b, FILE_HEADER_LEN, 4)) return fail(err, "the file is truncated");
    const uint8_t *const h = b->data + FILE_HEADER_LEN;
    const uint32_t header_len = vlm_read_u32le(h);
    if (header_len != 12 && header_len != 40 && header_len != 52 && header_len != 56 &&
        header_len != 64 && header_len != 108 && header_len != 124)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: BMP: unknown header of %u bytes",
                        header_len);
    if (!has(b, FILE_HEADER_LEN, header_len)) return fail(err, "the file is truncated");
    b->pixels_pos = vlm_read_u32le(b->data + 10);
    *palette_pos = FILE_HEADER_LEN + header_len;
    *n_colors = 0;
    if (header_len == CORE_HEADER_LEN) {
        b->width = vlm_read_u16le(h + 4);
        b->height = vlm_read_u16le(h + 6);
        b->bits = vlm_read_u16le(h + 10);
    } else {
        b->width = vlm_read_u32le(h + 4);
        b->height = vlm_read_u32le(h + 8);
        b->bits = vlm_read_u16le(h + 14);
        b->compression = vlm_read_u32le(h + 16);
        *n_colors = vlm_read_u32le(h + 32);
        /* A negative height says that the top row comes first. */
        b->top_down = h[11] == 0xFF;
        if (b->top_down) b->height = 0U - b->height;
    }
    if (b->compression == BITFIELDS) {
        const size_t n_masks = header_len >= 56 ? 4 : 3;
        if (!has(b, FILE_HEADER_LEN + INFO_HEADER_LEN, n_masks * 4))
            return fail(err, "the file is truncated");
        for (size_t i = 0; i < n_masks; i++)
            b->masks[i] = vlm_read_u32le(h + INFO_HEADER_LEN + i * 4);
        if (header_len == INFO_HEADER_LEN) *palette_pos += n_masks * 4;
    }
    return VLM_OK;
}

/* Entries of 3 bytes in the oldest header, 4 in all others, blue first. */
static vlm_status read_palette(bmp *b, size_t pos, size_t n_colors, size_t entry_len,
                               vlm_error *err)
{
    if (n_colors == 0) n_colors = (size_t)1 << b->bits;
    if (n_colors > 65536) return fail(err, "more than 65536 colours");
    if (!has(b, pos, n_colors * entry_len)) return fail(err, "the palette is truncated");
    bool is_ramp = true;
    const size_t n = n_colors < 256 ? n_colors : 256;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *const e = b->data + pos + i * entry_len;
        memcpy(b->rgb[i], (const uint8_t[3]){e[2], e[1], e[0]}, 3);
        is_ramp = is_ramp && e[0] == i && e[1] == i && e[2] == i;
    }
    /* As in GIF: behind the end of a gray ramp an index is a gray value, else it is black. */
    for (size_t i = n; i < 256; i++) memset(b->rgb[i], is_ramp ? (int)i : 0, 3);
    /* The pixels that are said to begin where the palette does begin behind it. */
    if (b->pixels_pos == pos) b->pixels_pos += n_colors * entry_len;
    if (b->pixels_pos == 0) b->pixels_pos = pos + n_colors * entry_len;
    return VLM_OK;
}

/* Byte of a pixel that holds R, G and B; false for a layout that Pillow does not read either. */
static bool find_layout_32(const uint32_t masks[4], uint8_t byte_of[3])
{
    static const struct {
        uint32_t masks[4];
        uint8_t byte_of[3];
    } layouts[] = {
        {{0xFF0000, 0xFF00, 0xFF, 0}, {2, 1, 0}},
        {{0xFF000000, 0xFF0000, 0xFF00, 0}, {3, 2, 1}},
        {{0xFF000000, 0xFF00, 0xFF, 0}, {3, 1, 0}},
        {{0xFF000000, 0xFF0000, 0xFF00, 0xFF}, {3, 2, 1}},
        {{0xFF, 0xFF00, 0xFF0000, 0xFF000000}, {0, 1, 2}},
        {{0xFF0000, 0xFF00, 0xFF, 0xFF000000}, {2, 1, 0}},
        {{0xFF000000, 0xFF00, 0xFF, 0xFF0000}, {3, 1, 0}},
        {{0, 0, 0, 0}, {2, 1, 0}},
    };
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        if (memcmp(layouts[i].masks, masks, sizeof layouts[i].masks) != 0) continue;
        memcpy(byte_of, layouts[i].byte_of, 3);
        return true;
    }
    return false;
}

static bool masks_are(const bmp *b, uint32_t red, uint32_t green, uint32_t blue)
{
    return b->masks[0] == red && b->masks[1] == green && b->masks[2] == blue;
}

static void unpack_indexed(const bmp *b, const uint8_t *row, uint8_t *out)
{
    const uint32_t per_byte = 8 / b->bits, mask = (1U << b->bits) - 1;
    for (uint32_t x = 0; x < b->width; x++, out += 3) {
        const uint32_t shift = (per_byte - 1 - x % per_byte) * b->bits;
        memcpy(out, b->rgb[(uint32_t)row[x / per_byte] >> shift & mask], 3);
    }
}

static void unpack_16(const bmp *b, const uint8_t *row, uint8_t *out, uint32_t green_bits)
{
    const uint32_t green_max = (1U << green_bits) - 1;
    for (uint32_t x = 0; x < b->width; x++, row += 2, out += 3) {
        const uint32_t v = vlm_read_u16le(row);
        out[0] = (uint8_t)((v >> (5 + green_bits) & 31) * 255 / 31);
        out[1] = (uint8_t)((v >> 5 & green_max) * 255 / green_max);
        out[2] = (uint8_t)((v & 31) * 255 / 31);
    }
}

static void unpack_bytes(const bmp *b, const uint8_t *row, uint8_t *out, const uint8_t byte_of[3])
{
    const uint32_t step = b->bits / 8;
    for (uint32_t x = 0; x < b->width; x++, row += step, out += 3) {
        for (int c = 0; c < 3; c++) out[c] = row[byte_of[c]];
    }
}

static uint8_t *row_of(const bmp *b, const vlm_image *image, uint32_t row)
{
    const uint32_t y = b->top_down ? row : b->height - 1 - row;
    return image->rgb + (size_t)y * b->width * 3;
}

static vlm_status read_raw(const bmp *b, vlm_image *image, vlm_error *err)
{
    uint8_t byte_of[3] = {2, 1, 0};
    uint32_t green_bits = 5;
    if (b->compression == BITFIELDS) {
        const bool is_565 = masks_are(b, 0xF800, 0x7E0, 0x1F);
        const bool known = b->bits == 32   ? find_layout_32(b->masks, byte_of)
                           : b->bits == 24 ? masks_are(b, 0xFF0000, 0xFF00, 0xFF)
                           : b->bits == 16 ? is_565 || masks_are(b, 0x7C00, 0x3E0, 0x1F)
                                           : false;
        if (!known) return fail(err, "unsupported bit fields");
        if (is_565) green_bits = 6;
    }
    /* The limits hold width and height, so that none of this can overflow. */
    const size_t stride = ((size_t)b->width * b->bits + 31) / 32 * 4;
    if (!has(b, b->pixels_pos, stride * b->height)) return fail(err, "the file is truncated");
    for (uint32_t i = 0; i < b->height; i++) {
        const uint8_t *const row = b->data + b->pixels_pos + i * stride;
        uint8_t *const out = row_of(b, image, i);
        if (b->bits <= 8)
            unpack_indexed(b, row, out);
        else if (b->bits == 16)
            unpack_16(b, row, out, green_bits);
        else
            unpack_bytes(b, row, out, byte_of);
    }
    return VLM_OK;
}

/* The state of a run-length reader: indices are written one after the other, row after row. */
typedef struct rle {
    const bmp *b;
    size_t pos;   /* in the file */
    uint8_t *out; /* indices, n_max of them */
    size_t n, n_max;
    size_t x; /* how much of a row the runs since its beginning have filled */
} rle;

static void put_run(rle *r, size_t n, uint8_t value)
{
    const size_t width = r->b->width;
    const size_t room = r->x < width ? width - r->x : 0;
    if (n > room) n = room;
    if (n > r->n_max - r->n) n = r->n_max - r->n;
    const uint8_t first = r->b->bits == 4 ? value >> 4 : value;
    const uint8_t second = r->b->bits == 4 ? value & 15 : value;
    for (size_t i = 0; i < n; i++) r->out[r->n + i] = i % 2 == 0 ? first : second;
    r->n += n;
    r->x += n;
}

static void put_zeros(rle *r, size_t n)
{
    const size_t left = r->n_max - r->n;
    if (n > left) n = left;
    memset(r->out + r->n, 0, n);
    r->n += n;
}

/* Pixels given one by one, padded to an even number of bytes.  False at the end of the file. */
static bool put_literal(rle *r, size_t n_said)
{
    const size_t left = r->n_max - r->n;
    const size_t n = n_said < left ? n_said : left;
    const size_t n_bytes = r->b->bits == 4 ? (n + 1) / 2 : n;
    if (!has(r->b, r->pos, n_bytes)) return false;
    const uint8_t *const in = r->b->data + r->pos;
    for (size_t i = 0; i < n; i++)
        r->out[r->n + i] =
            (uint8_t)(r->b->bits == 4 ? (uint32_t)in[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15 : in[i]);
    r->n += n;
    r->x += n_said;
    r->pos += n_bytes;
    r->pos += r->pos % 2; /* as Pillow: counted from the beginning of the file */
    return true;
}

/* What follows a zero: 0 ends a row, 1 the picture, 2 jumps, more are literal pixels.  False when
 * nothing more can come. */
static bool put_escape(rle *r, uint8_t code)
{
    const size_t width = r->b->width;
    if (code == 1) return false;
    if (code == 0) {
        put_zeros(r, (width - r->n % width) % width);
        r->x = 0;
        return true;
    }
    if (code > 2) return put_literal(r, code);
    if (!has(r->b, r->pos, 2)) return false;
    put_zeros(r, r->b->data[r->pos] + r->b->data[r->pos + 1] * width);
    r->x = r->n % width;
    r->pos += 2;
    return true;
}

static vlm_status read_rle(const bmp *b, vlm_image *image, vlm_error *err)
{
    if (b->bits != (b->compression == RLE8 ? 8 : 4))
        return fail(err, "run-length data of another depth");
    const size_t n_max = (size_t)b->width * b->height;
    rle r = {.b = b, .pos = b->pixels_pos, .n_max = n_max, .out = vlm_calloc(n_max, 1)};
    if (r.out == NULL) return vlm_fail_memory(err, "image: BMP rows");
    bool more = true;
    while (more && r.n < n_max && has(b, r.pos, 2)) {
        const uint8_t count = b->data[r.pos], value = b->data[r.pos + 1];
        r.pos += 2;
        if (count == 0)
            more = put_escape(&r, value);
        else
            put_run(&r, count, value);
    }
    for (uint32_t i = 0; i < b->height && r.n == n_max; i++) {
        uint8_t *const out = row_of(b, image, i);
        const uint8_t *const row = r.out + (size_t)i * b->width;
        for (uint32_t x = 0; x < b->width; x++) memcpy(out + (size_t)x * 3, b->rgb[row[x]], 3);
    }
    free(r.out);
    return r.n == n_max ? VLM_OK : fail(err, "the run-length data ends before the picture");
}

vlm_status vlm_bmp_decode(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                          uint32_t *orientation, vlm_error *err)
{
    *out = (vlm_image){0};
    *orientation = 1;
    bmp b = {.data = (const uint8_t *)file.ptr, .len = file.len};
    size_t palette_pos = 0, n_colors = 0;
    VLM_TRY(read_header(&b, &palette_pos, &n_colors, err));
    VLM_TRY(vlm_image_check_size(b.width, b.height, limits, err));
    if (b.bits != 1 && b.bits != 4 && b.bits != 8 && b.bits != 16 && b.bits != 24 && b.bits != 32)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: BMP: %u bits a pixel", b.bits);
    if (b.compression > BITFIELDS)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: BMP: unsupported compression %u",
                        b.compression);
    const bool is_core = vlm_read_u32le(b.data + FILE_HEADER_LEN) == CORE_HEADER_LEN;
    if (b.bits <= 8) VLM_TRY(read_palette(&b, palette_pos, n_colors, is_core ? 3 : 4, err));
    if (b.pixels_pos == 0) b.pixels_pos = palette_pos;
    VLM_TRY(vlm_image_alloc(b.width, b.height, limits, out, err));
    const bool is_rle = b.compression == RLE8 || b.compression == RLE4;
    const vlm_status status = is_rle ? read_rle(&b, out, err) : read_raw(&b, out, err);
    if (status != VLM_OK) vlm_image_fini(out);
    return status;
}
