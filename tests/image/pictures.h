/* pictures.h - what the tests of image/ share: test files, and a digest of pixels. */
#ifndef VLM_TESTS_IMAGE_PICTURES_H
#define VLM_TESTS_IMAGE_PICTURES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "image/image.h"

/* FNV-1a, 64 bits. */
static inline uint64_t digest(const void *data, size_t len)
{
    const uint8_t *const bytes = data;
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < len; i++) h = (h ^ bytes[i]) * 0x100000001b3;
    return h;
}

static inline uint64_t digest_image(const vlm_image *image)
{
    return digest(image->rgb, (size_t)image->width * image->height * 3);
}

/* A file of tests/data/image; the caller frees it with vlm_buf_fini. */
static inline vlm_buf read_picture(const char *name)
{
    char path[1024];
    vlm_buf buf;
    vlm_error err = {0};
    (void)snprintf(path, sizeof path, "%s/image/%s", VLM_TEST_DATA, name);
    if (vlm_file_read(path, name, (size_t)1 << 20, &buf, &err) != VLM_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return buf;
}

#endif
