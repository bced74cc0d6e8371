/* words.c - what the Hub's answers mean, and when to ask again. */
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "hub/blob.h"

#define SECOND_NS ((uint64_t)1000000000u)

vlm_status vlm_hub_explain(const vlm_hub_env *env, const char *id, const vlm_hub_answer *a,
                           vlm_error *err)
{
    const bool has_token = env->token[0] != '\0';
    const char *code = a->error_code;
    if (strcmp(code, "GatedRepo") == 0)
        return vlm_fail(err, VLM_PERMISSION_DENIED,
                        "%s is gated: accept its conditions at %s/%.*s in a browser%s", id,
                        env->endpoint, (int)strcspn(id, "@"), id,
                        has_token ? " with the account of this token"
                                  : ", then set HF_TOKEN to a token of that account");
    if (strcmp(code, "RevisionNotFound") == 0)
        return vlm_fail(err, VLM_NOT_FOUND, "%s: the repository has no such revision", id);
    if (strcmp(code, "EntryNotFound") == 0)
        return vlm_fail(err, VLM_NOT_FOUND, "%s: the repository has no such file", id);
    /* Whoever may not see a repository is told that there is none. */
    if (a->status == 404 || strcmp(code, "RepoNotFound") == 0)
        return vlm_fail(
            err, VLM_NOT_FOUND, "%s: there is no such repository at %s, or it is private%s", id,
            env->endpoint,
            has_token ? " and not open to this token" : " and needs a token (HF_TOKEN)");
    if (a->status == 401)
        return vlm_fail(err, VLM_UNAUTHENTICATED,
                        has_token ? "%s: %s does not accept the token (HF_TOKEN, or the token file)"
                                  : "%s: %s wants a token: set HF_TOKEN",
                        id, env->endpoint);
    if (a->status == 403)
        return vlm_fail(err, VLM_PERMISSION_DENIED, "%s: %s does not let %s read it", id,
                        env->endpoint, has_token ? "this token" : "anybody without a token");
    if (a->status == 429)
        return vlm_fail(err, VLM_UNAVAILABLE, "%s: %s has had too many requests; try later%s", id,
                        env->endpoint, has_token ? "" : ", or with a token (HF_TOKEN)");
    return vlm_fail(err, VLM_UNAVAILABLE, "%s: %s answered with HTTP status %ld", id, env->endpoint,
                    a->status);
}

bool vlm_hub_is_passing(long http_status)
{
    return http_status == 408 || http_status == 429 || http_status >= 500;
}

bool vlm_hub_pause(uint32_t n, uint64_t pause_ns, const vlm_hub_answer *a,
                   const atomic_bool *cancelled)
{
    enum { ASKED_MAX_S = 60, DOUBLED_MAX = 5 };
    uint64_t ns = (pause_ns != 0 ? pause_ns : SECOND_NS / 2) << (n < DOUBLED_MAX ? n : DOUBLED_MAX);
    ns += vlm_clock_ns() % (ns / 4 + 1);
    if (a->retry_after_s > 0)
        ns = SECOND_NS * (a->retry_after_s < ASKED_MAX_S ? a->retry_after_s : ASKED_MAX_S);
    const uint64_t end = vlm_clock_ns() + ns;
    for (;;) {
        if (cancelled != NULL && atomic_load(cancelled)) return false;
        const uint64_t now = vlm_clock_ns();
        if (now >= end) return true;
        const uint64_t left = end - now < SECOND_NS / 20 ? end - now : SECOND_NS / 20;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)left}, NULL);
    }
}
