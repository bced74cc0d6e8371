#include <string.h>

#include "cli/options.h"
#include "cli/options_rows.h"

/* All of it in 24 lines of 80 columns. */
vlm_status vlm_options_help(vlm_buf *text, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(
        text,
        "vlmd answers questions about pictures with LLaVA-class models, on your own CPU.\n"
        "usage: vlmd COMMAND [ARGUMENT] [OPTIONS]\n\n",
        err));
    vlm_buf call;
    vlm_buf_init(&call, 256);
    vlm_status status = VLM_OK;
    for (size_t i = 0; i < VLM_N_COMMANDS && status == VLM_OK; i++) {
        const vlm_command_row *c = &vlm_command_rows[i];
        vlm_buf_clear(&call);
        status = vlm_buf_printf(&call, err, "%s %s", c->name, c->args);
        if (status == VLM_OK)
            status = vlm_buf_printf(text, err, "  %-17s %s\n", call.data, c->help);
    }
    vlm_buf_fini(&call);
    VLM_TRY(status);
    return vlm_buf_append_str(
        text,
        "\nMODEL: demo (inside the program, the default), a folder in Hugging Face layout,\n"
        "or ORG/NAME of the Hugging Face Hub, downloaded where absent.\n"
        "vlmd COMMAND --help lists a command's options.  Try: vlmd run demo -i PICTURE\n",
        err);
}

/* "  -n, --max-tokens N" */
static vlm_status append_option_name(vlm_buf *text, const vlm_option_row *r, vlm_error *err)
{
    if (r->letter != '\0')
        VLM_TRY(vlm_buf_printf(text, err, "  -%c, ", r->letter));
    else
        VLM_TRY(vlm_buf_append_str(text, "      ", err));
    VLM_TRY(vlm_buf_printf(text, err, "--%s", r->name));
    if (r->kind == FLAG) return VLM_OK;
    if (r->kind != CHOICE) return vlm_buf_printf(text, err, " %s", r->value_name);
    VLM_TRY(vlm_buf_append_char(text, ' ', err));
    return vlm_option_append_choices(text, r, '|', err);
}

enum { HELP_COLUMN = 31, HELP_WIDTH = 80 };

/* Append words of text, broken before HELP_WIDTH, each further line beginning at HELP_COLUMN. */
static vlm_status append_wrapped(vlm_buf *text, const char *words, vlm_error *err)
{
    size_t column = HELP_COLUMN;
    while (*words != '\0') {
        /* A default is one word, or a number would stand on the next line. */
        const size_t kept = strncmp(words, "(default: ", 10) == 0 ? 10 : 0;
        const size_t len = kept + strcspn(words + kept, " ");
        if (column > HELP_COLUMN && column + 1 + len > HELP_WIDTH) {
            VLM_TRY(vlm_buf_printf(text, err, "\n%*s", HELP_COLUMN, ""));
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            VLM_TRY(vlm_buf_append_char(text, ' ', err));
            column++;
        }
        VLM_TRY(vlm_buf_append(text, words, len, err));
        column += len;
        words += len;
        words += strspn(words, " ");
    }
    return vlm_buf_append_char(text, '\n', err);
}

static vlm_status append_option(vlm_buf *text, const vlm_option_row *r, vlm_command command,
                                vlm_error *err)
{
    const size_t start = text->len;
    VLM_TRY(append_option_name(text, r, err));
    const size_t used = text->len - start;
    VLM_TRY(used + 2 > HELP_COLUMN
                ? vlm_buf_printf(text, err, "\n%*s", HELP_COLUMN, "")
                : vlm_buf_printf(text, err, "%*s", (int)(HELP_COLUMN - used), ""));
    vlm_buf words;
    vlm_buf_init(&words, 4096);
    vlm_status status = vlm_buf_append_str(&words, r->help, err);
    if (status == VLM_OK) status = vlm_option_append_default(&words, r, command, err);
    if (status == VLM_OK) status = append_wrapped(text, words.data, err);
    vlm_buf_fini(&words);
    return status;
}

/* So few options need no headings. */
enum { OPTIONS_WITHOUT_SECTIONS = 12 };

static vlm_status append_options(vlm_buf *text, vlm_command command, bool sections, vlm_error *err)
{
    const char *section = "";
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        if (!vlm_option_takes(&vlm_option_rows[i], command)) continue;
        if (sections && strcmp(section, vlm_option_section(i)) != 0) {
            section = vlm_option_section(i);
            VLM_TRY(vlm_buf_printf(text, err, "\n%s:\n", section));
        }
        VLM_TRY(append_option(text, &vlm_option_rows[i], command, err));
    }
    return VLM_OK;
}

vlm_status vlm_options_help_command(vlm_command command, vlm_buf *text, vlm_error *err)
{
    const vlm_command_row *c = &vlm_command_rows[command];
    size_t n_options = 0;
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        n_options += vlm_option_takes(&vlm_option_rows[i], command);
    VLM_TRY(vlm_buf_printf(text, err, "usage: vlmd %s%s%s%s\n\n%s\n", c->name,
                           c->args[0] != '\0' ? " " : "", c->args,
                           n_options > 0 ? " [OPTIONS]" : "", c->help));
    if (n_options == 0) return VLM_OK;
    const bool sections = n_options > OPTIONS_WITHOUT_SECTIONS;
    if (!sections) VLM_TRY(vlm_buf_append_str(text, "\n", err));
    VLM_TRY(append_options(text, command, sections, err));
    return vlm_buf_append_str(
        text, "\nEvery option --a-b can also be set by the variable VLMD_A_B; the flag wins.\n",
        err);
}
