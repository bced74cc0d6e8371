#include <string.h>

#include "tensor/backend.h"

static const struct {
    const char *name;
    vlm_act act;
} acts[] = {
/* The first VLM_N_ACTS rows are in the order of the enumeration. */
#define VLM_ACT_ROW(name, text) {text, VLM_ACT_##name},
    VLM_ACT_LIST(VLM_ACT_ROW)
#undef VLM_ACT_ROW
        {"swish", VLM_ACT_SILU},
    {"gelu_new", VLM_ACT_GELU_TANH},
};

bool vlm_act_parse(const char *name, size_t len, vlm_act *act)
{
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        if (strlen(acts[i].name) != len || memcmp(acts[i].name, name, len) != 0) continue;
        *act = acts[i].act;
        return true;
    }
    return false;
}

const char *vlm_act_name(vlm_act act)
{
    return acts[act].name;
}
