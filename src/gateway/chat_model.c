/* chat_model.c - which model a chat asks for, and its waiting until a worker has it. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/chat_parts.h"

bool vlm_chat_find_model(vlm_chat *chat, vlm_api_error *error)
{
    vlm_models *models = chat->gateway->models;
    const vlm_bytes name = chat->request.model;
    chat->has_model = vlm_models_find(models, name, &chat->model_idx);
    if (chat->has_model) {
        chat->metrics = vlm_models_metrics(models, chat->model_idx);
        (void)snprintf(chat->model, sizeof chat->model, "%s",
                       vlm_models_name(models, chat->model_idx));
        /* Workers know no aliases.  A view of the chat's own text. */
        chat->request.grpc.model =
            (ProtobufCBinaryData){.data = (uint8_t *)chat->model, .len = strlen(chat->model)};
        return true;
    }
    /* No worker has said yet what it serves. */
    if (vlm_models_n(models) == 0) return true;
    if (name.len == 0)
        vlm_api_error_invalid(error, "model",
                              "several models are served here: model must be given");
    else
        vlm_api_error_model_not_found(error, name);
    return false;
}

vlm_bytes vlm_chat_model_name(const vlm_chat *chat)
{
    if (!chat->has_model) return chat->request.model;
    return vlm_bytes_of(vlm_models_name(chat->gateway->models, chat->model_idx));
}

bool vlm_chat_is_loading(const vlm_chat *chat)
{
    const vlm_models *models = chat->gateway->models;
    if (!chat->has_model || vlm_models_host_of(models) == NULL) return false;
    const vlm_model_state state = vlm_models_state(models, chat->model_idx);
    /* One that gives way to another model now is loaded again later. */
    return state != VLM_MODEL_FAILED &&
           (state != VLM_MODEL_LOADED || !vlm_models_takes(models, chat->model_idx));
}

void vlm_chat_wait(vlm_chat *chat)
{
    vlm_gateway *g = chat->gateway;
    vlm_api_error error;
    if (chat->has_model) vlm_models_want(g->models, chat->model_idx);
    if (chat->has_model && vlm_models_state(g->models, chat->model_idx) == VLM_MODEL_FAILED) {
        vlm_api_error_not_loaded(&error, vlm_chat_model_name(chat));
        vlm_chat_fail(chat, &error);
        return;
    }
    if (vlm_workers_has_ready(g->workers, vlm_chat_model_name(chat)) &&
        !vlm_chat_is_loading(chat)) {
        vlm_counter_add(chat->metrics, VLM_METRIC_REQUESTS_REJECTED, VLM_REJECT_OVERLOADED, 1);
        vlm_api_error_overloaded(&error, "all workers are busy");
        vlm_chat_fail(chat, &error);
        return;
    }
    if (chat->waiting_ns == 0) chat->waiting_ns = vlm_clock_ns();
    chat->state = VLM_CHAT_WAITING;
}
