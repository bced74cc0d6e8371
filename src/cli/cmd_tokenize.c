/* cmd_tokenize.c - `vlmd tokenize`: the text on stdin to a JSON array of ids, or back. */
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/cmd.h"
#include "cli/model_arg.h"
#include "engine/prepare.h"

enum { INPUT_LEN_MAX = 1 << 30 };

static vlm_status open_tokenizer(const char *model, vlm_tokenizer **out, vlm_error *err)
{
    vlm_folder *folder = NULL;
    VLM_TRY(vlm_model_arg_open(model, &folder, err));
    const vlm_status status = vlm_prepare_load_tokenizer(folder, out, err);
    vlm_folder_close(folder);
    return status;
}

/* [1,2,3] and a line end. */
static vlm_status print_ids(const vlm_ids *ids, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_char(out, '[', err));
    for (size_t i = 0; i < ids->len; i++)
        VLM_TRY(vlm_buf_printf(out, err, i == 0 ? "%u" : ",%u", ids->data[i]));
    return vlm_buf_append_str(out, "]\n", err);
}

static vlm_status encode(const vlm_tokenizer *tok, const vlm_options *opt, vlm_bytes input,
                         vlm_buf *out, vlm_error *err)
{
    const vlm_encode_options how = {.add_special = !opt->no_special, .plain = opt->plain};
    vlm_ids ids = {0};
    vlm_status status = vlm_tokenizer_encode(tok, input, &how, &ids, err);
    if (status == VLM_OK) status = print_ids(&ids, out, err);
    vlm_ids_fini(&ids);
    return status;
}

static vlm_status read_ids(const vlm_tokenizer *tok, const vlm_json *root, vlm_ids *ids,
                           vlm_error *err)
{
    if (vlm_json_typeof(root) != VLM_JSON_ARRAY)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "standard input: a JSON array of ids expected, not %s",
                        vlm_json_type_name(root));
    const uint32_t n_vocab = vlm_tokenizer_n_vocab(tok);
    for (size_t i = 0; i < vlm_json_array_len(root); i++) {
        const vlm_json *item = vlm_json_at(root, i);
        if (vlm_json_typeof(item) != VLM_JSON_INT || vlm_json_int(item) < 0)
            return vlm_fail_at(err, VLM_INVALID_ARGUMENT, i,
                               "standard input: [%zu] must be an integer of at least 0", i);
        /* As the library does: an id without a token is no text. */
        const int64_t id = vlm_json_int(item);
        if (id < n_vocab) VLM_TRY(vlm_ids_append(ids, (uint32_t)id, err));
    }
    return VLM_OK;
}

static vlm_status decode(const vlm_tokenizer *tok, const vlm_options *opt, vlm_bytes input,
                         vlm_buf *out, vlm_error *err)
{
    vlm_json_doc *doc = NULL;
    vlm_ids ids = {0};
    vlm_status status = vlm_json_parse(input.ptr, input.len, &vlm_json_limits_large, &doc, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "standard input");
    status = read_ids(tok, vlm_json_root(doc), &ids, err);
    if (status == VLM_OK)
        status = vlm_tokenizer_decode(tok, ids.data, ids.len, opt->no_special, out, err);
    vlm_ids_fini(&ids);
    vlm_json_free(doc);
    return status;
}

int vlm_cmd_tokenize(const vlm_options *opt)
{
    vlm_error err = {0};
    vlm_tokenizer *tok = NULL;
    vlm_buf input, out;
    vlm_buf_init(&input, INPUT_LEN_MAX);
    vlm_buf_init(&out, SIZE_MAX / 4);
    vlm_status status = open_tokenizer(opt->args[0], &tok, &err);
    if (status == VLM_OK)
        status = vlm_fd_read(STDIN_FILENO, "standard input", INPUT_LEN_MAX, &input, &err);
    if (status == VLM_OK)
        status = (opt->decode ? decode : encode)(tok, opt, vlm_buf_bytes(&input), &out, &err);
    if (status == VLM_OK) status = vlm_cli_write(out.data, out.len, &err);
    vlm_buf_fini(&out);
    vlm_buf_fini(&input);
    vlm_tokenizer_free(tok);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}
