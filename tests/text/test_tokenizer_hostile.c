/* Broken and hostile tokenizer files are refused by a named error, memory that runs out too. */
#include "failmalloc.h"

#include "text/tokenizer_case.h"

#define MODEL                                                                                      \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static void check_refused(const vlm_tokenizer_files *files, vlm_status want, const char *text)
{
    vlm_tokenizer *tok = NULL;
    vlm_error err = {0};
    const vlm_status status = vlm_tokenizer_new(files, &tok, &err);
    if (status == VLM_OK) fail_msg("accepted, want: %s", text);
    assert_null(tok);
    assert_int_equal(status, err.code);
    if (strstr(err.msg, text) == NULL) fail_msg("want \"%s\" got \"%s\"", text, err.msg);
    if (want != status) fail_msg("want %d got %d: %s", want, status, err.msg);
}

static void test_json(void **state)
{
    (void)state;
    static const struct {
        vlm_status status;
        const char *json, *text;
    } table[] = {
        {VLM_INVALID_ARGUMENT, "", "tokenizer.json: JSON"},
        {VLM_INVALID_ARGUMENT, "[]", "not a JSON object"},
        {VLM_INVALID_ARGUMENT, "{}", "model must be an object"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{}}", "model.vocab must be an object"},
        {VLM_UNIMPLEMENTED, "{\"model\":{\"type\":\"Unigram\"}}", "model \"Unigram\""},
        {VLM_UNIMPLEMENTED, "{\"model\":{\"type\":\"WordPiece\"}}", "model \"WordPiece\""},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"type\":7}}", "type must be a string"},
        {VLM_UNIMPLEMENTED, "{\"model\":{\"dropout\":0.1,\"vocab\":{},\"merges\":[]}}", "dropout"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}",
         "the id of \"a\""},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1.5},\"merges\":[]}}",
         "the id of \"a\""},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":4294967296},\"merges\":[]}}",
         "the id of \"a\""},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":2147483647},\"merges\":[]}}",
         "the id of \"a\""},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":9000000},\"merges\":[]}}",
         "id 9000000 in a vocabulary of 1 tokens"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}",
         "two tokens have the id 1"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1,\"a\":2},\"merges\":[]}}", "JSON"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1}}}",
         "model.merges must be an array"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[\"ab\"]}}",
         "model.merges[0] must be two tokens"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[\"a a a\"]}}",
         "model.merges[0] must be two tokens"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[[\"a\"]]}}",
         "model.merges[0] must be two tokens"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[{}]}}",
         "model.merges[0] must be two tokens"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[\"a b\"]}}",
         "model.merges[0]: \"b\" is not in the vocabulary"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[\"a a\"]}}",
         "model.merges[0]: \"aa\" is not in the vocabulary"},
        {VLM_INVALID_ARGUMENT, "{\"model\":{\"vocab\":{\"a\":1,\"\":2},\"merges\":[[\"a\",\"\"]]}}",
         "model.merges[0]: a token is empty"},
        {VLM_UNIMPLEMENTED, "{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\"}}",
         "normalizer \"Precompiled\""},
        {VLM_UNIMPLEMENTED, "{" MODEL ",\"normalizer\":{}}", "normalizer \"\""},
        {VLM_INVALID_ARGUMENT, "{" MODEL ",\"normalizer\":{\"type\":\"Sequence\"}}",
         "needs an array"},
        {VLM_INVALID_ARGUMENT,
         "{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[null]}}", "null"},
        {VLM_INVALID_ARGUMENT,
         "{" MODEL ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"}}}",
         "normalizer: Replace: regular expression"},
        {VLM_UNIMPLEMENTED, "{" MODEL ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}",
         "pre_tokenizer \"UnicodeScripts\""},
        {VLM_INVALID_ARGUMENT, "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\"}}",
         "Split without a pattern"},
        {VLM_UNIMPLEMENTED,
         "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},"
         "\"behavior\":\"Odd\"}}",
         "behavior \"Odd\""},
        {VLM_UNIMPLEMENTED,
         "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"}}}",
         "&& in a class"},
        {VLM_UNIMPLEMENTED,
         "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[bc]]\"}}}",
         "a class in a class"},
        {VLM_UNIMPLEMENTED,
         "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\h+\"}}}",
         "\\h is not supported"},
        {VLM_INVALID_ARGUMENT,
         "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}}",
         "must be one character"},
        {VLM_INVALID_ARGUMENT,
         "{" MODEL ",\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}}", "length must be"},
        {VLM_UNIMPLEMENTED, "{" MODEL ",\"decoder\":{\"type\":\"CTC\"}}", "decoder \"CTC\""},
        {VLM_INVALID_ARGUMENT, "{" MODEL ",\"decoder\":[]}", "decoder must be an object"},
        {VLM_INVALID_ARGUMENT,
         "{" MODEL ",\"decoder\":{\"type\":\"Strip\",\"content\":\"\",\"start\":1,\"stop\":0}}",
         "Strip"},
        {VLM_UNIMPLEMENTED, "{" MODEL ",\"post_processor\":{\"type\":\"Odd\"}}",
         "post_processor \"Odd\""},
        {VLM_UNIMPLEMENTED,
         "{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}}",
         "a template without the text"},
        {VLM_INVALID_ARGUMENT,
         "{" MODEL
         ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
         "{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}]}}",
         "special_tokens lacks ids for \"<s>\""},
        {VLM_INVALID_ARGUMENT,
         "{" MODEL
         ",\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"a\",7],\"cls\":[\"b\",1]}}",
         "adds the id 7 of 3"},
        {VLM_INVALID_ARGUMENT, "{" MODEL ",\"added_tokens\":{}}", "added_tokens must be an array"},
        {VLM_INVALID_ARGUMENT, "{" MODEL ",\"added_tokens\":[{\"id\":-1,\"content\":\"x\"}]}",
         "added_tokens[0]: id must be"},
        {VLM_INVALID_ARGUMENT, "{" MODEL ",\"added_tokens\":[{\"id\":1,\"content\":7}]}",
         "added_tokens[0]: content must be"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const vlm_tokenizer_files files = {.tokenizer_json = vlm_bytes_of(table[i].json)};
        check_refused(&files, table[i].status, table[i].text);
    }
    check_refused(&(vlm_tokenizer_files){0}, VLM_NOT_FOUND, "no tokenizer");
}

static void test_nested(void **state)
{
    (void)state;
    static const char *const kinds[][2] = {{"normalizer", "normalizers"},
                                           {"pre_tokenizer", "pretokenizers"},
                                           {"decoder", "decoders"},
                                           {"post_processor", "processors"}};
    vlm_error err;
    for (size_t k = 0; k < 4; k++) {
        vlm_buf json;
        vlm_buf_init(&json, 1 << 20);
        assert_int_equal(vlm_buf_printf(&json, &err, "{" MODEL ",\"%s\":", kinds[k][0]), VLM_OK);
        for (size_t i = 0; i < 20; i++)
            assert_int_equal(
                vlm_buf_printf(&json, &err, "{\"type\":\"Sequence\",\"%s\":[", kinds[k][1]),
                VLM_OK);
        for (size_t i = 0; i < 20; i++)
            assert_int_equal(vlm_buf_append_str(&json, "]}", &err), VLM_OK);
        assert_int_equal(vlm_buf_append_str(&json, "}", &err), VLM_OK);
        const vlm_tokenizer_files files = {.tokenizer_json = vlm_buf_bytes(&json)};
        check_refused(&files, VLM_INVALID_ARGUMENT, "deep at most");
        vlm_buf_fini(&json);
    }
}

static void test_config(void **state)
{
    (void)state;
    static const struct {
        const char *config, *text;
    } table[] = {
        {"[]", "tokenizer_config.json: not a JSON object"},
        {"{", "tokenizer_config.json: JSON"},
        {"{\"added_tokens_decoder\":{\"x\":{\"content\":\"<x>\"}}}", "added_tokens_decoder[\"x\"]"},
        {"{\"added_tokens_decoder\":{\"99999999999\":{\"content\":\"<x>\"}}}",
         "added_tokens_decoder"},
        {"{\"added_tokens_decoder\":{\"3\":{\"content\":\"<x>\",\"special\":1}}}",
         "special must be"},
        {"{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":3}", "add_bos_token must be"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const vlm_tokenizer_files files = {.tokenizer_json = vlm_bytes_of("{" MODEL "}"),
                                           .tokenizer_config = vlm_bytes_of(table[i].config)};
        check_refused(&files, VLM_INVALID_ARGUMENT, table[i].text);
    }
    const vlm_tokenizer_files map = {.tokenizer_json = vlm_bytes_of("{" MODEL "}"),
                                     .added_tokens = vlm_bytes_of("{\"<x>\":\"3\"}")};
    check_refused(&map, VLM_INVALID_ARGUMENT, "added_tokens.json: <x> must be");
}

/* A character that nothing can say is an error of the text, not of the file. */
static void test_unsayable(void **state)
{
    (void)state;
    vlm_tokenizer *tok = case_json(
        vlm_bytes_of("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"<unk>\"}}"));
    vlm_ids ids = {0};
    vlm_error err = {0};
    assert_int_equal(vlm_tokenizer_encode(tok, vlm_bytes_of("a"), NULL, &ids, &err), VLM_OK);
    assert_int_equal(vlm_tokenizer_encode(tok, vlm_bytes_of("aab"), NULL, &ids, &err),
                     VLM_INVALID_ARGUMENT);
    assert_int_equal(ids.len, 1);
    vlm_ids_fini(&ids);
    vlm_tokenizer_free(tok);
}

/* A pattern that explodes ends with an error, not with the machine. */
static void test_exploding_pattern(void **state)
{
    (void)state;
    vlm_tokenizer *tok = case_json(vlm_bytes_of(
        "{" MODEL
        ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a|aa)+[cd]\"}}}"));
    char text[64];
    memset(text, 'a', sizeof text);
    vlm_ids ids = {0};
    vlm_error err = {0};
    assert_int_equal(vlm_tokenizer_encode(tok, (vlm_bytes){text, sizeof text}, NULL, &ids, &err),
                     VLM_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.msg, "split pattern"));
    vlm_ids_fini(&ids);
    vlm_tokenizer_free(tok);
}

/* A search that fails at every place of a long run is cut into windows: the same cuts, in order. */
static void test_far_match(void **state)
{
    (void)state;
    vlm_tokenizer *tok = case_json(vlm_bytes_of(
        "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"\\u00e9\":2,\"bb\":3},\"merges\":[\"b b\"]},"
        "\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Removed\",\"pattern\":{\"Regex\":"
        "\"(?<=a)bb?|b(?=a)\"}}}"));
    for (size_t n_before = 240; n_before < 270; n_before++) {
        vlm_buf text;
        vlm_error err = {0};
        vlm_buf_init(&text, 1 << 20);
        for (size_t i = 0; i < n_before; i++)
            assert_int_equal(vlm_buf_append_str(&text, i % 3 == 0 ? "a" : "\xC3\xA9", &err),
                             VLM_OK);
        assert_int_equal(vlm_buf_append_str(&text, "abbb\xC3\xA9", &err), VLM_OK);
        vlm_ids ids = case_encode(tok, vlm_buf_bytes(&text), NULL);
        assert_int_equal(ids.len, n_before + 3);
        assert_int_equal(ids.data[n_before + 1], 1);
        vlm_ids_fini(&ids);
        vlm_buf_fini(&text);
    }
    vlm_tokenizer_free(tok);
}

static void test_model_file(void **state)
{
    (void)state;
    static const struct {
        vlm_status status;
        const char *text;
        size_t len;
        const char *bytes;
    } table[] = {
        {VLM_INVALID_ARGUMENT, "no pieces", 0, ""},
        {VLM_INVALID_ARGUMENT, "broken protobuf", 1, "\x0A"},
        {VLM_INVALID_ARGUMENT, "broken protobuf", 2, "\x0A\x05"},
        {VLM_INVALID_ARGUMENT, "broken protobuf", 11,
         "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"},
        {VLM_INVALID_ARGUMENT, "broken protobuf", 2, "\x0B\x01"},
        {VLM_INVALID_ARGUMENT, "broken protobuf", 2, "\x02\x01"},
        {VLM_INVALID_ARGUMENT, "broken protobuf", 2, "\x08\x01"},
        {VLM_INVALID_ARGUMENT, "piece 0 must be", 2, "\x0A\x00"},
        {VLM_INVALID_ARGUMENT, "piece 0 must be", 5, "\x0A\x03\x0A\x01\xFF"},
        {VLM_INVALID_ARGUMENT, "bad score", 10,
         "\x0A\x08\x0A\x01"
         "a\x15\x00\x00\xC0\x7F"},
        {VLM_INVALID_ARGUMENT, "bad score or type", 7,
         "\x0A\x05\x0A\x01"
         "a\x18\x09"},
        {VLM_UNIMPLEMENTED, "UNUSED", 7,
         "\x0A\x05\x0A\x01"
         "a\x18\x05"},
        {VLM_INVALID_ARGUMENT, "twice", 10,
         "\x0A\x03\x0A\x01"
         "a\x0A\x03\x0A\x01"
         "a"},
        {VLM_UNIMPLEMENTED, "model type 1 (unigram)", 5,
         "\x0A\x03\x0A\x01"
         "a"},
        {VLM_UNIMPLEMENTED, "character map", 14,
         "\x0A\x03\x0A\x01"
         "a\x12\x02\x18\x02\x1A\x03\x12\x01x"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const vlm_tokenizer_files files = {.tokenizer_model = {table[i].bytes, table[i].len}};
        check_refused(&files, table[i].status, table[i].text);
    }
}

/* Cut anywhere, a real file is refused or gives a smaller vocabulary; it never reads beyond. */
static void test_model_file_truncated(void **state)
{
    (void)state;
    vlm_buf model = case_file(VLM_SOURCE_DIR "/tests/golden/llava-spm", "tokenizer.model");
    size_t n_refused = 0;
    for (size_t len = 1; len < model.len; len += len < 400 || model.len - len < 400 ? 1 : 97) {
        char *copy = malloc(len);
        assert_non_null(copy);
        memcpy(copy, model.data, len);
        const vlm_tokenizer_files files = {.tokenizer_model = {copy, len}};
        vlm_tokenizer *tok = NULL;
        vlm_error err = {0};
        if (vlm_tokenizer_new(&files, &tok, &err) != VLM_OK) n_refused++;
        vlm_tokenizer_free(tok);
        free(copy);
    }
    assert_true(n_refused > 900);
    vlm_buf_fini(&model);
}

static void test_tekken(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
    } table[] = {
        {"{}", "config.pattern"},
        {"{\"config\":{\"pattern\":\"a\",\"default_vocab_size\":5,\"default_num_special_tokens\":9}"
         ","
         "\"vocab\":[]}",
         "config.pattern"},
        {"{\"config\":{\"pattern\":\"a\",\"default_vocab_size\":5},\"vocab\":[{\"token_bytes\":\"!"
         "\"}]}",
         "token 0 must be base64"},
        {"{\"config\":{\"pattern\":\"a\",\"default_vocab_size\":5},\"vocab\":[{}]}",
         "token 0 must be base64"},
        {"{\"config\":{\"pattern\":\"a\",\"default_vocab_size\":5},\"vocab\":[{\"token_bytes\":"
         "\"YQ==\"},"
         "{\"token_bytes\":\"YQ\"}]}",
         "token 1 is there twice"},
        {"{\"config\":{\"pattern\":\"a\",\"default_vocab_size\":5},\"vocab\":[{\"token_bytes\":"
         "\"YQ==\"},"
         "{\"token_bytes\":\"Yg\",\"rank\":0}]}",
         "two tokens have the id 0"},
        {"{\"config\":{\"pattern\":\"(\",\"default_vocab_size\":5},\"vocab\":[]}",
         "regular expression"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const vlm_tokenizer_files files = {.tekken_json = vlm_bytes_of(table[i].json)};
        check_refused(&files, VLM_INVALID_ARGUMENT, table[i].text);
    }
    static const char *const lines[] = {"", "YQ==\n", "YQ== x\n", "YQ== 99999999\n", "?? 1\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const vlm_tokenizer_files files = {.tiktoken = vlm_bytes_of(lines[i])};
        check_refused(&files, VLM_INVALID_ARGUMENT, "tiktoken vocabulary");
    }
}

#if FAILMALLOC_AVAILABLE
/* Load, encode and decode with the n-th allocation failing: an error, or the right result. */
static void round_trip(const vlm_tokenizer_files *files, vlm_ids *ids, vlm_buf *text)
{
    static const vlm_span user[] = {{0, 4}};
    const vlm_encode_options opt = {.add_special = true, .user_spans = user, .n_user_spans = 1};
    vlm_tokenizer *tok = NULL;
    vlm_error err = {0};
    vlm_status status = vlm_tokenizer_new(files, &tok, &err);
    if (status == VLM_OK)
        status = vlm_tokenizer_encode(
            tok, vlm_bytes_of("e\xCC\x81\xFF <image> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            &opt, ids, &err);
    if (status == VLM_OK)
        status = vlm_tokenizer_decode(tok, ids->data, ids->len, false, text, &err);
    failmalloc_off();
    if (status != VLM_OK) assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
    vlm_tokenizer_free(tok);
}

static void check_memory(const vlm_tokenizer_files *files)
{
    vlm_ids want = {0};
    vlm_buf text;
    vlm_buf_init(&text, 1 << 20);
    round_trip(files, &want, &text);
    assert_true(want.len > 0);
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_ids ids = {0};
        vlm_buf got;
        vlm_buf_init(&got, 1 << 20);
        round_trip(files, &ids, &got);
        if (got.len > 0) {
            assert_int_equal(got.len, text.len);
            assert_memory_equal(got.data, text.data, text.len);
        }
        vlm_ids_fini(&ids);
        vlm_buf_fini(&got);
    }
    vlm_ids_fini(&want);
    vlm_buf_fini(&text);
}

static void test_memory(void **state)
{
    (void)state;
    static const char json[] =
        "{\"model\":{\"vocab\":{\"<unk>\":0,\"a\":1,\"aa\":2,\"e\":3,\"_\":4,\"<image>\":5},"
        "\"merges\":"
        "[[\"a\",\"a\"]],\"unk_token\":\"<unk>\",\"end_of_word_suffix\":null},\"normalizer\":{"
        "\"type\":"
        "\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{"
        "\"Regex\":"
        "\" +\"},\"content\":\"_\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Metaspace\"},{\"type\":\"Split\",\"pattern\":{\"Regex\":\"_e?\"},\"behavior\":"
        "\"MergedWithNext\"}]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
        "\"Replace\","
        "\"pattern\":{\"String\":\"_\"},\"content\":\" "
        "\"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
        "{\"type\":\"Strip\",\"content\":\" "
        "\",\"start\":1,\"stop\":1}]},\"post_processor\":{\"type\":"
        "\"BertProcessing\",\"sep\":[\"a\",1],\"cls\":[\"e\",3]},\"added_tokens\":[{\"id\":5,"
        "\"content\":"
        "\"<image>\",\"special\":true},{\"id\":6,\"content\":\"<X>\",\"normalized\":true}]}";
    static const char config[] =
        "{\"bos_token\":\"e\",\"added_tokens_decoder\":{\"7\":{\"content\":"
        "\"<y>\"}},\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":true}";
    static const char added[] = "{\"<z>\":8}";
    const vlm_tokenizer_files files = {.tokenizer_json = vlm_bytes_of(json),
                                       .tokenizer_config = vlm_bytes_of(config),
                                       .added_tokens = vlm_bytes_of(added)};
    check_memory(&files);
    const vlm_tokenizer_files tekken = {
        .tekken_json = vlm_bytes_of("{\"config\":{\"pattern\":\"\\\\S+\",\"default_vocab_size\":6,"
                                    "\"default_num_special_tokens\":2},"
                                    "\"vocab\":[{\"token_bytes\":\"YQ==\"},{\"token_bytes\":\"YWE="
                                    "\"},{\"token_bytes\":\"ZQ==\"}]}")};
    check_memory(&tekken);
    static const char pieces[] = "\x0A\x09\x0A\x05<unk>\x18\x02"
                                 "\x0A\x03\x0A\x01"
                                 "a"
                                 "\x0A\x04\x0A\x02"
                                 "aa"
                                 "\x0A\x05\x0A\x03\xE2\x96\x81"
                                 "\x0A\x04\x0A\x02"
                                 "bc"
                                 "\x12\x02\x18\x02";
    const vlm_tokenizer_files spm = {.tokenizer_model = {pieces, sizeof pieces - 1}};
    check_memory(&spm);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_unsayable),
        cmocka_unit_test(test_exploding_pattern),
        cmocka_unit_test(test_far_match),
        cmocka_unit_test(test_model_file),
        cmocka_unit_test(test_model_file_truncated),
        cmocka_unit_test(test_tekken),
#if FAILMALLOC_AVAILABLE
        cmocka_unit_test(test_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
