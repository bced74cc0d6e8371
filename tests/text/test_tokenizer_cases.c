/* Tokenizers against the `tokenizers` library: every component in small (tokenizer_cases.json, made
 * by tools/make_tokenizer_cases.py) and the golden models' own files. */
#include "text/tokenizer_case.h"

static void check_case(const vlm_json *entry)
{
    char what[128];
    const vlm_bytes name = vlm_json_string(vlm_json_get(entry, "name"));
    (void)snprintf(what, sizeof what, "%.*s", (int)name.len, name.ptr);
    vlm_tokenizer *tok = case_json(vlm_json_string(vlm_json_get(entry, "tokenizer")));
    const vlm_json *encode = vlm_json_get(entry, "encode");
    assert_true(vlm_json_array_len(encode) > 10);
    for (size_t i = 0; i < vlm_json_array_len(encode); i++) {
        const vlm_json *c = vlm_json_at(encode, i);
        const vlm_bytes text = vlm_json_string(vlm_json_at(c, 0));
        const vlm_encode_options special = {.add_special = true}, plain = {.plain = true};
        case_check_encode(tok, what, text, &special, vlm_json_at(c, 1));
        case_check_encode(tok, what, text, NULL, vlm_json_at(c, 2));
        case_check_encode(tok, what, text, &plain, vlm_json_at(c, 3));
    }
    const vlm_json *decode = vlm_json_get(entry, "decode");
    for (size_t i = 0; i < vlm_json_array_len(decode); i++) {
        const vlm_json *c = vlm_json_at(decode, i);
        vlm_ids ids = case_ids(vlm_json_at(c, 0));
        case_check_decode(tok, what, &ids, false, vlm_json_string(vlm_json_at(c, 1)));
        case_check_decode(tok, what, &ids, true, vlm_json_string(vlm_json_at(c, 2)));
        vlm_ids_fini(&ids);
    }
    vlm_tokenizer_free(tok);
}

static void test_components(void **state)
{
    (void)state;
    vlm_buf text = case_file(VLM_TEST_DATA "/text", "tokenizer_cases.json");
    vlm_json_doc *doc = case_parse(&text);
    const vlm_json *root = vlm_json_root(doc);
    assert_true(vlm_json_array_len(root) >= 60);
    for (size_t i = 0; i < vlm_json_array_len(root); i++) check_case(vlm_json_at(root, i));
    vlm_json_free(doc);
    vlm_buf_fini(&text);
}

static void check_golden(const char *model, bool without_json)
{
    char folder[512];
    (void)snprintf(folder, sizeof folder, VLM_SOURCE_DIR "/tests/golden/%s/golden", model);
    vlm_buf text = case_file(folder, "cases.json");
    vlm_json_doc *doc = case_parse(&text);
    const vlm_json *cases = vlm_json_get(vlm_json_root(doc), "tokenize");
    assert_true(vlm_json_array_len(cases) > 0);
    vlm_tokenizer *tok = case_golden(model, without_json);
    for (size_t i = 0; i < vlm_json_array_len(cases); i++) {
        const vlm_json *c = vlm_json_at(cases, i);
        const vlm_bytes t = vlm_json_string(vlm_json_get(c, "text"));
        const vlm_encode_options special = {.add_special = true}, plain = {.plain = true};
        case_check_encode(tok, model, t, &special, vlm_json_get(c, "ids"));
        case_check_encode(tok, model, t, NULL, vlm_json_get(c, "ids_no_special"));
        case_check_encode(tok, model, t, &plain, vlm_json_get(c, "ids_plain"));
        vlm_ids ids = case_ids(vlm_json_get(c, "ids_plain"));
        case_check_decode(tok, model, &ids, false, vlm_json_string(vlm_json_get(c, "decoded")));
        vlm_ids_fini(&ids);
    }
    vlm_tokenizer_free(tok);
    vlm_json_free(doc);
    vlm_buf_fini(&text);
}

static void test_golden(void **state)
{
    (void)state;
    check_golden("llava-spm", false);
    check_golden("llava-bpe", false);
    check_golden("llava-odd", false);
}

/* The same vocabulary from tokenizer.model alone. */
static void test_golden_sentencepiece(void **state)
{
    (void)state;
    check_golden("llava-spm", true);
    check_golden("linear-headdim", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_components),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_golden_sentencepiece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
