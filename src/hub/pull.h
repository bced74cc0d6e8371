/* pull.h - a model brought from the Hub into the Hugging Face cache of this machine, as
 * huggingface_hub lays it out:
 *   models--ORG--NAME/blobs/DIGEST, snapshots/COMMIT/FILE -> ../../blobs/DIGEST, refs/REVISION
 * A snapshot's links are made when all of its files are there and right, its revision's ref last.
 * Not: finding what is there (cache.h).  Threads: one. */
#ifndef VLM_HUB_PULL_H
#define VLM_HUB_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* How far it is, told again and again. */
typedef struct vlm_hub_progress {
    const char *commit, *file; /* file NULL: nothing has been fetched yet */
    uint64_t file_done, file_size;
    uint64_t done, size; /* bytes of all files; done has what was there already */
    uint64_t here;       /* of done: what was there before */
    uint32_t file_idx, n_files;
    bool is_waiting; /* another program brings the file */
} vlm_hub_progress;

typedef struct vlm_hub_pull_options {
    void (*progress)(void *user, const vlm_hub_progress *p); /* NULL: nobody wants to know */
    void *user;
} vlm_hub_pull_options;

/* Append the path of the snapshot of id (ORG/NAME[@REVISION]) once all that a model needs is there.
 * FAILED_PRECONDITION when HF_HUB_OFFLINE is set; RESOURCE_EXHAUSTED, with the numbers, when the
 * disk has no room; what vlm_hub_env_read, vlm_hub_list_select and vlm_hub_blob_get say. */
VLM_MUST_USE vlm_status vlm_hub_pull(const char *id, const vlm_hub_pull_options *options,
                                     vlm_buf *path, vlm_error *err);

#endif
