#include "cli/answer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cmd.h"
#include "cli/progress.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void vlm_cli_catch_interrupt(void)
{
    /* No SA_RESTART: a read from the terminal must come back. */
    struct sigaction action = {.sa_handler = on_interrupt};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
}

bool vlm_cli_interrupted(void)
{
    if (!interrupted) return false;
    interrupted = 0;
    return true;
}

vlm_sampling vlm_cli_sampling(const vlm_options *opt, const vlm_engine_info *info)
{
    vlm_sampling s = info->sampling_default;
    if (opt->given[VLM_OPTION_TEMPERATURE]) s.temperature = (float)opt->temperature;
    if (opt->given[VLM_OPTION_TOP_K]) s.top_k = opt->top_k;
    if (opt->given[VLM_OPTION_TOP_P]) s.top_p = (float)opt->top_p;
    if (opt->given[VLM_OPTION_MIN_P]) s.min_p = (float)opt->min_p;
    if (opt->given[VLM_OPTION_REPETITION_PENALTY])
        s.repetition_penalty = (float)opt->repetition_penalty;
    s.frequency_penalty = (float)opt->frequency_penalty;
    s.presence_penalty = (float)opt->presence_penalty;
    s.seed = opt->given[VLM_OPTION_SEED] ? opt->seed : vlm_clock_ns();
    return s;
}

void vlm_cli_fill_request(vlm_request *request, const vlm_options *opt, const vlm_engine_info *info,
                          vlm_bytes *stop)
{
    for (size_t i = 0; i < opt->stop.n; i++) stop[i] = vlm_bytes_of(opt->stop.values[i]);
    request->sampling = vlm_cli_sampling(opt, info);
    request->max_tokens = opt->max_tokens;
    request->stop = stop;
    request->n_stop = opt->stop.n;
    request->ignore_eos = opt->ignore_eos;
}

/* What is computed before the first word. */
typedef struct waiting {
    vlm_progress pictures, prompt;
} waiting;

static void show_waiting(const vlm_engine *engine, waiting *w)
{
    vlm_engine_progress p;
    engine->ops->progress(engine, &p);
    if (p.n_images_done < p.n_images) {
        vlm_progress_update(&w->pictures, p.n_images_done, p.n_images);
    } else if (p.n_prompt_done < p.n_prompt) {
        vlm_progress_clear(&w->pictures);
        vlm_progress_update(&w->prompt, p.n_prompt_done, p.n_prompt);
    }
}

static void clear_waiting(waiting *w)
{
    vlm_progress_clear(&w->pictures);
    vlm_progress_clear(&w->prompt);
}

static void print_timings(const vlm_event *done)
{
    const vlm_timings *t = &done->timings;
    const vlm_usage *u = &done->usage;
    const double prefill_rate = t->prefill_s > 0.0 ? u->n_prompt / t->prefill_s : 0.0;
    const double decode_rate = t->decode_s > 0.0 ? u->n_completion / t->decode_s : 0.0;
    (void)fprintf(stderr,
                  "prompt %u tokens (%u of pictures), answer %u tokens | pictures %.3f s, "
                  "prompt %.3f s (%.1f tok/s), answer %.3f s (%.1f tok/s)\n",
                  u->n_prompt, u->n_image, u->n_completion, t->image_s, t->prefill_s, prefill_rate,
                  t->decode_s, decode_rate);
}

static vlm_status on_text(const vlm_event *event, vlm_buf *text, vlm_error *err)
{
    VLM_TRY(vlm_cli_write(event->text.ptr, event->text.len, err));
    if (text == NULL) return VLM_OK;
    return vlm_buf_append(text, event->text.ptr, event->text.len, err);
}

/* Let a request that nobody will read end; its events are dropped. */
static void drop_request(vlm_engine *engine, uint64_t id)
{
    vlm_event event;
    engine->ops->cancel(engine, id);
    while (engine->ops->step(engine))
        while (engine->ops->next_event(engine, &event)) continue;
}

vlm_status vlm_cli_answer(vlm_engine *engine, const vlm_request *request, bool timings,
                          vlm_buf *text, bool *cancelled, vlm_error *err)
{
    uint64_t id;
    bool done = false;
    waiting w;
    vlm_event event;
    *cancelled = false;
    VLM_TRY(vlm_engine_submit(engine, request, &id, err));
    vlm_progress_start(&w.pictures, "pictures", VLM_PROGRESS_ITEMS, "");
    vlm_progress_start(&w.prompt, "prompt", VLM_PROGRESS_ITEMS, "tokens");
    (void)vlm_cli_interrupted();
    while (!done) {
        if (vlm_cli_interrupted()) engine->ops->cancel(engine, id);
        show_waiting(engine, &w);
        (void)engine->ops->step(engine);
        while (engine->ops->next_event(engine, &event)) {
            if (event.type == VLM_EVENT_STARTED) continue;
            clear_waiting(&w);
            vlm_status status = VLM_OK;
            if (event.type == VLM_EVENT_ERROR) {
                if (err != NULL) *err = event.error;
                return event.error.code;
            }
            if (event.type == VLM_EVENT_TEXT) status = on_text(&event, text, err);
            if (event.type == VLM_EVENT_DONE) {
                done = true;
                *cancelled = event.finish == VLM_FINISH_CANCELLED;
            }
            if (status != VLM_OK) {
                drop_request(engine, id);
                return status;
            }
        }
    }
    clear_waiting(&w);
    VLM_TRY(vlm_cli_write("\n", 1, err));
    if (timings) print_timings(&event);
    return VLM_OK;
}
