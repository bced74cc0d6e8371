#include "worker/decoder_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "worker/sandbox.h"

typedef struct fault {
    const char *word;
    void (*act)(vlm_decoder_reply *reply); /* reply comes in as a picture of one pixel */
} fault;

/* A sandbox for sanitizers may refuse a call instead of ending the process. */
static void expect_refused(long result)
{
    if (result < 0 && errno == EACCES) __builtin_trap();
}

static void do_nothing(vlm_decoder_reply *reply)
{
    (void)reply;
}

static void do_slowly(vlm_decoder_reply *reply)
{
    enum { SLOW_NS = 20000000 };
    const uint64_t start = vlm_clock_ns();
    while (vlm_clock_ns() - start < SLOW_NS) (void)reply;
}

static void do_crash(vlm_decoder_reply *reply)
{
    (void)reply;
    __builtin_trap();
}

static void do_hang(vlm_decoder_reply *reply)
{
    for (volatile bool go_on = true; go_on;) (void)reply;
}

/* As a library would that asks for more and more; the pages are touched. */
static void do_eat_memory(vlm_decoder_reply *reply)
{
    enum { PIECE_BYTES = 16 << 20, N_PIECES_MAX = 1024 };
    for (int i = 0; i < N_PIECES_MAX; i++) {
        void *const piece = malloc(PIECE_BYTES);
        if (piece == NULL) {
            reply->status = VLM_RESOURCE_EXHAUSTED;
            memcpy(reply->msg, "out of memory", sizeof "out of memory");
            return;
        }
        memset(piece, 1, PIECE_BYTES);
    }
}

static void do_open(vlm_decoder_reply *reply)
{
    (void)reply;
    expect_refused(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0));
}

static void do_socket(vlm_decoder_reply *reply)
{
    (void)reply;
    expect_refused(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
}

static void do_exec(vlm_decoder_reply *reply)
{
    char *const none[] = {NULL};
    (void)reply;
    expect_refused(syscall(SYS_execve, "/nowhere", none, none));
}

static void do_kill(vlm_decoder_reply *reply)
{
    (void)reply;
    expect_refused(syscall(SYS_kill, 1, 0));
}

static void do_fork(vlm_decoder_reply *reply)
{
    (void)reply;
    expect_refused(syscall(SYS_clone, 0, 0, 0, 0, 0));
}

static void do_ptrace(vlm_decoder_reply *reply)
{
    (void)reply;
    expect_refused(syscall(SYS_ptrace, 0, 0, 0, 0));
}

static void do_map_code(vlm_decoder_reply *reply)
{
    void *const page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)reply;
    expect_refused(page == MAP_FAILED ? -1 : 0);
}

static void do_make_code(vlm_decoder_reply *reply)
{
    void *const page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)reply;
    expect_refused(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

static void do_lie_magic(vlm_decoder_reply *reply)
{
    reply->magic++;
}

static void do_lie_seq(vlm_decoder_reply *reply)
{
    reply->seq++;
}

static void do_lie_status(vlm_decoder_reply *reply)
{
    reply->status = VLM_PERMISSION_DENIED;
}

static void do_lie_width(vlm_decoder_reply *reply)
{
    reply->width = UINT32_MAX;
}

static void do_lie_pixels(vlm_decoder_reply *reply)
{
    reply->width = reply->height = 16384;
}

static void do_lie_empty(vlm_decoder_reply *reply)
{
    reply->width = 0;
}

static void do_lie_key(vlm_decoder_reply *reply)
{
    reply->has_key = 7;
}

static void do_lie_text(vlm_decoder_reply *reply)
{
    reply->status = VLM_INVALID_ARGUMENT;
    memset(reply->msg, 'x', sizeof reply->msg);
}

static void do_lie_control(vlm_decoder_reply *reply)
{
    reply->status = VLM_INVALID_ARGUMENT;
    memcpy(reply->msg, "\x1b[2J", sizeof "\x1b[2J");
}

static void do_say_less(vlm_decoder_reply *reply)
{
    (void)!write(VLM_SANDBOX_FD, reply, sizeof *reply - 1);
}

static void do_say_more(vlm_decoder_reply *reply)
{
    char more[sizeof *reply + 1] = {0};
    memcpy(more, reply, sizeof *reply);
    (void)!write(VLM_SANDBOX_FD, more, sizeof more);
}

static void do_end(vlm_decoder_reply *reply)
{
    (void)reply;
    (void)syscall(SYS_exit_group, 0);
}

/* The second answer waits for the next picture of this child. */
static void do_say_twice(vlm_decoder_reply *reply)
{
    (void)!write(VLM_SANDBOX_FD, reply, sizeof *reply);
    reply->seq++;
}

/* A whole picture that was never written: the worker must see zeros or what was there, no fault. */
static void do_say_unwritten(vlm_decoder_reply *reply)
{
    reply->width = 4096;
    reply->height = 1024;
}

static const fault faults[] = {
    {"nothing", do_nothing},
    {"slow", do_slowly},
    {"crash", do_crash},
    {"hang", do_hang},
    {"memory", do_eat_memory},
    {"open", do_open},
    {"socket", do_socket},
    {"exec", do_exec},
    {"kill", do_kill},
    {"fork", do_fork},
    {"ptrace", do_ptrace},
    {"map-code", do_map_code},
    {"make-code", do_make_code},
    {"lie-magic", do_lie_magic},
    {"lie-seq", do_lie_seq},
    {"lie-status", do_lie_status},
    {"lie-width", do_lie_width},
    {"lie-pixels", do_lie_pixels},
    {"lie-empty", do_lie_empty},
    {"lie-key", do_lie_key},
    {"lie-text", do_lie_text},
    {"lie-control", do_lie_control},
    {"say-less", do_say_less},
    {"say-more", do_say_more},
    {"end", do_end},
    {"say-twice", do_say_twice},
    {"say-unwritten", do_say_unwritten},
};

bool vlm_decoder_fault_is_marked(const void *data, size_t len)
{
    return vlm_bytes_starts((vlm_bytes){data, len}, vlm_bytes_of(VLM_DECODER_FAULT_MARK));
}

bool vlm_decoder_fault(const void *data, size_t len, vlm_decoder_reply *reply)
{
    const size_t mark_len = strlen(VLM_DECODER_FAULT_MARK);
    if (!vlm_decoder_fault_is_marked(data, len)) return false;
    const vlm_bytes word = {(const char *)data + mark_len, len - mark_len};
    reply->width = reply->height = 1;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (vlm_bytes_eq_str(word, faults[i].word)) faults[i].act(reply);
    return true;
}
