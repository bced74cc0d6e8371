#include "text/tokenizer_parts.h"
vlm_status vlm_tokenizer_load_spm(vlm_tokenizer *tok, vlm_bytes text, vlm_error *err)
{
    (void)tok;
    (void)text;
    return vlm_fail(err, VLM_UNIMPLEMENTED, "x");
}
vlm_status vlm_tokenizer_load_tekken(vlm_tokenizer *tok, vlm_bytes text, vlm_error *err)
{
    (void)tok;
    (void)text;
    return vlm_fail(err, VLM_UNIMPLEMENTED, "x");
}
vlm_status vlm_tokenizer_load_tiktoken(vlm_tokenizer *tok, vlm_bytes text, vlm_error *err)
{
    (void)tok;
    (void)text;
    return vlm_fail(err, VLM_UNIMPLEMENTED, "x");
}
