#include "worker/decoder_zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/decoder_child.h"
#include "worker/decoders.h"
#include "worker/sandbox.h"

/* NOEXEC_SEAL: MFD_NOEXEC_SEAL of Linux 6.3, which some systems demand. */
enum { N_FDS = 3, ANSWER_TIMEOUT_MS = 5000, NOEXEC_SEAL = 8 };

typedef enum order_kind { SPAWN, END } order_kind;

typedef struct order {
    uint32_t kind; /* order_kind */
    uint32_t slot_idx;
} order;

/* To SPAWN; on success the descriptors come along. */
typedef struct answer {
    int32_t error; /* errno, 0: done */
} answer;

struct vlm_decoder_zygote {
    int control;
    pid_t pid;
    pthread_mutex_t spawning; /* one question at a time on the socket */
};

static void close_fd(int fd)
{
    if (fd >= 0) (void)close(fd);
}

static void close_fds(vlm_decoder_fds *fds)
{
    close_fd(fds->socket);
    close_fd(fds->in);
    close_fd(fds->out);
    *fds = (vlm_decoder_fds){-1, -1, -1};
}

/* ---- The server's side, in a process of its own. */

typedef struct server {
    vlm_decoder_setup setup;
    uint32_t n_slots;
    int control, signals;
    pid_t pid;
    /* 0: none.  A pid stays here until it is reaped or replaced, so that it is never one that the
     * system has given to somebody else. */
    pid_t children[VLM_DECODERS_MAX];
} server;

static void kill_child(server *s, uint32_t slot_idx)
{
    if (s->children[slot_idx] > 0) (void)kill(s->children[slot_idx], SIGKILL);
}

static void forget_child(server *s, pid_t pid)
{
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->children[i] == pid) s->children[i] = 0;
}

static void reap(server *s)
{
    struct signalfd_siginfo ignored;
    pid_t pid;
    while (read(s->signals, &ignored, sizeof ignored) > 0) continue;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) forget_child(s, pid);
}

/* Memory of n_bytes whose size nobody can change; pages are taken when they are written. */
static int make_memory(size_t n_bytes)
{
    static const char name[] = "vlmd-picture";
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (ftruncate(fd, (off_t)n_bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static void live_as_child(const server *s, const vlm_decoder_fds *theirs, int socket)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)prctl(PR_SET_NAME, "vlmd-decoder");
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == s->pid &&
        sigprocmask(SIG_SETMASK, &none, NULL) == 0)
        vlm_decoder_child_run(&s->setup, socket, theirs->in, theirs->out);
    _exit(0);
}

/* errno, or 0 with the worker's ends in *fds. */
static int spawn(server *s, uint32_t slot_idx, vlm_decoder_fds *fds)
{
    int pair[2] = {-1, -1};
    kill_child(s, slot_idx);
    *fds = (vlm_decoder_fds){-1, make_memory(s->setup.in_bytes), make_memory(s->setup.out_bytes)};
    if (fds->in < 0 || fds->out < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return errno;
    fds->socket = pair[0];
    const pid_t pid = fork();
    if (pid == 0) live_as_child(s, fds, pair[1]);
    const int error = pid < 0 ? errno : 0;
    (void)close(pair[1]);
    if (pid > 0) s->children[slot_idx] = pid;
    return error;
}

static bool send_answer(int control, const answer *a, const vlm_decoder_fds *fds)
{
    const int numbers[N_FDS] = {fds->socket, fds->in, fds->out};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof numbers)];
    } room = {0};
    struct iovec part = {(void *)(uintptr_t)a, sizeof *a};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (a->error == 0) {
        message.msg_control = room.bytes;
        message.msg_controllen = sizeof room.bytes;
        struct cmsghdr *const c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof numbers);
        memcpy(CMSG_DATA(c), numbers, sizeof numbers);
    }
    return sendmsg(control, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *a;
}

/* False when the worker is gone. */
static bool obey(server *s)
{
    order o;
    const ssize_t n = recv(s->control, &o, sizeof o, 0);
    if (n < 0 && errno == EINTR) return true;
    if (n != (ssize_t)sizeof o || o.slot_idx >= s->n_slots) return false;
    if (o.kind == END) {
        kill_child(s, o.slot_idx);
        return true;
    }
    vlm_decoder_fds fds;
    const answer a = {.error = spawn(s, o.slot_idx, &fds)};
    const bool sent = send_answer(s->control, &a, &fds);
    close_fds(&fds);
    return sent;
}

static void serve(server *s)
{
    struct pollfd fds[] = {{.fd = s->control, .events = POLLIN},
                           {.fd = s->signals, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
        if (fds[1].revents != 0) reap(s);
        if (fds[0].revents != 0 && !obey(s)) return;
    }
}

/* The worker's handlers would run its code on a copy of its memory. */
static void reset_signals(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE};
    for (int i = 1; i < NSIG; i++) (void)signal(i, SIG_DFL);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) (void)signal(ignored[i], SIG_IGN);
}

static void live_as_server(const vlm_decoder_setup *setup, uint32_t n_slots, int control)
{
    static server s;
    sigset_t chld;
    s = (server){.setup = *setup, .n_slots = n_slots, .pid = getpid()};
    (void)prctl(PR_SET_NAME, "vlmd-decoders");
    reset_signals();
    /* Only the control socket stays, not even the worker's terminal or its parent's pipe. */
    if (dup2(control, STDIN_FILENO) == STDIN_FILENO) {
        s.control = STDIN_FILENO;
        vlm_sandbox_close_from(vlm_sandbox_is_strict() ? 1 : STDERR_FILENO + 1);
    }
    (void)sigemptyset(&chld);
    (void)sigaddset(&chld, SIGCHLD);
    (void)sigprocmask(SIG_SETMASK, &chld, NULL);
    s.signals = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s.signals >= 0) serve(&s);
    for (uint32_t i = 0; i < n_slots; i++) kill_child(&s, i);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) continue;
    _exit(0);
}

/* ---- The worker's side. */

static void free_zygote(vlm_decoder_zygote *z)
{
    (void)pthread_mutex_destroy(&z->spawning);
    free(z);
}

vlm_status vlm_decoder_zygote_start(const vlm_decoder_setup *setup, uint32_t n_slots,
                                    vlm_decoder_zygote **out, vlm_error *err)
{
    int pair[2];
    sigset_t all, before;
    vlm_decoder_zygote *z = calloc(1, sizeof *z);
    *out = NULL;
    if (z == NULL) return vlm_fail_memory(err, "decoders");
    (void)pthread_mutex_init(&z->spawning, NULL);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        free_zygote(z);
        return vlm_fail(err, VLM_UNAVAILABLE, "decoders: no socket: %s", strerror(errno));
    }
    /* No handler of the worker runs in the new process. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    z->pid = fork();
    if (z->pid == 0) live_as_server(setup, n_slots, pair[1]);
    const int error = errno;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)close(pair[1]);
    z->control = pair[0];
    if (z->pid > 0) {
        *out = z;
        return VLM_OK;
    }
    (void)close(pair[0]);
    free_zygote(z);
    return vlm_fail(err, VLM_UNAVAILABLE, "decoders: no process: %s", strerror(error));
}

void vlm_decoder_zygote_stop(vlm_decoder_zygote *z)
{
    if (z == NULL) return;
    (void)shutdown(z->control, SHUT_RDWR);
    (void)close(z->control);
    while (waitpid(z->pid, NULL, 0) < 0 && errno == EINTR) continue;
    free_zygote(z);
}

static bool send_order(const vlm_decoder_zygote *z, order_kind kind, uint32_t slot_idx)
{
    const order o = {.kind = (uint32_t)kind, .slot_idx = slot_idx};
    return send(z->control, &o, sizeof o, MSG_NOSIGNAL) == (ssize_t)sizeof o;
}

/* False when the server is gone or stuck. */
static bool receive_answer(const vlm_decoder_zygote *z, answer *a, vlm_decoder_fds *fds)
{
    int numbers[N_FDS];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof numbers)];
    } room = {0};
    struct iovec part = {a, sizeof *a};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = room.bytes,
                             .msg_controllen = sizeof room.bytes};
    struct pollfd control = {.fd = z->control, .events = POLLIN};
    int ready;
    do {
        ready = poll(&control, 1, ANSWER_TIMEOUT_MS);
    } while (ready < 0 && errno == EINTR);
    if (ready <= 0 || recvmsg(z->control, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *a)
        return false;
    const struct cmsghdr *const c = CMSG_FIRSTHDR(&message);
    if (a->error != 0) return true;
    if (c == NULL || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof numbers)) {
        a->error = EMFILE; /* this process has too many open files: the kernel dropped some */
        return true;
    }
    memcpy(numbers, CMSG_DATA(c), sizeof numbers);
    *fds = (vlm_decoder_fds){.socket = numbers[0], .in = numbers[1], .out = numbers[2]};
    return true;
}

vlm_status vlm_decoder_zygote_spawn(vlm_decoder_zygote *z, uint32_t slot_idx, vlm_decoder_fds *fds,
                                    vlm_error *err)
{
    answer a = {0};
    *fds = (vlm_decoder_fds){-1, -1, -1};
    (void)pthread_mutex_lock(&z->spawning);
    const bool told = send_order(z, SPAWN, slot_idx) && receive_answer(z, &a, fds);
    /* A late answer would be taken for the next one's. */
    if (!told) (void)shutdown(z->control, SHUT_RDWR);
    (void)pthread_mutex_unlock(&z->spawning);
    if (!told) return vlm_fail(err, VLM_UNAVAILABLE, "image: the decoder processes have ended");
    if (a.error == 0) return VLM_OK;
    return vlm_fail(err, VLM_UNAVAILABLE, "image: no decoder process can be started: %s",
                    strerror(a.error));
}

void vlm_decoder_zygote_kill(vlm_decoder_zygote *z, uint32_t slot_idx)
{
    (void)send_order(z, END, slot_idx);
}
