/* cmd_trace.c - `vlmd trace`: every stage of one greedy answer, as a safetensors file to compare
 * with a reference. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cmd.h"
#include "cli/compute.h"
#include "cli/model_arg.h"
#include "cli/pictures.h"
#include "engine/pictures.h"
#include "engine/prepare.h"
#include "model/model.h"
#include "model/safetensors.h"

typedef struct trace {
    vlm_folder *folder;
    vlm_backend *backend;
    vlm_model *model;
    vlm_prepare prepare;
    vlm_pictures_budget budget;
    vlm_prompt prompt;
    vlm_kv_pool kv;
    uint32_t *blocks;                           /* of the one sequence: 0, 1, 2, ... */
    float *x, *device_logits, *device_features; /* on the device */

    /* What is written. */
    int64_t *input_ids;    /* [n] */
    float *vision_hidden;  /* [images, tokens, width] */
    float *image_features; /* [images * image tokens, hidden] */
    float *logits;         /* [n, vocab] */
    int64_t *output_ids;   /* [n_output] */
    size_t n_output;
} trace;

static vlm_status host_array(size_t n_rows, size_t n_cols, size_t elem_size, void *out,
                             vlm_error *err)
{
    size_t n;
    void *ptr = NULL;
    if (vlm_size_mul(n_rows, n_cols, &n)) ptr = vlm_calloc(n, elem_size);
    if (ptr == NULL) return vlm_fail_memory(err, "trace");
    memcpy(out, &ptr, sizeof ptr);
    return VLM_OK;
}

static vlm_status device_floats(trace *t, size_t n_rows, size_t n_cols, float **out, vlm_error *err)
{
    size_t n, n_bytes;
    void *ptr = NULL;
    if (!vlm_size_mul(n_rows, n_cols, &n) || !vlm_size_mul(n, sizeof(float), &n_bytes))
        return vlm_fail_memory(err, "trace");
    VLM_TRY(t->backend->ops->alloc(t->backend, n_bytes, &ptr, err));
    *out = ptr;
    return VLM_OK;
}

static vlm_status open_model(trace *t, const vlm_options *opt, vlm_error *err)
{
    const vlm_engine_options o = vlm_cli_engine_options(opt);
    const vlm_model_options model_options = {
        .dtype = o.dtype,
        .vision_dtype = o.vision_dtype,
        .pack_cache_bytes = o.pack_cache_bytes,
        .n_ctx = o.n_ctx,
    };
    const uint32_t n_threads = o.n_threads == 0 ? vlm_cpu_count() : o.n_threads;
    const vlm_cpu_level best = vlm_cpu_level_best();
    if (o.cpu_level_given && !vlm_cpu_level_has(o.cpu_level))
        return vlm_fail(err, VLM_UNIMPLEMENTED, "cpu-level %s: this CPU has only %s",
                        vlm_cpu_level_name(o.cpu_level), vlm_cpu_level_name(best));
    VLM_TRY(vlm_model_arg_open(opt->args[0], &t->folder, err));
    VLM_TRY(
        vlm_backend_cpu_open(n_threads, o.cpu_level_given ? o.cpu_level : best, &t->backend, err));
    VLM_TRY(vlm_model_open(t->folder, t->backend, &model_options, &t->model, err));
    VLM_TRY(vlm_prepare_open(&t->prepare, t->folder, t->model, err));
    const uint32_t n_ctx = vlm_model_n_ctx(t->model);
    const uint32_t n_blocks = n_ctx / VLM_KV_BLOCK_TOKENS + 1;
    VLM_TRY(host_array(n_blocks, 1, sizeof *t->blocks, &t->blocks, err));
    for (uint32_t i = 0; i < n_blocks; i++) t->blocks[i] = i;
    return vlm_model_kv_new(t->model, n_blocks, VLM_DTYPE_F32, &t->kv, err);
}

/* Run n rows of t->x that follow n_past others. */
static void forward(trace *t, uint32_t n, uint32_t n_past)
{
    const vlm_seq_rows seq = {.n_rows = n, .n_past = n_past, .blocks = t->blocks};
    vlm_model_forward(t->model, &t->kv, t->x, &(vlm_batch){.seqs = &seq, .n_seqs = 1, .n_rows = n});
}

static vlm_status add_picture(vlm_pictures *set, const char *path, const vlm_options *opt,
                              vlm_error *err)
{
    vlm_image image;
    VLM_TRY(vlm_cli_read_picture(path, opt, &image, err));
    vlm_status status = vlm_pictures_add(set, &image, err);
    vlm_image_fini(&image);
    if (status != VLM_OK) status = vlm_fail_prefix(err, status, "%s", path);
    return status;
}

static vlm_status prepare_prompt(trace *t, const vlm_options *opt, vlm_error *err)
{
    vlm_pictures *pictures;
    vlm_part parts[VLM_OPTION_LIST_MAX + 1];
    const size_t n_images = opt->image.n;
    t->budget.bytes_max = SIZE_MAX;
    VLM_TRY(vlm_pictures_open(t->model, (uint32_t)n_images, &t->budget, &pictures, err));
    vlm_status status = VLM_OK;
    for (size_t i = 0; i < n_images && status == VLM_OK; i++)
        status = add_picture(pictures, opt->image.values[i], opt, err);
    const vlm_bytes text = vlm_bytes_of(opt->prompt);
    for (size_t i = 0; i < n_images; i++) parts[i] = (vlm_part){.is_picture = true};
    parts[n_images] = (vlm_part){.text = text};
    const vlm_message message = {
        .role = vlm_bytes_of("user"), .parts = parts, .n_parts = n_images + 1};
    vlm_request request = {.messages = &message, .n_messages = 1};
    if (opt->raw) request = (vlm_request){.raw_prompt = &text};
    request.pictures = pictures;
    if (status == VLM_OK) status = vlm_prepare_run(&t->prepare, &request, &t->prompt, err);
    vlm_pictures_unref(pictures);
    return status;
}

static vlm_status encode_images(trace *t, vlm_error *err)
{
    const uint32_t n_images = t->prompt.n_images;
    if (n_images == 0) return VLM_OK;
    uint32_t n_tokens, width;
    vlm_model_hidden_shape(t->model, &n_tokens, &width);
    const size_t hidden_len = (size_t)n_tokens * width;
    const size_t hidden = vlm_model_config(t->model)->text.hidden_size;
    const size_t features_len = vlm_model_n_image_tokens(t->model) * hidden;
    VLM_TRY(host_array(n_images, hidden_len, sizeof(float), &t->vision_hidden, err));
    VLM_TRY(host_array(n_images, features_len, sizeof(float), &t->image_features, err));
    VLM_TRY(device_floats(t, n_images, features_len, &t->device_features, err));
    for (uint32_t i = 0; i < n_images; i++)
        vlm_model_encode(t->model, vlm_pictures_pixels(t->prompt.pictures, i),
                         t->device_features + i * features_len, t->vision_hidden + i * hidden_len);
    t->backend->ops->download(t->backend, t->image_features, t->device_features,
                              n_images * features_len * sizeof(float));
    return VLM_OK;
}

static vlm_status prefill(trace *t, vlm_error *err)
{
    const vlm_text_config *text = &vlm_model_config(t->model)->text;
    const vlm_ids *ids = &t->prompt.ids;
    const uint32_t n_max = vlm_model_n_rows_max(t->model);
    size_t feature_row = 0;
    VLM_TRY(host_array(ids->len, 1, sizeof *t->input_ids, &t->input_ids, err));
    VLM_TRY(host_array(ids->len, text->vocab_size, sizeof(float), &t->logits, err));
    VLM_TRY(device_floats(t, n_max, text->hidden_size, &t->x, err));
    VLM_TRY(device_floats(t, n_max, text->vocab_size, &t->device_logits, err));
    for (size_t i = 0; i < ids->len; i++) t->input_ids[i] = ids->data[i];
    for (uint32_t done = 0; done < ids->len;) {
        const uint32_t n_left = (uint32_t)ids->len - done;
        const uint32_t n = n_left < n_max ? n_left : n_max;
        vlm_model_embed(t->model, t->x, ids->data + done, n, t->device_features, &feature_row);
        forward(t, n, done);
        vlm_model_logits(t->model, t->device_logits, t->x, n);
        t->backend->ops->download(t->backend, t->logits + (size_t)done * text->vocab_size,
                                  t->device_logits, (size_t)n * text->vocab_size * sizeof(float));
        done += n;
    }
    return VLM_OK;
}

static bool is_end(const vlm_config *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->n_eos; i++)
        if (c->eos_ids[i] == id) return true;
    return false;
}

/* The end-of-sequence token, if it comes, is the last of output_ids. */
static vlm_status answer(trace *t, uint32_t n_wanted, vlm_error *err)
{
    const vlm_config *c = vlm_model_config(t->model);
    const uint32_t n_prompt = (uint32_t)t->prompt.ids.len;
    const uint32_t n_room = vlm_model_n_ctx(t->model) - n_prompt;
    const uint32_t n_max = n_wanted == 0 || n_wanted > n_room ? n_room : n_wanted;
    VLM_TRY(host_array(n_max, 1, sizeof *t->output_ids, &t->output_ids, err));
    vlm_backend *b = t->backend;
    float *logits;
    VLM_TRY(host_array(c->text.vocab_size, 1, sizeof *logits, &logits, err));
    memcpy(logits, t->logits + (size_t)(n_prompt - 1) * c->text.vocab_size,
           c->text.vocab_size * sizeof *logits);
    for (;;) {
        uint32_t id = 0;
        for (uint32_t i = 1; i < c->text.vocab_size; i++)
            if (logits[i] > logits[id]) id = i;
        t->output_ids[t->n_output++] = id;
        if (is_end(c, id) || t->n_output == n_max) break;
        vlm_model_embed_text(t->model, t->x, &id, 1);
        forward(t, 1, n_prompt + (uint32_t)t->n_output - 1);
        vlm_model_logits(t->model, t->device_logits, t->x, 1);
        b->ops->download(b, logits, t->device_logits, c->text.vocab_size * sizeof *logits);
    }
    free(logits);
    return VLM_OK;
}

static vlm_st_tensor f32_tensor(const char *name, const float *data, uint32_t rank,
                                const uint64_t *shape)
{
    vlm_st_tensor t = {.name = name,
                       .dtype = VLM_DTYPE_F32,
                       .dtype_known = true,
                       .dtype_name = "F32",
                       .rank = rank,
                       .data = data,
                       .n_bytes = sizeof(float)};
    for (uint32_t i = 0; i < rank; i++) {
        t.shape[i] = shape[i];
        t.n_bytes *= shape[i];
    }
    return t;
}

static vlm_st_tensor i64_tensor(const char *name, const int64_t *data, uint64_t n)
{
    return (vlm_st_tensor){.name = name,
                           .dtype_name = "I64",
                           .rank = 1,
                           .shape = {n},
                           .data = data,
                           .n_bytes = n * sizeof *data};
}

static vlm_status write_all(const trace *t, const char *path, vlm_error *err)
{
    const vlm_config *c = vlm_model_config(t->model);
    const uint64_t n_images = t->prompt.n_images, side = c->vision.image_size;
    uint32_t n_tokens, width;
    vlm_model_hidden_shape(t->model, &n_tokens, &width);
    vlm_st_tensor tensors[6];
    size_t n = 0;
    tensors[n++] = i64_tensor("input_ids", t->input_ids, t->prompt.ids.len);
    if (n_images > 0) {
        const uint64_t n_rows = n_images * vlm_model_n_image_tokens(t->model);
        tensors[n++] = f32_tensor("pixel_values", vlm_pictures_pixels(t->prompt.pictures, 0), 4,
                                  (const uint64_t[]){n_images, 3, side, side});
        tensors[n++] = f32_tensor("vision_hidden", t->vision_hidden, 3,
                                  (const uint64_t[]){n_images, n_tokens, width});
        tensors[n++] = f32_tensor("image_features", t->image_features, 2,
                                  (const uint64_t[]){n_rows, c->text.hidden_size});
    }
    tensors[n++] = f32_tensor("logits", t->logits, 2,
                              (const uint64_t[]){t->prompt.ids.len, c->text.vocab_size});
    tensors[n++] = i64_tensor("output_ids", t->output_ids, t->n_output);
    return vlm_safetensors_write(path, tensors, n, err);
}

static void close_all(trace *t)
{
    free(t->input_ids);
    free(t->vision_hidden);
    free(t->image_features);
    free(t->logits);
    free(t->output_ids);
    free(t->blocks);
    vlm_prompt_fini(&t->prompt);
    vlm_prepare_close(&t->prepare);
    if (t->backend != NULL) {
        t->backend->ops->free(t->backend, t->x);
        t->backend->ops->free(t->backend, t->device_logits);
        t->backend->ops->free(t->backend, t->device_features);
        vlm_kv_pool_fini(&t->kv);
        vlm_model_close(t->model);
        t->backend->ops->close(t->backend);
    }
    vlm_folder_close(t->folder);
}

int vlm_cmd_trace(const vlm_options *opt)
{
    trace t = {0};
    vlm_error err;
    vlm_status status = open_model(&t, opt, &err);
    if (status == VLM_OK) status = prepare_prompt(&t, opt, &err);
    if (status == VLM_OK) status = encode_images(&t, &err);
    if (status == VLM_OK) status = prefill(&t, &err);
    if (status == VLM_OK) status = answer(&t, opt->max_tokens, &err);
    if (status == VLM_OK) status = write_all(&t, opt->output, &err);
    close_all(&t);
    return status == VLM_OK ? VLM_EXIT_DONE : vlm_cli_fail(&err);
}
