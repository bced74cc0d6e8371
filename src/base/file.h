/* file.h - whole files, read or mapped read-only.
 * Not: writing in place, or anything about their content.  Threads: a map may be read by many. */
#ifndef VLM_BASE_FILE_H
#define VLM_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

/* A regular file mapped read-only and shared.  data is NULL for an empty file. */
typedef struct vlm_map {
    const void *data;
    size_t len; /* bytes */
} vlm_map;

/* Error texts name the file by `name`, not by path.  NOT_FOUND, PERMISSION_DENIED,
 * INVALID_ARGUMENT for something that is not a regular file, RESOURCE_EXHAUSTED, UNAVAILABLE. */
VLM_MUST_USE vlm_status vlm_map_open(const char *path, const char *name, vlm_map *map,
                                     vlm_error *err);
void vlm_map_close(vlm_map *map);
/* The whole pages of a part of a map are not needed for now: they no longer count as memory of
 * this process, and are read again when touched. */
void vlm_map_forget(const void *data, size_t len);

/* Read a regular file of at most len_max bytes into buf (initialised by this call). */
VLM_MUST_USE vlm_status vlm_file_read(const char *path, const char *name, size_t len_max,
                                      vlm_buf *buf, vlm_error *err);

/* Read a descriptor (a pipe, say) to its end. */
VLM_MUST_USE vlm_status vlm_fd_read(int fd, const char *name, size_t len_max, vlm_buf *buf,
                                    vlm_error *err);

/* Write all bytes to a descriptor, going on after short writes and interruptions. */
VLM_MUST_USE vlm_status vlm_fd_write(int fd, const char *name, const void *data, size_t len,
                                     vlm_error *err);

bool vlm_path_is_dir(const char *path);
bool vlm_path_is_file(const char *path);

#endif
