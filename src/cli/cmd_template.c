/* cmd_template.c - `vlmd template`: a JSON request on stdin to the rendered prompt, byte for byte.
 */
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cmd.h"
#include "cli/model_arg.h"
#include "engine/prepare.h"

enum { REQUEST_LEN_MAX = 64 << 20, OUTPUT_LEN_MAX = 128 << 20, SOURCE_LEN_MAX = 16 << 20 };

static bool is_template_file(const char *arg)
{
    static const char suffix[] = ".jinja";
    const size_t len = strlen(arg), suffix_len = sizeof suffix - 1;
    return (len > suffix_len && strcmp(arg + len - suffix_len, suffix) == 0) ||
           vlm_path_is_file(arg);
}

static vlm_status open_file(const char *path, vlm_chat **out, vlm_error *err)
{
    vlm_buf source;
    VLM_TRY(vlm_file_read(path, path, SOURCE_LEN_MAX, &source, err));
    const vlm_bytes bytes = {.ptr = source.data == NULL ? "" : source.data, .len = source.len};
    const vlm_status status = vlm_chat_new_from_source(bytes, out, err);
    vlm_buf_fini(&source);
    return status;
}

/* The special tokens of a folder are variables; a folder without tokenizer has none. */
static vlm_status open_model(const char *arg, vlm_chat **out, vlm_error *err)
{
    vlm_folder *folder = NULL;
    vlm_tokenizer *tok = NULL;
    VLM_TRY(vlm_model_arg_open(arg, &folder, err));
    vlm_status status = vlm_prepare_load_tokenizer(folder, &tok, err);
    if (status == VLM_NOT_FOUND) status = VLM_OK;
    if (status == VLM_OK) status = vlm_prepare_load_chat(folder, tok, out, err);
    vlm_tokenizer_free(tok);
    vlm_folder_close(folder);
    return status;
}

static vlm_status render_stdin(const vlm_chat *chat, vlm_buf *out, vlm_error *err)
{
    vlm_buf text;
    vlm_json_doc *request = NULL;
    VLM_TRY(vlm_fd_read(STDIN_FILENO, "standard input", REQUEST_LEN_MAX, &text, err));
    vlm_status status =
        vlm_json_parse(text.data, text.len, &vlm_json_limits_default, &request, err);
    if (status != VLM_OK)
        status = vlm_fail_prefix(err, status, "standard input");
    else
        status = vlm_chat_render(chat, vlm_json_root(request), out, NULL, err);
    vlm_json_free(request);
    vlm_buf_fini(&text);
    return status;
}

int vlm_cmd_template(const vlm_options *opt)
{
    vlm_error err;
    vlm_chat *chat = NULL;
    vlm_buf out;
    const char *arg = opt->args[0];
    vlm_buf_init(&out, OUTPUT_LEN_MAX);
    vlm_status status =
        is_template_file(arg) ? open_file(arg, &chat, &err) : open_model(arg, &chat, &err);
    if (status == VLM_OK) status = render_stdin(chat, &out, &err);
    if (status == VLM_OK) status = vlm_cli_write(out.data, out.len, &err);
    vlm_chat_free(chat);
    vlm_buf_fini(&out);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}
