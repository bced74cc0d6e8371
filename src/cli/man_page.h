/* man_page.h - the manual page vlmd.1, from a hand-written frame and the tables of options.h.
 * Not: in the program; tools/make_man.c calls it while vlmd is built.  Threads: pure. */
#ifndef VLM_CLI_MAN_PAGE_H
#define VLM_CLI_MAN_PAGE_H

#include "base/buf.h"
#include "base/status.h"

/* Append the frame, in which a line "@COMMANDS@" or "@OPTIONS@" stands for the tables and @VERSION@
 * anywhere for the version.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_man_page(vlm_bytes frame, vlm_buf *page, vlm_error *err);

#endif
