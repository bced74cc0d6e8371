#include "base/systext.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void vlm_cpu_ids_add(vlm_cpu_ids *ids, uint32_t id)
{
    if (id < VLM_CPU_IDS_MAX) ids->bits[id / 64] |= (uint64_t)1 << id % 64;
}

bool vlm_cpu_ids_has(const vlm_cpu_ids *ids, uint32_t id)
{
    return id < VLM_CPU_IDS_MAX && (ids->bits[id / 64] >> id % 64 & 1) != 0;
}

uint32_t vlm_cpu_ids_count(const vlm_cpu_ids *ids)
{
    uint32_t n = 0;
    for (size_t i = 0; i < VLM_CPU_IDS_MAX / 64; i++)
        n += (uint32_t)__builtin_popcountll(ids->bits[i]);
    return n;
}

uint32_t vlm_cpu_ids_next(const vlm_cpu_ids *ids, uint32_t from)
{
    while (from < VLM_CPU_IDS_MAX && !vlm_cpu_ids_has(ids, from)) from++;
    return from;
}

vlm_cpu_ids vlm_cpu_ids_and(const vlm_cpu_ids *a, const vlm_cpu_ids *b)
{
    vlm_cpu_ids both;
    for (size_t i = 0; i < VLM_CPU_IDS_MAX / 64; i++) both.bits[i] = a->bits[i] & b->bits[i];
    return both;
}

static const char *skip_spaces(const char *text)
{
    return text + strspn(text, " \t");
}

/* Digits alone, no sign; moves *text past them. */
static bool take_number(const char **text, uint64_t *out)
{
    const char *p = *text;
    uint64_t n = 0;
    if (*p < '0' || *p > '9') return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return false;
    *text = p;
    *out = n;
    return true;
}

bool vlm_systext_number(const char *text, uint64_t *out)
{
    text = skip_spaces(text);
    return take_number(&text, out);
}

static bool is_end(const char *text)
{
    return text[strspn(text, " \t\n")] == '\0';
}

bool vlm_systext_cpu_list(const char *text, vlm_cpu_ids *out)
{
    *out = (vlm_cpu_ids){0};
    if (is_end(text)) return true;
    for (;; text++) {
        uint64_t first, last;
        if (!take_number(&text, &first)) return false;
        last = first;
        if (*text == '-') {
            text++;
            if (!take_number(&text, &last) || last < first) return false;
        }
        for (uint64_t id = first; id <= last && id < VLM_CPU_IDS_MAX; id++)
            vlm_cpu_ids_add(out, (uint32_t)id);
        if (is_end(text)) return true;
        if (*text != ',') return false;
    }
}

static const char *next_line(const char *text)
{
    const char *end = strchr(text, '\n');
    return end == NULL ? text + strlen(text) : end + 1;
}

bool vlm_systext_field(const char *text, const char *name, uint64_t *out)
{
    const size_t len = strlen(name);
    for (; *text != '\0'; text = next_line(text))
        if (strncmp(text, name, len) == 0) return vlm_systext_number(text + len, out);
    return false;
}

bool vlm_systext_chosen(const char *text, char *out, size_t len)
{
    out[0] = '\0';
    const char *begin = strchr(text, '[');
    if (begin == NULL) return false;
    const size_t n = strcspn(begin + 1, "]\n");
    if (begin[1 + n] != ']' || n == 0) return false;
    const size_t kept = n < len ? n : len - 1;
    memcpy(out, begin + 1, kept);
    out[kept] = '\0';
    return true;
}

static bool quota(uint64_t quota_us, uint64_t period_us, double *n_cpus)
{
    if (quota_us == 0 || period_us == 0) return false;
    *n_cpus = (double)quota_us / (double)period_us;
    return true;
}

bool vlm_systext_quota_v2(const char *text, double *n_cpus)
{
    uint64_t quota_us, period_us;
    text = skip_spaces(text);
    if (!take_number(&text, &quota_us)) return false; /* "max": no limit */
    return vlm_systext_number(text, &period_us) && quota(quota_us, period_us, n_cpus);
}

bool vlm_systext_quota_v1(const char *quota_text, const char *period, double *n_cpus)
{
    uint64_t quota_us, period_us; /* "-1": no limit */
    return vlm_systext_number(quota_text, &quota_us) && vlm_systext_number(period, &period_us) &&
           quota(quota_us, period_us, n_cpus);
}

/* Whether the list "cpu,cpuacct" that ends at end holds the word; an empty list holds "". */
static bool holds_word(const char *list, const char *end, const char *word)
{
    const size_t len = strlen(word);
    for (;;) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const char *stop = comma == NULL ? end : comma;
        if ((size_t)(stop - list) == len && memcmp(list, word, len) == 0) return true;
        if (comma == NULL) return false;
        list = comma + 1;
    }
}

bool vlm_systext_cgroup_path(const char *text, const char *controller, char *out, size_t len)
{
    /* Lines are "ID:CONTROLLER,CONTROLLER:PATH"; version 2 has ID 0 and no controllers. */
    for (; *text != '\0'; text = next_line(text)) {
        uint64_t id;
        const char *p = text;
        if (!take_number(&p, &id) || *p != ':') continue;
        const char *list = p + 1;
        const char *colon = list + strcspn(list, ":\n");
        if (*colon != ':' || !holds_word(list, colon, controller)) continue;
        const size_t n = strcspn(colon + 1, "\n");
        if (n == 0 || colon[1] != '/' || n >= len) return false;
        memcpy(out, colon + 1, n);
        out[n] = '\0';
        return true;
    }
    return false;
}

bool vlm_systext_load(const char *text, double *out)
{
    char *end;
    text = skip_spaces(text);
    if (*text < '0' || *text > '9') return false;
    const double load = strtod(text, &end);
    if (end == text || !isfinite(load)) return false;
    *out = load;
    return true;
}

/* One line "cpuN user nice system idle iowait irq softirq steal ..."; old kernels end earlier. */
static void add_ticks(const char *p, vlm_cpu_ticks *sum)
{
    enum { IDLE = 3, IOWAIT = 4, STEAL = 7, N_COLUMNS = 8 };
    for (int column = 0; column < N_COLUMNS; column++) {
        uint64_t n;
        p = skip_spaces(p);
        if (!take_number(&p, &n)) return;
        /* Wrapping is harmless: only differences are looked at. */
        sum->total += n;
        if (column == STEAL)
            sum->steal += n;
        else if (column != IDLE && column != IOWAIT)
            sum->busy += n;
    }
}

bool vlm_systext_ticks(const char *text, const vlm_cpu_ids *cpus, vlm_cpu_ticks *out)
{
    bool found = false;
    *out = (vlm_cpu_ticks){0};
    for (; *text != '\0'; text = next_line(text)) {
        uint64_t id;
        if (strncmp(text, "cpu", 3) != 0) continue;
        const char *p = text + 3;
        if (!take_number(&p, &id) || id >= VLM_CPU_IDS_MAX) continue; /* "cpu ": all of them */
        if (!vlm_cpu_ids_has(cpus, (uint32_t)id)) continue;
        add_ticks(p, out);
        found = true;
    }
    return found;
}
