/* make_man.c - prints the manual page: make_man FRAME >vlmd.1.  Runs while vlmd is built. */
#include <stdio.h>

#include "base/file.h"
#include "cli/man_page.h"

enum { LEN_MAX = 1 << 20 };

int main(int argc, char **argv)
{
    vlm_error err;
    vlm_buf frame, page;
    if (argc != 2) {
        (void)fputs("usage: make_man FRAME\n", stderr);
        return 2;
    }
    vlm_buf_init(&page, LEN_MAX);
    vlm_status status = vlm_file_read(argv[1], argv[1], LEN_MAX, &frame, &err);
    if (status == VLM_OK) {
        status = vlm_man_page(vlm_buf_bytes(&frame), &page, &err);
        vlm_buf_fini(&frame);
    }
    if (status != VLM_OK) {
        (void)fprintf(stderr, "make_man: %s\n", err.msg);
    } else if (fwrite(page.data, 1, page.len, stdout) != page.len || fflush(stdout) != 0) {
        (void)fputs("make_man: cannot write\n", stderr);
        status = VLM_INTERNAL;
    }
    vlm_buf_fini(&page);
    return status == VLM_OK ? 0 : 1;
}
