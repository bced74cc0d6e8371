/* local_encode.c - pictures through the vision tower, several side by side, each once for all who
 * ask about it, and their features in the encoder cache. */
#include <string.h>

#include "base/clock.h"
#include "engine/local.h"

static uint32_t image_end(const vlm_local_job *j, uint32_t image)
{
    return j->image_starts[image] + j->n_image_rows;
}

/* Whether a sequence that runs has rows of the picture to compute: 1, or has computed them all: 0.
 * -1: none runs. */
static int is_needed_by_any(const vlm_local_job *j, uint32_t image)
{
    int needed = -1;
    for (uint32_t c = 0; c < j->n_choices; c++) {
        const vlm_seq *seq = &j->seqs[c];
        if (seq->state != VLM_SEQ_RUNS) continue;
        if (seq->n_computed < image_end(j, image)) return 1;
        needed = 0;
    }
    return needed;
}

static bool is_needed(const vlm_local_job *j, uint32_t image)
{
    return is_needed_by_any(j, image) == 1;
}

static void count(vlm_local *l, vlm_local_job *j, uint32_t image, bool is_hit)
{
    if (j->image_counted[image]) return;
    j->image_counted[image] = true;
    l->stats.n_image_queries++;
    l->stats.n_image_hits += is_hit;
}

bool vlm_local_picture_hold(vlm_local *l, vlm_local_job *j, uint32_t image)
{
    if (j->image_slots[image] != VLM_SLOT_NONE) return true;
    if (!vlm_slots_find(l->encoded, &j->image_keys[image], &j->image_slots[image])) return false;
    count(l, j, image, true);
    return true;
}

void vlm_local_pictures_release(vlm_local *l, vlm_local_job *j, bool all)
{
    for (uint32_t i = 0; i < j->prompt.n_images; i++) {
        const int needed = is_needed_by_any(j, i);
        if (needed == 0) count(l, j, i, true); /* nobody had to look at it */
        if ((needed == 1 && !all) || j->image_slots[i] == VLM_SLOT_NONE) continue;
        vlm_slots_drop(l->encoded, j->image_slots[i]);
        j->image_slots[i] = VLM_SLOT_NONE;
    }
}

static bool on_its_way(const vlm_local *l, const vlm_slot_key *key)
{
    for (uint32_t i = 0; i < l->encode.n; i++)
        if (memcmp(&l->encode.pictures[i].key, key, sizeof *key) == 0) return true;
    return false;
}

/* Put a picture into the batch; false when there is no place for its features. */
static bool choose(vlm_local *l, vlm_local_job *j, uint32_t image)
{
    vlm_local_encode *e = &l->encode;
    vlm_local_picture *p = &e->pictures[e->n];
    uint32_t slot;
    if (!vlm_slots_take(l->encoded, &slot)) return false;
    *p = (vlm_local_picture){.slot = slot,
                             .key = j->image_keys[image],
                             .pictures = vlm_pictures_ref(j->prompt.pictures),
                             .owner = j,
                             .image = image};
    e->pixels[e->n] = vlm_pictures_pixels(p->pictures, image);
    e->features[e->n] = l->features + slot * l->features_len;
    e->n++;
    count(l, j, image, false);
    return true;
}

/* Whether the batch in the making takes rows from it. */
static bool is_in_batch(const vlm_local *l, const vlm_local_job *j, uint32_t image)
{
    for (uint32_t i = 0; i < l->batch.n_seqs; i++) {
        const vlm_seq_rows *rows = &l->batch.rows[i];
        if (l->batch.seqs[i]->job == j && rows->n_past < image_end(j, image) &&
            rows->n_past + rows->n_rows > j->image_starts[image])
            return true;
    }
    return false;
}

/* A choice that was put off may need a picture again for whose place another one's next is held:
 * let go the last of those behind image. */
static bool give_back(vlm_local *l, vlm_local_job *j, uint32_t image)
{
    for (uint32_t i = j->prompt.n_images; i-- > image + 1;) {
        if (j->image_slots[i] == VLM_SLOT_NONE || is_in_batch(l, j, i)) continue;
        vlm_slots_drop(l->encoded, j->image_slots[i]);
        j->image_slots[i] = VLM_SLOT_NONE;
        return true;
    }
    return false;
}

/* A request takes its pictures in order, so that the one it needs first is not driven out by the
 * next.  False when there is no place left. */
static bool choose_for(vlm_local *l, vlm_local_job *j, uint32_t n_max)
{
    for (uint32_t i = 0; i < j->prompt.n_images && l->encode.n < n_max; i++) {
        if (!is_needed(j, i) || vlm_local_picture_hold(l, j, i)) continue;
        if (on_its_way(l, &j->image_keys[i])) return true;
        while (!choose(l, j, i))
            if (!give_back(l, j, i)) return false;
    }
    return true;
}

static bool choose_running(vlm_local *l, uint32_t n_max)
{
    bool ok = true;
    for (vlm_local_job *j = l->running.first; j != NULL; j = j->next)
        if (!j->cancelled && !j->paused) ok = choose_for(l, j, n_max) && ok;
    return ok;
}

/* Whether the prefix cache knows the tokens up to the picture's end. */
static bool is_computed(const vlm_local *l, const vlm_local_job *j, uint32_t image)
{
    const uint32_t block = (image_end(j, image) - 1) / VLM_KV_BLOCK_TOKENS;
    return !l->no_prefix_cache && block < j->n_prompt_keys &&
           vlm_slots_has(l->blocks, &j->prompt_keys[block]);
}

/* Ahead of their time: only so many as there are places nobody holds, counted from the head of the
 * line on, so that none drives out another that is needed sooner. */
static void choose_waiting(vlm_local *l, uint32_t n_max)
{
    uint32_t n_left = vlm_slots_n_free(l->encoded);
    for (vlm_fair_item *item = NULL; (item = vlm_fair_each(l->fair, item)) != NULL;) {
        vlm_local_job *j = (vlm_local_job *)item;
        for (uint32_t i = 0; i < j->prompt.n_images; i++, n_left--) {
            uint32_t slot;
            if (n_left == 0 || l->encode.n == n_max) return;
            if (is_computed(l, j, i)) continue;
            if (vlm_slots_find(l->encoded, &j->image_keys[i], &slot))
                vlm_slots_drop(l->encoded, slot); /* now it is the last to be driven out */
            else if (!on_its_way(l, &j->image_keys[i]) && !choose(l, j, i))
                return;
        }
    }
}

void vlm_local_encode_plan(vlm_local *l, uint32_t n_max)
{
    if (l->encode.n > 0) return;
    l->encode.piece = 0;
    const uint32_t n_side_by_side = vlm_model_n_encode_max(l->model);
    if (n_max > n_side_by_side) n_max = n_side_by_side;
    if (n_max > VLM_LOCAL_ENCODE_MAX) n_max = VLM_LOCAL_ENCODE_MAX;
    if (choose_running(l, n_max)) choose_waiting(l, n_max);
}

static void drop_pictures(vlm_local *l)
{
    vlm_local_encode *e = &l->encode;
    for (uint32_t i = 0; i < e->n; i++) vlm_pictures_unref(e->pictures[i].pictures);
    e->n = e->piece = 0;
}

void vlm_local_encode_abort(vlm_local *l)
{
    for (uint32_t i = 0; i < l->encode.n; i++)
        vlm_slots_drop(l->encoded, l->encode.pictures[i].slot);
    drop_pictures(l);
}

/* Who waits for a picture holds it from now on. */
static void finish(vlm_local *l)
{
    for (uint32_t i = 0; i < l->encode.n; i++) {
        const vlm_local_picture *p = &l->encode.pictures[i];
        vlm_local_job *j = p->owner;
        (void)vlm_slots_publish(l->encoded, p->slot, &p->key);
        if (j != NULL && j->started && !j->paused && is_needed(j, p->image) &&
            j->image_slots[p->image] == VLM_SLOT_NONE)
            j->image_slots[p->image] = p->slot;
        else
            vlm_slots_drop(l->encoded, p->slot);
    }
    drop_pictures(l);
}

void vlm_local_encode_piece(vlm_local *l)
{
    vlm_local_encode *e = &l->encode;
    const vlm_encode_batch batch = {.pixels = e->pixels, .features = e->features, .n = e->n};
    vlm_model_encode_piece(l->model, &batch, e->piece++);
    l->backend->ops->sync(l->backend);
    const uint64_t now = vlm_clock_ns();
    const double each_s = vlm_clock_seconds(l->now_ns, now) / e->n;
    for (uint32_t i = 0; i < e->n; i++) {
        vlm_local_job *j = e->pictures[i].owner;
        if (j == NULL) continue;
        j->image_s += each_s;
        if (j->started && j->first_ns == 0) j->image_prefill_s += each_s;
    }
    l->now_ns = now;
    if (e->piece == vlm_model_n_encode_pieces(l->model, e->n)) finish(l);
}

/* Somebody else who waits for the picture. */
static vlm_local_job *heir_of(const vlm_local *l, const vlm_local_picture *p, uint32_t *image)
{
    for (vlm_local_job *j = l->running.first; j != NULL; j = j->next)
        for (*image = 0; *image < j->prompt.n_images; ++*image)
            if (j != p->owner && !j->cancelled && is_needed(j, *image) &&
                memcmp(&j->image_keys[*image], &p->key, sizeof p->key) == 0)
                return j;
    for (vlm_fair_item *item = NULL; (item = vlm_fair_each(l->fair, item)) != NULL;) {
        vlm_local_job *j = (vlm_local_job *)item;
        for (*image = 0; *image < j->prompt.n_images; ++*image)
            if (j != p->owner && memcmp(&j->image_keys[*image], &p->key, sizeof p->key) == 0)
                return j;
    }
    return NULL;
}

void vlm_local_encode_forget(vlm_local *l, vlm_local_job *j)
{
    vlm_local_encode *e = &l->encode;
    bool wanted = false;
    for (uint32_t i = 0; i < e->n; i++) {
        vlm_local_picture *p = &e->pictures[i];
        if (p->owner == j) p->owner = heir_of(l, p, &p->image);
        wanted = wanted || p->owner != NULL;
    }
    if (!wanted) vlm_local_encode_abort(l);
}
