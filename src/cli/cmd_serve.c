/* cmd_serve.c - `vlmd serve`: a gateway and a supervised worker over a Unix socket in a private
 * folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cmd.h"
#include "cli/gateway_options.h"
#include "cli/supervisor.h"

enum { WORDS_LEN_MAX = 1 << 20, WORDS_MAX = 128 };

typedef struct serve {
    uv_loop_t loop;
    char folder[VLM_ADDR_PATH_LEN_MAX + 1];
    vlm_addr worker;
    vlm_buf words; /* the worker's command line, each word followed by a NUL */
    char *argv[WORDS_MAX + 1];
    vlm_gateway *gateway;
    vlm_supervisor *supervisor;
    bool failed;
} serve;

/* A folder that only this user can enter, for the socket. */
static vlm_status make_folder(serve *s, vlm_error *err)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    const char *bases[] = {runtime, "/tmp"};
    for (size_t i = 0; i < 2; i++) {
        if (bases[i] == NULL || bases[i][0] != '/') continue;
        const int len =
            snprintf(s->folder, sizeof s->folder - sizeof "/worker", "%s/vlmd-XXXXXX", bases[i]);
        if (len < 0 || (size_t)len >= sizeof s->folder - sizeof "/worker") continue;
        if (mkdtemp(s->folder) == NULL) continue;
        s->worker = (vlm_addr){.kind = VLM_ADDR_UNIX};
        (void)snprintf(s->worker.host, sizeof s->worker.host, "%s/worker", s->folder);
        return VLM_OK;
    }
    s->folder[0] = '\0';
    return vlm_fail(err, VLM_UNAVAILABLE, "no folder for the worker's socket can be made in /tmp");
}

static vlm_status add_word(serve *s, const char *word, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(&s->words, word, err));
    return vlm_buf_append_char(&s->words, '\0', err);
}

static vlm_status make_words(serve *s, const vlm_options *opt, vlm_error *err)
{
    VLM_TRY(add_word(s, "vlmd", err));
    VLM_TRY(add_word(s, "worker", err));
    VLM_TRY(vlm_options_forward(opt, VLM_COMMAND_WORKER, &s->words, err));
    /* The last one counts. */
    VLM_TRY(vlm_buf_append_str(&s->words, "--listen=unix:", err));
    VLM_TRY(add_word(s, s->worker.host, err));
    if (opt->n_args > 0) {
        VLM_TRY(add_word(s, "--", err));
        VLM_TRY(add_word(s, opt->args[0], err));
    }
    size_t n = 0;
    for (size_t i = 0; i < s->words.len; i += strlen(s->words.data + i) + 1) {
        if (n == WORDS_MAX) return vlm_fail(err, VLM_INVALID_ARGUMENT, "too many options");
        s->argv[n++] = s->words.data + i;
    }
    return VLM_OK;
}

static void on_ready(void *user)
{
    serve *s = user;
    vlm_gateway_set_broken(s->gateway, false);
    vlm_gateway_worker_ready(s->gateway);
}

static void on_died(void *user, bool is_looping)
{
    serve *s = user;
    vlm_gateway_set_broken(s->gateway, is_looping);
    vlm_gateway_worker_restarted(s->gateway);
}

static void on_failed(void *user)
{
    serve *s = user;
    s->failed = true;
    uv_stop(&s->loop);
}

static bool is_healthy(void *user)
{
    const serve *s = user;
    return vlm_gateway_n_ready(s->gateway) > 0;
}

static vlm_status run(serve *s, const vlm_options *opt, vlm_error *err)
{
    vlm_gateway_options options;
    VLM_TRY(vlm_cli_gateway_options(opt, &options, err));
    VLM_TRY(make_folder(s, err));
    VLM_TRY(make_words(s, opt, err));
    options.workers = &s->worker;
    options.n_workers = 1;
    VLM_TRY(vlm_gateway_open(&s->loop, &options, &s->gateway, err));
    const vlm_supervisor_options supervisor = {.loop = &s->loop,
                                               .argv = s->argv,
                                               .ready = on_ready,
                                               .died = on_died,
                                               .failed = on_failed,
                                               .is_healthy = is_healthy,
                                               .user = s};
    VLM_TRY(vlm_supervisor_open(&supervisor, &s->supervisor, err));
    vlm_gateway_run(s->gateway);
    return VLM_OK;
}

int vlm_cmd_serve(const vlm_options *opt)
{
    vlm_error err;
    serve s = {.failed = false};
    vlm_buf_init(&s.words, WORDS_LEN_MAX);
    if (uv_loop_init(&s.loop) != 0) {
        (void)vlm_fail(&err, VLM_INTERNAL, "no event loop");
        return vlm_cli_fail(&err);
    }
    const vlm_status status = run(&s, opt, &err);
    vlm_supervisor_close(s.supervisor);
    vlm_gateway_close(s.gateway);
    (void)uv_loop_close(&s.loop);
    vlm_buf_fini(&s.words);
    if (s.folder[0] != '\0') {
        (void)unlink(s.worker.host);
        (void)rmdir(s.folder);
    }
    if (status != VLM_OK) return vlm_cli_fail(&err);
    /* The worker has said why. */
    return s.failed ? VLM_EXIT_FAILED : VLM_EXIT_DONE;
}
