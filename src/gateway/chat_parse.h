/* chat_parse.h - the messages of a chat completion; only for chat_request.c.  Threads: pure. */
#ifndef VLM_GATEWAY_CHAT_PARSE_H
#define VLM_GATEWAY_CHAT_PARSE_H

#include "gateway/chat_request.h"

/* messages -> r->grpc.messages, n_images and urls.  False: *error. */
VLM_MUST_USE bool vlm_chat_parse_messages(vlm_chat_request *r, const vlm_json *messages,
                                          const vlm_chat_limits *limits, vlm_api_error *error);

/* A path like "messages[3].content[0]", cut at its room. */
void vlm_chat_param(char out[VLM_CHAT_PARAM_LEN_MAX + 1], const char *fmt, ...) VLM_PRINTF(2, 3);

ProtobufCBinaryData vlm_chat_data(vlm_bytes text);

#endif
