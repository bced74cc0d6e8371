/* piece.h - the piece of a forward pass or of an image's encoding that is done in one go: whoever
 * computes looks up between two pieces, for a cancelled request or a new one.  Where a pass is cut
 * never changes a result: every piece is whole operations, and a row never depends on the rows
 * beside it.
 * Not: which operations make a piece (clip.c, llama.c, ...).  Threads: pure. */
#ifndef VLM_MODEL_PIECE_H
#define VLM_MODEL_PIECE_H

#include <stdint.h>

/* 0.1 s for one core with AVX2, which reaches 1e11 a second (bench/LOG.md). */
#define VLM_PIECE_FLOP 1e10

enum {
    VLM_PIECE_ROWS_MAX = 512,
    /* The CPU's kernels make a weight float once for so many rows; cut below, they do it again. */
    VLM_PIECE_ROWS_STEP = 96,
};

/* How many rows of flop_per_row floating-point operations each a piece of piece_flop may have, at
 * least 1. */
static inline uint32_t vlm_piece_rows(double piece_flop, double flop_per_row)
{
    const double n = piece_flop / flop_per_row;
    if (n >= VLM_PIECE_ROWS_MAX) return VLM_PIECE_ROWS_MAX;
    const uint32_t n_rows = n >= 1.0 ? (uint32_t)n : 1;
    return n_rows > VLM_PIECE_ROWS_STEP ? n_rows - n_rows % VLM_PIECE_ROWS_STEP : n_rows;
}

#endif
