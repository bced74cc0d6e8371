#include "cli/doctor_devices.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_LEN = 256, PATH_LEN = 512, LINE_LEN = 200, CACHES_MAX = 8 };

static void cut_line(char *text)
{
    text[strcspn(text, "\n")] = '\0';
}

/* "32768K" as "32 MiB"; what is not understood stays as it is. */
static void write_size(const char *text, char *out, size_t len)
{
    char *end;
    const unsigned long n = strtoul(text, &end, 10);
    if (strcmp(end, "K") == 0 && n >= 1024 && n % 1024 == 0)
        (void)snprintf(out, len, "%lu MiB", n / 1024);
    else if (strcmp(end, "K") == 0)
        (void)snprintf(out, len, "%lu KiB", n);
    else
        (void)snprintf(out, len, "%.24s", text);
}

void vlm_doctor_caches(const vlm_doctor_place *place, vlm_findings *out)
{
    const uint32_t cpu = vlm_cpu_ids_next(&place->cpus, 0);
    char line[LINE_LEN] = "", level[TEXT_LEN], type[TEXT_LEN], size[TEXT_LEN], shown[32];
    size_t len = 0;
    for (int i = 0; i < CACHES_MAX && len < sizeof line; i++) {
        static const char dir[] = "/sys/devices/system/cpu/cpu%u/cache/index%d/%s";
        if (!vlm_doctor_read(place, level, sizeof level, dir, cpu, i, "level") ||
            !vlm_doctor_read(place, type, sizeof type, dir, cpu, i, "type") ||
            !vlm_doctor_read(place, size, sizeof size, dir, cpu, i, "size"))
            break;
        cut_line(level);
        cut_line(type);
        cut_line(size);
        if (strcmp(type, "Instruction") == 0) continue;
        write_size(size, shown, sizeof shown);
        len += (size_t)snprintf(line + len, sizeof line - len, "%sL%.4s %s", len == 0 ? "" : ", ",
                                level, shown);
    }
    if (line[0] != '\0') vlm_findings_add(out, "caches", "", "%s", line);
}

static const char *maker_of(const char *vendor)
{
    static const char *const makers[][2] = {
        {"0x10de", "NVIDIA"}, {"0x1002", "AMD"}, {"0x8086", "Intel"}};
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        if (strncmp(vendor, makers[i][0], 6) == 0) return makers[i][1];
    return NULL;
}

/* The name that NVIDIA's driver gives the device at this address; false when it says none. */
static bool nvidia_name(const vlm_doctor_place *place, const char *address, char *out, size_t len)
{
    char text[TEXT_LEN];
    if (!vlm_doctor_read(place, text, sizeof text, "/proc/driver/nvidia/gpus/%s/information",
                         address))
        return false;
    const char *model = strstr(text, "Model:");
    if (model == NULL) return false;
    model += sizeof "Model:" - 1;
    model += strspn(model, " \t");
    (void)snprintf(out, len, "%.*s", (int)strcspn(model, "\n"), model);
    return true;
}

void vlm_doctor_gpus(const vlm_doctor_place *place, vlm_findings *out)
{
    char path[PATH_LEN], line[LINE_LEN] = "";
    size_t len = 0;
    if (snprintf(path, sizeof path, "%s/sys/bus/pci/devices", place->root) >= (int)sizeof path)
        return;
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir != NULL && len < sizeof line && (e = readdir(dir)) != NULL;) {
        static const char file[] = "/sys/bus/pci/devices/%s/%s";
        char class[TEXT_LEN], vendor[TEXT_LEN], name[64];
        if (e->d_name[0] == '.' || strlen(e->d_name) > 64 ||
            !vlm_doctor_read(place, class, sizeof class, file, e->d_name, "class") ||
            strncmp(class, "0x03", 4) != 0 || /* display controllers */
            !vlm_doctor_read(place, vendor, sizeof vendor, file, e->d_name, "vendor"))
            continue;
        const char *maker = maker_of(vendor);
        if (maker == NULL) continue; /* the screens of virtual machines */
        if (!nvidia_name(place, e->d_name, name, sizeof name))
            (void)snprintf(name, sizeof name, "%s", maker);
        len += (size_t)snprintf(line + len, sizeof line - len, "%s%s", len == 0 ? "" : ", ", name);
    }
    if (dir != NULL) (void)closedir(dir);
    if (line[0] == '\0')
        vlm_findings_add(out, "gpu", "", "none; the CPU computes");
    else
        vlm_findings_add(out, "gpu", "", "%s: not used yet, the CPU computes", line);
}
