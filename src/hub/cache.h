/* cache.h - where the Hugging Face cache keeps a model on this machine.
 * Layout: HUB/models--ORG--NAME/{refs/REVISION, snapshots/COMMIT/}, as huggingface_hub writes it.
 * Not: downloading.  Threads: pure but for reading the environment. */
#ifndef VLM_HUB_CACHE_H
#define VLM_HUB_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

/* True for text of the form ORG/NAME or ORG/NAME@REVISION, made of the characters that the Hub
 * allows. */
bool vlm_hub_is_id(const char *text);

/* Append the path of the cache, which need not be there: HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE,
 * else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
 * NOT_FOUND when none of the variables is set; RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_hub_cache_dir(vlm_buf *path, vlm_error *err);

/* Append the path of the snapshot of a hub id to path; the revision defaults to "main" and may be a
 * branch, a tag or a commit.  INVALID_ARGUMENT for what is no id, NOT_FOUND when the cache does not
 * hold it; RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_hub_find(const char *id, vlm_buf *path, vlm_error *err);

/* Whether a snapshot holds what a model needs: config.json, and model.safetensors, or an index and
 * all files that it names, or one safetensors file of another name. */
bool vlm_hub_is_complete(const char *folder);

#endif
