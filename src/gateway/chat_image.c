#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "gateway/chat_parse.h"

typedef struct reader {
    vlm_chat_request *r;
    const vlm_chat_limits *limits;
    vlm_api_error *error;
    const char *path, *below; /* ".image_url" or ".image_url.url" */
} reader;

static bool refuse(reader *in, const char *text)
{
    return vlm_chat_refuse(in->error, in->path, in->below, text);
}

/* What is wrong with the picture rather than with the request around it. */
static bool refuse_image(reader *in, const char *text)
{
    (void)refuse(in, text);
    in->error->code = "invalid_image";
    return false;
}

static bool refuse_status(reader *in, vlm_status status, const vlm_error *err)
{
    if (status == VLM_INVALID_ARGUMENT) return refuse_image(in, "is no base64");
    if (vlm_chat_is_memory(err)) return vlm_chat_no_memory(in->error);
    return refuse_image(in, "holds too large a picture");
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static bool starts_nocase(vlm_bytes text, const char *prefix)
{
    const size_t len = strlen(prefix);
    if (text.len < len) return false;
    for (size_t i = 0; i < len; i++)
        if (lower(text.ptr[i]) != prefix[i]) return false;
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (lower(c) >= 'a' && lower(c) <= 'f') return lower(c) - 'a' + 10;
    return -1;
}

/* Append the bytes of text to out, %XX resolved; any other % stands for itself. */
static vlm_status decode_percent(vlm_bytes text, vlm_buf *out, vlm_error *err)
{
    size_t i = 0;
    while (i < text.len) {
        const char *percent = memchr(text.ptr + i, '%', text.len - i);
        const size_t end = percent == NULL ? text.len : (size_t)(percent - text.ptr);
        VLM_TRY(vlm_buf_append(out, text.ptr + i, end - i, err));
        i = end;
        if (i == text.len) break;
        const int high = i + 2 < text.len ? hex_value(text.ptr[i + 1]) : -1;
        const int low = i + 2 < text.len ? hex_value(text.ptr[i + 2]) : -1;
        const bool is_code = high >= 0 && low >= 0;
        VLM_TRY(vlm_buf_append_char(out, (char)(is_code ? high << 4 | low : '%'), err));
        i += is_code ? 3 : 1;
    }
    return VLM_OK;
}

static vlm_status decode_base64(vlm_bytes text, vlm_buf *out, vlm_error *err)
{
    if (text.len == 0 || memchr(text.ptr, '%', text.len) == NULL)
        return vlm_base64_decode(text, out, err);
    vlm_buf plain; /* "%2B" and the like, as some write into URIs */
    vlm_buf_init(&plain, text.len);
    vlm_status status = decode_percent(text, &plain, err);
    if (status == VLM_OK) status = vlm_base64_decode(vlm_buf_bytes(&plain), out, err);
    vlm_buf_fini(&plain);
    return status;
}

static bool read_bytes(reader *in, vlm_bytes text, bool is_base64, ProtobufCBinaryData *out)
{
    vlm_buf bytes;
    vlm_error err;
    vlm_buf_init(&bytes, in->limits->image_bytes_max);
    const vlm_status status =
        is_base64 ? decode_base64(text, &bytes, &err) : decode_percent(text, &bytes, &err);
    if (status != VLM_OK || bytes.len == 0) {
        vlm_buf_fini(&bytes);
        return status == VLM_OK ? refuse_image(in, "holds no picture")
                                : refuse_status(in, status, &err);
    }
    *out = (ProtobufCBinaryData){.data = (uint8_t *)bytes.data, .len = bytes.len};
    return true;
}

/* Whether "data:MIME;parameters" ends with the mark of base64, "; base64" (WHATWG Fetch, data:
 * URLs). */
static bool ends_with_base64(vlm_bytes head)
{
    static const char mark[] = "base64";
    const size_t mark_len = sizeof mark - 1;
    while (head.len > 0 && head.ptr[head.len - 1] == ' ') head.len--;
    if (head.len < mark_len) return false;
    const vlm_bytes tail = {.ptr = head.ptr + head.len - mark_len, .len = mark_len};
    if (!starts_nocase(tail, mark)) return false;
    head.len -= mark_len;
    while (head.len > 0 && head.ptr[head.len - 1] == ' ') head.len--;
    return head.len > 0 && head.ptr[head.len - 1] == ';';
}

static bool read_data_uri(reader *in, vlm_bytes url, ProtobufCBinaryData *out)
{
    const char *comma = memchr(url.ptr, ',', url.len);
    if (comma == NULL) return refuse(in, "is a data: URI without a comma");
    const size_t head = (size_t)(comma - url.ptr);
    const vlm_bytes data = {.ptr = comma + 1, .len = url.len - head - 1};
    return read_bytes(in, data, ends_with_base64((vlm_bytes){.ptr = url.ptr, .len = head}), out);
}

static bool add_url(reader *in, vlm_bytes url, ProtobufCBinaryData *out)
{
    vlm_chat_request *r = in->r;
    if (!in->limits->image_urls) return refuse(in, "is a URL, and this server fetches no pictures");
    if (memchr(url.ptr, '\0', url.len) != NULL) return refuse(in, "is no URL");
    if (r->urls == NULL)
        r->urls = vlm_arena_array(&r->arena, in->limits->images_max, sizeof *r->urls);
    char *copy = vlm_arena_strndup(&r->arena, url.ptr, url.len);
    if (r->urls == NULL || copy == NULL) return vlm_chat_no_memory(in->error);
    vlm_chat_url *u = &r->urls[r->n_urls++];
    u->url = copy;
    u->slot = out;
    vlm_chat_param(u->param, "%s%s", in->path, in->below);
    return true;
}

/* "gopher:", but not base64, which has no colon. */
static bool has_scheme(vlm_bytes url)
{
    enum { SCHEME_LEN_MAX = 32 };
    const size_t n = url.len < SCHEME_LEN_MAX ? url.len : SCHEME_LEN_MAX;
    return memchr(url.ptr, ':', n) != NULL;
}

static bool is_detail(const vlm_json *node)
{
    static const char *const known[] = {"auto", "low", "high", "original"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (vlm_json_typeof(node) == VLM_JSON_STRING &&
            vlm_bytes_eq_str(vlm_json_string(node), known[i]))
            return true;
    return false;
}

/* From now on fini frees what *out holds. */
static bool take(reader *in, ProtobufCBinaryData *out)
{
    vlm_chat_request *r = in->r;
    if (r->n_images == in->limits->images_max) {
        vlm_api_error_invalid(in->error, "messages", "messages: at most %u pictures are taken",
                              in->limits->images_max);
        return false;
    }
    if (r->images == NULL)
        r->images = vlm_arena_array(&r->arena, in->limits->images_max, sizeof *r->images);
    if (r->images == NULL) return vlm_chat_no_memory(in->error);
    r->images[r->n_images++] = out;
    return true;
}

bool vlm_chat_parse_image(vlm_chat_request *r, const vlm_json *node, const char *param,
                          const vlm_chat_limits *limits, ProtobufCBinaryData *out,
                          vlm_api_error *error)
{
    reader in = {.r = r, .limits = limits, .error = error, .path = param, .below = ".image_url"};
    const vlm_json *url = node;
    const bool is_object = vlm_json_typeof(node) == VLM_JSON_OBJECT;
    if (is_object) {
        const vlm_json *detail = vlm_json_get(node, "detail");
        if (detail != NULL && !is_detail(detail))
            return vlm_chat_refuse(error, param, ".image_url.detail", "must be auto, low or high");
        url = vlm_json_get(node, "url");
        in.below = ".image_url.url";
    }
    if (vlm_json_typeof(url) != VLM_JSON_STRING)
        return refuse(&in, is_object ? "must be a string" : "must be a URL or an object with one");
    if (!take(&in, out)) return false;
    const vlm_bytes text = vlm_json_string(url);
    if (starts_nocase(text, "data:")) return read_data_uri(&in, text, out);
    if (starts_nocase(text, "http://") || starts_nocase(text, "https://"))
        return add_url(&in, text, out);
    if (has_scheme(text)) return refuse(&in, "has a scheme that is not taken");
    return read_bytes(&in, text, true, out);
}
