/* WebP through libwebp: a still picture, or the first frame of an animation on its canvas.  The
 * container is walked here: it is small, and libwebpdemux cannot tell damage from lack of memory.
 */
#include <string.h>

#include <webp/decode.h>

#include "image/codecs.h"
#include "image/exif.h"

static vlm_status fail(VP8StatusCode code, vlm_error *err)
{
    switch (code) {
    case VP8_STATUS_OK: return VLM_OK;
    case VP8_STATUS_OUT_OF_MEMORY:
    /* What the library says when it finds no memory for its decoder or its rows: the parameters are
     * right, and nobody here aborts. */
    case VP8_STATUS_INVALID_PARAM:
    case VP8_STATUS_USER_ABORT: return vlm_fail_memory(err, "image: WebP decoder");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: the file is truncated");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: unsupported feature");
    case VP8_STATUS_BITSTREAM_ERROR: break;
    }
    return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: the data is damaged");
}

enum { RIFF_HEAD_LEN = 12, CHUNK_HEAD_LEN = 8, VP8X_LEN = 10, ANMF_HEAD_LEN = 16 };
enum { VP8X_ANIMATION = 0x02 };

/* What there is in the container; what is absent is empty. */
typedef struct container {
    vlm_bytes vp8x, exif, xmp;
    vlm_bytes frame; /* body of the first ANMF */
} container;

static uint32_t u24(const char *p)
{
    const uint8_t *const b = (const uint8_t *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16;
}

static void keep_first(vlm_bytes *slot, vlm_bytes body)
{
    if (slot->ptr == NULL) *slot = body;
}

static vlm_status read_container(vlm_bytes file, container *c, vlm_error *err)
{
    *c = (container){0};
    const size_t end = (size_t)vlm_read_u32le((const uint8_t *)file.ptr + 4) + CHUNK_HEAD_LEN;
    if (end > file.len) return fail(VP8_STATUS_NOT_ENOUGH_DATA, err);
    size_t pos = RIFF_HEAD_LEN;
    while (pos < end && end - pos >= CHUNK_HEAD_LEN) {
        const char *const name = file.ptr + pos;
        const size_t len = vlm_read_u32le((const uint8_t *)name + 4);
        pos += CHUNK_HEAD_LEN;
        if (len > end - pos) return fail(VP8_STATUS_NOT_ENOUGH_DATA, err);
        const vlm_bytes body = {file.ptr + pos, len};
        if (memcmp(name, "VP8X", 4) == 0) keep_first(&c->vp8x, body);
        if (memcmp(name, "ANMF", 4) == 0) keep_first(&c->frame, body);
        if (memcmp(name, "EXIF", 4) == 0) keep_first(&c->exif, body);
        if (memcmp(name, "XMP ", 4) == 0) keep_first(&c->xmp, body);
        pos += len + len % 2;
    }
    return VLM_OK;
}

/* Decode a bitstream to its place on the canvas. */
static vlm_status decode_at(vlm_bytes data, uint32_t left, uint32_t top, vlm_image *canvas,
                            vlm_error *err)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return vlm_fail(err, VLM_INTERNAL, "image: WebP: the library's version does not match");
    const size_t stride = (size_t)canvas->width * 3;
    const size_t origin = top * stride + (size_t)left * 3;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = canvas->rgb + origin;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * canvas->height - origin;
    const VP8StatusCode code = WebPDecode((const uint8_t *)data.ptr, data.len, &config);
    WebPFreeDecBuffer(&config.output);
    return fail(code, err);
}

static vlm_status get_size(vlm_bytes data, uint32_t *width, uint32_t *height, vlm_error *err)
{
    WebPBitstreamFeatures features;
    VLM_TRY(fail(WebPGetFeatures((const uint8_t *)data.ptr, data.len, &features), err));
    *width = (uint32_t)features.width;
    *height = (uint32_t)features.height;
    return VLM_OK;
}

static vlm_status decode_still(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                               vlm_error *err)
{
    uint32_t width = 0, height = 0;
    VLM_TRY(get_size(file, &width, &height, err));
    VLM_TRY(vlm_image_alloc(width, height, limits, out, err));
    return decode_at(file, 0, 0, out, err);
}

static vlm_status decode_animation(const container *c, const vlm_image_limits *limits,
                                   vlm_image *out, vlm_error *err)
{
    if (c->frame.len < ANMF_HEAD_LEN)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: an animation without frames");
    const uint32_t canvas_width = u24(c->vp8x.ptr + 4) + 1;
    const uint32_t canvas_height = u24(c->vp8x.ptr + 7) + 1;
    const uint32_t left = u24(c->frame.ptr) * 2, top = u24(c->frame.ptr + 3) * 2;
    const uint32_t width = u24(c->frame.ptr + 6) + 1, height = u24(c->frame.ptr + 9) + 1;
    const vlm_bytes data = {c->frame.ptr + ANMF_HEAD_LEN, c->frame.len - ANMF_HEAD_LEN};
    uint32_t data_width = 0, data_height = 0;
    VLM_TRY(vlm_image_check_size(canvas_width, canvas_height, limits, err));
    VLM_TRY(get_size(data, &data_width, &data_height, err));
    if (data_width != width || data_height != height || left > canvas_width ||
        width > canvas_width - left || top > canvas_height || height > canvas_height - top)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: a frame outside its canvas");
    VLM_TRY(vlm_image_alloc(canvas_width, canvas_height, limits, out, err));
    return decode_at(data, left, top, out, err);
}

vlm_status vlm_webp_decode(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                           uint32_t *orientation, vlm_error *err)
{
    *out = (vlm_image){0};
    *orientation = 1;
    container c;
    if (file.len < RIFF_HEAD_LEN) return fail(VP8_STATUS_NOT_ENOUGH_DATA, err);
    VLM_TRY(read_container(file, &c, err));
    const bool is_animation = c.vp8x.len >= VP8X_LEN && (c.vp8x.ptr[0] & VP8X_ANIMATION) != 0;
    const vlm_status status = is_animation ? decode_animation(&c, limits, out, err)
                                           : decode_still(file, limits, out, err);
    if (status != VLM_OK) vlm_image_fini(out);
    *orientation = vlm_exif_choose(c.exif, c.xmp);
    return status;
}
