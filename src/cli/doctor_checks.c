#include "cli/doctor_checks.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/sysmem.h"
#include "hub/cache.h"

static void set(vlm_finding *f, const char *name, vlm_finding_level level, const char *remedy,
                const char *format, ...)
{
    va_list args;
    *f = (vlm_finding){.name = name, .level = level};
    (void)snprintf(f->remedy, sizeof f->remedy, "%s", remedy);
    va_start(args, format);
    (void)vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
}

static double gigabytes(double n_bytes)
{
    return n_bytes * 1e-9;
}

static void check_cpu(vlm_finding *f)
{
    const vlm_cpu_level best = vlm_cpu_level_best();
    const bool slow = best == VLM_CPU_REFERENCE;
    set(f, "cpu", slow ? VLM_FINDING_WARNING : VLM_FINDING_OK,
        slow ? "use a CPU with AVX2, FMA and F16C: kernels in plain C are many times slower" : "",
        "%u CPUs, kernels of level %s", vlm_cpu_count(), vlm_cpu_level_name(best));
}

static size_t check_memory(vlm_finding *f)
{
    enum { LEAST = 256 << 20, MODEST = 1 << 30 };
    struct sysinfo info;
    const size_t available = vlm_memory_available();
    const double total =
        sysinfo(&info) == 0 ? (double)info.totalram * (double)info.mem_unit : (double)available;
    const vlm_finding_level found = available < LEAST    ? VLM_FINDING_FAILURE
                                    : available < MODEST ? VLM_FINDING_WARNING
                                                         : VLM_FINDING_OK;
    set(f, "memory", found,
        found != VLM_FINDING_OK
            ? "end other programs, or raise the limit of the control group or ulimit -v"
            : "",
        "%.1f GB, %.1f GB free for this process; a server takes half of what weights leave",
        gigabytes(total), gigabytes((double)available));
    return available;
}

typedef struct reading {
    const uint64_t *data;
    uint64_t sums[VLM_POOL_THREADS_MAX];
} reading;

enum { READ_GRAIN = 1 << 17 };

static void read_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    reading *r = ctx;
    uint64_t sum = 0;
    for (size_t i = begin; i < end; i++) sum += r->data[i];
    r->sums[thread_idx] += sum;
}

/* Bytes a second that all CPUs read from memory together; 0 when it cannot be measured. */
static double measure_bandwidth(size_t available)
{
    enum { BYTES_MAX = 256 << 20, ROUNDS = 5 };
    const size_t n_bytes = available / 8 < BYTES_MAX ? available / 8 : BYTES_MAX;
    const size_t n = n_bytes / sizeof(uint64_t);
    uint64_t *data = n == 0 ? NULL : vlm_alloc_aligned(n * sizeof *data);
    vlm_pool *pool = NULL;
    vlm_error error;
    double best = 0.0;
    reading *r = calloc(1, sizeof *r);
    if (data != NULL && r != NULL && vlm_pool_new(vlm_cpu_count(), &pool, &error) == VLM_OK) {
        memset(data, 1, n * sizeof *data);
        r->data = data;
        for (int i = 0; i < ROUNDS; i++) {
            const uint64_t start = vlm_clock_ns();
            vlm_pool_run(pool, n, READ_GRAIN, read_range, r);
            const double rate =
                (double)(n * sizeof *data) / vlm_clock_seconds(start, vlm_clock_ns());
            if (rate > best) best = rate;
        }
    }
    vlm_pool_free(pool);
    free(r);
    free(data);
    return best;
}

static double check_bandwidth(vlm_finding *f, size_t available)
{
    const double rate = measure_bandwidth(available);
    const bool slow = rate < 8e9;
    set(f, "bandwidth", slow ? VLM_FINDING_WARNING : VLM_FINDING_OK,
        slow ? "each token reads all weights: use more memory channels, or a smaller model" : "",
        "%.1f GB/s read from memory by %u threads", gigabytes(rate), vlm_cpu_count());
    return rate;
}

static void check_huge_pages(vlm_finding *f)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
    char text[128] = "";
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(text, sizeof text, file) == NULL) text[0] = '\0';
        (void)fclose(file);
    }
    text[strcspn(text, "\n")] = '\0';
    const bool never = strstr(text, "[never]") != NULL;
    set(f, "huge pages", never ? VLM_FINDING_WARNING : VLM_FINDING_OK,
        never ? "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled" : "",
        "transparent huge pages: %s", text[0] == '\0' ? "unknown" : text);
}

static void check_files(vlm_finding *f)
{
    enum { WANTED = 17000 }; /* --max-connections' default and what workers need */
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    const bool few = limit.rlim_max != RLIM_INFINITY && limit.rlim_max < WANTED;
    set(f, "open files", few ? VLM_FINDING_WARNING : VLM_FINDING_OK,
        few ? "ulimit -Hn 65536, or LimitNOFILE in a unit: fewer clients can be connected" : "",
        "%llu, at most %llu", (unsigned long long)limit.rlim_cur,
        (unsigned long long)limit.rlim_max);
}

static void check_locked_memory(vlm_finding *f)
{
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur == RLIM_INFINITY)
        set(f, "locked memory", VLM_FINDING_OK, "", "no limit; none is needed");
    else
        set(f, "locked memory", VLM_FINDING_OK, "", "%.1f MB; none is needed",
            (double)limit.rlim_cur * 1e-6);
}

/* Where models from the Hub lie, and how much room there is. */
static void check_cache(vlm_finding *f)
{
    enum { DIR_LEN_MAX = 4096 };
    char path[160] = "";
    vlm_buf dir;
    vlm_error err;
    vlm_buf_init(&dir, DIR_LEN_MAX);
    if (vlm_hub_cache_dir(&dir, &err) == VLM_OK) (void)snprintf(path, sizeof path, "%s", dir.data);
    vlm_buf_fini(&dir);
    const bool is_there = vlm_path_is_dir(path);
    /* The nearest folder above that exists has the same disk. */
    char above[sizeof path];
    struct statvfs disk;
    memcpy(above, path, sizeof above);
    while (above[0] != '\0' && statvfs(above, &disk) != 0) {
        char *slash = strrchr(above, '/');
        if (slash == NULL) break;
        slash[slash == above ? 1 : 0] = '\0';
        if (slash == above) break;
    }
    const double free_bytes =
        statvfs(above, &disk) == 0 ? (double)disk.f_bavail * (double)disk.f_frsize : 0.0;
    const bool full = free_bytes < 15e9;
    set(f, "model cache", full ? VLM_FINDING_WARNING : VLM_FINDING_OK,
        full ? "a model of 7 billion parameters is 14 GB: set HF_HUB_CACHE to a larger disk" : "",
        "%.100s%s, %.1f GB free", path, is_there ? "" : " (not there yet)", gigabytes(free_bytes));
}

/* What a model of known size needs, and what the bandwidth allows. */
static void check_model(vlm_finding *f, const char *name, double n_weights, double kv_per_token,
                        size_t available, double bandwidth)
{
    enum { CONTEXT = 4096 };
    const double weights = 2.0 * n_weights, kv = CONTEXT * kv_per_token;
    const bool fits = weights + kv + 0.6e9 <= (double)available;
    set(f, name, fits ? VLM_FINDING_OK : VLM_FINDING_WARNING,
        fits ? "" : "not enough free memory: it would be read from disk for every token",
        "f16 weights %.1f GB, keys and values %.1f GB for a context of %d; at most %.1f tokens a "
        "second",
        gigabytes(weights), gigabytes(kv), CONTEXT, bandwidth / weights);
}

size_t vlm_doctor_check(vlm_finding findings[VLM_FINDINGS_MAX])
{
    size_t n = 0;
    check_cpu(&findings[n++]);
    const size_t available = check_memory(&findings[n++]);
    const double bandwidth = check_bandwidth(&findings[n++], available);
    check_huge_pages(&findings[n++]);
    check_files(&findings[n++]);
    check_locked_memory(&findings[n++]);
    check_cache(&findings[n++]);
    /* LLaVA-1.5: 32 layers of 4096 and 40 of 5120, keys and values in float32. */
    check_model(&findings[n++], "llava 7B", 6.76e9, 1048576.0, available, bandwidth);
    check_model(&findings[n++], "llava 13B", 13.05e9, 1638400.0, available, bandwidth);
    return n;
}
