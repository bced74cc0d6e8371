/* cmd_quantize.c - `vlmd quantize`: a model folder with its weights packed, so that opening it is
 * mapping it.  What else the model has is copied. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/compute.h"
#include "cli/model_arg.h"
#include "model/model.h"

enum { PATH_LEN_MAX = 4096 };
#define WEIGHTS_FILE "model.safetensors"

typedef struct quantize {
    const char *dir;
    vlm_folder *folder;
    vlm_backend *backend;
    vlm_model *model;
} quantize;

static vlm_status path_of(const quantize *q, const char *name, char path[PATH_LEN_MAX],
                          vlm_error *err)
{
    const int n = snprintf(path, PATH_LEN_MAX, "%s/%s", q->dir, name);
    if (n >= 0 && n < PATH_LEN_MAX) return VLM_OK;
    return vlm_fail(err, VLM_INVALID_ARGUMENT, "--output: the path is too long");
}

/* A new or an empty folder; one that holds a model is left alone. */
static vlm_status make_folder(const quantize *q, vlm_error *err)
{
    char path[PATH_LEN_MAX];
    VLM_TRY(path_of(q, "config.json", path, err));
    if (vlm_path_is_file(path))
        return vlm_fail(err, VLM_FAILED_PRECONDITION, "--output %s: holds a model already", q->dir);
    if (mkdir(q->dir, 0777) == 0 || (errno == EEXIST && vlm_path_is_dir(q->dir))) return VLM_OK;
    return vlm_fail(err, VLM_PERMISSION_DENIED, "--output %s: cannot be made", q->dir);
}

static vlm_status open_model(quantize *q, const vlm_options *opt, vlm_error *err)
{
    const vlm_engine_options o = vlm_cli_engine_options(opt);
    vlm_load_progress progress;
    const vlm_model_options options = {.dtype = o.dtype,
                                       .vision_dtype = o.vision_dtype,
                                       .progress = vlm_load_progress_update,
                                       .user = &progress};
    const uint32_t n_threads = o.n_threads == 0 ? vlm_cpu_count() : o.n_threads;
    VLM_TRY(vlm_model_arg_open(opt->args[0], &q->folder, err));
    VLM_TRY(vlm_backend_cpu_open(n_threads, vlm_cpu_level_best(), &q->backend, err));
    vlm_load_progress_start(&progress);
    const vlm_status status = vlm_model_open(q->folder, q->backend, &options, &q->model, err);
    vlm_load_progress_end(&progress);
    return status;
}

static bool ends_with(const char *name, const char *suffix)
{
    const size_t len = strlen(name), suffix_len = strlen(suffix);
    return len >= suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

/* What describes a model or its text, not its weights nor an index of them. */
static bool is_copied(const char *name)
{
    static const char *const suffixes[] = {".json", ".jinja", ".model", ".tiktoken", ".txt", ".md"};
    if (ends_with(name, ".index.json")) return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (ends_with(name, suffixes[i])) return true;
    return false;
}

static vlm_status copy_file(const quantize *q, const char *name, vlm_error *err)
{
    char path[PATH_LEN_MAX];
    vlm_bytes bytes;
    VLM_TRY(path_of(q, name, path, err));
    VLM_TRY(vlm_folder_bytes(q->folder, name, &bytes, err));
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return vlm_fail(err, VLM_PERMISSION_DENIED, "--output: %s cannot be created", name);
    vlm_status status = vlm_fd_write(fd, name, bytes.ptr, bytes.len, err);
    if (close(fd) != 0 && status == VLM_OK)
        status = vlm_fail(err, VLM_UNAVAILABLE, "--output: %s cannot be written", name);
    return status;
}

/* The weights first: a folder with a config.json is whole. */
static vlm_status write_all(const quantize *q, vlm_error *err)
{
    char path[PATH_LEN_MAX];
    char **names;
    size_t n_names;
    VLM_TRY(path_of(q, WEIGHTS_FILE, path, err));
    VLM_TRY(vlm_model_write(q->model, path, err));
    VLM_TRY(vlm_folder_names(q->folder, "", &names, &n_names, err));
    vlm_status status = VLM_OK;
    for (size_t i = 0; i < n_names && status == VLM_OK; i++)
        if (is_copied(names[i]) && strcmp(names[i], "config.json") != 0)
            status = copy_file(q, names[i], err);
    if (status == VLM_OK) status = copy_file(q, "config.json", err);
    vlm_folder_names_free(names, n_names);
    return status;
}

static vlm_status run(quantize *q, const vlm_options *opt, vlm_error *err)
{
    if (opt->dtype != VLM_OPT_DTYPE_Q8 && opt->dtype != VLM_OPT_DTYPE_Q4)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "--dtype must be q8 or q4");
    VLM_TRY(make_folder(q, err));
    VLM_TRY(open_model(q, opt, err));
    return write_all(q, err);
}

int vlm_cmd_quantize(const vlm_options *opt)
{
    vlm_error err;
    quantize q = {.dir = opt->output};
    const vlm_status status = run(&q, opt, &err);
    if (status == VLM_OK)
        vlm_log(VLM_LOG_INFO, "%.1f MB of weights in %s",
                (double)vlm_model_weight_bytes(q.model) * 1e-6, q.dir);
    vlm_model_close(q.model);
    if (q.backend != NULL) q.backend->ops->close(q.backend);
    vlm_folder_close(q.folder);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}
