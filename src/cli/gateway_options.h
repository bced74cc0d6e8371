/* gateway_options.h - what serve and gateway share of the command line.  Threads: one. */
#ifndef VLM_CLI_GATEWAY_OPTIONS_H
#define VLM_CLI_GATEWAY_OPTIONS_H

#include "cli/options.h"
#include "gateway/gateway.h"

/* INVALID_ARGUMENT naming the option. */
VLM_MUST_USE vlm_status vlm_cli_gateway_options(const vlm_options *opt, vlm_gateway_options *out,
                                                vlm_error *err);

#endif
