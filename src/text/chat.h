/* chat.h - which chat template a model folder has, and what it is given: messages, tools, special
 * tokens, reasoning under all its names.
 * Not: the template language (template.h) nor tokens (tokenizer.h).
 * Threads: immutable after new. */
#ifndef VLM_TEXT_CHAT_H
#define VLM_TEXT_CHAT_H

#include "base/buf.h"
#include "base/json.h"
#include "base/status.h"
#include "text/span.h"
#include "text/tokenizer.h"

typedef struct vlm_chat vlm_chat;

/* Contents; ptr NULL where a file is absent.  Needed during new only. */
typedef struct vlm_chat_files {
    vlm_bytes chat_template_jinja;
    vlm_bytes chat_template_json;
    vlm_bytes tokenizer_config;
} vlm_chat_files;

/* The first file that holds a template wins; without one, LLaVA-1.5's "USER: ... ASSISTANT:".
 * tok (may be NULL) gives bos_token, eos_token and the like; their strings are copied.
 * INVALID_ARGUMENT names the file and the place. */
VLM_MUST_USE vlm_status vlm_chat_new(const vlm_chat_files *files, const vlm_tokenizer *tok,
                                     vlm_chat **out, vlm_error *err);
/* A template alone, as a file: no special tokens. */
VLM_MUST_USE vlm_status vlm_chat_new_from_source(vlm_bytes source, vlm_chat **out, vlm_error *err);
void vlm_chat_free(vlm_chat *c); /* NULL is legal */

/* Append the prompt of a request {messages, tools?, documents?, add_generation_prompt?, ...}; every
 * other member is a variable of that name.  All of it counts as a client's text (template.h).
 * Every status of vlm_template_render; INVALID_ARGUMENT when request is no object. */
VLM_MUST_USE vlm_status vlm_chat_render(const vlm_chat *c, const vlm_json *request, vlm_buf *out,
                                        vlm_spans *user_spans, vlm_error *err);

/* "chat_template.jinja", "chat_template.json", "tokenizer_config.json", "built-in LLaVA-1.5". */
const char *vlm_chat_source(const vlm_chat *c);

#endif
