#include "gateway/chat_parse.h"

/* The value with which a parameter changes nothing, so that it may be there. */
typedef enum neutral {
    NEUTRAL_NULL, /* null alone */
    NEUTRAL_EMPTY,
    NEUTRAL_NO_TOOL, /* "none" or "auto": there are no tools to choose from */
    NEUTRAL_FALSE,
    NEUTRAL_TRUE,
    NEUTRAL_ZERO,
    NEUTRAL_TEXT_FORMAT,   /* {"type":"text"} */
    NEUTRAL_TEXT_MODALITY, /* ["text"] */
} neutral;

typedef struct unsupported {
    const char *name;
    neutral neutral;
} unsupported;

/* OpenAI's and vLLM's parameters that would change the answer and are not there yet. */
static const unsupported table[] = {
    {"tools", NEUTRAL_EMPTY},
    {"tool_choice", NEUTRAL_NO_TOOL},
    {"functions", NEUTRAL_EMPTY},
    {"function_call", NEUTRAL_NO_TOOL},
    {"response_format", NEUTRAL_TEXT_FORMAT},
    {"modalities", NEUTRAL_TEXT_MODALITY},
    {"audio", NEUTRAL_NULL},
    {"prediction", NEUTRAL_NULL},
    {"moderation", NEUTRAL_NULL},
    {"web_search_options", NEUTRAL_NULL},
    {"guided_json", NEUTRAL_NULL},
    {"guided_regex", NEUTRAL_NULL},
    {"guided_grammar", NEUTRAL_NULL},
    {"guided_choice", NEUTRAL_EMPTY},
    {"structured_outputs", NEUTRAL_NULL},
    {"documents", NEUTRAL_EMPTY},
    {"chat_template", NEUTRAL_NULL},
    {"chat_template_kwargs", NEUTRAL_EMPTY},
    {"add_generation_prompt", NEUTRAL_TRUE},
    {"continue_final_message", NEUTRAL_FALSE},
    {"echo", NEUTRAL_FALSE},
    {"use_beam_search", NEUTRAL_FALSE},
    {"min_tokens", NEUTRAL_ZERO},
    {"stop_token_ids", NEUTRAL_EMPTY},
    {"allowed_token_ids", NEUTRAL_EMPTY},
    {"bad_words", NEUTRAL_EMPTY},
    {"include_stop_str_in_output", NEUTRAL_FALSE},
    {"skip_special_tokens", NEUTRAL_TRUE},
    {"prompt_logprobs", NEUTRAL_ZERO},
};

static bool is_text(const vlm_json *node, const char *text)
{
    return vlm_json_typeof(node) == VLM_JSON_STRING &&
           vlm_bytes_eq_str(vlm_json_string(node), text);
}

static bool is_bool(const vlm_json *node, bool value)
{
    return vlm_json_typeof(node) == VLM_JSON_BOOL && vlm_json_bool(node) == value;
}

static bool is_neutral(const vlm_json *node, neutral how)
{
    const vlm_json_type type = vlm_json_typeof(node);
    switch (how) {
    case NEUTRAL_EMPTY:
        return (type == VLM_JSON_ARRAY && vlm_json_array_len(node) == 0) ||
               (type == VLM_JSON_OBJECT && vlm_json_object_len(node) == 0);
    case NEUTRAL_NO_TOOL: return is_text(node, "none") || is_text(node, "auto");
    case NEUTRAL_FALSE: return is_bool(node, false);
    case NEUTRAL_TRUE: return is_bool(node, true);
    case NEUTRAL_ZERO: return type == VLM_JSON_INT && vlm_json_int(node) == 0;
    case NEUTRAL_TEXT_FORMAT: return is_text(vlm_json_get(node, "type"), "text");
    case NEUTRAL_TEXT_MODALITY:
        return type == VLM_JSON_ARRAY && vlm_json_array_len(node) == 1 &&
               is_text(vlm_json_at(node, 0), "text");
    case NEUTRAL_NULL: break;
    }
    return false;
}

bool vlm_chat_check_unsupported(const vlm_json *root, vlm_api_error *error)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const vlm_json *node = vlm_json_get(root, table[i].name);
        if (node == NULL || is_neutral(node, table[i].neutral)) continue;
        vlm_api_error_invalid(error, table[i].name, "%s is not supported", table[i].name);
        return false;
    }
    return true;
}
