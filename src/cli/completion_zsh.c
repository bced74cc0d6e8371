#include "cli/completion.h"

static const char frame_head[] =
    "#compdef vlmd\n"
    "# zsh completion of vlmd, made by `vlmd completion zsh`.\n"
    "\n"
    "# A file or folder, demo, or an id that lies in the Hugging Face cache.\n"
    "_vlmd_models() {\n"
    "    local hub=${HF_HUB_CACHE:-$HUGGINGFACE_HUB_CACHE} folder\n"
    "    local -a models\n"
    "    models=(demo $1)\n"
    "    if [[ -z $hub && -n $HF_HOME ]]; then hub=$HF_HOME/hub; fi\n"
    "    if [[ -z $hub ]]; then hub=${XDG_CACHE_HOME:-$HOME/.cache}/huggingface/hub; fi\n"
    "    for folder in $hub/models--*(N:t); do\n"
    "        folder=${folder#models--}\n"
    "        if [[ $folder == ?*--?* && $folder != *[^A-Za-z0-9_.-]* ]]; then\n"
    "            models+=(${folder/--//})\n"
    "        fi\n"
    "    done\n"
    "    _alternative 'models:model:compadd -a models' 'files:file:_files'\n"
    "}\n"
    "\n"
    "_vlmd_commands() {\n"
    "    local -a commands\n"
    "    commands=(\n";

static const char frame_middle[] =
    "    )\n"
    "    _describe -t commands 'command' commands\n"
    "}\n"
    "\n"
    "_vlmd() {\n"
    "    local curcontext=$curcontext state line ret=1\n"
    "    local -A opt_args\n"
    "    _arguments -C '(- *)'{-h,--help}'[what there is]' '(- *)--version[print the version]' \\\n"
    "        '1:command:_vlmd_commands' '*::argument:->argument' && ret=0\n"
    "    if [[ $state == argument ]]; then\n"
    "        case $words[1] in\n";

static const char frame_tail[] =
    "        esac\n"
    "    fi\n"
    "    return ret\n"
    "}\n"
    "\n"
    "if [[ $funcstack[1] == _vlmd ]]; then _vlmd \"$@\"; else compdef _vlmd vlmd; fi\n";

/* Text inside of '...' where _arguments or _describe gives : [ ] \ a meaning. */
static vlm_status append_quoted(vlm_buf *text, const char *words, vlm_error *err)
{
    return vlm_completion_quote(text, words, "\\:[]", "'\\''", err);
}

/* "            '(-n --max-tokens)'{-n+,--max-tokens=}'[longest answer]:N: ' \" */
static vlm_status append_option(vlm_buf *text, const vlm_option_row *r, vlm_error *err)
{
    const vlm_completion_kind kind = vlm_completion_of_option(r);
    const bool has_value = kind != VLM_COMPLETION_NOTHING;
    const char *plus = has_value ? "+" : "", *equals = has_value ? "=" : "";
    VLM_TRY(vlm_buf_append_str(text, " \\\n                ", err));
    if (r->kind == LIST)
        VLM_TRY(vlm_buf_append_str(text, "'*'", err));
    else if (r->letter != '\0')
        VLM_TRY(vlm_buf_printf(text, err, "'(-%c --%s)'", r->letter, r->name));
    if (r->letter != '\0')
        VLM_TRY(vlm_buf_printf(text, err, "{-%c%s,--%s%s}'[", r->letter, plus, r->name, equals));
    else
        VLM_TRY(vlm_buf_printf(text, err, "'--%s%s[", r->name, equals));
    VLM_TRY(append_quoted(text, r->help, err));
    VLM_TRY(vlm_buf_append_char(text, ']', err));
    if (has_value) VLM_TRY(vlm_buf_printf(text, err, ":%s:", r->value_name));
    if (kind == VLM_COMPLETION_FILE) VLM_TRY(vlm_buf_append_str(text, "_files", err));
    if (kind == VLM_COMPLETION_ANY) VLM_TRY(vlm_buf_append_char(text, ' ', err));
    if (kind == VLM_COMPLETION_CHOICE) {
        VLM_TRY(vlm_buf_append_char(text, '(', err));
        VLM_TRY(vlm_option_append_choices(text, r, ' ', err));
        VLM_TRY(vlm_buf_append_char(text, ')', err));
    }
    return vlm_buf_append_char(text, '\'', err);
}

static vlm_status append_command(vlm_buf *text, vlm_command command, vlm_error *err)
{
    static const char *const actions[] = {
        [VLM_COMPLETION_FILE] = "_files",
        [VLM_COMPLETION_MODEL] = " _vlmd_models", /* the space: no words of _arguments' own */
        [VLM_COMPLETION_COMMAND] = "_vlmd_commands",
        [VLM_COMPLETION_SHELL] = "(bash zsh fish)",
    };
    const vlm_command_row *c = &vlm_command_rows[command];
    VLM_TRY(vlm_buf_printf(
        text, err, "        %s)\n            _arguments '(- *)'{-h,--help}'[what it takes]'",
        c->name));
    const char *action = actions[vlm_completion_of_argument(c)];
    if (action != NULL)
        VLM_TRY(vlm_buf_printf(text, err, " \\\n                '1:argument:%s%s'", action,
                               vlm_completion_knows_mock(command) ? " mock" : ""));
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        if (vlm_option_takes(&vlm_option_rows[i], command))
            VLM_TRY(append_option(text, &vlm_option_rows[i], err));
    return vlm_buf_append_str(text, " && ret=0\n            ;;\n", err);
}

vlm_status vlm_completion_zsh(vlm_buf *text, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(text, frame_head, err));
    for (size_t i = 0; i < VLM_N_COMMANDS; i++) {
        VLM_TRY(vlm_buf_printf(text, err, "        '%s:", vlm_command_rows[i].name));
        VLM_TRY(append_quoted(text, vlm_command_rows[i].help, err));
        VLM_TRY(vlm_buf_append_str(text, "'\n", err));
    }
    VLM_TRY(vlm_buf_append_str(text, frame_middle, err));
    for (int i = 0; i < VLM_N_COMMANDS; i++) VLM_TRY(append_command(text, (vlm_command)i, err));
    return vlm_buf_append_str(text, frame_tail, err);
}
