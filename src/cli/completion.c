#include "cli/completion.h"

#include <string.h>

vlm_completion_kind vlm_completion_of_option(const vlm_option_row *r)
{
    if (r->kind == FLAG) return VLM_COMPLETION_NOTHING;
    if (r->kind == CHOICE) return VLM_COMPLETION_CHOICE;
    static const char *const files[] = {"FILE", "PATH", "DIR"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(r->value_name, files[i]) == 0) return VLM_COMPLETION_FILE;
    return VLM_COMPLETION_ANY;
}

vlm_completion_kind vlm_completion_of_argument(const vlm_command_row *c)
{
    if (c->n_args_max == 0) return VLM_COMPLETION_NOTHING;
    if (strstr(c->args, "COMMAND") != NULL) return VLM_COMPLETION_COMMAND;
    if (strstr(c->args, "SHELL") != NULL) return VLM_COMPLETION_SHELL;
    if (strstr(c->args, "MODEL") != NULL || strstr(c->args, "NAME") != NULL)
        return VLM_COMPLETION_MODEL;
    return VLM_COMPLETION_FILE;
}

bool vlm_completion_knows_mock(vlm_command command)
{
    return (VLM_CMDS_MODEL >> command & 1) != 0;
}

vlm_status vlm_completion_quote(vlm_buf *text, const char *words, const char *specials,
                                const char *quote, vlm_error *err)
{
    for (const char *c = words; *c != '\0'; c++) {
        if (*c == '\'') {
            VLM_TRY(vlm_buf_append_str(text, quote, err));
            continue;
        }
        if (strchr(specials, *c) != NULL) VLM_TRY(vlm_buf_append_char(text, '\\', err));
        VLM_TRY(vlm_buf_append_char(text, *c, err));
    }
    return VLM_OK;
}
