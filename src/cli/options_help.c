#include <string.h>

#include "cli/options.h"
#include "cli/options_rows.h"

vlm_status vlm_options_help(vlm_buf *text, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(
        text,
        "vlmd answers questions about pictures with LLaVA-class models, on this machine's CPU.\n\n"
        "usage: vlmd COMMAND [ARGUMENTS] [OPTIONS]\n\n",
        err));
    for (size_t i = 0; i < VLM_N_COMMANDS; i++)
        VLM_TRY(vlm_buf_printf(text, err, "  %-9s %-17s %s\n", vlm_command_rows[i].name,
                               vlm_command_rows[i].args, vlm_command_rows[i].help));
    return vlm_buf_append_str(
        text,
        "\nMODEL is a folder in Hugging Face layout, or demo: the small model inside the program.\n"
        "vlmd COMMAND --help lists the options of a command.\n",
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
    const char *separator = " ";
    for (size_t i = 0; i < r->n_choices; i++) {
        if (!r->choices[i].supported) continue;
        VLM_TRY(vlm_buf_printf(text, err, "%s%s", separator, r->choices[i].text));
        separator = "|";
    }
    return VLM_OK;
}

static vlm_status append_default(vlm_buf *text, const vlm_option_row *r, vlm_command command,
                                 vlm_error *err)
{
    if ((r->needed_by >> command & 1) != 0) return vlm_buf_append_str(text, " (needed)", err);
    if (r->default_text != NULL)
        return vlm_buf_printf(text, err, " (default: %s)", r->default_text);
    switch (r->kind) {
    case U32:
    case U64:
    case SIZE:
        return vlm_buf_printf(text, err, " (default: %llu)", (unsigned long long)r->int_default);
    case REAL: return vlm_buf_printf(text, err, " (default: %g)", r->real_default);
    case CHOICE:
        return vlm_buf_printf(text, err, " (default: %s)", r->choices[r->int_default].text);
    case FLAG:
    case STRING:
    case LIST: break;
    }
    return VLM_OK;
}

enum { HELP_COLUMN = 34, HELP_WIDTH = 100 };

/* Append words of text, broken before HELP_WIDTH, each further line beginning at HELP_COLUMN. */
static vlm_status append_wrapped(vlm_buf *text, const char *words, vlm_error *err)
{
    size_t column = HELP_COLUMN;
    while (*words != '\0') {
        const size_t len = strcspn(words, " ");
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
    if (status == VLM_OK) status = append_default(&words, r, command, err);
    if (status == VLM_OK) status = append_wrapped(text, words.data, err);
    vlm_buf_fini(&words);
    return status;
}

vlm_status vlm_options_help_command(vlm_command command, vlm_buf *text, vlm_error *err)
{
    size_t n_options = 0;
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        n_options += vlm_option_takes(&vlm_option_rows[i], command);
    VLM_TRY(vlm_buf_printf(
        text, err, "usage: vlmd %s%s%s%s\n\n%s\n", vlm_command_rows[command].name,
        vlm_command_rows[command].args[0] != '\0' ? " " : "", vlm_command_rows[command].args,
        n_options > 0 ? " [OPTIONS]" : "", vlm_command_rows[command].help));
    if (n_options == 0) return VLM_OK;
    VLM_TRY(vlm_buf_append_str(text, "\n", err));
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        if (vlm_option_takes(&vlm_option_rows[i], command))
            VLM_TRY(append_option(text, &vlm_option_rows[i], command, err));
    return vlm_buf_append_str(
        text, "\nEvery option --a-b can also be set by the variable VLMD_A_B; the flag wins.\n",
        err);
}
