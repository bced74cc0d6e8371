#include "cli/doctor_system.h"

#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH_LEN = 1024, TEXT_LEN = 4096, STAT_LEN = 1 << 20 };

vlm_doctor_place vlm_doctor_here(void)
{
    enum { SETS = VLM_CPU_IDS_MAX / CPU_SETSIZE };
    cpu_set_t sets[SETS]; /* a machine may have more CPUs than one set holds */
    vlm_doctor_place place = {.root = ""};
    memset(sets, 0, sizeof sets);
    if (sched_getaffinity(0, sizeof sets, sets) != 0) return place;
    for (size_t i = 0; i < VLM_CPU_IDS_MAX; i++)
        if (CPU_ISSET_S(i, sizeof sets, sets)) vlm_cpu_ids_add(&place.cpus, (uint32_t)i);
    return place;
}

bool vlm_doctor_read(const vlm_doctor_place *place, char *out, size_t len, const char *format, ...)
{
    char path[PATH_LEN];
    va_list args;
    const int n_root = snprintf(path, sizeof path, "%s", place->root);
    if (n_root < 0 || n_root >= PATH_LEN) return false;
    va_start(args, format);
    const int n = vsnprintf(path + n_root, sizeof path - (size_t)n_root, format, args);
    va_end(args);
    if (n < 0 || n >= PATH_LEN - n_root) return false;
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    const size_t n_read = fread(out, 1, len - 1, file);
    const bool ok = ferror(file) == 0;
    out[n_read] = '\0';
    (void)fclose(file);
    return ok;
}

static bool read_list(const vlm_doctor_place *place, vlm_cpu_ids *out, const char *path)
{
    char text[TEXT_LEN];
    return vlm_doctor_read(place, text, sizeof text, "%s", path) && vlm_systext_cpu_list(text, out);
}

/* --- CPUs --- */

static void check_affinity(const vlm_doctor_place *place, vlm_findings *out)
{
    vlm_cpu_ids online;
    if (!read_list(place, &online, "/sys/devices/system/cpu/online")) return;
    const uint32_t n = vlm_cpu_ids_count(&place->cpus), n_online = vlm_cpu_ids_count(&online);
    if (n_online == 0 || n == 0) return;
    vlm_findings_add(out, "affinity",
                     n < n_online ? "if that is not on purpose, look at taskset -pc $$, cpuset of "
                                    "the control group and CPUAffinity of the unit"
                                  : "",
                     "this process may run on %u of %u CPUs", n, n_online);
}

typedef bool group_fn(const vlm_doctor_place *place, const char *dir, double *out);

static bool quota_v2(const vlm_doctor_place *place, const char *dir, double *out)
{
    char text[TEXT_LEN];
    return vlm_doctor_read(place, text, sizeof text, "%s/cpu.max", dir) &&
           vlm_systext_quota_v2(text, out);
}

static bool quota_v1(const vlm_doctor_place *place, const char *dir, double *out)
{
    char text[TEXT_LEN], period[TEXT_LEN];
    return vlm_doctor_read(place, text, sizeof text, "%s/cpu.cfs_quota_us", dir) &&
           vlm_doctor_read(place, period, sizeof period, "%s/cpu.cfs_period_us", dir) &&
           vlm_systext_quota_v1(text, period, out);
}

static bool read_bytes(const vlm_doctor_place *place, const char *dir, const char *name,
                       double *out)
{
    char text[TEXT_LEN];
    uint64_t n;
    /* Version 1 says "no limit" as the largest number of whole pages, version 2 as "max". */
    if (!vlm_doctor_read(place, text, sizeof text, "%s/%s", dir, name) ||
        !vlm_systext_number(text, &n) || n >= (uint64_t)1 << 62)
        return false;
    *out = (double)n;
    return true;
}

static bool memory_v2(const vlm_doctor_place *place, const char *dir, double *out)
{
    return read_bytes(place, dir, "memory.max", out);
}

static bool memory_v1(const vlm_doctor_place *place, const char *dir, double *out)
{
    return read_bytes(place, dir, "memory.limit_in_bytes", out);
}

/* Make *least what the group below mount and those above it give at most, where that is less. */
static bool limit_by_group(const vlm_doctor_place *place, const char *controller, const char *mount,
                           group_fn *read, double *least)
{
    char text[TEXT_LEN], group[PATH_LEN / 2], dir[PATH_LEN];
    bool found = false;
    if (!vlm_doctor_read(place, text, sizeof text, "/proc/self/cgroup") ||
        !vlm_systext_cgroup_path(text, controller, group, sizeof group))
        return false;
    for (;;) {
        double n = 0.0;
        (void)snprintf(dir, sizeof dir, "%s%s", mount, group);
        if (read(place, dir, &n)) {
            if (n < *least) *least = n;
            found = true;
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL) return found;
        *slash = '\0'; /* the last one is the mount itself */
    }
}

static void check_quota(const vlm_doctor_place *place, vlm_findings *out)
{
    double n = (double)INFINITY;
    const bool v2 = limit_by_group(place, "", "/sys/fs/cgroup", quota_v2, &n);
    const bool v1 = limit_by_group(place, "cpu", "/sys/fs/cgroup/cpu", quota_v1, &n);
    if (!v1 && !v2) return;
    const uint32_t n_cpus = vlm_cpu_ids_count(&place->cpus);
    char remedy[160] = "";
    if (n < (double)n_cpus)
        (void)snprintf(remedy, sizeof remedy,
                       "--threads %u, or a higher quota: more threads than that are stopped for a "
                       "part of each period",
                       n < 1.0 ? 1 : (unsigned)n);
    vlm_findings_add(out, "cpu quota", remedy,
                     "the control group may use %.2f CPUs at a time; %u are there", n, n_cpus);
}

static void check_cores(const vlm_doctor_place *place, vlm_findings *out)
{
    char text[TEXT_LEN], remedy[160] = "";
    uint32_t n_cores = 0, n_cpus = 0;
    for (uint32_t cpu = vlm_cpu_ids_next(&place->cpus, 0); cpu < VLM_CPU_IDS_MAX;
         cpu = vlm_cpu_ids_next(&place->cpus, cpu + 1)) {
        vlm_cpu_ids siblings;
        if (!vlm_doctor_read(place, text, sizeof text,
                             "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu) ||
            !vlm_systext_cpu_list(text, &siblings))
            return;
        siblings = vlm_cpu_ids_and(&siblings, &place->cpus);
        n_cpus++;
        if (vlm_cpu_ids_next(&siblings, 0) >= cpu) n_cores++; /* counted with its first CPU */
    }
    if (n_cpus == 0) return;
    if (n_cores < n_cpus)
        (void)snprintf(remedy, sizeof remedy,
                       "try --threads %u: two threads of a core share its vector units and wait "
                       "for each other",
                       n_cores);
    vlm_findings_add(out, "cores", remedy, "%u CPUs are %u cores", n_cpus, n_cores);
}

static void check_nodes(const vlm_doctor_place *place, vlm_findings *out)
{
    vlm_cpu_ids with_memory;
    if (!read_list(place, &with_memory, "/sys/devices/system/node/has_memory") &&
        !read_list(place, &with_memory, "/sys/devices/system/node/has_normal_memory"))
        return;
    uint32_t n_ours = 0, first = 0;
    for (uint32_t node = vlm_cpu_ids_next(&with_memory, 0); node < VLM_CPU_IDS_MAX;
         node = vlm_cpu_ids_next(&with_memory, node + 1)) {
        char text[TEXT_LEN];
        vlm_cpu_ids cpus;
        if (!vlm_doctor_read(place, text, sizeof text, "/sys/devices/system/node/node%u/cpulist",
                             node) ||
            !vlm_systext_cpu_list(text, &cpus))
            continue;
        cpus = vlm_cpu_ids_and(&cpus, &place->cpus);
        if (vlm_cpu_ids_count(&cpus) > 0 && n_ours++ == 0) first = node;
    }
    const uint32_t n = vlm_cpu_ids_count(&with_memory);
    if (n_ours == 0) return;
    char remedy[200] = "";
    if (n_ours > 1)
        (void)snprintf(remedy, sizeof remedy,
                       "a worker on each node behind a gateway (numactl -N %u -m %u vlmd worker "
                       "...), or numactl --interleave=all: memory of another node is read slowly",
                       first, first);
    vlm_findings_add(out, "numa", remedy, "CPUs of %u of %u nodes with memory", n_ours, n);
}

static bool cpufreq_word(const vlm_doctor_place *place, uint32_t cpu, const char *name,
                         char out[32])
{
    char text[TEXT_LEN];
    if (!vlm_doctor_read(place, text, sizeof text, "/sys/devices/system/cpu/cpu%u/cpufreq/%s", cpu,
                         name))
        return false;
    const size_t n = strcspn(text, " \t\n");
    if (n == 0 || n >= 32) return false;
    memcpy(out, text, n);
    out[n] = '\0';
    return true;
}

/* "powersave" of a driver that leaves the choice to the CPU is slow only with a preference for
 * power; of any other it is the lowest frequency. */
static bool is_saving(const vlm_doctor_place *place, uint32_t cpu, const char *governor)
{
    char preference[32];
    if (strcmp(governor, "powersave") != 0) return false;
    if (!cpufreq_word(place, cpu, "energy_performance_preference", preference)) return true;
    return strstr(preference, "power") != NULL; /* power, balance_power */
}

static void check_governors(const vlm_doctor_place *place, vlm_findings *out)
{
    char governor[32], first[32] = "";
    uint32_t n = 0, n_saving = 0;
    for (uint32_t cpu = vlm_cpu_ids_next(&place->cpus, 0); cpu < VLM_CPU_IDS_MAX;
         cpu = vlm_cpu_ids_next(&place->cpus, cpu + 1)) {
        if (!cpufreq_word(place, cpu, "scaling_governor", governor)) continue;
        if (n++ == 0) memcpy(first, governor, sizeof first);
        if (!is_saving(place, cpu, governor)) continue;
        if (n_saving++ == 0) memcpy(first, governor, sizeof first);
    }
    if (n == 0) return;
    vlm_findings_add(out, "frequency",
                     n_saving > 0 ? "cpupower frequency-set -g performance, or write it to "
                                    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
                                  : "",
                     "governor %s; %u of %u CPUs save power", first, n_saving, n);
}

void vlm_doctor_cpus(const vlm_doctor_place *place, vlm_findings *out)
{
    check_affinity(place, out);
    check_quota(place, out);
    check_cores(place, out);
    check_nodes(place, out);
    check_governors(place, out);
}

/* --- Memory --- */

static void check_huge_pages(const vlm_doctor_place *place, vlm_findings *out)
{
    char text[TEXT_LEN], chosen[32];
    if (!vlm_doctor_read(place, text, sizeof text, "/sys/kernel/mm/transparent_hugepage/enabled") ||
        !vlm_systext_chosen(text, chosen, sizeof chosen))
        return;
    const bool never = strcmp(chosen, "never") == 0;
    vlm_findings_add(out, "huge pages",
                     never ? "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled" : "",
                     "transparent huge pages: %s", chosen);
}

static void check_swap(const vlm_doctor_place *place, vlm_findings *out)
{
    /* Pages that nobody needs lie there on any machine: only a large part is worth a word. */
    const double LEAST = 256e6;
    char text[TEXT_LEN];
    uint64_t total, left;
    if (!vlm_doctor_read(place, text, sizeof text, "/proc/meminfo") ||
        !vlm_systext_field(text, "SwapTotal:", &total) ||
        !vlm_systext_field(text, "SwapFree:", &left) || left > total)
        return;
    const double used = 1024.0 * (double)(total - left);
    vlm_findings_add(out, "swap",
                     used >= LEAST ? "end other programs, then swapoff -a && swapon -a: what is "
                                     "swapped out is read from disk when it is needed"
                                   : "",
                     "%.1f of %.1f GB in use", used * 1e-9, 1024.0 * (double)total * 1e-9);
}

/* Limits on this process that are below what the machine has. */
static void check_memory_limit(const vlm_doctor_place *place, double wanted, double address_space,
                               vlm_findings *out)
{
    char text[TEXT_LEN];
    uint64_t total;
    double n = address_space;
    if (!vlm_doctor_read(place, text, sizeof text, "/proc/meminfo") ||
        !vlm_systext_field(text, "MemTotal:", &total))
        return;
    (void)limit_by_group(place, "", "/sys/fs/cgroup", memory_v2, &n);
    (void)limit_by_group(place, "memory", "/sys/fs/cgroup/memory", memory_v1, &n);
    if (n >= 1024.0 * (double)total) return;
    vlm_findings_add(out, "memory limit",
                     n < wanted ? "raise memory.max of the control group (docker run --memory) or "
                                  "ulimit -v for large models"
                                : "",
                     "this process may take %.1f of %.1f GB; LLaVA 7B in f16 wants %.1f", n * 1e-9,
                     1024.0 * (double)total * 1e-9, wanted * 1e-9);
}

void vlm_doctor_memory(const vlm_doctor_place *place, double wanted, double address_space,
                       vlm_findings *out)
{
    check_memory_limit(place, wanted, address_space, out);
    check_huge_pages(place, out);
    check_swap(place, out);
}

/* --- Others --- */

/* Part of our CPUs that others may use before it is worth a word. */
static const double MUCH = 0.25;

static bool read_ticks(const vlm_doctor_place *place, vlm_cpu_ticks *out)
{
    /* Lines of CPUs come first; some systems have megabytes of interrupts behind them. */
    static char text[STAT_LEN];
    return vlm_doctor_read(place, text, sizeof text, "/proc/stat") &&
           vlm_systext_ticks(text, &place->cpus, out);
}

static double own_seconds(void)
{
    struct rusage used = {0};
    (void)getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

void vlm_doctor_watch_start(const vlm_doctor_place *place, vlm_doctor_watch *watch)
{
    *watch = (vlm_doctor_watch){.own_s = own_seconds()};
    watch->started = read_ticks(place, &watch->ticks);
}

/* others: CPUs' worth that other processes used; negative when unknown. */
static void tell_load(const vlm_doctor_place *place, double others, vlm_findings *out)
{
    char text[TEXT_LEN];
    double load;
    vlm_cpu_ids online;
    if (!vlm_doctor_read(place, text, sizeof text, "/proc/loadavg") ||
        !vlm_systext_load(text, &load) ||
        !read_list(place, &online, "/sys/devices/system/cpu/online"))
        return;
    const uint32_t n_online = vlm_cpu_ids_count(&online);
    const uint32_t n = vlm_cpu_ids_count(&place->cpus);
    const char *remedy = load > (double)n_online || others > MUCH * (double)n
                             ? "end them, or leave them CPUs with --threads: a thread that shares "
                               "its CPU holds up all others"
                             : "";
    if (others < 0.0)
        vlm_findings_add(out, "other load", remedy, "load average %.1f on %u CPUs", load, n_online);
    else
        vlm_findings_add(
            out, "other load", remedy,
            "load average %.1f on %u CPUs; other processes used %.1f of our %u while measuring",
            load, n_online, others, n);
}

bool vlm_doctor_watch_stop(const vlm_doctor_place *place, const vlm_doctor_watch *watch,
                           vlm_findings *out)
{
    enum { TICKS_MIN = 20 }; /* of a CPU; fewer say nothing */
    vlm_cpu_ticks now;
    const double own_s = own_seconds() - watch->own_s;
    const double per_second = (double)sysconf(_SC_CLK_TCK);
    const double n = (double)vlm_cpu_ids_count(&place->cpus);
    const bool known = watch->started && read_ticks(place, &now) && per_second > 0.0;
    const double total = known ? (double)(now.total - watch->ticks.total) : 0.0;
    if (!known || total < TICKS_MIN * n) {
        tell_load(place, -1.0, out);
        return false;
    }
    const double busy = (double)(now.busy - watch->ticks.busy) - own_s * per_second;
    const double steal = (double)(now.steal - watch->ticks.steal) / total;
    const double others = busy <= 0.0 ? 0.0 : busy / total * n;
    tell_load(place, others, out);
    vlm_findings_add(out, "steal",
                     steal > 0.05 ? "other machines of this host take part of its CPUs: use an "
                                    "instance with CPUs of its own"
                                  : "",
                     "%.0f%% of the CPUs' time went to other machines while measuring",
                     100.0 * steal);
    return others > MUCH * n || steal > 0.05;
}
