/* fleet_plan.h - the models of one server: what clients call them, and how its memory is shared out
 * between their workers.
 * Not: when they are loaded (fleet.h).  Threads: one. */
#ifndef VLM_CLI_FLEET_PLAN_H
#define VLM_CLI_FLEET_PLAN_H

#include "cli/model_arg.h"
#include "cli/options.h"
#include "gateway/models.h"

typedef struct vlm_fleet_model {
    const char *arg; /* MODEL; NULL: the built-in one */
    char name[VLM_MODEL_NAME_LEN_MAX + 1];
    size_t need_bytes;  /* the least it runs with */
    size_t share_bytes; /* what its worker may take; 0: what it likes, it is alone */
} vlm_fleet_model;

typedef struct vlm_fleet_plan {
    vlm_fleet_model models[VLM_OPTIONS_ARGS_MAX];
    size_t n;
    char alias_names[VLM_OPTION_LIST_MAX][VLM_MODEL_NAME_LEN_MAX + 1];
    vlm_model_alias aliases[VLM_OPTION_LIST_MAX];
    size_t n_aliases;
    size_t budget_bytes; /* of all workers together; 0: there is one model */
} vlm_fleet_plan;

/* Names and aliases of the arguments.  INVALID_ARGUMENT when two have one name or an alias has no
 * model. */
VLM_MUST_USE vlm_status vlm_fleet_plan_names(const vlm_options *opt, vlm_fleet_plan *out,
                                             vlm_error *err);

/* Fill in share_bytes from need_bytes and budget_bytes: when all fit, the budget in proportion to
 * what they need, up to four times that; otherwise a quarter more than that, so that as many as
 * possible stay side by side.  FAILED_PRECONDITION, with the numbers, when one needs more than the
 * budget.
 */
VLM_MUST_USE vlm_status vlm_fleet_plan_shares(vlm_fleet_plan *plan, vlm_error *err);

#endif
