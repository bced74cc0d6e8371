/* pack_cache.h - packed weights kept in $XDG_CACHE_HOME/vlmd/packed (or ~/.cache/vlmd/packed), so
 * that the next start maps them: a safetensors file for each model and way of packing, named by a
 * hash of the model files' identity, the dtypes and the packed order.
 * A file is written whole or not at all.  The folder is bounded: the files that were used longest
 * ago make room, and nothing is kept where the disk is nearly full.
 * Not: what is packed, and how (weights.h).  Nothing here is needed to serve: who cannot read or
 * keep a file packs anew.
 * Ownership: an open cache owns its map.  Threads: one at a time; several processes may share the
 * folder. */
#ifndef VLM_MODEL_PACK_CACHE_H
#define VLM_MODEL_PACK_CACHE_H

#include <stddef.h>

#include "base/status.h"
#include "model/folder.h"
#include "model/safetensors.h"
#include "model/weights.h"

typedef struct vlm_pack_cache vlm_pack_cache;

/* The folder's path, which need not be there.  NOT_FOUND when neither variable names one. */
VLM_MUST_USE vlm_status vlm_pack_cache_dir(vlm_buf *out, vlm_error *err);

/* The cache of one model packed as `way` says (dtypes and order); bytes_max for all files of the
 * folder.  NOT_FOUND when there can be none: a built-in model, no place, bytes_max 0. */
VLM_MUST_USE vlm_status vlm_pack_cache_open(vlm_folder *folder, const char *way, size_t bytes_max,
                                            vlm_pack_cache **out, vlm_error *err);
void vlm_pack_cache_close(vlm_pack_cache *c); /* NULL is legal */

/* What an earlier start kept, or NULL. */
const vlm_safetensors *vlm_pack_cache_files(const vlm_pack_cache *c);

/* Keep the packed matrices of w, n_bytes together.  RESOURCE_EXHAUSTED when they do not fit, every
 * status of vlm_weights_write. */
VLM_MUST_USE vlm_status vlm_pack_cache_store(vlm_pack_cache *c, const vlm_weights *w,
                                             size_t n_bytes, vlm_error *err);

#endif
