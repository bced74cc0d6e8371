/* mock.h - an engine without a model: it answers what it was asked, so that every test of the
 * protocols runs without weights, with faults on cue.
 * One token per word, 16 tokens per picture.  The answer to a last user message with the text T is
 * `mock: T`, then ` [WxH sha256:DDDDDDDD]` for each of its pictures, the digest being over the RGB8
 * pixels.  With faults on, T may hold
 *   @crash        the process dies with SIGSEGV after the first token
 *   @hang         this request never answers again
 *   @slow MS      time between its tokens
 *   @error CODE   this status, by number or name, before the first token
 *   @repeat N     N words `w0 w1 ...` after `mock: `
 *   @bytes N      a word of N bytes after `mock: `
 *   @stall        the step never returns (a compute thread that hangs)
 * Not: the local engine; the facade, its ownership and its threads are the same (engine.h). */
#ifndef VLM_WORKER_MOCK_H
#define VLM_WORKER_MOCK_H

#include "engine/engine.h"

typedef struct vlm_mock_options {
    uint32_t token_ms, prefill_ms;
    uint32_t n_ctx;       /* 0: 2^20 */
    uint32_t running_max; /* requests that answer at once; 0: 64 */
    uint32_t waiting_max; /* 0: 256 */
    bool faults;
} vlm_mock_options;

VLM_MUST_USE vlm_status vlm_mock_open(const vlm_mock_options *options, vlm_engine **out,
                                      vlm_error *err);

#endif
