#include "cli/bench_record.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { SAID_LEN_MAX = 1 << 26, TOKENS_MAX = 1 << 24 };

void vlm_record_init(vlm_record *r)
{
    *r = (vlm_record){0};
    for (size_t i = 0; i < VLM_REQUEST_CHOICES_MAX; i++)
        vlm_buf_init(&r->choices[i].said, SAID_LEN_MAX);
}

void vlm_record_fini(vlm_record *r)
{
    for (size_t i = 0; i < VLM_REQUEST_CHOICES_MAX; i++) {
        free(r->choices[i].tokens);
        vlm_buf_fini(&r->choices[i].said);
    }
    *r = (vlm_record){0};
}

/* Comparing bits tells -0 from 0 and finds a NaN equal to itself. */
static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static vlm_status keep_logprob(vlm_record_choice *c, vlm_record_token *t,
                               const vlm_token_logprob *p, vlm_error *err)
{
    if (p->n_top > VLM_REQUEST_TOP_LOGPROBS_MAX)
        return vlm_fail(err, VLM_INTERNAL, "%u likeliest tokens", p->n_top);
    t->has_logprob = true;
    t->logprob_bits = bits_of(p->logprob);
    t->n_top = p->n_top;
    VLM_TRY(vlm_buf_append(&c->said, p->bytes.ptr, p->bytes.len, err));
    for (uint32_t i = 0; i < p->n_top; i++) {
        t->top[i] =
            (vlm_record_top){.id = p->top[i].id, .logprob_bits = bits_of(p->top[i].logprob)};
        VLM_TRY(vlm_buf_append(&c->said, p->top[i].bytes.ptr, p->top[i].bytes.len, err));
    }
    return VLM_OK;
}

static vlm_status keep_token(vlm_record_choice *c, const vlm_event *event, vlm_error *err)
{
    if (!vlm_grow((void **)&c->tokens, &c->cap, c->n + 1, TOKENS_MAX, sizeof *c->tokens))
        return vlm_fail_memory(err, "answers");
    vlm_record_token *t = &c->tokens[c->n];
    *t = (vlm_record_token){.has_token = event->has_token,
                            .id = event->has_token ? event->token_id : 0,
                            .text_len = event->text.len};
    VLM_TRY(vlm_buf_append(&c->said, event->text.ptr, event->text.len, err));
    const size_t before = c->said.len;
    if (event->logprob != NULL) VLM_TRY(keep_logprob(c, t, event->logprob, err));
    t->bytes_len = c->said.len - before;
    c->n++;
    return VLM_OK;
}

vlm_status vlm_record_add(vlm_record *r, const vlm_event *event, vlm_error *err)
{
    if (event->type == VLM_EVENT_STARTED) return VLM_OK;
    if (event->type == VLM_EVENT_ERROR) {
        r->failed = true;
        r->error = event->error;
        return VLM_OK;
    }
    if (event->choice >= VLM_REQUEST_CHOICES_MAX)
        return vlm_fail(err, VLM_INTERNAL, "choice %u of a request", event->choice);
    vlm_record_choice *c = &r->choices[event->choice];
    if (c->done) return vlm_fail(err, VLM_INTERNAL, "choice %u goes on", event->choice);
    if (event->type == VLM_EVENT_TEXT) return keep_token(c, event, err);
    c->done = true;
    c->finish = event->finish;
    c->n_prompt = event->usage.n_prompt;
    c->n_image = event->usage.n_image;
    c->n_completion = event->usage.n_completion;
    return VLM_OK;
}

/* What differs in two tokens, NULL: nothing.  said_a and said_b: what they said. */
static const char *token_differs(const vlm_record_token *a, const char *said_a,
                                 const vlm_record_token *b, const char *said_b)
{
    if (a->has_token != b->has_token || a->id != b->id) return "token id";
    if (a->text_len != b->text_len) return "text";
    if (a->text_len > 0 && memcmp(said_a, said_b, a->text_len) != 0) return "text";
    if (a->has_logprob != b->has_logprob || a->logprob_bits != b->logprob_bits) return "logprob";
    if (a->n_top != b->n_top) return "number of likeliest tokens";
    for (uint32_t i = 0; i < a->n_top; i++) {
        if (a->top[i].id != b->top[i].id) return "id of a likely token";
        if (a->top[i].logprob_bits != b->top[i].logprob_bits) return "logprob of a likely token";
    }
    if (a->bytes_len != b->bytes_len) return "bytes of a token";
    if (a->bytes_len > 0 && memcmp(said_a + a->text_len, said_b + b->text_len, a->bytes_len) != 0)
        return "bytes of a token";
    return NULL;
}

static const char *end_differs(const vlm_record_choice *a, const vlm_record_choice *b)
{
    if (a->n != b->n) return "number of tokens";
    if (a->done != b->done) return "end";
    if (a->finish != b->finish) return "finish reason";
    if (a->n_prompt != b->n_prompt || a->n_image != b->n_image ||
        a->n_completion != b->n_completion)
        return "usage";
    return NULL;
}

static bool choice_differs(const vlm_record_choice *a, const vlm_record_choice *b,
                           vlm_record_difference *out)
{
    const size_t n = a->n < b->n ? a->n : b->n;
    const char *said_a = a->said.data != NULL ? a->said.data : "";
    const char *said_b = b->said.data != NULL ? b->said.data : "";
    size_t off = 0; /* the same in both as long as all tokens are */
    for (out->token = 0; out->token < n; out->token++) {
        const vlm_record_token *t = &a->tokens[out->token];
        out->what = token_differs(t, said_a + off, &b->tokens[out->token], said_b + off);
        if (out->what != NULL) return true;
        off += t->text_len + t->bytes_len;
    }
    out->what = end_differs(a, b);
    return out->what != NULL;
}

bool vlm_record_differ(const vlm_record *a, const vlm_record *b, vlm_record_difference *out)
{
    *out = (vlm_record_difference){.what = "error"};
    if (a->failed != b->failed || (a->failed && a->error.code != b->error.code)) return true;
    for (uint32_t i = 0; i < VLM_REQUEST_CHOICES_MAX; i++) {
        out->choice = i;
        if (choice_differs(&a->choices[i], &b->choices[i], out)) return true;
    }
    return false;
}
