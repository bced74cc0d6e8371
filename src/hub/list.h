/* list.h - what the Hub says of a revision: its commit and its files, and which of them a model
 * needs here.
 * Source: GET /api/models/ORG/NAME/revision/REV?blobs=true.
 * Not: asking for it.  Threads: pure. */
#ifndef VLM_HUB_LIST_H
#define VLM_HUB_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "hub/digest.h"

enum { VLM_HUB_COMMIT_LEN = 40, VLM_HUB_NAME_LEN_MAX = 200, VLM_HUB_FILES_MAX = 20000 };

typedef struct vlm_hub_file {
    char name[VLM_HUB_NAME_LEN_MAX + 1];
    uint64_t size;                           /* bytes */
    bool is_sha256;                          /* what digest is, see digest.h */
    char digest[VLM_HUB_DIGEST_LEN_MAX + 1]; /* lower-case hexadecimal */
} vlm_hub_file;

typedef struct vlm_hub_list {
    char commit[VLM_HUB_COMMIT_LEN + 1];
    vlm_hub_file *files; /* [n], at the top of the repository; those in folders are left out */
    size_t n;
} vlm_hub_list;

/* INVALID_ARGUMENT, the field named, for anything but what the Hub says: also for a name that would
 * lead out of a folder or is there twice; RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_hub_list_parse(const char *json, size_t len, vlm_hub_list *out,
                                           vlm_error *err);
void vlm_hub_list_fini(vlm_hub_list *list);

/* Keep only what a model needs: its configuration, tokenizer and template files, and one set of
 * safetensors weights, in this order.  NOT_FOUND when there is no config.json or there are no such
 * weights, saying what there is instead. */
VLM_MUST_USE vlm_status vlm_hub_list_select(vlm_hub_list *list, vlm_error *err);

#endif
