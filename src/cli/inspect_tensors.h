/* inspect_tensors.h - the tensors of a model, summed up for `vlmd inspect`.
 * Not: whether they are the ones a model needs (model/).  Threads: one. */
#ifndef VLM_CLI_INSPECT_TENSORS_H
#define VLM_CLI_INSPECT_TENSORS_H

#include "base/buf.h"
#include "model/safetensors.h"

/* Append one line per group of tensors that differ in layer numbers alone, and totals by dtype. */
VLM_MUST_USE vlm_status vlm_inspect_tensors_text(const vlm_safetensors *files, vlm_buf *out,
                                                 vlm_error *err);

/* Append "tensors":[...],"parameters":N,"bytes":N,"bytes_by_dtype":{...}. */
VLM_MUST_USE vlm_status vlm_inspect_tensors_json(const vlm_safetensors *files, vlm_buf *out,
                                                 vlm_error *err);

/* "13.5 GB", "7.5 MB": powers of 1000. */
void vlm_inspect_size_text(uint64_t n_bytes, char text[32]);

#endif
