#include "hub/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PATH_LEN_MAX = 4096, TRIES = 5, REPORT_MS = 100, READ_BYTES = 1 << 20 };

/* A file that grows. */
typedef struct growing {
    const vlm_hub_blob *blob;
    int fd;
    vlm_hub_digest *digest;
    _Atomic uint64_t n_done; /* bytes that are written and in the digest */
    _Atomic uint64_t n_got;  /* bytes that have come, some of them in pieces still */
    atomic_bool stop;

    pthread_mutex_t lock;
    pthread_cond_t turned;
    uint64_t next;      /* first byte of the next piece to be fetched */
    uint32_t n_running; /* threads */
    bool has_failed;
    vlm_error error;                   /* of the first that failed */
    char url[VLM_HUB_URL_LEN_MAX + 1]; /* where the last redirect led; "": not known */
} growing;

typedef struct piece {
    growing *g;
    unsigned char *bytes; /* [VLM_HUB_PIECE_BYTES]; NULL: appended as they come */
    uint64_t from, to, got;
    uint64_t skip;         /* of what comes: it is there already */
    bool is_first, failed; /* nothing has come of this request; and error says why */
    vlm_error error;
} piece;

static uint64_t size_of(const growing *g)
{
    return g->blob->file->size;
}

static const char *name_of(const growing *g)
{
    return g->blob->file->name;
}

static vlm_status append(growing *g, const void *data, size_t len, vlm_error *err)
{
    const char *p = data;
    for (size_t at = 0; at < len;) {
        const ssize_t n = write(g->fd, p + at, len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
            return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%s: no space is left on the disk",
                            name_of(g));
        if (n <= 0)
            return vlm_fail(err, VLM_UNAVAILABLE, "%s: cannot be written: %s", name_of(g),
                            strerror(errno));
        vlm_hub_digest_add(g->digest, p + at, (size_t)n);
        at += (size_t)n;
        atomic_fetch_add(&g->n_done, (uint64_t)n);
    }
    return VLM_OK;
}

/* The first bytes of an answer: do they follow on what is there? */
static vlm_status check_start(piece *p, const vlm_hub_answer *a)
{
    const uint64_t want = p->from + p->got, start = a->is_range ? a->range_from : 0;
    p->is_first = false;
    if (start > want || (start < want && p->bytes != NULL))
        return vlm_fail(&p->error, VLM_DATA_LOSS, "%s: the server sends another part than asked",
                        name_of(p->g));
    p->skip = want - start;
    /* It knows no ranges, and will send all. */
    if (!a->is_range) p->to = size_of(p->g);
    return VLM_OK;
}

static vlm_status take(piece *p, const vlm_hub_answer *a, const char *data, size_t len)
{
    if (p->is_first) VLM_TRY(check_start(p, a));
    const size_t skipped = p->skip < len ? (size_t)p->skip : len;
    p->skip -= skipped;
    data += skipped;
    len -= skipped;
    if (len > p->to - p->from - p->got)
        return vlm_fail(&p->error, VLM_DATA_LOSS, "%s: the server sends more than was promised",
                        name_of(p->g));
    if (p->bytes != NULL)
        memcpy(p->bytes + p->got, data, len);
    else
        VLM_TRY(append(p->g, data, len, &p->error));
    p->got += len;
    atomic_fetch_add(&p->g->n_got, len);
    return VLM_OK;
}

static void report(const growing *g)
{
    if (g->blob->progress != NULL) g->blob->progress(g->blob->user, atomic_load(&g->n_got));
}

static bool on_bytes(void *user, const vlm_hub_answer *a, const void *data, size_t len)
{
    piece *p = user;
    p->failed = take(p, a, data, len) != VLM_OK;
    if (p->bytes == NULL) report(p->g); /* the caller's own thread */
    return !p->failed;
}

/* Where the file was last found, or the Hub's own address. */
static bool choose_url(growing *g, char url[VLM_HUB_URL_LEN_MAX + 1])
{
    (void)pthread_mutex_lock(&g->lock);
    const bool is_known = g->url[0] != '\0';
    (void)snprintf(url, VLM_HUB_URL_LEN_MAX + 1, "%s", is_known ? g->url : g->blob->url);
    (void)pthread_mutex_unlock(&g->lock);
    return is_known;
}

static void keep_url(growing *g, const char *url)
{
    (void)pthread_mutex_lock(&g->lock);
    (void)snprintf(g->url, sizeof g->url, "%s", url);
    (void)pthread_mutex_unlock(&g->lock);
}

/* One request.  *again: it broke off, and may be tried again. */
static vlm_status try_piece(piece *p, vlm_hub_http *h, vlm_hub_answer *a, bool *again,
                            vlm_error *err)
{
    growing *g = p->g;
    char url[VLM_HUB_URL_LEN_MAX + 1];
    const bool is_known = choose_url(g, url);
    p->is_first = true;
    p->failed = *again = false;
    const vlm_status status =
        vlm_hub_http_get(h, url, p->from + p->got, p->to, on_bytes, p, a, err);
    if (p->failed) {
        *err = p->error;
        return err->code;
    }
    *again = status == VLM_UNAVAILABLE;
    if (status != VLM_OK) return status;
    if (a->status == 200 || a->status == 206) {
        keep_url(g, a->url);
        if (p->from + p->got == p->to) return VLM_OK;
        *again = true;
        return vlm_fail(err, VLM_UNAVAILABLE, "%s: the connection ended early", name_of(g));
    }
    /* An address of a redirect is good for a while only. */
    keep_url(g, "");
    *again = is_known || vlm_hub_is_passing(a->status);
    const vlm_status why = vlm_hub_explain(g->blob->env, g->blob->id, a, err);
    return vlm_fail_prefix(err, why, "%s", name_of(g));
}

static vlm_status fetch_piece(piece *p, vlm_hub_http *h, vlm_error *err)
{
    vlm_hub_answer answer;
    for (uint32_t n_tries = 0;;) {
        const uint64_t before = p->got;
        bool again;
        const vlm_status status = try_piece(p, h, &answer, &again, err);
        if (status == VLM_OK || !again) return status;
        if (p->got > before) n_tries = 0;
        if (++n_tries == TRIES) return status;
        /* After bytes have come the first try is made at once. */
        if (p->got > before) continue;
        if (!vlm_hub_pause(n_tries - 1, p->g->blob->pause_ns, &answer, &p->g->stop))
            return vlm_fail(err, VLM_CANCELLED, "%s: given up", name_of(p->g));
    }
}

/* The next piece for a thread; false when all are taken. */
static bool next_piece(growing *g, piece *p)
{
    (void)pthread_mutex_lock(&g->lock);
    const uint64_t left = size_of(g) - g->next;
    const uint64_t len = left < VLM_HUB_PIECE_BYTES ? left : VLM_HUB_PIECE_BYTES;
    p->from = g->next;
    p->to = g->next += len;
    p->got = 0;
    const bool has_more = len > 0 && !g->has_failed;
    (void)pthread_mutex_unlock(&g->lock);
    return has_more;
}

/* Wait until all before it is written, then write it. */
static vlm_status append_in_turn(growing *g, const piece *p, vlm_error *err)
{
    (void)pthread_mutex_lock(&g->lock);
    while (!g->has_failed && atomic_load(&g->n_done) != p->from)
        (void)pthread_cond_wait(&g->turned, &g->lock);
    const bool go = !g->has_failed;
    (void)pthread_mutex_unlock(&g->lock);
    if (!go) return vlm_fail(err, VLM_CANCELLED, "%s: given up", name_of(g));
    VLM_TRY(append(g, p->bytes, (size_t)p->got, err));
#if defined(SYNC_FILE_RANGE_WRITE)
    /* Let the disk begin: fsync at the end has less to wait for. */
    (void)sync_file_range(g->fd, (off_t)p->from, (off_t)p->got, SYNC_FILE_RANGE_WRITE);
#endif
    (void)pthread_mutex_lock(&g->lock);
    (void)pthread_cond_broadcast(&g->turned);
    (void)pthread_mutex_unlock(&g->lock);
    return VLM_OK;
}

static vlm_status run_pieces(growing *g, vlm_error *err)
{
    vlm_hub_http http;
    piece p = {.g = g, .bytes = malloc(VLM_HUB_PIECE_BYTES)};
    vlm_status status = vlm_hub_http_open(&http, g->blob->env, &g->stop, err);
    if (status == VLM_OK && p.bytes == NULL) status = vlm_fail_memory(err, "download");
    while (status == VLM_OK && next_piece(g, &p)) {
        status = fetch_piece(&p, &http, err);
        if (status == VLM_OK) status = append_in_turn(g, &p, err);
    }
    vlm_hub_http_close(&http);
    free(p.bytes);
    return status;
}

static void *run(void *user)
{
    growing *g = user;
    vlm_error error;
    const vlm_status status = run_pieces(g, &error);
    (void)pthread_mutex_lock(&g->lock);
    if (status != VLM_OK && !g->has_failed) {
        g->has_failed = true;
        g->error = error;
        atomic_store(&g->stop, true);
    }
    g->n_running--;
    (void)pthread_cond_broadcast(&g->turned);
    (void)pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void wait_and_report(growing *g)
{
    (void)pthread_mutex_lock(&g->lock);
    while (g->n_running > 0) {
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += REPORT_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&g->turned, &g->lock, &until);
        (void)pthread_mutex_unlock(&g->lock);
        report(g);
        (void)pthread_mutex_lock(&g->lock);
    }
    (void)pthread_mutex_unlock(&g->lock);
}

/* The rest, over several connections. */
static vlm_status fetch_rest(growing *g, vlm_error *err)
{
    pthread_t threads[VLM_HUB_CONNECTIONS];
    size_t n = 0;
    g->next = atomic_load(&g->n_done);
    g->n_running = VLM_HUB_CONNECTIONS;
    while (n < VLM_HUB_CONNECTIONS && pthread_create(&threads[n], NULL, run, g) == 0) n++;
    (void)pthread_mutex_lock(&g->lock);
    g->n_running -= (uint32_t)(VLM_HUB_CONNECTIONS - n);
    (void)pthread_mutex_unlock(&g->lock);
    wait_and_report(g);
    for (size_t i = 0; i < n; i++) (void)pthread_join(threads[i], NULL);
    if (n == 0) return vlm_fail_memory(err, "download");
    if (!g->has_failed) return VLM_OK;
    *err = g->error;
    return err->code;
}

/* The first piece tells whether the server knows ranges, and where redirects lead. */
static vlm_status fetch_all(growing *g, vlm_error *err)
{
    vlm_hub_http http;
    const uint64_t done = atomic_load(&g->n_done);
    const uint64_t left = size_of(g) - done;
    if (left == 0) return VLM_OK;
    piece p = {.g = g,
               .from = done,
               .to = done + (left < VLM_HUB_PIECE_BYTES ? left : VLM_HUB_PIECE_BYTES)};
    vlm_status status = vlm_hub_http_open(&http, g->blob->env, NULL, err);
    if (status == VLM_OK) status = fetch_piece(&p, &http, err);
    vlm_hub_http_close(&http);
    if (status != VLM_OK || atomic_load(&g->n_done) == size_of(g)) return status;
    return fetch_rest(g, err);
}

/* What an earlier download left: into the digest. */
static vlm_status read_beginning(growing *g, vlm_error *err)
{
    struct stat st;
    if (fstat(g->fd, &st) != 0)
        return vlm_fail(err, VLM_UNAVAILABLE, "%s: %s", name_of(g), strerror(errno));
    if ((uint64_t)st.st_size > size_of(g) && ftruncate(g->fd, 0) != 0)
        return vlm_fail(err, VLM_UNAVAILABLE, "%s: %s", name_of(g), strerror(errno));
    char *bytes = malloc(READ_BYTES);
    if (bytes == NULL) return vlm_fail_memory(err, "download");
    ssize_t n;
    while ((n = read(g->fd, bytes, READ_BYTES)) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0) continue;
        vlm_hub_digest_add(g->digest, bytes, (size_t)n);
        atomic_fetch_add(&g->n_done, (uint64_t)n);
        atomic_fetch_add(&g->n_got, (uint64_t)n);
        report(g);
    }
    free(bytes);
    return n == 0 ? VLM_OK : vlm_fail(err, VLM_UNAVAILABLE, "%s: %s", name_of(g), strerror(errno));
}

static vlm_status grow(growing *g, vlm_error *err)
{
    char digest[VLM_HUB_DIGEST_LEN_MAX + 1];
    g->digest = vlm_hub_digest_new(g->blob->file->is_sha256, size_of(g));
    if (g->digest == NULL) return vlm_fail_memory(err, "download");
    vlm_status status = read_beginning(g, err);
    if (status == VLM_OK) status = fetch_all(g, err);
    vlm_hub_digest_end(g->digest, digest);
    vlm_hub_digest_free(g->digest);
    VLM_TRY(status);
    if (strcmp(digest, g->blob->file->digest) != 0)
        return vlm_fail(err, VLM_DATA_LOSS,
                        "%s: what came is not what the Hub promised: its %s is %s, not %s",
                        name_of(g), g->blob->file->is_sha256 ? "SHA-256" : "git blob id", digest,
                        g->blob->file->digest);
    if (fsync(g->fd) != 0)
        return vlm_fail(err, VLM_UNAVAILABLE, "%s: %s", name_of(g), strerror(errno));
    return VLM_OK;
}

/* Into DIGEST.incomplete, which is given its name when it is right and goes when it is wrong. */
static vlm_status get_once(const vlm_hub_blob *b, bool *was_resumed, vlm_error *err)
{
    char part[PATH_LEN_MAX];
    growing *g = calloc(1, sizeof *g);
    if (g == NULL) return vlm_fail_memory(err, "download");
    (void)snprintf(part, sizeof part, "%s.incomplete", b->path);
    g->blob = b;
    g->fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    (void)pthread_mutex_init(&g->lock, NULL);
    (void)pthread_cond_init(&g->turned, NULL);
    struct stat st = {0};
    vlm_status status = VLM_OK;
    if (g->fd < 0 || fstat(g->fd, &st) != 0)
        status = vlm_fail(err, errno == EACCES ? VLM_PERMISSION_DENIED : VLM_UNAVAILABLE,
                          "%s.incomplete in the cache: %s", b->file->digest, strerror(errno));
    *was_resumed = st.st_size > 0;
    if (status == VLM_OK) status = grow(g, err);
    if (g->fd >= 0) (void)close(g->fd);
    (void)pthread_cond_destroy(&g->turned);
    (void)pthread_mutex_destroy(&g->lock);
    free(g);
    if (status == VLM_DATA_LOSS) (void)unlink(part);
    if (status == VLM_OK && rename(part, b->path) != 0)
        status = vlm_fail(err, VLM_UNAVAILABLE, "%s: %s", b->file->name, strerror(errno));
    return status;
}

static bool is_there(const vlm_hub_blob *b)
{
    struct stat st;
    return stat(b->path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == b->file->size;
}

static vlm_status get_locked(const vlm_hub_blob *b, vlm_error *err)
{
    bool was_resumed;
    if (is_there(b)) return VLM_OK; /* another program has brought it meanwhile */
    const vlm_status status = get_once(b, &was_resumed, err);
    /* An old beginning may have been of something else: once more, from the start. */
    if (status != VLM_DATA_LOSS || !was_resumed) return status;
    return get_once(b, &was_resumed, err);
}

/* Until the file is ours; meanwhile how far the program is that has it.  A file system without
 * locks has none to wait for. */
static void wait_for_lock(const vlm_hub_blob *b, int lock)
{
    enum { LOOK_NS = 200 * 1000 * 1000 };
    char part[PATH_LEN_MAX];
    struct stat st;
    (void)snprintf(part, sizeof part, "%s.incomplete", b->path);
    for (bool is_told = false; flock(lock, LOCK_EX | LOCK_NB) != 0;) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) return;
        if (!is_told) b->waits(b->user);
        is_told = true;
        if (stat(part, &st) == 0 && (uint64_t)st.st_size < b->file->size)
            b->progress(b->user, (uint64_t)st.st_size);
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
}

vlm_status vlm_hub_blob_get(const vlm_hub_blob *b, vlm_error *err)
{
    if (is_there(b)) return VLM_OK;
    if (strlen(b->path) + sizeof ".incomplete" > PATH_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the cache's path is too long");
    const int lock = open(b->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0)
        return vlm_fail(err, VLM_PERMISSION_DENIED, "a lock in the cache cannot be made: %s",
                        strerror(errno));
    wait_for_lock(b, lock);
    const vlm_status status = get_locked(b, err);
    (void)close(lock);
    return status;
}
