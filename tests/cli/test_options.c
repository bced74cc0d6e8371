#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/options.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* What the environment holds during a test: "NAME=value", NULL at the end. */
static const char *const *environment;

static const char *env(const char *name)
{
    const size_t len = strlen(name);
    for (size_t i = 0; environment != NULL && environment[i] != NULL; i++)
        if (strncmp(environment[i], name, len) == 0 && environment[i][len] == '=')
            return environment[i] + len + 1;
    return NULL;
}

/* Words separated by '|', after `vlmd COMMAND`; *opt points into words. */
static vlm_status parse(vlm_command command, char *words, vlm_options *opt, vlm_error *err)
{
    char *argv[64] = {words};
    int argc = 1;
    for (char *p = words; *p != '\0'; argc++) {
        argv[argc] = p;
        p += strcspn(p, "|");
        if (*p == '|') *p++ = '\0';
    }
    return vlm_options_parse(command, argc, argv, env, opt, err);
}

#define PARSE(command, text)                                                                       \
    char words[] = text;                                                                           \
    vlm_options opt;                                                                               \
    vlm_error err = {0};                                                                           \
    const vlm_status status = parse(VLM_COMMAND_##command, words, &opt, &err)

static void defaults(void **state)
{
    (void)state;
    PARSE(RUN, "");
    assert_int_equal(status, VLM_OK);
    assert_int_equal(opt.command, VLM_COMMAND_RUN);
    assert_int_equal(opt.n_args, 0);
    assert_int_equal(opt.image.n, 0);
    assert_null(opt.prompt);
    assert_false(opt.raw);
    assert_int_equal(opt.max_tokens, 0);
    assert_true(opt.top_p == 1.0 && opt.temperature == 0.0 && opt.repetition_penalty == 1.0);
    assert_int_equal(opt.dtype, VLM_OPT_DTYPE_AUTO);
    assert_int_equal(opt.device, VLM_OPT_DEVICE_CPU);
    assert_int_equal(opt.log_level, VLM_LOG_WARN);
    assert_int_equal(opt.max_image_bytes, 20 << 20);
    assert_int_equal(opt.max_image_pixels, 1 << 26);
    assert_int_equal(opt.max_image_side, 16384);
    assert_int_equal(opt.max_jpeg_scans, 200);
    for (int i = 0; i < VLM_N_OPTIONS; i++) assert_false(opt.given[i]);
}

static void every_way_to_give_a_value(void **state)
{
    (void)state;
    PARSE(RUN, "-i|a.jpg|model|-ib.png|--image=c=d.gif|--image|-e|-p|--raw|-n5|--temperature|0.5|"
               "--top-p=1e-1|--seed|18446744073709551615|--raw|--dtype=bf16|--max-image-bytes|3MiB|"
               "--stop|x|--stop=|y");
    /* --stop= gives an empty text, which would stop everything. */
    assert_int_equal(status, VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg, "--stop must have between 1 and 256 bytes");
    char more[] =
        "-i|a.jpg|model|-ib.png|--image=c=d.gif|--image|-e|-p|--raw|-n5|--temperature|0.5|"
        "--top-p=1e-1|--seed|18446744073709551615|--raw|--dtype=bf16|--max-image-bytes|"
        "3MiB|--stop|x|--stop=y|--cpu-level|avx2|--top-k|7|--top-k|8";
    assert_int_equal(parse(VLM_COMMAND_RUN, more, &opt, &err), VLM_OK);
    assert_int_equal(opt.n_args, 1);
    assert_string_equal(opt.args[0], "model");
    assert_int_equal(opt.image.n, 4);
    assert_string_equal(opt.image.values[0], "a.jpg");
    assert_string_equal(opt.image.values[1], "b.png");
    assert_string_equal(opt.image.values[2], "c=d.gif");
    assert_string_equal(opt.image.values[3], "-e");
    assert_string_equal(opt.prompt, "--raw");
    assert_true(opt.raw);
    assert_int_equal(opt.max_tokens, 5);
    assert_true(opt.temperature == 0.5 && opt.top_p == 0.1);
    assert_true(opt.seed == UINT64_MAX);
    assert_int_equal(opt.dtype, VLM_OPT_DTYPE_BF16);
    assert_int_equal(opt.max_image_bytes, 3 << 20);
    assert_int_equal(opt.stop.n, 2);
    assert_int_equal(opt.cpu_level, 1 + VLM_CPU_AVX2);
    assert_int_equal(opt.top_k, 8);
    assert_true(opt.given[VLM_OPTION_TOP_K] && opt.given[VLM_OPTION_RAW]);
    assert_false(opt.given[VLM_OPTION_MIN_P]);
}

static void two_dashes_end_the_options(void **state)
{
    (void)state;
    PARSE(RUN, "--raw|--|--help");
    assert_int_equal(status, VLM_OK);
    assert_false(opt.help);
    assert_int_equal(opt.n_args, 1);
    assert_string_equal(opt.args[0], "--help");
    char dash[] = "-";
    assert_int_equal(parse(VLM_COMMAND_INSPECT, dash, &opt, &err), VLM_OK);
    assert_string_equal(opt.args[0], "-");
}

static void help_needs_nothing_else(void **state)
{
    (void)state;
    PARSE(TRACE, "--help");
    assert_int_equal(status, VLM_OK);
    assert_true(opt.help);
    char words_h[] = "x|-h|--nonsense";
    assert_int_equal(parse(VLM_COMMAND_TRACE, words_h, &opt, &err), VLM_OK);
    assert_true(opt.help);
    /* As a value it is a value. */
    char value[] = "-p|--help";
    assert_int_equal(parse(VLM_COMMAND_RUN, value, &opt, &err), VLM_OK);
    assert_false(opt.help);
    assert_string_equal(opt.prompt, "--help");
}

static void wrong_usage_is_named(void **state)
{
    (void)state;
    static const struct {
        vlm_command command;
        const char *words, *want;
    } cases[] = {
        {VLM_COMMAND_RUN, "--nonsense", "run: unknown option --nonsense; see vlmd run --help"},
        {VLM_COMMAND_RUN, "--nonsense=secret",
         "run: unknown option --nonsense; see vlmd run --help"},
        {VLM_COMMAND_RUN, "--imag|x", "run: unknown option --imag; see vlmd run --help"},
        {VLM_COMMAND_RUN, "-x", "run: unknown option -x; see vlmd run --help"},
        {VLM_COMMAND_RUN, "--plain", "run takes no option --plain; see vlmd run --help"},
        {VLM_COMMAND_TOKENIZE, "m|-n3", "tokenize takes no option -n; see vlmd tokenize --help"},
        {VLM_COMMAND_RUN, "a|b", "run: unexpected argument 'b'"},
        {VLM_COMMAND_VERSION, "a", "version: unexpected argument 'a'"},
        {VLM_COMMAND_INSPECT, "", "inspect needs MODEL; see vlmd inspect --help"},
        {VLM_COMMAND_TRACE, "m|-o|f", "trace needs --prompt TEXT"},
        {VLM_COMMAND_TRACE, "m|-p|x", "trace needs --output PATH"},
        {VLM_COMMAND_RUN, "-p", "-p needs a value (TEXT)"},
        {VLM_COMMAND_RUN, "--top-k", "--top-k needs a value (K)"},
        {VLM_COMMAND_RUN, "-n|0", "-n must be an integer between 1 and 16777216, not '0'"},
        {VLM_COMMAND_RUN, "--top-k=-1",
         "--top-k must be an integer between 0 and 16777216, not '-1'"},
        {VLM_COMMAND_RUN, "--top-k=+1",
         "--top-k must be an integer between 0 and 16777216, not '+1'"},
        {VLM_COMMAND_RUN, "--top-k=1x",
         "--top-k must be an integer between 0 and 16777216, not '1x'"},
        {VLM_COMMAND_RUN, "--top-k= 1",
         "--top-k must be an integer between 0 and 16777216, not ' 1'"},
        {VLM_COMMAND_RUN, "--top-k=", "--top-k must be an integer between 0 and 16777216, not ''"},
        {VLM_COMMAND_RUN, "--seed=18446744073709551616",
         "--seed must be an integer between 0 and 18446744073709551615, not "
         "'18446744073709551616'"},
        {VLM_COMMAND_RUN, "--top-p=1.01", "--top-p must be a number between 0 and 1, not '1.01'"},
        {VLM_COMMAND_RUN, "--top-p=nan", "--top-p must be a number between 0 and 1, not 'nan'"},
        {VLM_COMMAND_RUN, "--top-p=inf", "--top-p must be a number between 0 and 1, not 'inf'"},
        {VLM_COMMAND_RUN, "--top-p=0x1", "--top-p must be a number between 0 and 1, not '0x1'"},
        {VLM_COMMAND_RUN, "--top-p=1e999", "--top-p must be a number between 0 and 1, not '1e999'"},
        {VLM_COMMAND_RUN, "--top-p=0.5.", "--top-p must be a number between 0 and 1, not '0.5.'"},
        {VLM_COMMAND_RUN, "--top-p=", "--top-p must be a number between 0 and 1, not ''"},
        {VLM_COMMAND_RUN, "--dtype=int8",
         "--dtype must be auto, f32, bf16, f16, q8 or q4, not 'int8'"},
        {VLM_COMMAND_RUN, "--raw=maybe", "--raw must be true or false, not 'maybe'"},
        {VLM_COMMAND_RUN, "--max-image-bytes=1TB",
         "--max-image-bytes must be a size (20MiB, say) between 1 and 1099511627776, not '1TB'"},
        {VLM_COMMAND_RUN, "--max-image-bytes=99999999999999999GiB",
         "--max-image-bytes must be a size (20MiB, say) between 1 and 1099511627776, not "
         "'99999999999999999GiB'"},
        {VLM_COMMAND_RUN, "--top-k=\x1b[31m",
         "--top-k must be an integer between 0 and 16777216, not '?[31m'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char words[256];
        (void)snprintf(words, sizeof words, "%s", cases[i].words);
        vlm_options opt;
        vlm_error err;
        const vlm_status status = parse(cases[i].command, words, &opt, &err);
        if (status != VLM_INVALID_ARGUMENT) fail_msg("%s: %d", cases[i].words, status);
        assert_string_equal(err.msg, cases[i].want);
    }
}

static void what_is_not_there_yet_is_refused_by_name(void **state)
{
    (void)state;
    vlm_options opt;
    vlm_error err;
    char cuda[] = "--device=cuda";
    assert_int_equal(parse(VLM_COMMAND_RUN, cuda, &opt, &err), VLM_UNIMPLEMENTED);
    assert_string_equal(err.msg, "--device cuda is not supported yet; there is cpu");
}

static void lists_have_a_maximum(void **state)
{
    (void)state;
    char words[256] = "-ia";
    for (int i = 1; i < VLM_OPTION_LIST_MAX; i++) strncat(words, "|-ia", 5);
    char more[260];
    (void)snprintf(more, sizeof more, "%s|-ib", words);
    vlm_options opt;
    vlm_error err;
    assert_int_equal(parse(VLM_COMMAND_RUN, words, &opt, &err), VLM_OK);
    assert_int_equal(opt.image.n, 16);
    assert_int_equal(parse(VLM_COMMAND_RUN, more, &opt, &err), VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg, "-i may be given at most 16 times");
}

static void the_environment(void **state)
{
    (void)state;
    static const char *const vars[] = {"VLMD_TOP_K=9",       "VLMD_RAW=1",  "VLMD_TEMPERATURE=0.7",
                                       "VLMD_IMAGE=e.png",   "VLMD_DTYPE=", "VLMD_MAX_TOKENS=6",
                                       "VLMD_IGNORE_EOS=no", NULL};
    environment = vars;
    PARSE(RUN, "--top-k|3|--temperature=0");
    assert_int_equal(status, VLM_OK);
    assert_int_equal(opt.top_k, 3);
    assert_true(opt.temperature == 0.0);
    assert_true(opt.raw);
    assert_false(opt.ignore_eos);
    assert_int_equal(opt.max_tokens, 6);
    assert_int_equal(opt.image.n, 1);
    assert_string_equal(opt.image.values[0], "e.png");
    assert_false(opt.given[VLM_OPTION_DTYPE]);
    assert_true(opt.given[VLM_OPTION_RAW]);
    /* A flag can take back what a variable turned on. */
    char off[] = "--raw=false|-i|f.png";
    assert_int_equal(parse(VLM_COMMAND_RUN, off, &opt, &err), VLM_OK);
    assert_false(opt.raw);
    assert_int_equal(opt.image.n, 1);
    assert_string_equal(opt.image.values[0], "f.png");

    static const char *const wrong[] = {"VLMD_TOP_K=many", NULL};
    environment = wrong;
    char none[] = "";
    assert_int_equal(parse(VLM_COMMAND_RUN, none, &opt, &err), VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg,
                        "VLMD_TOP_K must be an integer between 0 and 16777216, not 'many'");
    /* Not read by a command that does not take it, nor when the flag is there. */
    char model[] = "m";
    assert_int_equal(parse(VLM_COMMAND_TOKENIZE, model, &opt, &err), VLM_OK);
    char flag[] = "--top-k=1";
    assert_int_equal(parse(VLM_COMMAND_RUN, flag, &opt, &err), VLM_OK);
    /* A needed option may come from there too. */
    static const char *const needed[] = {"VLMD_OUTPUT=t.safetensors", "VLMD_PROMPT=hi", NULL};
    environment = needed;
    char again[] = "m";
    assert_int_equal(parse(VLM_COMMAND_TRACE, again, &opt, &err), VLM_OK);
    assert_string_equal(opt.output, "t.safetensors");
    environment = NULL;
}

static void commands_by_name(void **state)
{
    (void)state;
    for (int i = 0; i < VLM_N_COMMANDS; i++) {
        vlm_command command = VLM_N_COMMANDS;
        assert_true(vlm_command_parse(vlm_command_name((vlm_command)i), &command));
        assert_int_equal(command, i);
    }
    vlm_command command;
    assert_false(vlm_command_parse("push", &command));
    assert_false(vlm_command_parse("", &command));
    assert_false(vlm_command_parse("RUN", &command));
}

/* Lines of at most 100 columns, and each option that a command takes with its default. */
static void help_tells_all(void **state)
{
    (void)state;
    vlm_error err;
    for (int i = 0; i <= VLM_N_COMMANDS; i++) {
        vlm_buf text;
        vlm_buf_init(&text, 65536);
        if (i == VLM_N_COMMANDS)
            assert_int_equal(vlm_options_help(&text, &err), VLM_OK);
        else
            assert_int_equal(vlm_options_help_command((vlm_command)i, &text, &err), VLM_OK);
        for (const char *line = text.data; *line != '\0';) {
            const size_t len = strcspn(line, "\n");
            if (len > 100) fail_msg("%.*s", (int)len, line);
            if (len > 0 && isspace((unsigned char)line[len - 1])) fail_msg("%.*s", (int)len, line);
            line += len + 1;
        }
        if (i == VLM_COMMAND_TRACE) {
            assert_non_null(strstr(text.data, "\n  -o, --output PATH "));
            assert_non_null(strstr(text.data, "(needed)\n"));
            assert_non_null(strstr(text.data, "--dtype auto|f32|bf16|f16|q8|q4\n"));
            assert_non_null(strstr(text.data, "(default: 16384)\n"));
            assert_null(strstr(text.data, "--top-k"));
        }
        vlm_buf_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_way_to_give_a_value),
        cmocka_unit_test(two_dashes_end_the_options),
        cmocka_unit_test(help_needs_nothing_else),
        cmocka_unit_test(wrong_usage_is_named),
        cmocka_unit_test(what_is_not_there_yet_is_refused_by_name),
        cmocka_unit_test(lists_have_a_maximum),
        cmocka_unit_test(the_environment),
        cmocka_unit_test(commands_by_name),
        cmocka_unit_test(help_tells_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
