/* WebP through libwebp: a still picture, or the first frame of an animation on its canvas. */
#include <stdlib.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "image/codecs.h"
#include "image/exif.h"

static vlm_status fail(VP8StatusCode code, vlm_error *err)
{
    switch (code) {
    case VP8_STATUS_OK: return VLM_OK;
    case VP8_STATUS_OUT_OF_MEMORY: return vlm_fail_memory(err, "image: WebP decoder");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: the file is truncated");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: unsupported feature");
    case VP8_STATUS_BITSTREAM_ERROR:
    case VP8_STATUS_INVALID_PARAM:
    case VP8_STATUS_USER_ABORT: break;
    }
    return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: the data is damaged");
}

/* The frame's pixels go straight to their place on the canvas. */
static vlm_status decode_frame(const WebPIterator *frame, vlm_image *canvas, vlm_error *err)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return vlm_fail(err, VLM_INTERNAL, "image: WebP: the library's version does not match");
    VLM_TRY(fail(WebPGetFeatures(frame->fragment.bytes, frame->fragment.size, &config.input), err));
    const uint64_t right = (uint64_t)(uint32_t)frame->x_offset + (uint32_t)config.input.width;
    const uint64_t bottom = (uint64_t)(uint32_t)frame->y_offset + (uint32_t)config.input.height;
    if (frame->x_offset < 0 || frame->y_offset < 0 || right > canvas->width ||
        bottom > canvas->height)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: a frame outside its canvas");
    const size_t stride = (size_t)canvas->width * 3;
    const size_t origin = (size_t)frame->y_offset * stride + (size_t)frame->x_offset * 3;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = canvas->rgb + origin;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * canvas->height - origin;
    const VP8StatusCode code = WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
    WebPFreeDecBuffer(&config.output);
    return fail(code, err);
}

static vlm_bytes find_chunk(const WebPDemuxer *demuxer, const char fourcc[4])
{
    vlm_bytes bytes = {0};
    WebPChunkIterator it;
    if (WebPDemuxGetChunk(demuxer, fourcc, 1, &it))
        bytes = (vlm_bytes){(const char *)it.chunk.bytes, it.chunk.size};
    WebPDemuxReleaseChunkIterator(&it);
    return bytes;
}

static vlm_status decode(const WebPDemuxer *demuxer, const vlm_image_limits *limits, vlm_image *out,
                         uint32_t *orientation, vlm_error *err)
{
    VLM_TRY(vlm_image_alloc(WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH),
                            WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT), limits, out, err));
    WebPIterator frame;
    if (!WebPDemuxGetFrame(demuxer, 1, &frame) || !frame.complete) {
        WebPDemuxReleaseIterator(&frame);
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: no complete frame");
    }
    const vlm_status status = decode_frame(&frame, out, err);
    WebPDemuxReleaseIterator(&frame);
    *orientation = vlm_exif_choose(find_chunk(demuxer, "EXIF"), find_chunk(demuxer, "XMP "));
    return status;
}

vlm_status vlm_webp_decode(vlm_bytes file, const vlm_image_limits *limits, vlm_image *out,
                           uint32_t *orientation, vlm_error *err)
{
    *out = (vlm_image){0};
    *orientation = 1;
    const WebPData data = {(const uint8_t *)file.ptr, file.len};
    WebPDemuxState state = WEBP_DEMUX_PARSE_ERROR;
    WebPDemuxer *const demuxer = WebPDemuxPartial(&data, &state);
    if (demuxer == NULL && state != WEBP_DEMUX_PARSE_ERROR)
        return vlm_fail_memory(err, "image: WebP demuxer");
    vlm_status status = VLM_OK;
    if (demuxer == NULL) {
        status = vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: the container is damaged");
    } else if (state != WEBP_DEMUX_DONE) {
        status = vlm_fail(err, VLM_INVALID_ARGUMENT, "image: WebP: the file is truncated");
    } else {
        status = decode(demuxer, limits, out, orientation, err);
    }
    WebPDemuxDelete(demuxer);
    if (status != VLM_OK) vlm_image_fini(out);
    return status;
}
