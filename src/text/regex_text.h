/* regex_text.h - a copy of a text in which PCRE2 10.42 sees what the `tokenizers` library sees.
 * That library knows Unicode 16, PCRE2 Unicode 14: a character assigned since then is replaced by
 * an older one of the same category and length.  U+180E, which PCRE2 counts as white space and the
 * library does not, is replaced likewise.
 * Threads: pure. */
#ifndef VLM_TEXT_REGEX_TEXT_H
#define VLM_TEXT_REGEX_TEXT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* *out is text itself when nothing has to be replaced, else the content of copy (cleared first), of
 * the same length.  text is well-formed UTF-8. */
VLM_MUST_USE vlm_status vlm_regex_text(vlm_bytes text, vlm_buf *copy, vlm_bytes *out,
                                       vlm_error *err);

#endif
