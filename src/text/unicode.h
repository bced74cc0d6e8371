/* unicode.h - classes of characters as the `tokenizers` library sees them.
 * Not: normalisation (normalizer.h).  Threads: pure. */
#ifndef VLM_TEXT_UNICODE_H
#define VLM_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* General category: L*, N*, M*, P*, and the White_Space property. */
bool vlm_unicode_is_letter(uint32_t cp);
bool vlm_unicode_is_number(uint32_t cp);
bool vlm_unicode_is_mark(uint32_t cp);
/* P as of Unicode 8, which is what the library's Punctuation knows, and what ASCII has of S. */
bool vlm_unicode_is_punctuation(uint32_t cp);
/* Nd, Nl, No as of Unicode 17: the library's Digits. */
bool vlm_unicode_is_numeric(uint32_t cp);
bool vlm_unicode_is_space(uint32_t cp);
/* cp, or for a character that PCRE2 10.42 does not know an older one of its category and UTF-8
 * length. */
uint32_t vlm_unicode_older(uint32_t cp);
/* Letters, marks, decimal digits, connectors and joiners: \w of Rust's regex crate. */
bool vlm_unicode_is_word(uint32_t cp);

/* Bytes of white space at the beginning and at the end of a UTF-8 text. */
size_t vlm_unicode_leading_space(vlm_bytes text);
size_t vlm_unicode_trailing_space(vlm_bytes text);

#endif
