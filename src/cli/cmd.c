#include "cli/cmd.h"

#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

int vlm_cli_fail(const vlm_error *err)
{
    vlm_log(VLM_LOG_ERROR, "%s", err->msg);
    return VLM_EXIT_FAILED;
}

vlm_status vlm_cli_write(const void *data, size_t len, vlm_error *err)
{
    return vlm_fd_write(STDOUT_FILENO, "standard output", data, len, err);
}
