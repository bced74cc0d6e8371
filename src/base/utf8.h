/* utf8.h - UTF-8 as RFC 3629 defines it: no surrogates, nothing above U+10FFFF, shortest forms.
 * Not: normalisation or character classes (text/).  Threads: pure. */
#ifndef VLM_BASE_UTF8_H
#define VLM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VLM_UTF8_REPLACEMENT = 0xFFFD };

/* Decode the code point at text[0..len), len > 0.  Returns the bytes it takes (1..4) and puts it in
 * *cp.  For a bad sequence returns the length of its maximal bad part (Unicode 15, section 3.9,
 * "U+FFFD substitution of maximal subparts", as Python and WHATWG do) and *cp = U+FFFD with
 * *bad = true. */
size_t vlm_utf8_decode(const char *text, size_t len, uint32_t *cp, bool *bad);

/* Write cp (a Unicode scalar value) to out[4]; returns 1..4. */
size_t vlm_utf8_encode(uint32_t cp, char out[4]);

/* Offset of the first bad sequence, len if there is none. */
size_t vlm_utf8_first_bad(const char *text, size_t len);
bool vlm_utf8_valid(const char *text, size_t len);

/* How many bytes at the end of text are the beginning of a code point whose rest is still to come:
 * 0..3.  What an incremental writer must hold back. */
size_t vlm_utf8_incomplete_tail(const char *text, size_t len);

#endif
