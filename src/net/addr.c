#include "net/addr.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == ':';
}

static vlm_status fail_addr(const char *text, vlm_error *err)
{
    return vlm_fail(err, VLM_INVALID_ARGUMENT,
                    "\"%.300s\" is no address: host:port, dns:///name:port or unix:/path", text);
}

static bool parse_port(const char *text, uint16_t *out)
{
    uint32_t port = 0;
    if (*text == '\0' || strlen(text) > 5) return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return false;
        port = port * 10 + (uint32_t)(*text - '0');
    }
    if (port > UINT16_MAX) return false;
    *out = (uint16_t)port;
    return true;
}

static vlm_status parse_host_port(const char *whole, const char *text, vlm_addr *out,
                                  vlm_error *err)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) return fail_addr(whole, err);
    const char *host = text;
    size_t len = (size_t)(colon - text);
    const bool bracketed = len >= 2 && text[0] == '[' && colon[-1] == ']';
    if (bracketed) {
        host = text + 1;
        len -= 2;
    }
    if (len == 0 || len > VLM_ADDR_HOST_LEN_MAX) return fail_addr(whole, err);
    for (size_t i = 0; i < len; i++)
        if (!is_host_char(host[i]) || (host[i] == ':' && !bracketed)) return fail_addr(whole, err);
    memcpy(out->host, host, len);
    out->host[len] = '\0';
    return parse_port(colon + 1, &out->port) ? VLM_OK : fail_addr(whole, err);
}

vlm_status vlm_addr_parse(const char *text, vlm_addr *out, vlm_error *err)
{
    *out = (vlm_addr){.kind = VLM_ADDR_TCP};
    if (strncmp(text, "unix:", 5) == 0) {
        const char *path = strncmp(text, "unix://", 7) == 0 ? text + 7 : text + 5;
        const size_t len = strlen(path);
        if (len == 0) return fail_addr(text, err);
        if (len > VLM_ADDR_PATH_LEN_MAX)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "\"%.300s\": the path of a socket has at most %d bytes", text,
                            VLM_ADDR_PATH_LEN_MAX);
        out->kind = VLM_ADDR_UNIX;
        memcpy(out->host, path, len + 1);
        return VLM_OK;
    }
    if (strncmp(text, "dns:///", 7) == 0) {
        out->kind = VLM_ADDR_DNS;
        return parse_host_port(text, text + 7, out, err);
    }
    return parse_host_port(text, text, out, err);
}

bool vlm_addr_is_local(const vlm_addr *addr)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (addr->kind == VLM_ADDR_UNIX || strcasecmp(addr->host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, addr->host, &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, addr->host, &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
    return false;
}

vlm_status vlm_addr_write(const vlm_addr *addr, vlm_buf *out, vlm_error *err)
{
    if (addr->kind == VLM_ADDR_UNIX) return vlm_buf_printf(out, err, "unix:%s", addr->host);
    const bool v6 = strchr(addr->host, ':') != NULL;
    return vlm_buf_printf(out, err, "%s%s%s%s:%u", addr->kind == VLM_ADDR_DNS ? "dns:///" : "",
                          v6 ? "[" : "", addr->host, v6 ? "]" : "", addr->port);
}
