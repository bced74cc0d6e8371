/* notify.h - tells systemd how a service is, by the datagrams that sd_notify(3) documents; silent
 * when nobody asked for them (NOTIFY_SOCKET is not set).  Threads: any. */
#ifndef VLM_BASE_NOTIFY_H
#define VLM_BASE_NOTIFY_H

#include <stdint.h>

/* "READY=1", "STOPPING=1", "WATCHDOG=1", ... */
void vlm_notify(const char *state);

/* Nanoseconds between two WATCHDOG=1 that keep the service alive: half of what systemd waits
 * (WATCHDOG_USEC); 0 when it does not watch this process. */
uint64_t vlm_notify_watchdog_ns(void);

#endif
