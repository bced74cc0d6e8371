/* prepare.h - from a request to what a model takes: messages through the chat template to token
 * ids with one id per image row, and as many pictures as they ask for.
 * A client's text never becomes a special token: the template interpreter says which bytes came
 * from it, and the tokenizer takes those as plain text.
 * Not: preprocessing (pictures.h), nor the forward pass.  Threads: a vlm_prepare is read by any
 * number of threads. */
#ifndef VLM_ENGINE_PREPARE_H
#define VLM_ENGINE_PREPARE_H

#include "engine/engine.h"
#include "engine/pictures.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/tokenizer.h"

typedef struct vlm_prepare {
    const vlm_model *model;
    vlm_tokenizer *tokenizer;
    vlm_chat *chat;
} vlm_prepare;

/* Load the tokenizer and the chat template of a folder.  Every status, file named.  model may be
 * NULL when only text is wanted. */
VLM_MUST_USE vlm_status vlm_prepare_open(vlm_prepare *p, vlm_folder *folder, const vlm_model *model,
                                         vlm_error *err);
void vlm_prepare_close(vlm_prepare *p);

/* The two halves of open, for commands that need no model. */
VLM_MUST_USE vlm_status vlm_prepare_load_tokenizer(vlm_folder *folder, vlm_tokenizer **out,
                                                   vlm_error *err);
VLM_MUST_USE vlm_status vlm_prepare_load_chat(vlm_folder *folder, const vlm_tokenizer *tokenizer,
                                              vlm_chat **out, vlm_error *err);

typedef struct vlm_prompt {
    vlm_ids ids;            /* image placeholders expanded */
    vlm_pictures *pictures; /* [n_images], a reference; NULL: none */
    uint32_t n_images;
} vlm_prompt;

/* INVALID_ARGUMENT: no messages, a template that fails or has no place for the pictures, more than
 * VLM_REQUEST_IMAGES_MAX pictures, not as many as there are parts for them; OUT_OF_RANGE: longer
 * than the context, with both numbers. */
VLM_MUST_USE vlm_status vlm_prepare_run(const vlm_prepare *p, const vlm_request *request,
                                        vlm_prompt *out, vlm_error *err);
void vlm_prompt_fini(vlm_prompt *prompt);

#endif
