#include "gateway/fetch_addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

static bool skip_scheme(vlm_bytes *rest, uint16_t *port)
{
    static const struct {
        const char *scheme;
        uint16_t port;
    } schemes[] = {{"https://", 443}, {"http://", 80}};
    for (size_t i = 0; i < 2; i++) {
        const size_t len = strlen(schemes[i].scheme);
        if (rest->len < len || strncasecmp(rest->ptr, schemes[i].scheme, len) != 0) continue;
        rest->ptr += len;
        rest->len -= len;
        *port = schemes[i].port;
        return true;
    }
    return false;
}

static bool is_host_char(char c, bool is_ipv6)
{
    if (c >= '0' && c <= '9') return true;
    if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) return true;
    if (is_ipv6) return c == ':' || c == '.';
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';
}

static bool parse_port(vlm_bytes text, uint16_t *out)
{
    uint32_t port = 0;
    if (text.len == 0 || text.len > 5) return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') return false;
        port = port * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    if (port == 0 || port > UINT16_MAX) return false;
    *out = (uint16_t)port;
    return true;
}

bool vlm_fetch_target_parse(vlm_bytes url, vlm_fetch_target *out)
{
    *out = (vlm_fetch_target){0};
    if (url.len > VLM_FETCH_URL_LEN_MAX) return false;
    for (size_t i = 0; i < url.len; i++)
        if (url.ptr[i] <= 0x20 || url.ptr[i] >= 0x7f || url.ptr[i] == '\\') return false;
    if (!skip_scheme(&url, &out->port)) return false;
    size_t len = 0;
    while (len < url.len && strchr("/?#", url.ptr[len]) == NULL) len++;
    vlm_bytes authority = {.ptr = url.ptr, .len = len};
    size_t host_len = 0;
    if (authority.len > 0 && authority.ptr[0] == '[') {
        const char *end = memchr(authority.ptr, ']', authority.len);
        if (end == NULL) return false;
        out->is_ipv6 = true;
        authority.ptr++;
        authority.len--;
        host_len = (size_t)(end - authority.ptr);
    } else {
        while (host_len < authority.len && authority.ptr[host_len] != ':') host_len++;
    }
    if (host_len == 0 || host_len > VLM_FETCH_HOST_LEN_MAX) return false;
    for (size_t i = 0; i < host_len; i++)
        if (!is_host_char(authority.ptr[i], out->is_ipv6)) return false;
    memcpy(out->host, authority.ptr, host_len);
    host_len += out->is_ipv6;
    const vlm_bytes rest = {.ptr = authority.ptr + host_len, .len = authority.len - host_len};
    if (rest.len == 0) return true;
    if (rest.ptr[0] != ':') return false;
    return parse_port((vlm_bytes){.ptr = rest.ptr + 1, .len = rest.len - 1}, &out->port);
}

static bool is_global_v4(uint32_t a)
{
    static const struct {
        uint32_t net;
        int bits;
    } special[] = {
        {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
        {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
        {0xc01fc400, 24}, {0xc034c100, 24}, {0xc0af3000, 24}, {0xc6120000, 15}, {0xc6336400, 24},
        {0xcb007100, 24}, {0xe0000000, 4},  {0xf0000000, 4},
    };
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if ((a ^ special[i].net) >> (32 - special[i].bits) == 0) return false;
    return true;
}

static bool has_prefix(const uint8_t *a, const uint8_t *prefix, int bits)
{
    for (int i = 0; i < bits; i++)
        if (((a[i / 8] ^ prefix[i / 8]) >> (7 - i % 8) & 1) != 0) return false;
    return true;
}

static bool is_global_v6(const uint8_t *a)
{
    static const struct {
        uint8_t net[16];
        int bits;
    } special[] = {
        {{0x20, 0x01}, 23},             /* protocol assignments: Teredo, ORCHID, benchmarks */
        {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documents */
        {{0x20, 0x02}, 16},             /* 6to4 hides an IPv4 address */
        {{0x26, 0x20, 0x00, 0x4f, 0x80, 0x00}, 48}, /* AS112 */
        {{0x3f, 0xff}, 20},                         /* documents */
    };
    /* Global unicast is 2000::/3 alone: ::1, mapped and translated IPv4, fc00::/7, fe80::/10 and
     * ff00::/8 lie outside. */
    if (a[0] >> 5 != 1) return false;
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if (has_prefix(a, special[i].net, special[i].bits)) return false;
    return true;
}

bool vlm_fetch_addr_is_global(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET)
        return is_global_v4(ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr));
    if (addr->sa_family != AF_INET6) return false;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)addr;
    return v6->sin6_scope_id == 0 && is_global_v6(v6->sin6_addr.s6_addr);
}

/* A host without the dot that may end it. */
static size_t host_len(const char *host)
{
    size_t len = strlen(host);
    while (len > 0 && host[len - 1] == '.') len--;
    return len;
}

bool vlm_fetch_host_listed(const char *host, const char *list)
{
    const size_t len = host_len(host);
    if (list == NULL || list[0] == '\0') return true;
    while (*list != '\0') {
        list += strspn(list, ", ");
        size_t n = strcspn(list, ", ");
        const char *next = list + n;
        while (n > 0 && list[n - 1] == '.') n--;
        const bool ends = n > 0 && len >= n && strncasecmp(host + len - n, list, n) == 0;
        if (ends && (len == n || host[len - n - 1] == '.')) return true;
        list = next;
    }
    return false;
}
