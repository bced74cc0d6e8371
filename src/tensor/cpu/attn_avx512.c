/* attn_avx512.c - attention over a block of keys in 16 lanes.  Scores have keys in their lanes:
 * the keys are transposed first, 128 columns at a time, so that a score is a sum in a row and no
 * lanes are added up; results have columns in theirs.  Both go over the rows six at a time, which
 * may see different keys: an addition for a key that a row does not see is masked out. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_avx512.h"

#if defined(__AVX512F__)

enum {
    LANES = 16,
    KEY_VECS = VLM_ATTN_KEYS_MAX / LANES,
    TILE_ROWS = 6, /* with 4 vectors 24 sums, 4 vectors and a weight in flight of 32 registers */
    TILE_VECS = 4,
    ROW_VECS = 8,       /* of one row alone: as many sums as hide the latency of an addition */
    PART = 128,         /* columns that are transposed or made float at a time */
    FEW_ROWS_MAX = 24,  /* these read values as they lie in memory */
    FEW_PAGES = 2,      /* and transpose two pages at a time, which leaves room in the cache */
    AHEAD_BYTES = 8192, /* what few rows read is asked for so far ahead, in whole pages */
    GROUPS_MAX = VLM_ATTN_ROWS_MAX / TILE_ROWS + 3,
};
_Static_assert(LANES == (int)VLM_ATTN_PAGE, "a vector of keys is a page");
_Static_assert((int)VLM_ATTN_SCRATCH_LEN >= VLM_ATTN_KEYS_MAX * (VLM_ATTN_ROWS_MAX + PART),
               "scores and a part of the keys");

typedef float score_row[VLM_ATTN_KEYS_MAX];

/* Rows row..row+n-1: some see the keys from first on, all those of all_first..all_end-1, none end
 * and later ones. */
typedef struct group {
    size_t row, n;
    size_t first, all_first, all_end, end;
} group;

/* What is asked for ahead of its use: pages of the block's keys, its values, the next keys. */
typedef struct asker {
    const unsigned char *pages[3 * KEY_VECS];
    size_t page, at;
    size_t page_bytes; /* 0: nothing is asked for any more */
} asker;

/* What the steps of a call share. */
typedef struct call {
    const vlm_attn_rows *rows;
    const vlm_attn_keys *keys;
    size_t head_dim, n_groups;
    size_t first, end; /* the keys that any row sees */
    float scale;
    score_row *p; /* [rows]: scores, then weights */
    float *part;  /* [PART * VLM_ATTN_KEYS_MAX] */
    asker ask;
    float keep[VLM_ATTN_ROWS_MAX];
    group groups[GROUPS_MAX];
} call;

VLM_INLINE size_t size_of(const vlm_dtype dtype)
{
    return dtype == VLM_DTYPE_F32 ? 4 : 2;
}

VLM_INLINE size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The first n <= 16 elements as float, zeros after them. */
VLM_INLINE __m512 load_cols(const vlm_dtype dtype, const void *data, size_t n)
{
    return n == LANES ? vlm_load16(dtype, data) : vlm_load16_first(dtype, data, n);
}

/* On to a page that there is. */
static void ask_page(asker *a)
{
    while (a->page < 3 * KEY_VECS && a->pages[a->page] == NULL) a->page++;
    if (a->page == 3 * KEY_VECS) a->page_bytes = 0;
    a->at = 0;
}

/* Ask for the next n lines. */
VLM_INLINE void ask_lines(asker *a, const size_t n)
{
    if (a->page_bytes == 0) return;
    const char *from = (const char *)a->pages[a->page] + a->at;
    for (size_t i = 0; i < n; i++) _mm_prefetch(from + i * 64, _MM_HINT_T0);
    a->at += n * 64;
    if (a->at < a->page_bytes) return;
    a->page++;
    ask_page(a);
}

/* Columns 0..n_cols-1 of the keys begin..end-1 of a page to rows of `to`, zeros for other keys. */
VLM_INLINE void transpose_page(const vlm_dtype dtype, float *to, const unsigned char *from,
                               size_t row_bytes, size_t begin, size_t end, size_t n_cols,
                               asker *ask)
{
    for (size_t c = 0; c < n_cols; c += LANES, from += LANES * size_of(dtype)) {
        __m512 r[LANES];
        ask_lines(ask, dtype == VLM_DTYPE_F32 ? 16 : 4);
        if (begin == 0 && end == LANES && c + LANES <= n_cols) {
            for (size_t i = 0; i < LANES; i++) r[i] = vlm_load16(dtype, from + i * row_bytes);
        } else {
            const size_t n = size_min(n_cols - c, LANES);
            for (size_t i = 0; i < LANES; i++) {
                const bool seen = i >= begin && i < end;
                r[i] = seen ? load_cols(dtype, from + i * row_bytes, n) : _mm512_setzero_ps();
            }
        }
        vlm_transpose16(r);
        for (size_t i = 0; i < LANES; i++) _mm512_store_ps(to + (c + i) * LANES, r[i]);
    }
}

/* n_cols columns from column at on, of the keys of the pages page..page_end-1 that any row sees. */
VLM_INLINE void transpose_keys(const vlm_dtype dtype, call *c, size_t page, size_t page_end,
                               size_t at, size_t n_cols)
{
    const size_t row_bytes = c->keys->stride * size_of(dtype);
    float *to = c->part;
    for (; page < page_end; page++, to += PART * LANES) {
        const size_t key = page * LANES;
        const unsigned char *from = (const unsigned char *)c->keys->k[page] + at * size_of(dtype);
        transpose_page(dtype, to, from, row_bytes, c->first > key ? c->first - key : 0,
                       size_min(c->end - key, LANES), n_cols, &c->ask);
    }
}

/* p[r][16 vec + ...] (+)= q_r[0..n_cols-1] k^T for n_rows rows and n_vecs vectors of keys
 * (constants). */
VLM_INLINE void score_tile(const size_t n_rows, const size_t n_vecs, score_row *p, const float *q,
                           size_t q_stride, const float *k, size_t n_cols, bool first, asker *ask)
{
    __m512 s[TILE_ROWS][TILE_VECS];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t v = 0; v < n_vecs; v++)
            s[r][v] = first ? _mm512_setzero_ps() : _mm512_load_ps(&p[r][v * LANES]);
    for (size_t i = 0; i < n_cols; i++, k += LANES) {
        __m512 key[TILE_VECS];
        ask_lines(ask, 1);
        for (size_t v = 0; v < n_vecs; v++) key[v] = _mm512_load_ps(k + v * PART * LANES);
        for (size_t r = 0; r < n_rows; r++) {
            const __m512 query = _mm512_set1_ps(q[r * q_stride + i]);
            for (size_t v = 0; v < n_vecs; v++) s[r][v] = _mm512_fmadd_ps(query, key[v], s[r][v]);
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        for (size_t v = 0; v < n_vecs; v++) _mm512_store_ps(&p[r][v * LANES], s[r][v]);
}

VLM_INLINE void score_rows(const size_t n_rows, call *c, const group *g, size_t page,
                           size_t page_end, size_t at, size_t n_cols)
{
    const size_t q_stride = c->rows->q_stride;
    const float *q = c->rows->q + g->row * q_stride + at;
    const size_t end = size_min((g->end + LANES - 1) / LANES, page_end);
    size_t vec = g->first / LANES > page ? g->first / LANES : page;
    for (size_t n; vec < end; vec += n) {
        score_row *p = (score_row *)&c->p[g->row][vec * LANES];
        const float *k = c->part + (vec - page) * PART * LANES;
        n = end - vec;
        if (n == 4) {
            score_tile(n_rows, 4, p, q, q_stride, k, n_cols, at == 0, &c->ask);
        } else if (n >= 2) {
            n = 2;
            score_tile(n_rows, 2, p, q, q_stride, k, n_cols, at == 0, &c->ask);
        } else {
            score_tile(n_rows, 1, p, q, q_stride, k, n_cols, at == 0, &c->ask);
        }
    }
}

/* The scores of the keys of the pages page..page_end-1. */
VLM_INLINE void score_pages(const vlm_dtype dtype, call *c, size_t page, size_t page_end)
{
    for (size_t at = 0; at < c->head_dim; at += PART) {
        const size_t n_cols = size_min(c->head_dim - at, PART);
        transpose_keys(dtype, c, page, page_end, at, n_cols);
        for (size_t i = 0; i < c->n_groups; i++) {
            const group *g = &c->groups[i];
            switch (g->n) {
            case 1: score_rows(1, c, g, page, page_end, at, n_cols); break;
            case 2: score_rows(2, c, g, page, page_end, at, n_cols); break;
            case 4: score_rows(4, c, g, page, page_end, at, n_cols); break;
            default: score_rows(TILE_ROWS, c, g, page, page_end, at, n_cols); break;
            }
        }
    }
}

/* Which of the 16 keys from `key` on lie in first..end-1. */
VLM_INLINE __mmask16 seen_keys(size_t first, size_t end, size_t key)
{
    const size_t from = first > key ? size_min(first - key, LANES) : 0;
    const size_t to = end > key ? size_min(end - key, LANES) : 0;
    return (__mmask16)(vlm_mask16(to) & ~vlm_mask16(from));
}

static float max_of_row(const float *p, size_t first, size_t end, float before, __m512 scale)
{
    __m512 max = _mm512_set1_ps(before);
    for (size_t key = first / LANES * LANES; key < end; key += LANES) {
        const __m512 s = _mm512_mul_ps(_mm512_load_ps(p + key), scale);
        /* In this order a NaN among the scores is passed over. */
        max = _mm512_mask_max_ps(max, seen_keys(first, end, key), s, max);
    }
    return _mm512_reduce_max_ps(max);
}

/* Scores to exp(scale score - max), 0 where the row sees no key; their sums by lanes. */
static __m512 weigh_row(float *p, size_t first, size_t end, float row_max, __m512 scale)
{
    const __m512 max = _mm512_set1_ps(row_max);
    __m512 sums = _mm512_setzero_ps();
    for (size_t key = first / LANES * LANES; key < end; key += LANES) {
        const __m512 e = vlm_exp_avx512(_mm512_fmsub_ps(_mm512_load_ps(p + key), scale, max));
        const __m512 seen = _mm512_maskz_mov_ps(seen_keys(first, end, key), e);
        _mm512_store_ps(p + key, seen);
        sums = _mm512_add_ps(sums, seen);
    }
    return sums;
}

/* softmax of the rows row..row+n-1, n <= 16. */
static void softmax_rows(call *c, size_t row, size_t n)
{
    const vlm_attn_rows *rows = c->rows;
    const uint8_t *first = rows->first + row, *end = rows->end + row;
    const __m512 scale = _mm512_set1_ps(c->scale);
    float max[LANES], sum[LANES];
    __mmask16 sees = 0;
    for (size_t r = 0; r < n; r++) {
        max[r] = max_of_row(c->p[row + r], first[r], end[r], rows->max[row + r], scale);
        sees |= (__mmask16)((first[r] < end[r] ? 1u : 0u) << r);
    }
    for (size_t r = 0; r < n; r++)
        sum[r] = vlm_sum_16_lanes(weigh_row(c->p[row + r], first[r], end[r], max[r], scale));
    const __mmask16 mask = vlm_mask16(n);
    const __m512 now = _mm512_maskz_loadu_ps(mask, max);
    const __m512 change = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, rows->max + row), now);
    const __m512 keep = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), sees, vlm_exp_avx512(change));
    const __m512 before = _mm512_maskz_loadu_ps(mask, rows->sum + row);
    _mm512_mask_storeu_ps(c->keep + row, mask, keep);
    _mm512_mask_storeu_ps(rows->max + row, mask, now);
    _mm512_mask_storeu_ps(rows->sum + row, mask,
                          _mm512_fmadd_ps(before, keep, _mm512_maskz_loadu_ps(mask, sum)));
}

/* Values by pages of a block, at the first column wanted. */
typedef struct values {
    const unsigned char *pages[KEY_VECS];
    size_t row_bytes;
} values;

VLM_INLINE const unsigned char *value_at(const values *v, size_t j)
{
    return v->pages[j / VLM_ATTN_PAGE] + j % VLM_ATTN_PAGE * v->row_bytes;
}

/* s_r[i] += p_r[j] v_j[i] for the keys begin..end-1, which all rows see. */
VLM_INLINE void add_values(const vlm_dtype dtype, const size_t n_rows, const size_t n_vecs,
                           __m512 *s, const score_row *p, const values *v, size_t at, size_t n_last,
                           size_t begin, size_t end, asker *ask)
{
    for (size_t j = begin; j < end;) {
        const unsigned char *from = value_at(v, j) + at * size_of(dtype);
        const size_t page_end = size_min(end, j / VLM_ATTN_PAGE * VLM_ATTN_PAGE + VLM_ATTN_PAGE);
        for (; j < page_end; j++, from += v->row_bytes) {
            ask_lines(ask, n_vecs * size_of(dtype) / 8);
            __m512 value[ROW_VECS];
            for (size_t i = 0; i < n_vecs; i++)
                value[i] = load_cols(dtype, from + i * LANES * size_of(dtype),
                                     i + 1 == n_vecs ? n_last : LANES);
            for (size_t r = 0; r < n_rows; r++) {
                const __m512 weight = _mm512_set1_ps(p[r][j]);
                for (size_t i = 0; i < n_vecs; i++)
                    s[r * n_vecs + i] = _mm512_fmadd_ps(weight, value[i], s[r * n_vecs + i]);
            }
        }
    }
}

/* The same for keys that some rows see. */
VLM_INLINE void add_some_values(const vlm_dtype dtype, const size_t n_rows, const size_t n_vecs,
                                __m512 *s, const score_row *p, const values *v, size_t at,
                                size_t n_last, size_t begin, size_t end, const uint8_t *row_first,
                                const uint8_t *row_end)
{
    for (size_t j = begin; j < end; j++) {
        const unsigned char *from = value_at(v, j) + at * size_of(dtype);
        __m512 value[ROW_VECS];
        for (size_t i = 0; i < n_vecs; i++)
            value[i] = load_cols(dtype, from + i * LANES * size_of(dtype),
                                 i + 1 == n_vecs ? n_last : LANES);
        for (size_t r = 0; r < n_rows; r++) {
            const __mmask16 sees = j >= row_first[r] && j < row_end[r] ? 0xffff : 0;
            const __m512 weight = _mm512_set1_ps(p[r][j]);
            for (size_t i = 0; i < n_vecs; i++)
                s[r * n_vecs + i] =
                    _mm512_mask3_fmadd_ps(weight, value[i], s[r * n_vecs + i], sees);
        }
    }
}

/* acc_r[i] = acc_r[i] * keep_r + sum over j of p_r[j] v_j[i] for n_rows rows and n_vecs vectors of
 * columns (constants) from column col on, which is column `at` of v.  The last vector holds n_last
 * columns. */
VLM_INLINE void value_tile(const vlm_dtype dtype, const size_t n_rows, const size_t n_vecs, call *c,
                           const group *g, const values *v, size_t col, size_t at, size_t n_last)
{
    const size_t stride = c->rows->acc_stride;
    float *acc = c->rows->acc + g->row * stride + col;
    const score_row *p = (const score_row *)&c->p[g->row];
    __m512 s[TILE_ROWS * TILE_VECS];
    for (size_t r = 0; r < n_rows; r++) {
        const __m512 keep = _mm512_set1_ps(c->keep[g->row + r]);
        for (size_t i = 0; i < n_vecs; i++) {
            const float *from = acc + r * stride + i * LANES;
            s[r * n_vecs + i] =
                _mm512_mul_ps(vlm_load16_floats(from, i + 1 == n_vecs ? n_last : LANES), keep);
        }
    }
    const uint8_t *first = c->rows->first + g->row, *end = c->rows->end + g->row;
    if (n_rows > 1)
        add_some_values(dtype, n_rows, n_vecs, s, p, v, at, n_last, g->first, g->all_first, first,
                        end);
    add_values(dtype, n_rows, n_vecs, s, p, v, at, n_last, g->all_first, g->all_end, &c->ask);
    if (n_rows > 1)
        add_some_values(dtype, n_rows, n_vecs, s, p, v, at, n_last, g->all_end, g->end, first, end);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < n_vecs; i++)
            vlm_store16_floats(acc + r * stride + i * LANES, s[r * n_vecs + i],
                               i + 1 == n_vecs ? n_last : LANES);
}

VLM_INLINE void value_rows(const vlm_dtype dtype, const size_t n_rows, call *c, const group *g,
                           const values *v, size_t col, size_t n_cols)
{
    const size_t n_vecs = n_rows == 1 ? ROW_VECS : TILE_VECS;
    size_t i = 0;
    for (; i + n_vecs * LANES <= n_cols; i += n_vecs * LANES)
        value_tile(dtype, n_rows, n_vecs, c, g, v, col + i, i, LANES);
    for (; i + 2 * LANES <= n_cols; i += 2 * LANES)
        value_tile(dtype, n_rows, 2, c, g, v, col + i, i, LANES);
    for (; i < n_cols; i += LANES)
        value_tile(dtype, n_rows, 1, c, g, v, col + i, i, size_min(n_cols - i, LANES));
}

VLM_INLINE void value_groups(const vlm_dtype dtype, call *c, const values *v, size_t col,
                             size_t n_cols)
{
    for (size_t i = 0; i < c->n_groups; i++) {
        const group *g = &c->groups[i];
        switch (g->n) {
        case 1: value_rows(dtype, 1, c, g, v, col, n_cols); break;
        case 2: value_rows(dtype, 2, c, g, v, col, n_cols); break;
        case 4: value_rows(dtype, 4, c, g, v, col, n_cols); break;
        default: value_rows(dtype, TILE_ROWS, c, g, v, col, n_cols); break;
        }
    }
}

/* Columns col..col+n_cols-1 of the values that any row sees, as floats that follow each other. */
VLM_INLINE values pack_values(const vlm_dtype dtype, const call *c, const values *from, size_t col,
                              size_t n_cols)
{
    values packed = {.row_bytes = PART * sizeof(float)};
    for (size_t page = 0; page < KEY_VECS; page++)
        packed.pages[page] = (const unsigned char *)(c->part + page * VLM_ATTN_PAGE * PART);
    for (size_t j = c->first; j < c->end; j++) {
        const unsigned char *row = value_at(from, j) + col * size_of(dtype);
        float *to = c->part + j * PART;
        for (size_t i = 0; i < n_cols; i += LANES)
            _mm512_store_ps(
                to + i, load_cols(dtype, row + i * size_of(dtype), size_min(n_cols - i, LANES)));
    }
    return packed;
}

VLM_INLINE void add_all_values(const vlm_dtype dtype, call *c)
{
    const vlm_attn_keys *keys = c->keys;
    values v = {.row_bytes = keys->stride * size_of(dtype)};
    for (size_t page = 0; page < KEY_VECS; page++) v.pages[page] = keys->v[page];
    if (c->rows->n <= FEW_ROWS_MAX) {
        value_groups(dtype, c, &v, 0, c->head_dim);
        return;
    }
    for (size_t col = 0; col < c->head_dim; col += PART) {
        const size_t n_cols = size_min(c->head_dim - col, PART);
        const values packed = pack_values(dtype, c, &v, col, n_cols);
        value_groups(VLM_DTYPE_F32, c, &packed, col, n_cols);
    }
}

/* Rows that go together, those left out that see no key. */
static void find_groups(call *c)
{
    const vlm_attn_rows *rows = c->rows;
    c->first = VLM_ATTN_KEYS_MAX;
    for (size_t row = 0, n; row < rows->n; row += n) {
        n = size_min(rows->n - row, TILE_ROWS);
        if (n == 5) n = 4;
        if (n == 3) n = 2;
        group g = {.row = row, .n = n, .first = VLM_ATTN_KEYS_MAX, .all_end = VLM_ATTN_KEYS_MAX};
        for (size_t r = row; r < row + n; r++) {
            const size_t first = rows->first[r], end = rows->end[r];
            if (end > g.end) g.end = end;
            if (first < end && first < g.first) g.first = first;
            if (first > g.all_first) g.all_first = first;
            if (end < g.all_end) g.all_end = end;
        }
        if (g.first >= g.end) continue;
        if (g.all_first >= g.all_end) g.all_first = g.all_end = g.end;
        if (g.first < c->first) c->first = g.first;
        if (g.end > c->end) c->end = g.end;
        c->groups[c->n_groups++] = g;
    }
}

/* Few rows use up a page while another comes from memory: they ask for it one or two pages ahead.
 * Many take long over a block, and ask for its values and the next keys while they do. */
VLM_INLINE void start_asking(const vlm_dtype dtype, call *c)
{
    const vlm_attn_keys *keys = c->keys;
    const size_t page_bytes = VLM_ATTN_PAGE * keys->stride * size_of(dtype);
    c->ask = (asker){0};
    if (!keys->pages_are_whole) return;
    c->ask.page = c->rows->n > FEW_ROWS_MAX ? KEY_VECS : page_bytes > AHEAD_BYTES / 2 ? 1 : 2;
    c->ask.page_bytes = page_bytes;
    for (size_t i = 0; i < KEY_VECS; i++) {
        c->ask.pages[i] = keys->k[i];
        c->ask.pages[KEY_VECS + i] = keys->v[i];
        c->ask.pages[2 * KEY_VECS + i] = keys->next_k[i];
    }
    ask_page(&c->ask);
}

VLM_INLINE void attn_block(const vlm_dtype dtype, const vlm_attn_rows *rows,
                           const vlm_attn_keys *keys, size_t head_dim, float scale, float *scratch)
{
    call c;
    c.rows = rows;
    c.keys = keys;
    c.head_dim = head_dim;
    c.n_groups = c.first = c.end = 0;
    c.scale = scale;
    c.part = scratch;
    c.p = (score_row *)(scratch + PART * VLM_ATTN_KEYS_MAX);
    find_groups(&c);
    if (c.n_groups == 0) return;
    start_asking(dtype, &c);
    const size_t step = rows->n <= FEW_ROWS_MAX ? FEW_PAGES : KEY_VECS;
    const size_t end = (c.end + LANES - 1) / LANES;
    for (size_t page = c.first / LANES; page < end; page += step)
        score_pages(dtype, &c, page, size_min(page + step, end));
    for (size_t row = 0; row < rows->n; row += LANES)
        softmax_rows(&c, row, size_min(rows->n - row, LANES));
    add_all_values(dtype, &c);
}

static void attn_block_f32_avx512(const vlm_attn_rows *rows, const vlm_attn_keys *keys,
                                  size_t head_dim, float scale, float *scratch)
{
    attn_block(VLM_DTYPE_F32, rows, keys, head_dim, scale, scratch);
}

static void attn_block_f16_avx512(const vlm_attn_rows *rows, const vlm_attn_keys *keys,
                                  size_t head_dim, float scale, float *scratch)
{
    attn_block(VLM_DTYPE_F16, rows, keys, head_dim, scale, scratch);
}

void vlm_cpu_fill_attn_avx512(vlm_cpu_kernels *kernels)
{
    kernels->attn_block[VLM_DTYPE_F32] = attn_block_f32_avx512;
    kernels->attn_block[VLM_DTYPE_F16] = attn_block_f16_avx512;
}

#endif
