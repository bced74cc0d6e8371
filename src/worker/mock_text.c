#include "worker/mock_text.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { REPEAT_MAX = 1000000, BYTES_MAX = 32 << 20, SLOW_MS_MAX = 600000, DIGEST_SHOWN = 4 };

vlm_status vlm_mock_add_picture(vlm_mock_pictures *set, const vlm_image *image, vlm_error *err)
{
    if (set->n == set->n_max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "messages: more than the %" PRIu32 " pictures announced", set->n_max);
    vlm_sha256(image->rgb, (size_t)image->width * image->height * 3, set->list[set->n].digest);
    set->list[set->n].width = image->width;
    set->list[set->n].height = image->height;
    set->n++;
    return VLM_OK;
}

void vlm_mock_count(const vlm_request *r, uint64_t *n_words, uint64_t *n_images)
{
    for (size_t i = 0; i < r->n_messages; i++)
        for (size_t p = 0; p < r->messages[i].n_parts; p++) {
            const vlm_part *part = &r->messages[i].parts[p];
            if (part->is_picture)
                ++*n_images;
            else
                *n_words += vlm_mock_n_words(part->text);
        }
}

vlm_bytes vlm_mock_word(vlm_bytes text, size_t *pos)
{
    const size_t begin = *pos;
    size_t end = begin;
    while (end < text.len && text.ptr[end] == ' ') end++;
    while (end < text.len && text.ptr[end] != ' ') end++;
    size_t rest = end;
    while (rest < text.len && text.ptr[rest] == ' ') rest++;
    if (rest == text.len) end = rest;
    *pos = end;
    return (vlm_bytes){.ptr = text.ptr + begin, .len = end - begin};
}

uint32_t vlm_mock_n_words(vlm_bytes text)
{
    uint32_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += text.ptr[i] != ' ' && (i == 0 || text.ptr[i - 1] == ' ');
    return n;
}

static const vlm_message *last_user(const vlm_request *r)
{
    for (size_t i = r->n_messages; i > 0; i--)
        if (vlm_bytes_eq_str(r->messages[i - 1].role, "user")) return &r->messages[i - 1];
    return &r->messages[r->n_messages - 1];
}

static vlm_bytes trim(vlm_bytes word)
{
    while (word.len > 0 && word.ptr[0] == ' ') {
        word.ptr++;
        word.len--;
    }
    while (word.len > 0 && word.ptr[word.len - 1] == ' ') word.len--;
    return word;
}

static vlm_status read_number(vlm_bytes text, size_t *pos, uint32_t max, uint32_t *out,
                              vlm_error *err)
{
    const vlm_bytes word = trim(vlm_mock_word(text, pos));
    uint64_t value = 0;
    for (size_t i = 0; i < word.len; i++) {
        if (word.ptr[i] < '0' || word.ptr[i] > '9' || i == 9)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "a mock fault wants a number");
        value = value * 10 + (uint64_t)(word.ptr[i] - '0');
    }
    if (word.len == 0 || value > max)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "a mock fault wants a number up to %" PRIu32,
                        max);
    *out = (uint32_t)value;
    return VLM_OK;
}

static vlm_status read_status(vlm_bytes text, size_t *pos, vlm_status *out, vlm_error *err)
{
    size_t at = *pos;
    const vlm_bytes name = trim(vlm_mock_word(text, &at));
    for (int code = VLM_CANCELLED; code <= VLM_UNAUTHENTICATED; code++) {
        if (!vlm_bytes_eq_str(name, vlm_status_name((vlm_status)code))) continue;
        *pos = at;
        *out = (vlm_status)code;
        return VLM_OK;
    }
    uint32_t number;
    VLM_TRY(read_number(text, pos, VLM_UNAUTHENTICATED, &number, err));
    *out = (vlm_status)number;
    return VLM_OK;
}

typedef struct cues {
    bool repeats, has_bytes;
    uint32_t n_repeat, n_bytes;
} cues;

static vlm_status read_cues(vlm_bytes text, vlm_mock_faults *faults, cues *c, vlm_error *err)
{
    for (size_t pos = 0; pos < text.len;) {
        const vlm_bytes word = trim(vlm_mock_word(text, &pos));
        vlm_status status = VLM_OK;
        if (vlm_bytes_eq_str(word, "@crash")) {
            faults->crash = true;
        } else if (vlm_bytes_eq_str(word, "@hang")) {
            faults->hang = true;
        } else if (vlm_bytes_eq_str(word, "@stall")) {
            faults->stall = true;
        } else if (vlm_bytes_eq_str(word, "@slow")) {
            faults->has_slow = true;
            status = read_number(text, &pos, SLOW_MS_MAX, &faults->slow_ms, err);
        } else if (vlm_bytes_eq_str(word, "@error")) {
            status = read_status(text, &pos, &faults->error, err);
        } else if (vlm_bytes_eq_str(word, "@repeat")) {
            c->repeats = true;
            status = read_number(text, &pos, REPEAT_MAX, &c->n_repeat, err);
        } else if (vlm_bytes_eq_str(word, "@bytes")) {
            c->has_bytes = true;
            status = read_number(text, &pos, BYTES_MAX, &c->n_bytes, err);
        }
        if (status != VLM_OK) return status;
    }
    return VLM_OK;
}

static vlm_status add_body(vlm_bytes text, const cues *c, vlm_buf *answer, vlm_error *err)
{
    if (!c->repeats && !c->has_bytes) {
        if (text.len == 0) return VLM_OK;
        VLM_TRY(vlm_buf_append_char(answer, ' ', err));
        return vlm_buf_append(answer, text.ptr, text.len, err);
    }
    for (uint32_t i = 0; c->repeats && i < c->n_repeat; i++)
        VLM_TRY(vlm_buf_printf(answer, err, " w%" PRIu32, i));
    if (!c->has_bytes) return VLM_OK;
    VLM_TRY(vlm_buf_append_char(answer, ' ', err));
    VLM_TRY(vlm_buf_reserve(answer, c->n_bytes, err));
    for (uint32_t i = 0; i < c->n_bytes; i++) VLM_TRY(vlm_buf_append_char(answer, 'x', err));
    return VLM_OK;
}

static vlm_status add_image(const vlm_mock_pictures *set, size_t idx, vlm_buf *answer,
                            vlm_error *err)
{
    VLM_TRY(vlm_buf_printf(answer, err, " [%" PRIu32 "x%" PRIu32 " sha256:", set->list[idx].width,
                           set->list[idx].height));
    for (int i = 0; i < DIGEST_SHOWN; i++)
        VLM_TRY(vlm_buf_printf(answer, err, "%02x", set->list[idx].digest[i]));
    return vlm_buf_append_char(answer, ']', err);
}

static size_t count_pictures(const vlm_message *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_parts; i++) n += m->parts[i].is_picture;
    return n;
}

vlm_status vlm_mock_answer(const vlm_request *r, bool with_faults, vlm_mock_faults *faults,
                           vlm_buf *answer, vlm_error *err)
{
    const vlm_message *message = last_user(r);
    cues c = {0};
    vlm_buf text;
    vlm_buf_init(&text, answer->len_max);
    *faults = (vlm_mock_faults){0};
    vlm_status status = VLM_OK;
    for (size_t i = 0; status == VLM_OK && i < message->n_parts; i++)
        if (!message->parts[i].is_picture)
            status =
                vlm_buf_append(&text, message->parts[i].text.ptr, message->parts[i].text.len, err);
    if (status == VLM_OK && with_faults) status = read_cues(vlm_buf_bytes(&text), faults, &c, err);
    if (status == VLM_OK) status = vlm_buf_append_str(answer, "mock:", err);
    if (status == VLM_OK) status = add_body(vlm_buf_bytes(&text), &c, answer, err);
    vlm_buf_fini(&text);
    size_t first = 0;
    for (const vlm_message *before = r->messages; before < message; before++)
        first += count_pictures(before);
    for (size_t i = 0; status == VLM_OK && i < count_pictures(message); i++)
        status = add_image((const vlm_mock_pictures *)r->pictures, first + i, answer, err);
    return status;
}

/* An open-addressed table over words kept for ever. */
struct vlm_mock_vocab {
    pthread_mutex_t lock;
    vlm_arena arena;
    vlm_bytes words[VLM_MOCK_VOCAB_SIZE];
    uint32_t n_words;
    uint32_t slots[2 * VLM_MOCK_VOCAB_SIZE]; /* 1 + id; 0: free */
};

vlm_status vlm_mock_vocab_new(vlm_mock_vocab **out, vlm_error *err)
{
    enum { ARENA_MAX = 64 << 20 };
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return vlm_fail_memory(err, "vocabulary");
    (void)pthread_mutex_init(&(*out)->lock, NULL);
    vlm_arena_init(&(*out)->arena, ARENA_MAX);
    return VLM_OK;
}

void vlm_mock_vocab_free(vlm_mock_vocab *v)
{
    if (v == NULL) return;
    vlm_arena_fini(&v->arena);
    (void)pthread_mutex_destroy(&v->lock);
    free(v);
}

/* FNV-1a. */
static uint32_t hash_of(vlm_bytes word)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < word.len; i++) h = (h ^ (uint8_t)word.ptr[i]) * 16777619u;
    return h;
}

static uint32_t find_or_add(vlm_mock_vocab *v, vlm_bytes word)
{
    const uint32_t n_slots = 2 * VLM_MOCK_VOCAB_SIZE;
    uint32_t slot = hash_of(word) % n_slots;
    for (; v->slots[slot] != 0; slot = (slot + 1) % n_slots)
        if (vlm_bytes_eq(v->words[v->slots[slot] - 1], word)) return v->slots[slot] - 1;
    if (v->n_words == VLM_MOCK_VOCAB_SIZE) return VLM_MOCK_VOCAB_SIZE - 1;
    const char *copy = vlm_arena_strndup(&v->arena, word.ptr, word.len);
    if (copy == NULL) return VLM_MOCK_VOCAB_SIZE - 1;
    v->words[v->n_words] = (vlm_bytes){.ptr = copy, .len = word.len};
    v->slots[slot] = ++v->n_words;
    return v->n_words - 1;
}

uint32_t vlm_mock_word_id(vlm_bytes word)
{
    return hash_of(word) % VLM_MOCK_VOCAB_SIZE;
}

vlm_status vlm_mock_tokenize(vlm_mock_vocab *v, vlm_bytes text, uint32_t **ids, size_t *n,
                             vlm_error *err)
{
    *n = 0;
    *ids = vlm_calloc((size_t)vlm_mock_n_words(text) + 1, sizeof **ids);
    if (*ids == NULL) return vlm_fail_memory(err, "ids");
    (void)pthread_mutex_lock(&v->lock);
    for (size_t pos = 0; pos < text.len; ++*n)
        (*ids)[*n] = find_or_add(v, vlm_mock_word(text, &pos));
    (void)pthread_mutex_unlock(&v->lock);
    return VLM_OK;
}

vlm_status vlm_mock_detokenize(vlm_mock_vocab *v, const uint32_t *ids, size_t n, vlm_buf *out,
                               vlm_error *err)
{
    vlm_status status = VLM_OK;
    (void)pthread_mutex_lock(&v->lock);
    for (size_t i = 0; status == VLM_OK && i < n; i++) {
        if (ids[i] >= v->n_words)
            status = vlm_fail_at(err, VLM_INVALID_ARGUMENT, i, "ids[%zu] is no token", i);
        else
            status = vlm_buf_append(out, v->words[ids[i]].ptr, v->words[ids[i]].len, err);
    }
    (void)pthread_mutex_unlock(&v->lock);
    return status;
}
