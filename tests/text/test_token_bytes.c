/* test_token_bytes.c - what each token of a text stands for on its own: together they are the text,
 * byte for byte. */
#include "text/tokenizer_case.h"

static vlm_buf joined(const vlm_tokenizer *tok, vlm_bytes text)
{
    vlm_ids ids = case_encode(tok, text, &(vlm_encode_options){.plain = true});
    vlm_buf all;
    vlm_error err;
    vlm_buf_init(&all, 1 << 20);
    for (size_t i = 0; i < ids.len; i++)
        assert_int_equal(vlm_tokenizer_token_bytes(tok, ids.data[i], &all, &err), VLM_OK);
    vlm_ids_fini(&ids);
    return all;
}

static const char *const texts[] = {
    "Hello world",
    "  two  spaces  ",
    "tab\tline\r\nend",
    "\xF0\x9F\x98\x80 \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E \xC3\xBC\xC3\xAF \xF0\x9D\x94\x98",
    "don't won't 12345 <0xE2> </s>",
};

/* SentencePiece puts a space before the first word. */
static void test_sentencepiece(void **state)
{
    (void)state;
    for (int without_json = 0; without_json < 2; without_json++) {
        vlm_tokenizer *tok = case_golden("llava-spm", without_json == 1);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
            vlm_buf all = joined(tok, vlm_bytes_of(texts[i]));
            assert_int_equal(all.data[0], ' ');
            assert_string_equal(all.data + 1, texts[i]);
            vlm_buf_fini(&all);
        }
        vlm_tokenizer_free(tok);
    }
}

static void test_byte_level(void **state)
{
    (void)state;
    static const char *const models[] = {"llava-bpe", "llava-odd", "qwen2-window"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        vlm_tokenizer *tok = case_golden(models[m], false);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
            vlm_buf all = joined(tok, vlm_bytes_of(texts[i]));
            assert_string_equal(all.data, texts[i]);
            vlm_buf_fini(&all);
        }
        vlm_tokenizer_free(tok);
    }
}

static void check_token(const char *json, uint32_t id, const char *want)
{
    vlm_tokenizer *tok = case_json(vlm_bytes_of(json));
    vlm_buf got;
    vlm_error err;
    vlm_buf_init(&got, 64);
    assert_int_equal(vlm_buf_append_str(&got, "|", &err), VLM_OK);
    assert_int_equal(vlm_tokenizer_token_bytes(tok, id, &got, &err), VLM_OK);
    assert_string_equal(got.data + 1, want);
    vlm_buf_fini(&got);
    vlm_tokenizer_free(tok);
}

#define MODEL                                                                                      \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a</"                                                \
    "w>\":0,\"\xE2\x96\x81z\":1,\"<0x41>\":2,\"b\":3,"                                             \
    "\"<0xE2>\":4},\"merges\":[]},\"added_tokens\":[{\"id\":5,\"content\":\"<s>\","                \
    "\"special\":true}],\"decoder\":"

static void test_every_step(void **state)
{
    (void)state;
    const char *suffix = MODEL "{\"type\":\"BPEDecoder\",\"suffix\":\"</w>\"}}";
    check_token(suffix, 0, "a ");
    check_token(suffix, 3, "b");
    check_token(suffix, 5, "<s>");
    check_token(suffix, 6, "");
    check_token(suffix, 1000, "");
    const char *metaspace = MODEL "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\","
                                  "\"prepend_scheme\":\"always\"}}";
    check_token(metaspace, 1, " z");
    check_token(metaspace, 2, "<0x41>");
    const char *chain = MODEL "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
                              "\"pattern\":{\"Regex\":\"b|A\"},\"content\":\"cc\"},"
                              "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
                              "{\"type\":\"Strip\",\"content\":\"c\",\"start\":1,\"stop\":1}]}}";
    check_token(chain, 3, "cc");
    check_token(chain, 2, "A");
    check_token(chain, 4, "\xE2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_every_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
