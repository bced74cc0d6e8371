/* The other files that hold a vocabulary.  First byte: 0 tokenizer.model, 1 tekken.json, 2
 * tiktoken, 3 tokenizer_config.json and 4 added_tokens.json beside a small tokenizer.json.  The
 * bytes are the text as well. */
#include "fuzz/fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0 || len > 1 << 16) return 0;
    const vlm_bytes content = {(const char *)data + 1, len - 1};
    const vlm_bytes json = vlm_bytes_of(
        "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<s>\":3},\"merges\":[\"a b\"]}}");
    vlm_tokenizer_files files = {0};
    switch (data[0] % 5) {
    case 0: files.tokenizer_model = content; break;
    case 1: files.tekken_json = content; break;
    case 2: files.tiktoken = content; break;
    case 3:
        files.tokenizer_json = json;
        files.tokenizer_config = content;
        break;
    default:
        files.tokenizer_json = json;
        files.added_tokens = content;
        break;
    }
    vlm_tokenizer *tok = NULL;
    vlm_error err = {0};
    if (vlm_tokenizer_new(&files, &tok, &err) != VLM_OK) {
        FUZZ_CHECK(tok == NULL && err.msg[0] != '\0');
        return 0;
    }
    for (size_t i = 0; i < vlm_tokenizer_n_specials(tok); i++) {
        vlm_bytes name, text;
        vlm_tokenizer_special_at(tok, i, &name, &text);
        FUZZ_CHECK(name.len > 0 && text.len > 0);
    }
    fuzz_check_text(tok, (vlm_bytes){content.ptr, content.len < 1024 ? content.len : 1024});
    fuzz_check_ids(tok, data, len);
    vlm_tokenizer_free(tok);
    return 0;
}
