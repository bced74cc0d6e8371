/* Any text through fixed tokenizers: byte-level ones give valid text back as it was, a user's text
 * never becomes a special token, and cutting a text at a user's border changes nothing else. */
#include "fuzz/fuzz_tokenizer.h"

#define VOCAB_TAIL "\"ab\":300,\"abc\":301,\"aa\":302,\"aaaa\":303"
#define ADDED                                                                                      \
    "\"added_tokens\":[{\"content\":\"<s>\",\"special\":true},{\"content\":\"<|im|>\","            \
    "\"special\":"                                                                                 \
    "true,\"rstrip\":true},{\"content\":\"<b>\",\"normalized\":true,\"special\":true},"            \
    "{\"content\":\"  "                                                                            \
    "\",\"special\":false},{\"content\":\"<x\",\"lstrip\":true,\"single_word\":true,"              \
    "\"special\":true}]"

/* Byte-level with each split pattern, and SentencePiece-like. */
static const char *const tails[] = {
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
    "\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}"
    "| "
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
    "\"behavior\":"
    "\"Isolated\"},{\"type\":\"ByteLevel\",\"use_regex\":false}]}",
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{"
    "\"Regex\":\"\\\\s?\\\\p{L}+|\\\\p{N}\"},\"behavior\":\"MergedWithNext\"},{\"type\":\"Digits\","
    "\"individual_digits\":true},{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"},{\"type\":"
    "\"ByteLevel\",\"use_regex\":true},{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a+\"},"
    "\"behavior\":"
    "\"Isolated\"}]}",
    NULL,
};

static vlm_status append_vocab(vlm_buf *json, bool stand_ins, vlm_error *err)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        if (stand_ins) {
            const bool self = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
            unsigned cp = byte;
            if (!self) {
                cp = 256;
                for (unsigned k = 0; k < byte; k++)
                    cp += !((k >= 33 && k <= 126) || (k >= 161 && k != 173));
            }
            VLM_TRY(vlm_buf_printf(json, err, "\"\\u%04x\":%u,", cp, byte));
        } else {
            VLM_TRY(vlm_buf_printf(json, err, "\"<0x%02X>\":%u,", byte, byte));
        }
    }
    if (!stand_ins) VLM_TRY(vlm_buf_append_str(json, "\"a\":256,\"b\":257,\"c\":258,", err));
    return vlm_buf_append_str(json, VOCAB_TAIL, err);
}

static vlm_tokenizer *make(const char *tail)
{
    vlm_buf json;
    vlm_error err = {0};
    vlm_tokenizer *tok = NULL;
    vlm_buf_init(&json, 1 << 20);
    vlm_status status = vlm_buf_append_str(
        &json,
        "{\"model\":{\"byte_fallback\":true,\"merges\":[\"a b\",\"a a\",\"ab c\",\"aa aa\"],"
        "\"vocab\":{",
        &err);
    if (status == VLM_OK) status = append_vocab(&json, tail != NULL, &err);
    if (status == VLM_OK)
        status = vlm_buf_printf(&json, &err, "}}," ADDED ",%s,%s}", tail == NULL ? "\"x\":0" : tail,
                                tail == NULL ? "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{"
                                               "\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}"
                                             : "\"decoder\":{\"type\":\"ByteLevel\"}");
    const vlm_tokenizer_files files = {.tokenizer_json = vlm_buf_bytes(&json)};
    if (status == VLM_OK) status = vlm_tokenizer_new(&files, &tok, &err);
    FUZZ_CHECK(status == VLM_OK);
    vlm_buf_fini(&json);
    return tok;
}

static void check_user(const vlm_tokenizer *tok, vlm_bytes text, size_t begin, size_t end)
{
    const vlm_span span = {begin, end};
    const vlm_encode_options opt = {.user_spans = &span, .n_user_spans = 1};
    vlm_ids ids = {0};
    vlm_error err;
    FUZZ_CHECK(vlm_tokenizer_encode(tok, text, &opt, &ids, &err) == VLM_OK);
    if (begin == 0 && end == text.len)
        for (size_t i = 0; i < ids.len; i++)
            FUZZ_CHECK(!vlm_tokenizer_is_special(tok, ids.data[i]));
    /* No token is lost: the text comes back, but for what lstrip and rstrip swallow. */
    if (begin == 0 && end == text.len && vlm_utf8_valid(text.ptr, text.len)) {
        vlm_buf back;
        vlm_buf_init(&back, (size_t)1 << 26);
        FUZZ_CHECK(vlm_tokenizer_decode(tok, ids.data, ids.len, false, &back, &err) == VLM_OK);
        FUZZ_CHECK(vlm_bytes_eq(vlm_buf_bytes(&back), text));
        vlm_buf_fini(&back);
    }
    vlm_ids_fini(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static vlm_tokenizer *toks[4];
    if (len < 2 || len > 1 << 14) return 0;
    const vlm_bytes text = {(const char *)data + 2, len - 2};
    const size_t begin = text.len * data[0] / 256, end = begin + (text.len - begin) * data[1] / 255;
    for (size_t i = 0; i < 4; i++) {
        if (toks[i] == NULL) toks[i] = make(tails[i]);
        fuzz_check_text(toks[i], text);
        check_user(toks[i], text, begin, end);
        check_user(toks[i], text, 0, text.len);
    }
    fuzz_check_ids(toks[data[0] & 3], data, len);
    return 0;
}
