#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

enum { COLUMNS_MAX = 120, BAR_WIDTH = 24 };

void vlm_progress_start(vlm_progress *p, const char *what, vlm_progress_unit unit, const char *item)
{
    *p = (vlm_progress){
        .what = what, .item = item, .unit = unit, .on_terminal = isatty(STDERR_FILENO) == 1};
}

/* "1.5 GiB", or "37 tokens" */
static void format_amount(const vlm_progress *p, double amount, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    if (p->unit == VLM_PROGRESS_ITEMS) {
        (void)snprintf(
            out, 32, amount < 10.0 && amount != (double)(uint64_t)amount ? "%.1f" : "%.0f", amount);
        return;
    }
    size_t i = 0;
    for (; amount >= 1024.0 && i + 1 < sizeof units / sizeof units[0]; i++) amount /= 1024.0;
    (void)snprintf(out, 32, i == 0 ? "%.0f %s" : "%.1f %s", amount, units[i]);
}

/* "4 s", "3:07", "1:02:03" */
static void format_time(double seconds, char out[32])
{
    const double limit = 359999.0; /* 99:59:59 */
    const unsigned s = (unsigned)(seconds < limit ? seconds + 0.5 : limit);
    if (s < 60)
        (void)snprintf(out, 32, "%u s", s);
    else if (s < 3600)
        (void)snprintf(out, 32, "%u:%02u", s / 60, s % 60);
    else
        (void)snprintf(out, 32, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
}

/* What stands behind the bar: "1.5 GiB of 4.9 GiB, 52.0 MiB/s, 1:07 left". */
static void format_rest(const vlm_progress *p, uint64_t n_done, uint64_t n_total, double seconds,
                        char *out, size_t len)
{
    char done[32], total[32], rate[32], left[32];
    format_amount(p, (double)n_done, done);
    format_amount(p, (double)n_total, total);
    const uint64_t n_here = n_done > p->first_done ? n_done - p->first_done : 0;
    const char *item = p->unit == VLM_PROGRESS_ITEMS ? p->item : "";
    const int n = snprintf(out, len, "%s of %s%s%s", done, total, item[0] != '\0' ? " " : "", item);
    if (n_here == 0 || seconds <= 0.0 || n < 0 || (size_t)n >= len) return;
    const double per_second = (double)n_here / seconds;
    format_amount(p, per_second, rate);
    format_time((double)(n_total - n_done) / per_second, left);
    (void)snprintf(out + n, len - (size_t)n, ", %s/s, %s left", rate, left);
}

void vlm_progress_line(const vlm_progress *p, uint64_t n_done, uint64_t n_total, double seconds,
                       char *out, int columns)
{
    enum { BAR_MIN = 6, FRAME = 5 }; /* " [", "] " and the NUL */
    if (n_done > n_total) n_done = n_total;
    char bar[BAR_WIDTH + 1], rest[160];
    format_rest(p, n_done, n_total, seconds, rest, sizeof rest);
    /* Where the line is too long the bar gives way. */
    int width = columns - FRAME - (int)strlen(p->what) - (int)strlen(rest);
    if (width > BAR_WIDTH) width = BAR_WIDTH;
    if (width < BAR_MIN) {
        (void)snprintf(out, (size_t)columns, "%s %s", p->what, rest);
        return;
    }
    const size_t filled = (size_t)((double)n_done / (double)n_total * width);
    memset(bar, '-', (size_t)width);
    memset(bar, '#', filled);
    bar[width] = '\0';
    (void)snprintf(out, (size_t)columns, "%s [%s] %s", p->what, bar, rest);
}

int vlm_progress_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 80;
    return size.ws_col < COLUMNS_MAX ? size.ws_col : COLUMNS_MAX;
}

void vlm_progress_update(vlm_progress *p, uint64_t n_done, uint64_t n_total)
{
    if (!p->on_terminal) return;
    const uint64_t now_ns = vlm_clock_ns();
    if (p->start_ns == 0) {
        p->start_ns = now_ns;
        p->first_done = n_done;
    }
    if (vlm_clock_seconds(p->start_ns, now_ns) < 0.5) return;
    if (p->shown && vlm_clock_seconds(p->last_ns, now_ns) < 0.1) return;
    p->last_ns = now_ns;
    char line[COLUMNS_MAX];
    vlm_progress_line(p, n_done, n_total, vlm_clock_seconds(p->start_ns, now_ns), line,
                      vlm_progress_columns());
    (void)fprintf(stderr, "\r\033[K%s", line);
    (void)fflush(stderr);
    p->shown = true;
}

void vlm_progress_clear(vlm_progress *p)
{
    if (p->shown) (void)fputs("\r\033[K", stderr);
    p->shown = false;
}
