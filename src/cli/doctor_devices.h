/* doctor_devices.h - caches of the CPU and graphics processors, as /sys and /proc tell of them.
 * Not: using a graphics processor.  Threads: one. */
#ifndef VLM_CLI_DOCTOR_DEVICES_H
#define VLM_CLI_DOCTOR_DEVICES_H

#include "cli/doctor_system.h"

/* "caches": of the first CPU that this process may run on. */
void vlm_doctor_caches(const vlm_doctor_place *place, vlm_findings *out);
/* "gpu": those on the PCI bus, by name where a driver tells it. */
void vlm_doctor_gpus(const vlm_doctor_place *place, vlm_findings *out);

#endif
