/* blob.h - one file of the Hub, brought into the cache's folder of blobs: in pieces over several
 * connections, appended in order, checked while it grows, and visible under its name only when all
 * of it is there and right.
 * DIGEST.incomplete is always the beginning of the file, as huggingface_hub leaves it too, so that
 * whatever broke off goes on where it stood.
 * Memory: one piece a connection.  Threads: one caller; its own are gone when it returns. */
#ifndef VLM_HUB_BLOB_H
#define VLM_HUB_BLOB_H

#include "hub/http.h"
#include "hub/list.h"

enum { VLM_HUB_CONNECTIONS = 4, VLM_HUB_PIECE_BYTES = 8 << 20 };

typedef struct vlm_hub_blob {
    const vlm_hub_env *env;
    const char *url;  /* of the file */
    const char *path; /* of the blob to be */
    const char *lock; /* path of the file that is locked meanwhile, against other programs */
    const vlm_hub_file *file;
    const char *id; /* ORG/NAME, for messages */
    /* n_done bytes of the file are there; called by the caller's thread alone. */
    void (*progress)(void *user, uint64_t n_done);
    /* Another program brings the file: called once, then progress tells how far that one is. */
    void (*waits)(void *user);
    void *user;
    uint64_t pause_ns; /* before a second try, doubled for each further one; 0: half a second */
} vlm_hub_blob;

/* DATA_LOSS when what comes is not what the Hub promised (what was begun before is fetched anew
 * then, once); RESOURCE_EXHAUSTED when the disk is full; UNAVAILABLE after five tries without a
 * byte; NOT_FOUND, PERMISSION_DENIED and UNAUTHENTICATED as vlm_hub_explain says. */
VLM_MUST_USE vlm_status vlm_hub_blob_get(const vlm_hub_blob *b, vlm_error *err);

/* What an HTTP status of the Hub means for id, in words for whoever asked for it. */
VLM_MUST_USE vlm_status vlm_hub_explain(const vlm_hub_env *env, const char *id,
                                        const vlm_hub_answer *answer, vlm_error *err);

/* Worth another try: overload, a server's error, a timeout. */
bool vlm_hub_is_passing(long http_status);
/* Wait before try n (0 is the second one) as long as the server asked, else pause_ns and so on,
 * with some chance in it; false when cancelled. */
bool vlm_hub_pause(uint32_t n, uint64_t pause_ns, const vlm_hub_answer *answer,
                   const atomic_bool *cancelled);

#endif
