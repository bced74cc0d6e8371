#include "gateway/chat_request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/chat_parse.h"

enum { STOP_MAX = 16, STOP_LEN_MAX = 256, BIAS_MAX = 1024, CHOICES_MAX = 8, TOP_LOGPROBS_MAX = 20 };

static bool want_type(const char *name, const char *wanted, vlm_api_error *error)
{
    vlm_api_error_invalid(error, name, "%s must be %s", name, wanted);
    return false;
}

/* Members that may be absent or null: *given says whether they were there. */
static bool read_bool(const vlm_json *obj, const char *name, bool *out, vlm_api_error *error)
{
    const vlm_json *node = vlm_json_get(obj, name);
    if (node == NULL) return true;
    if (vlm_json_typeof(node) != VLM_JSON_BOOL) return want_type(name, "true or false", error);
    *out = vlm_json_bool(node);
    return true;
}

static bool read_number(const vlm_json *obj, const char *name, double min, double max, bool open,
                        float *out, bool *given, vlm_api_error *error)
{
    const vlm_json *node = vlm_json_get(obj, name);
    *given = node != NULL;
    if (node == NULL) return true;
    const vlm_json_type type = vlm_json_typeof(node);
    if (type != VLM_JSON_INT && type != VLM_JSON_DOUBLE) return want_type(name, "a number", error);
    const double value = vlm_json_double(node);
    if (!isfinite(value) || value < min || value > max || (open && value <= min)) {
        vlm_api_error_invalid(error, name, "%s must be %s %g and at most %g", name,
                              open ? "above" : "at least", min, max);
        return false;
    }
    *out = (float)value;
    if (open && *out <= (float)min) *out = nextafterf((float)min, 1.0f);
    return true;
}

static bool read_u32(const vlm_json *obj, const char *name, uint32_t min, uint32_t max,
                     uint32_t *out, bool *given, vlm_api_error *error)
{
    const vlm_json *node = vlm_json_get(obj, name);
    *given = node != NULL;
    if (node == NULL) return true;
    if (vlm_json_typeof(node) != VLM_JSON_INT) return want_type(name, "an integer", error);
    const int64_t value = vlm_json_int(node);
    if (value < (int64_t)min || (value > (int64_t)max && max != UINT32_MAX)) {
        if (max == UINT32_MAX)
            vlm_api_error_invalid(error, name, "%s must be at least %u", name, min);
        else
            vlm_api_error_invalid(error, name, "%s must be between %u and %u", name, min, max);
        return false;
    }
    *out = value > (int64_t)UINT32_MAX ? UINT32_MAX : (uint32_t)value;
    return true;
}

static bool read_sampling(const vlm_json *root, Vlm__V1__Sampling *s, vlm_api_error *error)
{
    bool given[7];
    if (!read_number(root, "temperature", 0.0, 2.0, false, &s->temperature, &given[0], error) ||
        !read_number(root, "top_p", 0.0, 1.0, true, &s->top_p, &given[1], error) ||
        !read_number(root, "min_p", 0.0, 1.0, false, &s->min_p, &given[2], error) ||
        !read_number(root, "repetition_penalty", 0.0, 100.0, true, &s->repetition_penalty,
                     &given[3], error) ||
        !read_number(root, "frequency_penalty", -2.0, 2.0, false, &s->frequency_penalty, &given[4],
                     error) ||
        !read_number(root, "presence_penalty", -2.0, 2.0, false, &s->presence_penalty, &given[5],
                     error) ||
        !read_u32(root, "top_k", 0, UINT32_MAX, &s->top_k, &given[6], error))
        return false;
    if (given[0]) s->opt_temperature_case = VLM__V1__SAMPLING__OPT_TEMPERATURE_TEMPERATURE;
    if (given[1]) s->opt_top_p_case = VLM__V1__SAMPLING__OPT_TOP_P_TOP_P;
    if (given[2]) s->opt_min_p_case = VLM__V1__SAMPLING__OPT_MIN_P_MIN_P;
    if (given[3])
        s->opt_repetition_penalty_case =
            VLM__V1__SAMPLING__OPT_REPETITION_PENALTY_REPETITION_PENALTY;
    if (given[4])
        s->opt_frequency_penalty_case = VLM__V1__SAMPLING__OPT_FREQUENCY_PENALTY_FREQUENCY_PENALTY;
    if (given[5])
        s->opt_presence_penalty_case = VLM__V1__SAMPLING__OPT_PRESENCE_PENALTY_PRESENCE_PENALTY;
    if (given[6]) s->opt_top_k_case = VLM__V1__SAMPLING__OPT_TOP_K_TOP_K;
    const vlm_json *seed = vlm_json_get(root, "seed");
    if (seed == NULL) return true;
    if (vlm_json_typeof(seed) != VLM_JSON_INT || !vlm_json_int_fits(seed))
        return want_type("seed", "an integer of 64 bits", error);
    s->opt_seed_case = VLM__V1__SAMPLING__OPT_SEED_SEED;
    s->seed = (uint64_t)vlm_json_int(seed);
    return true;
}

/* A token's id as the key of an object, in one way of writing it alone: keys are unique. */
static bool read_id(const char *key, uint32_t *out)
{
    uint64_t value = 0;
    if (*key == '\0' || strlen(key) > 9 || (key[0] == '0' && key[1] != '\0')) return false;
    for (; *key != '\0'; key++) {
        if (*key < '0' || *key > '9') return false;
        value = value * 10 + (uint64_t)(*key - '0');
    }
    *out = (uint32_t)value;
    return true;
}

static bool read_logit_bias(vlm_chat_request *r, const vlm_json *root, vlm_api_error *error)
{
    static const char name[] = "logit_bias";
    const vlm_json *node = vlm_json_get(root, name);
    Vlm__V1__Sampling *s = r->grpc.sampling;
    if (node == NULL) return true;
    if (vlm_json_typeof(node) != VLM_JSON_OBJECT) return want_type(name, "an object", error);
    const size_t n = vlm_json_object_len(node);
    if (n > BIAS_MAX) {
        vlm_api_error_invalid(error, name, "%s must have at most %d entries", name, BIAS_MAX);
        return false;
    }
    s->logit_bias = vlm_arena_array(&r->arena, n, sizeof(Vlm__V1__LogitBias *));
    if (s->logit_bias == NULL) return vlm_chat_no_memory(error);
    for (vlm_json_iter it = vlm_json_iter_begin(node); vlm_json_iter_next(&it);) {
        Vlm__V1__LogitBias *b = vlm_arena_alloc(&r->arena, sizeof *b);
        if (b == NULL) return vlm_chat_no_memory(error);
        vlm__v1__logit_bias__init(b);
        if (!read_id(it.key, &b->token_id)) return want_type(name, "an object of token ids", error);
        const vlm_json_type type = vlm_json_typeof(it.value);
        const bool is_number = type == VLM_JSON_INT || type == VLM_JSON_DOUBLE;
        const double value = is_number ? vlm_json_double(it.value) : HUGE_VAL;
        if (!(value >= -100.0 && value <= 100.0)) {
            vlm_api_error_invalid(error, name, "%s: each value must be between -100 and 100", name);
            return false;
        }
        b->bias = (float)value;
        s->logit_bias[s->n_logit_bias++] = b;
    }
    return true;
}

static bool add_stop(vlm_chat_request *r, const vlm_json *node, const char *param,
                     vlm_api_error *error)
{
    if (vlm_json_typeof(node) != VLM_JSON_STRING) return want_type(param, "a string", error);
    const vlm_bytes text = vlm_json_string(node);
    if (text.len == 0 || text.len > STOP_LEN_MAX) {
        vlm_api_error_invalid(error, param, "%s must have between 1 and %d bytes", param,
                              STOP_LEN_MAX);
        return false;
    }
    return vlm_chat_copy(r, text, &r->grpc.stop[r->grpc.n_stop++], error);
}

static bool read_stop(vlm_chat_request *r, const vlm_json *root, vlm_api_error *error)
{
    const vlm_json *node = vlm_json_get(root, "stop");
    if (node == NULL) return true;
    r->grpc.stop = vlm_arena_array(&r->arena, STOP_MAX, sizeof *r->grpc.stop);
    if (r->grpc.stop == NULL) return vlm_chat_no_memory(error);
    if (vlm_json_typeof(node) == VLM_JSON_STRING) return add_stop(r, node, "stop", error);
    if (vlm_json_typeof(node) != VLM_JSON_ARRAY)
        return want_type("stop", "a string or an array of strings", error);
    if (vlm_json_array_len(node) > STOP_MAX) {
        vlm_api_error_invalid(error, "stop", "stop must have at most %d strings", STOP_MAX);
        return false;
    }
    for (size_t i = 0; i < vlm_json_array_len(node); i++) {
        char param[VLM_CHAT_PARAM_LEN_MAX + 1];
        vlm_chat_param(param, "stop[%zu]", i);
        if (!add_stop(r, vlm_json_at(node, i), param, error)) return false;
    }
    return true;
}

static bool read_stream(vlm_chat_request *r, const vlm_json *root, vlm_api_error *error)
{
    const vlm_json *options = vlm_json_get(root, "stream_options");
    if (!read_bool(root, "stream", &r->stream, error)) return false;
    if (options == NULL) return true;
    if (vlm_json_typeof(options) != VLM_JSON_OBJECT)
        return want_type("stream_options", "an object", error);
    if (!r->stream) {
        vlm_api_error_invalid(error, "stream_options", "stream_options needs stream to be true");
        return false;
    }
    const vlm_json *usage = vlm_json_get(options, "include_usage");
    if (usage == NULL) return true;
    if (vlm_json_typeof(usage) != VLM_JSON_BOOL)
        return want_type("stream_options.include_usage", "true or false", error);
    r->include_usage = vlm_json_bool(usage);
    return true;
}

static bool read_logprobs(vlm_chat_request *r, const vlm_json *root, vlm_api_error *error)
{
    bool given;
    if (!read_bool(root, "logprobs", &r->logprobs, error) ||
        !read_u32(root, "top_logprobs", 0, TOP_LOGPROBS_MAX, &r->grpc.top_logprobs, &given, error))
        return false;
    if (given && !r->logprobs) {
        vlm_api_error_invalid(error, "top_logprobs", "top_logprobs needs logprobs to be true");
        return false;
    }
    r->grpc.logprobs = r->logprobs;
    return true;
}

static bool read_lengths(vlm_chat_request *r, const vlm_json *root, vlm_api_error *error)
{
    uint32_t old = 0, now = 0;
    bool has_old, has_now, has_n, ignore_eos = false;
    r->n = 1;
    if (!read_u32(root, "max_tokens", 1, UINT32_MAX, &old, &has_old, error) ||
        !read_u32(root, "max_completion_tokens", 1, UINT32_MAX, &now, &has_now, error) ||
        !read_u32(root, "n", 1, CHOICES_MAX, &r->n, &has_n, error) ||
        !read_bool(root, "ignore_eos", &ignore_eos, error))
        return false;
    r->grpc.max_tokens = has_now ? now : old;
    r->grpc.n = r->n;
    r->grpc.ignore_eos = ignore_eos;
    return true;
}

static bool read_model(vlm_chat_request *r, const vlm_json *root, vlm_api_error *error)
{
    const vlm_json *node = vlm_json_get(root, "model");
    if (node == NULL) return true;
    if (vlm_json_typeof(node) != VLM_JSON_STRING) return want_type("model", "a string", error);
    if (!vlm_chat_copy(r, vlm_json_string(node), &r->grpc.model, error)) return false;
    r->model = (vlm_bytes){.ptr = (const char *)r->grpc.model.data, .len = r->grpc.model.len};
    return true;
}

static bool read_all(vlm_chat_request *r, const vlm_json *root, const vlm_chat_limits *limits,
                     vlm_api_error *error)
{
    if (vlm_json_typeof(root) != VLM_JSON_OBJECT) {
        vlm_api_error_invalid(error, "", "the body must be a JSON object");
        return false;
    }
    r->grpc.sampling = vlm_arena_alloc(&r->arena, sizeof *r->grpc.sampling);
    if (r->grpc.sampling == NULL) return vlm_chat_no_memory(error);
    vlm__v1__sampling__init(r->grpc.sampling);
    return read_model(r, root, error) && vlm_chat_check_unsupported(root, error) &&
           read_lengths(r, root, error) && read_sampling(root, r->grpc.sampling, error) &&
           read_logit_bias(r, root, error) && read_stop(r, root, error) &&
           read_stream(r, root, error) && read_logprobs(r, root, error) &&
           vlm_chat_parse_messages(r, vlm_json_get(root, "messages"), limits, error);
}

bool vlm_chat_request_parse(const char *json, size_t len, const vlm_chat_limits *limits,
                            vlm_chat_request *out, vlm_api_error *error)
{
    enum { ARENA_EXTRA = 16 << 20 };
    vlm_error err;
    vlm_json_doc *doc;
    *out = (vlm_chat_request){0};
    vlm__v1__generate_request__init(&out->grpc);
    if (vlm_json_parse(json, len, &limits->json, &doc, &err) != VLM_OK) {
        if (vlm_chat_is_memory(&err)) return vlm_chat_no_memory(error);
        vlm_api_error_invalid(error, "", "the body is no JSON: %s", err.msg);
        return false;
    }
    vlm_arena_init(&out->arena, 2 * len + ARENA_EXTRA);
    const bool ok = read_all(out, vlm_json_root(doc), limits, error);
    /* Not kept: the pictures' base64 is most of it, and requests wait long. */
    vlm_json_free(doc);
    if (!ok) vlm_chat_request_fini(out);
    return ok;
}

void vlm_chat_request_fini(vlm_chat_request *r)
{
    for (size_t i = 0; i < r->n_images; i++) free(r->images[i]->data);
    vlm_arena_fini(&r->arena);
    *r = (vlm_chat_request){0};
}
