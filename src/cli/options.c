#include "cli/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

typedef enum kind { FLAG, STRING, LIST, U32, U64, REAL, SIZE, CHOICE } kind;

typedef struct choice {
    const char *text;
    bool supported;
} choice;

#define CHOICE_ITEM(id, text, supported) {text, supported},
static const choice vlm_opt_dtype_choices[] = {VLM_OPT_DTYPE_LIST(CHOICE_ITEM)};
static const choice vlm_opt_device_choices[] = {VLM_OPT_DEVICE_LIST(CHOICE_ITEM)};
static const choice vlm_log_format_choices[] = {
    [VLM_LOG_TEXT] = {"text", true}, [VLM_LOG_JSON] = {"json", true}};
#define CHOICE_LOG(id, text) {text, true},
static const choice vlm_log_level_choices[] = {VLM_LOG_LEVEL_LIST(CHOICE_LOG)};
#define CHOICE_LEVEL(id, text, needs) {text, true},
static const choice vlm_opt_cpu_level_choices[] = {{"auto", true},
                                                   VLM_CPU_LEVEL_LIST(CHOICE_LEVEL)};

/* A row of the table, as data. */
typedef struct row {
    kind kind;
    const char *name;
    char letter;
    size_t off; /* of the field in vlm_options, in bytes */
    const char *value_name;
    const char *default_text; /* NULL: the number */
    uint64_t int_default, int_min, int_max;
    double real_default, real_min, real_max;
    size_t len_max; /* of a LIST's value, in bytes */
    const choice *choices;
    size_t n_choices;
    unsigned taken_by, needed_by;
    const char *help;
} row;

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

static const row rows[VLM_N_OPTIONS] = {VLM_OPTION_LIST(ROW_FLAG, ROW_STRING, ROW_LIST, ROW_U32,
                                                        ROW_U64, ROW_REAL, ROW_SIZE, ROW_CHOICE)};

static const struct {
    const char *name, *args;
    size_t n_args_min, n_args_max;
    const char *help;
} commands[VLM_N_COMMANDS] = {
#define COMMAND_ROW(id, name, args, least, most, help) {name, args, least, most, help},
    VLM_COMMAND_LIST(COMMAND_ROW)};

const char *vlm_command_name(vlm_command command)
{
    return commands[command].name;
}

bool vlm_command_parse(const char *text, vlm_command *command)
{
    for (int i = 0; i < VLM_N_COMMANDS; i++) {
        if (strcmp(text, commands[i].name) != 0) continue;
        *command = (vlm_command)i;
        return true;
    }
    return false;
}

static void *field_of(vlm_options *opt, const row *r)
{
    return (char *)opt + r->off;
}

static void set_defaults(vlm_options *opt)
{
    *opt = (vlm_options){0};
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        const row *r = &rows[i];
        void *field = field_of(opt, r);
        switch (r->kind) {
        case FLAG: *(bool *)field = false; break;
        case STRING: *(const char **)field = r->default_text; break;
        case LIST: break;
        case U32: *(uint32_t *)field = (uint32_t)r->int_default; break;
        case U64: *(uint64_t *)field = r->int_default; break;
        case REAL: *(double *)field = r->real_default; break;
        case SIZE: *(size_t *)field = (size_t)r->int_default; break;
        case CHOICE: *(unsigned *)field = (unsigned)r->int_default; break;
        }
    }
}

/* How the option was written, for messages: "--top-k" or "VLMD_TOP_K". */
typedef struct source {
    const row *row;
    const char *shown;
} source;

static bool parse_digits(const char *text, uint64_t *out, const char **rest)
{
    uint64_t value = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (!vlm_u64_mul(value, 10, &value) || !vlm_u64_add(value, (uint64_t)(*p - '0'), &value))
            return false;
    *out = value;
    *rest = p;
    return p != text;
}

static bool parse_size(const char *text, uint64_t *out)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"K", 10}, {"M", 20}, {"G", 30}};
    const char *rest;
    if (!parse_digits(text, out, &rest)) return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(rest, units[i].suffix) == 0)
            return vlm_u64_mul(*out, (uint64_t)1 << units[i].shift, out);
    return false;
}

static vlm_status set_int(source src, const char *text, void *field, vlm_error *err)
{
    const row *r = src.row;
    uint64_t value;
    const char *rest = "";
    const bool is_number =
        r->kind == SIZE ? parse_size(text, &value) : parse_digits(text, &value, &rest);
    if (!is_number || *rest != '\0' || value < r->int_min || value > r->int_max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be %s between %llu and %llu, not '%s'",
                        src.shown, r->kind == SIZE ? "a size (20MiB, say)" : "an integer",
                        (unsigned long long)r->int_min, (unsigned long long)r->int_max, text);
    if (r->kind == U32)
        *(uint32_t *)field = (uint32_t)value;
    else if (r->kind == U64)
        *(uint64_t *)field = value;
    else
        *(size_t *)field = (size_t)value;
    return VLM_OK;
}

static vlm_status set_real(source src, const char *text, void *field, vlm_error *err)
{
    const row *r = src.row;
    char *end = NULL;
    /* strtod alone would also take " 1", 0x1p3, inf and nan. */
    const bool plain = text[0] != '\0' && text[strspn(text, "0123456789+-.eE")] == '\0';
    const double value = plain ? strtod(text, &end) : 0.0;
    if (!plain || *end != '\0' || !isfinite(value) || value < r->real_min || value > r->real_max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "%s must be a number between %g and %g, not '%s'", src.shown, r->real_min,
                        r->real_max, text);
    *(double *)field = value;
    return VLM_OK;
}

/* "auto, f32, bf16 or f16" */
static vlm_status append_choices(vlm_buf *buf, const row *r, vlm_error *err)
{
    size_t n_left = 0, n_done = 0;
    for (size_t i = 0; i < r->n_choices; i++) n_left += r->choices[i].supported;
    for (size_t i = 0; i < r->n_choices; i++) {
        if (!r->choices[i].supported) continue;
        n_left--;
        if (n_done++ > 0) VLM_TRY(vlm_buf_append_str(buf, n_left > 0 ? ", " : " or ", err));
        VLM_TRY(vlm_buf_append_str(buf, r->choices[i].text, err));
    }
    return VLM_OK;
}

static vlm_status set_choice(source src, const char *text, void *field, vlm_error *err)
{
    const row *r = src.row;
    size_t i = 0;
    while (i < r->n_choices && strcmp(text, r->choices[i].text) != 0) i++;
    if (i < r->n_choices && r->choices[i].supported) {
        *(unsigned *)field = (unsigned)i;
        return VLM_OK;
    }
    vlm_buf list;
    vlm_buf_init(&list, 1024);
    vlm_status status = append_choices(&list, r, err);
    if (status == VLM_OK && i < r->n_choices)
        status = vlm_fail(err, VLM_UNIMPLEMENTED, "%s %s is not supported yet; there is %s",
                          src.shown, text, list.data);
    else if (status == VLM_OK)
        status = vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be %s, not '%s'", src.shown,
                          list.data, text);
    vlm_buf_fini(&list);
    return status;
}

/* What a flag may be set to by --flag=WORD or the environment. */
static vlm_status set_flag(source src, const char *text, void *field, vlm_error *err)
{
    static const char *const words[][2] = {
        {"false", "true"}, {"0", "1"}, {"no", "yes"}, {"off", "on"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        for (size_t on = 0; on < 2; on++) {
            if (strcmp(text, words[i][on]) != 0) continue;
            *(bool *)field = on == 1;
            return VLM_OK;
        }
    }
    return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be true or false, not '%s'", src.shown,
                    text);
}

static vlm_status set_list(source src, const char *text, void *field, vlm_error *err)
{
    vlm_option_values *list = field;
    if (list->n == VLM_OPTION_LIST_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s may be given at most %d times", src.shown,
                        VLM_OPTION_LIST_MAX);
    if (text[0] == '\0' || strlen(text) > src.row->len_max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must have between 1 and %zu bytes",
                        src.shown, src.row->len_max);
    list->values[list->n++] = text;
    return VLM_OK;
}

static vlm_status set_value(vlm_options *opt, source src, const char *text, vlm_error *err)
{
    void *field = field_of(opt, src.row);
    opt->given[src.row - rows] = true;
    switch (src.row->kind) {
    case FLAG: return set_flag(src, text, field, err);
    case STRING: *(const char **)field = text; return VLM_OK;
    case LIST: return set_list(src, text, field, err);
    case U32:
    case U64:
    case SIZE: return set_int(src, text, field, err);
    case REAL: return set_real(src, text, field, err);
    case CHOICE: return set_choice(src, text, field, err);
    }
    return VLM_OK;
}

typedef struct parser {
    vlm_options *opt;
    int argc, next;
    char *const *argv;
} parser;

static bool takes(const row *r, vlm_command command)
{
    return (r->taken_by >> command & 1) != 0;
}

/* The row of `--name` (of the first len bytes) or of a letter, if the command takes it. */
static vlm_status find_row(const parser *p, const char *name, size_t len, char letter,
                           const char *shown, const row **out, vlm_error *err)
{
    bool exists = false;
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        const row *r = &rows[i];
        const bool match = letter != '\0'
                               ? r->letter == letter
                               : strlen(r->name) == len && memcmp(r->name, name, len) == 0;
        if (!match) continue;
        exists = true;
        if (!takes(r, p->opt->command)) continue;
        *out = r;
        return VLM_OK;
    }
    const char *command = vlm_command_name(p->opt->command);
    return vlm_fail(err, VLM_INVALID_ARGUMENT,
                    exists ? "%s takes no option %s; see vlmd %s --help"
                           : "%s: unknown option %s; see vlmd %s --help",
                    command, shown, command);
}

/* The value of an option: what is attached to it, else the next word whatever it looks like. */
static vlm_status take_value(parser *p, source src, const char *attached, vlm_error *err)
{
    if (src.row->kind == FLAG) return set_value(p->opt, src, attached ? attached : "true", err);
    if (attached == NULL && p->next == p->argc)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s needs a value (%s)", src.shown,
                        src.row->value_name);
    return set_value(p->opt, src, attached != NULL ? attached : p->argv[p->next++], err);
}

static vlm_status parse_long(parser *p, const char *word, vlm_error *err)
{
    const char *equals = strchr(word, '=');
    const size_t len = equals != NULL ? (size_t)(equals - word) : strlen(word);
    vlm_buf shown;
    vlm_buf_init(&shown, 1u << 20);
    const row *r = NULL;
    vlm_status status = vlm_buf_append(&shown, word, len, err);
    if (status == VLM_OK) status = find_row(p, word + 2, len - 2, '\0', shown.data, &r, err);
    if (status == VLM_OK)
        status = take_value(p, (source){.row = r, .shown = shown.data},
                            equals != NULL ? equals + 1 : NULL, err);
    vlm_buf_fini(&shown);
    return status;
}

static vlm_status parse_short(parser *p, const char *word, vlm_error *err)
{
    const char shown[3] = {'-', word[1], '\0'};
    const row *r;
    VLM_TRY(find_row(p, NULL, 0, word[1], shown, &r, err));
    return take_value(p, (source){.row = r, .shown = shown}, word[2] != '\0' ? word + 2 : NULL,
                      err);
}

static vlm_status add_arg(parser *p, const char *word, vlm_error *err)
{
    const vlm_command command = p->opt->command;
    if (p->opt->n_args >= commands[command].n_args_max || p->opt->n_args == VLM_OPTIONS_ARGS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: unexpected argument '%s'",
                        commands[command].name, word);
    p->opt->args[p->opt->n_args++] = word;
    return VLM_OK;
}

static vlm_status parse_words(parser *p, vlm_error *err)
{
    bool only_args = false;
    while (p->next < p->argc && !p->opt->help) {
        const char *word = p->argv[p->next++];
        if (only_args || word[0] != '-' || word[1] == '\0')
            VLM_TRY(add_arg(p, word, err));
        else if (strcmp(word, "--") == 0)
            only_args = true;
        else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
            p->opt->help = true;
        else if (word[1] == '-')
            VLM_TRY(parse_long(p, word, err));
        else
            VLM_TRY(parse_short(p, word, err));
    }
    return VLM_OK;
}

enum { ENV_NAME_LEN_MAX = 63 };

/* "VLMD_TOP_K" for "top-k". */
static void env_name(const row *r, char out[ENV_NAME_LEN_MAX + 1])
{
    size_t len = 5;
    memcpy(out, "VLMD_", len);
    for (const char *c = r->name; *c != '\0' && len < ENV_NAME_LEN_MAX; c++)
        out[len++] = *c == '-' ? '_' : (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    out[len] = '\0';
}

/* Options that no flag set; a variable that is set but empty counts as not set. */
static vlm_status read_env(vlm_options *opt, vlm_env_fn *env, vlm_error *err)
{
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        const row *r = &rows[i];
        if (!takes(r, opt->command) || opt->given[i]) continue;
        char name[ENV_NAME_LEN_MAX + 1];
        env_name(r, name);
        const char *value = env(name);
        if (value == NULL || value[0] == '\0') continue;
        VLM_TRY(set_value(opt, (source){.row = r, .shown = name}, value, err));
    }
    return VLM_OK;
}

static vlm_status check_needed(const vlm_options *opt, vlm_error *err)
{
    const char *command = commands[opt->command].name;
    if (opt->n_args < commands[opt->command].n_args_min)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s needs %s; see vlmd %s --help", command,
                        commands[opt->command].args, command);
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        if ((rows[i].needed_by >> opt->command & 1) != 0 && !opt->given[i])
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s needs --%s %s", command, rows[i].name,
                            rows[i].value_name);
    return VLM_OK;
}

vlm_status vlm_options_parse(vlm_command command, int argc, char *const *argv, vlm_env_fn *env,
                             vlm_options *out, vlm_error *err)
{
    set_defaults(out);
    out->command = command;
    parser p = {.opt = out, .argc = argc, .next = 1, .argv = argv};
    VLM_TRY(parse_words(&p, err));
    if (out->help) return VLM_OK;
    VLM_TRY(read_env(out, env, err));
    return check_needed(out, err);
}

vlm_status vlm_options_help(vlm_buf *text, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(
        text,
        "vlmd answers questions about pictures with LLaVA-class models, on this machine's CPU.\n\n"
        "usage: vlmd COMMAND [ARGUMENTS] [OPTIONS]\n\n",
        err));
    for (size_t i = 0; i < VLM_N_COMMANDS; i++)
        VLM_TRY(vlm_buf_printf(text, err, "  %-9s %-17s %s\n", commands[i].name, commands[i].args,
                               commands[i].help));
    return vlm_buf_append_str(
        text,
        "\nMODEL is a folder in Hugging Face layout, or demo: the small model inside the program.\n"
        "vlmd COMMAND --help lists the options of a command.\n",
        err);
}

/* "  -n, --max-tokens N" */
static vlm_status append_option_name(vlm_buf *text, const row *r, vlm_error *err)
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

static vlm_status append_default(vlm_buf *text, const row *r, vlm_command command, vlm_error *err)
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

static vlm_status append_option(vlm_buf *text, const row *r, vlm_command command, vlm_error *err)
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
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) n_options += takes(&rows[i], command);
    VLM_TRY(vlm_buf_printf(text, err, "usage: vlmd %s%s%s%s\n\n%s\n", commands[command].name,
                           commands[command].args[0] != '\0' ? " " : "", commands[command].args,
                           n_options > 0 ? " [OPTIONS]" : "", commands[command].help));
    if (n_options == 0) return VLM_OK;
    VLM_TRY(vlm_buf_append_str(text, "\n", err));
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        if (takes(&rows[i], command)) VLM_TRY(append_option(text, &rows[i], command, err));
    return vlm_buf_append_str(
        text, "\nEvery option --a-b can also be set by the variable VLMD_A_B; the flag wins.\n",
        err);
}
