/* local_list.c - lists of requests. */
#include "engine/local.h"

void vlm_local_list_add(vlm_local_list *list, vlm_local_job *j)
{
    j->next = NULL;
    j->prev = list->last;
    if (list->last == NULL)
        list->first = j;
    else
        list->last->next = j;
    list->last = j;
    list->n++;
}

void vlm_local_list_remove(vlm_local_list *list, vlm_local_job *j)
{
    if (j->prev == NULL)
        list->first = j->next;
    else
        j->prev->next = j->next;
    if (j->next == NULL)
        list->last = j->prev;
    else
        j->next->prev = j->prev;
    list->n--;
}
