/* rope.h - the table of rotary position angles with its scalings.
 * Source: Transformers, modeling_rope_utils.py (compute_default_rope_parameters, linear, llama3,
 * yarn).  Not: applying it (tensor/).  Threads: pure. */
#ifndef VLM_MODEL_ROPE_H
#define VLM_MODEL_ROPE_H

#include "model/config.h"

/* cos and sin of every position: a new array [n_positions, head_dim/2, 2] float, for the caller to
 * free().  Angles are products of float32 numbers as in Transformers, so that both see the same
 * angle also at far positions.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_rope_table(const vlm_text_config *config, uint32_t n_positions,
                                       float **out, vlm_error *err);

#endif
