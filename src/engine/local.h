/* local.h - what the engine of a model on this machine is made of; for the files local*.c alone.
 *
 * A request has a sequence for each of its choices.  A sequence is a row of tokens, of which the
 * first n_computed have their keys and values in the cache; whoever runs it computes more of them,
 * and when none is left draws the next.  So a prompt, an answer and a sequence that was put off and
 * is computed anew are one and the same.
 *
 * Step by step: PLAN lets waiting requests in, chooses rows of as many sequences as fit into one
 * batch and pictures to encode; FORWARD runs the batch piece by piece; DRAW takes a token for each
 * sequence that came to its end; ENCODE gives the pictures their turn.  What is in a batch, and how
 * long a piece takes, never changes a byte of an answer. */
#ifndef VLM_ENGINE_LOCAL_H
#define VLM_ENGINE_LOCAL_H

#include "engine/block_key.h"
#include "engine/engine.h"
#include "engine/fair.h"
#include "engine/populate.h"
#include "engine/prepare.h"
#include "engine/slots.h"
#include "engine/stop.h"
#include "model/model.h"

enum {
    VLM_LOCAL_EVENTS_MAX = 64, /* of one step */
    /* Room that a sequence which comes to its end may need: two for each choice, one for a
     * failure. */
    VLM_LOCAL_EVENTS_OF_DRAW = 2 * VLM_REQUEST_CHOICES_MAX + 1,
    VLM_LOCAL_TEXT_LEN_MAX = 1 << 20, /* said in a step before what its last sequence says */
    VLM_LOCAL_LOGIT_ROWS = 32,        /* logits that are computed at a time */
    VLM_LOCAL_ENCODE_MAX = 8,         /* pictures that are encoded at a time */
};

typedef struct vlm_local_job vlm_local_job;

typedef enum vlm_seq_state {
    VLM_SEQ_WAITS, /* holds no blocks: not begun, or put off */
    VLM_SEQ_RUNS,  /* holds blocks for all its tokens */
    VLM_SEQ_FORKS, /* waits until choice 0 has computed the prompt */
    VLM_SEQ_ENDED
} vlm_seq_state;

typedef struct vlm_seq {
    vlm_local_job *job;
    uint32_t choice;
    vlm_seq_state state;
    uint32_t *answer; /* [max_tokens of the job]: the tokens after the prompt's */
    uint32_t n_answer;
    uint32_t n_computed;
    uint32_t *blocks; /* [n_blocks_max of the job] */
    uint32_t n_blocks;
    vlm_slot_key *keys; /* of the full blocks that the prompt alone does not fill */
    uint32_t n_keys;    /* of all blocks whose key is known, the prompt's included */
    uint32_t n_published;
    bool planned; /* has been looked at in this plan */
    vlm_detok *detok;
    vlm_stop stop;
} vlm_seq;

/* vlm_job of this engine. */
struct vlm_local_job {
    vlm_fair_item fair;         /* first, so that an item is a job */
    vlm_local_job *prev, *next; /* among those that run, or were dropped, or are dead */
    uint64_t id;
    bool started, cancelled, paused;
    uint32_t n_in_batch; /* sequences in the batch in hand */

    vlm_prompt prompt;
    uint32_t image_starts[VLM_REQUEST_IMAGES_MAX];
    vlm_slot_key image_keys[VLM_REQUEST_IMAGES_MAX];
    uint32_t image_slots[VLM_REQUEST_IMAGES_MAX]; /* held for the rows to come, or NONE */
    bool image_counted[VLM_REQUEST_IMAGES_MAX];   /* in the statistics */
    uint32_t n_image_rows;                        /* of each */
    vlm_slot_key first_key;                       /* of the salt */
    vlm_slot_key *prompt_keys;                    /* [n_prompt_keys]: the prompt's full blocks */
    uint32_t n_prompt_keys;

    vlm_sampling sampling;
    vlm_logit_bias *logit_bias; /* copy that sampling points to */
    uint32_t n_choices, max_tokens, n_blocks_max;
    char *stop_text; /* copies of the stop strings, end to end */
    vlm_bytes stop_strings[VLM_STOP_STRINGS_MAX];
    size_t n_stop;
    bool ignore_eos, logprobs;
    uint32_t n_top_logprobs;
    char tenant[VLM_TENANT_LEN_MAX];
    size_t tenant_len;

    vlm_seq seqs[VLM_REQUEST_CHOICES_MAX];
    uint32_t n_ended; /* choices */
    /* Prompt tokens below n_seen were computed or found at least once; n_cached of them found. */
    uint32_t n_seen, n_cached;
    uint64_t submitted_ns, started_ns, first_ns;
    double image_s, image_prefill_s; /* in all; between start and first token */
};

typedef struct vlm_local_list {
    vlm_local_job *first, *last;
    uint32_t n;
} vlm_local_list;

/* Rows of several sequences on their way through the model. */
typedef struct vlm_local_batch {
    vlm_seq_rows *rows; /* [n_rows_max] */
    vlm_seq **seqs;     /* [n_rows_max], NULL where the request has gone */
    uint32_t *ids;      /* [n_rows_max] */
    uint32_t n_seqs, n_rows, n_live;
    uint32_t piece;
    uint32_t next_draw;                       /* sequence */
    uint32_t logits_of[VLM_LOCAL_LOGIT_ROWS]; /* the sequences of the rows of logits in hand */
    uint32_t n_logits, next_logits;
    uint64_t start_ns;
} vlm_local_batch;

/* A picture on its way through the vision tower. */
typedef struct vlm_local_picture {
    uint32_t slot;
    vlm_slot_key key;
    vlm_pictures *pictures; /* kept until the end */
    vlm_local_job *owner;   /* for whom it is computed; NULL: that request is gone */
    uint32_t image;         /* of the owner */
} vlm_local_picture;

typedef struct vlm_local_encode {
    vlm_local_picture pictures[VLM_LOCAL_ENCODE_MAX];
    const float *pixels[VLM_LOCAL_ENCODE_MAX];
    float *features[VLM_LOCAL_ENCODE_MAX];
    uint32_t n, piece;
} vlm_local_encode;

typedef enum vlm_local_phase {
    VLM_LOCAL_PLAN,
    VLM_LOCAL_FORWARD,
    VLM_LOCAL_DRAW,
    VLM_LOCAL_ENCODE
} vlm_local_phase;

/* Of the token in an event. */
typedef struct vlm_local_logprobs {
    vlm_token_logprob token;
    vlm_top_logprob top[VLM_REQUEST_TOP_LOGPROBS_MAX];
} vlm_local_logprobs;

typedef struct vlm_local {
    vlm_engine base;
    vlm_backend *backend;
    vlm_model *model;
    vlm_prepare prepare;
    vlm_kv_pool kv;
    vlm_populate_thread *populate; /* NULL: none runs */
    vlm_slots *blocks;             /* of kv */
    vlm_slots *encoded;            /* pictures */
    float *features;               /* [slots, n_image_tokens, hidden] on the device */
    size_t features_len;           /* floats of one picture's */
    vlm_sampler *sampler;
    float *x;             /* [n_rows_max, hidden] on the device */
    float *last_rows;     /* [VLM_LOCAL_LOGIT_ROWS, hidden] on the device */
    float *logits_device; /* [VLM_LOCAL_LOGIT_ROWS, n_vocab] */
    float *logits_rows;   /* [VLM_LOCAL_LOGIT_ROWS, n_vocab] */
    float *logits;        /* [n_vocab], which the sampler changes */

    size_t kv_bytes;
    uint32_t n_threads, running_max, waiting_max, tenant_running_max, chunk_max;
    uint32_t n_rows_max, n_kv_tokens;
    bool no_prefix_cache;
    vlm_pictures_budget pictures; /* of all requests */
    uint64_t step_ns;
    vlm_cpu_level cpu_level;

    uint64_t last_request_id;
    vlm_fair *fair;         /* who waits, and what each tenant got */
    vlm_local_list running; /* in the order they were let in */
    vlm_local_list dropped; /* cancelled while they waited, not yet told */
    vlm_local_list dead;    /* gone, but the batch in hand still reads them */
    uint32_t n_cancelled;   /* among those that run */
    uint32_t rotation;      /* sequences that decode, served in turn when not all fit */
    vlm_local_phase phase;
    vlm_local_batch batch;
    vlm_local_encode encode;
    uint64_t forward_ns;      /* the last batch took */
    uint64_t encode_since_ns; /* the turn of the pictures began */
    uint64_t now_ns;
    vlm_engine_stats stats;

    vlm_event events[VLM_LOCAL_EVENTS_MAX];
    vlm_local_logprobs logprobs[VLM_LOCAL_EVENTS_MAX];
    uint32_t n_events, next_event;
    vlm_buf text;        /* the texts of the events */
    vlm_buf piece;       /* of one token */
    vlm_buf token_bytes; /* of logprobs */
    vlm_detok *token_detok;
} vlm_local;

/* local_job.c: prepare and job_free of vlm_engine_ops; any thread. */
VLM_MUST_USE vlm_status vlm_local_prepare(vlm_engine *e, const vlm_request *request, vlm_job **out,
                                          vlm_error *err);
void vlm_local_job_free(vlm_engine *e, vlm_job *job);
/* Its pictures, for the keys of its blocks; a view of j. */
vlm_block_pictures vlm_local_block_pictures(const vlm_local_job *j);
/* Tokens of a sequence: the prompt's and those answered. */
uint32_t vlm_seq_n_tokens(const vlm_seq *seq);
uint32_t vlm_seq_token(const vlm_seq *seq, uint32_t position);

/* local_list.c */
void vlm_local_list_add(vlm_local_list *list, vlm_local_job *j);
void vlm_local_list_remove(vlm_local_list *list, vlm_local_job *j);

/* local_cache.c: blocks and keys of a sequence. */

/* Hold blocks for all its tokens, found ones first, and set it running.  False when there are not
 * enough: it holds none then. */
bool vlm_seq_start(vlm_local *l, vlm_seq *seq, uint32_t n_spare);
/* A place for the next token.  False when there is none. */
bool vlm_seq_make_room(vlm_local *l, vlm_seq *seq);
/* Take over blocks that others have computed since. */
void vlm_seq_find_more(vlm_local *l, vlm_seq *seq);
/* Let what is complete be found. */
void vlm_seq_publish(vlm_local *l, vlm_seq *seq);
/* Share all blocks of another one, which has computed the same tokens. */
void vlm_seq_fork(vlm_local *l, vlm_seq *seq, const vlm_seq *from);
/* Holds no blocks any more. */
void vlm_seq_release(vlm_local *l, vlm_seq *seq);
/* For debug builds: the holders of the blocks are the sequences that run. */
void vlm_local_check(const vlm_local *l);

/* local_plan.c */

/* Let in who may, choose a batch.  What was let in says so by an event. */
void vlm_local_plan(vlm_local *l);

/* local_batch.c */
void vlm_local_batch_start(vlm_local *l);
/* One piece; true after the last. */
bool vlm_local_batch_piece(vlm_local *l);
/* Its sequences have computed their rows, or nobody wants them any more. */
void vlm_local_batch_end(vlm_local *l);
/* The request has gone: nothing of it will be looked at again. */
void vlm_local_batch_forget(vlm_local *l, vlm_local_job *j);

/* local_encode.c: pictures. */

/* Choose pictures that requests wait for, at most n_max; none when some are on their way. */
void vlm_local_encode_plan(vlm_local *l, uint32_t n_max);
/* One piece. */
void vlm_local_encode_piece(vlm_local *l);
/* Hold a picture's features for a job.  False when they are not there. */
bool vlm_local_picture_hold(vlm_local *l, vlm_local_job *j, uint32_t image);
/* Let go those of which no running sequence has rows to compute; or all. */
void vlm_local_pictures_release(vlm_local *l, vlm_local_job *j, bool all);
void vlm_local_encode_forget(vlm_local *l, vlm_local_job *j);
void vlm_local_encode_abort(vlm_local *l);

/* local_draw.c */

/* Tokens for the next sequences of the batch, as far as there is room for events; true when it is
 * done with all. */
bool vlm_local_draw(vlm_local *l);
vlm_event *vlm_local_add_event(vlm_local *l, vlm_event_type type, const vlm_local_job *j,
                               uint32_t choice);
vlm_usage vlm_local_prompt_usage(const vlm_local_job *j);
/* A choice of a request that has begun is over. */
void vlm_local_add_done(vlm_local *l, const vlm_seq *seq, vlm_finish finish, bool last);
/* The end of a request, whatever of it is left. */
void vlm_local_end_job(vlm_local *l, vlm_local_job *j);

#endif
