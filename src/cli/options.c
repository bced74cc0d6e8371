#include "cli/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/options_rows.h"

const char *vlm_command_name(vlm_command command)
{
    return vlm_command_rows[command].name;
}

bool vlm_command_parse(const char *text, vlm_command *command)
{
    for (int i = 0; i < VLM_N_COMMANDS; i++) {
        if (strcmp(text, vlm_command_rows[i].name) != 0) continue;
        *command = (vlm_command)i;
        return true;
    }
    return false;
}

static void *field_of(vlm_options *opt, const vlm_option_row *r)
{
    return (char *)opt + r->off;
}

static void set_defaults(vlm_options *opt)
{
    *opt = (vlm_options){0};
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        const vlm_option_row *r = &vlm_option_rows[i];
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
    const vlm_option_row *row;
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
    const vlm_option_row *r = src.row;
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
    const vlm_option_row *r = src.row;
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
static vlm_status append_choices(vlm_buf *buf, const vlm_option_row *r, vlm_error *err)
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
    const vlm_option_row *r = src.row;
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
    opt->given[src.row - vlm_option_rows] = true;
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

/* The row of `--name` (of the first len bytes) or of a letter, if the command takes it. */
static vlm_status find_row(const parser *p, const char *name, size_t len, char letter,
                           const char *shown, const vlm_option_row **out, vlm_error *err)
{
    bool exists = false;
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        const vlm_option_row *r = &vlm_option_rows[i];
        const bool match = letter != '\0'
                               ? r->letter == letter
                               : strlen(r->name) == len && memcmp(r->name, name, len) == 0;
        if (!match) continue;
        exists = true;
        if (!vlm_option_takes(r, p->opt->command)) continue;
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
    const vlm_option_row *r = NULL;
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
    const vlm_option_row *r;
    VLM_TRY(find_row(p, NULL, 0, word[1], shown, &r, err));
    return take_value(p, (source){.row = r, .shown = shown}, word[2] != '\0' ? word + 2 : NULL,
                      err);
}

static vlm_status add_arg(parser *p, const char *word, vlm_error *err)
{
    const vlm_command command = p->opt->command;
    if (p->opt->n_args >= vlm_command_rows[command].n_args_max ||
        p->opt->n_args == VLM_OPTIONS_ARGS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: unexpected argument '%s'",
                        vlm_command_rows[command].name, word);
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
static void env_name(const vlm_option_row *r, char out[ENV_NAME_LEN_MAX + 1])
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
        const vlm_option_row *r = &vlm_option_rows[i];
        if (!vlm_option_takes(r, opt->command) || opt->given[i]) continue;
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
    const char *command = vlm_command_rows[opt->command].name;
    if (opt->n_args < vlm_command_rows[opt->command].n_args_min)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s needs %s; see vlmd %s --help", command,
                        vlm_command_rows[opt->command].args, command);
    for (size_t i = 0; i < VLM_N_OPTIONS; i++)
        if ((vlm_option_rows[i].needed_by >> opt->command & 1) != 0 && !opt->given[i])
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s needs --%s %s", command,
                            vlm_option_rows[i].name, vlm_option_rows[i].value_name);
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

static vlm_status forward(const vlm_options *opt, const vlm_option_row *r, vlm_buf *words,
                          vlm_error *err)
{
    const void *field = (const char *)opt + r->off;
    VLM_TRY(vlm_buf_printf(words, err, "--%s=", r->name));
    switch (r->kind) {
    case FLAG: return vlm_buf_append_str(words, *(const bool *)field ? "true" : "false", err);
    case STRING: return vlm_buf_append_str(words, *(const char *const *)field, err);
    case U32: return vlm_buf_printf(words, err, "%u", *(const uint32_t *)field);
    case U64:
        return vlm_buf_printf(words, err, "%llu", (unsigned long long)*(const uint64_t *)field);
    case SIZE: return vlm_buf_printf(words, err, "%zu", *(const size_t *)field);
    case REAL: return vlm_buf_printf(words, err, "%.17g", *(const double *)field);
    case CHOICE: return vlm_buf_append_str(words, r->choices[*(const unsigned *)field].text, err);
    case LIST: break;
    }
    return vlm_fail(err, VLM_INTERNAL, "--%s is not handed on", r->name);
}

vlm_status vlm_options_forward(const vlm_options *opt, vlm_command command, vlm_buf *words,
                               vlm_error *err)
{
    for (size_t i = 0; i < VLM_N_OPTIONS; i++) {
        const vlm_option_row *r = &vlm_option_rows[i];
        if (!opt->given[i] || !vlm_option_takes(r, command)) continue;
        VLM_TRY(forward(opt, r, words, err));
        VLM_TRY(vlm_buf_append_char(words, '\0', err));
    }
    return VLM_OK;
}
