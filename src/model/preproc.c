#include "model/preproc.h"

#include <stddef.h>
#include <string.h>

#include "base/mem.h"

/* Larger than any vision tower, small enough that 3 * side * side floats are no danger. */
enum { SIDE_MAX = 8192 };

static const double clip_mean[3] = {0.48145466, 0.4578275, 0.40821073};
static const double clip_std[3] = {0.26862954, 0.26130258, 0.27577711};

/* Processors that do what vlm_preproc_run does.  pads: do_pad means a square before resizing; for
 * the others Transformers pads the pictures of a batch to one size, which they have already. */
static const struct {
    const char *name;
    bool pads;
} processors[] = {
    {"CLIPImageProcessor", false},    {"CLIPImageProcessorFast", false},
    {"CLIPImageProcessorPil", false}, {"CLIPFeatureExtractor", false},
    {"LlavaImageProcessor", true},    {"LlavaImageProcessorFast", true},
    {"LlavaImageProcessorPil", true},
};

static void set_defaults(vlm_preproc *p, uint32_t side)
{
    *p = (vlm_preproc){
        .do_convert_rgb = true,
        .do_resize = true,
        .do_center_crop = true,
        .do_rescale = true,
        .do_normalize = true,
        .resample = VLM_RESAMPLE_BICUBIC,
        .shortest_edge = side,
        .crop_width = side,
        .crop_height = side,
        .rescale_factor = 1.0 / 255.0,
    };
    memcpy(p->mean, clip_mean, sizeof p->mean);
    memcpy(p->std, clip_std, sizeof p->std);
}

static vlm_status parse_processor(const vlm_json *config, bool *pads, vlm_error *err)
{
    static const char *const keys[] = {"image_processor_type", "feature_extractor_type"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        vlm_bytes name = {0};
        VLM_TRY(vlm_json_opt_string(config, keys[k], &name, err));
        if (name.ptr == NULL) continue;
        for (size_t i = 0; i < sizeof processors / sizeof *processors; i++) {
            if (!vlm_bytes_eq_str(name, processors[i].name)) continue;
            *pads = processors[i].pads;
            return VLM_OK;
        }
        return vlm_fail(err, VLM_UNIMPLEMENTED, "%s %.*s is not supported", keys[k],
                        (int)(name.len < 100 ? name.len : 100), name.ptr);
    }
    return VLM_OK;
}

static vlm_status get_side(const vlm_json *node, const char *key, uint32_t *out, vlm_error *err)
{
    if (vlm_json_typeof(node) != VLM_JSON_INT || !vlm_json_int_fits(node) ||
        vlm_json_int(node) < 1 || vlm_json_int(node) > SIDE_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be an integer from 1 to %d", key,
                        SIDE_MAX);
    *out = (uint32_t)vlm_json_int(node);
    return VLM_OK;
}

/* {"height", "width"}, also written as [height, width]. */
static vlm_status get_pair(const vlm_json *node, const char *key, uint32_t *width, uint32_t *height,
                           vlm_error *err)
{
    const bool is_list = vlm_json_typeof(node) == VLM_JSON_ARRAY && vlm_json_array_len(node) == 2;
    if (!is_list && (!vlm_json_get(node, "height") || !vlm_json_get(node, "width")))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be an integer or have height and width",
                        key);
    VLM_TRY(
        get_side(is_list ? vlm_json_at(node, 0) : vlm_json_get(node, "height"), key, height, err));
    return get_side(is_list ? vlm_json_at(node, 1) : vlm_json_get(node, "width"), key, width, err);
}

static vlm_status parse_size(const vlm_json *config, vlm_preproc *p, vlm_error *err)
{
    static const char *const unsupported[] = {"longest_edge", "max_height", "max_width"};
    const vlm_json *const size = vlm_json_get(config, "size");
    if (size == NULL) return VLM_OK;
    if (vlm_json_typeof(size) == VLM_JSON_INT)
        return get_side(size, "size", &p->shortest_edge, err);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        if (vlm_json_get(size, unsupported[i]) != NULL)
            return vlm_fail(err, VLM_UNIMPLEMENTED, "size.%s is not supported", unsupported[i]);
    }
    const vlm_json *const edge = vlm_json_get(size, "shortest_edge");
    if (edge != NULL) return get_side(edge, "size.shortest_edge", &p->shortest_edge, err);
    p->shortest_edge = 0;
    return get_pair(size, "size", &p->size_width, &p->size_height, err);
}

static vlm_status parse_crop(const vlm_json *config, vlm_preproc *p, vlm_error *err)
{
    const vlm_json *const crop = vlm_json_get(config, "crop_size");
    if (crop == NULL) return VLM_OK;
    if (vlm_json_typeof(crop) != VLM_JSON_INT)
        return get_pair(crop, "crop_size", &p->crop_width, &p->crop_height, err);
    VLM_TRY(get_side(crop, "crop_size", &p->crop_width, err));
    p->crop_height = p->crop_width;
    return VLM_OK;
}

/* A number for all channels, or a list of three. */
static vlm_status parse_channels(const vlm_json *config, const char *key, double min, double max,
                                 double out[3], vlm_error *err)
{
    const vlm_json *const node = vlm_json_get(config, key);
    if (node == NULL) return VLM_OK;
    const bool is_list = vlm_json_typeof(node) == VLM_JSON_ARRAY;
    if (is_list && vlm_json_array_len(node) != 3)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must have 3 elements, not %zu", key,
                        vlm_json_array_len(node));
    for (size_t c = 0; c < 3; c++) {
        const vlm_json *const item = is_list ? vlm_json_at(node, c) : node;
        const vlm_json_type type = vlm_json_typeof(item);
        const bool is_number = type == VLM_JSON_INT || type == VLM_JSON_DOUBLE;
        if (!is_number || !(vlm_json_double(item) >= min && vlm_json_double(item) <= max))
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must hold numbers from %g to %g", key,
                            min, max);
        out[c] = vlm_json_double(item);
    }
    return VLM_OK;
}

static vlm_status parse_fields(const vlm_json *config, vlm_preproc *p, vlm_error *err)
{
    bool pads = false;
    VLM_TRY(parse_processor(config, &pads, err));
    VLM_TRY(vlm_json_opt_bool(config, "do_pad", &p->do_pad, err));
    p->do_pad = p->do_pad && pads;
    VLM_TRY(vlm_json_opt_bool(config, "do_convert_rgb", &p->do_convert_rgb, err));
    VLM_TRY(vlm_json_opt_bool(config, "do_resize", &p->do_resize, err));
    VLM_TRY(vlm_json_opt_bool(config, "do_center_crop", &p->do_center_crop, err));
    VLM_TRY(vlm_json_opt_bool(config, "do_rescale", &p->do_rescale, err));
    VLM_TRY(vlm_json_opt_bool(config, "do_normalize", &p->do_normalize, err));
    VLM_TRY(parse_size(config, p, err));
    VLM_TRY(parse_crop(config, p, err));
    uint32_t resample = p->resample;
    VLM_TRY(vlm_json_opt_u32(config, "resample", 0, VLM_RESAMPLE_N - 1, &resample, err));
    p->resample = (vlm_resample)resample;
    VLM_TRY(vlm_json_opt_double(config, "rescale_factor", 1e-9, 1e9, &p->rescale_factor, err));
    VLM_TRY(parse_channels(config, "image_mean", -1e9, 1e9, p->mean, err));
    VLM_TRY(parse_channels(config, "image_std", 1e-9, 1e9, p->std, err));
    if (vlm_json_get(config, "pad_size") != NULL)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "pad_size is not supported");
    /* The mean is the colour of the padding. */
    for (size_t c = 0; p->do_pad && c < 3; c++) {
        if (!(p->mean[c] >= 0.0 && p->mean[c] <= 1.0))
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "image_mean must be from 0 to 1 with do_pad");
    }
    return VLM_OK;
}

static vlm_status set_out_size(vlm_preproc *p, vlm_error *err)
{
    if (p->do_center_crop) {
        p->out_width = p->crop_width;
        p->out_height = p->crop_height;
    } else if (p->do_resize && p->shortest_edge == 0) {
        p->out_width = p->size_width;
        p->out_height = p->size_height;
    } else if (p->do_resize && p->do_pad) { /* a square */
        p->out_width = p->shortest_edge;
        p->out_height = p->shortest_edge;
    } else {
        return vlm_fail(err, VLM_UNIMPLEMENTED,
                        "do_center_crop false without a fixed size is not supported: pictures "
                        "would come out in different sizes");
    }
    return VLM_OK;
}

vlm_status vlm_preproc_parse(const vlm_json *config, uint32_t image_size, vlm_preproc *out,
                             vlm_error *err)
{
    /* 224: what Transformers takes for a size that the file leaves out. */
    set_defaults(out, config == NULL ? image_size : 224);
    if (config != NULL) {
        if (vlm_json_typeof(config) != VLM_JSON_OBJECT)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "must be an object, not %s",
                            vlm_json_type_name(config));
        VLM_TRY(parse_fields(config, out, err));
    } else if (image_size < 1 || image_size > SIDE_MAX) {
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image_size must be from 1 to %d", SIDE_MAX);
    }
    return set_out_size(out, err);
}

/* What a byte of each channel becomes.  Transformers rescales in double, rounds to float, and
 * normalises in float. */
static void make_table(const vlm_preproc *p, float table[3][256])
{
    for (int c = 0; c < 3; c++) {
        const float mean = (float)p->mean[c], std = (float)p->std[c];
        for (int i = 0; i < 256; i++) {
            const float v = p->do_rescale ? (float)(i * p->rescale_factor) : (float)i;
            table[c][i] = p->do_normalize ? (v - mean) / std : v;
        }
    }
}

/* Along one axis: crop `want` of `have` from the centre, or centre `have` in `want`. */
typedef struct crop {
    uint32_t from, to; /* first pixel in the resized picture, and where it goes in the output */
    uint32_t n;        /* pixels */
} crop;

static crop center(uint32_t have, uint32_t want)
{
    if (have >= want) return (crop){(have - want) / 2, 0, want};
    return (crop){0, (want - have + 1) / 2, have};
}

static vlm_canvas make_canvas(const vlm_preproc *p, const vlm_image *image)
{
    vlm_canvas canvas = {.image = image, .width = image->width, .height = image->height};
    if (!p->do_pad) return canvas;
    const uint32_t side = image->width > image->height ? image->width : image->height;
    canvas.width = canvas.height = side;
    canvas.left = (side - image->width) / 2;
    canvas.top = (side - image->height) / 2;
    for (int c = 0; c < 3; c++) canvas.fill[c] = (uint8_t)(p->mean[c] * 255.0);
    return canvas;
}

/* get_resize_output_image_size of Transformers: the longer side is cut, not rounded. */
static void resized_size(const vlm_preproc *p, const vlm_canvas *canvas, uint32_t *width,
                         uint32_t *height)
{
    *width = canvas->width;
    *height = canvas->height;
    if (!p->do_resize) return;
    if (p->shortest_edge == 0) {
        *width = p->size_width;
        *height = p->size_height;
        return;
    }
    const bool is_tall = canvas->width <= canvas->height;
    const uint64_t shorter = is_tall ? canvas->width : canvas->height;
    const uint64_t longer = is_tall ? canvas->height : canvas->width;
    const uint64_t scaled = p->shortest_edge * longer / shorter;
    *(is_tall ? width : height) = p->shortest_edge;
    *(is_tall ? height : width) = scaled < UINT32_MAX ? (uint32_t)scaled : UINT32_MAX;
}

/* *out = image with its transparent colour painted white. */
static vlm_status paint_white(const vlm_image *image, vlm_image *out, vlm_error *err)
{
    const size_t n_pixels = (size_t)image->width * image->height;
    *out = *image;
    out->in_place = false;
    out->rgb = vlm_calloc(n_pixels, 3);
    if (out->rgb == NULL) return vlm_fail_memory(err, "image: pixels");
    for (size_t i = 0; i < n_pixels; i++) {
        const uint8_t *const p = image->rgb + i * 3;
        const bool is_key = memcmp(p, image->key, 3) == 0;
        memcpy(out->rgb + i * 3, is_key ? (const uint8_t[3]){255, 255, 255} : p, 3);
    }
    return VLM_OK;
}

/* part [y.n, x.n, 3] into its place in the planes. */
static void write_planes(const vlm_preproc *p, const vlm_image *part, crop x, crop y, float *pixels)
{
    float table[3][256];
    make_table(p, table);
    const size_t n_plane = (size_t)p->out_width * p->out_height;
    for (size_t c = 0; c < 3; c++) {
        float *const plane = pixels + c * n_plane;
        for (size_t i = 0; i < n_plane; i++) plane[i] = table[c][0];
        for (size_t row = 0; row < y.n; row++) {
            float *const out = plane + (y.to + row) * p->out_width + x.to;
            const uint8_t *const in = part->rgb + row * x.n * 3 + c;
            for (size_t i = 0; i < x.n; i++) out[i] = table[c][in[i * 3]];
        }
    }
}

vlm_status vlm_preproc_run(const vlm_preproc *p, const vlm_image *image, float *pixels,
                           vlm_error *err)
{
    if (image->width == 0 || image->height == 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: no pixels to preprocess");
    vlm_image painted = {0}, part = {0};
    if (p->do_convert_rgb && image->has_key) {
        VLM_TRY(paint_white(image, &painted, err));
        image = &painted;
    }
    const vlm_canvas canvas = make_canvas(p, image);
    uint32_t width = 0, height = 0;
    resized_size(p, &canvas, &width, &height);
    const crop x = center(width, p->out_width), y = center(height, p->out_height);
    const vlm_rect window = {x.from, y.from, x.n, y.n};
    const vlm_status status =
        vlm_image_resize_part(&canvas, width, height, window, p->resample, &part, err);
    if (status == VLM_OK) write_planes(p, &part, x, y, pixels);
    vlm_image_fini(&painted);
    vlm_image_fini(&part);
    return status;
}
