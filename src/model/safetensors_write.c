/* safetensors_write.c - the writing half of safetensors.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "model/safetensors.h"

enum { HEADER_WRITE_LEN_MAX = 16 << 20, PATH_LEN_MAX = 4096 };

static vlm_status append_header(vlm_buf *header, const vlm_st_tensor *tensors, size_t n,
                                vlm_error *err)
{
    uint64_t at = 0;
    VLM_TRY(vlm_buf_append_str(header, "{", err));
    for (size_t i = 0; i < n; i++) {
        const vlm_st_tensor *t = &tensors[i];
        if (i > 0) VLM_TRY(vlm_buf_append_str(header, ",", err));
        VLM_TRY(vlm_json_append_string(header, vlm_bytes_of(t->name), err));
        VLM_TRY(vlm_buf_printf(header, err, ":{\"dtype\":\"%s\",\"shape\":[", t->dtype_name));
        for (uint32_t k = 0; k < t->rank; k++)
            VLM_TRY(vlm_buf_printf(header, err, "%s%llu", k > 0 ? "," : "",
                                   (unsigned long long)t->shape[k]));
        VLM_TRY(vlm_buf_printf(header, err, "],\"data_offsets\":[%llu,%llu]}",
                               (unsigned long long)at, (unsigned long long)(at + t->n_bytes)));
        at += t->n_bytes;
    }
    VLM_TRY(vlm_buf_append_str(header, "}", err));
    /* Data begins at a multiple of 64 bytes of the file, as packed weights want it. */
    while (header->len % 64 != 56) VLM_TRY(vlm_buf_append_str(header, " ", err));
    return VLM_OK;
}

static vlm_status write_all(int fd, const char *path, const vlm_st_tensor *tensors, size_t n,
                            vlm_error *err)
{
    vlm_buf header;
    vlm_buf_init(&header, HEADER_WRITE_LEN_MAX);
    vlm_status status = append_header(&header, tensors, n, err);
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.len >> (8 * i));
    if (status == VLM_OK) status = vlm_fd_write(fd, path, length, sizeof length, err);
    if (status == VLM_OK) status = vlm_fd_write(fd, path, header.data, header.len, err);
    for (size_t i = 0; i < n && status == VLM_OK; i++)
        status = vlm_fd_write(fd, path, tensors[i].data, (size_t)tensors[i].n_bytes, err);
    vlm_buf_fini(&header);
    return status;
}

/* Creates and fills path, which is written as shown. */
static vlm_status write_file(const char *path, const char *shown, const vlm_st_tensor *tensors,
                             size_t n, vlm_error *err)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        const bool denied = errno == EACCES || errno == EPERM;
        return vlm_fail(err, denied ? VLM_PERMISSION_DENIED : VLM_UNAVAILABLE,
                        "%s: cannot be created", shown);
    }
    vlm_status status = write_all(fd, shown, tensors, n, err);
    /* Before it gets its name: after a power cut a file is whole or not there. */
    if (status == VLM_OK) (void)fdatasync(fd);
    if (close(fd) != 0 && status == VLM_OK)
        status = vlm_fail(err, VLM_UNAVAILABLE, "%s: cannot be written", shown);
    return status;
}

vlm_status vlm_safetensors_write(const char *path, const vlm_st_tensor *tensors, size_t n,
                                 vlm_error *err)
{
    /* A device, a pipe or a link is written to; only a plain file is replaced. */
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return write_file(path, path, tensors, n, err);

    char partial[PATH_LEN_MAX];
    const int len = snprintf(partial, sizeof partial, "%s.partial-%ld", path, (long)getpid());
    if (len < 0 || (size_t)len >= sizeof partial)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the output's path is too long");
    vlm_status status = write_file(partial, path, tensors, n, err);
    if (status == VLM_OK && rename(partial, path) != 0)
        status = vlm_fail(err, VLM_UNAVAILABLE, "%s: cannot be replaced", path);
    if (status != VLM_OK) (void)unlink(partial);
    return status;
}
