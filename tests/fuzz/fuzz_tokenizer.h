/* fuzz_tokenizer.h - what must hold for any tokenizer and any text. */
#ifndef VLM_TESTS_FUZZ_TOKENIZER_H
#define VLM_TESTS_FUZZ_TOKENIZER_H

#include <string.h>

#include "base/utf8.h"
#include "fuzz/fuzz.h"
#include "text/tokenizer.h"

static inline void fuzz_check_stream(const vlm_tokenizer *tok, const vlm_ids *ids)
{
    vlm_error err;
    vlm_buf whole, parts;
    vlm_detok *detok = NULL;
    vlm_buf_init(&whole, (size_t)1 << 26);
    vlm_buf_init(&parts, (size_t)1 << 26);
    if (vlm_tokenizer_decode(tok, ids->data, ids->len, true, &whole, &err) == VLM_OK) {
        FUZZ_CHECK(vlm_detok_new(tok, &detok, &err) == VLM_OK);
        for (size_t i = 0; i < ids->len; i++) {
            const size_t len = parts.len;
            FUZZ_CHECK(vlm_detok_push(detok, ids->data[i], &parts, &err) == VLM_OK);
            FUZZ_CHECK(parts.len == len || vlm_utf8_valid(parts.data + len, parts.len - len));
        }
        FUZZ_CHECK(vlm_detok_flush(detok, &parts, &err) == VLM_OK);
        FUZZ_CHECK(parts.len == whole.len);
        FUZZ_CHECK(parts.len == 0 || memcmp(parts.data, whole.data, parts.len) == 0);
        vlm_detok_free(detok);
    }
    vlm_buf_fini(&whole);
    vlm_buf_fini(&parts);
}

/* Encode and decode: ids exist, nothing special comes out of a user's text, and text that is
 * streamed is the text that is decoded at once. */
static inline void fuzz_check_text(const vlm_tokenizer *tok, vlm_bytes text)
{
    const uint32_t n_vocab = vlm_tokenizer_n_vocab(tok);
    vlm_error err;
    for (unsigned flags = 0; flags < 4; flags++) {
        const vlm_span all = {0, text.len};
        const vlm_encode_options opt = {.add_special = flags == 1,
                                        .plain = flags == 2,
                                        .user_spans = &all,
                                        .n_user_spans = flags == 3};
        vlm_ids ids = {0};
        if (vlm_tokenizer_encode(tok, text, &opt, &ids, &err) == VLM_OK) {
            for (size_t i = 0; i < ids.len; i++) FUZZ_CHECK(ids.data[i] < n_vocab);
            fuzz_check_stream(tok, &ids);
        } else {
            FUZZ_CHECK(ids.len == 0 && err.msg[0] != '\0');
        }
        vlm_ids_fini(&ids);
    }
}

/* Half the bytes as ids, so that the decoder sees what no encoder writes. */
static inline void fuzz_check_ids(const vlm_tokenizer *tok, const uint8_t *data, size_t len)
{
    vlm_ids ids = {0};
    vlm_error err;
    for (size_t i = 0; i + 1 < len && i < 512; i += 2) {
        const uint32_t id = (uint32_t)data[i] << 8 | data[i + 1];
        FUZZ_CHECK(vlm_ids_append(&ids, id % (vlm_tokenizer_n_vocab(tok) + 2), &err) == VLM_OK);
    }
    fuzz_check_stream(tok, &ids);
    vlm_ids_fini(&ids);
}

#endif
