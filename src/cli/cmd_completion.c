/* cmd_completion.c - `vlmd completion SHELL`: the shell's script on stdout. */
#include <string.h>

#include "cli/cmd.h"
#include "cli/completion.h"

enum { SCRIPT_LEN_MAX = 1 << 20 };

int vlm_cmd_completion(const vlm_options *opt)
{
    static const struct {
        const char *name;
        vlm_completion_fn *make;
    } shells[] = {
        {"bash", vlm_completion_bash}, {"zsh", vlm_completion_zsh}, {"fish", vlm_completion_fish}};
    vlm_error err;
    size_t i = 0;
    while (i < sizeof shells / sizeof shells[0] && strcmp(opt->args[0], shells[i].name) != 0) i++;
    if (i == sizeof shells / sizeof shells[0]) {
        (void)vlm_fail(&err, VLM_INVALID_ARGUMENT, "completion is for bash, zsh or fish, not '%s'",
                       opt->args[0]);
        (void)vlm_cli_fail(&err);
        return VLM_EXIT_USAGE;
    }
    vlm_buf text;
    vlm_buf_init(&text, SCRIPT_LEN_MAX);
    vlm_status status = shells[i].make(&text, &err);
    if (status == VLM_OK) status = vlm_cli_write(text.data, text.len, &err);
    vlm_buf_fini(&text);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}
