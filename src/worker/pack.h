/* pack.h - between the engine's facade and the messages of the wire.  Threads: pure. */
#ifndef VLM_WORKER_PACK_H
#define VLM_WORKER_PACK_H

#include <vlm/v1/worker.pb-c.h>

#include "base/mem.h"
#include "engine/engine.h"

/* Append the packed GenerateEvent of a STARTED, TEXT or DONE event; queue_ms and image_ms are added
 * to its timings.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_pack_event(const vlm_event *event, double queue_ms, double image_ms,
                                       vlm_buf *out, vlm_error *err);

/* Append a packed message. */
VLM_MUST_USE vlm_status vlm_pack_message(const ProtobufCMessage *message, vlm_buf *out,
                                         vlm_error *err);

/* The image parts of all messages. */
size_t vlm_unpack_n_pictures(const Vlm__V1__GenerateRequest *m);

/* A request's texts and parameters as the engine takes them, the absent ones from defaults.
 * arena: messages, parts and lists live there; texts are views of m.  pictures: n_pictures in the
 * order of the parts, NULL for none; an image part without one must not occur.
 * INVALID_ARGUMENT naming the field: not UTF-8, a part without a kind, too many. */
VLM_MUST_USE vlm_status vlm_unpack_request(const Vlm__V1__GenerateRequest *m,
                                           const vlm_sampling *defaults,
                                           const vlm_pictures *pictures, size_t n_pictures,
                                           vlm_arena *arena, vlm_request *out, vlm_error *err);

#endif
