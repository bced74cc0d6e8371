/* Commands that have not landed yet; each goes away with its own file. */
#include <stdio.h>

#include "cli/cmd.h"

#define PENDING(name)                                                                              \
    __attribute__((weak)) int name(const vlm_options *opt)                                         \
    {                                                                                              \
        (void)fprintf(stderr, "vlmd: %s is not built yet\n", vlm_command_name(opt->command));      \
        return VLM_EXIT_FAILED;                                                                    \
    }

PENDING(vlm_cmd_run)
PENDING(vlm_cmd_trace)
PENDING(vlm_cmd_tokenize)
PENDING(vlm_cmd_template)
PENDING(vlm_cmd_inspect)
