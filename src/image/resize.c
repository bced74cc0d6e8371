#include "image/resize.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Weights are integers in units of 2^-22: 8 bits of a sample, 22 of a weight and 2 spare ones for
 * filters that overshoot fill an int32_t.  Pillow's choice, and with it its rounding. */
enum { WEIGHT_BITS = 22 };

/* Filters: the weight of a source sample at distance x, in units of the output's or the input's
 * pixels, whichever are larger. */
static double weight_bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic convolution with a = -1/2. */
static double weight_bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static double sinc(double x)
{
    if (x == 0.0) return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double weight_lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
}

static double weight_box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

/* The window's two constants are single precision in Pillow, and that can be seen in the bytes. */
static double weight_hamming(double x)
{
    x = fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x *= M_PI;
    return sin(x) / x * ((double)0.54f + (double)0.46f * cos(x));
}

static const struct {
    double (*weight)(double x);
    double support; /* the weight is 0 beyond it */
} filters[VLM_RESAMPLE_N] = {
    [VLM_RESAMPLE_LANCZOS] = {weight_lanczos, 3.0},
    [VLM_RESAMPLE_BILINEAR] = {weight_bilinear, 1.0},
    [VLM_RESAMPLE_BICUBIC] = {weight_bicubic, 2.0},
    [VLM_RESAMPLE_BOX] = {weight_box, 0.5},
    [VLM_RESAMPLE_HAMMING] = {weight_hamming, 1.0},
};

/* For each of n outputs along one axis: which samples of the input count, and how much. */
typedef struct taps {
    size_t n, n_max; /* outputs; the most samples that one of them needs */
    uint32_t *start; /* [n] first sample */
    uint32_t *count; /* [n] samples */
    int32_t *weight; /* [n, n_max]; zero behind count */
} taps;

static void taps_fini(taps *t)
{
    free(t->start);
    free(t->count);
    free(t->weight);
    *t = (taps){0};
}

static bool taps_alloc(taps *t, size_t n, size_t n_max)
{
    size_t n_weights = 0;
    if (!vlm_size_mul(n, n_max, &n_weights)) return false;
    *t = (taps){n, n_max, vlm_calloc(n, sizeof *t->start), vlm_calloc(n, sizeof *t->count),
                vlm_calloc(n_weights, sizeof *t->weight)};
    if (t->start != NULL && t->count != NULL && t->weight != NULL) return true;
    taps_fini(t);
    return false;
}

static int32_t to_fixed(double w)
{
    const double scaled = w * (double)(1 << WEIGHT_BITS);
    return (int32_t)(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);
}

/* Outputs [first, first + n) of n_out, which n_in samples are resized to. */
static bool taps_init(taps *t, uint32_t n_in, uint32_t n_out, uint32_t first, uint32_t n,
                      vlm_resample filter)
{
    const double scale = (double)n_in / n_out;
    const double stretch = scale < 1.0 ? 1.0 : scale;
    const double support = filters[filter].support * stretch;
    const double per_stretch = 1.0 / stretch;
    const size_t n_max = (size_t)ceil(support) * 2 + 1;
    double *const w = vlm_calloc(n_max, sizeof *w);
    if (w == NULL || !taps_alloc(t, n, n_max)) {
        free(w);
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        const double center = ((double)(first + i) + 0.5) * scale;
        const double low = center - support + 0.5, high = center + support + 0.5;
        const uint32_t begin = low > 0.0 ? (uint32_t)low : 0;
        const uint32_t end = high < (double)n_in ? (uint32_t)high : n_in;
        const uint32_t count = end - begin;
        double sum = 0.0;
        for (uint32_t k = 0; k < count; k++) {
            w[k] = filters[filter].weight(((double)(k + begin) - center + 0.5) * per_stretch);
            sum += w[k];
        }
        for (uint32_t k = 0; k < count; k++)
            t->weight[i * n_max + k] = to_fixed(sum != 0.0 ? w[k] / sum : w[k]);
        t->start[i] = begin;
        t->count[i] = count;
    }
    free(w);
    return true;
}

/* One sample for each output, for the filter that picks the nearest: positions are added up as
 * Pillow does, so that rounding goes the same way. */
static bool taps_nearest(taps *t, uint32_t n_in, uint32_t n_out, uint32_t first, uint32_t n)
{
    if (!taps_alloc(t, n, 1)) return false;
    const double scale = (double)n_in / n_out;
    double at = scale * 0.5;
    for (uint32_t i = 0; i < first + n; i++) {
        if (i >= first) {
            t->start[i - first] = at < n_in ? (uint32_t)at : n_in - 1;
            t->count[i - first] = 1;
            t->weight[i - first] = 1 << WEIGHT_BITS;
        }
        at += scale;
    }
    return true;
}

/* Outputs that are the inputs. */
static bool taps_copy(taps *t, uint32_t first, uint32_t n)
{
    if (!taps_alloc(t, n, 1)) return false;
    for (uint32_t i = 0; i < n; i++) {
        t->start[i] = first + i;
        t->count[i] = 1;
        t->weight[i] = 1 << WEIGHT_BITS;
    }
    return true;
}

static bool taps_make(taps *t, uint32_t n_in, uint32_t n_out, uint32_t first, uint32_t n,
                      vlm_resample filter)
{
    if (n_in == n_out) return taps_copy(t, first, n);
    if (filter == VLM_RESAMPLE_NEAREST) return taps_nearest(t, n_in, n_out, first, n);
    return taps_init(t, n_in, n_out, first, n, filter);
}

static uint8_t to_sample(int32_t sum)
{
    const int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* out [n, 3] from in [.., 3]. */
static void filter_row(const taps *t, const uint8_t *restrict in, uint8_t *restrict out)
{
    for (size_t i = 0; i < t->n; i++, out += 3) {
        const int32_t *const w = t->weight + i * t->n_max;
        const uint8_t *p = in + (size_t)t->start[i] * 3;
        int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;
        for (uint32_t k = 0; k < t->count[i]; k++, p += 3) {
            r += p[0] * w[k];
            g += p[1] * w[k];
            b += p[2] * w[k];
        }
        out[0] = to_sample(r);
        out[1] = to_sample(g);
        out[2] = to_sample(b);
    }
}

/* sum[i] += in[i] * w. */
static void add_row(int32_t *restrict sum, const uint8_t *restrict in, int32_t w, size_t n)
{
    for (size_t i = 0; i < n; i++) sum[i] += in[i] * w;
}

/* Rows of a canvas, one at a time. */
typedef struct rows {
    const vlm_canvas *canvas;
    uint8_t *blank;   /* a row without the picture */
    uint8_t *scratch; /* a row whose sides are blank */
} rows;

static void rows_fini(rows *r)
{
    free(r->blank);
    free(r->scratch);
}

static bool rows_init(rows *r, const vlm_canvas *canvas)
{
    *r = (rows){canvas, vlm_calloc(canvas->width, 3), vlm_calloc(canvas->width, 3)};
    if (r->blank == NULL || r->scratch == NULL) {
        rows_fini(r);
        return false;
    }
    for (size_t i = 0; i < canvas->width; i++) memcpy(r->blank + i * 3, canvas->fill, 3);
    memcpy(r->scratch, r->blank, (size_t)canvas->width * 3);
    return true;
}

/* Valid until the next call. */
static const uint8_t *rows_get(const rows *r, uint32_t y)
{
    const vlm_canvas *const c = r->canvas;
    if (y < c->top || y - c->top >= c->image->height) return r->blank;
    const size_t stride = (size_t)c->image->width * 3;
    const uint8_t *const stored = c->image->rgb + (y - c->top) * stride;
    if (c->width == c->image->width) return stored;
    memcpy(r->scratch + (size_t)c->left * 3, stored, stride);
    return r->scratch;
}

/* Rows [y0, y0 + n_rows) of the canvas through the taps: out [n_rows, t->n, 3]. */
static bool filter_rows(const vlm_canvas *canvas, const taps *t, uint32_t y0, uint32_t n_rows,
                        uint8_t *out)
{
    rows r;
    if (!rows_init(&r, canvas)) return false;
    const size_t stride = t->n * 3;
    const uint8_t *blank = NULL; /* what became of the last blank row */
    for (uint32_t i = 0; i < n_rows; i++, out += stride) {
        const uint8_t *const row = rows_get(&r, y0 + i);
        if (row == r.blank && blank != NULL)
            memcpy(out, blank, stride);
        else
            filter_row(t, row, out);
        if (row == r.blank) blank = out;
    }
    rows_fini(&r);
    return true;
}

/* Columns [x0, x0 + n_columns) of the canvas through the taps: out [t->n, n_columns, 3]. */
static bool filter_columns(const vlm_canvas *canvas, const taps *t, uint32_t x0, uint32_t n_columns,
                           uint8_t *out)
{
    const size_t n = (size_t)n_columns * 3;
    int32_t *const sum = vlm_calloc(n, sizeof *sum);
    rows r;
    if (sum == NULL || !rows_init(&r, canvas)) {
        free(sum);
        return false;
    }
    for (size_t i = 0; i < t->n; i++, out += n) {
        for (size_t k = 0; k < n; k++) sum[k] = 1 << (WEIGHT_BITS - 1);
        for (uint32_t k = 0; k < t->count[i]; k++)
            add_row(sum, rows_get(&r, t->start[i] + k) + (size_t)x0 * 3,
                    t->weight[i * t->n_max + k], n);
        for (size_t k = 0; k < n; k++) out[k] = to_sample(sum[k]);
    }
    rows_fini(&r);
    free(sum);
    return true;
}

static vlm_status check(const vlm_canvas *c, uint32_t width, uint32_t height, vlm_rect window,
                        vlm_error *err)
{
    const vlm_image *const image = c->image;
    if (image->width == 0 || image->height == 0 || width == 0 || height == 0 || window.width == 0 ||
        window.height == 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: a size of 0 pixels to resize");
    if ((uint64_t)c->left + image->width > c->width || (uint64_t)c->top + image->height > c->height)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: the picture sticks out of its canvas");
    if ((uint64_t)window.x + window.width > width || (uint64_t)window.y + window.height > height)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "image: the part sticks out of the picture");
    return VLM_OK;
}

/* Samples that all of the taps need: [*first, *first + n). */
static uint32_t taps_span(const taps *t, uint32_t *first)
{
    /* The starts never go down, so the last output needs the last sample. */
    *first = t->start[0];
    return t->start[t->n - 1] + t->count[t->n - 1] - *first;
}

/* Count the samples from `first` on. */
static void taps_shift(taps *t, uint32_t first)
{
    for (size_t i = 0; i < t->n; i++) t->start[i] -= first;
}

/* Which pass comes first shows in the bytes, since the picture between them is rounded.  Pillow 13
 * begins with the columns where that drops clearly more rows than columns; before, rows always came
 * first. */
static bool columns_first(const vlm_canvas *src, uint32_t width, uint32_t height)
{
    const int64_t n_rows_less = (int64_t)src->height - height;
    const int64_t n_columns_less = (int64_t)src->width - width;
    return n_rows_less > 0 && n_rows_less > 2 * n_columns_less;
}

/* out [y->n, x->n, 3]. */
static bool two_passes(const vlm_canvas *src, taps *x, taps *y, bool y_first, uint8_t *out)
{
    uint32_t x0 = 0, y0 = 0;
    const uint32_t n_columns = taps_span(x, &x0), n_rows = taps_span(y, &y0);
    vlm_image mid = {.width = y_first ? n_columns : (uint32_t)x->n,
                     .height = y_first ? (uint32_t)y->n : n_rows};
    size_t n_pixels = 0;
    if (vlm_size_mul(mid.width, mid.height, &n_pixels)) mid.rgb = vlm_calloc(n_pixels, 3);
    const vlm_canvas canvas = {.image = &mid, .width = mid.width, .height = mid.height};
    bool ok = mid.rgb != NULL;
    if (y_first) {
        ok = ok && filter_columns(src, y, x0, n_columns, mid.rgb);
        taps_shift(x, x0);
        ok = ok && filter_rows(&canvas, x, 0, mid.height, out);
    } else {
        ok = ok && filter_rows(src, x, y0, n_rows, mid.rgb);
        taps_shift(y, y0);
        ok = ok && filter_columns(&canvas, y, 0, mid.width, out);
    }
    free(mid.rgb);
    return ok;
}

vlm_status vlm_image_resize_part(const vlm_canvas *src, uint32_t width, uint32_t height,
                                 vlm_rect window, vlm_resample filter, vlm_image *dst,
                                 vlm_error *err)
{
    *dst = (vlm_image){0};
    VLM_TRY(check(src, width, height, window, err));
    taps x = {0}, y = {0};
    size_t n_pixels = 0;
    vlm_image out = {.width = window.width, .height = window.height};
    if (vlm_size_mul(window.width, window.height, &n_pixels)) out.rgb = vlm_calloc(n_pixels, 3);
    const bool ok = out.rgb != NULL &&
                    taps_make(&x, src->width, width, window.x, window.width, filter) &&
                    taps_make(&y, src->height, height, window.y, window.height, filter) &&
                    two_passes(src, &x, &y, columns_first(src, width, height), out.rgb);
    taps_fini(&x);
    taps_fini(&y);
    if (!ok) {
        free(out.rgb);
        return vlm_fail_memory(err, "image: resize");
    }
    *dst = out;
    return VLM_OK;
}

vlm_status vlm_image_resize(const vlm_image *src, uint32_t width, uint32_t height,
                            vlm_resample filter, vlm_image *dst, vlm_error *err)
{
    const vlm_canvas canvas = {.image = src, .width = src->width, .height = src->height};
    return vlm_image_resize_part(&canvas, width, height, (vlm_rect){0, 0, width, height}, filter,
                                 dst, err);
}
