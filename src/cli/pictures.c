#include "cli/pictures.h"

#include "base/file.h"

vlm_image_limits vlm_cli_image_limits(const vlm_options *opt)
{
    return (vlm_image_limits){
        .bytes_max = opt->max_image_bytes,
        .pixels_max = opt->max_image_pixels,
        .side_max = opt->max_image_side,
        .jpeg_scans_max = opt->max_jpeg_scans,
    };
}

vlm_status vlm_cli_read_picture(const char *path, const vlm_options *opt, vlm_image *out,
                                vlm_error *err)
{
    const vlm_image_limits limits = vlm_cli_image_limits(opt);
    *out = (vlm_image){0};
    vlm_buf bytes;
    VLM_TRY(vlm_file_read(path, path, limits.bytes_max, &bytes, err));
    vlm_status status = vlm_image_decode(bytes.data, bytes.len, &limits, out, err);
    vlm_buf_fini(&bytes);
    if (status != VLM_OK) status = vlm_fail_prefix(err, status, "%s", path);
    return status;
}

vlm_status vlm_cli_add_picture(vlm_engine *engine, vlm_pictures *set, const char *path,
                               const vlm_options *opt, vlm_error *err)
{
    vlm_image image;
    VLM_TRY(vlm_cli_read_picture(path, opt, &image, err));
    vlm_status status = engine->ops->pictures_add(engine, set, &image, err);
    vlm_image_fini(&image);
    if (status != VLM_OK) status = vlm_fail_prefix(err, status, "%s", path);
    return status;
}

vlm_status vlm_cli_read_pictures(vlm_engine *engine, const vlm_options *opt, vlm_pictures **out,
                                 vlm_error *err)
{
    *out = NULL;
    if (opt->image.n == 0) return VLM_OK;
    vlm_pictures *set = NULL;
    vlm_status status = engine->ops->pictures_new(engine, (uint32_t)opt->image.n, &set, err);
    for (size_t i = 0; i < opt->image.n && status == VLM_OK; i++)
        status = vlm_cli_add_picture(engine, set, opt->image.values[i], opt, err);
    if (status != VLM_OK) {
        engine->ops->pictures_free(engine, set);
        return status;
    }
    *out = set;
    return VLM_OK;
}
