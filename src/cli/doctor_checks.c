#include "cli/doctor_checks.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/sysmem.h"
#include "cli/doctor_devices.h"
#include "cli/doctor_models.h"
#include "cli/doctor_speed.h"
#include "cli/doctor_system.h"
#include "hub/cache.h"
#include "model/pack_cache.h"

static vlm_finding *next_of(vlm_findings *list, const char *name, const char *remedy)
{
    vlm_finding *f = &list->items[list->n < VLM_FINDINGS_MAX ? list->n++ : VLM_FINDINGS_MAX - 1];
    *f = (vlm_finding){.name = name,
                       .level = remedy[0] != '\0' ? VLM_FINDING_WARNING : VLM_FINDING_OK};
    (void)snprintf(f->remedy, sizeof f->remedy, "%s", remedy);
    return f;
}

void vlm_findings_add(vlm_findings *list, const char *name, const char *remedy, const char *format,
                      ...)
{
    va_list args;
    vlm_finding *f = next_of(list, name, remedy);
    va_start(args, format);
    (void)vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
}

static double gigabytes(double n_bytes)
{
    return n_bytes * 1e-9;
}

/* What the next level would bring, as vlm_speed_measure finds it on one machine at all its levels:
 * f16 37, 195, 305, 305 and q8 5, 320, 555, 1250 billion operations a second. */
static const char *missing_from(vlm_cpu_level level)
{
    switch (level) {
    case VLM_CPU_REFERENCE:
        return "a CPU with AVX2, FMA and F16C is 5 times as fast with f16, 30 times and more with "
               "q8 and q4; on this one stay with --dtype f16";
    case VLM_CPU_AVX2:
        return "a CPU with AVX-512 reads prompts 1.6 times as fast with f16, one with VNNI 4 times "
               "as fast with q8 and q4";
    case VLM_CPU_AVX512:
        return "a CPU with AVX-512 VNNI reads prompts about twice as fast with q8 and q4";
    default: return "";
    }
}

static void check_cpu(vlm_findings *out)
{
    static const char *const needs[] = {
#define LEVEL_NEEDS(name, text, needs) needs,
        VLM_CPU_LEVEL_LIST(LEVEL_NEEDS)
#undef LEVEL_NEEDS
    };
    const vlm_cpu_level best = vlm_cpu_level_best();
    vlm_cpu_level next = (vlm_cpu_level)(best + 1);
#if defined(__aarch64__)
    if (best == VLM_CPU_REFERENCE) next = VLM_CPU_NEON;
#endif
    /* The last of a family lacks nothing that kernels use. */
    const bool is_last = next == VLM_CPU_NEON || next >= VLM_CPU_N_LEVELS;
    vlm_findings_add(out, "cpu", missing_from(best), "%u CPUs, kernels of level %s%s%s",
                     vlm_cpu_count(), vlm_cpu_level_name(best), is_last ? "" : "; lacks ",
                     is_last ? "" : needs[next]);
}

static size_t check_memory(vlm_findings *out)
{
    enum { LEAST = 256 << 20, MODEST = 1 << 30 };
    struct sysinfo info;
    const size_t available = vlm_memory_available();
    const double total =
        sysinfo(&info) == 0 ? (double)info.totalram * (double)info.mem_unit : (double)available;
    vlm_findings_add(
        out, "memory",
        available < MODEST
            ? "end other programs, or raise the limit of the control group or ulimit -v"
            : "",
        "%.1f GB, %.1f GB free for this process; a server takes half of what weights leave",
        gigabytes(total), gigabytes((double)available));
    if (available < LEAST) out->items[out->n - 1].level = VLM_FINDING_FAILURE;
    return available;
}

static void check_speed(const vlm_speed *speed, vlm_findings *out)
{
    const char *beside = speed->is_disturbed ? ", beside others: too low" : "";
    char text[160];
    int len = 0;
    if (speed->read_bytes_s > 0.0)
        vlm_findings_add(
            out, "bandwidth",
            speed->read_bytes_s < 8e9
                ? "each token reads all weights: use more memory channels, or a smaller model"
                : "",
            "%.1f GB/s read from memory by %u threads%s", gigabytes(speed->read_bytes_s),
            speed->n_threads, beside);
    for (int i = 0; i < VLM_N_SPEED_DTYPES && len < (int)sizeof text; i++) {
        if (speed->prompt_flop_s[i] <= 0.0) continue;
        len += snprintf(text + len, sizeof text - (size_t)len, "%s%s %.0f", len == 0 ? "" : ", ",
                        vlm_speed_dtype_name((vlm_speed_dtype)i), speed->prompt_flop_s[i] * 1e-9);
    }
    if (len > 0)
        vlm_findings_add(out, "products", "",
                         "%s billion operations a second with many rows, by %u threads", text,
                         speed->n_threads);
}

static void check_files(vlm_findings *out)
{
    enum { WANTED = 17000 }; /* --max-connections' default and what workers need */
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    const bool few = limit.rlim_max != RLIM_INFINITY && limit.rlim_max < WANTED;
    vlm_findings_add(
        out, "open files",
        few ? "ulimit -Hn 65536, or LimitNOFILE in a unit: fewer clients can be connected" : "",
        "%llu, at most %llu", (unsigned long long)limit.rlim_cur,
        (unsigned long long)limit.rlim_max);
}

static void check_locked_memory(vlm_findings *out)
{
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur == RLIM_INFINITY)
        vlm_findings_add(out, "locked memory", "", "no limit; none is needed");
    else
        vlm_findings_add(out, "locked memory", "", "%.1f MB; none is needed",
                         (double)limit.rlim_cur * 1e-6);
}

enum { DIR_LEN_MAX = 4096 };

typedef vlm_status dir_fn(vlm_buf *out, vlm_error *err);

/* The path that a cache's own function gives; empty when there is none. */
static void cache_path(dir_fn *dir_of, char out[DIR_LEN_MAX])
{
    vlm_buf dir;
    vlm_error err;
    out[0] = '\0';
    vlm_buf_init(&dir, DIR_LEN_MAX - 1);
    if (dir_of(&dir, &err) == VLM_OK) (void)snprintf(out, DIR_LEN_MAX, "%s", dir.data);
    vlm_buf_fini(&dir);
}

/* Bytes that are free where a folder lies or will lie: the nearest one above that exists has the
 * same disk. */
static double disk_free(const char *path)
{
    char above[DIR_LEN_MAX];
    struct statvfs disk;
    (void)snprintf(above, sizeof above, "%s", path);
    while (above[0] != '\0' && statvfs(above, &disk) != 0) {
        char *slash = strrchr(above, '/');
        if (slash == NULL) break;
        slash[slash == above ? 1 : 0] = '\0';
        if (slash == above) break;
    }
    return statvfs(above, &disk) == 0 ? (double)disk.f_bavail * (double)disk.f_frsize : 0.0;
}

/* Where models from the Hub lie, and how much room there is. */
static void check_cache(vlm_findings *out)
{
    char path[DIR_LEN_MAX];
    cache_path(vlm_hub_cache_dir, path);
    const double free_bytes = disk_free(path);
    vlm_findings_add(
        out, "model cache",
        free_bytes < 15e9
            ? "a model of 7 billion parameters is 14 GB: set HF_HUB_CACHE to a larger disk"
            : "",
        "%.100s%s, %.1f GB free", path, vlm_path_is_dir(path) ? "" : " (not there yet)",
        gigabytes(free_bytes));
}

/* Bytes of the plain files of a folder, of the first thousands of them. */
static double folder_bytes(const char *path)
{
    enum { FILES_MAX = 10000 };
    double n_bytes = 0.0;
    DIR *dir = opendir(path);
    if (dir == NULL) return 0.0;
    for (int i = 0; i < FILES_MAX; i++) {
        const struct dirent *entry = readdir(dir);
        struct stat file;
        if (entry == NULL) break;
        if (fstatat(dirfd(dir), entry->d_name, &file, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(file.st_mode))
            n_bytes += (double)file.st_size;
    }
    (void)closedir(dir);
    return n_bytes;
}

static void check_packed(vlm_findings *out)
{
    char path[DIR_LEN_MAX];
    cache_path(vlm_pack_cache_dir, path);
    if (path[0] == '\0') {
        vlm_findings_add(out, "packed weights",
                         "set HOME or XDG_CACHE_HOME: --dtype q8 and q4 are packed at each start",
                         "no folder to keep them");
        return;
    }
    const double free_bytes = disk_free(path), n_bytes = folder_bytes(path);
    vlm_findings_add(out, "packed weights",
                     free_bytes < 9e9 ? "LLaVA 7B in q8 is 7.4 GB: set XDG_CACHE_HOME to a larger "
                                        "disk, or q8 and q4 are packed at each start"
                                      : "",
                     "%.100s%s, %.1f GB in it, %.1f GB free", path,
                     vlm_path_is_dir(path) ? "" : " (not there yet)", gigabytes(n_bytes),
                     gigabytes(free_bytes));
}

static double address_space(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return (double)INFINITY;
    return (double)limit.rlim_cur;
}

void vlm_doctor_check(vlm_findings *out, size_t *available, vlm_speed *speed)
{
    const vlm_doctor_place here = vlm_doctor_here();
    vlm_doctor_watch watch;
    out->n = 0;
    check_cpu(out);
    vlm_doctor_caches(&here, out);
    vlm_doctor_gpus(&here, out);
    vlm_doctor_cpus(&here, out);
    *available = check_memory(out);
    vlm_doctor_memory(&here, vlm_doctor_wanted_7b(), address_space(), out);
    vlm_doctor_watch_start(&here, &watch);
    vlm_speed_measure(*available, speed);
    speed->is_disturbed = vlm_doctor_watch_stop(&here, &watch, out);
    check_speed(speed, out);
    check_files(out);
    check_locked_memory(out);
    check_cache(out);
    check_packed(out);
}
