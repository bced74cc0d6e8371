/* mock_text.h - words, faults and answers of the mock engine (mock.h), apart from its clockwork.
 * Threads: a vocabulary may be used by several; the rest is pure. */
#ifndef VLM_WORKER_MOCK_TEXT_H
#define VLM_WORKER_MOCK_TEXT_H

#include "base/sha256.h"
#include "engine/engine.h"

enum { VLM_MOCK_VOCAB_SIZE = 1 << 16 };

typedef struct vlm_mock_faults {
    bool crash, hang, stall, has_slow;
    uint32_t slow_ms;
    vlm_status error; /* VLM_OK: none */
} vlm_mock_faults;

/* vlm_pictures of the mock engine: what an answer says of each. */
typedef struct vlm_mock_pictures {
    uint32_t n, n_max;
    struct {
        uint32_t width, height;
        uint8_t digest[VLM_SHA256_LEN]; /* of the RGB8 pixels */
    } list[VLM_REQUEST_IMAGES_MAX];
} vlm_mock_pictures;

/* INVALID_ARGUMENT: the set is full. */
VLM_MUST_USE vlm_status vlm_mock_add_picture(vlm_mock_pictures *set, const vlm_image *image,
                                             vlm_error *err);

/* Words in all texts of a request, and picture parts. */
void vlm_mock_count(const vlm_request *r, uint64_t *n_words, uint64_t *n_images);

/* The answer to the last user message of a request with as many pictures as picture parts; with
 * with_faults its cues are read into *faults.
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
