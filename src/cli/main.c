/* main.c - the only file that ends the process. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cmd.h"
#include "cli/options.h"

enum { HELP_LEN_MAX = 65536 };

/* Text to stdout, or the failure to print it. */
static int print(const char *text, size_t len)
{
    vlm_error err;
    return vlm_cli_write(text, len, &err) == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}

static int fail_usage(const vlm_error *err)
{
    (void)vlm_cli_fail(err);
    return VLM_EXIT_USAGE;
}

/* Help on everything for command VLM_N_COMMANDS. */
static int print_help(vlm_command command)
{
    vlm_error err;
    vlm_buf text;
    vlm_buf_init(&text, HELP_LEN_MAX);
    const vlm_status status = command == VLM_N_COMMANDS
                                  ? vlm_options_help(&text, &err)
                                  : vlm_options_help_command(command, &text, &err);
    const int code = status == VLM_OK ? print(text.data, text.len) : vlm_cli_fail(&err);
    vlm_buf_fini(&text);
    return code;
}

static int print_version(void)
{
    static const char text[] = "vlmd " VLM_VERSION "\n";
    return print(text, sizeof text - 1);
}

static int fail_command(const char *name)
{
    vlm_error err;
    (void)vlm_fail(&err, VLM_INVALID_ARGUMENT, "unknown command '%s'; see vlmd help", name);
    return fail_usage(&err);
}

static int cmd_help(const vlm_options *opt)
{
    vlm_command about = VLM_N_COMMANDS;
    if (opt->n_args == 1 && !vlm_command_parse(opt->args[0], &about))
        return fail_command(opt->args[0]);
    return print_help(about);
}

static int cmd_version(const vlm_options *opt)
{
    (void)opt;
    return print_version();
}

static vlm_cmd_fn *const command_fns[VLM_N_COMMANDS] = {
    [VLM_COMMAND_RUN] = vlm_cmd_run,
    [VLM_COMMAND_SERVE] = vlm_cmd_serve,
    [VLM_COMMAND_GATEWAY] = vlm_cmd_gateway,
    [VLM_COMMAND_WORKER] = vlm_cmd_worker,
    [VLM_COMMAND_TRACE] = vlm_cmd_trace,
    [VLM_COMMAND_TOKENIZE] = vlm_cmd_tokenize,
    [VLM_COMMAND_TEMPLATE] = vlm_cmd_template,
    [VLM_COMMAND_INSPECT] = vlm_cmd_inspect,
    [VLM_COMMAND_QUANTIZE] = vlm_cmd_quantize,
    [VLM_COMMAND_DOCTOR] = vlm_cmd_doctor,
    [VLM_COMMAND_PULL] = vlm_cmd_pull,
    [VLM_COMMAND_COMPLETION] = vlm_cmd_completion,
    [VLM_COMMAND_BENCH] = vlm_cmd_bench,
    [VLM_COMMAND_VERSION] = cmd_version,
    [VLM_COMMAND_HELP] = cmd_help,
};

static const char *env_of_process(const char *name)
{
    return getenv(name);
}

static int run_command(int argc, char **argv)
{
    if (argc < 2) {
        vlm_error err;
        (void)vlm_fail(&err, VLM_INVALID_ARGUMENT, "no command; see vlmd help");
        return fail_usage(&err);
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return print_help(VLM_N_COMMANDS);
    if (strcmp(name, "--version") == 0) return print_version();

    vlm_command command;
    if (!vlm_command_parse(name, &command)) return fail_command(name);
    vlm_options opt;
    vlm_error err;
    if (vlm_options_parse(command, argc - 1, argv + 1, env_of_process, &opt, &err) != VLM_OK)
        return fail_usage(&err);
    const bool serves = (VLM_CMDS_SERVERS >> command & 1) != 0;
    const bool quiet = !serves || opt.given[VLM_OPTION_LOG_LEVEL];
    vlm_log_init(opt.log_format, quiet ? opt.log_level : VLM_LOG_INFO);
    return opt.help ? print_help(command) : command_fns[command](&opt);
}

/* A descriptor 0..2 that the caller closed would be given to the next file we open, which would
 * then be read as stdin or overwritten by a message.  Reading from a closed stdin finds its end;
 * writing to a closed stdout still fails. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        if (open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY) != fd) _exit(1);
    }
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    /* A reader that went away is a failed write, seen where the write is. */
    (void)signal(SIGPIPE, SIG_IGN);
    return run_command(argc, argv);
}
