#include "cli/options_rows.h"

#define CHOICE_ITEM(id, text, supported) {text, supported},
static const vlm_option_choice vlm_opt_dtype_choices[] = {VLM_OPT_DTYPE_LIST(CHOICE_ITEM)};
static const vlm_option_choice vlm_opt_cache_scope_choices[] = {
    VLM_OPT_CACHE_SCOPE_LIST(CHOICE_ITEM)};
static const vlm_option_choice vlm_opt_kv_dtype_choices[] = {VLM_OPT_KV_DTYPE_LIST(CHOICE_ITEM)};
static const vlm_option_choice vlm_opt_device_choices[] = {VLM_OPT_DEVICE_LIST(CHOICE_ITEM)};
static const vlm_option_choice vlm_opt_switch_choices[] = {VLM_OPT_SWITCH_LIST(CHOICE_ITEM)};
static const vlm_option_choice vlm_log_format_choices[] = {
    [VLM_LOG_TEXT] = {"text", true}, [VLM_LOG_JSON] = {"json", true}};
#define CHOICE_LOG(id, text) {text, true},
static const vlm_option_choice vlm_log_level_choices[] = {VLM_LOG_LEVEL_LIST(CHOICE_LOG)};
#define CHOICE_LEVEL(id, text, needs) {text, true},
static const vlm_option_choice vlm_opt_cpu_level_choices[] = {{"auto", true},
                                                              VLM_CPU_LEVEL_LIST(CHOICE_LEVEL)};

#define ROW(KIND, field, name_, letter_, taken, needed, help_)                                     \
    .kind = KIND, .name = name_, .letter = letter_, .off = offsetof(vlm_options, field),           \
    .taken_by = taken, .needed_by = needed, .help = help_
#define ROW_FLAG(ID, field, name, letter, taken, needed, help)                                     \
    {ROW(FLAG, field, name, letter, taken, needed, help)},
#define ROW_STRING(ID, field, name, letter, value, def, taken, needed, help)                       \
    {ROW(STRING, field, name, letter, taken, needed, help), .value_name = value,                   \
     .default_text = def},
#define ROW_LIST(ID, field, name, letter, value, len, taken, needed, help)                         \
    {ROW(LIST, field, name, letter, taken, needed, help), .value_name = value, .len_max = len},
#define ROW_INT(KIND, field, name, letter, value, def, min, max, shown, taken, needed, help)       \
    {ROW(KIND, field, name, letter, taken, needed, help),                                          \
     .value_name = value,                                                                          \
     .int_default = def,                                                                           \
     .int_min = min,                                                                               \
     .int_max = max,                                                                               \
     .default_text = shown},
#define ROW_U32(ID, ...) ROW_INT(U32, __VA_ARGS__)
#define ROW_U64(ID, ...) ROW_INT(U64, __VA_ARGS__)
#define ROW_SIZE(ID, ...) ROW_INT(SIZE, __VA_ARGS__)
#define ROW_REAL(ID, field, name, letter, value, def, min, max, shown, taken, needed, help)        \
    {ROW(REAL, field, name, letter, taken, needed, help),                                          \
     .value_name = value,                                                                          \
     .real_default = def,                                                                          \
     .real_min = min,                                                                              \
     .real_max = max,                                                                              \
     .default_text = shown},
#define ROW_CHOICE(ID, field, name, letter, type, def, taken, needed, help)                        \
    {ROW(CHOICE, field, name, letter, taken, needed, help), .value_name = "CHOICE",                \
     .int_default = def, .choices = type##_choices,                                                \
     .n_choices = sizeof type##_choices / sizeof type##_choices[0]},

const vlm_option_row vlm_option_rows[VLM_N_OPTIONS] = {VLM_OPTION_LIST(
    ROW_FLAG, ROW_STRING, ROW_LIST, ROW_U32, ROW_U64, ROW_REAL, ROW_SIZE, ROW_CHOICE)};

const vlm_command_row vlm_command_rows[VLM_N_COMMANDS] = {
#define COMMAND_ROW(id, name, args, least, most, help) {name, args, least, most, help},
    VLM_COMMAND_LIST(COMMAND_ROW)};

bool vlm_option_takes(const vlm_option_row *r, vlm_command command)
{
    return (r->taken_by >> command & 1) != 0;
}

/* Where a section begins; it goes on to the next that does. */
static const char *const section_starts[VLM_N_OPTIONS] = {
    [VLM_OPTION_IMAGE] = "Question",
    [VLM_OPTION_TEMPERATURE] = "Sampling",
    [VLM_OPTION_TIMINGS] = "Input and output",
    [VLM_OPTION_TESTS] = "Measurements",
    [VLM_OPTION_LISTEN] = "Service",
    [VLM_OPTION_MAX_RUNNING] = "Limits of a server",
    [VLM_OPTION_MOCK_TOKEN_MS] = "The model mock, for tests",
    [VLM_OPTION_DTYPE] = "Weights, memory and threads",
    [VLM_OPTION_MAX_IMAGE_BYTES] = "Limits of pictures",
    [VLM_OPTION_LOG_FORMAT] = "Log",
};

const char *vlm_option_section(size_t row_idx)
{
    while (row_idx > 0 && section_starts[row_idx] == NULL) row_idx--;
    return section_starts[row_idx];
}

vlm_status vlm_option_append_default(vlm_buf *text, const vlm_option_row *r, vlm_command command,
                                     vlm_error *err)
{
    if (command < VLM_N_COMMANDS && (r->needed_by >> command & 1) != 0)
        return vlm_buf_append_str(text, " (needed)", err);
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

vlm_status vlm_option_append_choices(vlm_buf *text, const vlm_option_row *r, char separator,
                                     vlm_error *err)
{
    size_t n_done = 0;
    for (size_t i = 0; i < r->n_choices; i++) {
        if (!r->choices[i].supported) continue;
        if (n_done++ > 0) VLM_TRY(vlm_buf_append_char(text, separator, err));
        VLM_TRY(vlm_buf_append_str(text, r->choices[i].text, err));
    }
    return VLM_OK;
}
