/* chat_loop.h - a conversation on a terminal, with line editing by libedit.
 * /image FILE adds a picture to the next message, /reset starts over, /quit ends.
 * Threads: the main thread. */
#ifndef VLM_CLI_CHAT_LOOP_H
#define VLM_CLI_CHAT_LOOP_H

#include "cli/options.h"
#include "engine/engine.h"

/* Returns VLM_OK at /quit or end of input.  Pictures of the options belong to the first message. */
VLM_MUST_USE vlm_status vlm_cli_chat_loop(vlm_engine *engine, const vlm_options *opt,
                                          vlm_error *err);

#endif
