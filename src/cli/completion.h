/* completion.h - scripts that teach a shell to complete vlmd's commands, options and values.
 * Made from the tables of options.h, as the help is.
 * Not: which shell runs, or where its scripts lie (`make install` knows).
 * Ownership: none.  Threads: pure. */
#ifndef VLM_CLI_COMPLETION_H
#define VLM_CLI_COMPLETION_H

#include "base/buf.h"
#include "base/status.h"
#include "cli/options_rows.h"

/* What may follow an option or a command. */
typedef enum vlm_completion_kind {
    VLM_COMPLETION_NOTHING, /* no value, or no argument */
    VLM_COMPLETION_ANY,     /* a value that no shell can guess: a number, a text */
    VLM_COMPLETION_CHOICE,  /* one of the row's choices */
    VLM_COMPLETION_FILE,
    VLM_COMPLETION_MODEL, /* a file or folder, demo, an id of the Hugging Face cache */
    VLM_COMPLETION_COMMAND,
    VLM_COMPLETION_SHELL
} vlm_completion_kind;

vlm_completion_kind vlm_completion_of_option(const vlm_option_row *r);
vlm_completion_kind vlm_completion_of_argument(const vlm_command_row *c);
/* Whether MODEL may be mock. */
bool vlm_completion_knows_mock(vlm_command command);

/* Append the script of a shell.  RESOURCE_EXHAUSTED. */
typedef vlm_status vlm_completion_fn(vlm_buf *text, vlm_error *err);
VLM_MUST_USE vlm_status vlm_completion_bash(vlm_buf *text, vlm_error *err);
VLM_MUST_USE vlm_status vlm_completion_zsh(vlm_buf *text, vlm_error *err);
VLM_MUST_USE vlm_status vlm_completion_fish(vlm_buf *text, vlm_error *err);

/* Append the text with a backslash before each byte of specials, and ' as the shell wants it inside
 * of single quotes (quote).  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_completion_quote(vlm_buf *text, const char *words, const char *specials,
                                             const char *quote, vlm_error *err);

#endif
