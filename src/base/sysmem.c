#include "base/sysmem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { LINE_LEN = 512 };

/* The number after name in a file of lines "name number", in units of unit bytes. */
static bool read_field(const char *path, const char *name, size_t unit, size_t *out)
{
    char line[LINE_LEN];
    FILE *file = fopen(path, "re");
    bool found = false;
    if (file == NULL) return false;
    const size_t len = strlen(name);
    while (!found && fgets(line, sizeof line, file) != NULL) {
        char *end;
        if (strncmp(line, name, len) != 0) continue;
        const unsigned long long n = strtoull(line + len, &end, 10);
        found = end != line + len && n < SIZE_MAX / unit;
        if (found) *out = (size_t)n * unit;
    }
    (void)fclose(file);
    return found;
}

/* What the control group at dir leaves; page cache that it can give back counts as free. */
static bool cgroup_left(const char *dir, size_t *out)
{
    char path[2 * LINE_LEN];
    size_t max, used, file_bytes = 0;
    (void)snprintf(path, sizeof path, "%s/memory.max", dir);
    if (!read_field(path, "", 1, &max)) return false; /* "max" is no number */
    (void)snprintf(path, sizeof path, "%s/memory.current", dir);
    if (!read_field(path, "", 1, &used)) return false;
    (void)snprintf(path, sizeof path, "%s/memory.stat", dir);
    if (read_field(path, "inactive_file ", 1, &file_bytes) && file_bytes < used) used -= file_bytes;
    *out = max > used ? max - used : 0;
    return true;
}

/* Our own group and those above it. */
static void limit_by_cgroup(size_t *n)
{
    char line[LINE_LEN], dir[LINE_LEN + 32];
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL) return;
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) found = strncmp(line, "0::", 3) == 0;
    (void)fclose(file);
    if (!found) return;
    line[strcspn(line, "\n")] = '\0';
    (void)snprintf(dir, sizeof dir, "/sys/fs/cgroup%s", line + 3);
    for (;;) {
        size_t left;
        if (cgroup_left(dir, &left) && left < *n) *n = left;
        char *slash = strrchr(dir, '/');
        if (slash == NULL || slash - dir < (long)strlen("/sys/fs/cgroup")) break;
        *slash = '\0';
    }
}

size_t vlm_memory_available(void)
{
    size_t n = SIZE_MAX, bytes;
    struct rlimit limit;
    if (read_field("/proc/meminfo", "MemAvailable:", 1024, &bytes)) n = bytes;
    limit_by_cgroup(&n);
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        if (!read_field("/proc/self/status", "VmSize:", 1024, &bytes)) bytes = 0;
        const size_t left = limit.rlim_cur > bytes ? (size_t)limit.rlim_cur - bytes : 0;
        if (left < n) n = left;
    }
    return n == SIZE_MAX ? 0 : n;
}
