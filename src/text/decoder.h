/* decoder.h - from token strings back to text: the chain of a "decoder" object of tokenizer.json,
 * fed token by token.  Text comes out as soon as it is certain; what is pushed and flushed is
 * together what the library's decoder makes of the whole list.
 * Not: ids, and which tokens are left out (tokenizer.h).
 * Threads: a chain is built by one, then read by many; a state belongs to one. */
#ifndef VLM_TEXT_DECODER_H
#define VLM_TEXT_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/status.h"
#include "text/regex.h"

typedef enum vlm_decode_kind {
    VLM_DECODE_REPLACE,
    VLM_DECODE_BYTE_FALLBACK, /* runs of <0xXX> become text */
    VLM_DECODE_FUSE,          /* all tokens become one */
    VLM_DECODE_STRIP,
    VLM_DECODE_BYTE_LEVEL, /* stand-ins become bytes; all tokens become one */
    VLM_DECODE_METASPACE,
    VLM_DECODE_SUFFIX, /* a word's last piece ends with `find` */
} vlm_decode_kind;

typedef struct vlm_decode_step {
    vlm_decode_kind kind;
    bool in_parts; /* tokens arrive in parts, as a step before made them one */
    bool collects; /* needs the whole token before it can start */
    vlm_regex *regex;
    vlm_buf find, put;     /* REPLACE, STRIP (find is one character), METASPACE, SUFFIX */
    size_t n_start, n_end; /* STRIP: how many at each end */
    bool first_only;       /* STRIP: only of the first token */
    bool by_char;     /* BYTE_FALLBACK: each good character of a run counts, as in SentencePiece */
    bool drops_first; /* METASPACE: the first token loses them */
} vlm_decode_step;

enum { VLM_DECODE_STEPS_MAX = 16 };

/* Zero-initialise before use. */
typedef struct vlm_decoder {
    vlm_decode_step steps[VLM_DECODE_STEPS_MAX];
    size_t n;
    bool joins_with_space; /* no decoder: tokens with spaces between */
} vlm_decoder;
void vlm_decoder_fini(vlm_decoder *decoder);
/* UNIMPLEMENTED names a type that is not supported.  null: tokens joined by spaces. */
VLM_MUST_USE vlm_status vlm_decoder_load(vlm_decoder *decoder, const vlm_json *node,
                                         vlm_error *err);
/* A step of another file's chain; find and put may be empty. */
VLM_MUST_USE vlm_status vlm_decoder_add(vlm_decoder *decoder, vlm_decode_kind kind,
                                        const char *find, const char *put, vlm_error *err);

typedef struct vlm_decode_step_state {
    vlm_buf held;    /* bytes or a token not yet passed on */
    vlm_buf spare;   /* to hold while what was held is passed on */
    size_t n_tokens; /* that arrived */
    size_t n_start;  /* STRIP: still to take away */
    size_t n_held;   /* STRIP: characters held back in case the text ends there */
    bool has_held;
    bool has_put; /* something was passed on */
} vlm_decode_step_state;

typedef struct vlm_decoder_state {
    const vlm_decoder *decoder;
    vlm_decode_step_state steps[VLM_DECODE_STEPS_MAX];
    vlm_buf work[VLM_DECODE_STEPS_MAX];
    vlm_regex_scratch *regex;
    size_t n_tokens;
} vlm_decoder_state;
void vlm_decoder_state_init(vlm_decoder_state *state, const vlm_decoder *decoder);
void vlm_decoder_state_fini(vlm_decoder_state *state);
void vlm_decoder_state_reset(vlm_decoder_state *state);
/* Room for n_bytes in each step. */
VLM_MUST_USE vlm_status vlm_decoder_state_reserve(vlm_decoder_state *state, size_t n_bytes,
                                                  vlm_error *err);
VLM_MUST_USE vlm_status vlm_decoder_push(vlm_decoder_state *state, vlm_bytes token, vlm_buf *out,
                                         vlm_error *err);
VLM_MUST_USE vlm_status vlm_decoder_flush(vlm_decoder_state *state, vlm_buf *out, vlm_error *err);

/* Append the bytes of one token as it is anywhere but at an end of a text; not always whole code
 * points.  state: newly begun; only its memory is used. */
VLM_MUST_USE vlm_status vlm_decoder_token_bytes(vlm_decoder_state *state, vlm_bytes token,
                                                vlm_buf *out, vlm_error *err);

#endif
