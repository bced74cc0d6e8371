#include "cli/chat_loop.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/answer.h"
#include "cli/cmd.h"
#include "cli/pictures.h"

enum {
    LINE_LEN_MAX = 1 << 20,
    ANSWER_LEN_MAX = 16 << 20,
    TURNS_MAX = VLM_REQUEST_MESSAGES_MAX / 2
};

/* One question with its pictures, and its answer. */
typedef struct turn {
    size_t n_images;
    char *question;
    char *answer;
} turn;

typedef struct chat {
    vlm_engine *engine;
    const vlm_options *opt;
    vlm_engine_info info;
    turn *turns; /* [n_turns + 1]: the last one is being written */
    size_t n_turns, cap_turns;
    size_t n_images;        /* in all turns */
    vlm_pictures *pictures; /* [n_images]; NULL before the first one */
} chat;

static void turn_fini(turn *t)
{
    free(t->question);
    free(t->answer);
    *t = (turn){0};
}

static void reset(chat *c)
{
    for (size_t i = 0; i <= c->n_turns && i < c->cap_turns; i++) turn_fini(&c->turns[i]);
    c->n_turns = 0;
    c->n_images = 0;
    c->engine->ops->pictures_free(c->engine, c->pictures);
    c->pictures = NULL;
}

/* Room for the turn being written, zeroed. */
static vlm_status open_turn(chat *c, vlm_error *err)
{
    const size_t before = c->cap_turns;
    if (!vlm_grow((void **)&c->turns, &c->cap_turns, c->n_turns + 1, TURNS_MAX, sizeof *c->turns))
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "the conversation is too long; /reset it");
    for (size_t i = before; i < c->cap_turns; i++) c->turns[i] = (turn){0};
    return VLM_OK;
}

static vlm_status add_image(chat *c, const char *path, vlm_error *err)
{
    VLM_TRY(open_turn(c, err));
    turn *t = &c->turns[c->n_turns];
    if (c->n_images == VLM_REQUEST_IMAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "at most %d pictures in one conversation",
                        VLM_REQUEST_IMAGES_MAX);
    const vlm_engine_ops *ops = c->engine->ops;
    if (c->pictures == NULL)
        VLM_TRY(ops->pictures_new(c->engine, VLM_REQUEST_IMAGES_MAX, &c->pictures, err));
    VLM_TRY(vlm_cli_add_picture(c->engine, c->pictures, path, c->opt, err));
    t->n_images++;
    c->n_images++;
    return VLM_OK;
}

/* The whole conversation as a request; messages and parts are the caller's to free. */
static vlm_status build_request(const chat *c, vlm_request *request, vlm_message **messages,
                                vlm_part **parts, vlm_error *err)
{
    const size_t n_messages_max = 2 * (c->n_turns + 1) + 1;
    *messages = vlm_calloc(n_messages_max, sizeof **messages);
    *parts = vlm_calloc(n_messages_max + c->n_images, sizeof **parts);
    if (*messages == NULL || *parts == NULL) return vlm_fail_memory(err, "conversation");
    vlm_message *m = *messages;
    vlm_part *p = *parts;
    if (c->opt->system != NULL) {
        *p = (vlm_part){.text = vlm_bytes_of(c->opt->system)};
        *m++ = (vlm_message){.role = vlm_bytes_of("system"), .parts = p++, .n_parts = 1};
    }
    for (size_t i = 0; i <= c->n_turns; i++) {
        const turn *t = &c->turns[i];
        *m++ = (vlm_message){.role = vlm_bytes_of("user"), .parts = p, .n_parts = t->n_images + 1};
        for (size_t k = 0; k < t->n_images; k++) *p++ = (vlm_part){.is_picture = true};
        *p++ = (vlm_part){.text = vlm_bytes_of(t->question)};
        if (i == c->n_turns) break;
        *p = (vlm_part){.text = vlm_bytes_of(t->answer)};
        *m++ = (vlm_message){.role = vlm_bytes_of("assistant"), .parts = p++, .n_parts = 1};
    }
    request->messages = *messages;
    request->n_messages = (size_t)(m - *messages);
    request->pictures = c->pictures;
    return VLM_OK;
}

/* Ask the question; on success the turn is kept, cut short or not.  A failure of this turn is said
 * and forgotten, so that the conversation can go on; its pictures stay for the next try. */
static vlm_status ask(chat *c, const char *question, vlm_error *err)
{
    VLM_TRY(open_turn(c, err));
    turn *t = &c->turns[c->n_turns];
    t->question = strdup(question);
    if (t->question == NULL) return vlm_fail_memory(err, "conversation");

    vlm_bytes stop[VLM_OPTION_LIST_MAX];
    vlm_request request = {0};
    vlm_message *messages = NULL;
    vlm_part *parts = NULL;
    vlm_buf answer;
    vlm_buf_init(&answer, ANSWER_LEN_MAX);
    bool cancelled = false;
    vlm_cli_fill_request(&request, c->opt, &c->info, stop);
    vlm_status status = build_request(c, &request, &messages, &parts, err);
    if (status == VLM_OK)
        status = vlm_cli_answer(c->engine, &request, c->opt->timings, &answer, &cancelled, err);
    if (status == VLM_OK) {
        t->answer = strdup(answer.data == NULL ? "" : answer.data);
        if (t->answer == NULL) status = vlm_fail_memory(err, "conversation");
    }
    if (status == VLM_OK) {
        c->n_turns++;
    } else {
        free(t->question);
        t->question = NULL;
    }
    vlm_buf_fini(&answer);
    free(messages);
    free(parts);
    return status;
}

static const char help_text[] = "/image FILE  add a picture to the next message\n"
                                "/reset       forget the conversation\n"
                                "/quit        leave (also Ctrl-D); Ctrl-C stops an answer\n";

/* One line typed by the user, without its line end.  *quit is set by /quit. */
static vlm_status handle_line(chat *c, char *line, bool *quit, vlm_error *err)
{
    static const char image_command[] = "/image";
    const size_t image_len = sizeof image_command - 1;
    if (line[0] == '\0') return VLM_OK;
    if (line[0] != '/') return ask(c, line, err);
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) {
        *quit = true;
        return VLM_OK;
    }
    if (strcmp(line, "/reset") == 0) {
        reset(c);
        return VLM_OK;
    }
    if (strcmp(line, "/help") == 0) return vlm_cli_write(help_text, sizeof help_text - 1, err);
    if (strncmp(line, image_command, image_len) == 0 &&
        (line[image_len] == ' ' || line[image_len] == '\0')) {
        char *path = line + image_len;
        while (*path == ' ') path++;
        if (*path == '\0') return vlm_fail(err, VLM_INVALID_ARGUMENT, "/image needs a FILE");
        return add_image(c, path, err);
    }
    return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s is no command; /help lists them", line);
}

static char *prompt(EditLine *editor)
{
    static char text[] = "> ";
    (void)editor;
    return text;
}

/* NULL at the end of input; an empty line after Ctrl-C. */
static char *read_line(EditLine *editor)
{
    static char empty[] = "";
    int len = 0;
    errno = 0;
    const char *line = el_gets(editor, &len);
    if (line == NULL || len <= 0) {
        if (vlm_cli_interrupted()) {
            if (vlm_cli_write("\n", 1, NULL) != VLM_OK) return NULL;
            el_reset(editor);
            return strdup(empty);
        }
        return NULL;
    }
    char *copy = strndup(line, LINE_LEN_MAX);
    if (copy != NULL) copy[strcspn(copy, "\r\n")] = '\0';
    return copy;
}

static vlm_status loop(chat *c, EditLine *editor, History *lines, vlm_error *err)
{
    bool quit = false;
    HistEvent event;
    while (!quit) {
        char *line = read_line(editor);
        if (line == NULL) return vlm_cli_write("\n", 1, err);
        if (line[0] != '\0') (void)history(lines, &event, H_ENTER, line);
        const vlm_status status = handle_line(c, line, &quit, err);
        free(line);
        if (status != VLM_OK) (void)vlm_cli_fail(err);
    }
    return VLM_OK;
}

vlm_status vlm_cli_chat_loop(vlm_engine *engine, const vlm_options *opt, vlm_error *err)
{
    chat c = {.engine = engine, .opt = opt};
    HistEvent event;
    engine->ops->info(engine, &c.info);
    vlm_cli_catch_interrupt();
    /* The line editor takes characters apart by the locale; the model reads UTF-8 alone. */
    if (setlocale(LC_CTYPE, "") == NULL || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        (void)setlocale(LC_CTYPE, "C.UTF-8");
    EditLine *editor = el_init("vlmd", stdin, stdout, stderr);
    History *lines = history_init();
    vlm_status status = VLM_OK;
    if (editor == NULL || lines == NULL) status = vlm_fail_memory(err, "line editor");
    for (size_t i = 0; i < opt->image.n && status == VLM_OK; i++)
        status = add_image(&c, opt->image.values[i], err);
    if (status == VLM_OK) {
        (void)history(lines, &event, H_SETSIZE, 1000);
        (void)el_set(editor, EL_EDITOR, "emacs");
        (void)el_set(editor, EL_PROMPT, prompt);
        (void)el_set(editor, EL_HIST, history, lines);
        status = vlm_cli_write(help_text, sizeof help_text - 1, err);
    }
    if (status == VLM_OK) status = loop(&c, editor, lines, err);
    if (editor != NULL) el_end(editor);
    if (lines != NULL) history_end(lines);
    reset(&c);
    free(c.turns);
    return status;
}
