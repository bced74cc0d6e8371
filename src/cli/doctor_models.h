/* doctor_models.h - what models need on this machine and how fast they will be: of the usual sizes,
 * or one that is there. Not: measuring them (vlmd bench).  Threads: one. */
#ifndef VLM_CLI_DOCTOR_MODELS_H
#define VLM_CLI_DOCTOR_MODELS_H

#include "base/status.h"
#include "cli/doctor_checks.h"
#include "cli/doctor_speed.h"
#include "cli/options.h"

typedef struct vlm_doctor_model {
    char name[64];
    const char *dtype;
    double weight_bytes, kv_bytes; /* keys and values of a context */
    double memory_bytes;           /* all that is needed */
    uint32_t n_ctx;
    bool fits;
    double prompt_tok_s, answer_tok_s; /* 0: not known */
    double picture_s;                  /* 0: not known */
} vlm_doctor_model;

enum { VLM_DOCTOR_MODELS_MAX = 16 };

typedef struct vlm_doctor_models {
    vlm_doctor_model items[VLM_DOCTOR_MODELS_MAX];
    size_t n;
} vlm_doctor_models;

/* What LLaVA 7B in f16 wants, in bytes. */
double vlm_doctor_wanted_7b(void);

/* LLaVA 7B and 13B with each dtype, as findings too. */
void vlm_doctor_usual_models(size_t available, const vlm_speed *speed, vlm_doctor_models *models,
                             vlm_findings *out);
/* The MODEL of the options with their --dtype, --vision-dtype and --ctx.  Measures for two seconds
 * how fast as many bytes as its weights have are read.  As vlm_model_arg_open and vlm_model_open.
 */
VLM_MUST_USE vlm_status vlm_doctor_this_model(const vlm_options *opt, size_t available,
                                              const vlm_speed *speed, vlm_doctor_models *models,
                                              vlm_findings *out, vlm_error *err);

#endif
