/* fetch_server.h - the servers of test_fetch.c's internet, included once: the path of a request
 * says how it is answered, well or badly.  Behind port 443 is TLS with a certificate that nobody
 * has vouched for. */
#ifndef VLM_TESTS_FETCH_SERVER_H
#define VLM_TESTS_FETCH_SERVER_H

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* OpenSSL's functions, opened as libcurl opens them; a server that nobody has vouched for. */
static struct {
    void *context;
    void *(*new_tls)(void *context);
    int (*set_fd)(void *tls, int fd);
    int (*accept)(void *tls);
    const char *(*get_servername)(const void *tls, int type);
    int (*read)(void *tls, void *data, int len);
    void (*free_tls)(void *tls);
    atomic_bool hangs;
    atomic_uint n_requests; /* that came through */
    char name[64];          /* the server that was asked for */
} tls;

static void *symbol_of(void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    if (symbol == NULL) {
        (void)fprintf(stderr, "libssl.so.3 has no %s\n", name);
        exit(1);
    }
    return symbol;
}

static void open_tls(void)
{
    static const char file[] = VLM_TEST_DATA "/gateway/self-signed.pem";
    void *(*new_context)(const void *method);
    const void *(*method)(void);
    int (*use)(void *context, const char *path, int type);
    void *library = dlopen("libssl.so.3", RTLD_NOW);
    if (library == NULL) exit(1);
#define TAKE(field, name)                                                                          \
    do {                                                                                           \
        void *symbol = symbol_of(library, name);                                                   \
        memcpy(&(field), &symbol, sizeof symbol);                                                  \
    } while (0)
    TAKE(new_context, "SSL_CTX_new");
    TAKE(method, "TLS_server_method");
    tls.context = new_context(method());
    TAKE(use, "SSL_CTX_use_certificate_file");
    if (use(tls.context, file, 1) != 1) exit(1);
    TAKE(use, "SSL_CTX_use_PrivateKey_file");
    if (use(tls.context, file, 1) != 1) exit(1);
    TAKE(tls.new_tls, "SSL_new");
    TAKE(tls.set_fd, "SSL_set_fd");
    TAKE(tls.accept, "SSL_accept");
    TAKE(tls.get_servername, "SSL_get_servername");
    TAKE(tls.read, "SSL_read");
    TAKE(tls.free_tls, "SSL_free");
#undef TAKE
}

static bool say(int fd, const char *text)
{
    const size_t len = strlen(text);
    return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void nap(uint64_t ms)
{
    (void)usleep((useconds_t)(ms * 1000));
}

/* Until the other side is gone. */
static void wait_close(int fd)
{
    char c;
    while (recv(fd, &c, 1, 0) > 0) continue;
}

static void serve_tls(int fd)
{
    char c;
    if (tls.hangs) {
        wait_close(fd);
        return;
    }
    void *session = tls.new_tls(tls.context);
    (void)tls.set_fd(session, fd);
    const int code = tls.accept(session);
    const char *name = tls.get_servername(session, 0);
    (void)snprintf(tls.name, sizeof tls.name, "%s", name == NULL ? "" : name);
    if (code == 1 && tls.read(session, &c, 1) > 0) tls.n_requests++;
    tls.free_tls(session);
}

static void say_length(int fd, const char *fields, unsigned long long length)
{
    char head[256];
    (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%sContent-Length: %llu\r\n\r\n", fields,
                   length);
    (void)say(fd, head);
}

/* n bytes, or until the other side has enough. */
static void say_much(int fd, const char *piece, size_t n_pieces, uint64_t pause_ms)
{
    for (size_t i = 0; i < n_pieces && say(fd, piece); i++)
        if (pause_ms > 0) nap(pause_ms);
}

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void serve_path(int fd, const char *path, const char *head)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\n",
                      chunked[] = "Transfer-Encoding: chunked\r\n\r\n";
    char line[9000];
    const unsigned long number = strtoul(path + strcspn(path, "0123456789"), NULL, 10);
    if (strcmp(path, "/ok") == 0 || strncmp(path, "/ok?", 4) == 0) {
        say_length(fd, "Content-Type: image/png\r\n", 7);
        (void)say(fd, "PICTURE");
    } else if (strncmp(path, "/echo", 5) == 0) {
        say_length(fd, "Set-Cookie: a=b\r\n", strlen(head));
        (void)say(fd, head);
    } else if (strncmp(path, "/to?", 4) == 0) {
        (void)snprintf(line, sizeof line,
                       "HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nLocation: %s\r\n"
                       "Content-Length: 4\r\n\r\nGONE",
                       path + 4);
        (void)say(fd, line);
    } else if (strncmp(path, "/hops/", 6) == 0) {
        (void)snprintf(line, sizeof line,
                       "HTTP/1.1 307 Again\r\nLocation: %s%.0lu\r\nContent-Length: 0\r\n\r\n",
                       number <= 1 ? "/ok?" : "/hops/", number - 1);
        (void)say(fd, line);
    } else if (strncmp(path, "/status/", 8) == 0) {
        (void)snprintf(line, sizeof line, "HTTP/1.1 %lu X\r\nContent-Length: 0\r\n\r\n", number);
        (void)say(fd, line);
    } else if (strncmp(path, "/size/", 6) == 0) {
        say_length(fd, "", number);
        say_much(fd, X64, number / 64, 0);
    } else if (strcmp(path, "/lie-long") == 0) {
        say_length(fd, "", 999999999999ULL);
        say_much(fd, X64, 10, 0);
        wait_close(fd);
    } else if (strcmp(path, "/lie-short") == 0) {
        say_length(fd, "", 640);
        say_much(fd, X64, 5, 0);
    } else if (strcmp(path, "/endless") == 0) {
        (void)say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        say_much(fd, X64 X64 X64 X64, 1 << 20, 0);
    } else if (strcmp(path, "/endless-chunks") == 0) {
        (void)(say(fd, ok) && say(fd, chunked));
        say_much(fd, "40\r\n" X64 "\r\n", 1 << 20, 0);
    } else if (strcmp(path, "/bad-chunks") == 0) {
        (void)(say(fd, ok) && say(fd, chunked) && say(fd, "5\r\nabcdefgh\r\nzz\r\n"));
    } else if (strcmp(path, "/drip") == 0) {
        say_length(fd, "", 60000);
        say_much(fd, "x", 60000, 20);
    } else if (strcmp(path, "/drip-fields") == 0) {
        (void)say(fd, ok);
        say_much(fd, "A: b\r\n", 60000, 20);
    } else if (strcmp(path, "/endless-fields") == 0) {
        (void)say(fd, ok);
        say_much(fd, "A: " X64 "\r\n", 1 << 20, 0);
    } else if (strcmp(path, "/continues") == 0) {
        say_much(fd, "HTTP/1.1 100 Continue\r\n\r\n", 60000, 20);
    } else if (strcmp(path, "/gzip") == 0) {
        say_length(fd, "Content-Encoding: gzip\r\n", 4);
        (void)say(fd, "\x1f\x8b\x08\x01");
    } else if (strcmp(path, "/garbage") == 0) {
        (void)say(fd, "\x16\x03\x01 nonsense\r\n\r\n");
    } else if (strcmp(path, "/reset") == 0) {
        const struct linger now = {.l_onoff = 1};
        say_length(fd, "", 640);
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    } else if (strcmp(path, "/hang") == 0) {
        wait_close(fd);
    }
}

static void serve(int fd, bool is_tls)
{
    char head[9000] = "", path[8500] = "";
    size_t len = 0;
    if (is_tls) {
        serve_tls(fd);
        return;
    }
    while (strstr(head, "\r\n\r\n") == NULL && len + 1 < sizeof head) {
        const ssize_t n = recv(fd, head + len, sizeof head - 1 - len, 0);
        if (n <= 0) return;
        len += (size_t)n;
        head[len] = '\0';
    }
    if (sscanf(head, "GET %8499s HTTP/1.1\r\n", path) == 1) serve_path(fd, path, head);
    (void)shutdown(fd, SHUT_WR);
    if (strcmp(path, "/reset") != 0) {
        const struct timeval second = {.tv_sec = 1};
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
        wait_close(fd);
    }
}

#endif
