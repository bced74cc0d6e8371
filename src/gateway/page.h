/* page.h - the page at /: one file of HTML, CSS and JavaScript inside the program, and the fields
 * it is sent with.  A browser runs no script and applies no style but those in the file, each
 * allowed by its digest, and talks to nobody but this server.
 * Not: a template; the file is sent as it is.  Threads: the loop's. */
#ifndef VLM_GATEWAY_PAGE_H
#define VLM_GATEWAY_PAGE_H

#include "base/buf.h"
#include "base/status.h"
#include "gateway/client.h"

typedef struct vlm_page vlm_page;

/* page/index.html (cmake/embed.cmake). */
extern const vlm_bytes vlm_page_file;

/* html outlives the page.  INTERNAL: a script or a style in it does not end, or there are too many.
 * RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_page_new(vlm_bytes html, vlm_page **out, vlm_error *err);
void vlm_page_free(vlm_page *p);

/* The whole file, or 304 when if_none_match, the value of that field or NULL, names it.  Points
 * into p. */
vlm_response vlm_page_answer(const vlm_page *p, const vlm_bytes *if_none_match);

#endif
