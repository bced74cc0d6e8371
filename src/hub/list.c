#include "hub/list.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static bool is_hex(vlm_bytes text, size_t len)
{
    if (text.len != len) return false;
    for (size_t i = 0; i < len; i++) {
        const char c = text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
    }
    return true;
}

static void copy(vlm_bytes text, char *out)
{
    memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
}

/* Something that stays below a folder on any system. */
static bool is_safe_path(vlm_bytes name)
{
    size_t begin = 0;
    if (name.len == 0 || name.len > VLM_HUB_NAME_LEN_MAX) return false;
    for (size_t i = 0; i <= name.len; i++) {
        if (i < name.len && name.ptr[i] != '/') {
            const unsigned char c = (unsigned char)name.ptr[i];
            if (c < ' ' || c == 0x7f || c == '\\' || c == ':') return false;
            continue;
        }
        const size_t len = i - begin;
        const char *part = name.ptr + begin;
        if (len == 0 || (len == 1 && part[0] == '.') ||
            (len == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        begin = i + 1;
    }
    return true;
}

/* One of "siblings"; *skip: it lies in a folder. */
static vlm_status read_file(const vlm_json *node, vlm_hub_file *out, bool *skip, vlm_error *err)
{
    vlm_bytes name = {0}, digest = {0};
    int64_t size = -1;
    *out = (vlm_hub_file){0};
    VLM_TRY(vlm_json_opt_string(node, "rfilename", &name, err));
    if (!is_safe_path(name))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "rfilename: no name of a file in a folder");
    *skip = memchr(name.ptr, '/', name.len) != NULL;
    if (*skip) return VLM_OK;
    copy(name, out->name);
    const vlm_json *lfs = vlm_json_get(node, "lfs");
    out->is_sha256 = lfs != NULL;
    VLM_TRY(vlm_json_opt_int(node, "size", 0, INT64_MAX, &size, err));
    if (lfs != NULL) {
        VLM_TRY(vlm_json_opt_int(lfs, "size", 0, INT64_MAX, &size, err));
        VLM_TRY(vlm_json_opt_string(lfs, "sha256", &digest, err));
    } else {
        VLM_TRY(vlm_json_opt_string(node, "blobId", &digest, err));
    }
    if (size < 0) return vlm_fail(err, VLM_INVALID_ARGUMENT, "size of %s is not said", out->name);
    if (!is_hex(digest, lfs != NULL ? 64 : 40))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s of %s must be %d hexadecimal digits",
                        lfs != NULL ? "lfs.sha256" : "blobId", out->name, lfs != NULL ? 64 : 40);
    copy(digest, out->digest);
    out->size = (uint64_t)size;
    return VLM_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const vlm_hub_file *)a)->name, ((const vlm_hub_file *)b)->name);
}

static vlm_status read_files(const vlm_json *root, vlm_hub_list *out, vlm_error *err)
{
    const vlm_json *siblings = vlm_json_get(root, "siblings");
    if (siblings == NULL || vlm_json_typeof(siblings) != VLM_JSON_ARRAY)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "siblings must be an array");
    const size_t n = vlm_json_array_len(siblings);
    if (n > VLM_HUB_FILES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "siblings: more than %d files",
                        VLM_HUB_FILES_MAX);
    out->files = vlm_calloc(n, sizeof *out->files);
    if (out->files == NULL) return vlm_fail_memory(err, "files of the Hub");
    for (size_t i = 0; i < n; i++) {
        bool skip;
        const vlm_status status =
            read_file(vlm_json_at(siblings, i), &out->files[out->n], &skip, err);
        if (status != VLM_OK) return vlm_fail_prefix(err, status, "siblings[%zu]", i);
        out->n += !skip;
    }
    qsort(out->files, out->n, sizeof *out->files, by_name);
    for (size_t i = 1; i < out->n; i++)
        if (strcmp(out->files[i - 1].name, out->files[i].name) == 0)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "siblings: %s is there twice",
                            out->files[i].name);
    return VLM_OK;
}

vlm_status vlm_hub_list_parse(const char *json, size_t len, vlm_hub_list *out, vlm_error *err)
{
    vlm_json_doc *doc;
    vlm_bytes commit = {0};
    *out = (vlm_hub_list){0};
    VLM_TRY(vlm_json_parse(json, len, &vlm_json_limits_default, &doc, err));
    const vlm_json *root = vlm_json_root(doc);
    vlm_status status = vlm_json_opt_string(root, "sha", &commit, err);
    if (status == VLM_OK && !is_hex(commit, VLM_HUB_COMMIT_LEN))
        status = vlm_fail(err, VLM_INVALID_ARGUMENT, "sha must be the %d digits of a commit",
                          VLM_HUB_COMMIT_LEN);
    if (status == VLM_OK) {
        copy(commit, out->commit);
        status = read_files(root, out, err);
    }
    vlm_json_free(doc);
    if (status != VLM_OK) vlm_hub_list_fini(out);
    return status;
}

void vlm_hub_list_fini(vlm_hub_list *list)
{
    free(list->files);
    *list = (vlm_hub_list){0};
}

static bool ends_with(const char *text, const char *end)
{
    const size_t len = strlen(text), end_len = strlen(end);
    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

static const char index_name[] = "model.safetensors.index.json";

static bool is_setting(const char *name)
{
    static const char *const names[] = {"added_tokens.json",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "config.json",
                                        "generation_config.json",
                                        "merges.txt",
                                        "preprocessor_config.json",
                                        "processor_config.json",
                                        "special_tokens_map.json",
                                        "tokenizer.json",
                                        "tokenizer.model",
                                        "tokenizer_config.json",
                                        "vocab.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return ends_with(name, ".tiktoken");
}

static const vlm_hub_file *find(const vlm_hub_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->files[i].name, name) == 0) return &list->files[i];
    return NULL;
}

/* "model-00001-of-00003.safetensors" */
static bool is_shard(const char *name)
{
    return strncmp(name, "model-", 6) == 0 && strstr(name, "-of-") != NULL &&
           ends_with(name, ".safetensors");
}

/* As model/safetensors.c opens a folder: one file, else the index and its shards, else the only
 * safetensors file there is. */
static bool is_weight(const vlm_hub_list *list, const char *name, size_t n_safetensors)
{
    if (find(list, "model.safetensors") != NULL) return strcmp(name, "model.safetensors") == 0;
    if (find(list, index_name) != NULL) return strcmp(name, index_name) == 0 || is_shard(name);
    return n_safetensors == 1 && ends_with(name, ".safetensors");
}

static vlm_status no_weights(const vlm_hub_list *list, size_t n_safetensors, vlm_error *err)
{
    static const char *const others[] = {".bin",  ".gguf", ".pth",    ".pt",
                                         ".onnx", ".h5",   ".msgpack"};
    if (n_safetensors > 1)
        return vlm_fail(err, VLM_NOT_FOUND,
                        "holds %zu .safetensors files, but neither model.safetensors nor %s",
                        n_safetensors, index_name);
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        for (size_t i = 0; i < list->n; i++)
            if (ends_with(list->files[i].name, others[k]))
                return vlm_fail(err, VLM_NOT_FOUND,
                                "holds its weights as %s (%s); only safetensors are read",
                                others[k] + 1, list->files[i].name);
    return vlm_fail(err, VLM_NOT_FOUND, "holds no weights");
}

vlm_status vlm_hub_list_select(vlm_hub_list *list, vlm_error *err)
{
    size_t n_safetensors = 0, n_kept = 0, n_weights = 0;
    for (size_t i = 0; i < list->n; i++)
        n_safetensors += ends_with(list->files[i].name, ".safetensors");
    if (find(list, "config.json") == NULL)
        return vlm_fail(err, VLM_NOT_FOUND,
                        "holds no config.json: it is no model for Transformers");
    vlm_hub_file *kept = vlm_calloc(list->n, sizeof *kept);
    if (kept == NULL) return vlm_fail_memory(err, "files of the Hub");
    for (size_t i = 0; i < list->n; i++)
        if (is_setting(list->files[i].name)) kept[n_kept++] = list->files[i];
    for (size_t i = 0; i < list->n; i++) {
        if (!is_weight(list, list->files[i].name, n_safetensors)) continue;
        kept[n_kept++] = list->files[i];
        n_weights += ends_with(list->files[i].name, ".safetensors");
    }
    if (n_weights == 0) {
        free(kept);
        return no_weights(list, n_safetensors, err);
    }
    free(list->files);
    list->files = kept;
    list->n = n_kept;
    return VLM_OK;
}
