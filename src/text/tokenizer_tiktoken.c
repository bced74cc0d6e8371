/* tekken.json (Mistral) and *.tiktoken: byte strings with ranks; two symbols merge when their
 * joined bytes are a token, lowest rank first. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/standin.h"
#include "text/tokenizer_parts.h"

enum { TOKEN_LEN_MAX = 1024 };

/* RFC 4648; padding may be missing. */
static bool decode_base64(vlm_bytes text, vlm_buf *out, vlm_status *status, vlm_error *err)
{
    uint32_t bits = 0;
    unsigned n_bits = 0;
    while (text.len > 0 && text.ptr[text.len - 1] == '=') text.len--;
    vlm_buf_clear(out);
    for (size_t i = 0; i < text.len; i++) {
        static const char digits[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *at = text.ptr[i] == '\0' ? NULL : strchr(digits, text.ptr[i]);
        if (at == NULL) return false;
        bits = bits << 6 | (uint32_t)(at - digits);
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        *status = vlm_buf_append_char(out, (char)(bits >> n_bits & 0xFF), err);
        if (*status != VLM_OK) return true;
    }
    return n_bits < 6;
}

/* Add a token given as base64, written in the vocabulary by its bytes' stand-ins. */
static vlm_status add_token(vlm_tokenizer *tok, vlm_bytes base64, uint32_t id, vlm_buf *bytes,
                            vlm_buf *text, vlm_error *err)
{
    vlm_status status = VLM_OK;
    const bool good = decode_base64(base64, bytes, &status, err);
    if (status != VLM_OK) return status;
    if (!good || bytes->len == 0 || bytes->len > TOKEN_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "token %zu must be base64 of 1 to %d bytes",
                        tok->vocab.n, TOKEN_LEN_MAX);
    vlm_buf_clear(text);
    VLM_TRY(vlm_standin_append(text, vlm_buf_bytes(bytes), err));
    status = vlm_vocab_add(&tok->vocab, vlm_buf_bytes(text), id, err);
    if (status == VLM_ALREADY_EXISTS)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "token %zu is there twice", tok->vocab.n);
    return status;
}

/* Every way to cut a token in two tokens is a merge.  Its rank is the token's own. */
static vlm_status finish(vlm_tokenizer *tok, vlm_error *err)
{
    VLM_TRY(vlm_vocab_index(&tok->vocab, err));
    for (uint32_t id = 0; id < tok->vocab.n_ids; id++) {
        const vlm_bytes text = vlm_vocab_token(&tok->vocab, id);
        for (size_t i = 1; i < text.len; i++) {
            if (((unsigned char)text.ptr[i] & 0xC0) == 0x80) continue;
            const uint32_t left = vlm_vocab_find(&tok->vocab, (vlm_bytes){text.ptr, i});
            if (left == VLM_VOCAB_NONE) continue;
            const uint32_t right =
                vlm_vocab_find(&tok->vocab, (vlm_bytes){text.ptr + i, text.len - i});
            if (right != VLM_VOCAB_NONE)
                VLM_TRY(vlm_bpe_add_merge(&tok->bpe, left, right, id, id, err));
        }
    }
    vlm_pretok_step *step = NULL;
    VLM_TRY(vlm_pretok_add_step(&tok->pretok, VLM_PRETOK_BYTES, &step, err));
    VLM_TRY(vlm_decoder_add(&tok->decoder, VLM_DECODE_BYTE_LEVEL, "", "", err));
    tok->bpe.ignore_merges = true;
    tok->byte_level = true;
    return vlm_bpe_finish(&tok->bpe, err);
}

/* tekken.json. */

static vlm_status add_special(vlm_tokenizer *tok, vlm_bytes text, uint32_t id, vlm_error *err)
{
    const vlm_added_token token = {.special = true};
    if (text.len == 0 || vlm_vocab_find(&tok->vocab, text) != VLM_VOCAB_NONE) return VLM_OK;
    return vlm_tokenizer_add_token(tok, text, &token, id, err);
}

/* The names of the first special tokens where the file has no list (mistral-common, tekken v3). */
static const char *const tekken_names[] = {
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
};

static vlm_status tekken_specials(vlm_tokenizer *tok, const vlm_json *root, uint32_t n_special,
                                  vlm_error *err)
{
    const vlm_json *list = vlm_json_get(root, "special_tokens");
    const size_t n_listed = vlm_json_array_len(list);
    for (size_t i = 0; i < n_listed; i++) {
        uint32_t id = 0;
        vlm_bytes text = {0};
        VLM_TRY(vlm_json_opt_u32(vlm_json_at(list, i), "rank", 0, VLM_TOKEN_ID_MAX, &id, err));
        VLM_TRY(vlm_json_opt_string(vlm_json_at(list, i), "token_str", &text, err));
        if (id < n_special) VLM_TRY(add_special(tok, text, id, err));
    }
    for (uint32_t id = 0; id < n_special; id++) {
        char name[32];
        const size_t n_names = sizeof tekken_names / sizeof *tekken_names;
        if (id < n_listed) continue;
        if (n_listed == 0 && id < n_names)
            (void)snprintf(name, sizeof name, "%s", tekken_names[id]);
        else
            (void)snprintf(name, sizeof name, "<SPECIAL_%u>", id);
        VLM_TRY(add_special(tok, vlm_bytes_of(name), id, err));
    }
    return VLM_OK;
}

static vlm_status load_tekken(vlm_tokenizer *tok, const vlm_json *root, vlm_buf *bytes,
                              vlm_buf *text, vlm_error *err)
{
    const vlm_json *config = vlm_json_get(root, "config");
    const vlm_json *vocab = vlm_json_get(root, "vocab");
    vlm_bytes pattern = {0};
    uint32_t n_vocab = 0, n_special = 0;
    VLM_TRY(vlm_json_opt_string(config, "pattern", &pattern, err));
    VLM_TRY(vlm_json_opt_u32(config, "default_vocab_size", 1, VLM_TOKEN_ID_MAX, &n_vocab, err));
    VLM_TRY(vlm_json_opt_u32(config, "default_num_special_tokens", 0, 1 << 16, &n_special, err));
    if (pattern.len == 0 || n_vocab <= n_special || vlm_json_typeof(vocab) != VLM_JSON_ARRAY)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "config.pattern, config.default_vocab_size or vocab is missing");
    const size_t n = n_vocab - n_special;
    for (size_t i = 0; i < vlm_json_array_len(vocab) && i < n; i++) {
        const vlm_json *item = vlm_json_at(vocab, i);
        vlm_bytes base64 = {0};
        uint32_t rank = (uint32_t)i;
        VLM_TRY(vlm_json_opt_u32(item, "rank", 0, VLM_TOKEN_ID_MAX, &rank, err));
        VLM_TRY(vlm_json_opt_string(item, "token_bytes", &base64, err));
        if (rank < n) VLM_TRY(add_token(tok, base64, rank + n_special, bytes, text, err));
    }
    VLM_TRY(vlm_pretok_add_pattern(&tok->pretok, pattern, err));
    VLM_TRY(finish(tok, err));
    VLM_TRY(tekken_specials(tok, root, n_special, err));
    const uint32_t bos = vlm_tokenizer_id(tok, vlm_bytes_of("<s>"));
    return bos == VLM_VOCAB_NONE ? VLM_OK : vlm_ids_append(&tok->prefix, bos, err);
}

vlm_status vlm_tokenizer_load_tekken(vlm_tokenizer *tok, vlm_bytes content, vlm_error *err)
{
    vlm_json_doc *doc;
    vlm_buf bytes, text;
    vlm_buf_init(&bytes, SIZE_MAX / 4);
    vlm_buf_init(&text, SIZE_MAX / 4);
    vlm_status status = vlm_json_parse(content.ptr, content.len, &vlm_json_limits_large, &doc, err);
    if (status == VLM_OK) {
        status = load_tekken(tok, vlm_json_root(doc), &bytes, &text, err);
        vlm_json_free(doc);
    }
    vlm_buf_fini(&bytes);
    vlm_buf_fini(&text);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "tekken.json");
}

/* *.tiktoken: "BASE64 RANK" on each line. */

bool vlm_tokenizer_looks_like_tiktoken(vlm_bytes text)
{
    size_t i = 0;
    while (i < text.len && i < TOKEN_LEN_MAX * 2 && (unsigned char)text.ptr[i] > ' ' &&
           (unsigned char)text.ptr[i] < 0x7F)
        i++;
    return i > 0 && i + 1 < text.len && text.ptr[i] == ' ' && text.ptr[i + 1] >= '0' &&
           text.ptr[i + 1] <= '9';
}

static vlm_status read_lines(vlm_tokenizer *tok, vlm_bytes content, vlm_buf *bytes, vlm_buf *text,
                             vlm_error *err)
{
    size_t line_no = 0;
    for (size_t i = 0; i < content.len;) {
        const char *feed = memchr(content.ptr + i, '\n', content.len - i);
        size_t end = feed == NULL ? content.len : (size_t)(feed - content.ptr);
        const vlm_bytes line = {content.ptr + i, end - i};
        i = end + 1;
        line_no++;
        if (line.len == 0 || (line.len == 1 && line.ptr[0] == '\r')) continue;
        const char *space = memchr(line.ptr, ' ', line.len);
        uint32_t rank = 0;
        size_t n_digits = 0;
        for (const char *p = space; p != NULL && ++p < line.ptr + line.len && n_digits < 9;) {
            if (*p < '0' || *p > '9') break;
            rank = rank * 10 + (uint32_t)(*p - '0');
            n_digits++;
        }
        if (n_digits == 0 || rank > VLM_TOKEN_ID_MAX)
            return vlm_fail_at(err, VLM_INVALID_ARGUMENT, line_no,
                               "line %zu must be a base64 token and a rank", line_no);
        VLM_TRY(add_token(tok, (vlm_bytes){line.ptr, (size_t)(space - line.ptr)}, rank, bytes, text,
                          err));
    }
    return VLM_OK;
}

/* The file names no pattern.  Vocabularies with a token for three digits come with Llama 3's (runs
 * of three digits), those without with Qwen's (single digits). */
static vlm_status add_pattern(vlm_tokenizer *tok, vlm_error *err)
{
    const bool threes = vlm_vocab_find(&tok->vocab, vlm_bytes_of("123")) != VLM_VOCAB_NONE;
    vlm_pretok_step *step = NULL;
    VLM_TRY(vlm_pretok_add_step(&tok->pretok, VLM_PRETOK_SPLIT, &step, err));
    step->match = threes ? VLM_MATCH_LLAMA3 : VLM_MATCH_QWEN2;
    return VLM_OK;
}

vlm_status vlm_tokenizer_load_tiktoken(vlm_tokenizer *tok, vlm_bytes content, vlm_error *err)
{
    vlm_buf bytes, text;
    vlm_buf_init(&bytes, SIZE_MAX / 4);
    vlm_buf_init(&text, SIZE_MAX / 4);
    vlm_status status = read_lines(tok, content, &bytes, &text, err);
    if (status == VLM_OK && tok->vocab.n == 0)
        status = vlm_fail(err, VLM_INVALID_ARGUMENT, "no tokens");
    if (status == VLM_OK) status = add_pattern(tok, err);
    if (status == VLM_OK) status = finish(tok, err);
    vlm_buf_fini(&bytes);
    vlm_buf_fini(&text);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "tiktoken vocabulary");
}
