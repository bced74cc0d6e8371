/* bench_tokenizer.c - worst-case texts through a model folder's tokenizer:
 *     bench_tokenizer FOLDER...
 * For each kind of text: MB/s of 1 MiB, and how much longer twice the length takes; by the time on
 * the CPU of one thread, best of three, so that other programs matter little. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "text/tokenizer.h"

enum { TEXT_LEN = 1 << 20, N_ROUNDS = 3 };

typedef struct kind {
    const char *name, *unit; /* unit NULL: made by number */
} kind;

static const kind kinds[] = {
    {"letters a", "a"},
    {"capitals A", "A"},
    {"spaces", " "},
    {"line feeds", "\n"},
    {"digits", "7"},
    {"punctuation", "!"},
    {"words", " the quick brown fox"},
    {"emoji joiners", "\xE2\x80\x8D"},
    {"emoji families", "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7"},
    {"combining marks", "\xCC\x81\xCC\xA3\xCC\xB4"},
    {"special starts", "<|"},
    {"U+2581", "\xE2\x96\x81"},
    {"random bytes", NULL},
    {"random letters", NULL},
};

static double cpu_seconds(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) return 0;
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static char *make_text(size_t k, size_t len)
{
    char *text = malloc(len);
    if (text == NULL) return NULL;
    const char *unit = kinds[k].unit;
    const size_t n_unit = unit == NULL ? 0 : strlen(unit);
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < len; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if (n_unit > 0)
            text[i] = unit[i % n_unit];
        else
            text[i] = (char)(strcmp(kinds[k].name, "random bytes") == 0 ? state >> 56
                                                                        : 'a' + (state >> 32) % 26);
    }
    return text;
}

/* Seconds of the fastest round, negative when it fails. */
static double measure(const vlm_tokenizer *tok, size_t k, size_t len)
{
    char *text = make_text(k, len);
    double best = -1;
    for (unsigned round = 0; text != NULL && round < N_ROUNDS; round++) {
        vlm_ids ids = {0};
        vlm_error err = {0};
        const double start = cpu_seconds();
        const vlm_status status =
            vlm_tokenizer_encode(tok, (vlm_bytes){text, len}, NULL, &ids, &err);
        const double seconds = cpu_seconds() - start;
        vlm_ids_fini(&ids);
        if (status != VLM_OK) {
            (void)fprintf(stderr, "%s: %s\n", kinds[k].name, err.msg);
            break;
        }
        if (best < 0 || seconds < best) best = seconds;
    }
    free(text);
    return best;
}

static vlm_bytes read_file(const char *folder, const char *name, vlm_buf *buf)
{
    char path[4096];
    vlm_error err;
    vlm_buf_init(buf, 0);
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!vlm_path_is_file(path) ||
        vlm_file_read(path, name, (size_t)1 << 30, buf, &err) != VLM_OK || buf->data == NULL)
        return (vlm_bytes){0};
    return vlm_buf_bytes(buf);
}

static int bench_folder(const char *folder)
{
    vlm_buf json, model, config;
    const vlm_tokenizer_files files = {
        .tokenizer_json = read_file(folder, "tokenizer.json", &json),
        .tokenizer_model = read_file(folder, "tokenizer.model", &model),
        .tokenizer_config = read_file(folder, "tokenizer_config.json", &config),
    };
    vlm_tokenizer *tok = NULL;
    vlm_error err = {0};
    const double start = cpu_seconds();
    const vlm_status status = vlm_tokenizer_new(&files, &tok, &err);
    const double load_s = cpu_seconds() - start;
    vlm_buf_fini(&json);
    vlm_buf_fini(&model);
    vlm_buf_fini(&config);
    if (status != VLM_OK) {
        (void)fprintf(stderr, "%s: %s\n", folder, err.msg);
        return 1;
    }
    printf("%s: %s, %u ids, loaded in %.3f s\n", folder, vlm_tokenizer_kind(tok),
           vlm_tokenizer_n_vocab(tok), load_s);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const double once = measure(tok, k, TEXT_LEN), twice = measure(tok, k, TEXT_LEN * 2);
        if (once > 0 && twice > 0)
            printf("  %-16s %7.1f MB/s   twice the length: %.2f times as long\n", kinds[k].name,
                   TEXT_LEN / once / 1e6, twice / once);
    }
    vlm_tokenizer_free(tok);
    return 0;
}

int main(int argc, char **argv)
{
    /* Large arrays come fresh from the system for every text, as in a program that reads one text;
     * else the shorter text would find them warm and the longer one not. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 17);
    int failed = argc < 2;
    for (int i = 1; i < argc; i++) failed |= bench_folder(argv[i]);
    if (argc < 2) (void)fprintf(stderr, "usage: bench_tokenizer FOLDER...\n");
    return failed;
}
