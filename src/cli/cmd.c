#include "cli/cmd.h"

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"

int vlm_cli_fail(const vlm_error *err)
{
    /* stderr may be closed too; there is nowhere left to say so. */
    (void)fprintf(stderr, "vlmd: %s\n", err->msg);
    return VLM_EXIT_FAILED;
}

vlm_status vlm_cli_write(const void *data, size_t len, vlm_error *err)
{
    return vlm_fd_write(STDOUT_FILENO, "standard output", data, len, err);
}
