#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static vlm_status fail_errno(vlm_error *err, const char *name, const char *verb)
{
    const int code = errno;
    vlm_status status = VLM_UNAVAILABLE;
    if (code == ENOENT || code == ENOTDIR) status = VLM_NOT_FOUND;
    if (code == EACCES || code == EPERM) status = VLM_PERMISSION_DENIED;
    if (code == ENOMEM || code == EMFILE || code == ENFILE || code == ENOSPC)
        status = VLM_RESOURCE_EXHAUSTED;
    char text[128];
    return vlm_fail(err, status, "%s: cannot %s: %s", name, verb,
                    strerror_r(code, text, sizeof text));
}

static vlm_status open_regular(const char *path, const char *name, int *fd, size_t *len,
                               vlm_error *err)
{
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (*fd < 0) return fail_errno(err, name, "open");
    struct stat st;
    if (fstat(*fd, &st) != 0) {
        const vlm_status status = fail_errno(err, name, "examine");
        close(*fd);
        return status;
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: not a regular file", name);
    }
    *len = (size_t)st.st_size;
    return VLM_OK;
}

vlm_status vlm_map_open(const char *path, const char *name, vlm_map *map, vlm_error *err)
{
    *map = (vlm_map){0};
    int fd;
    size_t len = 0;
    VLM_TRY(open_regular(path, name, &fd, &len, err));
    vlm_status status = VLM_OK;
    if (len > 0) {
        void *data = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
            status = fail_errno(err, name, "map");
        else
            *map = (vlm_map){.data = data, .len = len};
    }
    close(fd);
    return status;
}

void vlm_map_close(vlm_map *map)
{
    if (map->data != NULL) (void)munmap((void *)(uintptr_t)map->data, map->len);
    *map = (vlm_map){0};
}

void vlm_map_forget(const void *data, size_t len)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)data + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)data + len) / page * page;
    if (begin < end) (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

vlm_status vlm_fd_read(int fd, const char *name, size_t len_max, vlm_buf *buf, vlm_error *err)
{
    /* One byte more than allowed, so that a file of exactly len_max bytes still sees its end. */
    vlm_buf_init(buf, len_max == SIZE_MAX ? len_max : len_max + 1);
    for (;;) {
        const size_t room = buf->len_max - buf->len;
        if (room == 0) break;
        const size_t chunk = room < 65536 ? room : 65536;
        const vlm_status status = vlm_buf_reserve(buf, chunk, err);
        if (status != VLM_OK) {
            vlm_buf_fini(buf);
            return status;
        }
        const ssize_t n = read(fd, buf->data + buf->len, chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const vlm_status failed = fail_errno(err, name, "read");
            vlm_buf_fini(buf);
            return failed;
        }
        if (n == 0) break;
        buf->len += (size_t)n;
        buf->data[buf->len] = '\0';
    }
    buf->len_max = len_max;
    if (buf->len <= len_max) return VLM_OK;
    vlm_buf_fini(buf);
    return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%s: larger than %zu bytes", name, len_max);
}

vlm_status vlm_file_read(const char *path, const char *name, size_t len_max, vlm_buf *buf,
                         vlm_error *err)
{
    vlm_buf_init(buf, len_max);
    int fd;
    size_t len = 0;
    VLM_TRY(open_regular(path, name, &fd, &len, err));
    vlm_status status;
    if (len > len_max)
        status = vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "%s: larger than %zu bytes", name, len_max);
    else
        status = vlm_fd_read(fd, name, len_max, buf, err);
    close(fd);
    return status;
}

vlm_status vlm_fd_write(int fd, const char *name, const void *data, size_t len, vlm_error *err)
{
    const char *next = data;
    while (len > 0) {
        const ssize_t n = write(fd, next, len < SSIZE_MAX ? len : SSIZE_MAX);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(err, name, "write");
        next += n;
        len -= (size_t)n;
    }
    return VLM_OK;
}

bool vlm_path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool vlm_path_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}
