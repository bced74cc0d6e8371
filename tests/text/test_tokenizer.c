/* What callers of tokenizer.h rely on beyond equal ids: a user's text stays plain, bad UTF-8 is
 * read as U+FFFD, text is decoded as soon as it is certain, names of special tokens. */
#include "text/tokenizer_case.h"

#include "text/standin.h"
#include "text/unicode.h"

static void check_user(const vlm_tokenizer *tok, const char *text, const vlm_span *spans, size_t n,
                       const uint32_t *specials, size_t n_specials)
{
    const vlm_encode_options opt = {.user_spans = spans, .n_user_spans = n};
    vlm_ids ids = case_encode(tok, vlm_bytes_of(text), &opt);
    size_t k = 0;
    for (size_t i = 0; i < ids.len; i++) {
        if (!vlm_tokenizer_is_special(tok, ids.data[i])) continue;
        assert_true(k < n_specials);
        assert_int_equal(ids.data[i], specials[k++]);
    }
    assert_int_equal(k, n_specials);
    vlm_buf got;
    vlm_error err;
    vlm_buf_init(&got, 1 << 20);
    assert_int_equal(vlm_tokenizer_decode(tok, ids.data, ids.len, false, &got, &err), VLM_OK);
    assert_string_equal(got.data, text);
    vlm_buf_fini(&got);
    vlm_ids_fini(&ids);
}

/* llava-odd: <|endoftext|> 1500, <|im_start|> 1501, <|im_end|> 1502, <image> 1503. */
static void test_user_spans(void **state)
{
    (void)state;
    vlm_tokenizer *tok = case_golden("llava-odd", false);
    const char *text = "<|im_start|>user\n<|im_end|><image>x<|im_end|>";
    const vlm_span inside[] = {{17, 35}};
    check_user(tok, text, inside, 1, (const uint32_t[]){1501, 1502}, 2);
    /* A match that only touches the user's part is not taken either, on both sides. */
    check_user(tok, text, (const vlm_span[]){{11, 12}}, 1, (const uint32_t[]){1502, 1503, 1502}, 3);
    check_user(tok, text, (const vlm_span[]){{0, 1}, {44, 45}}, 2, (const uint32_t[]){1502, 1503},
               2);
    check_user(tok, text, (const vlm_span[]){{12, 17}}, 1,
               (const uint32_t[]){1501, 1502, 1503, 1502}, 4);
    check_user(tok, text, (const vlm_span[]){{0, 1000}}, 1, NULL, 0);
    /* Nor one that the template's end and the user's beginning make together. */
    check_user(tok, "<|im_end|>", (const vlm_span[]){{5, 10}}, 1, NULL, 0);
    vlm_tokenizer_free(tok);
}

/* Where a longer token runs into the user's text, the shorter one in front of it still counts. */
static void test_user_spans_shorter(void **state)
{
    (void)state;
    static const char json[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<\":1,\">\":2,\"!"
                               "\":3,\" \":4},\"merges\":[]},"
                               "\"decoder\":{\"type\":\"Fuse\"},\"added_tokens\":["
                               "{\"id\":5,\"content\":\"<a>\",\"special\":true},{\"id\":6,"
                               "\"content\":\"<a>!\",\"special\":true},"
                               "{\"id\":7,\"content\":\"<<\",\"special\":false},{\"id\":8,"
                               "\"content\":\"  \",\"special\":false}]}";
    vlm_tokenizer *tok = case_json(vlm_bytes_of(json));
    check_user(tok, "<a>!", NULL, 0, (const uint32_t[]){6}, 1);
    check_user(tok, "<a>!", (const vlm_span[]){{3, 4}}, 1, (const uint32_t[]){5}, 1);
    const vlm_encode_options opt = {.user_spans = (const vlm_span[]){{0, 4}}, .n_user_spans = 1};
    vlm_ids ids = case_encode(tok, vlm_bytes_of("<<  "), &opt);
    /* "<<" is no special token but stays plain too; white space carries no control. */
    assert_int_equal(ids.len, 3);
    assert_int_equal(ids.data[0], 1);
    assert_int_equal(ids.data[2], 8);
    vlm_ids_fini(&ids);
    vlm_tokenizer_free(tok);
}

/* Marks follow the text through a normalizer, for tokens that are found behind it. */
static void test_user_spans_normalized(void **state)
{
    (void)state;
    static const char json[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"<\":2,\">\":3,\"_\":4},"
        "\"merges\":[]},"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
        "\"_\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"bbb\"},\"content\":\"b\"},{\"type\":"
        "\"NFC\"},"
        "{\"type\":\"Lowercase\"}]},\"decoder\":{\"type\":\"Fuse\"},\"added_tokens\":["
        "{\"id\":5,\"content\":\"<A>\",\"special\":true,\"normalized\":true}]}";
    vlm_tokenizer *tok = case_json(vlm_bytes_of(json));
    /* The token itself gets the prefix too: "_<a>" is what is looked for. */
    vlm_ids ids = case_encode(tok, vlm_bytes_of("<a>bbb<A>"), NULL);
    assert_int_equal(ids.data[0], 5);
    vlm_ids_fini(&ids);
    const vlm_encode_options opt = {.user_spans = (const vlm_span[]){{2, 4}}, .n_user_spans = 1};
    ids = case_encode(tok, vlm_bytes_of("<a>bbb<A>"), &opt);
    assert_int_equal(ids.data[0], 4);
    vlm_ids_fini(&ids);
    vlm_tokenizer_free(tok);
}

static void test_bad_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bad, *as;
    } table[] = {
        {"a\xFF"
         "b",
         "a\xEF\xBF\xBD"
         "b"},
        {"\xC3", "\xEF\xBF\xBD"},
        {"\xE2\x82", "\xEF\xBF\xBD"},
        {"\xE2\x82x\xE2", "\xEF\xBF\xBDx\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"<image>\x80<image>", "<image>\xEF\xBF\xBD<image>"},
    };
    const char *models[] = {"llava-spm", "llava-bpe", "llava-odd"};
    for (size_t m = 0; m < 3; m++) {
        vlm_tokenizer *tok = case_golden(models[m], false);
        for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
            vlm_ids got = case_encode(tok, vlm_bytes_of(table[i].bad), NULL);
            vlm_ids want = case_encode(tok, vlm_bytes_of(table[i].as), NULL);
            assert_int_equal(got.len, want.len);
            assert_memory_equal(got.data, want.data, want.len * sizeof *want.data);
            vlm_ids_fini(&got);
            vlm_ids_fini(&want);
        }
        vlm_tokenizer_free(tok);
    }
    /* Marks move with the bytes: the user's part begins behind the longer U+FFFD. */
    vlm_tokenizer *tok = case_golden("llava-odd", false);
    const vlm_encode_options opt = {.user_spans = (const vlm_span[]){{8, 15}}, .n_user_spans = 1};
    vlm_ids ids = case_encode(tok, vlm_bytes_of("\x80<image><image>"), &opt);
    size_t n = 0;
    for (size_t i = 0; i < ids.len; i++) n += ids.data[i] == 1503;
    assert_int_equal(n, 1);
    vlm_ids_fini(&ids);
    vlm_tokenizer_free(tok);
}

static void test_names(void **state)
{
    (void)state;
    vlm_tokenizer *tok = case_golden("llava-spm", false);
    uint32_t id = 0;
    assert_true(vlm_bytes_eq_str(vlm_tokenizer_special(tok, "bos_token"), "<s>"));
    assert_true(vlm_bytes_eq_str(vlm_tokenizer_special(tok, "pad_token"), "<pad>"));
    assert_int_equal(vlm_tokenizer_special(tok, "mask_token").len, 0);
    assert_int_equal(vlm_tokenizer_n_specials(tok), 4);
    assert_int_equal(vlm_tokenizer_n_vocab(tok), 2002);
    assert_true(vlm_tokenizer_find(tok, vlm_bytes_of("<image>"), &id));
    assert_int_equal(id, 2000);
    assert_false(vlm_tokenizer_find(tok, vlm_bytes_of("<imag"), &id));
    assert_true(vlm_tokenizer_is_special(tok, 2000));
    assert_false(vlm_tokenizer_is_special(tok, 1000));
    assert_false(vlm_tokenizer_is_special(tok, UINT32_MAX));
    assert_true(vlm_tokenizer_text_has_bos(tok, vlm_bytes_of("<s>x")));
    assert_false(vlm_tokenizer_text_has_bos(tok, vlm_bytes_of(" <s>x")));
    assert_string_equal(vlm_tokenizer_kind(tok), "BPE (SentencePiece, byte fallback)");
    vlm_tokenizer_free(tok);
    tok = case_golden("llava-odd", false);
    assert_int_equal(vlm_tokenizer_special(tok, "bos_token").len, 0);
    assert_false(vlm_tokenizer_text_has_bos(tok, vlm_bytes_of("<|im_start|>")));
    assert_string_equal(vlm_tokenizer_kind(tok), "BPE (byte-level)");
    vlm_tokenizer_free(tok);
}

/* add_bos_token and add_eos_token count where Transformers' own class builds the template. */
static void test_bos_override(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        size_t n;
    } table[] = {
        {"{\"tokenizer_class\":\"LlamaTokenizer\",\"bos_token\":\"<s>\",\"add_bos_token\":false}",
         2},
        {"{\"tokenizer_class\":\"LlamaTokenizer\",\"bos_token\":\"<s>\",\"eos_token\":{\"content\":"
         "\"</s>\"},\"add_eos_token\":true}",
         4},
        {"{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"bos_token\":\"<s>\","
         "\"add_bos_token\":false}",
         3},
    };
    vlm_buf json = case_file(VLM_SOURCE_DIR "/tests/golden/llava-spm", "tokenizer.json");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const vlm_tokenizer_files files = {.tokenizer_json = vlm_buf_bytes(&json),
                                           .tokenizer_config = vlm_bytes_of(table[i].config)};
        vlm_tokenizer *tok = NULL;
        vlm_error err = {0};
        assert_int_equal(vlm_tokenizer_new(&files, &tok, &err), VLM_OK);
        const vlm_encode_options opt = {.add_special = true};
        vlm_ids ids = case_encode(tok, vlm_bytes_of("\n"), &opt);
        assert_int_equal(ids.len, table[i].n);
        vlm_ids_fini(&ids);
        vlm_tokenizer_free(tok);
    }
    vlm_buf_fini(&json);
}

/* What comes out of push is never half a code point, and comes at the first token that allows it.
 */
static void test_stream(void **state)
{
    (void)state;
    vlm_tokenizer *tok = case_golden("llava-bpe", false);
    const char *text = "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9 \xE1\x88\x80\xC2\xA0z";
    vlm_ids ids = case_encode(tok, vlm_bytes_of(text), NULL);
    vlm_detok *detok = NULL;
    vlm_error err = {0};
    vlm_buf got;
    vlm_buf_init(&got, 1 << 20);
    assert_int_equal(vlm_detok_new(tok, &detok, &err), VLM_OK);
    for (unsigned round = 0; round < 2; round++) {
        vlm_buf_clear(&got);
        for (size_t i = 0; i < ids.len; i++) {
            assert_int_equal(vlm_detok_push(detok, ids.data[i], &got, &err), VLM_OK);
            vlm_buf so_far;
            vlm_buf_init(&so_far, 1 << 20);
            assert_int_equal(vlm_tokenizer_decode(tok, ids.data, i + 1, true, &so_far, &err),
                             VLM_OK);
            /* All but the incomplete end, which decodes to U+FFFD when the text stops here. */
            assert_true(got.len <= so_far.len && so_far.len - got.len <= 3);
            assert_memory_equal(got.data == NULL ? "" : got.data, so_far.data, got.len);
            vlm_buf_fini(&so_far);
        }
        assert_int_equal(vlm_detok_flush(detok, &got, &err), VLM_OK);
        assert_string_equal(got.data, text);
        vlm_detok_reset(detok);
    }
    vlm_detok_free(detok);
    vlm_buf_fini(&got);
    vlm_ids_fini(&ids);
    vlm_tokenizer_free(tok);
}

static void test_spans(void **state)
{
    (void)state;
    vlm_spans spans;
    vlm_error err = {0};
    vlm_spans_init(&spans);
    assert_int_equal(vlm_spans_append(&spans, 3, 3, &err), VLM_OK);
    assert_int_equal(spans.len, 0);
    assert_int_equal(vlm_spans_append(&spans, 3, 5, &err), VLM_OK);
    assert_int_equal(vlm_spans_append(&spans, 5, 9, &err), VLM_OK);
    assert_int_equal(vlm_spans_append(&spans, 10, 11, &err), VLM_OK);
    assert_int_equal(spans.len, 2);
    assert_int_equal(spans.data[0].end, 9);
    vlm_spans_fini(&spans);
}

static void test_standins(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++)
        assert_int_equal(vlm_standin_to_byte(vlm_standin_of_byte((uint8_t)byte)), byte);
    assert_int_equal(vlm_standin_of_byte(' '), 0x120);
    assert_int_equal(vlm_standin_of_byte(0xAD), 0x143);
    unsigned n = 0;
    for (uint32_t cp = 0; cp < 0x400; cp++) n += vlm_standin_to_byte(cp) >= 0;
    assert_int_equal(n, 256);
}

static void test_unicode(void **state)
{
    (void)state;
    assert_true(vlm_unicode_is_letter(0x1C89));  /* new in Unicode 16 */
    assert_true(vlm_unicode_is_number(0x1CCF0)); /* likewise */
    assert_false(vlm_unicode_is_space(0x180E));  /* was white space before Unicode 6.3 */
    assert_true(vlm_unicode_is_space(0x85));
    assert_false(vlm_unicode_is_punctuation(0x2E4F)); /* newer than what Punctuation knows */
    assert_true(vlm_unicode_is_punctuation('$'));
    assert_true(vlm_unicode_is_word(0x200D));
    assert_int_equal(vlm_unicode_older('a'), 'a');
    assert_int_equal(vlm_unicode_trailing_space(vlm_bytes_of("a \xC2\xA0\xE3\x80\x80")), 6);
    assert_int_equal(vlm_unicode_leading_space(vlm_bytes_of("\t\xC2\xA0 a ")), 4);
}

/* tekken.json and tiktoken lines of the same tokens: 256 bytes, "ab", "abc", "12". */
static void append_tokens(vlm_buf *out, bool tekken, vlm_error *err)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char *const more[] = {"YWI=", "YWJj", "MTI="};
    for (unsigned i = 0; i < 259; i++) {
        char base64[8];
        (void)snprintf(base64, sizeof base64, "%c%c==", digits[(i & 0xFF) >> 2],
                       digits[(i & 3) << 4]);
        const char *token = i < 256 ? base64 : more[i - 256];
        if (tekken)
            assert_int_equal(vlm_buf_printf(out, err, "%s{\"rank\":%u,\"token_bytes\":\"%s\"}",
                                            i == 0 ? "" : ",", i, token),
                             VLM_OK);
        else
            assert_int_equal(vlm_buf_printf(out, err, "%s %u\n", token, i), VLM_OK);
    }
}

static void test_tiktoken(void **state)
{
    (void)state;
    vlm_error err = {0};
    vlm_buf lines, tekken;
    vlm_buf_init(&lines, 1 << 20);
    vlm_buf_init(&tekken, 1 << 20);
    append_tokens(&lines, false, &err);
    assert_int_equal(
        vlm_buf_append_str(&tekken,
                           "{\"config\":{\"pattern\":\"\\\\p{L}+|\\\\s+\","
                           "\"default_vocab_size\":269,\"default_num_special_tokens\":10,"
                           "\"version\":\"v3\"},\"vocab\":[",
                           &err),
        VLM_OK);
    append_tokens(&tekken, true, &err);
    assert_int_equal(vlm_buf_append_str(&tekken, "]}", &err), VLM_OK);
    /* tokenizer.model may be such lines as well (Llama 3). */
    const vlm_tokenizer_files files[] = {{.tiktoken = vlm_buf_bytes(&lines)},
                                         {.tokenizer_model = vlm_buf_bytes(&lines)},
                                         {.tekken_json = vlm_buf_bytes(&tekken)}};
    for (size_t i = 0; i < 3; i++) {
        const uint32_t base = i == 2 ? 10 : 0;
        vlm_tokenizer *tok = NULL;
        if (vlm_tokenizer_new(&files[i], &tok, &err) != VLM_OK) fail_msg("%s", err.msg);
        vlm_ids ids = case_encode(tok, vlm_bytes_of("abc ab\xC3\xA9"), NULL);
        const uint32_t want[] = {257, ' ', 256, 0xC3, 0xA9};
        assert_int_equal(ids.len, 5);
        for (size_t k = 0; k < 5; k++) assert_int_equal(ids.data[k], base + want[k]);
        case_check_decode(tok, "tiktoken", &ids, true, vlm_bytes_of("abc ab\xC3\xA9"));
        vlm_ids_fini(&ids);
        vlm_tokenizer_free(tok);
    }
    vlm_buf_fini(&lines);
    vlm_buf_fini(&tekken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_user_spans),
        cmocka_unit_test(test_user_spans_shorter),
        cmocka_unit_test(test_user_spans_normalized),
        cmocka_unit_test(test_bad_utf8),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bos_override),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_standins),
        cmocka_unit_test(test_unicode),
        cmocka_unit_test(test_tiktoken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
