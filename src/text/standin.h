/* standin.h - the 256 printable characters that byte-level vocabularies write bytes with: a byte
 * that is printable in Latin-1 stands for itself, the others for U+0100 and on, in order
 * (bytes_to_unicode of GPT-2's encoder.py).  Threads: pure. */
#ifndef VLM_TEXT_STANDIN_H
#define VLM_TEXT_STANDIN_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* The code point that stands for a byte: U+0021..U+0143. */
uint32_t vlm_standin_of_byte(uint8_t byte);
/* The byte that a code point stands for, -1 if it is no stand-in. */
int vlm_standin_to_byte(uint32_t cp);
/* Append the stand-ins of bytes, as UTF-8. */
VLM_MUST_USE vlm_status vlm_standin_append(vlm_buf *buf, vlm_bytes bytes, vlm_error *err);

#endif
