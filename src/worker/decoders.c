#include "worker/decoders.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "worker/decoder_faults.h"
#include "worker/decoder_zygote.h"

#define MS_NS UINT64_C(1000000)

enum {
    N_DEFAULT_MAX = 4,
    TIMEOUT_DEFAULT_MS = 10000,
    START_TIMEOUT_MS = 5000, /* from a fork to the greeting */
    CANCEL_POLL_MS = 10,
    RETRY_MS = 100, /* after a child could not be had */
    N_TRIES = 3,    /* of finding a child alive before it is given the file */
    /* New children in place of lost ones: so many at once, then one in this time, which is less
     * than a tenth of a core. */
    RESPAWN_BURST = 64,
    RESPAWN_MS = 5,
    /* A child is replaced after so much work: what a hostile file left in it does not stay for
     * ever. */
    CHILD_LIFE_S = 300,
    /* Shared memory that is kept between pictures; with its heap a child keeps about 32 MiB. */
    IN_KEPT_BYTES = 4 << 20,
    OUT_KEPT_BYTES = 20 << 20,
    /* The worst measured is a CMYK JPEG in several scans, 8 bytes of coefficients a pixel. */
    WORK_BYTES_PER_PIXEL = 12,
    WORK_BYTES = 64 << 20,
};

typedef enum slot_state { SLOT_EMPTY, SLOT_IDLE, SLOT_BUSY } slot_state;

/* A child and its place.  While BUSY it belongs to the thread that took it. */
typedef struct slot {
    slot_state state;
    bool greeted;
    uint32_t seq;        /* of the last request */
    uint64_t worked_ns;  /* by this child */
    uint64_t not_before; /* when EMPTY: clock of the next attempt to fill it */
    vlm_decoder_fds fds;
} slot;

/* A thread in vlm_decoders_run that waits for a slot. */
typedef struct waiter {
    struct waiter *next;
    pthread_cond_t wake;
} waiter;

struct vlm_decoders {
    vlm_decoder_setup setup;
    uint32_t timeout_ms, n_slots;
    vlm_decoder_zygote *zygote;
    pthread_condattr_t monotonic;

    pthread_mutex_t mutex; /* of all below */
    waiter *first, **last;
    uint64_t respawn_ns; /* how far the respawns allowed so far reach into the future */
    vlm_decoders_stats stats;
    slot slots[VLM_DECODERS_MAX];
};

static const vlm_decoder_fds no_fds = {-1, -1, -1};

static bool is_cancelled(const atomic_bool *cancel)
{
    return cancel != NULL && atomic_load(cancel);
}

static vlm_status fail_cancelled(vlm_error *err)
{
    return vlm_fail(err, VLM_CANCELLED, "image: cancelled");
}

/* ---- A child's life. */

static void drop_child(vlm_decoders *d, slot *s)
{
    if (s->fds.socket < 0) return;
    vlm_decoder_zygote_kill(d->zygote, (uint32_t)(s - d->slots));
    (void)close(s->fds.socket);
    (void)close(s->fds.in);
    (void)close(s->fds.out);
    s->fds = no_fds;
}

static vlm_status fill_slot(vlm_decoders *d, slot *s, vlm_error *err)
{
    s->greeted = false;
    s->seq = 0;
    s->worked_ns = 0;
    return vlm_decoder_zygote_spawn(d->zygote, (uint32_t)(s - d->slots), &s->fds, err);
}

/* What a receive came to. */
typedef enum received { RECEIVED, RECEIVED_END, RECEIVED_LATE, RECEIVED_CANCEL } received;

/* Wait until deadline_ns for the next datagram of the child; *n_bytes is its true length. */
static received receive(const slot *s, uint64_t deadline_ns, const atomic_bool *cancel,
                        vlm_decoder_reply *reply, size_t *n_bytes)
{
    for (;;) {
        const ssize_t n = recv(s->fds.socket, reply, sizeof *reply, MSG_DONTWAIT | MSG_TRUNC);
        if (n > 0) {
            *n_bytes = (size_t)n;
            return RECEIVED;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) return RECEIVED_END;
        if (is_cancelled(cancel)) return RECEIVED_CANCEL;
        const uint64_t now = vlm_clock_ns();
        if (now >= deadline_ns) return RECEIVED_LATE;
        uint64_t wait_ms = (deadline_ns - now) / MS_NS + 1;
        if (cancel != NULL && wait_ms > CANCEL_POLL_MS) wait_ms = CANCEL_POLL_MS;
        struct pollfd socket = {.fd = s->fds.socket, .events = POLLIN};
        (void)poll(&socket, 1, (int)wait_ms);
    }
}

/* The greeting of a new child. */
static vlm_status greet(slot *s, const atomic_bool *cancel, vlm_error *err)
{
    vlm_decoder_reply reply;
    size_t n_bytes = 0;
    const uint64_t deadline = vlm_clock_ns() + START_TIMEOUT_MS * MS_NS;
    const received r = receive(s, deadline, cancel, &reply, &n_bytes);
    if (r == RECEIVED_CANCEL) return fail_cancelled(err);
    if (r != RECEIVED || n_bytes != sizeof reply)
        return vlm_fail(err, VLM_UNAVAILABLE, "image: a decoder process did not start");
    reply.msg[sizeof reply.msg - 1] = '\0';
    if (reply.status != VLM_OK) return vlm_fail(err, (vlm_status)reply.status, "%s", reply.msg);
    s->greeted = true;
    return VLM_OK;
}

/* Nothing may have come from an idle child, not even its end. */
static bool is_quiet(const slot *s)
{
    char byte;
    return recv(s->fds.socket, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

/* ---- Who gets which slot. */

/* Whether a child may take the place of a lost one now; otherwise *when it may. */
static bool may_respawn(vlm_decoders *d, uint64_t now, uint64_t *when)
{
    const uint64_t burst_ns = RESPAWN_BURST * RESPAWN_MS * MS_NS;
    if (d->respawn_ns > now + burst_ns) {
        *when = d->respawn_ns - burst_ns;
        return false;
    }
    d->respawn_ns = (d->respawn_ns > now ? d->respawn_ns : now) + RESPAWN_MS * MS_NS;
    return true;
}

/* An idle child, or a place for a new one; NULL, and *when to look again. */
static slot *pick_slot(vlm_decoders *d, uint64_t now, uint64_t *when)
{
    slot *empty = NULL;
    for (uint32_t i = 0; i < d->n_slots; i++) {
        slot *s = &d->slots[i];
        /* The first ones are the warm ones. */
        if (s->state == SLOT_IDLE) return s;
        if (s->state != SLOT_EMPTY) continue;
        if (s->not_before <= now) empty = s;
        if (s->not_before < *when) *when = s->not_before;
    }
    return empty;
}

static void wait_until(vlm_decoders *d, waiter *w, uint64_t when)
{
    const struct timespec t = {.tv_sec = (time_t)(when / (1000 * MS_NS)),
                               .tv_nsec = (long)(when % (1000 * MS_NS))};
    (void)pthread_cond_timedwait(&w->wake, &d->mutex, &t);
}

static void wake_first(vlm_decoders *d)
{
    if (d->first != NULL) (void)pthread_cond_signal(&d->first->wake);
}

static void leave_queue(vlm_decoders *d, waiter *w)
{
    waiter **link = &d->first;
    while (*link != w) link = &(*link)->next;
    *link = w->next;
    if (d->last == &w->next) d->last = link;
}

/* A slot for the caller, BUSY, first come first served; NULL when cancelled. */
static slot *take_slot(vlm_decoders *d, const atomic_bool *cancel)
{
    enum { LOOK_AGAIN_MS = 1000 };
    waiter w = {.next = NULL};
    slot *s = NULL;
    (void)pthread_cond_init(&w.wake, &d->monotonic);
    (void)pthread_mutex_lock(&d->mutex);
    *d->last = &w;
    d->last = &w.next;
    while (!is_cancelled(cancel)) {
        const uint64_t now = vlm_clock_ns();
        uint64_t when = now + (cancel != NULL ? CANCEL_POLL_MS : LOOK_AGAIN_MS) * MS_NS;
        if (d->first == &w) s = pick_slot(d, now, &when);
        if (s != NULL) break;
        wait_until(d, &w, when);
    }
    if (s != NULL) s->state = SLOT_BUSY;
    leave_queue(d, &w);
    wake_first(d);
    (void)pthread_mutex_unlock(&d->mutex);
    (void)pthread_cond_destroy(&w.wake);
    return s;
}

static void give_slot(vlm_decoders *d, slot *s, slot_state state, uint64_t not_before)
{
    (void)pthread_mutex_lock(&d->mutex);
    s->state = state;
    s->not_before = not_before;
    wake_first(d);
    (void)pthread_mutex_unlock(&d->mutex);
}

/* The child is lost: kill it and put another one in its place, now or as soon as the rate
 * allows, so that whoever comes next finds it started. */
static void replace_child(vlm_decoders *d, slot *s)
{
    const uint64_t now = vlm_clock_ns();
    uint64_t when = now;
    drop_child(d, s);
    (void)pthread_mutex_lock(&d->mutex);
    d->stats.n_restarts++;
    const bool may = may_respawn(d, now, &when);
    (void)pthread_mutex_unlock(&d->mutex);
    if (may && fill_slot(d, s, NULL) == VLM_OK)
        give_slot(d, s, SLOT_IDLE, 0);
    else
        give_slot(d, s, SLOT_EMPTY, may ? now + RETRY_MS * MS_NS : when);
}

/* A slot whose child waits for work. */
static vlm_status take_child(vlm_decoders *d, const atomic_bool *cancel, slot **out, vlm_error *err)
{
    vlm_status status = VLM_UNAVAILABLE;
    for (int i = 0; i < N_TRIES; i++) {
        slot *s = *out = take_slot(d, cancel);
        if (s == NULL) return fail_cancelled(err);
        if (s->fds.socket < 0) {
            status = fill_slot(d, s, err);
            if (status != VLM_OK) {
                give_slot(d, s, SLOT_EMPTY, vlm_clock_ns() + RETRY_MS * MS_NS);
                return status;
            }
        }
        if (!s->greeted) {
            status = greet(s, cancel, err);
            if (status == VLM_CANCELLED) {
                give_slot(d, s, SLOT_IDLE, 0);
                return status;
            }
        }
        if (s->greeted && is_quiet(s)) return VLM_OK;
        replace_child(d, s);
    }
    return vlm_fail(err, VLM_UNAVAILABLE, "image: the decoder processes end before they work");
}

/* ---- One picture. */

static vlm_status write_file(int fd, const char *data, size_t len, vlm_error *err)
{
    for (size_t off = 0; off < len;) {
        const ssize_t n = pwrite(fd, data + off, len - off, (off_t)off);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return vlm_fail_memory(err, "image: shared memory");
        off += (size_t)n;
    }
    return VLM_OK;
}

/* Memory to be filled at once; large ones in huge pages where the system has them, which saves most
 * of the time that page faults take.  Freed by free(). */
static uint8_t *alloc_pixels(size_t n_bytes)
{
    enum { HUGE_BYTES = 2 << 20, LARGE_BYTES = 8 << 20 };
    size_t rounded = 0;
    if (n_bytes < LARGE_BYTES || !vlm_size_add(n_bytes, HUGE_BYTES - 1, &rounded))
        return malloc(n_bytes);
    rounded -= rounded % HUGE_BYTES;
    uint8_t *const rgb = aligned_alloc(HUGE_BYTES, rounded);
    if (rgb != NULL) (void)madvise(rgb, rounded, MADV_HUGEPAGE);
    return rgb;
}

/* The size has been checked against the limits, which the memfd was made for. */
static vlm_status read_pixels(int fd, const vlm_decoder_reply *reply, vlm_image *out,
                              vlm_error *err)
{
    const size_t n_bytes = (size_t)reply->width * reply->height * 3;
    uint8_t *const rgb = alloc_pixels(n_bytes);
    if (rgb == NULL) return vlm_fail_memory(err, "image: pixels");
    for (size_t off = 0; off < n_bytes;) {
        const ssize_t n = pread(fd, rgb + off, n_bytes - off, (off_t)off);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            free(rgb);
            return vlm_fail_memory(err, "image: shared memory");
        }
        off += (size_t)n;
    }
    *out = (vlm_image){
        .rgb = rgb, .width = reply->width, .height = reply->height, .has_key = reply->has_key != 0};
    memcpy(out->key, reply->key, sizeof out->key);
    return VLM_OK;
}

/* Give back what a large picture took.  The child may have written more than it said. */
static void shrink(int fd, size_t kept_bytes, size_t n_bytes)
{
    enum { STAT_BLOCK_BYTES = 512 };
    struct stat st;
    if (kept_bytes >= n_bytes || fstat(fd, &st) != 0) return;
    if ((uint64_t)st.st_blocks * STAT_BLOCK_BYTES <= kept_bytes) return;
    (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)kept_bytes,
                    (off_t)(n_bytes - kept_bytes));
}

/* *lost: the child is not to be used again. */
static vlm_status decode(const vlm_decoders *d, slot *s, const void *data, size_t len,
                         const atomic_bool *cancel, vlm_image *out, bool *lost, vlm_error *err)
{
    vlm_decoder_reply reply;
    size_t n_bytes = 0;
    *lost = false;
    VLM_TRY(write_file(s->fds.in, data, len, err));
    if (++s->seq == 0) s->seq = 1;
    const vlm_decoder_request request = {.magic = VLM_DECODER_MAGIC, .seq = s->seq, .len = len};
    const uint64_t start = vlm_clock_ns();
    *lost = true;
    received r = RECEIVED_END;
    /* A child that answers without reading fills its socket in the end; nobody waits for that. */
    if (send(s->fds.socket, &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT) ==
        (ssize_t)sizeof request)
        r = receive(s, start + d->timeout_ms * MS_NS, cancel, &reply, &n_bytes);
    s->worked_ns += vlm_clock_ns() - start;
    if (r == RECEIVED_CANCEL) return fail_cancelled(err);
    if (r == RECEIVED_LATE)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: decoding it takes longer than %u ms",
                        d->timeout_ms);
    if (r == RECEIVED_END)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: the decoder crashed on it");
    if (!vlm_decoder_reply_is_sane(&reply, n_bytes, s->seq, &d->setup.limits))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: the decoder went wrong on it");
    *lost = s->worked_ns > CHILD_LIFE_S * 1000 * MS_NS;
    if (reply.status == VLM_OK) return read_pixels(s->fds.out, &reply, out, err);
    if (reply.status == VLM_RESOURCE_EXHAUSTED)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: decoding it needs too much memory");
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, reply.pos, "%s", reply.msg);
}

/* What can be told without looking further than the first bytes. */
static vlm_status check_file(const vlm_decoders *d, const void *data, size_t len,
                             vlm_image_format *format, vlm_image *out, vlm_error *err)
{
    /* Refuses it before it looks at it, in its own words. */
    if (len > d->setup.limits.bytes_max)
        return vlm_image_decode(data, len, &d->setup.limits, out, err);
    *format = VLM_IMAGE_PNG;
    if (d->setup.faults && vlm_decoder_fault_is_marked(data, len)) return VLM_OK;
    return vlm_image_sniff(data, len, format, err);
}

static void count(vlm_decoders *d, vlm_status status, vlm_image_format format)
{
    (void)pthread_mutex_lock(&d->mutex);
    if (status == VLM_OK) d->stats.n_decoded[format]++;
    if (status == VLM_INVALID_ARGUMENT) d->stats.n_failed++;
    (void)pthread_mutex_unlock(&d->mutex);
}

vlm_status vlm_decoders_run(vlm_decoders *d, const void *data, size_t len,
                            const atomic_bool *cancel, vlm_image *out, vlm_image_format *format,
                            vlm_error *err)
{
    slot *s;
    bool lost;
    *out = (vlm_image){0};
    vlm_status status = check_file(d, data, len, format, out, err);
    if (status == VLM_OK) {
        VLM_TRY(take_child(d, cancel, &s, err));
        status = decode(d, s, data, len, cancel, out, &lost, err);
        if (lost) {
            replace_child(d, s);
        } else {
            shrink(s->fds.in, IN_KEPT_BYTES, d->setup.in_bytes);
            shrink(s->fds.out, OUT_KEPT_BYTES, d->setup.out_bytes);
            give_slot(d, s, SLOT_IDLE, 0);
        }
    }
    count(d, status, *format);
    return status;
}

void vlm_decoders_get_stats(vlm_decoders *d, vlm_decoders_stats *out)
{
    (void)pthread_mutex_lock(&d->mutex);
    *out = d->stats;
    (void)pthread_mutex_unlock(&d->mutex);
}

/* ---- The set. */

static vlm_status make_setup(const vlm_decoders_options *options, uint32_t timeout_ms,
                             vlm_decoder_setup *out, vlm_error *err)
{
    enum { SPARE_S = 60 };
    const vlm_image_limits *const limits = &options->limits;
    uint64_t side_pixels = (uint64_t)limits->side_max * limits->side_max;
    const uint64_t pixels = limits->pixels_max < side_pixels ? limits->pixels_max : side_pixels;
    size_t work = 0;
    *out = (vlm_decoder_setup){.limits = *limits,
                               .in_bytes = limits->bytes_max,
                               .memory_max = options->memory_max,
                               .cpu_seconds_max = CHILD_LIFE_S + timeout_ms / 1000 + SPARE_S,
                               .faults = options->faults};
    if (pixels == 0 || limits->bytes_max == 0 || limits->bytes_max > SIZE_MAX / 4 ||
        !vlm_size_mul(pixels, 3, &out->out_bytes) || out->out_bytes > SIZE_MAX / 4 ||
        !vlm_size_mul(pixels, WORK_BYTES_PER_PIXEL, &work) ||
        !vlm_size_add(work, WORK_BYTES, &work))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "decoders: limits beyond reason");
    if (out->memory_max == 0) out->memory_max = work;
    return VLM_OK;
}

static vlm_status start_children(vlm_decoders *d, vlm_error *err)
{
    for (uint32_t i = 0; i < d->n_slots; i++) {
        VLM_TRY(fill_slot(d, &d->slots[i], err));
        d->slots[i].state = SLOT_IDLE;
    }
    return greet(&d->slots[0], NULL, err);
}

vlm_status vlm_decoders_open(const vlm_decoders_options *options, vlm_decoders **out,
                             vlm_error *err)
{
    *out = NULL;
    const uint32_t n_cores = vlm_cpu_count();
    const uint32_t n_default = n_cores < N_DEFAULT_MAX ? n_cores : N_DEFAULT_MAX;
    if (options->n > VLM_DECODERS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "decoders: %u children, at most %d", options->n,
                        VLM_DECODERS_MAX);
    vlm_decoders *d = calloc(1, sizeof *d);
    if (d == NULL) return vlm_fail_memory(err, "decoders");
    d->n_slots = options->n > 0 ? options->n : n_default;
    d->timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : TIMEOUT_DEFAULT_MS;
    d->last = &d->first;
    for (uint32_t i = 0; i < d->n_slots; i++) d->slots[i].fds = no_fds;
    (void)pthread_mutex_init(&d->mutex, NULL);
    (void)pthread_condattr_init(&d->monotonic);
    (void)pthread_condattr_setclock(&d->monotonic, CLOCK_MONOTONIC);
    vlm_status status = make_setup(options, d->timeout_ms, &d->setup, err);
    if (status == VLM_OK) status = vlm_decoder_zygote_start(&d->setup, d->n_slots, &d->zygote, err);
    if (status == VLM_OK) status = start_children(d, err);
    if (status != VLM_OK) {
        vlm_decoders_close(d);
        return status;
    }
    *out = d;
    return VLM_OK;
}

void vlm_decoders_close(vlm_decoders *d)
{
    if (d == NULL) return;
    for (uint32_t i = 0; i < d->n_slots; i++) drop_child(d, &d->slots[i]);
    vlm_decoder_zygote_stop(d->zygote);
    (void)pthread_condattr_destroy(&d->monotonic);
    (void)pthread_mutex_destroy(&d->mutex);
    free(d);
}
