/* GIF's first frame on its canvas through giflib. */
#include <stdlib.h>
#include <string.h>

#include <gif_lib.h>

#include "base/mem.h"
#include "image/codecs.h"

enum { SCREEN_END = 13, GRAPHICS_CONTROL_LEN = 4 };

typedef struct reader {
    vlm_bytes file;
    size_t pos;
    GifFileType *gif;
    bool has_transparent;
    uint8_t transparent; /* index; the canvas is filled with it */
    uint8_t rgb[256][3];
} reader;

static int on_read(GifFileType *gif, GifByteType *out, int len)
{
    reader *const r = gif->UserData;
    const size_t left = r->file.len - r->pos;
    const size_t n = len < 0 ? 0 : (size_t)len < left ? (size_t)len : left;
    memcpy(out, r->file.ptr + r->pos, n);
    r->pos += n;
    return (int)n;
}

static vlm_status fail(const reader *r, int code, vlm_error *err)
{
    if (code == D_GIF_ERR_NOT_ENOUGH_MEM) return vlm_fail_memory(err, "image: GIF decoder");
    const char *const text = GifErrorString(code);
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, r->pos, "image: GIF: %s at byte %zu",
                       text != NULL ? text : "damaged data", r->pos);
}

/* Of the extensions only the transparent index of a graphics control block matters. */
static vlm_status read_extension(reader *r, vlm_error *err)
{
    int code = 0;
    GifByteType *block = NULL; /* its length, then its bytes */
    int ok = DGifGetExtension(r->gif, &code, &block);
    while (ok != GIF_ERROR && block != NULL) {
        if (code == GRAPHICS_EXT_FUNC_CODE && block[0] >= GRAPHICS_CONTROL_LEN && (block[1] & 1)) {
            r->has_transparent = true;
            r->transparent = block[4];
        }
        code = 0; /* only the first block of an extension is that */
        ok = DGifGetExtensionNext(r->gif, &block);
    }
    return ok == GIF_ERROR ? fail(r, r->gif->Error, err) : VLM_OK;
}

/* Go forward to the first frame's descriptor and read it. */
static vlm_status find_frame(reader *r, vlm_error *err)
{
    for (;;) {
        GifRecordType type = UNDEFINED_RECORD_TYPE;
        if (DGifGetRecordType(r->gif, &type) == GIF_ERROR) return fail(r, r->gif->Error, err);
        if (type == EXTENSION_RECORD_TYPE) {
            VLM_TRY(read_extension(r, err));
        } else if (type == IMAGE_DESC_RECORD_TYPE) {
            return DGifGetImageDesc(r->gif) == GIF_ERROR ? fail(r, r->gif->Error, err) : VLM_OK;
        } else {
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: GIF: holds no picture");
        }
    }
}

/* Without a colour table, and behind the end of one that counts up in gray, an index is a gray
 * value; behind the end of any other it is black. */
static void resolve_palette(reader *r)
{
    const ColorMapObject *const local = r->gif->Image.ColorMap;
    const ColorMapObject *const map = local != NULL ? local : r->gif->SColorMap;
    const int n = map == NULL ? 0 : map->ColorCount < 256 ? map->ColorCount : 256;
    bool is_ramp = true;
    for (int i = 0; i < n; i++) {
        const GifColorType c = map->Colors[i];
        memcpy(r->rgb[i], (const uint8_t[3]){c.Red, c.Green, c.Blue}, 3);
        is_ramp = is_ramp && c.Red == i && c.Green == i && c.Blue == i;
    }
    for (int i = n; i < 256; i++) memset(r->rgb[i], is_ramp ? i : 0, 3);
}

static vlm_status read_rows(reader *r, vlm_image *canvas, vlm_error *err)
{
    static const struct {
        uint32_t start, step;
    } passes[] = {{0, 1}, {0, 8}, {4, 8}, {2, 4}, {1, 2}};
    const uint32_t left = (uint32_t)r->gif->Image.Left, top = (uint32_t)r->gif->Image.Top;
    const uint32_t width = (uint32_t)r->gif->Image.Width;
    const uint32_t height = (uint32_t)r->gif->Image.Height;
    uint8_t *const row = vlm_calloc(width, 1);
    if (row == NULL) return vlm_fail_memory(err, "image: GIF row");
    const size_t first = r->gif->Image.Interlace ? 1 : 0, last = r->gif->Image.Interlace ? 4 : 0;
    vlm_status status = VLM_OK;
    for (size_t pass = first; pass <= last; pass++) {
        for (uint32_t y = passes[pass].start; y < height; y += passes[pass].step) {
            if (DGifGetLine(r->gif, row, (int)width) == GIF_ERROR) {
                status = fail(r, r->gif->Error, err);
                goto done;
            }
            uint8_t *const out = canvas->rgb + ((size_t)(top + y) * canvas->width + left) * 3;
            for (uint32_t x = 0; x < width; x++) memcpy(out + (size_t)x * 3, r->rgb[row[x]], 3);
        }
    }
done:
    free(row);
    return status;
}

static uint32_t u32_max(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static vlm_status decode(reader *r, const vlm_image_limits *limits, vlm_image *out, vlm_error *err)
{
    VLM_TRY(find_frame(r, err));
    const GifImageDesc *const frame = &r->gif->Image;
    VLM_TRY(vlm_image_check_size((uint32_t)frame->Width, (uint32_t)frame->Height, limits, err));
    /* A frame that sticks out of the screen makes it larger. */
    const uint32_t width =
        u32_max((uint32_t)r->gif->SWidth, (uint32_t)(frame->Left + frame->Width));
    const uint32_t height =
        u32_max((uint32_t)r->gif->SHeight, (uint32_t)(frame->Top + frame->Height));
    VLM_TRY(vlm_image_alloc(width, height, limits, out, err));
    resolve_palette(r);
    const uint8_t *const fill = r->rgb[r->transparent];
    const size_t n_pixels = (size_t)width * height;
    for (size_t i = 0; i < n_pixels; i++) memcpy(out->rgb + i * 3, fill, 3);
    out->has_key = r->has_transparent;
    memcpy(out->key, fill, 3);
    return read_rows(r, out, err);
}

vlm_status vlm_gif_decode(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                          uint32_t *orientation, vlm_error *err)
{
    *out = (vlm_image){0};
    *orientation = 1;
    reader r = {.file = file};
    int code = 0;
    if (file.len < SCREEN_END)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: GIF: the file is truncated");
    r.gif = DGifOpen(&r, on_read, &code);
    if (r.gif == NULL) return fail(&r, code, err);
    const vlm_status status = decode(&r, limits, out, err);
    (void)DGifCloseFile(r.gif, &code);
    if (status != VLM_OK) vlm_image_fini(out);
    return status;
}
