#include "cli/model_arg.h"

#include <string.h>

#include "base/file.h"
#include "cli/demo.h"
#include "hub/cache.h"

enum { PATH_LEN_MAX = 4096 };

vlm_status vlm_model_arg_open(const char *arg, vlm_folder **out, vlm_error *err)
{
    *out = NULL;
    if (arg == NULL || (strcmp(arg, "demo") == 0 && !vlm_path_is_dir(arg)))
        return vlm_folder_open_builtin(vlm_demo_files, vlm_demo_n_files, out, err);
    if (vlm_path_is_dir(arg) || vlm_path_is_file(arg) || !vlm_hub_is_id(arg))
        return vlm_folder_open(arg, out, err);
    vlm_buf path;
    vlm_buf_init(&path, PATH_LEN_MAX);
    vlm_status status = vlm_hub_find(arg, &path, err);
    if (status == VLM_OK) status = vlm_folder_open(path.data, out, err);
    vlm_buf_fini(&path);
    return status;
}
