/* config_parts.h - the parts of config.c that have a file of their own.
 * Not: for other rooms or files. */
#ifndef VLM_MODEL_CONFIG_PARTS_H
#define VLM_MODEL_CONFIG_PARTS_H

#include "model/config.h"

/* text_config to everything of vlm_text_config but tie_word_embeddings.  node may be NULL: all
 * defaults of LlamaConfig.  Error texts begin with the field below text_config. */
VLM_MUST_USE vlm_status vlm_config_parse_text(const vlm_json *node, vlm_text_config *out,
                                              vlm_error *err);

/* rope_theta, rope_scaling and rope_parameters of a text_config. */
VLM_MUST_USE vlm_status vlm_config_parse_rope(const vlm_json *text, vlm_text_config *out,
                                              vlm_error *err);

/* The activation of a field; absent leaves *out. */
VLM_MUST_USE vlm_status vlm_config_parse_act(const vlm_json *node, const char *key, vlm_act *out,
                                             vlm_error *err);

#endif
