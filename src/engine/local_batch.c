/* local_batch.c - a batch through the decoder, piece by piece. */
#include <assert.h>

#include "base/clock.h"
#include "engine/local.h"

/* Put the rows of pictures into those of a sequence's tokens that stand for them.  What an answer
 * says is a word, also where it is the image token. */
static void splice(vlm_local *l, const vlm_seq *seq, const vlm_seq_rows *rows)
{
    const vlm_local_job *j = seq->job;
    const size_t hidden = vlm_model_config(l->model)->text.hidden_size;
    const uint32_t begin = rows->n_past, end = begin + rows->n_rows;
    for (uint32_t i = 0; i < j->prompt.n_images; i++) {
        const uint32_t start = j->image_starts[i], stop = start + j->n_image_rows;
        const uint32_t first = start > begin ? start : begin, last = stop < end ? stop : end;
        if (first >= last) continue;
        assert(j->image_slots[i] != VLM_SLOT_NONE);
        const float *features = l->features + j->image_slots[i] * l->features_len;
        vlm_model_splice(l->model, l->x + (rows->row + first - begin) * hidden,
                         features + (first - start) * hidden, last - first);
    }
}

void vlm_local_batch_start(vlm_local *l)
{
    vlm_local_batch *b = &l->batch;
    b->n_live = b->n_seqs;
    b->piece = b->next_draw = b->n_logits = b->next_logits = 0;
    b->start_ns = l->now_ns;
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        const vlm_seq_rows *rows = &b->rows[i];
        for (uint32_t r = 0; r < rows->n_rows; r++)
            b->ids[rows->row + r] = vlm_seq_token(b->seqs[i], rows->n_past + r);
        b->seqs[i]->job->n_in_batch++;
    }
    vlm_model_embed_text(l->model, l->x, b->ids, b->n_rows);
    for (uint32_t i = 0; i < b->n_seqs; i++) splice(l, b->seqs[i], &b->rows[i]);
}

static void finish(vlm_local *l)
{
    vlm_local_batch *b = &l->batch;
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        vlm_seq *seq = b->seqs[i];
        if (seq == NULL) continue;
        vlm_local_job *j = seq->job;
        const uint32_t n_prompt = (uint32_t)j->prompt.ids.len;
        seq->n_computed += b->rows[i].n_rows;
        const uint32_t n_seen = seq->n_computed < n_prompt ? seq->n_computed : n_prompt;
        if (n_seen > j->n_seen) j->n_seen = n_seen;
        vlm_seq_publish(l, seq);
        vlm_local_pictures_release(l, j, false);
        vlm_fair_spend(&j->fair, b->rows[i].n_rows);
    }
}

bool vlm_local_batch_piece(vlm_local *l)
{
    vlm_local_batch *b = &l->batch;
    const vlm_batch batch = {.seqs = b->rows, .n_seqs = b->n_seqs, .n_rows = b->n_rows};
    if (b->n_live == 0) return true;
    vlm_model_forward_piece(l->model, &l->kv, l->x, &batch, b->piece++);
    l->backend->ops->sync(l->backend);
    l->now_ns = vlm_clock_ns();
    if (b->piece < vlm_model_n_forward_pieces(l->model)) return false;
    finish(l);
    l->forward_ns = l->now_ns - b->start_ns;
    return true;
}

void vlm_local_batch_end(vlm_local *l)
{
    vlm_local_batch *b = &l->batch;
    for (uint32_t i = 0; i < b->n_seqs; i++)
        if (b->seqs[i] != NULL) b->seqs[i]->job->n_in_batch--;
    b->n_seqs = b->n_rows = b->n_live = 0;
    while (l->dead.first != NULL) {
        vlm_local_job *j = l->dead.first;
        vlm_local_list_remove(&l->dead, j);
        vlm_local_job_free(&l->base, (vlm_job *)j);
    }
}

void vlm_local_batch_forget(vlm_local *l, vlm_local_job *j)
{
    vlm_local_batch *b = &l->batch;
    for (uint32_t i = 0; i < b->n_seqs && j->n_in_batch > 0; i++) {
        if (b->seqs[i] == NULL || b->seqs[i]->job != j) continue;
        b->seqs[i] = NULL;
        b->n_live--;
    }
}
