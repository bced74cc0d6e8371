#include "cli/pull.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/progress.h"
#include "hub/pull.h"

enum { COLUMNS = 120, NAME_COLUMNS = 26, PAUSE_MS = 100, PLAIN_PAUSE_S = 10 };

typedef struct screen {
    const char *id;
    bool on_terminal, has_begun, is_shown, is_waiting;
    const char *file; /* the last one that was told of */
    uint64_t file_begin, file_start_ns;
    uint64_t start_ns, last_ns;
} screen;

/* Hubs count in powers of ten. */
static void format_size(uint64_t n_bytes, char out[32])
{
    if (n_bytes < 1000)
        (void)snprintf(out, 32, "%u B", (unsigned)n_bytes);
    else if (n_bytes < 1000000)
        (void)snprintf(out, 32, "%.1f kB", (double)n_bytes * 1e-3);
    else if (n_bytes < 1000000000)
        (void)snprintf(out, 32, "%.1f MB", (double)n_bytes * 1e-6);
    else
        (void)snprintf(out, 32, "%.2f GB", (double)n_bytes * 1e-9);
}

static void clear(screen *s)
{
    if (s->is_shown) (void)fputs("\r\033[K\n\033[K\033[A", stderr);
    s->is_shown = false;
}

static void begin(screen *s, const vlm_hub_progress *p)
{
    char all[32], rest[32];
    format_size(p->size, all);
    format_size(p->size - p->here, rest);
    (void)fprintf(stderr, "%s at %.12s: %u files, %s, of which %s are to be downloaded\n", s->id,
                  p->commit, p->n_files, all, rest);
    s->has_begun = true;
    s->start_ns = s->last_ns = vlm_clock_ns();
}

static void begin_file(screen *s, const vlm_hub_progress *p)
{
    s->file = p->file;
    s->file_begin = UINT64_MAX;
    s->file_start_ns = vlm_clock_ns();
}

static void end_file(screen *s, const vlm_hub_progress *p)
{
    char size[32];
    clear(s);
    format_size(p->file_size, size);
    (void)fprintf(stderr, "  %u of %u  %s  %s\n", p->file_idx + 1, p->n_files, p->file, size);
    s->file = NULL;
}

/* A name that is too long, without its middle: "model-00001-..safetensors". */
static void shorten(const char *name, char out[NAME_COLUMNS + 1])
{
    enum { HEAD = 12, TAIL = NAME_COLUMNS - HEAD - 2 };
    const size_t len = strlen(name);
    if (len <= NAME_COLUMNS)
        memcpy(out, name, len + 1);
    else
        (void)snprintf(out, NAME_COLUMNS + 1, "%.*s..%s", HEAD, name, name + len - TAIL);
}

/* The bars of the file and of all. */
static void paint(screen *s, const vlm_hub_progress *p, uint64_t now)
{
    vlm_progress file, all;
    char name[NAME_COLUMNS + 1], line[COLUMNS];
    const double file_s = vlm_clock_seconds(s->file_start_ns, now);
    const double all_s = vlm_clock_seconds(s->start_ns, now);
    shorten(p->file, name);
    vlm_progress_start(&file, name, VLM_PROGRESS_BYTES, "");
    vlm_progress_start(&all, "all files", VLM_PROGRESS_BYTES, "");
    file.first_done = s->file_begin;
    all.first_done = p->here;
    const int columns = vlm_progress_columns();
    vlm_progress_line(&file, p->file_done, p->file_size, file_s, line,
                      columns < COLUMNS ? columns : COLUMNS);
    (void)fprintf(stderr, s->on_terminal ? "\r\033[K%s" : "  %s\n", line);
    if (!s->on_terminal) return;
    vlm_progress_line(&all, p->done, p->size, all_s, line, columns < COLUMNS ? columns : COLUMNS);
    (void)fprintf(stderr, "\n\033[K%s\033[A\r", line);
    (void)fflush(stderr);
    s->is_shown = true;
}

static void on_progress(void *user, const vlm_hub_progress *p)
{
    screen *s = user;
    if (!s->has_begun) begin(s, p);
    if (p->file == NULL) return;
    if (s->file != p->file) {
        /* The end of one is told with the same name; a further word of it is the next one's. */
        begin_file(s, p);
        return;
    }
    if (p->is_waiting && !s->is_waiting) {
        clear(s);
        (void)fprintf(stderr, "  another program is downloading %s: waiting for it\n", p->file);
        s->is_waiting = true;
        return;
    }
    s->is_waiting = p->is_waiting;
    if (s->file_begin == UINT64_MAX) s->file_begin = p->file_done;
    if (p->file_done == p->file_size) {
        end_file(s, p);
        return;
    }
    const uint64_t now = vlm_clock_ns();
    const double pause_s = s->on_terminal ? PAUSE_MS * 1e-3 : PLAIN_PAUSE_S;
    if (vlm_clock_seconds(s->last_ns, now) < pause_s || p->file_size == 0) return;
    s->last_ns = now;
    paint(s, p, now);
}

vlm_status vlm_cli_pull(const char *id, vlm_buf *path, vlm_error *err)
{
    screen s = {.id = id, .on_terminal = isatty(STDERR_FILENO) == 1};
    const vlm_hub_pull_options options = {.progress = on_progress, .user = &s};
    const vlm_status status = vlm_hub_pull(id, &options, path, err);
    clear(&s);
    return status;
}
