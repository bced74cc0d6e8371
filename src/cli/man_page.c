#include "cli/man_page.h"

#include <string.h>

#include "cli/options_rows.h"

/* A line ends at the first space after so many bytes: mandoc wants at most 80. */
enum { LINE_LEN = 55 };

/* Text as roff shows it as it is: - is a hyphen there, \ and a dot at a line's start are commands.
 */
static vlm_status append_text(vlm_buf *page, const char *text, vlm_error *err)
{
    size_t start = page->len;
    for (const char *c = text; *c != '\0'; c++) {
        if (page->len == start && (*c == '.' || *c == '\''))
            VLM_TRY(vlm_buf_append_str(page, "\\&", err));
        if (*c == ' ' && page->len - start > LINE_LEN) {
            VLM_TRY(vlm_buf_append_char(page, '\n', err));
            start = page->len;
        } else if (*c == '-') {
            VLM_TRY(vlm_buf_append_str(page, "\\-", err));
        } else if (*c == '\\') {
            VLM_TRY(vlm_buf_append_str(page, "\\e", err));
        } else {
            VLM_TRY(vlm_buf_append_char(page, *c, err));
        }
    }
    return VLM_OK;
}

static vlm_status append_commands(vlm_buf *page, vlm_error *err)
{
    for (size_t i = 0; i < VLM_N_COMMANDS; i++) {
        const vlm_command_row *c = &vlm_command_rows[i];
        VLM_TRY(vlm_buf_printf(page, err, ".TP\n\\fB%s\\fR%s\\fI", c->name,
                               c->args[0] != '\0' ? " " : ""));
        VLM_TRY(append_text(page, c->args, err));
        VLM_TRY(vlm_buf_append_str(page, "\\fR\n", err));
        VLM_TRY(append_text(page, c->help, err));
        VLM_TRY(vlm_buf_append_char(page, '\n', err));
    }
    return VLM_OK;
}

static vlm_status append_head(vlm_buf *page, const vlm_option_row *r, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(page, ".TP\n", err));
    if (r->letter != '\0') VLM_TRY(vlm_buf_printf(page, err, "\\fB\\-%c\\fR, ", r->letter));
    VLM_TRY(vlm_buf_append_str(page, "\\fB\\-\\-", err));
    VLM_TRY(append_text(page, r->name, err));
    VLM_TRY(vlm_buf_append_str(page, "\\fR", err));
    if (r->kind == FLAG) return vlm_buf_append_char(page, '\n', err);
    if (r->kind != CHOICE) return vlm_buf_printf(page, err, " \\fI%s\\fR\n", r->value_name);
    VLM_TRY(vlm_buf_append_char(page, ' ', err));
    VLM_TRY(vlm_option_append_choices(page, r, '|', err));
    return vlm_buf_append_char(page, '\n', err);
}

/* "Of: run, trace (needed)" */
static vlm_status append_takers(vlm_buf *words, const vlm_option_row *r, vlm_error *err)
{
    const char *separator = "Of: ";
    for (int i = 0; i < VLM_N_COMMANDS; i++) {
        if (!vlm_option_takes(r, (vlm_command)i)) continue;
        VLM_TRY(vlm_buf_printf(words, err, "%s%s%s", separator, vlm_command_rows[i].name,
                               (r->needed_by >> i & 1) != 0 ? " (needed)" : ""));
        separator = ", ";
    }
    return VLM_OK;
}

static vlm_status append_option(vlm_buf *page, const vlm_option_row *r, vlm_error *err)
{
    VLM_TRY(append_head(page, r, err));
    vlm_buf words;
    vlm_buf_init(&words, 4096);
    vlm_status status = vlm_buf_append_str(&words, r->help, err);
    if (status == VLM_OK) status = vlm_option_append_default(&words, r, VLM_N_COMMANDS, err);
    if (status == VLM_OK) status = append_text(page, words.data, err);
    vlm_buf_clear(&words);
    if (status == VLM_OK) status = append_takers(&words, r, err);
    if (status == VLM_OK) status = vlm_buf_append_str(page, "\n.br\n", err);
    if (status == VLM_OK) status = append_text(page, words.data, err);
    vlm_buf_fini(&words);
    VLM_TRY(status);
    return vlm_buf_append_char(page, '\n', err);
}

static vlm_status append_options(vlm_buf *page, vlm_error *err)
{
    const char *section = "";
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        if (strcmp(section, vlm_option_section(i)) != 0) {
            section = vlm_option_section(i);
            VLM_TRY(vlm_buf_printf(page, err, ".SS %s\n", section));
        }
        VLM_TRY(append_option(page, &vlm_option_rows[i], err));
    }
    return VLM_OK;
}

/* A line of the frame, without its end. */
static vlm_status append_line(vlm_buf *page, vlm_bytes line, vlm_error *err)
{
    static const char version[] = "@VERSION@";
    const size_t version_len = sizeof version - 1;
    if (vlm_bytes_eq_str(line, "@COMMANDS@")) return append_commands(page, err);
    if (vlm_bytes_eq_str(line, "@OPTIONS@")) return append_options(page, err);
    for (size_t i = 0; i < line.len;) {
        if (line.len - i >= version_len && memcmp(line.ptr + i, version, version_len) == 0) {
            VLM_TRY(vlm_buf_append_str(page, VLM_VERSION, err));
            i += version_len;
        } else {
            VLM_TRY(vlm_buf_append_char(page, line.ptr[i++], err));
        }
    }
    return vlm_buf_append_char(page, '\n', err);
}

vlm_status vlm_man_page(vlm_bytes frame, vlm_buf *page, vlm_error *err)
{
    for (size_t at = 0; at < frame.len;) {
        const char *start = frame.ptr + at;
        const char *end = memchr(start, '\n', frame.len - at);
        const size_t len = end != NULL ? (size_t)(end - start) : frame.len - at;
        VLM_TRY(append_line(page, (vlm_bytes){.ptr = start, .len = len}, err));
        at += len + 1;
    }
    return VLM_OK;
}
