/* bench_steps.c - how long the steps of the engine take, which is how long a cancelled request may
 * go on computing:
 *     bench_steps FOLDER [THREADS]
 * One picture, a short question with the model's own placeholder for it, four tokens.  The second
 * run counts: the first one reads the weights from the disk. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/engine.h"

enum { N_STEPS_MAX = 100000, SIDE = 336 };

typedef enum stage { PICTURE, PROMPT, ANSWER, N_STAGES } stage;

typedef struct times {
    double ms[N_STEPS_MAX];
    size_t n;
} times;

static times stages[N_STAGES];

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static stage stage_of(const vlm_engine *e)
{
    vlm_engine_progress p;
    e->ops->progress(e, &p);
    if (p.n_images_done < p.n_images) return PICTURE;
    return p.n_prompt_done < p.n_prompt ? PROMPT : ANSWER;
}

/* False after the request's last event. */
static bool timed_step(vlm_engine *e)
{
    vlm_event event;
    times *t = &stages[stage_of(e)];
    const uint64_t start = vlm_clock_ns();
    if (!e->ops->step(e)) return false;
    if (t->n < N_STEPS_MAX) t->ms[t->n++] = vlm_clock_seconds(start, vlm_clock_ns()) * 1e3;
    while (e->ops->next_event(e, &event)) {
        if (event.type == VLM_EVENT_ERROR) (void)fprintf(stderr, "%s\n", event.error.msg);
        if (event.type == VLM_EVENT_ERROR) return false;
        if (event.type != VLM_EVENT_DONE) continue;
        (void)printf("%u tokens of prompt, picture %.2f s, prompt %.2f s, %u tokens %.2f s\n",
                     event.usage.n_prompt, event.timings.image_s, event.timings.prefill_s,
                     event.usage.n_completion, event.timings.decode_s);
    }
    return true;
}

static void report(const char *name, times *t)
{
    if (t->n == 0) return;
    qsort(t->ms, t->n, sizeof t->ms[0], by_size);
    (void)printf("%-8s %5zu steps, median %.1f ms, 99th of a hundred %.1f ms, longest %.1f ms\n",
                 name, t->n, t->ms[t->n / 2], t->ms[t->n * 99 / 100], t->ms[t->n - 1]);
}

static vlm_status run(vlm_engine *e, vlm_error *err)
{
    uint64_t id;
    vlm_image image = {.width = SIDE, .height = SIDE, .rgb = calloc((size_t)SIDE * SIDE, 3)};
    if (image.rgb == NULL) return vlm_fail_memory(err, "picture");
    const vlm_bytes prompt = vlm_bytes_of("USER: <image>\nWhat is in this picture? ASSISTANT:");
    vlm_pictures *pictures;
    vlm_status status = vlm_engine_pictures(e, &image, 1, &pictures, err);
    vlm_image_fini(&image);
    if (status != VLM_OK) return status;
    const vlm_request request = {.raw_prompt = &prompt,
                                 .pictures = pictures,
                                 .max_tokens = 4,
                                 .ignore_eos = true,
                                 .sampling = vlm_sampling_default};
    status = vlm_engine_submit(e, &request, &id, err);
    e->ops->pictures_free(e, pictures);
    if (status != VLM_OK) return status;
    while (timed_step(e)) continue;
    report("picture", &stages[PICTURE]);
    report("prompt", &stages[PROMPT]);
    report("answer", &stages[ANSWER]);
    return VLM_OK;
}

int main(int argc, char **argv)
{
    vlm_error err;
    vlm_folder *folder = NULL;
    vlm_engine *e = NULL;
    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_steps FOLDER [THREADS]\n");
        return EXIT_FAILURE;
    }
    const vlm_engine_options options = {.n_threads =
                                            argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0};
    vlm_status status = vlm_folder_open(argv[1], &folder, &err);
    if (status == VLM_OK) status = vlm_engine_open(folder, &options, &e, &err);
    if (status == VLM_OK) status = run(e, &err);
    if (status != VLM_OK) (void)fprintf(stderr, "bench_steps: %s\n", err.msg);
    if (e != NULL) e->ops->close(e);
    vlm_folder_close(folder);
    return status == VLM_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
