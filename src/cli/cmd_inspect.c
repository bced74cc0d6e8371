/* cmd_inspect.c - `vlmd inspect`: what a model folder, or one safetensors file, holds; what it
 * would need; and whether it can run here.  Touches no weight. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/cmd.h"
#include "cli/compute.h"
#include "cli/inspect_tensors.h"
#include "cli/model_arg.h"
#include "engine/memory.h"
#include "engine/prepare.h"
#include "model/model.h"

enum {
    REPORT_LEN_MAX = 1 << 30,
    PROBLEMS_MAX = 8,
    RUNNING = 64, /* --max-running's default: how a server would share out memory */
};

typedef struct report {
    vlm_folder *folder;
    vlm_safetensors *files; /* NULL when they could not be read */
    vlm_config config;
    bool has_config;
    vlm_tokenizer *tokenizer;
    vlm_chat *chat;
    uint32_t n_ctx;
    vlm_dtype kv_dtype;
    vlm_memory_plan plan;             /* n_blocks 0: the model cannot be opened */
    vlm_error problems[PROBLEMS_MAX]; /* why it cannot run */
    size_t n_problems;
} report;

static void add_problem(report *r, const vlm_error *problem)
{
    if (r->n_problems == PROBLEMS_MAX) return;
    for (size_t i = 0; i < r->n_problems; i++)
        if (strcmp(r->problems[i].msg, problem->msg) == 0) return;
    r->problems[r->n_problems++] = *problem;
}

/* What opening it for real says: every tensor found, every shape right. */
static void try_open(report *r, const vlm_options *opt)
{
    vlm_error err;
    vlm_backend *backend = NULL;
    vlm_model *model = NULL;
    const vlm_engine_options o = vlm_cli_engine_options(opt);
    const vlm_model_options options = {
        .dtype = o.dtype, .vision_dtype = o.vision_dtype, .plan_only = true, .n_ctx = o.n_ctx};
    vlm_status status = vlm_backend_cpu_open(1, VLM_CPU_REFERENCE, &backend, &err);
    if (status == VLM_OK) status = vlm_model_open(r->folder, backend, &options, &model, &err);
    if (status == VLM_OK) status = vlm_memory_plan_of(model, &o, RUNNING, &r->plan, &err);
    if (status != VLM_OK) {
        r->plan = (vlm_memory_plan){0};
        add_problem(r, &err);
    }
    vlm_model_close(model);
    if (backend != NULL) backend->ops->close(backend);
}

static void read_all(report *r, const vlm_options *opt)
{
    vlm_error err;
    const vlm_json *config = NULL, *generation = NULL;
    if (vlm_safetensors_open_folder(r->folder, &r->files, &err) != VLM_OK) add_problem(r, &err);
    vlm_status status = vlm_folder_json(r->folder, "config.json", &config, &err);
    if (status == VLM_OK && vlm_folder_has(r->folder, "generation_config.json"))
        status = vlm_folder_json(r->folder, "generation_config.json", &generation, &err);
    if (status == VLM_OK) status = vlm_config_parse(config, generation, &r->config, &err);
    r->has_config = status == VLM_OK;
    if (status != VLM_OK) add_problem(r, &err);
    if (vlm_prepare_load_tokenizer(r->folder, &r->tokenizer, &err) != VLM_OK)
        add_problem(r, &err);
    else if (vlm_prepare_load_chat(r->folder, r->tokenizer, &r->chat, &err) != VLM_OK)
        add_problem(r, &err);
    if (r->files != NULL && r->has_config) try_open(r, opt);
    if (!r->has_config) return;
    const uint32_t max = r->config.text.max_positions;
    r->n_ctx = opt->ctx > 0 && opt->ctx <= max ? opt->ctx : max;
    if (opt->ctx == 0 && r->n_ctx > VLM_CTX_DEFAULT_MAX) r->n_ctx = VLM_CTX_DEFAULT_MAX;
}

/* Keys and values of one token in all layers; what config.h allows fits into a size_t. */
static uint64_t kv_bytes_per_token(const report *r)
{
    const vlm_text_config *t = &r->config.text;
    size_t n_bytes;
    if (!vlm_kv_block_bytes(t->n_layers, t->n_kv_heads, t->head_dim, r->kv_dtype, &n_bytes))
        return 0;
    return n_bytes / VLM_KV_BLOCK_TOKENS;
}

static const char *kv_dtype_name(const report *r)
{
    return r->kv_dtype == VLM_DTYPE_F16 ? "f16" : "f32";
}

static vlm_status append_list(const uint32_t *values, uint32_t n, vlm_buf *out, vlm_error *err)
{
    for (uint32_t i = 0; i < n; i++)
        VLM_TRY(vlm_buf_printf(out, err, i == 0 ? "%u" : ",%u", values[i]));
    return VLM_OK;
}

static vlm_status decoder_text(const vlm_config *c, vlm_buf *out, vlm_error *err)
{
    const vlm_text_config *t = &c->text;
    VLM_TRY(vlm_buf_printf(out, err,
                           "decoder         %s: %u layers of %u, MLP %u (%s), %u heads of %u, %u "
                           "key/value heads\n",
                           t->model_type, t->n_layers, t->hidden_size, t->intermediate_size,
                           vlm_act_name(t->hidden_act), t->n_heads, t->head_dim, t->n_kv_heads));
    VLM_TRY(
        vlm_buf_printf(out, err, "                vocabulary %u%s, context %u, rope theta %g (%s)",
                       t->vocab_size, t->tie_word_embeddings ? " (tied head)" : "",
                       t->max_positions, t->rope_theta, vlm_rope_type_name(t->rope_scaling.type)));
    if (t->sliding_window > 0)
        VLM_TRY(vlm_buf_printf(out, err, ", sliding window %u", t->sliding_window));
    VLM_TRY(vlm_buf_append_str(out, "\n                ends with token ", err));
    VLM_TRY(append_list(c->eos_ids, c->n_eos, out, err));
    return vlm_buf_append_str(out, "\n", err);
}

/* How a server would share out the memory that is free here, or that --memory gives. */
static vlm_status plan_text(const report *r, vlm_buf *out, vlm_error *err)
{
    const vlm_memory_plan *p = &r->plan;
    char fixed[32], kv[32], pictures[32];
    if (p->n_blocks == 0) return VLM_OK;
    vlm_inspect_size_text(p->fixed_bytes, fixed);
    vlm_inspect_size_text((uint64_t)p->n_blocks * p->block_bytes, kv);
    vlm_inspect_size_text((uint64_t)p->n_pictures * p->picture_bytes, pictures);
    return vlm_buf_printf(out, err,
                          "                as a server here: weights and working memory %s, cache "
                          "of %s for %u tokens,\n"
                          "                encoder cache of %s for %u pictures\n",
                          fixed, kv, p->n_blocks * VLM_KV_BLOCK_TOKENS, pictures, p->n_pictures);
}

static vlm_status config_text(const report *r, vlm_buf *out, vlm_error *err)
{
    const vlm_config *c = &r->config;
    const vlm_vision_config *v = &c->vision;
    char kv[32];
    VLM_TRY(vlm_buf_printf(out, err, "model           %s\n", c->model_type));
    VLM_TRY(decoder_text(c, out, err));
    VLM_TRY(vlm_buf_printf(out, err,
                           "vision          CLIP: %u layers of %u, MLP %u (%s), %u heads, pictures "
                           "of %ux%u in patches of %u\n",
                           v->n_layers, v->hidden_size, v->intermediate_size,
                           vlm_act_name(v->hidden_act), v->n_heads, v->image_size, v->image_size,
                           v->patch_size));
    VLM_TRY(vlm_buf_append_str(out, "                hidden states ", err));
    VLM_TRY(append_list(c->feature_layers, c->n_feature_layers, out, err));
    VLM_TRY(vlm_buf_printf(out, err, ", strategy %s; %u tokens a picture\n",
                           c->feature_full ? "full" : "default", c->n_image_tokens));
    const uint64_t per_token = kv_bytes_per_token(r);
    vlm_inspect_size_text(per_token * r->n_ctx, kv);
    VLM_TRY(vlm_buf_printf(out, err,
                           "memory          keys and values: %s for a context of %u (%llu bytes a "
                           "token, %s)\n",
                           kv, r->n_ctx, (unsigned long long)per_token, kv_dtype_name(r)));
    return plan_text(r, out, err);
}

static vlm_status report_text(const report *r, vlm_buf *out, vlm_error *err)
{
    if (r->has_config) VLM_TRY(config_text(r, out, err));
    if (r->tokenizer != NULL)
        VLM_TRY(vlm_buf_printf(out, err, "tokenizer       %s, %u tokens\n",
                               vlm_tokenizer_kind(r->tokenizer),
                               vlm_tokenizer_n_vocab(r->tokenizer)));
    if (r->chat != NULL)
        VLM_TRY(vlm_buf_printf(out, err, "chat template   %s\n", vlm_chat_source(r->chat)));
    if (r->files != NULL) VLM_TRY(vlm_inspect_tensors_text(r->files, out, err));
    for (size_t i = 0; i < r->n_problems; i++)
        VLM_TRY(vlm_buf_printf(out, err, "cannot run      %s\n", r->problems[i].msg));
    return VLM_OK;
}

static vlm_status config_json(const report *r, vlm_buf *out, vlm_error *err)
{
    const vlm_config *c = &r->config;
    const vlm_text_config *t = &c->text;
    const vlm_vision_config *v = &c->vision;
    VLM_TRY(vlm_buf_printf(
        out, err,
        "\"model_type\":\"%s\",\"image_token_id\":%u,\"image_tokens\":%u,"
        "\"vision_feature_select_strategy\":\"%s\",\"projector_hidden_act\":\"%s\","
        "\"multimodal_projector_bias\":%s,\"vision_feature_layers\":[",
        c->model_type, c->image_token_id, c->n_image_tokens, c->feature_full ? "full" : "default",
        vlm_act_name(c->projector_act), c->projector_bias ? "true" : "false"));
    VLM_TRY(append_list(c->feature_layers, c->n_feature_layers, out, err));
    VLM_TRY(vlm_buf_append_str(out, "],\"eos_token_ids\":[", err));
    VLM_TRY(append_list(c->eos_ids, c->n_eos, out, err));
    VLM_TRY(vlm_buf_printf(
        out, err,
        "],\"text\":{\"model_type\":\"%s\",\"vocab_size\":%u,\"hidden_size\":%u,"
        "\"intermediate_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,"
        "\"num_key_value_heads\":%u,\"head_dim\":%u,\"hidden_act\":\"%s\",\"rms_norm_eps\":%g,"
        "\"max_position_embeddings\":%u,\"attention_bias\":%s,\"mlp_bias\":%s,"
        "\"tie_word_embeddings\":%s,\"rope_theta\":%.17g,\"rope_type\":\"%s\","
        "\"sliding_window\":%u},",
        t->model_type, t->vocab_size, t->hidden_size, t->intermediate_size, t->n_layers, t->n_heads,
        t->n_kv_heads, t->head_dim, vlm_act_name(t->hidden_act), (double)t->rms_norm_eps,
        t->max_positions, t->attention_bias_qkv ? "true" : "false", t->mlp_bias ? "true" : "false",
        t->tie_word_embeddings ? "true" : "false", t->rope_theta,
        vlm_rope_type_name(t->rope_scaling.type), t->sliding_window));
    VLM_TRY(vlm_buf_printf(
        out, err,
        "\"vision\":{\"model_type\":\"clip_vision_model\",\"hidden_size\":%u,"
        "\"intermediate_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,"
        "\"image_size\":%u,\"patch_size\":%u,\"num_channels\":%u,\"hidden_act\":\"%s\","
        "\"layer_norm_eps\":%g},",
        v->hidden_size, v->intermediate_size, v->n_layers, v->n_heads, v->image_size, v->patch_size,
        v->n_channels, vlm_act_name(v->hidden_act), (double)v->layer_norm_eps));
    const uint64_t per_token = kv_bytes_per_token(r);
    const vlm_memory_plan *p = &r->plan;
    return vlm_buf_printf(
        out, err,
        "\"memory\":{\"context\":%u,\"kv_dtype\":\"%s\",\"kv_bytes_per_token\":%llu,"
        "\"kv_bytes\":%llu,\"fixed_bytes\":%zu,\"kv_cache_tokens\":%llu,\"kv_cache_bytes\":%llu,"
        "\"encoder_cache_pictures\":%u,\"encoder_cache_bytes\":%llu},",
        r->n_ctx, kv_dtype_name(r), (unsigned long long)per_token,
        (unsigned long long)(per_token * r->n_ctx), p->fixed_bytes,
        (unsigned long long)p->n_blocks * VLM_KV_BLOCK_TOKENS,
        (unsigned long long)p->n_blocks * p->block_bytes, p->n_pictures,
        (unsigned long long)p->n_pictures * p->picture_bytes);
}

static vlm_status report_json(const report *r, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "{", err));
    if (r->has_config) VLM_TRY(config_json(r, out, err));
    if (r->tokenizer != NULL)
        VLM_TRY(vlm_buf_printf(out, err, "\"tokenizer\":{\"kind\":\"%s\",\"tokens\":%u},",
                               vlm_tokenizer_kind(r->tokenizer),
                               vlm_tokenizer_n_vocab(r->tokenizer)));
    if (r->chat != NULL)
        VLM_TRY(vlm_buf_printf(out, err, "\"chat_template\":\"%s\",", vlm_chat_source(r->chat)));
    if (r->files != NULL) {
        VLM_TRY(vlm_inspect_tensors_json(r->files, out, err));
        VLM_TRY(vlm_buf_append_str(out, ",", err));
    }
    VLM_TRY(vlm_buf_append_str(out, "\"problems\":[", err));
    for (size_t i = 0; i < r->n_problems; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_str(out, ",", err));
        VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(r->problems[i].msg), err));
    }
    return vlm_buf_append_str(out, "]}\n", err);
}

static bool is_safetensors_file(const char *arg)
{
    static const char suffix[] = ".safetensors";
    const size_t len = strlen(arg), suffix_len = sizeof suffix - 1;
    return len > suffix_len && strcmp(arg + len - suffix_len, suffix) == 0 && vlm_path_is_file(arg);
}

static int print_report(const report *r, const vlm_options *opt)
{
    vlm_buf out;
    vlm_error err;
    vlm_buf_init(&out, REPORT_LEN_MAX);
    vlm_status status = opt->json ? report_json(r, &out, &err) : report_text(r, &out, &err);
    if (status == VLM_OK) status = vlm_cli_write(out.data, out.len, &err);
    vlm_buf_fini(&out);
    if (status != VLM_OK) return vlm_cli_fail(&err);
    return r->n_problems == 0 ? VLM_EXIT_DONE : vlm_cli_fail(&r->problems[0]);
}

/* One file alone: its tensors; there is nothing that could run. */
static int inspect_file(const vlm_options *opt)
{
    report r = {0};
    vlm_map map;
    vlm_error err;
    vlm_status status = vlm_map_open(opt->args[0], opt->args[0], &map, &err);
    if (status != VLM_OK) return vlm_cli_fail(&err);
    const vlm_bytes bytes = {.ptr = map.data, .len = map.len};
    status = vlm_safetensors_open_bytes(bytes, opt->args[0], &r.files, &err);
    const int code = status == VLM_OK ? print_report(&r, opt) : vlm_cli_fail(&err);
    vlm_safetensors_close(r.files);
    vlm_map_close(&map);
    return code;
}

int vlm_cmd_inspect(const vlm_options *opt)
{
    if (is_safetensors_file(opt->args[0])) return inspect_file(opt);
    report r = {0};
    vlm_error err;
    if (vlm_model_arg_open(opt->args[0], &r.folder, &err) != VLM_OK) return vlm_cli_fail(&err);
    r.kv_dtype = vlm_cli_engine_options(opt).kv_dtype;
    read_all(&r, opt);
    const int code = print_report(&r, opt);
    vlm_chat_free(r.chat);
    vlm_tokenizer_free(r.tokenizer);
    vlm_safetensors_close(r.files);
    vlm_folder_close(r.folder);
    return code;
}
