#include "cli/completion.h"

static const char frame[] =
    "# fish completion of vlmd, made by `vlmd completion fish`.\n"
    "\n"
    "function __vlmd_needs_command\n"
    "    test (count (commandline -opc)) -eq 1\n"
    "end\n"
    "\n"
    "function __vlmd_command_is\n"
    "    set -l words (commandline -opc)\n"
    "    test (count $words) -ge 2; and contains -- $words[2] $argv\n"
    "end\n"
    "\n"
    "# demo, and ids that lie in the Hugging Face cache.\n"
    "function __vlmd_models\n"
    "    set -l hub $HOME/.cache/huggingface/hub\n"
    "    test -n \"$XDG_CACHE_HOME\"; and set hub $XDG_CACHE_HOME/huggingface/hub\n"
    "    test -n \"$HF_HOME\"; and set hub $HF_HOME/hub\n"
    "    test -n \"$HUGGINGFACE_HUB_CACHE\"; and set hub $HUGGINGFACE_HUB_CACHE\n"
    "    test -n \"$HF_HUB_CACHE\"; and set hub $HF_HUB_CACHE\n"
    "    echo demo\n"
    "    for folder in $hub/models--*\n"
    "        string match -qr '/models--[A-Za-z0-9_.-]+--[A-Za-z0-9_.-]+$' -- $folder; or "
    "continue\n"
    "        string replace -r '.*/models--' '' -- $folder | string replace -- -- /\n"
    "    end\n"
    "end\n"
    "\n"
    "complete -c vlmd -f\n"
    "complete -c vlmd -s h -l help -d 'what there is, or what a command takes'\n"
    "complete -c vlmd -n __vlmd_needs_command -l version -d 'print the version'\n";

/* Text inside of '...'. */
static vlm_status append_quoted(vlm_buf *text, const char *words, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_char(text, '\'', err));
    VLM_TRY(vlm_completion_quote(text, words, "\\", "\\'", err));
    return vlm_buf_append_char(text, '\'', err);
}

static vlm_status append_command(vlm_buf *text, const vlm_command_row *c, vlm_error *err)
{
    static const char *const words[] = {
        [VLM_COMPLETION_FILE] = "-F",
        [VLM_COMPLETION_MODEL] = "-F -a '(__vlmd_models)'",
        [VLM_COMPLETION_COMMAND] = NULL,
        [VLM_COMPLETION_SHELL] = "-a 'bash zsh fish'",
    };
    VLM_TRY(
        vlm_buf_printf(text, err, "complete -c vlmd -n __vlmd_needs_command -a %s -d ", c->name));
    VLM_TRY(append_quoted(text, c->help, err));
    /* Of `vlmd help`. */
    VLM_TRY(vlm_buf_printf(text, err, "\ncomplete -c vlmd -n '__vlmd_command_is help' -a %s\n",
                           c->name));
    const char *takes = words[vlm_completion_of_argument(c)];
    if (vlm_completion_knows_mock((vlm_command)(c - vlm_command_rows)))
        VLM_TRY(vlm_buf_printf(text, err, "complete -c vlmd -n '__vlmd_command_is %s' -a mock\n",
                               c->name));
    if (takes == NULL) return VLM_OK;
    return vlm_buf_printf(text, err, "complete -c vlmd -n '__vlmd_command_is %s' %s\n", c->name,
                          takes);
}

static vlm_status append_option(vlm_buf *text, const vlm_option_row *r, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(text, "complete -c vlmd -n '__vlmd_command_is", err));
    for (int i = 0; i < VLM_N_COMMANDS; i++)
        if (vlm_option_takes(r, (vlm_command)i))
            VLM_TRY(vlm_buf_printf(text, err, " %s", vlm_command_rows[i].name));
    VLM_TRY(vlm_buf_printf(text, err, "' -l %s", r->name));
    if (r->letter != '\0') VLM_TRY(vlm_buf_printf(text, err, " -s %c", r->letter));
    switch (vlm_completion_of_option(r)) {
    case VLM_COMPLETION_FILE: VLM_TRY(vlm_buf_append_str(text, " -r -F", err)); break;
    case VLM_COMPLETION_CHOICE:
        VLM_TRY(vlm_buf_append_str(text, " -x -a '", err));
        VLM_TRY(vlm_option_append_choices(text, r, ' ', err));
        VLM_TRY(vlm_buf_append_char(text, '\'', err));
        break;
    case VLM_COMPLETION_ANY: VLM_TRY(vlm_buf_append_str(text, " -x", err)); break;
    default: break;
    }
    VLM_TRY(vlm_buf_append_str(text, " -d ", err));
    VLM_TRY(append_quoted(text, r->help, err));
    return vlm_buf_append_char(text, '\n', err);
}

vlm_status vlm_completion_fish(vlm_buf *text, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(text, frame, err));
    for (size_t i = 0; i < VLM_N_COMMANDS; i++)
        VLM_TRY(append_command(text, &vlm_command_rows[i], err));
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        VLM_TRY(append_option(text, &vlm_option_rows[i], err));
    return VLM_OK;
}
