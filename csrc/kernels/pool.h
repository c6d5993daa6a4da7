/* Pooling, forward: sums, maxima and minima over windows, with the place of the winner.
 *
 * Three loops for three ways that windows lie in memory:
 *   pixels    channels-last: a vector holds channels of one output
 *   rows      channels-first: a vector holds neighbouring outputs of a row
 *   windows   channels-first: one output at a time, a vector holds neighbouring taps of it
 * Each is compiled per operation (`op`) and with or without places (`track`). A lane keeps the place of
 * its winner as an offset from the window's first real tap. */
#include "pool_taps.h"

#include "pool_divide.h"
#include "pool_rows.h"

/* ------------------------------------------------------------------ pixels: channels-last */

/* nv vectors of channels of one output, n channels in the last of them. */
FC_INLINE void pixel_lanes(const taps *t, const T *x, lanes *l, ptrdiff_t n, const int nv, const int op,
                           const int track, const int exact) {
    const ptrdiff_t last = nv - 1;
    vec sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        const vec first = v == last ? vload_upto(x + v * VL, n) : vload(x + v * VL);
        l[v] = (lanes){op == FC_POOL_SUM ? (vec){0} : first, (ivec){0}, {0}};
        sum[v] = (vec){0};
    }
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++)
            for (ptrdiff_t w0 = 0; w0 < t->count[2]; w0 += LAST_CHUNK) {
                const ptrdiff_t w1 = fc_min(w0 + LAST_CHUNK, t->count[2]);
                const T *tap = x + d * t->step[0] + h * t->step[1] + w0 * t->step[2];
                ptrdiff_t mark = d * t->mark[0] + h * t->mark[1] + w0 * t->mark[2];
                for (ptrdiff_t w = w0; w < w1; w++, tap += t->step[2], mark += t->mark[2])
#pragma GCC unroll 4
                    for (int v = 0; v < nv; v++)
                        take(&l[v], v == last ? vload_upto(tap + v * VL, n) : vload(tap + v * VL), mark, op, track,
                             exact);
                if (op == FC_POOL_SUM)
#pragma GCC unroll 4
                    for (int v = 0; v < nv; v++) {
                        sum[v] += l[v].best;
                        l[v].best = (vec){0};
                    }
            }
#pragma GCC unroll 4
    for (int v = 0; v < nv && op == FC_POOL_SUM; v++) l[v].best = sum[v];
}

/* The same for one vector, with NaN handled: rare, so out of line and shared by all. */
static __attribute__((noinline)) lanes exact_pixel(const taps *t, const T *x, ptrdiff_t n, int op, int track) {
    lanes l;
    pixel_lanes(t, x, &l, n, 1, op, track, 1);
    return l;
}

FC_INLINE void pixel(const fc_pool *p, const taps *t, const divisor *by, const T *x, T *y, ptrdiff_t index, ptrdiff_t n,
                     const int nv, const int op, const int track) {
    lanes l[4];
    pixel_lanes(t, x, l, n, nv, op, track, 0);
    if (op != FC_POOL_SUM) {
        vmask nan = visnan(l[0].sum);
#pragma GCC unroll 4
        for (int v = 1; v < nv; v++) nan |= visnan(l[v].sum);
        if (vany(nan))
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) l[v] = exact_pixel(t, x + v * VL, v == nv - 1 ? n : VL, op, track);
    }
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        const ptrdiff_t count = v == nv - 1 ? n : VL;
        if (y) vstore_upto(y + v * VL, op == FC_POOL_SUM ? divided(l[v].best, by) : l[v].best, count);
        if (track) put_places(p, index + v * VL, l[v].at, t->place, 0, count);
    }
}

/* All channels of one output, whose window begins at x. */
FC_INLINE void pixel_channels(const fc_pool *p, const taps *t, const divisor *by, const T *x, T *y, ptrdiff_t index,
                              const int op, const int track) {
    const ptrdiff_t channels = p->channels;
    ptrdiff_t c = 0;
    for (; c + 4 * VL <= channels; c += 4 * VL) pixel(p, t, by, x + c, y ? y + c : NULL, index + c, VL, 4, op, track);
    for (; c + 2 * VL <= channels; c += 2 * VL) pixel(p, t, by, x + c, y ? y + c : NULL, index + c, VL, 2, op, track);
    for (; c < channels; c += VL)
        pixel(p, t, by, x + c, y ? y + c : NULL, index + c, fc_min(VL, channels - c), 1, op, track);
}

/* Prefetching of x, channels-last: the rows that the next row of outputs reads and this one doesn't, or where there are
 * none, what lies ALONG_ROW bytes further in this row's. */
enum { ALONG_ROW = 8192 };

/* Rows and columns of pixels to prefetch, and their distance in elements from the beginning of a window. */
typedef struct next_elements {
    ptrdiff_t rows, columns, distance;
} next_elements;

static next_elements next_of_row(const fc_pool *p, fc_window wh) {
    const fc_windows *h = &p->windows[1], *w = &p->windows[2];
    const ptrdiff_t rows = h->size ? fc_min(h->stride, wh.count) : wh.count;
    const ptrdiff_t columns = w->size ? fc_min(w->stride, w->size) : fc_ceil_div(w->in, w->out);
    if (wh.start + wh.count + rows <= h->in) return (next_elements){rows, columns, wh.count * p->x.axis[1]};
    return (next_elements){rows, columns, (wh.count - rows) * p->x.axis[1] + (ptrdiff_t)(ALONG_ROW / sizeof(T))};
}

static __attribute__((noinline)) void prefetch_next(const fc_pool *p, const next_elements *next, const T *x) {
    const char *at = (const char *)((uintptr_t)x + (uintptr_t)(next->distance * (ptrdiff_t)sizeof(T)));
    for (ptrdiff_t h = 0; h < next->rows; h++)
        for (ptrdiff_t w = 0; w < next->columns; w++)
            for (ptrdiff_t c = 0; c < p->channels; c += (ptrdiff_t)(64 / sizeof(T)))
                __builtin_prefetch(at + (h * p->x.axis[1] + w * p->x.axis[2] + c) * (ptrdiff_t)sizeof(T));
}

/* What a sum is divided by. */
FC_INLINE double mean_taps(const fc_pool_divide *mean, fc_window d, fc_window h, fc_window w) {
    if (!mean) return 1;
    if (mean->divisor != 0) return mean->divisor;
    return mean->include_pad ? (double)d.padded * h.padded * w.padded : (double)d.count * h.count * w.count;
}

FC_INLINE void pixels(const fc_pool *p, const int op, const int track) {
    const fc_windows *windows = p->windows;
    const fc_range whole = windows[2].size ? fc_whole_windows(&windows[2], p->lo[2], p->hi[2]) : (fc_range){0, 0};
    taps t = taps_of_tile(p);
    divisor by = divisor_of(1);
    for (ptrdiff_t d = p->lo[0]; d < p->hi[0]; d++)
        for (ptrdiff_t h = p->lo[1]; h < p->hi[1]; h++) {
            const fc_window wd = window_at(&windows[0], d), wh = window_at(&windows[1], h);
            const ptrdiff_t od = d - p->lo[0], oh = h - p->lo[1];
            const T *row = (const T *)p->x.data + wd.start * p->x.axis[0] + wh.start * p->x.axis[1];
            T *y = p->y.data ? (T *)p->y.data + od * p->y.axis[0] + oh * p->y.axis[1] : NULL;
            ptrdiff_t index = od * p->index.axis[0] + oh * p->index.axis[1];
            const next_elements next = next_of_row(p, wh);
            for (ptrdiff_t w = p->lo[2]; w < p->hi[2]; w++, index += p->index.axis[2]) {
                const fc_window ww = w >= whole.lo && w < whole.hi
                    ? (fc_window){w * windows[2].stride - windows[2].before, windows[2].size, 0, windows[2].size}
                    : window_at(&windows[2], w);
                const T *x = row + ww.start * p->x.axis[2];
                set_window(p, &t, wd, wh, ww);
                if (op == FC_POOL_SUM) {
                    const double count = mean_taps(p->mean, wd, wh, ww);
                    if (by.taps != count) by = divisor_of(count);
                }
                if (p->ahead) prefetch_next(p, &next, x);
                pixel_channels(p, &t, &by, x, y, index, op, track);
                if (y) y += p->y.axis[2];
            }
        }
}

/* ------------------------------------------------------------------ choice of the loop */

FC_INLINE void each_output(const fc_pool *p, const int op, const int track) {
    const fc_windows *w = &p->windows[2];
    if (p->channels_last) pixels(p, op, track);
    else if (w->stride == 1) rows(p, 1, op, track);
    else if (w->stride == 2 && w->dilation == 1) rows(p, 2, op, track);
    else rows(p, 0, op, track);
}

static void pool_max(const fc_pool *p) { each_output(p, FC_POOL_MAX, 0); }
static void pool_min(const fc_pool *p) { each_output(p, FC_POOL_MIN, 0); }
static void pool_max_places(const fc_pool *p) { each_output(p, FC_POOL_MAX, 1); }
static void pool_min_places(const fc_pool *p) { each_output(p, FC_POOL_MIN, 1); }
static void pool_sum(const fc_pool *p) { each_output(p, FC_POOL_SUM, 0); }

static void pool(const fc_pool *p) {
    const int track = p->indexing != FC_INDEX_NONE;
    switch (p->op) {
    case FC_POOL_MAX: (track ? pool_max_places : pool_max)(p); break;
    case FC_POOL_MIN: (track ? pool_min_places : pool_min)(p); break;
    case FC_POOL_SUM: pool_sum(p); break;
    }
}
