#include "hub/pull.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "hub/blob.h"
#include "hub/cache.h"

enum { PATH_LEN_MAX = 4096, LIST_LEN_MAX = 16 << 20, TRIES = 5, REPO_LEN_MAX = 256 };
#define SPARE_BYTES ((uint64_t)64 << 20) /* that a disk keeps */

typedef struct pull {
    const char *id;
    const vlm_hub_pull_options *options;
    vlm_hub_env env;
    vlm_hub_list list;
    char repo[REPO_LEN_MAX + 1]; /* ORG/NAME */
    const char *revision;        /* in id, or "main" */
    char root[PATH_LEN_MAX];     /* the cache */
    char folder[PATH_LEN_MAX];   /* models--ORG--NAME in it */
    char locks[PATH_LEN_MAX];
    vlm_hub_progress progress;
} pull;

VLM_PRINTF(3, 4)
static vlm_status format(char out[PATH_LEN_MAX], vlm_error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(out, PATH_LEN_MAX, fmt, ap);
    va_end(ap);
    if (n >= 0 && n < PATH_LEN_MAX) return VLM_OK;
    return vlm_fail(err, VLM_INVALID_ARGUMENT, "the path of the Hugging Face cache is too long");
}

static vlm_status make_dirs(const char *path, vlm_error *err)
{
    char part[PATH_LEN_MAX];
    VLM_TRY(format(part, err, "%s", path));
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0') continue;
        const char end = *p;
        *p = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST && errno != EISDIR)
            return vlm_fail(err, VLM_PERMISSION_DENIED,
                            "the Hugging Face cache cannot be written: %s: %s", part,
                            strerror(errno));
        if (end == '\0') return VLM_OK;
        *p = end;
    }
}

static vlm_status set_paths(pull *p, vlm_error *err)
{
    vlm_buf cache;
    if (!vlm_hub_is_id(p->id) || strcspn(p->id, "@") > REPO_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: not of the form ORG/NAME[@REVISION]",
                        p->id);
    (void)snprintf(p->repo, sizeof p->repo, "%.*s", (int)strcspn(p->id, "@"), p->id);
    const char *at = strchr(p->id, '@');
    p->revision = at == NULL ? "main" : at + 1;
    vlm_buf_init(&cache, PATH_LEN_MAX);
    vlm_status status = vlm_hub_cache_dir(&cache, err);
    if (status == VLM_OK) status = format(p->root, err, "%s", cache.data);
    vlm_buf_fini(&cache);
    VLM_TRY(status);
    const int org_len = (int)strcspn(p->repo, "/");
    const char *name = p->repo + org_len + 1;
    VLM_TRY(format(p->folder, err, "%s/models--%.*s--%s", p->root, org_len, p->repo, name));
    return format(p->locks, err, "%s/.locks/models--%.*s--%s", p->root, org_len, p->repo, name);
}

static bool on_list(void *user, const vlm_hub_answer *a, const void *data, size_t len)
{
    (void)a;
    return vlm_buf_append(user, data, len, NULL) == VLM_OK;
}

/* A revision as one part of a URL's path; it has no other characters to escape. */
static vlm_status append_revision(vlm_buf *url, const char *revision, vlm_error *err)
{
    for (; *revision != '\0'; revision++) {
        if (*revision == '/')
            VLM_TRY(vlm_buf_append_str(url, "%2F", err));
        else
            VLM_TRY(vlm_buf_append_char(url, *revision, err));
    }
    return VLM_OK;
}

static vlm_status ask_list(const pull *p, vlm_hub_http *http, const char *url, vlm_buf *json,
                           vlm_error *err)
{
    vlm_hub_answer answer;
    for (uint32_t i = 0;; i++) {
        vlm_buf_clear(json);
        vlm_status status = vlm_hub_http_get(http, url, 0, 0, on_list, json, &answer, err);
        if (status == VLM_OK && answer.status == 200) return VLM_OK;
        if (status == VLM_OK) status = vlm_hub_explain(&p->env, p->id, &answer, err);
        const bool again =
            answer.status == 0 ? status == VLM_UNAVAILABLE : vlm_hub_is_passing(answer.status);
        if (!again || i + 1 == TRIES) return status;
        vlm_log(VLM_LOG_WARN, "%s: trying again", err->msg);
        (void)vlm_hub_pause(i, 0, &answer, NULL);
    }
}

/* What the revision is, and what of it a model needs. */
static vlm_status get_list(pull *p, vlm_error *err)
{
    vlm_hub_http http;
    vlm_buf json, url;
    vlm_buf_init(&json, LIST_LEN_MAX);
    vlm_buf_init(&url, VLM_HUB_URL_LEN_MAX);
    vlm_status status = vlm_hub_http_open(&http, &p->env, NULL, err);
    if (status == VLM_OK)
        status = vlm_buf_printf(&url, err, "%s/api/models/%s/revision/", p->env.endpoint, p->repo);
    if (status == VLM_OK) status = append_revision(&url, p->revision, err);
    if (status == VLM_OK) status = vlm_buf_append_str(&url, "?blobs=true", err);
    if (status == VLM_OK) status = ask_list(p, &http, url.data, &json, err);
    if (status == VLM_OK) {
        status = vlm_hub_list_parse(json.data, json.len, &p->list, err);
        if (status != VLM_OK)
            status = vlm_fail_prefix(err, status, "%s: what %s says of it", p->id, p->env.endpoint);
    }
    vlm_hub_http_close(&http);
    vlm_buf_fini(&json);
    vlm_buf_fini(&url);
    VLM_TRY(status);
    status = vlm_hub_list_select(&p->list, err);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "%s", p->id);
}

static uint64_t size_of_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

static vlm_status check_room(pull *p, vlm_error *err)
{
    char path[PATH_LEN_MAX];
    struct statvfs disk;
    for (size_t i = 0; i < p->list.n; i++) {
        const vlm_hub_file *f = &p->list.files[i];
        VLM_TRY(format(path, err, "%s/blobs/%s", p->folder, f->digest));
        uint64_t here = size_of_file(path);
        if (here != f->size) {
            VLM_TRY(format(path, err, "%s/blobs/%s.incomplete", p->folder, f->digest));
            here = size_of_file(path);
        }
        p->progress.here += here < f->size ? here : f->size;
        p->progress.size += f->size;
    }
    const uint64_t need = p->progress.size - p->progress.here;
    if (need == 0 || statvfs(p->folder, &disk) != 0) return VLM_OK;
    const uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (room >= need && room - need >= SPARE_BYTES) return VLM_OK;
    return vlm_fail(err, VLM_RESOURCE_EXHAUSTED,
                    "%s: %.1f GB are to be downloaded, and %s has room for %.1f GB", p->id,
                    (double)need * 1e-9, p->root, (double)room * 1e-9);
}

static void tell(pull *p)
{
    if (p->options->progress != NULL) p->options->progress(p->options->user, &p->progress);
}

static void on_progress(void *user, uint64_t n_done)
{
    pull *p = user;
    p->progress.done += n_done - p->progress.file_done;
    p->progress.file_done = n_done;
    tell(p);
}

static void on_wait(void *user)
{
    pull *p = user;
    p->progress.is_waiting = true;
    tell(p);
}

static vlm_status get_file(pull *p, const vlm_hub_file *f, vlm_error *err)
{
    char path[PATH_LEN_MAX], lock[PATH_LEN_MAX];
    vlm_buf url;
    VLM_TRY(format(path, err, "%s/blobs/%s", p->folder, f->digest));
    VLM_TRY(format(lock, err, "%s/%s.lock", p->locks, f->digest));
    vlm_buf_init(&url, VLM_HUB_URL_LEN_MAX);
    vlm_status status =
        vlm_buf_printf(&url, err, "%s/%s/resolve/%s/", p->env.endpoint, p->repo, p->list.commit);
    for (const char *c = f->name; *c != '\0' && status == VLM_OK; c++) {
        const bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                              (*c >= '0' && *c <= '9') || strchr("-_.", *c) != NULL;
        status = is_plain ? vlm_buf_append_char(&url, *c, err)
                          : vlm_buf_printf(&url, err, "%%%02X", (unsigned)(unsigned char)*c);
    }
    const vlm_hub_blob blob = {.env = &p->env,
                               .url = url.data,
                               .path = path,
                               .lock = lock,
                               .file = f,
                               .id = p->id,
                               .progress = on_progress,
                               .waits = on_wait,
                               .user = p};
    if (status == VLM_OK) status = vlm_hub_blob_get(&blob, err);
    vlm_buf_fini(&url);
    return status;
}

static vlm_status get_files(pull *p, vlm_error *err)
{
    p->progress.commit = p->list.commit;
    p->progress.n_files = (uint32_t)p->list.n;
    tell(p);
    for (size_t i = 0; i < p->list.n; i++) {
        const vlm_hub_file *f = &p->list.files[i];
        p->progress.file = f->name;
        p->progress.file_idx = (uint32_t)i;
        p->progress.file_done = 0;
        p->progress.file_size = f->size;
        p->progress.is_waiting = false;
        tell(p);
        VLM_TRY(get_file(p, f, err));
        on_progress(p, f->size);
    }
    return VLM_OK;
}

/* A link or a file that appears at once: made under another name, then renamed. */
static vlm_status place(const char *temporary, const char *path, vlm_error *err)
{
    if (rename(temporary, path) == 0) return VLM_OK;
    const int code = errno;
    (void)unlink(temporary);
    return vlm_fail(err, VLM_UNAVAILABLE, "the Hugging Face cache cannot be written: %s",
                    strerror(code));
}

static vlm_status link_file(const pull *p, const char *snapshot, const vlm_hub_file *f,
                            vlm_error *err)
{
    char path[PATH_LEN_MAX], temporary[PATH_LEN_MAX], target[PATH_LEN_MAX], old[PATH_LEN_MAX];
    VLM_TRY(format(path, err, "%s/%s", snapshot, f->name));
    VLM_TRY(format(temporary, err, "%s/.%s.%ld", snapshot, f->digest, (long)getpid()));
    VLM_TRY(format(target, err, "../../blobs/%s", f->digest));
    (void)p;
    const ssize_t n = readlink(path, old, sizeof old - 1);
    if (n > 0 && (size_t)n == strlen(target) && memcmp(old, target, (size_t)n) == 0) return VLM_OK;
    (void)unlink(temporary);
    if (symlink(target, temporary) != 0)
        return vlm_fail(err, VLM_UNAVAILABLE, "the Hugging Face cache cannot hold links: %s",
                        strerror(errno));
    return place(temporary, path, err);
}

static vlm_status write_ref(const pull *p, vlm_error *err)
{
    char path[PATH_LEN_MAX], temporary[PATH_LEN_MAX];
    if (strcmp(p->revision, p->list.commit) == 0) return VLM_OK;
    VLM_TRY(format(path, err, "%s/refs/%s", p->folder, p->revision));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    VLM_TRY(make_dirs(path, err));
    *slash = '/';
    VLM_TRY(format(temporary, err, "%s/.ref.%ld", p->folder, (long)getpid()));
    FILE *f = fopen(temporary, "we");
    const bool is_written = f != NULL && fputs(p->list.commit, f) >= 0;
    if (f == NULL || fclose(f) != 0 || !is_written)
        return vlm_fail(err, VLM_UNAVAILABLE, "the Hugging Face cache cannot be written: %s",
                        strerror(errno));
    return place(temporary, path, err);
}

/* Everything is there: let it be seen. */
static vlm_status publish(const pull *p, vlm_buf *out, vlm_error *err)
{
    char snapshot[PATH_LEN_MAX];
    VLM_TRY(format(snapshot, err, "%s/snapshots/%s", p->folder, p->list.commit));
    VLM_TRY(make_dirs(snapshot, err));
    for (size_t i = 0; i < p->list.n; i++) VLM_TRY(link_file(p, snapshot, &p->list.files[i], err));
    VLM_TRY(write_ref(p, err));
    return vlm_buf_append_str(out, snapshot, err);
}

static vlm_status run(pull *p, vlm_buf *out, vlm_error *err)
{
    char path[PATH_LEN_MAX];
    VLM_TRY(set_paths(p, err));
    VLM_TRY(vlm_hub_env_read(&p->env, err));
    if (p->env.is_offline)
        return vlm_fail(err, VLM_FAILED_PRECONDITION,
                        "%s: HF_HUB_OFFLINE is set, so nothing is downloaded", p->id);
    VLM_TRY(get_list(p, err));
    VLM_TRY(format(path, err, "%s/blobs", p->folder));
    VLM_TRY(make_dirs(path, err));
    VLM_TRY(make_dirs(p->locks, err));
    VLM_TRY(check_room(p, err));
    VLM_TRY(get_files(p, err));
    return publish(p, out, err);
}

vlm_status vlm_hub_pull(const char *id, const vlm_hub_pull_options *options, vlm_buf *path,
                        vlm_error *err)
{
    pull *p = calloc(1, sizeof *p);
    if (p == NULL) return vlm_fail_memory(err, "download");
    p->id = id;
    p->options = options;
    const vlm_status status = run(p, path, err);
    vlm_hub_list_fini(&p->list);
    free(p);
    return status;
}
