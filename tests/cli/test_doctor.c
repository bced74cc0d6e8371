/* What `vlmd doctor` finds on machines that are made of files, and what follows from speeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/doctor_devices.h"
#include "cli/doctor_speed.h"
#include "cli/doctor_system.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 12, WANTS_MAX = 3 };
#define CPU "/sys/devices/system/cpu/"
#define NODE "/sys/devices/system/node/"
#define CGROUP "/sys/fs/cgroup"

typedef struct machine {
    struct {
        const char *path, *text;
    } files[FILES_MAX];
    const char *cpus; /* the affinity mask */
    struct {
        const char *name, *text, *remedy; /* parts; text NULL: no such finding, remedy NULL: none */
    } wants[WANTS_MAX];
} machine;

static const machine machines[] = {
    /* Nothing there: silence. */
    {.cpus = "0-7", .wants = {{.name = "affinity"}, {.name = "cores"}, {.name = "huge pages"}}},
    {.cpus = "0-7", .wants = {{.name = "cpu quota"}, {.name = "numa"}, {.name = "frequency"}}},
    {.cpus = "0-7", .wants = {{.name = "swap"}, {.name = "memory limit"}, {.name = "steal"}}},
    {.cpus = "", .files = {{CPU "online", "0-3\n"}}, .wants = {{.name = "affinity"}}},
    {.cpus = "0-3", .files = {{CPU "online", "0-3\n"}}, .wants = {{"affinity", "4 of 4", NULL}}},
    {.cpus = "0,2",
     .files = {{CPU "online", "0-7,9\n"}},
     .wants = {{"affinity", "2 of 9", "taskset"}}},
    {.cpus = "0-3", .files = {{CPU "online", "all of them\n"}}, .wants = {{.name = "affinity"}}},
    /* The tightest group above ours counts. */
    {.cpus = "0-3",
     .files = {{"/proc/self/cgroup", "0::/a/b\n"},
               {CGROUP "/a/b/cpu.max", "max 100000\n"},
               {CGROUP "/a/cpu.max", "250000 100000\n"},
               {CGROUP "/cpu.max", "300000 100000\n"}},
     .wants = {{"cpu quota", "2.50 CPUs", "--threads 2,"}}},
    {.cpus = "0-3",
     .files = {{"/proc/self/cgroup", "0::/\n"}, {CGROUP "/cpu.max", "50000 100000\n"}},
     .wants = {{"cpu quota", "0.50 CPUs", "--threads 1,"}}},
    {.cpus = "0-3",
     .files = {{"/proc/self/cgroup", "0::/a\n"}, {CGROUP "/a/cpu.max", "400000 100000\n"}},
     .wants = {{"cpu quota", "4.00 CPUs", NULL}}},
    {.cpus = "0-3",
     .files = {{"/proc/self/cgroup", "0::/a\n"}, {CGROUP "/a/cpu.max", "max 100000\n"}},
     .wants = {{.name = "cpu quota"}}},
    {.cpus = "0-3",
     .files = {{"/proc/self/cgroup", "5:memory:/d\n3:cpuacct,cpu:/d\n"},
               {CGROUP "/cpu/cpu.cfs_quota_us", "100000\n"},
               {CGROUP "/cpu/cpu.cfs_period_us", "100000\n"}},
     .wants = {{"cpu quota", "1.00 CPUs", "--threads 1,"}}},
    {.cpus = "0-3",
     .files = {{"/proc/self/cgroup", "3:cpu:/\n"},
               {CGROUP "/cpu/cpu.cfs_quota_us", "-1\n"},
               {CGROUP "/cpu/cpu.cfs_period_us", "100000\n"}},
     .wants = {{.name = "cpu quota"}}},
    /* Siblings of a core; one that is not ours does not count. */
    {.cpus = "0-3",
     .files = {{CPU "cpu0/topology/thread_siblings_list", "0,2\n"},
               {CPU "cpu1/topology/thread_siblings_list", "1,3\n"},
               {CPU "cpu2/topology/thread_siblings_list", "0,2\n"},
               {CPU "cpu3/topology/thread_siblings_list", "1,3\n"}},
     .wants = {{"cores", "4 CPUs are 2 cores", "--threads 2"}}},
    {.cpus = "2-3",
     .files = {{CPU "cpu2/topology/thread_siblings_list", "0,2\n"},
               {CPU "cpu3/topology/thread_siblings_list", "1,3\n"}},
     .wants = {{"cores", "2 CPUs are 2 cores", NULL}}},
    {.cpus = "0-1",
     .files = {{CPU "cpu0/topology/thread_siblings_list", "0\n"}},
     .wants = {{.name = "cores"}}},
    {.cpus = "0-1,4",
     .files = {{NODE "has_memory", "0-1\n"},
               {NODE "node0/cpulist", "0-3\n"},
               {NODE "node1/cpulist", "4-7\n"}},
     .wants = {{"numa", "2 of 2 nodes", "numactl -N 0"}}},
    {.cpus = "4-7",
     .files = {{NODE "has_memory", "0-1\n"},
               {NODE "node0/cpulist", "0-3\n"},
               {NODE "node1/cpulist", "4-7\n"}},
     .wants = {{"numa", "1 of 2 nodes", NULL}}},
    {.cpus = "0", .files = {{NODE "has_memory", "0-4095\n"}}, .wants = {{.name = "numa"}}},
    {.cpus = "0-1",
     .files = {{CPU "cpu0/cpufreq/scaling_governor", "performance\n"},
               {CPU "cpu1/cpufreq/scaling_governor", "powersave\n"}},
     .wants = {{"frequency", "governor powersave; 1 of 2", "performance"}}},
    {.cpus = "0",
     .files = {{CPU "cpu0/cpufreq/scaling_governor", "powersave\n"},
               {CPU "cpu0/cpufreq/energy_performance_preference", "balance_performance\n"}},
     .wants = {{"frequency", "0 of 1", NULL}}},
    {.cpus = "0",
     .files = {{CPU "cpu0/cpufreq/scaling_governor", "powersave\n"},
               {CPU "cpu0/cpufreq/energy_performance_preference", "balance_power\n"}},
     .wants = {{"frequency", "1 of 1", "performance"}}},
    {.cpus = "0",
     .files = {{"/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"}},
     .wants = {{"huge pages", "never", "echo madvise"}}},
    {.cpus = "0",
     .files = {{"/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"}},
     .wants = {{"huge pages", "always", NULL}}},
    {.cpus = "0",
     .files = {{"/proc/meminfo", "MemTotal: 32000000 kB\nSwapTotal: 8000000 kB\n"
                                 "SwapFree: 6000000 kB\n"}},
     .wants = {{"swap", "2.0 of 8.2 GB", "swapoff"}, {.name = "memory limit"}}},
    {.cpus = "0",
     .files = {{"/proc/meminfo", "SwapTotal: 8000000 kB\nSwapFree: 7900000 kB\n"}},
     .wants = {{"swap", "0.1 of 8.2 GB", NULL}}},
    {.cpus = "0",
     .files = {{"/proc/meminfo", "SwapTotal: 1 kB\nSwapFree: 18446744073709551615 kB\n"}},
     .wants = {{.name = "swap"}}},
    {.cpus = "0",
     .files = {{"/proc/meminfo", "MemTotal: 32000000 kB\n"},
               {"/proc/self/cgroup", "0::/a\n"},
               {CGROUP "/a/memory.max", "8000000000\n"}},
     .wants = {{"memory limit", "8.0 of 32.8 GB", "memory.max"}}},
    {.cpus = "0",
     .files = {{"/proc/meminfo", "MemTotal: 32000000 kB\n"},
               {"/proc/self/cgroup", "9:memory:/a\n"},
               {CGROUP "/memory/a/memory.limit_in_bytes", "9223372036854771712\n"},
               {CGROUP "/memory/memory.limit_in_bytes", "25000000000\n"}},
     .wants = {{"memory limit", "25.0 of 32.8 GB", NULL}}},
    {.cpus = "0",
     .files = {{"/proc/meminfo", "MemTotal: 32000000 kB\n"},
               {"/proc/self/cgroup", "0::/a\n"},
               {CGROUP "/a/memory.max", "max\n"}},
     .wants = {{.name = "memory limit"}}},
    /* Caches of the first of our CPUs; those of instructions alone do not count. */
    {.cpus = "3-4",
     .files = {{CPU "cpu3/cache/index0/level", "1\n"},
               {CPU "cpu3/cache/index0/type", "Data\n"},
               {CPU "cpu3/cache/index0/size", "48K\n"},
               {CPU "cpu3/cache/index1/level", "1\n"},
               {CPU "cpu3/cache/index1/type", "Instruction\n"},
               {CPU "cpu3/cache/index1/size", "32K\n"},
               {CPU "cpu3/cache/index2/level", "3\n"},
               {CPU "cpu3/cache/index2/type", "Unified\n"},
               {CPU "cpu3/cache/index2/size", "32768K\n"}},
     .wants = {{"caches", "L1 48 KiB, L3 32 MiB", NULL}, {"gpu", "none", NULL}}},
    {.cpus = "0",
     .files = {{CPU "cpu0/cache/index0/level", "1\n"}, {CPU "cpu0/cache/index0/type", "Data\n"}},
     .wants = {{.name = "caches"}}},
    /* Graphics processors; other devices, and screens of virtual machines, are none. */
    {.cpus = "0",
     .files = {{"/sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n"},
               {"/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n"},
               {"/proc/driver/nvidia/gpus/0000:01:00.0/information",
                "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 7\n"},
               {"/sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n"},
               {"/sys/bus/pci/devices/0000:00:02.0/vendor", "0x1234\n"}},
     .wants = {{"gpu", "NVIDIA H100 80GB HBM3: not used yet", NULL}}},
    {.cpus = "0",
     .files = {{"/sys/bus/pci/devices/0000:03:00.0/class", "0x030000\n"},
               {"/sys/bus/pci/devices/0000:03:00.0/vendor", "0x1002\n"},
               {"/sys/bus/pci/devices/0000:04:00.0/class", "0x020000\n"},
               {"/sys/bus/pci/devices/0000:04:00.0/vendor", "0x10de\n"}},
     .wants = {{"gpu", "AMD: not used yet", NULL}}},
};

static void write_file(const char *root, const char *name, const char *text)
{
    char path[512];
    assert_true(snprintf(path, sizeof path, "%s%s", root, name) < (int)sizeof path);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

static void remove_tree(const char *root)
{
    assert_int_equal(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static const vlm_finding *find(const vlm_findings *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->items[i].name, name) == 0) return &list->items[i];
    return NULL;
}

static void machines_of_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        const machine *m = &machines[i];
        char root[] = "/tmp/vlmd_doctor_XXXXXX";
        vlm_findings found = {.n = 0};
        vlm_doctor_place place = {.root = root};
        assert_non_null(mkdtemp(root));
        assert_true(vlm_systext_cpu_list(m->cpus, &place.cpus));
        for (size_t f = 0; f < FILES_MAX && m->files[f].path != NULL; f++)
            write_file(root, m->files[f].path, m->files[f].text);
        vlm_doctor_caches(&place, &found);
        vlm_doctor_gpus(&place, &found);
        vlm_doctor_cpus(&place, &found);
        vlm_doctor_memory(&place, 18e9, (double)INFINITY, &found);
        remove_tree(root);
        for (size_t k = 0; k < WANTS_MAX && m->wants[k].name != NULL; k++) {
            const vlm_finding *f = find(&found, m->wants[k].name);
            const char *text = m->wants[k].text, *remedy = m->wants[k].remedy;
            if ((f != NULL) != (text != NULL))
                fail_msg("machine %zu, %s: %s", i, m->wants[k].name, f ? f->text : "none");
            if (f == NULL || text == NULL) continue;
            if (strstr(f->text, text) == NULL ||
                (remedy != NULL && strstr(f->remedy, remedy) == NULL) ||
                (f->remedy[0] != '\0') != (remedy != NULL) ||
                (f->level == VLM_FINDING_WARNING) != (remedy != NULL))
                fail_msg("machine %zu, %s: %s; %s", i, f->name, f->text, f->remedy);
        }
    }
}

/* Any bytes in every file: findings or none, never a crash or a text without an end. */
static void bytes_of_any_kind(void **state)
{
    (void)state;
    static const char *const paths[] = {"/proc/self/cgroup",
                                        "/proc/meminfo",
                                        "/proc/stat",
                                        "/proc/loadavg",
                                        CPU "online",
                                        CPU "cpu0/topology/thread_siblings_list",
                                        CPU "cpu0/cpufreq/scaling_governor",
                                        CPU "cpu0/cpufreq/energy_performance_preference",
                                        NODE "has_memory",
                                        NODE "node0/cpulist",
                                        "/sys/kernel/mm/transparent_hugepage/enabled",
                                        CGROUP "/cpu.max",
                                        CGROUP "/memory.max"};
    static char large[100000];
    memset(large, '9', sizeof large - 1);
    const char *const texts[] = {"",
                                 "\n",
                                 "\xff\xfe[",
                                 "0::/",
                                 "0-99999999999",
                                 "[[[]]]",
                                 "cpu0 ",
                                 "0::/\n0-4095\nSwapTotal:",
                                 large};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char root[] = "/tmp/vlmd_doctor_XXXXXX";
        vlm_findings found = {.n = 0};
        vlm_doctor_watch watch;
        vlm_doctor_place place = {.root = root};
        assert_non_null(mkdtemp(root));
        vlm_cpu_ids_add(&place.cpus, 0);
        for (size_t k = 0; k < sizeof paths / sizeof paths[0]; k++)
            write_file(root, paths[k], texts[i]);
        vlm_doctor_watch_start(&place, &watch);
        vlm_doctor_caches(&place, &found);
        vlm_doctor_gpus(&place, &found);
        vlm_doctor_cpus(&place, &found);
        vlm_doctor_memory(&place, 18e9, (double)INFINITY, &found);
        (void)vlm_doctor_watch_stop(&place, &watch, &found);
        remove_tree(root);
        for (size_t k = 0; k < found.n; k++)
            assert_non_null(memchr(found.items[k].text, '\0', sizeof found.items[k].text));
    }
}

static void check_finding(const vlm_findings *list, const char *name, const char *text,
                          vlm_finding_level level)
{
    const vlm_finding *f = find(list, name);
    if (f == NULL)
        fail_msg("no %s", name);
    else if (strstr(f->text, text) == NULL || f->level != level)
        fail_msg("%s: %s", name, f->text);
}

static void others_beside(void **state)
{
    (void)state;
    char root[] = "/tmp/vlmd_doctor_XXXXXX";
    vlm_findings found = {.n = 0};
    vlm_doctor_watch watch;
    vlm_doctor_place place = {.root = root};
    assert_non_null(mkdtemp(root));
    assert_true(vlm_systext_cpu_list("0-1", &place.cpus));
    write_file(root, CPU "online", "0-3\n");
    write_file(root, "/proc/loadavg", "1.00 0.50 0.20 1/2 3\n");
    write_file(root, "/proc/stat",
               "cpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\n"
               "cpu2 0 0 0 0 0 0 0 0\n");
    /* Half a second later in that file, though hardly any has passed here. */
    vlm_doctor_watch_start(&place, &watch);
    assert_true(watch.started);
    write_file(root, "/proc/stat",
               "cpu0 5000 0 0 0 0 0 0 0\ncpu1 0 0 0 4000 0 0 0 1000\n"
               "cpu2 5000 0 0 0 0 0 0 0\n");
    assert_true(vlm_doctor_watch_stop(&place, &watch, &found));
    check_finding(&found, "other load",
                  "load average 1.0 on 4 CPUs; other processes used 1.0 of our 2",
                  VLM_FINDING_WARNING);
    check_finding(&found, "steal", "10%", VLM_FINDING_WARNING);
    /* No time has passed: nothing to say about it. */
    found.n = 0;
    vlm_doctor_watch_start(&place, &watch);
    assert_false(vlm_doctor_watch_stop(&place, &watch, &found));
    assert_null(find(&found, "steal"));
    check_finding(&found, "other load", "load average 1.0 on 4 CPUs", VLM_FINDING_OK);
    write_file(root, "/proc/loadavg", "4.50 0.50 0.20 1/2 3\n");
    found.n = 0;
    assert_false(vlm_doctor_watch_stop(&place, &watch, &found));
    check_finding(&found, "other load", "load average 4.5 on 4 CPUs", VLM_FINDING_WARNING);
    remove_tree(root);
}

static void too_many_findings(void **state)
{
    (void)state;
    vlm_findings list = {.n = 0};
    char large[1000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    for (int i = 0; i < VLM_FINDINGS_MAX + 5; i++) vlm_findings_add(&list, "a", large, "%s", large);
    assert_int_equal(list.n, VLM_FINDINGS_MAX);
    assert_int_equal(strlen(list.items[0].text), sizeof list.items[0].text - 1);
    assert_int_equal(strlen(list.items[0].remedy), sizeof list.items[0].remedy - 1);
}

static void tokens_a_second(void **state)
{
    (void)state;
    const vlm_speed s = {.read_bytes_s = 40e9,
                         .prompt_flop_s = {[VLM_SPEED_Q8] = 1e12},
                         .answer_flop_s = {[VLM_SPEED_Q8] = 1e12, [VLM_SPEED_Q4] = 7e9}};
    assert_float_equal((float)vlm_speed_prompt(&s, VLM_SPEED_Q8, 7e9), 1000.0f / 14.0f, 1e-3f);
    assert_float_equal((float)vlm_speed_answer(&s, VLM_SPEED_Q8, 7e9), 40.0f / 7.6125f, 1e-3f);
    assert_float_equal((float)vlm_speed_answer(&s, VLM_SPEED_Q4, 7e9), 0.5f, 1e-6f); /* kernel */
    assert_true(vlm_speed_prompt(&s, VLM_SPEED_F16, 7e9) == 0.0);
    assert_true(vlm_speed_answer(&s, VLM_SPEED_F16, 7e9) == 0.0);
    vlm_speed measured;
    vlm_speed_measure((size_t)400 << 20, &measured);
    assert_true(measured.n_threads >= 1 && measured.read_bytes_s > 0.0);
    for (int i = 0; i < VLM_N_SPEED_DTYPES; i++) {
        assert_true(measured.prompt_flop_s[i] > 0.0 && isfinite(measured.prompt_flop_s[i]));
        assert_true(measured.answer_flop_s[i] > 0.0 && isfinite(measured.answer_flop_s[i]));
    }
    /* No memory: nothing is known. */
    vlm_speed_measure(0, &measured);
    assert_true(measured.read_bytes_s == 0.0 && measured.prompt_flop_s[VLM_SPEED_F16] == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_of_files), cmocka_unit_test(bytes_of_any_kind),
        cmocka_unit_test(others_beside),     cmocka_unit_test(too_many_findings),
        cmocka_unit_test(tokens_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
