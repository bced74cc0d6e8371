/* addr.h - where to listen and whom to call: host:port, dns:///name:port or unix:/path.
 * Not: resolving names.  Threads: pure. */
#ifndef VLM_NET_ADDR_H
#define VLM_NET_ADDR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef enum vlm_addr_kind {
    VLM_ADDR_TCP,  /* a name or a number: one address */
    VLM_ADDR_DNS,  /* a name: all its addresses, asked again from time to time */
    VLM_ADDR_UNIX, /* the path of a socket */
} vlm_addr_kind;

enum { VLM_ADDR_HOST_LEN_MAX = 255, VLM_ADDR_PATH_LEN_MAX = 107 };

typedef struct vlm_addr {
    vlm_addr_kind kind;
    char host[VLM_ADDR_HOST_LEN_MAX + 1]; /* without the brackets of an IPv6 number; the path */
    uint16_t port;
} vlm_addr;

/* INVALID_ARGUMENT, naming the text.  Port 0 lets the system choose one to listen on. */
VLM_MUST_USE vlm_status vlm_addr_parse(const char *text, vlm_addr *out, vlm_error *err);

/* Nobody beyond this machine can reach it: a Unix socket, 127.0.0.0/8, ::1 or localhost. */
bool vlm_addr_is_local(const vlm_addr *addr);

/* Append the text that vlm_addr_parse would read. */
VLM_MUST_USE vlm_status vlm_addr_write(const vlm_addr *addr, vlm_buf *out, vlm_error *err);

#endif
