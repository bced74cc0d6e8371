#include "gateway/chat_parts.h"

void vlm_chat_fetch_start(vlm_chat *chat)
{
    vlm_chat_go_on(chat);
}

void vlm_chat_fetch_cancel(vlm_chat *chat)
{
    (void)chat;
}

void vlm_chats_fetched(vlm_gateway *g)
{
    (void)g;
}
