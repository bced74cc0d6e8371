/* regex.h - the regular expressions of tokenizer files (Oniguruma's Ruby syntax) on PCRE2.
 * What PCRE2 would silently read in another way is refused by name.
 * Not: general matching; only a walk over all matches of one text.
 * Threads: a regex is immutable after new; a scratch belongs to one. */
#ifndef VLM_TEXT_REGEX_H
#define VLM_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct vlm_regex vlm_regex;

/* INVALID_ARGUMENT for a pattern that is wrong, UNIMPLEMENTED for one that PCRE2 reads otherwise.
 */
VLM_MUST_USE vlm_status vlm_regex_new(vlm_bytes pattern, vlm_regex **out, vlm_error *err);
void vlm_regex_free(vlm_regex *regex);

/* regex_syntax.c: append the pattern as PCRE2 has to see it. */
VLM_MUST_USE vlm_status vlm_regex_translate(vlm_bytes pattern, vlm_buf *out, vlm_error *err);

/* What matching needs for itself; one serves many regexes. */
typedef struct vlm_regex_scratch vlm_regex_scratch;
VLM_MUST_USE vlm_status vlm_regex_scratch_new(vlm_regex_scratch **out, vlm_error *err);
void vlm_regex_scratch_free(vlm_regex_scratch *scratch);

/* A copy of text in which PCRE2 sees what the library sees: characters newer than PCRE2's Unicode,
 * and U+180E which it counts as white space, are replaced by others of their category and length
 * (vlm_unicode_older).  *out is text itself when nothing has to be replaced, else it lies in
 * scratch until the next call.  text is well-formed UTF-8. */
VLM_MUST_USE vlm_status vlm_regex_view(vlm_regex_scratch *scratch, vlm_bytes text, vlm_bytes *out,
                                       vlm_error *err);

/* The walk: set pos and last_end to 0 and SIZE_MAX first.  text is a view. */
typedef struct vlm_regex_walk {
    size_t pos, last_end;
} vlm_regex_walk;
/* The next match; an empty one right behind the last match is passed over.  *found false: no more.
 * RESOURCE_EXHAUSTED when the pattern exceeds its limits on this text. */
VLM_MUST_USE vlm_status vlm_regex_next(const vlm_regex *regex, vlm_regex_scratch *scratch,
                                       vlm_bytes text, vlm_regex_walk *walk, size_t *begin,
                                       size_t *end, bool *found, vlm_error *err);

#endif
