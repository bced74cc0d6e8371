/* stream.h - a connection as a stream of bytes on a libuv loop: TCP, a Unix socket, or none at all
 * (a test pushes the bytes and reads what was written).
 * Not: what the bytes mean.
 * Ownership: whoever made or accepted a stream closes it; after vlm_stream_close no handler is
 * called and the pointer is dead.  Threads: the loop's. */
#ifndef VLM_NET_STREAM_H
#define VLM_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/status.h"
#include "net/addr.h"

typedef struct vlm_stream vlm_stream;

/* All may close the stream. */
typedef struct vlm_stream_handler {
    /* Only of vlm_stream_connect: the connection stands.  NULL otherwise. */
    void (*connected)(void *user);
    /* Bytes from the peer; the memory is the stream's again afterwards. */
    void (*data)(void *user, const uint8_t *data, size_t len);
    /* The peer sends no more (it may still read). */
    void (*end)(void *user);
    /* Everything written has gone to the system.  May be NULL. */
    void (*drained)(void *user);
    /* Broken, or never connected: close it. */
    void (*gone)(void *user);
} vlm_stream_handler;

/* The handler must outlive the stream.  Reading has not started. */
void vlm_stream_set_handler(vlm_stream *s, const vlm_stream_handler *handler, void *user);

/* Start to connect; handler->connected or gone is called later, never from within. */
VLM_MUST_USE vlm_status vlm_stream_connect(uv_loop_t *loop, const struct sockaddr *addr,
                                           const vlm_stream_handler *handler, void *user,
                                           vlm_stream **out, vlm_error *err);
VLM_MUST_USE vlm_status vlm_stream_connect_unix(uv_loop_t *loop, const char *path,
                                                const vlm_stream_handler *handler, void *user,
                                                vlm_stream **out, vlm_error *err);

/* A stream without a socket: what is written gathers in *written, which the caller owns. */
VLM_MUST_USE vlm_status vlm_stream_new_memory(vlm_buf *written, const vlm_stream_handler *handler,
                                              void *user, vlm_stream **out, vlm_error *err);

/* The peer of a stream without a socket sends: calls handler->data. */
void vlm_stream_push(vlm_stream *s, const void *data, size_t len);

/* Call handler->data from now on, or no more until the next call. */
void vlm_stream_read(vlm_stream *s, bool on);

/* Send; what the system does not take at once is copied.  Failures arrive at handler->gone, later,
 * not from within. */
void vlm_stream_write(vlm_stream *s, const void *data, size_t len);
/* Bytes that wait in this process for a slow peer. */
size_t vlm_stream_unsent(const vlm_stream *s);

/* No more is written: the peer finds the end after what was. */
void vlm_stream_shutdown(vlm_stream *s);
/* Close at once; what waits is dropped.  Legal on NULL. */
void vlm_stream_close(vlm_stream *s);
/* Close so that a TCP peer sees a reset, not an end. */
void vlm_stream_abort(vlm_stream *s);

/* Who waits for connections. */
typedef struct vlm_listener vlm_listener;
typedef void vlm_accept_fn(void *user, vlm_stream *stream);

/* The socket file of a Unix address is replaced, made for its owner alone (mode 0600), and removed
 * at close.  UNAVAILABLE, naming the address, when it cannot be had. */
VLM_MUST_USE vlm_status vlm_listener_open(uv_loop_t *loop, const vlm_addr *addr, vlm_accept_fn *fn,
                                          void *user, vlm_listener **out, vlm_error *err);
/* The address with the port that the system chose for 0. */
const vlm_addr *vlm_listener_addr(const vlm_listener *l);
/* Legal on NULL. */
void vlm_listener_close(vlm_listener *l);

#endif
