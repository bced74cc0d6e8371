/* chat_room.c - room for one more chat: at all, and for the owner of a key. */
#include <string.h>

#include "base/share.h"
#include "gateway/chat_parts.h"

/* Chats that may be at once. */
static size_t room_of(const vlm_gateway *g)
{
    const vlm_workers_state s = vlm_workers_get_state(g->workers);
    /* What waits for a model to be loaded has its place at the worker to come. */
    const size_t unready = g->options.host != NULL ? s.n_unready_room : 0;
    return s.n_ready > 0 ? (size_t)s.n_busy + s.n_room + unready
                         : (size_t)g->options.running_max + g->options.waiting_max;
}

/* Whether it counts in n_chats: what is over waits only to be freed. */
static bool holds_place(const vlm_chat *chat)
{
    if (chat->state == VLM_CHAT_PARSING) return chat->client != NULL;
    return chat->state != VLM_CHAT_OVER;
}

static bool is_full_for(const vlm_gateway *g, int key)
{
    size_t n_own = 0;
    vlm_tenant_names names;
    if (key < 0) return false;
    vlm_tenant_names_of(&g->keys, key, g->options.cache_shared, &names);
    for (const vlm_chat *chat = g->chats; chat != NULL; chat = chat->next)
        n_own += holds_place(chat) && strcmp(chat->names.tenant, names.tenant) == 0;
    return !vlm_share_may_take(n_own, g->n_chats, room_of(g));
}

void vlm_chats_count(const vlm_gateway *g, const vlm_metrics *model, size_t *n_running,
                     size_t *n_waiting)
{
    *n_running = *n_waiting = 0;
    for (const vlm_chat *chat = g->chats; chat != NULL; chat = chat->next) {
        if (chat->metrics != model || !holds_place(chat)) continue;
        if (chat->started)
            ++*n_running;
        else
            ++*n_waiting;
    }
}

bool vlm_chats_full(const vlm_gateway *g)
{
    return g->n_chats >= room_of(g);
}

bool vlm_chats_refuse(vlm_gateway *g, vlm_client *c, int key)
{
    vlm_api_error error;
    vlm_reject reject;
    if (vlm_chats_full(g)) {
        reject = VLM_REJECT_OVERLOADED;
        vlm_api_error_overloaded(&error, "the server is busy");
    } else if (is_full_for(g, key)) {
        reject = VLM_REJECT_KEY_LIMIT;
        vlm_api_error_rate_limit(&error);
    } else {
        return false;
    }
    vlm_counter_add(g->metrics, VLM_METRIC_REQUESTS_REJECTED, reject, 1);
    vlm_respond_error(c, &error);
    return true;
}
