#include "cli/completion.h"

/* Words from the cache's folders are taken only when they are made of an id's characters, and never
 * expanded: a folder can have any name. */
static const char frame_head[] =
    "# bash completion of vlmd, made by `vlmd completion bash`.\n"
    "\n"
    "# Ids that lie in the Hugging Face cache.\n"
    "__vlmd_ids() {\n"
    "    local hub=${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-}} folder\n"
    "    if [[ -z $hub && -n ${HF_HOME:-} ]]; then hub=$HF_HOME/hub; fi\n"
    "    if [[ -z $hub ]]; then hub=${XDG_CACHE_HOME:-${HOME:-}/.cache}/huggingface/hub; fi\n"
    "    shopt -u failglob\n"
    "    for folder in \"$hub\"/models--*; do\n"
    "        folder=${folder##*/models--}\n"
    "        if [[ $folder =~ ^[A-Za-z0-9_.-]+--[A-Za-z0-9_.-]+$ ]]; then\n"
    "            printf '%s\\n' \"${folder/--//}\"\n"
    "        fi\n"
    "    done\n"
    "}\n"
    "\n"
    "_vlmd() {\n"
    "    local IFS=$' \\t\\n' cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
    "    local command=${COMP_WORDS[1]} takes='' options='' words='' files='' mock='' word\n"
    "    COMPREPLY=()\n"
    "    # Readline splits --dtype=q4 at the =.\n"
    "    if [[ $cur == = ]]; then\n"
    "        cur=''\n"
    "    elif [[ $prev == = ]]; then\n"
    "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "    fi\n";

static const char frame_tail[] =
    "    case $takes in\n"
    "    FILE) files=yes ;;\n"
    "    MODEL)\n"
    "        words=\"demo $mock $(__vlmd_ids)\"\n"
    "        files=yes\n"
    "        ;;\n"
    "    esac\n"
    "    for word in $words; do\n"
    "        if [[ $word == \"$cur\"* ]]; then COMPREPLY+=(\"$word\"); fi\n"
    "    done\n"
    "    if [[ -n $files ]]; then\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        while IFS= read -r word; do COMPREPLY+=(\"$word\"); done < <(compgen -f -- \"$cur\")\n"
    "    else\n"
    "        # No files where none can be meant.\n"
    "        compopt +o default 2>/dev/null\n"
    "    fi\n"
    "    return 0\n"
    "}\n"
    "\n"
    "complete -o default -F _vlmd vlmd\n";

static vlm_status append_command_names(vlm_buf *text, vlm_error *err)
{
    for (size_t i = 0; i < VLM_N_COMMANDS; i++)
        VLM_TRY(vlm_buf_printf(text, err, "%s%s", i > 0 ? " " : "", vlm_command_rows[i].name));
    return VLM_OK;
}

/* What a command takes: takes= and options=. */
static vlm_status append_command(vlm_buf *text, vlm_command command, vlm_error *err)
{
    static const char *const kinds[] = {
        [VLM_COMPLETION_FILE] = "FILE",
        [VLM_COMPLETION_MODEL] = "MODEL",
        [VLM_COMPLETION_COMMAND] = "COMMAND",
        [VLM_COMPLETION_SHELL] = "SHELL",
    };
    const vlm_command_row *c = &vlm_command_rows[command];
    const char *takes = kinds[vlm_completion_of_argument(c)];
    VLM_TRY(vlm_buf_printf(text, err, "    %s)\n        takes=%s mock=%s\n        options='",
                           c->name, takes != NULL ? takes : "",
                           vlm_completion_knows_mock(command) ? "mock" : ""));
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        const vlm_option_row *r = &vlm_option_rows[i];
        if (!vlm_option_takes(r, command)) continue;
        if (r->letter != '\0') VLM_TRY(vlm_buf_printf(text, err, "-%c ", r->letter));
        VLM_TRY(vlm_buf_printf(text, err, "--%s ", r->name));
    }
    return vlm_buf_append_str(text, "-h --help'\n        ;;\n", err);
}

/* "    -i | --image) " and what its value may be. */
static vlm_status append_value(vlm_buf *text, const vlm_option_row *r, vlm_error *err)
{
    const vlm_completion_kind kind = vlm_completion_of_option(r);
    if (kind == VLM_COMPLETION_NOTHING) return VLM_OK;
    VLM_TRY(vlm_buf_append_str(text, "        ", err));
    if (r->letter != '\0') VLM_TRY(vlm_buf_printf(text, err, "-%c | ", r->letter));
    VLM_TRY(vlm_buf_printf(text, err, "--%s) takes=", r->name));
    if (kind == VLM_COMPLETION_CHOICE) {
        VLM_TRY(vlm_buf_append_str(text, "CHOICE words='", err));
        VLM_TRY(vlm_option_append_choices(text, r, ' ', err));
        VLM_TRY(vlm_buf_append_char(text, '\'', err));
    } else {
        VLM_TRY(vlm_buf_append_str(text, kind == VLM_COMPLETION_FILE ? "FILE" : "ANY", err));
    }
    return vlm_buf_append_str(text, " ;;\n", err);
}

vlm_status vlm_completion_bash(vlm_buf *text, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(text, frame_head, err));
    VLM_TRY(vlm_buf_append_str(text, "    local commands='", err));
    VLM_TRY(append_command_names(text, err));
    VLM_TRY(vlm_buf_append_str(text, "'\n    case $command in\n", err));
    for (int i = 0; i < VLM_N_COMMANDS; i++) VLM_TRY(append_command(text, (vlm_command)i, err));
    VLM_TRY(vlm_buf_append_str(text,
                               "    esac\n"
                               "    if ((COMP_CWORD == 1)); then\n"
                               "        takes=COMMAND options='--help --version'\n"
                               "    else\n"
                               "        case $prev in\n",
                               err));
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        VLM_TRY(append_value(text, &vlm_option_rows[i], err));
    VLM_TRY(
        vlm_buf_append_str(text,
                           "        *)\n"
                           "            if [[ -z $takes || $cur == -* ]]; then\n"
                           "                takes='' words=$options\n"
                           "            fi\n"
                           "            ;;\n"
                           "        esac\n"
                           "    fi\n"
                           "    if [[ $takes == COMMAND ]]; then words=$commands; fi\n"
                           "    if [[ $takes == COMMAND && $cur == -* ]]; then words=$options; fi\n"
                           "    if [[ $takes == SHELL ]]; then words='bash zsh fish'; fi\n",
                           err));
    return vlm_buf_append_str(text, frame_tail, err);
}
