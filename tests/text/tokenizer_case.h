/* tokenizer_case.h - what the tokenizer tests share: loading from files and strings, comparing. */
#ifndef VLM_TESTS_TEXT_TOKENIZER_CASE_H
#define VLM_TESTS_TEXT_TOKENIZER_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

static inline vlm_bytes case_bytes(const vlm_buf *buf)
{
    return buf->data == NULL ? (vlm_bytes){0} : vlm_buf_bytes(buf);
}

static inline vlm_buf case_file(const char *folder, const char *name)
{
    char path[1024];
    vlm_buf buf;
    vlm_error err;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (vlm_path_is_file(path))
        assert_int_equal(vlm_file_read(path, name, (size_t)1 << 30, &buf, &err), VLM_OK);
    else
        vlm_buf_init(&buf, 0);
    return buf;
}

/* A golden model's folder, with or without its tokenizer.json. */
static inline vlm_tokenizer *case_golden(const char *model, bool without_json)
{
    char folder[512];
    (void)snprintf(folder, sizeof folder, VLM_SOURCE_DIR "/tests/golden/%s", model);
    vlm_buf json = case_file(folder, "tokenizer.json");
    vlm_buf spm = case_file(folder, "tokenizer.model");
    vlm_buf config = case_file(folder, "tokenizer_config.json");
    vlm_buf map = case_file(folder, "special_tokens_map.json");
    const vlm_tokenizer_files files = {
        .tokenizer_json = without_json ? (vlm_bytes){0} : case_bytes(&json),
        .tokenizer_model = case_bytes(&spm),
        .tokenizer_config = case_bytes(&config),
        .special_tokens_map = case_bytes(&map),
    };
    vlm_tokenizer *tok = NULL;
    vlm_error err = {0};
    if (vlm_tokenizer_new(&files, &tok, &err) != VLM_OK) fail_msg("%s: %s", model, err.msg);
    vlm_buf_fini(&json);
    vlm_buf_fini(&spm);
    vlm_buf_fini(&config);
    vlm_buf_fini(&map);
    return tok;
}

static inline vlm_tokenizer *case_json(vlm_bytes json)
{
    const vlm_tokenizer_files files = {.tokenizer_json = json};
    vlm_tokenizer *tok = NULL;
    vlm_error err = {0};
    if (vlm_tokenizer_new(&files, &tok, &err) != VLM_OK) fail_msg("%s", err.msg);
    return tok;
}

static inline vlm_json_doc *case_parse(const vlm_buf *text)
{
    vlm_json_doc *doc = NULL;
    vlm_error err = {0};
    if (vlm_json_parse(text->data, text->len, &vlm_json_limits_large, &doc, &err) != VLM_OK)
        fail_msg("%s", err.msg);
    return doc;
}

static inline vlm_ids case_encode(const vlm_tokenizer *tok, vlm_bytes text,
                                  const vlm_encode_options *opt)
{
    vlm_ids ids = {0};
    vlm_error err = {0};
    if (vlm_tokenizer_encode(tok, text, opt, &ids, &err) != VLM_OK) fail_msg("%s", err.msg);
    return ids;
}

static inline void case_check_ids(const char *what, vlm_bytes text, const vlm_ids *got,
                                  const vlm_json *want)
{
    bool same = got->len == vlm_json_array_len(want);
    for (size_t i = 0; same && i < got->len; i++)
        same = vlm_json_int(vlm_json_at(want, i)) == (int64_t)got->data[i];
    if (same) return;
    for (size_t i = 0; i < vlm_json_array_len(want) || i < got->len; i++)
        print_error("%zu: want %lld got %lld\n", i,
                    i < vlm_json_array_len(want) ? (long long)vlm_json_int(vlm_json_at(want, i))
                                                 : -1,
                    i < got->len ? (long long)got->data[i] : -1);
    fail_msg("%s: \"%.*s\"", what, (int)text.len, text.ptr);
}

static inline void case_check_encode(const vlm_tokenizer *tok, const char *what, vlm_bytes text,
                                     const vlm_encode_options *opt, const vlm_json *want)
{
    vlm_ids ids = case_encode(tok, text, opt);
    case_check_ids(what, text, &ids, want);
    vlm_ids_fini(&ids);
}

/* The text of ids at once and, without special tokens, token by token. */
static inline void case_check_decode(const vlm_tokenizer *tok, const char *what, const vlm_ids *ids,
                                     bool skip_special, vlm_bytes want)
{
    vlm_error err = {0};
    vlm_buf got;
    vlm_buf_init(&got, (size_t)1 << 30);
    assert_int_equal(vlm_tokenizer_decode(tok, ids->data, ids->len, skip_special, &got, &err),
                     VLM_OK);
    if (!vlm_bytes_eq(vlm_buf_bytes(&got), want))
        fail_msg("%s: want \"%.*s\" got \"%.*s\"", what, (int)want.len, want.ptr, (int)got.len,
                 got.data == NULL ? "" : got.data);
    if (skip_special) {
        vlm_detok *detok = NULL;
        vlm_buf_clear(&got);
        assert_int_equal(vlm_detok_new(tok, &detok, &err), VLM_OK);
        for (size_t i = 0; i < ids->len; i++)
            assert_int_equal(vlm_detok_push(detok, ids->data[i], &got, &err), VLM_OK);
        assert_int_equal(vlm_detok_flush(detok, &got, &err), VLM_OK);
        if (!vlm_bytes_eq(vlm_buf_bytes(&got), want)) fail_msg("%s: streamed text differs", what);
        vlm_detok_free(detok);
    }
    vlm_buf_fini(&got);
}

static inline vlm_ids case_ids(const vlm_json *list)
{
    vlm_ids ids = {0};
    vlm_error err;
    for (size_t i = 0; i < vlm_json_array_len(list); i++)
        assert_int_equal(vlm_ids_append(&ids, (uint32_t)vlm_json_int(vlm_json_at(list, i)), &err),
                         VLM_OK);
    return ids;
}

#endif
