/* family.h - what differs between families of vision-language models, as one table per family.
 * A new family is one file with one such table, listed in model.c.
 * Not: the decoder, which families share (llama.h).  Threads: as the functions' callers'. */
#ifndef VLM_MODEL_FAMILY_H
#define VLM_MODEL_FAMILY_H

#include "model/config.h"
#include "model/weights.h"
#include "tensor/backend.h"

typedef struct vlm_vision vlm_vision; /* a family's tower, projector and their working memory */

typedef struct vlm_family {
    const char *model_type; /* as in config.json */

    /* Bind the weights of everything in front of the decoder.  piece_flop: how much work a piece of
     * encode_piece may be.  Every status of vlm_weights_*. */
    VLM_MUST_USE vlm_status (*open)(const vlm_config *config, vlm_weights *weights,
                                    vlm_backend *backend, double piece_flop, vlm_vision **out,
                                    vlm_error *err);
    void (*close)(vlm_vision *vision); /* NULL is legal */

    /* Rows that one image takes in the decoder. */
    uint32_t (*n_image_tokens)(const vlm_vision *vision);
    /* Bytes of working memory. */
    size_t (*working_bytes)(const vlm_vision *vision);
    /* Shape of the tower's selected hidden states, for traces. */
    void (*hidden_shape)(const vlm_vision *vision, uint32_t *n_tokens, uint32_t *width);

    /* n pictures side by side: pixels[i] [3, image_size, image_size] on the host to features[i]
     * [n_image_tokens, hidden] on the device, in n_pieces pieces, from 0 on in order and with the
     * same arguments.  1 <= n <= n_images_max, of which no piece is longer than piece_flop but
     * where one picture's is.  A picture's features do not depend on those beside it. */
    uint32_t (*n_images_max)(const vlm_vision *vision);
    uint32_t (*n_pieces)(const vlm_vision *vision, uint32_t n);
    void (*encode_piece)(vlm_vision *vision, const float *const *pixels, float *const *features,
                         uint32_t n, uint32_t piece);
    /* The tower's selected hidden states of the first image of the last batch, to the host. */
    void (*read_hidden)(vlm_vision *vision, float *hidden);
} vlm_family;

extern const vlm_family vlm_family_llava; /* llava.c: CLIP, two-layer projector */

#endif
