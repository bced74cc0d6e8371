#include "gateway/api_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

static const char invalid_request[] = "invalid_request_error";

static void fill(vlm_api_error *out, int status, const char *type, const char *code,
                 const char *param, const char *message)
{
    *out = (vlm_api_error){.http_status = status, .type = type, .code = code};
    (void)snprintf(out->param, sizeof out->param, "%s", param);
    (void)snprintf(out->message, sizeof out->message, "%s", message);
}

/* Between 1 and 4 seconds, so that clients who were refused together do not come back together. */
static uint32_t retry_after(void)
{
    return 1 + (uint32_t)(vlm_clock_ns() / 1000 % 4);
}

void vlm_api_error_invalid(vlm_api_error *out, const char *param, const char *fmt, ...)
{
    char text[VLM_ERROR_MSG_LEN_MAX + 1];
    vlm_error clean;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)vlm_fail(&clean, VLM_INVALID_ARGUMENT, "%s", text); /* whole code points, one line */
    fill(out, 400, invalid_request, NULL, param, clean.msg);
}

void vlm_api_error_http(vlm_api_error *out, int status, const char *text)
{
    const char *type = status == 503   ? "overloaded_error"
                       : status >= 500 ? "server_error"
                                       : invalid_request;
    fill(out, status, type, status == 503 ? "server_overloaded" : NULL, "", text);
    if (status == 503) out->retry_after_s = retry_after();
}

void vlm_api_error_api_key(vlm_api_error *out)
{
    fill(out, 401, "authentication_error", "invalid_api_key", "",
         "a valid API key is needed: Authorization: Bearer KEY");
}

void vlm_api_error_route(vlm_api_error *out)
{
    fill(out, 404, "not_found_error", NULL, "", "there is nothing at this path");
}

void vlm_api_error_model_not_found(vlm_api_error *out, vlm_bytes name)
{
    enum { SHOWN_MAX = 100 };
    const int len = (int)(name.len < SHOWN_MAX ? name.len : SHOWN_MAX);
    vlm_error text;
    (void)vlm_fail(&text, VLM_NOT_FOUND, "the model `%.*s` does not exist", len, name.ptr);
    fill(out, 404, "not_found_error", "model_not_found", "model", text.msg);
}

void vlm_api_error_method(vlm_api_error *out)
{
    fill(out, 405, invalid_request, NULL, "", "the method is not allowed here");
}

void vlm_api_error_media_type(vlm_api_error *out, const char *text)
{
    fill(out, 415, invalid_request, NULL, "", text);
}

void vlm_api_error_quarantined(vlm_api_error *out)
{
    fill(out, 422, invalid_request, "request_quarantined", "",
         "this request has ended two workers and is not tried again");
}

void vlm_api_error_internal(vlm_api_error *out)
{
    fill(out, 500, "server_error", NULL, "",
         "the server had an error; the request id is in its log");
}

void vlm_api_error_overloaded(vlm_api_error *out, const char *text)
{
    fill(out, 503, "overloaded_error", "server_overloaded", "", text);
    out->retry_after_s = retry_after();
}

void vlm_api_error_rate_limit(vlm_api_error *out)
{
    fill(out, 429, "rate_limit_error", "rate_limit_exceeded", "",
         "this key has as many requests here as it may while others find room");
    out->retry_after_s = retry_after();
}

void vlm_api_error_unavailable(vlm_api_error *out)
{
    fill(out, 503, "overloaded_error", "worker_unavailable", "",
         "no worker could answer the request; try again");
    out->retry_after_s = retry_after();
}

void vlm_api_error_not_loaded(vlm_api_error *out, vlm_bytes model)
{
    vlm_error text;
    (void)vlm_fail(&text, VLM_UNAVAILABLE,
                   "the model `%.*s` could not be loaded; the server's log says why",
                   (int)model.len, model.ptr);
    fill(out, 503, "overloaded_error", "model_not_loaded", "model", text.msg);
    out->retry_after_s = retry_after();
}

void vlm_api_error_admin_key(vlm_api_error *out, bool is_set)
{
    if (is_set)
        fill(out, 401, "authentication_error", "invalid_api_key", "",
             "the admin key is needed: Authorization: Bearer KEY");
    else
        fill(out, 403, "permission_error", NULL, "",
             "nobody may do this: the server was started without --admin-key-file");
}

void vlm_api_error_conflict(vlm_api_error *out, const char *text)
{
    fill(out, 409, invalid_request, "model_busy", "model", text);
}

void vlm_api_error_timeout(vlm_api_error *out)
{
    fill(out, 504, "timeout_error", NULL, "", "the request took too long");
}

static bool is_reason(const char *reason, const char *name)
{
    return reason != NULL && strcmp(reason, name) == 0;
}

void vlm_api_error_from_status(vlm_api_error *out, const vlm_error *err, const char *reason)
{
    switch (err->code) {
    case VLM_INVALID_ARGUMENT:
    case VLM_UNIMPLEMENTED:
        fill(out, 400, invalid_request, NULL, "", err->msg);
        if (!is_reason(reason, "invalid_image")) return;
        out->code = "invalid_image";
        (void)snprintf(out->param, sizeof out->param, "messages");
        /* "messages[0].content[1]: ..." names the picture. */
        if (strncmp(err->msg, "messages[", 9) == 0)
            (void)snprintf(out->param, sizeof out->param, "%.*s", (int)strcspn(err->msg, ": "),
                           err->msg);
        return;
    case VLM_OUT_OF_RANGE:
        fill(out, 400, invalid_request, "context_length_exceeded", "messages", err->msg);
        return;
    case VLM_NOT_FOUND:
        fill(out, 404, "not_found_error",
             is_reason(reason, "model_not_found") ? "model_not_found" : NULL, "model", err->msg);
        return;
    case VLM_RESOURCE_EXHAUSTED:
        if (is_reason(reason, "rate_limit")) {
            fill(out, 429, "rate_limit_error", "rate_limit_exceeded", "", err->msg);
            out->retry_after_s = retry_after();
        } else {
            vlm_api_error_overloaded(out, "the server is busy");
        }
        return;
    case VLM_UNAVAILABLE: vlm_api_error_unavailable(out); return;
    case VLM_DEADLINE_EXCEEDED: vlm_api_error_timeout(out); return;
    default: vlm_api_error_internal(out); return;
    }
}

vlm_status vlm_api_error_write(const vlm_api_error *e, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "{\"error\":{\"message\":", err));
    VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(e->message), err));
    VLM_TRY(vlm_buf_printf(out, err, ",\"type\":\"%s\",\"param\":", e->type));
    if (e->param[0] == '\0')
        VLM_TRY(vlm_buf_append_str(out, "null", err));
    else
        VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(e->param), err));
    if (e->code == NULL) return vlm_buf_append_str(out, ",\"code\":null}}", err);
    return vlm_buf_printf(out, err, ",\"code\":\"%s\"}}", e->code);
}
