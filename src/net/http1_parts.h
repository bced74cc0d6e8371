/* http1_parts.h - what the files of the HTTP/1.1 parser and writer share.
 * Not for others.  Threads: as http1.h. */
#ifndef VLM_NET_HTTP1_PARTS_H
#define VLM_NET_HTTP1_PARTS_H

#include "net/http1.h"

/* Classes of bytes, bits of vlm_http1_class. */
enum {
    VLM_HTTP1_TOKEN = 1,  /* RFC 9110, 5.6.2 */
    VLM_HTTP1_TARGET = 2, /* visible ASCII without '#' */
    VLM_HTTP1_VALUE = 4,  /* of a field: visible ASCII, bytes >= 0x80, space and tab */
    VLM_HTTP1_BLANK = 8,  /* space and tab */
    VLM_HTTP1_HOST = 16,  /* reg-name of RFC 3986 without '%' and ',' */
};
extern const uint8_t vlm_http1_class[256];

static inline bool vlm_http1_is(char c, unsigned classes)
{
    return (vlm_http1_class[(uint8_t)c] & classes) != 0;
}

/* The value of a hexadecimal digit, -1 for anything else. */
static inline int vlm_http1_hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* text, in any case, is name, which is in lower case. */
bool vlm_http1_is_name(vlm_bytes text, const char *name);

/* The message being read.  text holds method, target, then name and value of each field, one right
 * behind the other.  Until the head is complete the lengths alone are valid, since text moves. */
typedef struct vlm_http1_store {
    vlm_buf text;
    size_t method_len, target_len;
    vlm_http1_field *fields; /* [n_fields of the parser] */
    size_t fields_cap;
    bool is_ready; /* HEAD was given */
    vlm_http1_request request;
} vlm_http1_store;

/* Be in error for good.  text is a literal. */
vlm_http1_event vlm_http1_fail(vlm_http1 *p, int status, const char *text);

/* Look at method, target and version (8 bytes).  NEED_MORE: go on. */
vlm_http1_event vlm_http1_check_line(vlm_http1 *p, vlm_bytes version);

/* The head is complete: fill the request and find how its body is told.  NEED_MORE: go on. */
vlm_http1_event vlm_http1_finish_head(vlm_http1 *p);

#endif
