/* tokenizer.json, and behind the first NUL byte a text for it. */
#include "fuzz/fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *nul = len == 0 ? NULL : memchr(data, '\0', len);
    const size_t n_json = nul == NULL ? len : (size_t)(nul - data);
    const uint8_t *rest = nul == NULL ? data : nul + 1;
    const size_t n_rest = nul == NULL ? len : len - n_json - 1;
    if (n_json > 1 << 16 || n_rest > 1 << 12) return 0;
    const vlm_tokenizer_files files = {.tokenizer_json = {(const char *)data, n_json}};
    vlm_tokenizer *tok = NULL;
    vlm_error err = {0};
    if (vlm_tokenizer_new(&files, &tok, &err) != VLM_OK) {
        FUZZ_CHECK(tok == NULL && err.msg[0] != '\0');
        return 0;
    }
    fuzz_check_text(tok, (vlm_bytes){(const char *)rest, n_rest});
    fuzz_check_ids(tok, rest, n_rest);
    vlm_tokenizer_free(tok);
    return 0;
}
