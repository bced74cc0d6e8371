#include "net/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_LEN = 64 << 10 };

struct vlm_stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    const vlm_stream_handler *handler;
    void *user;
    vlm_buf *written; /* of a memory stream, which has no handle */
    size_t unsent;
    uint32_t n_writes; /* that libuv still works on */
    bool is_tcp, closing, ended;
    bool broken; /* the owner has been told */
    bool lost;   /* bytes could not be kept: nothing after them may arrive */
};

/* What the system did not take at once. */
typedef struct write_request {
    uv_write_t uv;
    size_t len;
    char data[];
} write_request;

typedef struct connect_request {
    uv_connect_t uv;
    vlm_stream *stream;
} connect_request;

static void free_stream(uv_handle_t *handle)
{
    free(handle->data);
}

static vlm_stream *new_stream(const vlm_stream_handler *handler, void *user)
{
    vlm_stream *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->handler = handler;
    s->user = user;
    return s;
}

/* Initialise the handle; on failure the stream is freed. */
static vlm_stream *init_handle(uv_loop_t *loop, bool is_tcp, vlm_stream *s)
{
    if (s == NULL) return NULL;
    s->is_tcp = is_tcp;
    const int code = is_tcp ? uv_tcp_init(loop, &s->uv.tcp) : uv_pipe_init(loop, &s->uv.pipe, 0);
    if (code != 0) {
        free(s);
        return NULL;
    }
    s->uv.handle.data = s;
    return s;
}

void vlm_stream_set_handler(vlm_stream *s, const vlm_stream_handler *handler, void *user)
{
    s->handler = handler;
    s->user = user;
}

/* Tell the owner once that the stream is broken. */
static void break_stream(vlm_stream *s)
{
    if (s->broken || s->closing) return;
    s->broken = true;
    (void)uv_read_stop(&s->uv.stream);
    s->handler->gone(s->user);
}

static void on_connect(uv_connect_t *request, int status)
{
    connect_request *c = (connect_request *)request;
    vlm_stream *s = c->stream;
    free(c);
    if (s->closing) return;
    if (status != 0) {
        break_stream(s);
        return;
    }
    if (s->is_tcp) (void)uv_tcp_nodelay(&s->uv.tcp, 1);
    s->handler->connected(s->user);
}

vlm_status vlm_stream_connect(uv_loop_t *loop, const struct sockaddr *addr,
                              const vlm_stream_handler *handler, void *user, vlm_stream **out,
                              vlm_error *err)
{
    *out = NULL;
    connect_request *c = calloc(1, sizeof *c);
    vlm_stream *s = c == NULL ? NULL : init_handle(loop, true, new_stream(handler, user));
    if (s == NULL) {
        free(c);
        return vlm_fail_memory(err, "connection");
    }
    c->stream = s;
    const int code = uv_tcp_connect(&c->uv, &s->uv.tcp, addr, on_connect);
    if (code != 0) {
        free(c);
        vlm_stream_close(s);
        return vlm_fail(err, VLM_UNAVAILABLE, "cannot connect: %s", uv_strerror(code));
    }
    *out = s;
    return VLM_OK;
}

vlm_status vlm_stream_connect_unix(uv_loop_t *loop, const char *path,
                                   const vlm_stream_handler *handler, void *user, vlm_stream **out,
                                   vlm_error *err)
{
    *out = NULL;
    connect_request *c = calloc(1, sizeof *c);
    vlm_stream *s = c == NULL ? NULL : init_handle(loop, false, new_stream(handler, user));
    if (s == NULL) {
        free(c);
        return vlm_fail_memory(err, "connection");
    }
    c->stream = s;
    uv_pipe_connect(&c->uv, &s->uv.pipe, path, on_connect);
    *out = s;
    return VLM_OK;
}

vlm_status vlm_stream_new_memory(vlm_buf *written, const vlm_stream_handler *handler, void *user,
                                 vlm_stream **out, vlm_error *err)
{
    *out = new_stream(handler, user);
    if (*out == NULL) return vlm_fail_memory(err, "connection");
    (*out)->written = written;
    return VLM_OK;
}

void vlm_stream_push(vlm_stream *s, const void *data, size_t len)
{
    assert(s->written != NULL);
    s->handler->data(s->user, data, len);
}

/* One buffer per thread: libuv reads into it and hands it over at once. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static _Thread_local char bytes[READ_LEN];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(bytes, READ_LEN);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    vlm_stream *s = stream->data;
    if (n > 0) {
        s->handler->data(s->user, (const uint8_t *)buf->base, (size_t)n);
    } else if (n == UV_EOF && !s->lost) {
        (void)uv_read_stop(stream);
        s->ended = true;
        s->handler->end(s->user);
    } else if (n < 0) {
        break_stream(s);
    }
}

void vlm_stream_read(vlm_stream *s, bool on)
{
    if (s->written != NULL || s->closing || s->broken || s->ended) return;
    if (!on)
        (void)uv_read_stop(&s->uv.stream);
    else
        (void)uv_read_start(&s->uv.stream, on_alloc, on_read);
}

static void on_written(uv_write_t *request, int status)
{
    write_request *w = (write_request *)request;
    vlm_stream *s = request->handle->data;
    s->n_writes--;
    s->unsent -= w->len;
    free(w);
    if (s->closing) return;
    if (status != 0)
        break_stream(s);
    else if (s->unsent == 0 && s->handler->drained != NULL)
        s->handler->drained(s->user);
}

/* The peer must not see a stream with a hole: shut it; the end then comes as a read. */
static void lose(vlm_stream *s)
{
    uv_os_fd_t fd;
    s->lost = true;
    if (uv_fileno(&s->uv.handle, &fd) == 0) (void)shutdown(fd, SHUT_RDWR);
}

void vlm_stream_write(vlm_stream *s, const void *data, size_t len)
{
    assert(!s->closing);
    if (len == 0 || s->broken || s->lost) return;
    if (s->written != NULL) {
        if (vlm_buf_append(s->written, data, len, NULL) != VLM_OK) s->lost = true;
        return;
    }
    if (s->n_writes == 0) {
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
        const int n = uv_try_write(&s->uv.stream, &buf, 1);
        if (n > 0) {
            if ((size_t)n == len) return;
            data = (const char *)data + n;
            len -= (size_t)n;
        }
    }
    write_request *w = malloc(sizeof *w + len);
    if (w == NULL) {
        lose(s);
        return;
    }
    memcpy(w->data, data, len);
    w->len = len;
    uv_buf_t buf = uv_buf_init(w->data, (unsigned)len);
    s->n_writes++;
    s->unsent += len;
    if (uv_write(&w->uv, &s->uv.stream, &buf, 1, on_written) != 0) {
        s->n_writes--;
        s->unsent -= len;
        free(w);
        lose(s);
    }
}

size_t vlm_stream_unsent(const vlm_stream *s)
{
    /* libuv's own count goes down with each piece that the system takes. */
    return s->written != NULL || s->unsent == 0 ? 0 : uv_stream_get_write_queue_size(&s->uv.stream);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)status;
    free(request);
}

void vlm_stream_shutdown(vlm_stream *s)
{
    if (s->written != NULL || s->closing || s->broken) return;
    uv_shutdown_t *request = calloc(1, sizeof *request);
    if (request == NULL || uv_shutdown(request, &s->uv.stream, on_shutdown) != 0) free(request);
}

void vlm_stream_close(vlm_stream *s)
{
    if (s == NULL) return;
    assert(!s->closing);
    s->closing = true;
    if (s->written != NULL)
        free(s);
    else
        uv_close(&s->uv.handle, free_stream);
}

void vlm_stream_abort(vlm_stream *s)
{
    if (s != NULL && s->written == NULL && s->is_tcp) {
        const struct linger now = {.l_onoff = 1, .l_linger = 0};
        uv_os_fd_t fd;
        if (uv_fileno(&s->uv.handle, &fd) == 0)
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    vlm_stream_close(s);
}

struct vlm_listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_loop_t *loop;
    vlm_addr addr;
    vlm_accept_fn *fn;
    void *user;
    bool is_open;
};

static void on_connection(uv_stream_t *server, int status)
{
    vlm_listener *l = server->data;
    if (status != 0) return;
    const bool is_tcp = l->addr.kind != VLM_ADDR_UNIX;
    vlm_stream *s = init_handle(l->loop, is_tcp, new_stream(NULL, NULL));
    if (s == NULL) return;
    if (uv_accept(server, &s->uv.stream) != 0) {
        vlm_stream_close(s);
        return;
    }
    if (is_tcp) (void)uv_tcp_nodelay(&s->uv.tcp, 1);
    l->fn(l->user, s);
}

static int bind_unix(vlm_listener *l)
{
    struct stat st;
    int code = uv_pipe_init(l->loop, &l->uv.pipe, 0);
    if (code != 0) return code;
    l->is_open = true;
    /* What a process that died left behind; never another kind of file. */
    if (lstat(l->addr.host, &st) == 0 && S_ISSOCK(st.st_mode)) (void)unlink(l->addr.host);
    const mode_t mask = umask(0177);
    code = uv_pipe_bind(&l->uv.pipe, l->addr.host);
    (void)umask(mask);
    return code;
}

/* The port that was bound, for port 0. */
static void read_port(vlm_listener *l)
{
    struct sockaddr_storage name;
    int len = sizeof name;
    if (uv_tcp_getsockname(&l->uv.tcp, (struct sockaddr *)&name, &len) != 0) return;
    const void *port = name.ss_family == AF_INET6
                           ? (const void *)&((const struct sockaddr_in6 *)&name)->sin6_port
                           : (const void *)&((const struct sockaddr_in *)&name)->sin_port;
    uint16_t number;
    memcpy(&number, port, sizeof number);
    l->addr.port = ntohs(number);
}

static int bind_tcp(vlm_listener *l)
{
    char port[8];
    (void)snprintf(port, sizeof port, "%u", l->addr.port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    uv_getaddrinfo_t request;
    int code = uv_getaddrinfo(l->loop, &request, NULL, l->addr.host, port, &hints);
    if (code != 0) return code;
    code = uv_tcp_init(l->loop, &l->uv.tcp);
    if (code == 0) {
        l->is_open = true;
        code = uv_tcp_bind(&l->uv.tcp, request.addrinfo->ai_addr, 0);
    }
    uv_freeaddrinfo(request.addrinfo);
    return code;
}

vlm_status vlm_listener_open(uv_loop_t *loop, const vlm_addr *addr, vlm_accept_fn *fn, void *user,
                             vlm_listener **out, vlm_error *err)
{
    enum { BACKLOG = 1024 };
    *out = NULL;
    vlm_listener *l = calloc(1, sizeof *l);
    if (l == NULL) return vlm_fail_memory(err, "listener");
    l->loop = loop;
    l->addr = *addr;
    l->fn = fn;
    l->user = user;
    int code = addr->kind == VLM_ADDR_UNIX ? bind_unix(l) : bind_tcp(l);
    l->uv.handle.data = l;
    if (code == 0) code = uv_listen(&l->uv.stream, BACKLOG, on_connection);
    if (code != 0) {
        const char *why = uv_strerror(code);
        const vlm_status status =
            vlm_fail(err, VLM_UNAVAILABLE, "cannot listen on %s%.200s: %s",
                     addr->kind == VLM_ADDR_UNIX ? "unix:" : "", addr->host, why);
        if (l->is_open)
            uv_close(&l->uv.handle, free_stream);
        else
            free(l);
        return status;
    }
    if (addr->kind != VLM_ADDR_UNIX) read_port(l);
    *out = l;
    return VLM_OK;
}

const vlm_addr *vlm_listener_addr(const vlm_listener *l)
{
    return &l->addr;
}

void vlm_listener_close(vlm_listener *l)
{
    if (l == NULL) return;
    if (l->addr.kind == VLM_ADDR_UNIX) (void)unlink(l->addr.host);
    uv_close(&l->uv.handle, free_stream);
}
