/* test_safetensors.c - hostile headers by name, truncation at every byte, shards and their index,
 * and what the writer wrote read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "failmalloc.h"
#include "model/safetensors.h"

/* A file in memory of exactly its size, so that a sanitizer sees a byte too many. */
typedef struct image {
    char *data;
    size_t len;
} image;

static image make_file(uint64_t header_len, const char *header, size_t written, size_t data_len)
{
    image f = {.len = 8 + written + data_len};
    f.data = malloc(f.len);
    assert_non_null(f.data);
    for (int i = 0; i < 8; i++) f.data[i] = (char)(header_len >> (8 * i) & 0xff);
    memcpy(f.data + 8, header, written);
    for (size_t i = 0; i < data_len; i++) f.data[8 + written + i] = (char)(i + 1);
    return f;
}

static image file_of(const char *header, size_t data_len)
{
    return make_file(strlen(header), header, strlen(header), data_len);
}

static vlm_status open_image(const image *f, vlm_safetensors **s, vlm_error *err)
{
    return vlm_safetensors_open_bytes((vlm_bytes){f->data, f->len}, "x.safetensors", s, err);
}

#define T(name, dtype, shape, begin, end)                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end   \
    "]}"

typedef struct hostile {
    const char *header;
    size_t data_len;
    const char *want; /* in the message, beside the file's name */
} hostile;

static const hostile hostiles[] = {
    {"[]", 0, "header does not begin"},
    {" {}", 0, "header does not begin"},
    {"7", 0, "header does not begin"},
    {"{", 0, "header"},
    {"{}}", 0, "header"},
    {"{\"a\":}", 0, "header"},
    {"{\"\xff\":{}}", 0, "header"},
    {"{\"a\xed\xa0\x80\":{}}", 0, "header"},
    {"{\"a\\u0000b\":{}}", 0, "header"},
    {"{" T("a", "U8", "[1]", "0", "1") "," T("a", "U8", "[1]", "0", "1") "}", 1, "header"},
    {"{" T("a", "U8", "[[[[[[[[[[1]]]]]]]]]]", "0", "1") "}", 1, "header"},
    {"{\"a\":7}", 0, "tensor a"},
    {"{\"a\":null}", 0, "tensor a"},
    {"{\"a\":[]}", 0, "tensor a"},
    {"{\"a\":{}}", 0, "tensor a"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor a: dtype"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor a: unknown dtype"},
    {"{" T("a", "F17", "[1]", "0", "2") "}", 2, "tensor a: unknown dtype F17"},
    {"{" T("a", "f32", "[1]", "0", "4") "}", 4, "tensor a: unknown dtype f32"},
    {"{" T("a", "", "[1]", "0", "4") "}", 4, "tensor a: unknown dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "tensor a: shape"},
    {"{" T("a", "U8", "1", "0", "1") "}", 1, "tensor a: shape"},
    {"{" T("a", "U8", "{}", "0", "1") "}", 1, "tensor a: shape"},
    {"{" T("a", "U8", "[-1]", "0", "1") "}", 1, "tensor a: shape[0]"},
    {"{" T("a", "U8", "[1,1.0]", "0", "1") "}", 1, "tensor a: shape[1]"},
    {"{" T("a", "U8", "[\"1\"]", "0", "1") "}", 1, "tensor a: shape[0]"},
    {"{" T("a", "U8", "[null]", "0", "1") "}", 1, "tensor a: shape[0]"},
    {"{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", "0", "1") "}", 1, "tensor a: shape"},
    {"{" T("a", "U8", "[18446744073709551616]", "0", "0") "}", 0, "tensor a: shape[0]"},
    /* 2^62 * 4 bytes and 2^32 * 2^32 are 0 in 64 bits. */
    {"{" T("a", "F32", "[4611686018427387904]", "0", "0") "}", 0, "tensor a: shape[0]"},
    {"{" T("a", "U8", "[4294967296,4294967296]", "0", "0") "}", 0, "tensor a: shape[1]"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "tensor a: data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "tensor a: data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1,
     "tensor a: data_offsets"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":\"01\"}}", 1,
     "tensor a: data_offsets"},
    {"{" T("a", "U8", "[1]", "1", "0") "}", 1, "tensor a: data_offsets"},
    {"{" T("a", "U8", "[1]", "-1", "0") "}", 1, "tensor a: data_offsets"},
    {"{" T("a", "U8", "[1]", "0.0", "1.0") "}", 1, "tensor a: data_offsets"},
    {"{" T("a", "U8", "[1]", "18446744073709551615", "18446744073709551616") "}", 1,
     "tensor a: data_offsets"},
    {"{" T("a", "U8", "[1]", "9223372036854775806", "9223372036854775807") "}", 1,
     "tensor a ends at byte"},
    {"{" T("a", "U8", "[2]", "0", "2") "}", 1, "tensor a ends at byte 2"},
    {"{" T("a", "F32", "[2]", "0", "4") "}", 4, "tensor a: shape and dtype need 8 bytes"},
    {"{" T("a", "F32", "[]", "0", "0") "}", 0, "tensor a: shape and dtype need 4 bytes"},
    {"{" T("a", "U8", "[0]", "0", "1") "}", 1, "tensor a: shape and dtype need 0 bytes"},
    {"{" T("a", "U8", "[4]", "0", "4") "," T("b", "U8", "[4]", "2", "6") "}", 6, "tensor b begins"},
    {"{" T("a", "U8", "[4]", "0", "4") "," T("b", "U8", "[4]", "0", "4") "}", 4,
     "begins at byte 0"},
    {"{" T("b", "U8", "[6]", "0", "6") "," T("a", "U8", "[2]", "2", "4") "}", 6, "tensor a begins"},
    {"{" T("a", "U8", "[2]", "0", "2") "," T("b", "U8", "[2]", "4", "6") "}", 6, "tensor b begins"},
    {"{" T("a", "U8", "[2]", "1", "3") "}", 3, "tensor a begins at byte 1"},
    {"{" T("a", "U8", "[2]", "0", "2") "}", 3, "1 bytes follow"},
    {"{}", 1, "1 bytes follow"},
    {"{\"__metadata__\":7}", 0, "__metadata__"},
    {"{\"__metadata__\":null}", 0, "__metadata__"},
    {"{\"__metadata__\":{\"format\":7}}", 0, "__metadata__: format"},
    {"{\"__metadata__\":{\"format\":{}}}", 0, "__metadata__: format"},
};

static void expect_refused(const image *f, const char *label, const char *want)
{
    vlm_safetensors *s;
    vlm_error err = {0};
    const vlm_status status = open_image(f, &s, &err);
    if (status == VLM_OK) fail_msg("%s: accepted", label);
    assert_null(s);
    if (strstr(err.msg, want) == NULL || strstr(err.msg, "x.safetensors") == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", label, err.msg, want);
}

static void test_hostile_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostiles / sizeof hostiles[0]; i++) {
        image f = file_of(hostiles[i].header, hostiles[i].data_len);
        expect_refused(&f, hostiles[i].header, hostiles[i].want);
        free(f.data);
    }
}

static void test_header_lengths(void **state)
{
    (void)state;
    static const struct {
        uint64_t len;
        const char *want;
    } lengths[] = {
        {0, "does not begin"},        {1, "header"},         {3, "truncated"},
        {100000000, "truncated"},     {100000001, "not a"},  {UINT64_C(1) << 32, "not a"},
        {UINT64_C(1) << 63, "not a"}, {UINT64_MAX, "not a"}, {UINT64_MAX - 7, "not a"},
    };
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        image f = make_file(lengths[i].len, "{}", 2, 0);
        expect_refused(&f, "{} with another length", lengths[i].want);
        free(f.data);
    }
    for (size_t len = 0; len < 8; len++) {
        image f = make_file(2, "{}", 2, 0);
        f.data = realloc(f.data, len + 1);
        f.len = len;
        expect_refused(&f, "a file of few bytes", "too short");
        free(f.data);
    }
}

static const char good_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"}," T("w", "F32", "[2,3]", "6", "30") "," T(
        "b", "BF16", "[3]", "0", "6") "," T("empty", "F16", "[0,4]", "30",
                                            "30") "," T("n", "I64", "[]", "30", "38") "}  ";

static void test_good_file(void **state)
{
    (void)state;
    image f = file_of(good_header, 38);
    const char *data = f.data + 8 + strlen(good_header);
    vlm_safetensors *s;
    vlm_error err;
    assert_int_equal(open_image(&f, &s, &err), VLM_OK);
    assert_int_equal(vlm_safetensors_n(s), 4);
    static const char *const sorted[] = {"b", "empty", "n", "w"};
    for (size_t i = 0; i < 4; i++) assert_string_equal(vlm_safetensors_at(s, i)->name, sorted[i]);
    const vlm_st_tensor *w = vlm_safetensors_find(s, "w");
    assert_ptr_equal(w, vlm_safetensors_at(s, 3));
    assert_true(w->dtype_known && w->dtype == VLM_DTYPE_F32);
    assert_int_equal(w->rank, 2);
    assert_int_equal(w->shape[1], 3);
    assert_int_equal(w->n_bytes, 24);
    assert_ptr_equal(w->data, data + 6);
    assert_int_equal(vlm_safetensors_find(s, "empty")->n_bytes, 0);
    const vlm_st_tensor *n = vlm_safetensors_find(s, "n");
    assert_false(n->dtype_known);
    assert_string_equal(n->dtype_name, "I64");
    assert_int_equal(n->rank, 0);
    assert_int_equal(n->n_bytes, 8);
    assert_null(vlm_safetensors_find(s, "__metadata__"));
    assert_null(vlm_safetensors_find(s, ""));
    vlm_safetensors_close(s);
    free(f.data);

    f = file_of("{}", 0);
    assert_int_equal(open_image(&f, &s, &err), VLM_OK);
    assert_int_equal(vlm_safetensors_n(s), 0);
    assert_null(vlm_safetensors_find(s, "w"));
    vlm_safetensors_close(s);
    free(f.data);
    vlm_safetensors_close(NULL);
}

static void test_every_dtype(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned n_bytes;
        bool known;
    } dtypes[] = {
        {"BOOL", 1, false},    {"U8", 1, false},  {"I8", 1, false},  {"F8_E5M2", 1, false},
        {"F8_E4M3", 1, false}, {"I16", 2, false}, {"U16", 2, false}, {"F16", 2, true},
        {"BF16", 2, true},     {"I32", 4, false}, {"U32", 4, false}, {"F32", 4, true},
        {"F64", 8, false},     {"I64", 8, false}, {"U64", 8, false},
    };
    char header[128];
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        (void)snprintf(header, sizeof header,
                       "{\"a\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%u]}}",
                       dtypes[i].name, 3 * dtypes[i].n_bytes);
        image f = file_of(header, (size_t)3 * dtypes[i].n_bytes);
        vlm_safetensors *s;
        vlm_error err;
        if (open_image(&f, &s, &err) != VLM_OK) fail_msg("%s: %s", dtypes[i].name, err.msg);
        const vlm_st_tensor *t = vlm_safetensors_find(s, "a");
        assert_string_equal(t->dtype_name, dtypes[i].name);
        assert_int_equal(t->dtype_known, dtypes[i].known);
        vlm_safetensors_close(s);
        free(f.data);
    }
}

/* Beyond the header, the message names a tensor. */
static void test_truncation_at_every_byte(void **state)
{
    (void)state;
    image whole = file_of(good_header, 38);
    const size_t header_end = 8 + strlen(good_header);
    for (size_t len = 0; len < whole.len; len++) {
        image f = {.data = malloc(len + 1), .len = len};
        memcpy(f.data, whole.data, len);
        f.data = realloc(f.data, len > 0 ? len : 1);
        expect_refused(&f, "truncated", len >= header_end ? "tensor " : "");
        free(f.data);
    }
    free(whole.data);
}

/* Any one byte of the header changed: refused or in bounds (a sanitizer looks on). */
static void test_every_header_byte_changed(void **state)
{
    (void)state;
    image f = file_of(good_header, 38);
    static const char changes[] = {0, ' ', '"', '0', '9', ']', '}', (char)0x80, (char)0xff};
    unsigned sum = 0;
    for (size_t at = 0; at < 8 + strlen(good_header); at++)
        for (size_t k = 0; k < sizeof changes; k++) {
            const char saved = f.data[at];
            f.data[at] = changes[k];
            vlm_safetensors *s;
            vlm_error err;
            if (open_image(&f, &s, &err) == VLM_OK)
                for (size_t i = 0; i < vlm_safetensors_n(s); i++) {
                    const vlm_st_tensor *t = vlm_safetensors_at(s, i);
                    assert_true(t->n_bytes <= 38);
                    for (uint64_t b = 0; b < t->n_bytes; b++)
                        sum += (unsigned char)((const char *)t->data)[b];
                }
            vlm_safetensors_close(s);
            f.data[at] = saved;
        }
    assert_true(sum > 0);
    free(f.data);
}

/* Shards. */

static const char index_name[] = "model.safetensors.index.json";

typedef struct shards {
    image a, b;
    vlm_builtin_file files[4];
    vlm_folder *folder;
} shards;

static void open_shards(shards *s, const char *index, const char *header_a, const char *header_b)
{
    vlm_error err;
    s->a = file_of(header_a, 2);
    s->b = file_of(header_b, 2);
    s->files[0] = (vlm_builtin_file){"one.safetensors", s->a.data, s->a.len};
    s->files[1] = (vlm_builtin_file){"two.safetensors", s->b.data, s->b.len};
    s->files[2] = (vlm_builtin_file){index_name, index, strlen(index)};
    assert_int_equal(vlm_folder_open_builtin(s->files, 3, &s->folder, &err), VLM_OK);
}

static void close_shards(shards *s)
{
    vlm_folder_close(s->folder);
    free(s->a.data);
    free(s->b.data);
}

static const char header_a[] = "{" T("a", "F16", "[1]", "0", "2") "}";
static const char header_b[] = "{" T("b", "F16", "[1]", "0", "2") "}";

static void test_shards(void **state)
{
    (void)state;
    shards sh;
    vlm_safetensors *s;
    vlm_error err;
    open_shards(&sh, "{\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}",
                header_a, header_b);
    assert_int_equal(vlm_safetensors_open_folder(sh.folder, &s, &err), VLM_OK);
    assert_int_equal(vlm_safetensors_n(s), 2);
    assert_ptr_equal(vlm_safetensors_find(s, "a")->data, sh.a.data + sh.a.len - 2);
    assert_ptr_equal(vlm_safetensors_find(s, "b")->data, sh.b.data + sh.b.len - 2);
    assert_true(vlm_safetensors_find(s, "a")->file_idx != vlm_safetensors_find(s, "b")->file_idx);
    vlm_safetensors_close(s);
    close_shards(&sh);
}

static void test_bad_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *index, *b, *want;
    } cases[] = {
        {"", header_b, "index.json"},
        {"[]", header_b, "index.json"},
        {"{}", header_b, "weight_map"},
        {"{\"weight_map\":{}}", header_b, "weight_map"},
        {"{\"weight_map\":[\"one.safetensors\"]}", header_b, "weight_map"},
        {"{\"weight_map\":{\"a\":7}}", header_b, "weight_map: a"},
        {"{\"weight_map\":{\"a\":null}}", header_b, "weight_map: a"},
        {"{\"weight_map\":{\"a\":\"none.safetensors\"}}", header_b, "none.safetensors"},
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", header_b, "../one.safetensors"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", header_b, "/etc/passwd"},
        {"{\"weight_map\":{\"a\":\"./one.safetensors\"}}", header_b, "./one.safetensors"},
        {"{\"weight_map\":{\"a\":\"..\"}}", header_b, ".."},
        {"{\"weight_map\":{\"a\":\".\"}}", header_b, "."},
        {"{\"weight_map\":{\"a\":\"\"}}", header_b, "index.json"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\\u0000x\"}}", header_b, "file name"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\"}}", header_b, "tensor a is not in two"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}", header_b,
         "is not in"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"one.safetensors\"}}", header_b,
         "tensor c is not in one"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}", header_a,
         "tensor a is in two files"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}",
         "{" T("b", "F16", "[2]", "0", "4") "}", "tensor b ends"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"two.safetensors\"}}", header_b,
         "index.json"},
        {"{\"weight_map\":{\"a\":\"model.safetensors.index.json\"}}", header_b, "index.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        shards sh;
        vlm_safetensors *s;
        vlm_error err = {0};
        open_shards(&sh, cases[i].index, header_a, cases[i].b);
        if (vlm_safetensors_open_folder(sh.folder, &s, &err) == VLM_OK)
            fail_msg("%s: accepted", cases[i].index);
        assert_null(s);
        if (strstr(err.msg, cases[i].want) == NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].index, err.msg, cases[i].want);
        close_shards(&sh);
    }
}

static void test_which_file_of_a_folder(void **state)
{
    (void)state;
    image a = file_of(header_a, 2), b = file_of(header_b, 2);
    const vlm_builtin_file files[] = {{"other.safetensors", b.data, b.len},
                                      {"model.safetensors", a.data, a.len},
                                      {index_name, "{}", 2}};
    vlm_folder *folder;
    vlm_safetensors *s;
    vlm_error err;
    /* model.safetensors goes before an index and other files. */
    assert_int_equal(vlm_folder_open_builtin(files, 3, &folder, &err), VLM_OK);
    assert_int_equal(vlm_safetensors_open_folder(folder, &s, &err), VLM_OK);
    assert_non_null(vlm_safetensors_find(s, "a"));
    vlm_safetensors_close(s);
    vlm_folder_close(folder);
    /* The only file, whatever its name. */
    assert_int_equal(vlm_folder_open_builtin(files, 1, &folder, &err), VLM_OK);
    assert_int_equal(vlm_safetensors_open_folder(folder, &s, &err), VLM_OK);
    assert_non_null(vlm_safetensors_find(s, "b"));
    vlm_safetensors_close(s);
    vlm_folder_close(folder);
    /* None, and several without an index. */
    assert_int_equal(vlm_folder_open_builtin(files, 0, &folder, &err), VLM_OK);
    assert_int_equal(vlm_safetensors_open_folder(folder, &s, &err), VLM_NOT_FOUND);
    assert_non_null(strstr(err.msg, "model.safetensors"));
    vlm_folder_close(folder);
    const vlm_builtin_file two[] = {files[0], {"third.safetensors", a.data, a.len}};
    assert_int_equal(vlm_folder_open_builtin(two, 2, &folder, &err), VLM_OK);
    assert_int_equal(vlm_safetensors_open_folder(folder, &s, &err), VLM_NOT_FOUND);
    assert_non_null(strstr(err.msg, index_name));
    vlm_folder_close(folder);
    free(a.data);
    free(b.data);
}

/* The writer. */

static void temp_path(char *path, size_t cap)
{
    (void)snprintf(path, cap, "/tmp/vlm_st_test_%ld.safetensors", (long)getpid());
}

static void test_write_and_read_back(void **state)
{
    (void)state;
    static const int64_t ids[] = {1, -2, INT64_MAX};
    static const float pixels[] = {0.5f, -1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
    const vlm_st_tensor tensors[] = {
        {.name = "input_ids",
         .dtype_name = "I64",
         .rank = 1,
         .shape = {3},
         .data = ids,
         .n_bytes = sizeof ids},
        {.name = "na\"me\\\n\xc3\xa4",
         .dtype_name = "F32",
         .rank = 2,
         .shape = {2, 3},
         .data = pixels,
         .n_bytes = sizeof pixels},
        {.name = "none", .dtype_name = "F32", .rank = 2, .shape = {0, 3}, .data = pixels},
        {.name = "scalar", .dtype_name = "F32", .data = pixels, .n_bytes = sizeof pixels[0]},
    };
    char path[64];
    vlm_error err;
    vlm_map map;
    vlm_safetensors *s;
    temp_path(path, sizeof path);
    /* Twice: the second replaces the first. */
    for (size_t n = 1; n <= 4; n += 3)
        if (vlm_safetensors_write(path, tensors, n, &err) != VLM_OK) fail_msg("%s", err.msg);
    assert_int_equal(vlm_map_open(path, "t", &map, &err), VLM_OK);
    if (vlm_safetensors_open_bytes((vlm_bytes){map.data, map.len}, "t", &s, &err) != VLM_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(vlm_safetensors_n(s), 4);
    for (size_t i = 0; i < 4; i++) {
        const vlm_st_tensor *t = vlm_safetensors_find(s, tensors[i].name);
        assert_non_null(t);
        assert_string_equal(t->dtype_name, tensors[i].dtype_name);
        assert_int_equal(t->rank, tensors[i].rank);
        assert_memory_equal(t->shape, tensors[i].shape, sizeof t->shape);
        assert_int_equal(t->n_bytes, tensors[i].n_bytes);
        assert_memory_equal(t->data, tensors[i].data, (size_t)t->n_bytes);
    }
    /* Data begins at a multiple of 8, as readers like it. */
    assert_int_equal(((uintptr_t)vlm_safetensors_find(s, "input_ids")->data) % 8, 0);
    vlm_safetensors_close(s);
    vlm_map_close(&map);
    assert_int_equal(unlink(path), 0);
}

static void test_write_where_nothing_can_be(void **state)
{
    (void)state;
    vlm_error err = {0};
    assert_int_not_equal(vlm_safetensors_write("/nowhere/at/all.safetensors", NULL, 0, &err),
                         VLM_OK);
    assert_non_null(strstr(err.msg, "/nowhere/at/all.safetensors"));
}

/* No allocation that fails may crash, leak or pass for success. */
static void test_out_of_memory(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    shards sh;
    vlm_safetensors *s;
    vlm_error err;
    open_shards(&sh, "{\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}",
                header_a, header_b);
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_folder *folder;
        s = NULL;
        vlm_status status = vlm_folder_open_builtin(sh.files, 3, &folder, &err);
        if (status == VLM_OK) status = vlm_safetensors_open_folder(folder, &s, &err);
        failmalloc_off();
        if (status != VLM_OK) {
            assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
            assert_null(s);
            n_failed++;
        }
        vlm_safetensors_close(s);
        vlm_folder_close(folder);
    }
    assert_true(n_failed >= 5);
    close_shards(&sh);
#else
    print_message("a sanitizer's allocator cannot be made to fail\n");
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_header_lengths),
        cmocka_unit_test(test_good_file),
        cmocka_unit_test(test_every_dtype),
        cmocka_unit_test(test_truncation_at_every_byte),
        cmocka_unit_test(test_every_header_byte_changed),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_bad_indexes),
        cmocka_unit_test(test_which_file_of_a_folder),
        cmocka_unit_test(test_write_and_read_back),
        cmocka_unit_test(test_write_where_nothing_can_be),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
