#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#define THIS_ARCH 0
#endif

/* Both processors are little-endian, so that the low half of an argument comes first.  The kernel
 * looks at no more of a descriptor, and all PROT_ bits are there. */
#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, (what))
#define KILL RETURN(SECCOMP_RET_KILL_PROCESS)
#define ALLOW RETURN(SECCOMP_RET_ALLOW)
/* Fall through when the loaded word is value, else skip n. */
#define UNLESS_SKIP(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (n))
#define CHECK_ARCH LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0), KILL

#if SANITIZED
#define KILL_CALL(name) UNLESS_SKIP(SYS_##name, 1), KILL
#define REFUSE_CALL(name) UNLESS_SKIP(SYS_##name, 1), RETURN(SECCOMP_RET_ERRNO | EACCES)
static const struct sock_filter filter[] = {
    CHECK_ARCH,
    LOAD(nr),
    /* A report of the sanitizer looks for /proc/self/maps and does without. */
    REFUSE_CALL(openat),
#ifdef SYS_open
    REFUSE_CALL(open),
    KILL_CALL(fork),
    KILL_CALL(vfork),
#endif
    KILL_CALL(socket),
    KILL_CALL(connect),
    KILL_CALL(bind),
    KILL_CALL(execve),
    KILL_CALL(execveat),
    KILL_CALL(clone),
    KILL_CALL(clone3),
    KILL_CALL(kill),
    KILL_CALL(tkill),
    KILL_CALL(ptrace),
    KILL_CALL(process_vm_writev),
    ALLOW,
};
#else
#define ALLOW_CALL(name) UNLESS_SKIP(SYS_##name, 1), ALLOW
/* The call with that descriptor as its first argument. */
#define ALLOW_CALL_ON(name, fd)                                                                    \
    UNLESS_SKIP(SYS_##name, 4), LOAD(args[0]), UNLESS_SKIP(fd, 1), ALLOW, LOAD(nr)
#define ALLOW_CALL_NOT_EXEC(name)                                                                  \
    UNLESS_SKIP(SYS_##name, 4), LOAD(args[2]),                                                     \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1), KILL, ALLOW
static const struct sock_filter filter[] = {
    CHECK_ARCH,
    LOAD(nr),
    ALLOW_CALL_ON(read, VLM_SANDBOX_FD),
    ALLOW_CALL_ON(write, VLM_SANDBOX_FD),
    ALLOW_CALL_ON(write, STDERR_FILENO),
    ALLOW_CALL(brk),
    ALLOW_CALL_NOT_EXEC(mmap),
    ALLOW_CALL(munmap),
    ALLOW_CALL(mremap),
    ALLOW_CALL(madvise),
    ALLOW_CALL_NOT_EXEC(mprotect),
    ALLOW_CALL(futex),
    ALLOW_CALL(clock_gettime),
    ALLOW_CALL(rt_sigreturn),
    ALLOW_CALL(restart_syscall),
    ALLOW_CALL(exit),
    ALLOW_CALL(exit_group),
    KILL,
};
#endif

bool vlm_sandbox_is_strict(void)
{
    return !SANITIZED;
}

void vlm_sandbox_close_from(int first)
{
    if (close_range((unsigned)first, ~0u, 0) == 0) return;
    /* Linux before 5.9. */
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = first; (rlim_t)fd < limit.rlim_cur; fd++) (void)close(fd);
}

static vlm_status fail_system(vlm_error *err, const char *what)
{
    return vlm_fail(err, VLM_FAILED_PRECONDITION, "decoders: %s cannot be had here: %s", what,
                    strerror(errno));
}

/* Bytes of address space now; where /proc is missing, more than a worker has at its start. */
static size_t mapped_bytes(void)
{
    enum { UNKNOWN_BYTES = 1 << 30 };
    char text[64] = {0};
    char *end = text;
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return UNKNOWN_BYTES;
    const ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    const unsigned long pages = n > 0 ? strtoul(text, &end, 10) : 0;
    if (end == text) return UNKNOWN_BYTES;
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Lower both limits to value; where they are lower already, so much the better. */
static bool set_limit(int resource, rlim_t value)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0) return false;
    if (limit.rlim_max > value) limit.rlim_max = value;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit((__rlimit_resource_t)resource, &limit) == 0;
}

static vlm_status set_limits(const vlm_sandbox_limits *limits, vlm_error *err)
{
    size_t address_space = 0;
    if (!vlm_size_add(mapped_bytes(), limits->memory_max, &address_space))
        return vlm_fail(err, VLM_FAILED_PRECONDITION, "decoders: a memory limit beyond all memory");
    bool ok = set_limit(RLIMIT_CORE, 0) && set_limit(RLIMIT_FSIZE, 0) &&
              set_limit(RLIMIT_CPU, limits->cpu_seconds_max);
    if (!SANITIZED) ok = ok && set_limit(RLIMIT_NOFILE, 0) && set_limit(RLIMIT_AS, address_space);
    return ok ? VLM_OK : fail_system(err, "resource limits");
}

static vlm_status keep_one_descriptor(int fd, vlm_error *err)
{
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ok = null >= 0;
    /* Out of the way first: fd may be one of those that are overwritten. */
    const int safe = ok ? fcntl(fd, F_DUPFD, VLM_SANDBOX_FD + 1) : -1;
    ok = safe >= 0;
    for (int i = 0; i < VLM_SANDBOX_FD && ok; i++) /* A sanitizer's report is worth reading. */
        if (!(SANITIZED && i == STDERR_FILENO)) ok = dup2(null, i) == i;
    ok = ok && dup2(safe, VLM_SANDBOX_FD) == VLM_SANDBOX_FD;
    if (!ok) return fail_system(err, "/dev/null");
    vlm_sandbox_close_from(VLM_SANDBOX_FD + 1);
    return VLM_OK;
}

/* The kernel's choice when memory runs out should be a decoder.  Best effort: without /proc it is
 * as likely as others. */
static void volunteer_for_oom(void)
{
    static const char most_likely[] = "1000";
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!write(fd, most_likely, sizeof most_likely - 1);
    (void)close(fd);
}

vlm_status vlm_sandbox_enter(const vlm_sandbox_limits *limits, int fd, vlm_error *err)
{
    const struct sock_fprog program = {sizeof filter / sizeof *filter,
                                       (struct sock_filter *)(uintptr_t)filter};
    if (THIS_ARCH == 0)
        return vlm_fail(err, VLM_FAILED_PRECONDITION, "decoders: no sandbox for this processor");
    volunteer_for_oom();
    VLM_TRY(keep_one_descriptor(fd, err));
    VLM_TRY(set_limits(limits, err));
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fail_system(err, "no_new_privs");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
        return fail_system(err, "a seccomp filter");
    return VLM_OK;
}
