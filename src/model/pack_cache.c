#include "model/pack_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/sha256.h"

enum { PATH_LEN_MAX = 4096, KEY_LEN = 2 * VLM_SHA256_LEN, FILES_MAX = 4096 };
#define SUFFIX ".safetensors"
/* What the disk keeps free whatever happens. */
#define DISK_FREE_MIN ((uint64_t)1 << 30)
/* A file that another process is still writing is younger than this. */
enum { PARTIAL_AGE_MAX_S = 3600 };

struct vlm_pack_cache {
    char dir[PATH_LEN_MAX];
    char name[KEY_LEN + sizeof SUFFIX];
    size_t bytes_max;
    vlm_map map;
    vlm_safetensors *files;
};

vlm_status vlm_pack_cache_dir(vlm_buf *out, vlm_error *err)
{
    /* A relative XDG path is to be ignored (XDG Base Directory Specification). */
    const char *cache = getenv("XDG_CACHE_HOME");
    if (cache != NULL && cache[0] == '/') return vlm_buf_printf(out, err, "%s/vlmd/packed", cache);
    const char *home = getenv("HOME");
    if (home != NULL && home[0] == '/')
        return vlm_buf_printf(out, err, "%s/.cache/vlmd/packed", home);
    return vlm_fail(err, VLM_NOT_FOUND, "no cache folder: HOME is not set");
}

/* The hash of what the packed bytes follow from. */
static vlm_status make_name(vlm_pack_cache *c, vlm_folder *folder, const char *way, vlm_error *err)
{
    enum { IDENTITY_LEN_MAX = 1 << 20 };
    char **names = NULL;
    size_t n_names = 0;
    vlm_buf identity;
    vlm_buf_init(&identity, IDENTITY_LEN_MAX);
    vlm_status status = vlm_folder_names(folder, SUFFIX, &names, &n_names, err);
    for (size_t i = 0; i < n_names && status == VLM_OK; i++)
        status = vlm_folder_identity(folder, names[i], &identity, err);
    if (status == VLM_OK && n_names == 0)
        status = vlm_fail(err, VLM_NOT_FOUND, "the model has no files of weights");
    if (status == VLM_OK) status = vlm_buf_append_str(&identity, way, err);
    if (status == VLM_OK) {
        uint8_t hash[VLM_SHA256_LEN];
        vlm_sha256(identity.data, identity.len, hash);
        for (size_t i = 0; i < sizeof hash; i++)
            (void)snprintf(c->name + 2 * i, sizeof c->name - 2 * i, "%02x", hash[i]);
        memcpy(c->name + KEY_LEN, SUFFIX, sizeof SUFFIX);
    }
    vlm_folder_names_free(names, n_names);
    vlm_buf_fini(&identity);
    return status;
}

static bool path_of(const vlm_pack_cache *c, const char *name, char path[PATH_LEN_MAX])
{
    const int n = snprintf(path, PATH_LEN_MAX, "%s/%s", c->dir, name);
    return n >= 0 && n < PATH_LEN_MAX;
}

/* Map the file of an earlier start, if there is a good one, and note that it was used. */
static void open_file(vlm_pack_cache *c)
{
    char path[PATH_LEN_MAX];
    vlm_error err;
    if (!path_of(c, c->name, path) || vlm_map_open(path, c->name, &c->map, &err) != VLM_OK) return;
    const vlm_bytes bytes = {.ptr = c->map.data, .len = c->map.len};
    if (vlm_safetensors_open_bytes(bytes, c->name, &c->files, &err) != VLM_OK) {
        vlm_map_close(&c->map);
        return;
    }
    (void)utimensat(AT_FDCWD, path, NULL, 0);
}

vlm_status vlm_pack_cache_open(vlm_folder *folder, const char *way, size_t bytes_max,
                               vlm_pack_cache **out, vlm_error *err)
{
    *out = NULL;
    if (bytes_max == 0) return vlm_fail(err, VLM_NOT_FOUND, "no room for packed weights is given");
    vlm_pack_cache *c = vlm_calloc(1, sizeof *c);
    if (c == NULL) return vlm_fail_memory(err, "packed weights");
    c->bytes_max = bytes_max;
    vlm_buf dir;
    vlm_buf_init(&dir, sizeof c->dir - 1);
    vlm_status status = vlm_pack_cache_dir(&dir, err);
    if (status == VLM_OK) memcpy(c->dir, dir.data, dir.len);
    vlm_buf_fini(&dir);
    if (status == VLM_OK) status = make_name(c, folder, way, err);
    if (status != VLM_OK) {
        vlm_pack_cache_close(c);
        return status;
    }
    open_file(c);
    *out = c;
    return VLM_OK;
}

void vlm_pack_cache_close(vlm_pack_cache *c)
{
    if (c == NULL) return;
    vlm_safetensors_close(c->files);
    vlm_map_close(&c->map);
    free(c);
}

const vlm_safetensors *vlm_pack_cache_files(const vlm_pack_cache *c)
{
    return c->files;
}

/* mkdir -p, for this user alone. */
static vlm_status make_dir(const char *path, vlm_error *err)
{
    char part[PATH_LEN_MAX];
    const size_t len = strlen(path);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return vlm_fail(err, VLM_PERMISSION_DENIED, "the cache folder cannot be made");
    }
    return VLM_OK;
}

typedef struct kept {
    char name[256];
    uint64_t n_bytes;
    struct timespec used;
} kept;

static int by_use(const void *a, const void *b)
{
    const struct timespec *s = &((const kept *)a)->used, *t = &((const kept *)b)->used;
    if (s->tv_sec != t->tv_sec) return s->tv_sec < t->tv_sec ? -1 : 1;
    return s->tv_nsec < t->tv_nsec ? -1 : s->tv_nsec > t->tv_nsec;
}

/* The folder's files, the one used longest ago first; what a killed process left unfinished goes.
 */
static size_t list_files(const vlm_pack_cache *c, kept *files)
{
    size_t n = 0;
    DIR *dir = opendir(c->dir);
    if (dir == NULL) return 0;
    for (struct dirent *e = readdir(dir); e != NULL && n < FILES_MAX; e = readdir(dir)) {
        char path[PATH_LEN_MAX];
        struct stat st;
        if (strlen(e->d_name) >= sizeof files->name || !path_of(c, e->d_name, path) ||
            lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        if (strstr(e->d_name, SUFFIX ".partial-") != NULL) {
            if (time(NULL) - st.st_mtime > PARTIAL_AGE_MAX_S) (void)unlink(path);
            continue;
        }
        files[n].n_bytes = (uint64_t)st.st_size;
        files[n].used = st.st_mtim;
        memcpy(files[n].name, e->d_name, strlen(e->d_name) + 1);
        n++;
    }
    (void)closedir(dir);
    qsort(files, n, sizeof *files, by_use);
    return n;
}

static uint64_t disk_free(const char *dir)
{
    struct statvfs st;
    return statvfs(dir, &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : 0;
}

/* Take files away until n_bytes more fit. */
static vlm_status make_room(const vlm_pack_cache *c, uint64_t n_bytes, vlm_error *err)
{
    if (n_bytes > c->bytes_max)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%llu MB are more than the cache may hold",
                        (unsigned long long)(n_bytes / 1000000));
    kept *files = vlm_calloc(FILES_MAX, sizeof *files);
    if (files == NULL) return vlm_fail_memory(err, "packed weights");
    const size_t n = list_files(c, files);
    uint64_t total = n_bytes;
    for (size_t i = 0; i < n; i++) total += files[i].n_bytes;
    for (size_t i = 0; i < n && total > c->bytes_max; i++) {
        char path[PATH_LEN_MAX];
        if (!path_of(c, files[i].name, path) || unlink(path) != 0) continue;
        total -= files[i].n_bytes;
    }
    free(files);
    if (disk_free(c->dir) < n_bytes + DISK_FREE_MIN)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "the disk has no %llu MB to spare",
                        (unsigned long long)((n_bytes + DISK_FREE_MIN) / 1000000));
    return VLM_OK;
}

vlm_status vlm_pack_cache_store(vlm_pack_cache *c, const vlm_weights *w, size_t n_bytes,
                                vlm_error *err)
{
    char path[PATH_LEN_MAX];
    if (!path_of(c, c->name, path))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the cache folder's path is too long");
    VLM_TRY(make_dir(c->dir, err));
    VLM_TRY(make_room(c, n_bytes, err));
    return vlm_weights_write(w, path, false, err);
}
