#include "cli/doctor_models.h"

#include <stdio.h>
#include <string.h>

#include "cli/compute.h"
#include "cli/model_arg.h"
#include "model/model.h"

enum { CONTEXT = 4096, PICTURE_TOKENS = 576 };
#define WORKING_BYTES 0.6e9 /* activations, pictures, the program */

typedef struct model_size {
    const char *name;
    double n_weights, kv_per_token; /* keys and values in f16 */
} model_size;

/* LLaVA-1.5: 32 layers of 4096 and 40 of 5120. */
static const model_size sizes[] = {
    {"llava 7B", 6.76e9, 524288.0},
    {"llava 13B", 13.05e9, 819200.0},
};

/* As --kv-dtype auto chooses. */
static double kv_per_token(const model_size *m, vlm_speed_dtype dtype)
{
    return dtype == VLM_SPEED_F16 ? 2.0 * m->kv_per_token : m->kv_per_token;
}

static double weight_bytes(const model_size *m, vlm_speed_dtype dtype)
{
    return m->n_weights * vlm_speed_dtype_bits(dtype) / 8.0;
}

static double wanted_bytes(const model_size *m, vlm_speed_dtype dtype)
{
    return weight_bytes(m, dtype) + CONTEXT * kv_per_token(m, dtype) + WORKING_BYTES;
}

double vlm_doctor_wanted_7b(void)
{
    return wanted_bytes(&sizes[0], VLM_SPEED_F16);
}

static void write_rates(const vlm_doctor_model *m, bool is_disturbed, char *out, size_t len)
{
    out[0] = '\0';
    if (m->answer_tok_s <= 0.0 || m->prompt_tok_s <= 0.0) return;
    const int n = snprintf(out, len, "; %s%.*f tokens of a prompt and %.*f of an answer a second",
                           is_disturbed ? "now " : "about ", m->prompt_tok_s < 100.0 ? 1 : 0,
                           m->prompt_tok_s, m->answer_tok_s < 100.0 ? 1 : 0, m->answer_tok_s);
    if (m->picture_s > 0.0 && n > 0 && (size_t)n < len)
        (void)snprintf(out + n, len - (size_t)n, ", %.*f s for a picture's",
                       m->picture_s < 10.0 ? 1 : 0, m->picture_s);
}

static void add(vlm_doctor_model *m, double available, bool is_disturbed, const char *finding,
                vlm_doctor_models *models, vlm_findings *out)
{
    char rates[160], remedy[200] = "";
    m->fits = m->memory_bytes <= available;
    write_rates(m, is_disturbed, rates, sizeof rates);
    if (!m->fits)
        (void)snprintf(remedy, sizeof remedy,
                       "%.1f GB more than is free%s: use %s, a smaller --ctx or --kv-dtype f16",
                       (m->memory_bytes - available) * 1e-9,
                       strcmp(m->dtype, "q4") == 0 || strcmp(m->dtype, "q8") == 0
                           ? ""
                           : ", and weights would be read from disk for every token",
                       strcmp(m->dtype, "q4") == 0   ? "a smaller model"
                       : strcmp(m->dtype, "q8") == 0 ? "--dtype q4"
                                                     : "--dtype q8 or q4");
    vlm_findings_add(
        out, finding, remedy, "%.*f GB: weights %.*f, keys and values of %u tokens %.*f%s",
        m->memory_bytes < 1e9 ? 2 : 1, m->memory_bytes * 1e-9, m->weight_bytes < 1e9 ? 3 : 1,
        m->weight_bytes * 1e-9, m->n_ctx, m->kv_bytes < 1e9 ? 3 : 1, m->kv_bytes * 1e-9, rates);
    if (models->n < VLM_DOCTOR_MODELS_MAX) models->items[models->n++] = *m;
}

void vlm_doctor_usual_models(size_t available, const vlm_speed *speed, vlm_doctor_models *models,
                             vlm_findings *out)
{
    static const char *const findings[][VLM_N_SPEED_DTYPES] = {
        {"llava 7B f16", "llava 7B q8", "llava 7B q4"},
        {"llava 13B f16", "llava 13B q8", "llava 13B q4"}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int k = 0; k < VLM_N_SPEED_DTYPES; k++) {
            const vlm_speed_dtype dtype = (vlm_speed_dtype)k;
            const double prompt = vlm_speed_prompt(speed, dtype, sizes[i].n_weights);
            vlm_doctor_model m = {.dtype = vlm_speed_dtype_name(dtype),
                                  .n_ctx = CONTEXT,
                                  .weight_bytes = weight_bytes(&sizes[i], dtype),
                                  .kv_bytes = CONTEXT * kv_per_token(&sizes[i], dtype),
                                  .memory_bytes = wanted_bytes(&sizes[i], dtype),
                                  .prompt_tok_s = prompt,
                                  .answer_tok_s =
                                      vlm_speed_answer(speed, dtype, sizes[i].n_weights),
                                  .picture_s = prompt > 0.0 ? PICTURE_TOKENS / prompt : 0.0};
            (void)snprintf(m.name, sizeof m.name, "%s", sizes[i].name);
            add(&m, (double)available, speed->is_disturbed, findings[i][k], models, out);
        }
    }
}

/* The nearest of what was measured. */
static vlm_speed_dtype speed_dtype(vlm_weight_dtype dtype)
{
    if (dtype == VLM_WEIGHT_DTYPE_Q8) return VLM_SPEED_Q8;
    return dtype == VLM_WEIGHT_DTYPE_Q4 ? VLM_SPEED_Q4 : VLM_SPEED_F16;
}

/* A token: its weights are read, or multiplied where that takes longer; and all threads meet after
 * each operation, 12 times a layer. */
static double answer_rate(const vlm_model *model, vlm_speed_dtype dtype, size_t available,
                          const vlm_speed *speed)
{
    /* Of plain reading, what products of one row and all between them leave. */
    const double PART = 0.92, SECONDS = 2.0;
    enum { HANDOVERS = 12, BYTES_MAX = 1 << 30 };
    double n_weights, n_bytes;
    vlm_model_token_weights(model, &n_weights, &n_bytes);
    size_t region = n_bytes < BYTES_MAX ? (size_t)n_bytes : BYTES_MAX;
    if (region > available / 8) region = available / 8;
    const double rate = vlm_speed_read(speed->n_threads, region, SECONDS);
    if (rate <= 0.0 || speed->answer_flop_s[dtype] <= 0.0) return 0.0;
    const double read_s = n_bytes / rate / PART;
    const double kernel_s = 2.0 * n_weights / speed->answer_flop_s[dtype];
    const double meet_s =
        vlm_speed_handover(speed->n_threads) * HANDOVERS * vlm_model_config(model)->text.n_layers;
    return 1.0 / ((read_s > kernel_s ? read_s : kernel_s) + meet_s);
}

static void tell_model(const vlm_options *opt, const vlm_model *model, size_t available,
                       const vlm_speed *speed, vlm_doctor_models *models, vlm_findings *out)
{
    static const char *const names[] = {"auto", "f32", "bf16", "f16", "q8", "q4"};
    const vlm_engine_options o = vlm_cli_engine_options(opt);
    const vlm_text_config *t = &vlm_model_config(model)->text;
    const vlm_speed_dtype dtype = speed_dtype(o.dtype);
    double n_weights, n_bytes;
    size_t block = 0;
    vlm_model_token_weights(model, &n_weights, &n_bytes);
    if (!vlm_kv_block_bytes(t->n_layers, t->n_kv_heads, t->head_dim, o.kv_dtype, &block)) block = 0;
    const double fixed =
        (double)vlm_model_mapped_bytes(model) + (double)vlm_model_working_bytes(model);
    vlm_doctor_model m = {.dtype = names[opt->dtype],
                          .n_ctx = vlm_model_n_ctx(model),
                          .weight_bytes = (double)vlm_model_weight_bytes(model)};
    m.kv_bytes = (double)block / VLM_KV_BLOCK_TOKENS * m.n_ctx;
    m.memory_bytes = fixed + m.kv_bytes;
    m.prompt_tok_s = vlm_speed_prompt(speed, dtype, n_weights);
    m.answer_tok_s = answer_rate(model, dtype, available, speed);
    const char *arg = opt->args[0], *slash = strrchr(arg, '/');
    (void)snprintf(m.name, sizeof m.name, "%.60s",
                   slash != NULL && slash[1] != '\0' ? slash + 1 : arg);
    add(&m, (double)available, speed->is_disturbed, "this model", models, out);
}

vlm_status vlm_doctor_this_model(const vlm_options *opt, size_t available, const vlm_speed *speed,
                                 vlm_doctor_models *models, vlm_findings *out, vlm_error *err)
{
    const vlm_engine_options o = vlm_cli_engine_options(opt);
    const vlm_model_options options = {
        .dtype = o.dtype, .vision_dtype = o.vision_dtype, .plan_only = true, .n_ctx = o.n_ctx};
    vlm_folder *folder = NULL;
    vlm_backend *backend = NULL;
    vlm_model *model = NULL;
    VLM_TRY(vlm_model_arg_open(opt->args[0], &folder, err));
    vlm_status status = vlm_backend_cpu_open(1, vlm_cpu_level_best(), &backend, err);
    if (status == VLM_OK) status = vlm_model_open(folder, backend, &options, &model, err);
    if (status == VLM_OK) tell_model(opt, model, available, speed, models, out);
    vlm_model_close(model);
    if (backend != NULL) backend->ops->close(backend);
    vlm_folder_close(folder);
    return status;
}
