/* cmd_run.c - `vlmd run`: an answer on the terminal, streamed; a conversation when there is no
 * prompt and stdin is a terminal. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cli/answer.h"
#include "cli/chat_loop.h"
#include "cli/cmd.h"
#include "cli/compute.h"
#include "cli/model_arg.h"
#include "cli/pictures.h"

enum { STDIN_LEN_MAX = 64 << 20 };

/* Ask once, with the pictures and the prompt of the options. */
static vlm_status ask_once(vlm_engine *engine, const vlm_options *opt, vlm_bytes text,
                           bool *cancelled, vlm_error *err)
{
    vlm_pictures *pictures;
    vlm_part parts[VLM_OPTION_LIST_MAX + 1];
    vlm_bytes stop[VLM_OPTION_LIST_MAX];
    vlm_engine_info info;
    const size_t n_images = opt->image.n;
    if (!vlm_utf8_valid(text.ptr, text.len))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "prompt: not UTF-8 at byte %zu",
                        vlm_utf8_first_bad(text.ptr, text.len));
    VLM_TRY(vlm_cli_read_pictures(engine, opt, &pictures, err));
    for (size_t i = 0; i < n_images; i++) parts[i] = (vlm_part){.is_picture = true};
    parts[n_images] = (vlm_part){.text = text};

    vlm_message messages[2];
    vlm_part system_part;
    size_t n = 0;
    if (opt->system != NULL) {
        system_part = (vlm_part){.text = vlm_bytes_of(opt->system)};
        messages[n++] =
            (vlm_message){.role = vlm_bytes_of("system"), .parts = &system_part, .n_parts = 1};
    }
    messages[n++] =
        (vlm_message){.role = vlm_bytes_of("user"), .parts = parts, .n_parts = n_images + 1};
    vlm_request request = {.messages = messages, .n_messages = n};
    if (opt->raw) request = (vlm_request){.raw_prompt = &text};
    request.pictures = pictures;
    engine->ops->info(engine, &info);
    vlm_cli_fill_request(&request, opt, &info, stop);
    const vlm_status status = vlm_cli_answer(engine, &request, opt->timings, NULL, cancelled, err);
    engine->ops->pictures_free(engine, pictures);
    return status;
}

/* The prompt of a pipe: all of it, but for one line end. */
static vlm_status ask_stdin(vlm_engine *engine, const vlm_options *opt, bool *cancelled,
                            vlm_error *err)
{
    vlm_buf text;
    VLM_TRY(vlm_fd_read(STDIN_FILENO, "standard input", STDIN_LEN_MAX, &text, err));
    vlm_bytes bytes = vlm_buf_bytes(&text);
    if (bytes.len > 0 && bytes.ptr[bytes.len - 1] == '\n') bytes.len--;
    const vlm_status status = ask_once(engine, opt, bytes, cancelled, err);
    vlm_buf_fini(&text);
    return status;
}

int vlm_cmd_run(const vlm_options *opt)
{
    vlm_error err;
    vlm_folder *folder = NULL;
    vlm_engine *engine = NULL;
    bool cancelled = false;
    const uint64_t start_ns = vlm_clock_ns();
    vlm_status status = vlm_cli_open_engine(opt, &folder, &engine, &err);
    if (status == VLM_OK) {
        vlm_cli_log_ready(engine, start_ns);
        if (opt->prompt != NULL) {
            vlm_cli_catch_interrupt();
            status = ask_once(engine, opt, vlm_bytes_of(opt->prompt), &cancelled, &err);
        } else if (isatty(STDIN_FILENO) == 1) {
            status = vlm_cli_chat_loop(engine, opt, &err);
        } else {
            vlm_cli_catch_interrupt();
            status = ask_stdin(engine, opt, &cancelled, &err);
        }
    }
    if (engine != NULL) engine->ops->close(engine);
    vlm_folder_close(folder);
    if (status != VLM_OK) return vlm_cli_fail(&err);
    return cancelled ? VLM_EXIT_INTERRUPTED : VLM_EXIT_DONE;
}
