/* fetch_addr.h - which URLs and addresses a picture may be fetched from.  Threads: pure. */
#ifndef VLM_GATEWAY_FETCH_ADDR_H
#define VLM_GATEWAY_FETCH_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/buf.h"

enum { VLM_FETCH_HOST_LEN_MAX = 253, VLM_FETCH_URL_LEN_MAX = 8192 };

typedef struct vlm_fetch_target {
    char host[VLM_FETCH_HOST_LEN_MAX + 1]; /* without the brackets of an IPv6 number */
    uint16_t port;
    bool is_ipv6;
} vlm_fetch_target;

/* Take an http or https URL apart.  False for everything that two programs could read differently:
 * user names, backslashes, control and non-ASCII characters, percent signs in the host, zones. */
bool vlm_fetch_target_parse(vlm_bytes url, vlm_fetch_target *out);

/* A unicast address of the open internet: none that is private, of this machine or this link,
 * reserved, for documents, or that hides another address inside
 * (https://www.iana.org/assignments/iana-ipv4-special-registry, -ipv6-special-registry). */
bool vlm_fetch_addr_is_global(const struct sockaddr *addr);

/* The host is one of "a.com,b.org" or below one.  An empty or NULL list has all. */
bool vlm_fetch_host_listed(const char *host, const char *list);

#endif
