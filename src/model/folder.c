#include "model/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"

enum { PATH_LEN_MAX = 4096, NAME_LEN_MAX = 255, FILES_MAX = 4096 };

typedef struct entry {
    char *name;
    vlm_map map;       /* of a directory's file */
    vlm_bytes bytes;   /* contents */
    vlm_json_doc *doc; /* once asked for */
} entry;

struct vlm_folder {
    char *path; /* NULL: built in */
    const vlm_builtin_file *builtin;
    size_t n_builtin;
    entry *entries; /* what was opened so far */
    size_t n_entries, cap_entries;
};

static bool name_is_plain(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0 && strlen(name) <= NAME_LEN_MAX;
}

vlm_status vlm_folder_open(const char *path, vlm_folder **out, vlm_error *err)
{
    *out = NULL;
    if (strlen(path) + NAME_LEN_MAX + 2 > PATH_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the model's path is longer than %d bytes",
                        PATH_LEN_MAX - NAME_LEN_MAX - 2);
    if (!vlm_path_is_dir(path)) {
        if (vlm_path_is_file(path))
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: a file, not a model folder", path);
        return vlm_fail(err, VLM_NOT_FOUND, "%s: no such model folder", path);
    }
    vlm_folder *f = calloc(1, sizeof *f);
    if (f == NULL) return vlm_fail_memory(err, "model folder");
    f->path = strdup(path);
    if (f->path == NULL) {
        free(f);
        return vlm_fail_memory(err, "model folder");
    }
    *out = f;
    return VLM_OK;
}

vlm_status vlm_folder_open_builtin(const vlm_builtin_file *files, size_t n_files, vlm_folder **out,
                                   vlm_error *err)
{
    *out = NULL;
    vlm_folder *f = calloc(1, sizeof *f);
    if (f == NULL) return vlm_fail_memory(err, "model folder");
    f->builtin = files;
    f->n_builtin = n_files;
    *out = f;
    return VLM_OK;
}

void vlm_folder_close(vlm_folder *f)
{
    if (f == NULL) return;
    for (size_t i = 0; i < f->n_entries; i++) {
        vlm_json_free(f->entries[i].doc);
        vlm_map_close(&f->entries[i].map);
        free(f->entries[i].name);
    }
    free(f->entries);
    free(f->path);
    free(f);
}

static void join_path(const vlm_folder *f, const char *name, char path[PATH_LEN_MAX])
{
    (void)snprintf(path, PATH_LEN_MAX, "%s/%s", f->path, name);
}

static const vlm_builtin_file *find_builtin(const vlm_folder *f, const char *name)
{
    for (size_t i = 0; i < f->n_builtin; i++)
        if (strcmp(f->builtin[i].name, name) == 0) return &f->builtin[i];
    return NULL;
}

bool vlm_folder_has(const vlm_folder *f, const char *name)
{
    if (!name_is_plain(name)) return false;
    if (f->path == NULL) return find_builtin(f, name) != NULL;
    char path[PATH_LEN_MAX];
    join_path(f, name, path);
    return vlm_path_is_file(path);
}

static vlm_status open_contents(vlm_folder *f, const char *name, entry *e, vlm_error *err)
{
    if (f->path == NULL) {
        const vlm_builtin_file *file = find_builtin(f, name);
        if (file == NULL)
            return vlm_fail(err, VLM_NOT_FOUND, "%s: not in the built-in model", name);
        e->bytes = (vlm_bytes){.ptr = file->data, .len = file->len};
        return VLM_OK;
    }
    char path[PATH_LEN_MAX];
    join_path(f, name, path);
    VLM_TRY(vlm_map_open(path, name, &e->map, err));
    e->bytes = (vlm_bytes){.ptr = e->map.data, .len = e->map.len};
    return VLM_OK;
}

vlm_status vlm_folder_identity(const vlm_folder *f, const char *name, vlm_buf *out, vlm_error *err)
{
    char path[PATH_LEN_MAX];
    struct stat st;
    if (f->path == NULL || !name_is_plain(name))
        return vlm_fail(err, VLM_NOT_FOUND, "%s: has no identity", name);
    join_path(f, name, path);
    if (stat(path, &st) != 0) return vlm_fail(err, VLM_NOT_FOUND, "%s: cannot be examined", name);
    return vlm_buf_printf(out, err, "%s %llu %llu %llu %lld.%09ld\n", name,
                          (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
                          (unsigned long long)st.st_size, (long long)st.st_mtim.tv_sec,
                          st.st_mtim.tv_nsec);
}

static vlm_status find_entry(vlm_folder *f, const char *name, entry **out, vlm_error *err)
{
    for (size_t i = 0; i < f->n_entries; i++) {
        if (strcmp(f->entries[i].name, name) != 0) continue;
        *out = &f->entries[i];
        return VLM_OK;
    }
    if (!name_is_plain(name))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: not the name of a file in the folder",
                        name);
    if (!vlm_grow((void **)&f->entries, &f->cap_entries, f->n_entries + 1, FILES_MAX,
                  sizeof *f->entries))
        return vlm_fail_memory(err, "model folder");
    entry fresh = {0};
    VLM_TRY(open_contents(f, name, &fresh, err));
    fresh.name = strdup(name);
    if (fresh.name == NULL) {
        vlm_map_close(&fresh.map);
        return vlm_fail_memory(err, "model folder");
    }
    f->entries[f->n_entries] = fresh;
    *out = &f->entries[f->n_entries++];
    return VLM_OK;
}

vlm_status vlm_folder_bytes(vlm_folder *f, const char *name, vlm_bytes *out, vlm_error *err)
{
    entry *e;
    VLM_TRY(find_entry(f, name, &e, err));
    *out = e->bytes;
    return VLM_OK;
}

vlm_status vlm_folder_json(vlm_folder *f, const char *name, const vlm_json **root, vlm_error *err)
{
    entry *e;
    VLM_TRY(find_entry(f, name, &e, err));
    if (e->doc == NULL) {
        const vlm_status status =
            vlm_json_parse(e->bytes.ptr, e->bytes.len, &vlm_json_limits_default, &e->doc, err);
        if (status != VLM_OK) return vlm_fail_prefix(err, status, "%s", name);
    }
    *root = vlm_json_root(e->doc);
    if (vlm_json_typeof(*root) != VLM_JSON_OBJECT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: must hold an object, not %s", name,
                        vlm_json_type_name(*root));
    return VLM_OK;
}

static bool ends_with(const char *name, const char *suffix)
{
    const size_t n = strlen(name), k = strlen(suffix);
    return n >= k && strcmp(name + n - k, suffix) == 0;
}

static vlm_status add_name(const char *name, char ***names, size_t *n, size_t *cap, vlm_error *err)
{
    if (!vlm_grow((void **)names, cap, *n + 1, FILES_MAX, sizeof **names))
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "the folder holds more than %d files",
                        FILES_MAX);
    (*names)[*n] = strdup(name);
    if ((*names)[*n] == NULL) return vlm_fail_memory(err, "model folder");
    ++*n;
    return VLM_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

vlm_status vlm_folder_names(const vlm_folder *f, const char *suffix, char ***names, size_t *n_names,
                            vlm_error *err)
{
    vlm_status status = VLM_OK;
    size_t cap = 0;
    *names = NULL;
    *n_names = 0;
    for (size_t i = 0; i < f->n_builtin && status == VLM_OK; i++)
        if (ends_with(f->builtin[i].name, suffix))
            status = add_name(f->builtin[i].name, names, n_names, &cap, err);
    if (f->path != NULL) {
        DIR *dir = opendir(f->path);
        if (dir == NULL) return vlm_fail(err, VLM_NOT_FOUND, "%s: cannot be read", f->path);
        for (const struct dirent *d; status == VLM_OK && (d = readdir(dir)) != NULL;)
            if (ends_with(d->d_name, suffix) && vlm_folder_has(f, d->d_name))
                status = add_name(d->d_name, names, n_names, &cap, err);
        (void)closedir(dir);
    }
    if (status != VLM_OK) {
        vlm_folder_names_free(*names, *n_names);
        *names = NULL;
        *n_names = 0;
        return status;
    }
    if (*n_names > 1) qsort(*names, *n_names, sizeof **names, compare_names);
    return VLM_OK;
}

void vlm_folder_names_free(char **names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++) free(names[i]);
    free(names);
}
