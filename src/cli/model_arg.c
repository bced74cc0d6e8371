#include "cli/model_arg.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/demo.h"
#include "cli/pull.h"
#include "hub/cache.h"
#include "hub/env.h"

enum { PATH_LEN_MAX = 4096 };

/* In the cache, or brought there.  Where that fails, what is there of it may do: a tokenizer, say.
 */
static vlm_status find_or_pull(const char *id, vlm_buf *path, vlm_error *err)
{
    vlm_hub_env env;
    const vlm_status found = vlm_hub_find(id, path, err);
    if (found == VLM_OK && vlm_hub_is_complete(path->data)) return VLM_OK;
    if (found != VLM_OK && found != VLM_NOT_FOUND) return found;
    vlm_buf pulled;
    vlm_error pull_error;
    vlm_buf_init(&pulled, PATH_LEN_MAX);
    vlm_status status = vlm_hub_env_read(&env, &pull_error);
    if (status == VLM_OK && env.is_offline && found != VLM_OK)
        status = vlm_fail(&pull_error, found, "%s (HF_HUB_OFFLINE is set)", err->msg);
    else if (status == VLM_OK && !env.is_offline)
        status = vlm_cli_pull(id, &pulled, &pull_error);
    if (status == VLM_OK && pulled.len > 0) {
        vlm_buf_clear(path);
        status = vlm_buf_append(path, pulled.data, pulled.len, &pull_error);
    }
    vlm_buf_fini(&pulled);
    if (status == VLM_OK) return VLM_OK;
    if (found == VLM_OK) {
        vlm_log(VLM_LOG_WARN, "%s is not complete in the cache, and cannot be: %s", id,
                pull_error.msg);
        return VLM_OK;
    }
    *err = pull_error;
    return status;
}

vlm_status vlm_model_arg_open(const char *arg, vlm_folder **out, vlm_error *err)
{
    *out = NULL;
    if (arg == NULL || (strcmp(arg, "demo") == 0 && !vlm_path_is_dir(arg)))
        return vlm_folder_open_builtin(vlm_demo_files, vlm_demo_n_files, out, err);
    if (vlm_path_is_dir(arg) || vlm_path_is_file(arg) || !vlm_hub_is_id(arg))
        return vlm_folder_open(arg, out, err);
    vlm_buf path;
    vlm_buf_init(&path, PATH_LEN_MAX);
    vlm_status status = find_or_pull(arg, &path, err);
    if (status == VLM_OK) status = vlm_folder_open(path.data, out, err);
    vlm_buf_fini(&path);
    return status;
}

/* The last part of a folder's path, of "." and the like after they are resolved. */
static vlm_status folder_name(const char *path, char out[VLM_MODEL_NAME_LEN_MAX + 1],
                              vlm_error *err)
{
    char *full = realpath(path, NULL);
    if (full == NULL) return vlm_fail(err, VLM_NOT_FOUND, "%s: there is no such folder", path);
    const char *slash = strrchr(full, '/');
    const size_t len = strlen(slash + 1);
    vlm_status status = VLM_OK;
    if (len == 0 || len > VLM_MODEL_NAME_LEN_MAX)
        status =
            vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: no name for a model; see --model-name", path);
    else
        memcpy(out, slash + 1, len + 1);
    free(full);
    return status;
}

vlm_status vlm_model_arg_name(const char *arg, const char *given,
                              char out[VLM_MODEL_NAME_LEN_MAX + 1], vlm_error *err)
{
    if (arg == NULL) arg = "demo";
    const char *name = given != NULL ? given : arg;
    if (given == NULL && vlm_path_is_dir(arg)) return folder_name(arg, out, err);
    const size_t len = strlen(name);
    if (len == 0 || len > VLM_MODEL_NAME_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "a model's name has 1 to %d bytes",
                        VLM_MODEL_NAME_LEN_MAX);
    memcpy(out, name, len + 1);
    return VLM_OK;
}
