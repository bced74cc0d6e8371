#include "hub/cache.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

enum { COMMIT_LEN_MAX = 128, ID_LEN_MAX = 256, PATH_LEN_MAX = 4096, INDEX_LEN_MAX = 64 << 20 };

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

/* One part of an id: not empty, not "." or "..", no other separator. */
static bool is_part(const char *text, size_t len, bool slashes)
{
    if (len == 0 || text[0] == '.' || text[0] == '/') return false;
    for (size_t i = 0; i < len; i++) {
        if (slashes && text[i] == '/') continue;
        if (!is_word_char(text[i])) return false;
        if (text[i] == '.' && i + 1 < len && text[i + 1] == '.') return false;
    }
    return true;
}

bool vlm_hub_is_id(const char *text)
{
    const char *slash = strchr(text, '/');
    if (slash == NULL || strlen(text) > ID_LEN_MAX) return false;
    const char *at = strchr(slash, '@');
    const size_t name_len = at == NULL ? strlen(slash + 1) : (size_t)(at - slash - 1);
    return is_part(text, (size_t)(slash - text), false) && is_part(slash + 1, name_len, false) &&
           (at == NULL || is_part(at + 1, strlen(at + 1), true));
}

vlm_status vlm_hub_cache_dir(vlm_buf *path, vlm_error *err)
{
    static const struct {
        const char *variable, *rest;
    } places[] = {
        {"HF_HUB_CACHE", ""},
        {"HUGGINGFACE_HUB_CACHE", ""},
        {"HF_HOME", "/hub"},
        {"XDG_CACHE_HOME", "/huggingface/hub"},
        {"HOME", "/.cache/huggingface/hub"},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *value = getenv(places[i].variable);
        if (value == NULL || value[0] == '\0') continue;
        VLM_TRY(vlm_buf_append_str(path, value, err));
        return vlm_buf_append_str(path, places[i].rest, err);
    }
    return vlm_fail(err, VLM_NOT_FOUND, "no Hugging Face cache: HOME is not set");
}

/* Append the commit that a branch or tag stands for, read from refs/. */
static vlm_status append_commit(vlm_buf *path, const char *revision, vlm_error *err)
{
    vlm_buf ref, commit;
    vlm_buf_init(&ref, path->len_max);
    vlm_status status = vlm_buf_append(&ref, path->data, path->len, err);
    if (status == VLM_OK) status = vlm_buf_printf(&ref, err, "/refs/%s", revision);
    const bool has_ref = status == VLM_OK && vlm_path_is_file(ref.data);
    if (status == VLM_OK) status = vlm_buf_append_str(path, "/snapshots/", err);
    if (status == VLM_OK && !has_ref) status = vlm_buf_append_str(path, revision, err);
    if (status == VLM_OK && has_ref) {
        status = vlm_file_read(ref.data, "refs", COMMIT_LEN_MAX, &commit, err);
        if (status == VLM_OK) {
            while (commit.len > 0 && strchr("\r\n \t", commit.data[commit.len - 1]) != NULL)
                commit.len--;
            if (is_part(commit.data, commit.len, false))
                status = vlm_buf_append(path, commit.data, commit.len, err);
            else
                status = vlm_fail(err, VLM_INVALID_ARGUMENT, "refs/%s holds no commit", revision);
            vlm_buf_fini(&commit);
        }
    }
    vlm_buf_fini(&ref);
    return status;
}

vlm_status vlm_hub_find(const char *id, vlm_buf *path, vlm_error *err)
{
    if (!vlm_hub_is_id(id))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: not of the form ORG/NAME[@REVISION]", id);
    const char *slash = strchr(id, '/');
    const char *at = strchr(id, '@');
    const size_t name_len = at == NULL ? strlen(slash + 1) : (size_t)(at - slash - 1);
    VLM_TRY(vlm_hub_cache_dir(path, err));
    VLM_TRY(vlm_buf_printf(path, err, "/models--%.*s--%.*s", (int)(slash - id), id, (int)name_len,
                           slash + 1));
    VLM_TRY(append_commit(path, at == NULL ? "main" : at + 1, err));
    if (vlm_path_is_dir(path->data)) return VLM_OK;
    return vlm_fail(err, VLM_NOT_FOUND, "%s: no such folder, and not in the Hugging Face cache",
                    id);
}

static bool has_file(const char *folder, const char *name)
{
    char path[PATH_LEN_MAX];
    const int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && vlm_path_is_file(path);
}

static bool has_all_shards(const char *folder, const char *index)
{
    char path[PATH_LEN_MAX];
    vlm_buf text;
    vlm_json_doc *doc = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", folder, index);
    if (vlm_file_read(path, index, INDEX_LEN_MAX, &text, NULL) != VLM_OK) return false;
    const vlm_status status =
        vlm_json_parse(text.data, text.len, &vlm_json_limits_large, &doc, NULL);
    vlm_buf_fini(&text);
    if (status != VLM_OK) return false;
    const vlm_json *map = vlm_json_get(vlm_json_root(doc), "weight_map");
    bool has_all = map != NULL && vlm_json_typeof(map) == VLM_JSON_OBJECT;
    vlm_json_iter it = {0};
    if (has_all) it = vlm_json_iter_begin(map);
    const char *last = "";
    while (has_all && vlm_json_iter_next(&it)) {
        if (vlm_json_typeof(it.value) != VLM_JSON_STRING) break;
        const char *name = vlm_json_string(it.value).ptr;
        if (strcmp(name, last) != 0) has_all = has_file(folder, name); /* often the same again */
        last = name;
    }
    vlm_json_free(doc);
    return has_all;
}

static size_t count_safetensors(const char *folder)
{
    static const char end[] = ".safetensors";
    DIR *dir = opendir(folder);
    size_t n = 0;
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        const size_t len = strlen(e->d_name);
        n += len >= sizeof end && strcmp(e->d_name + len - (sizeof end - 1), end) == 0 &&
             has_file(folder, e->d_name);
    }
    if (dir != NULL) (void)closedir(dir);
    return n;
}

bool vlm_hub_is_complete(const char *folder)
{
    static const char index[] = "model.safetensors.index.json";
    if (!has_file(folder, "config.json")) return false;
    if (has_file(folder, "model.safetensors")) return true;
    if (has_file(folder, index)) return has_all_shards(folder, index);
    return count_safetensors(folder) == 1;
}
