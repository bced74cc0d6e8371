/* mock_text.h - words, faults and answers of the mock engine (mock.h), apart from its clockwork.
 * Threads: a vocabulary may be used by several; the rest is pure. */
#ifndef VLM_WORKER_MOCK_TEXT_H
#define VLM_WORKER_MOCK_TEXT_H

#include "engine/engine.h"

enum { VLM_MOCK_VOCAB_SIZE = 1 << 16 };

typedef struct vlm_mock_faults {
    bool crash, hang, stall, has_slow;
    uint32_t slow_ms;
    vlm_status error; /* VLM_OK: none */
} vlm_mock_faults;

/* Words in all texts of a request, and pictures. */
void vlm_mock_count(const vlm_request *r, uint64_t *n_words, uint64_t *n_images);

/* The answer to the last user message; with with_faults its cues are read into *faults.
 * INVALID_ARGUMENT for a cue that cannot be read; RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_mock_answer(const vlm_request *r, bool with_faults,
                                        vlm_mock_faults *faults, vlm_buf *answer, vlm_error *err);

/* A word with the spaces before it, and those behind it when it is the last; *pos moves on. */
vlm_bytes vlm_mock_word(vlm_bytes text, size_t *pos);
uint32_t vlm_mock_n_words(vlm_bytes text);

/* The id of a word of an answer: a hash. */
uint32_t vlm_mock_word_id(vlm_bytes word);

/* For Tokenize and Detokenize: words get their ids in the order in which they come, until
 * VLM_MOCK_VOCAB_SIZE; further ones share the last. */
typedef struct vlm_mock_vocab vlm_mock_vocab;
VLM_MUST_USE vlm_status vlm_mock_vocab_new(vlm_mock_vocab **out, vlm_error *err);
void vlm_mock_vocab_free(vlm_mock_vocab *v);
/* *ids is malloc'ed. */
VLM_MUST_USE vlm_status vlm_mock_tokenize(vlm_mock_vocab *v, vlm_bytes text, uint32_t **ids,
                                          size_t *n, vlm_error *err);
VLM_MUST_USE vlm_status vlm_mock_detokenize(vlm_mock_vocab *v, const uint32_t *ids, size_t n,
                                            vlm_buf *out, vlm_error *err);

#endif
