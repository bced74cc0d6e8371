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

vlm_status vlm_cli_read_pictures(const vlm_options *opt, vlm_image *images, vlm_error *err)
{
    for (size_t i = 0; i < opt->image.n; i++) {
        const vlm_status status = vlm_cli_read_picture(opt->image.values[i], opt, &images[i], err);
        if (status == VLM_OK) continue;
        for (size_t k = 0; k < i; k++) vlm_image_fini(&images[k]);
        return status;
    }
    return VLM_OK;
}
