#include "hub/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"

static const char *get(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool is_true(const char *name)
{
    static const char *const words[] = {"1", "on", "yes", "true"};
    const char *value = get(name);
    for (size_t i = 0; value != NULL && i < sizeof words / sizeof *words; i++)
        if (strcasecmp(value, words[i]) == 0) return true;
    return false;
}

static vlm_status read_endpoint(vlm_hub_env *out, vlm_error *err)
{
    const char *value = get("HF_ENDPOINT");
    if (value == NULL) value = "https://huggingface.co";
    size_t len = strlen(value);
    while (len > 0 && value[len - 1] == '/') len--;
    const bool is_url = strncmp(value, "http://", 7) == 0 || strncmp(value, "https://", 8) == 0;
    bool is_plain = len > 8 && len <= VLM_HUB_ENDPOINT_LEN_MAX;
    for (size_t i = 0; i < len; i++)
        is_plain =
            is_plain && value[i] > ' ' && value[i] < 0x7f && strchr("?#@\\", value[i]) == NULL;
    if (!is_url || !is_plain)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "HF_ENDPOINT must be an http or https URL of at most %d bytes",
                        VLM_HUB_ENDPOINT_LEN_MAX);
    memcpy(out->endpoint, value, len);
    out->endpoint[len] = '\0';
    return VLM_OK;
}

/* The text without the white space around it. */
static vlm_status set_token(vlm_hub_env *out, const char *text, size_t len, const char *where,
                            vlm_error *err)
{
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) len--;
    while (len > 0 && strchr(" \t\r\n", text[0]) != NULL) {
        text++;
        len--;
    }
    bool is_plain = len <= VLM_HUB_TOKEN_LEN_MAX;
    for (size_t i = 0; i < len; i++) is_plain = is_plain && text[i] > ' ' && text[i] < 0x7f;
    if (!is_plain) return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s holds no token", where);
    memcpy(out->token, text, len);
    out->token[len] = '\0';
    return VLM_OK;
}

static bool token_path(char *out, size_t len)
{
    static const struct {
        const char *variable, *rest;
    } places[] = {{"HF_TOKEN_PATH", ""},
                  {"HF_HOME", "/token"},
                  {"XDG_CACHE_HOME", "/huggingface/token"},
                  {"HOME", "/.cache/huggingface/token"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *value = get(places[i].variable);
        if (value == NULL) continue;
        const int n = snprintf(out, len, "%s%s", value, places[i].rest);
        return n > 0 && (size_t)n < len;
    }
    return false;
}

static vlm_status read_token(vlm_hub_env *out, vlm_error *err)
{
    enum { PATH_LEN_MAX = 4096, FILE_LEN_MAX = 4096 };
    static const char *const variables[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
    char path[PATH_LEN_MAX];
    vlm_buf text;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const char *value = get(variables[i]);
        if (value != NULL) return set_token(out, value, strlen(value), variables[i], err);
    }
    if (is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return VLM_OK;
    if (!token_path(path, sizeof path) || !vlm_path_is_file(path)) return VLM_OK;
    VLM_TRY(vlm_file_read(path, "the token file", FILE_LEN_MAX, &text, err));
    const vlm_status status = set_token(out, text.data, text.len, "the token file", err);
    vlm_buf_fini(&text);
    return status;
}

vlm_status vlm_hub_env_read(vlm_hub_env *out, vlm_error *err)
{
    *out =
        (vlm_hub_env){.is_offline = is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE")};
    VLM_TRY(read_endpoint(out, err));
    return read_token(out, err);
}
