/* cmd_pull.c - `vlmd pull`: a model from the Hub into the Hugging Face cache; prints where it is.
 */
#include "cli/cmd.h"
#include "cli/pull.h"

enum { PATH_LEN_MAX = 4096 };

int vlm_cmd_pull(const vlm_options *opt)
{
    vlm_error err;
    vlm_buf path;
    vlm_buf_init(&path, PATH_LEN_MAX + 2);
    vlm_status status = vlm_cli_pull(opt->args[0], &path, &err);
    if (status == VLM_OK) status = vlm_buf_append_char(&path, '\n', &err);
    if (status == VLM_OK) status = vlm_cli_write(path.data, path.len, &err);
    vlm_buf_fini(&path);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}
