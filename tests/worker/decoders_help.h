/* decoders_help.h - what the tests of the decoder processes share: the processes as /proc shows
 * them, open descriptors, pictures. */
#ifndef VLM_TESTS_WORKER_DECODERS_HELP_H
#define VLM_TESTS_WORKER_DECODERS_HELP_H

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/file.h"

enum { PIDS_MAX = 80, NAME_CAP = 256 };

typedef struct pids {
    pid_t pid[PIDS_MAX];
    int n;
} pids;

/* Parent and state of a process; false when there is none. */
static inline bool look_at(pid_t pid, pid_t *parent, char *state)
{
    char path[64], line[512];
    int ppid = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    const bool ok = fgets(line, sizeof line, f) != NULL;
    (void)fclose(f);
    const char *const rest = ok ? strrchr(line, ')') : NULL;
    if (rest == NULL || sscanf(rest + 1, " %c %d", state, &ppid) != 2) return false;
    *parent = ppid;
    return true;
}

static inline bool is_alive(pid_t pid)
{
    pid_t parent;
    char state = 'Z';
    return look_at(pid, &parent, &state) && state != 'Z' && state != 'X';
}

/* Living children of a process. */
static inline pids children_of(pid_t of)
{
    pids p = {.n = 0};
    DIR *dir = opendir("/proc");
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL && p.n < PIDS_MAX) {
        pid_t parent = 0;
        char state = 'Z';
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (look_at(pid, &parent, &state) && parent == of && state != 'Z') p.pid[p.n++] = pid;
    }
    if (dir != NULL) (void)closedir(dir);
    return p;
}

/* Open descriptors of this process, and the bytes that the memfds among them hold. */
static inline int count_fds(uint64_t *memory_bytes)
{
    int n = 0;
    *memory_bytes = 0;
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char target[256] = {0};
        struct stat st;
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        n++;
        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1) < 0) continue;
        if (strncmp(target, "/memfd:vlmd", 11) != 0) continue;
        if (fstat((int)strtol(entry->d_name, NULL, 10), &st) == 0)
            *memory_bytes += (uint64_t)st.st_blocks * 512;
    }
    if (dir != NULL) (void)closedir(dir);
    return n;
}

/* The next file of tests/data/image, to be freed with vlm_buf_fini; false after the last. */
static inline bool next_picture(DIR *dir, vlm_buf *bytes, char name[NAME_CAP])
{
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char path[1024];
        if (entry->d_name[0] == '.') continue;
        (void)snprintf(path, sizeof path, "%s/image/%s", VLM_TEST_DATA, entry->d_name);
        (void)snprintf(name, NAME_CAP, "%s", entry->d_name);
        if (vlm_file_read(path, name, (size_t)4 << 20, bytes, NULL) == VLM_OK) return true;
    }
    return false;
}

static inline void put_u32le(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

/* A BMP of 8-bit grays, whose pixels are the remainder of their index by 251.  width % 4 == 0. */
static inline uint8_t *make_bmp(uint32_t width, uint32_t height, size_t *len)
{
    enum { HEAD = 54, COLOURS = 256 };
    const size_t n = (size_t)width * height;
    *len = HEAD + COLOURS * 4 + n;
    uint8_t *const file = calloc(1, *len);
    if (file == NULL) abort();
    memcpy(file, "BM", 2);
    put_u32le(file + 2, (uint32_t)*len);
    put_u32le(file + 10, HEAD + COLOURS * 4);
    put_u32le(file + 14, 40);
    put_u32le(file + 18, width);
    put_u32le(file + 22, height);
    file[26] = 1;
    file[28] = 8;
    put_u32le(file + 46, COLOURS);
    for (uint32_t c = 0; c < COLOURS; c++) put_u32le(file + HEAD + (size_t)c * 4, c * 0x010101u);
    for (size_t i = 0; i < n; i++) file[HEAD + COLOURS * 4 + i] = (uint8_t)(i % 251);
    return file;
}

#endif
