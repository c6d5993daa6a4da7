/* Pooling, forward: sums, maxima and minima over windows, with the place of the winner.
 *
 * Three loops for three ways that windows lie in memory:
 *   pixels    channels-last: a vector holds channels of one output
 *   rows      channels-first: a vector holds neighbouring outputs of a row
 *   windows   channels-first: one output at a time, a vector holds neighbouring taps of it
 * Each is compiled per operation (`op`) and with or without places (`track`). A lane keeps the place of
 * its winner as an offset from the window's first real tap. */
#include "pool_taps.h"

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

/* One vector once more, minding NaN: out of line, one for all. */
static __attribute__((noinline)) lanes exact_pixel(const taps *t, const T *x, ptrdiff_t n, int op, int track) {
    lanes l;
    pixel_lanes(t, x, &l, n, 1, op, track, 1);
    return l;
}

FC_INLINE void pixel(const fc_pool *p, const taps *t, const T *x, T *y, ptrdiff_t index, ptrdiff_t n,
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
        if (y) vstore_upto(y + v * VL, l[v].best, count);
        if (track) put_places(p, index + v * VL, l[v].at, t->place, 0, count);
    }
}

FC_INLINE void pixels(const fc_pool *p, const int op, const int track) {
    taps t = taps_of_tile(p);
    for (ptrdiff_t d = p->lo[0]; d < p->hi[0]; d++)
        for (ptrdiff_t h = p->lo[1]; h < p->hi[1]; h++)
            for (ptrdiff_t w = p->lo[2]; w < p->hi[2]; w++) {
                const fc_window wd = fc_window_at(&p->windows[0], d), wh = fc_window_at(&p->windows[1], h),
                                ww = fc_window_at(&p->windows[2], w);
                const ptrdiff_t od = d - p->lo[0], oh = h - p->lo[1], ow = w - p->lo[2];
                const T *x = (const T *)p->x.data + wd.start * p->x.axis[0] + wh.start * p->x.axis[1]
                    + ww.start * p->x.axis[2];
                T *y = p->y.data;
                if (y) y += od * p->y.axis[0] + oh * p->y.axis[1] + ow * p->y.axis[2];
                const ptrdiff_t index = od * p->index.axis[0] + oh * p->index.axis[1] + ow * p->index.axis[2];
                set_window(p, &t, wd, wh, ww);
                ptrdiff_t c = 0;
                for (; c + 4 * VL <= p->channels; c += 4 * VL)
                    pixel(p, &t, x + c, y ? y + c : NULL, index + c, VL, 4, op, track);
                for (; c + 2 * VL <= p->channels; c += 2 * VL)
                    pixel(p, &t, x + c, y ? y + c : NULL, index + c, VL, 2, op, track);
                for (; c < p->channels; c += VL)
                    pixel(p, &t, x + c, y ? y + c : NULL, index + c, fc_min(VL, p->channels - c), 1, op, track);
            }
}

/* ------------------------------------------------------------------ which of them */

FC_INLINE void each_output(const fc_pool *p, const int op, const int track) {
    const fc_windows *w = &p->windows[2];
    if (p->channels_last) pixels(p, op, track);
    else if (w->stride == 1) rows(p, 1, op, track);
    else if (w->stride == 2 && w->dilation == 1) rows(p, 2, op, track);
    else rows(p, 0, op, track);
}

static void pool_max(const fc_pool *p) { each_output(p, FC_POOL_MAX, 0); }
static void pool_max_places(const fc_pool *p) { each_output(p, FC_POOL_MAX, 1); }
static void pool_min(const fc_pool *p) { each_output(p, FC_POOL_MIN, 0); }
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
