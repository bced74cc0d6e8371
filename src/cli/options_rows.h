/* options_rows.h - the tables of options.h as data: what the parser, the help and the completion
 * walk over.
 * Not for others: options.h is the interface.  Threads: constant. */
#ifndef VLM_CLI_OPTIONS_ROWS_H
#define VLM_CLI_OPTIONS_ROWS_H

#include "cli/options.h"

typedef enum vlm_option_kind { FLAG, STRING, LIST, U32, U64, REAL, SIZE, CHOICE } vlm_option_kind;

typedef struct vlm_option_choice {
    const char *text;
    bool supported;
} vlm_option_choice;

/* A row of the table, as data. */
typedef struct vlm_option_row {
    vlm_option_kind kind;
    const char *name;
    char letter;
    size_t off; /* of the field in vlm_options, in bytes */
    const char *value_name;
    const char *default_text; /* NULL: the number */
    uint64_t int_default, int_min, int_max;
    double real_default, real_min, real_max;
    size_t len_max; /* of a LIST's value, in bytes */
    const vlm_option_choice *choices;
    size_t n_choices;
    unsigned taken_by, needed_by;
    const char *help;
} vlm_option_row;

typedef struct vlm_command_row {
    const char *name, *args;
    size_t n_args_min, n_args_max;
    const char *help;
} vlm_command_row;

extern const vlm_option_row vlm_option_rows[VLM_N_OPTIONS];
extern const vlm_command_row vlm_command_rows[VLM_N_COMMANDS];

bool vlm_option_takes(const vlm_option_row *r, vlm_command command);

/* The heading under which help and manual show the row of this number. */
const char *vlm_option_section(size_t row_idx);

/* Append " (default: ...)", or " (needed)"; nothing for an option without either.  VLM_N_COMMANDS
 * for command: as if no command needed it.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_option_append_default(vlm_buf *text, const vlm_option_row *r,
                                                  vlm_command command, vlm_error *err);

/* Append the choices that are supported, with the separator between them.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_option_append_choices(vlm_buf *text, const vlm_option_row *r,
                                                  char separator, vlm_error *err);

#endif
