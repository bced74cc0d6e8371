/* fetch_net.h - a pretended internet for test_fetch.c, included once: names of its own, two public
 * addresses that lead to a server of this process, and a count of every connect() that anybody in
 * this process makes, libcurl included.  A connect to any other address fails and is remembered.
 * getaddrinfo, freeaddrinfo and connect of the C library are replaced for the whole program. */
#ifndef VLM_TESTS_FETCH_NET_H
#define VLM_TESTS_FETCH_NET_H

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))
#define PUBLIC_4 "93.184.216.34"
#define PUBLIC_6 "2606:2800:220:1:248:1893:25c8:1946"
#define HOLE "93.184.216.35" /* never answers */

static struct {
    atomic_uint n_connects, n_strays, n_lookups, n_served;
    uint16_t ports[2]; /* of our servers for 80 and 443 */
    uint16_t hole_port;
    atomic_bool is_over;
    /* What takes a connection that was made to port 80 or 443. */
    void (*serve)(int fd, bool is_tls);
} net;

static const struct {
    const char *name, *addresses[4];
} names[] = {
    {"public.test", {PUBLIC_4}},
    {"a.public.test", {PUBLIC_4}},
    {"two.test", {PUBLIC_4, PUBLIC_6}},
    {"six.test", {PUBLIC_6}},
    {"hole.test", {HOLE}},
    {"mixed4.test", {PUBLIC_4, "10.0.0.1"}},
    {"mixed6.test", {PUBLIC_4, "fd00::1"}},
    {"mixed-last.test", {PUBLIC_4, PUBLIC_6, PUBLIC_4, "127.0.0.1"}},
    {"flip.test", {PUBLIC_4}}, /* and 127.0.0.1 from the second time on */
    {"local.test", {"127.0.0.1"}},
    {"local6.test", {"::1"}},
    {"private.test", {"192.168.0.1"}},
    {"shared.test", {"100.64.0.1"}},
    {"meta.test", {"169.254.169.254"}},
    {"zero.test", {"0.0.0.0"}},
    {"mapped.test", {"::ffff:127.0.0.1"}},
    {"nat64.test", {"64:ff9b::7f00:1"}},
    {"6to4.test", {"2002:7f00:1::"}},
    {"unique.test", {"fd00::1"}},
    {"link.test", {"fe80::1"}},
    {"many.test", {"224.0.0.1"}},
};
static atomic_uint n_flips;

static struct addrinfo *make_answer(const char *address, uint16_t port, struct addrinfo *next)
{
    struct addrinfo *a = calloc(1, sizeof *a + sizeof(struct sockaddr_in6));
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(a + 1);
    struct sockaddr_in *v4 = (struct sockaddr_in *)(a + 1);
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = port;
        a->ai_addrlen = sizeof *v4;
    } else {
        (void)inet_pton(AF_INET6, address, &v6->sin6_addr);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = port;
        a->ai_addrlen = sizeof *v6;
    }
    a->ai_addr = (struct sockaddr *)(a + 1);
    a->ai_family = a->ai_addr->sa_family;
    a->ai_socktype = SOCK_STREAM;
    a->ai_protocol = IPPROTO_TCP;
    a->ai_next = next;
    return a;
}

VISIBLE void freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

typedef int getaddrinfo_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);
typedef void freeaddrinfo_fn(struct addrinfo *);

/* The C library's own reading of numbers, of all the ways to write them. */
static int numbers(const char *host, uint16_t port, struct addrinfo **out)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    getaddrinfo_fn *look_up;
    freeaddrinfo_fn *release;
    struct addrinfo *list;
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&look_up, &symbol, sizeof symbol);
    symbol = dlsym(RTLD_NEXT, "freeaddrinfo");
    memcpy(&release, &symbol, sizeof symbol);
    const int code = look_up(host, NULL, &hints, &list);
    if (code != 0) return code;
    char text[64];
    *out = NULL;
    if (getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) ==
        0)
        *out = make_answer(text, port, NULL);
    release(list);
    return *out == NULL ? EAI_FAIL : 0;
}

VISIBLE int getaddrinfo(const char *restrict host, const char *restrict service,
                        const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
    (void)hints;
    const uint16_t port = htons(service == NULL ? 0 : (uint16_t)strtoul(service, NULL, 10));
    size_t len = strlen(host);
    net.n_lookups++;
    while (len > 0 && host[len - 1] == '.') len--;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i].name) != len || strncasecmp(names[i].name, host, len) != 0) continue;
        if (strcmp(names[i].name, "flip.test") == 0 && n_flips++ > 0) {
            *out = make_answer("127.0.0.1", port, NULL);
            return 0;
        }
        *out = NULL;
        for (size_t k = 4; k > 0; k--)
            if (names[i].addresses[k - 1] != NULL)
                *out = make_answer(names[i].addresses[k - 1], port, *out);
        return 0;
    }
    if (strcasecmp(host, "localhost") == 0) {
        *out = make_answer("127.0.0.1", port, NULL);
        return 0;
    }
    return numbers(host, port, out);
}

static int connect_locally(int fd, int family, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6.sin6_addr);
    if (family == AF_INET) return (int)syscall(SYS_connect, fd, &v4, sizeof v4);
    return (int)syscall(SYS_connect, fd, &v6, sizeof v6);
}

VISIBLE int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t len)
{
    const struct sockaddr *addr = to.__sockaddr__; /* a transparent union in glibc */
    char host[INET6_ADDRSTRLEN] = "";
    uint16_t port = 0;
    if (addr->sa_family == AF_INET) {
        const struct sockaddr_in *a = (const struct sockaddr_in *)addr;
        (void)inet_ntop(AF_INET, &a->sin_addr, host, sizeof host);
        port = ntohs(a->sin_port);
    } else if (addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)addr;
        (void)inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof host);
        port = ntohs(a->sin6_port);
    } else {
        return (int)syscall(SYS_connect, fd, addr, len);
    }
    net.n_connects++;
    if (strcmp(host, HOLE) == 0) return connect_locally(fd, addr->sa_family, net.hole_port);
    if ((strcmp(host, PUBLIC_4) == 0 || strcmp(host, PUBLIC_6) == 0) && (port == 80 || port == 443))
        return connect_locally(fd, addr->sa_family, net.ports[port == 443]);
    net.n_strays++;
    errno = ECONNREFUSED;
    return -1;
}

static int listen_locally(int backlog, uint16_t *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof addr;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        listen(fd, backlog) != 0 || getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        perror("fetch_net");
        exit(1);
    }
    *port = ntohs(addr.sin_port);
    return fd;
}

static void *run_connection(void *user)
{
    const intptr_t value = (intptr_t)user;
    net.n_served++;
    net.serve((int)(value >> 1), (value & 1) != 0);
    close((int)(value >> 1));
    return NULL;
}

static void *run_listener(void *user)
{
    const intptr_t value = (intptr_t)user;
    pthread_attr_t attr;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, 256 << 10);
    for (;;) {
        pthread_t thread;
        const int fd = accept4((int)(value >> 1), NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) return NULL;
        if (pthread_create(&thread, &attr, run_connection,
                           (void *)((intptr_t)fd << 1 | (value & 1))) != 0)
            close(fd);
    }
}

/* Lives as long as the program. */
static void net_open(void (*serve)(int fd, bool is_tls))
{
    net.serve = serve;
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        const intptr_t value = (intptr_t)listen_locally(512, &net.ports[i]) << 1 | i;
        if (pthread_create(&thread, NULL, run_listener, (void *)value) != 0) exit(1);
        (void)pthread_detach(thread);
    }
    /* A full queue of connections: the next one waits for an answer that never comes. */
    (void)listen_locally(0, &net.hole_port);
    for (int i = 0; i < 4; i++)
        (void)connect_locally(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
                              AF_INET, net.hole_port);
}

static void net_reset(void)
{
    net.n_connects = net.n_strays = net.n_lookups = net.n_served = 0;
    n_flips = 0;
}

#endif
