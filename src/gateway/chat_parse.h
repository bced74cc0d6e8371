/* chat_parse.h - the parts of reading a chat completion; only for chat_*.c of requests.
 * A function that returns false has filled *error.  Threads: pure. */
#ifndef VLM_GATEWAY_CHAT_PARSE_H
#define VLM_GATEWAY_CHAT_PARSE_H

#include "gateway/chat_request.h"

/* messages -> r->grpc.messages, pictures and urls. */
VLM_MUST_USE bool vlm_chat_parse_messages(vlm_chat_request *r, const vlm_json *messages,
                                          const vlm_chat_limits *limits, vlm_api_error *error);

/* The value of a part's image_url -> *out, taken into r->images.  param: where the part stands, as
 * "messages[3].content[0]".  A URL to be fetched leaves *out empty and goes into r->urls. */
VLM_MUST_USE bool vlm_chat_parse_image(vlm_chat_request *r, const vlm_json *node, const char *param,
                                       const vlm_chat_limits *limits, ProtobufCBinaryData *out,
                                       vlm_api_error *error);

/* Known parameters that are not there yet are refused by name, unless their value changes nothing.
 */
VLM_MUST_USE bool vlm_chat_check_unsupported(const vlm_json *root, vlm_api_error *error);

/* A path like "messages[3].content[0]", cut at its room. */
void vlm_chat_param(char out[VLM_CHAT_PARAM_LEN_MAX + 1], const char *fmt, ...) VLM_PRINTF(2, 3);

/* 400 "PARAM TEXT" about param = path + below.  Always false. */
bool vlm_chat_refuse(vlm_api_error *error, const char *path, const char *below, const char *text);
/* 503.  Always false. */
bool vlm_chat_no_memory(vlm_api_error *error);
bool vlm_chat_is_memory(const vlm_error *err);

/* A copy in the request's arena. */
VLM_MUST_USE bool vlm_chat_copy(vlm_chat_request *r, vlm_bytes text, ProtobufCBinaryData *out,
                                vlm_api_error *error);

#endif
