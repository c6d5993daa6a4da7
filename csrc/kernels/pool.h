/* Pooling, forward: sums, maxima and minima over windows, with the place of the winner.
 *
 * Three loops for three ways that windows lie in memory:
 *   pixels    channels-last: a vector holds channels of one output
 *   rows      channels-first: a vector holds neighbouring outputs of a row
 *   windows   channels-first: one output at a time, a vector holds neighbouring taps of it
 * Each is compiled per operation (`op`) and with or without places (`track`). A lane keeps the place of
 * its winner as an offset from the window's first real tap. */
#include <math.h>

#include "../window.h"

enum {
    LAST_CHUNK = 256,      /* taps that one accumulator adds before its sum moves on: bounds rounding errors */
    FIRST_CHUNK = 4096,
    PREFETCH_ROWS = 8,
};

/* The real taps of one window: counts on d h w, and from one tap to the next the step in x and in place. */
typedef struct taps {
    ptrdiff_t count[3], step[3], mark[3];
    int64_t place;         /* of the first */
} taps;

/* Steps and marks are those of every window; counts and place are set per window. */
static taps taps_of_tile(const fc_pool *p) {
    const fc_windows *w = p->windows;
    taps t = {.place = 0};
    const ptrdiff_t plane[3] = {w[1].in * w[2].in, w[2].in, 1};
    const ptrdiff_t window[3] = {w[1].size * w[2].size, w[2].size, 1};
    for (int i = 0; i < 3; i++) {
        const ptrdiff_t dilation = w[i].size ? w[i].dilation : 1;
        t.step[i] = dilation * p->x.axis[i];
        t.mark[i] = p->indexing == FC_INDEX_WINDOW ? window[i] : dilation * plane[i];
    }
    return t;
}

FC_INLINE void set_window(const fc_pool *p, taps *t, fc_window d, fc_window h, fc_window w) {
    t->count[0] = d.count;
    t->count[1] = h.count;
    t->count[2] = w.count;
    t->place = p->indexing == FC_INDEX_WINDOW
        ? d.tap * t->mark[0] + h.tap * t->mark[1] + w.tap
        : (d.start * p->windows[1].in + h.start) * p->windows[2].in + w.start;
}

/* Sums or winners of the lanes of a vector. */
typedef struct lanes {
    vec best;
    ivec at;       /* where the winner is */
    vmask nan;     /* whether a NaN has come by */
} lanes;

/* The next tap of each lane. The winner is right as long as no NaN comes by; `exact` minds them too, but
 * every step then waits for the one before. */
FC_INLINE void take(lanes *l, vec v, ptrdiff_t mark, const int op, const int track, const int exact) {
    if (op == FC_POOL_SUM) {
        l->best += v;
        return;
    }
    if (exact) {
        const vmask wins = op == FC_POOL_MAX ? vabove(v, l->best) : vbelow(v, l->best);
        l->best = vpick(wins, v, l->best);
        if (track) l->at = vpick_int(wins, vset1_int((lane_int)mark), l->at);
        return;
    }
    const vmask wins = op == FC_POOL_MAX ? vgreater(v, l->best) : vgreater(l->best, v);
    if (track) l->at = vpick_int(wins, vset1_int((lane_int)mark), l->at);
    l->best = op == FC_POOL_MAX ? vmax_second(v, l->best) : vmin_second(v, l->best);
    l->nan |= visnan(v);
}

/* Places of n lanes, from index element i on: first + lane * step + at. */
FC_INLINE void put_places(const fc_pool *p, ptrdiff_t i, ivec at, int64_t first, ptrdiff_t step, ptrdiff_t n) {
    if (p->indexing == FC_INDEX_WINDOW) vstore_bytes((uint8_t *)p->index.data + i, at + (lane_int)first, n);
    else vstore_int64((int64_t *)p->index.data + i, at, first, step, n);
}

/* ------------------------------------------------------------------ pixels: channels-last */

/* nv vectors of channels of one output, n channels in the last of them. */
FC_INLINE void pixel_lanes(const taps *t, const T *x, lanes *l, ptrdiff_t n, const int nv, const int op,
                           const int track, const int exact) {
    const ptrdiff_t last = nv - 1;
    vec sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        const vec first = v == last ? vload_upto(x + v * VL, n) : vload(x + v * VL);
        l[v] = (lanes){op == FC_POOL_SUM ? (vec){0} : first, (ivec){0}, visnan((vec){0})};
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

FC_INLINE void pixel(const fc_pool *p, const taps *t, const T *x, T *y, ptrdiff_t index, ptrdiff_t n,
                     const int nv, const int op, const int track) {
    lanes l[4];
    pixel_lanes(t, x, l, n, nv, op, track, 0);
    if (op != FC_POOL_SUM) {
        vmask nan = l[0].nan;
#pragma GCC unroll 4
        for (int v = 1; v < nv; v++) nan |= l[v].nan;
        if (vany(nan)) pixel_lanes(t, x, l, n, nv, op, track, 1);
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
                for (; c < p->channels; c += VL)
                    pixel(p, &t, x + c, y ? y + c : NULL, index + c, fc_min(VL, p->channels - c), 1, op, track);
            }
}

/* ------------------------------------------------------------------ windows: one output at a time */

typedef struct winner {
    T value;
    ptrdiff_t at;
} winner;

FC_INLINE int beats(T v, T best, const int op) {
    return best == best && !(op == FC_POOL_MAX ? v <= best : v >= best);
}

/* The lanes' winners and the one so far: of equals, the first. */
FC_INLINE winner join_winners(winner so_far, vec best, ivec at, const int op) {
    for (ptrdiff_t i = 0; i < VL; i++) {
        const T v = best[i], w = so_far.value;
        const int equal = v == w || (v != v && w != w);
        if (beats(v, w, op) || (equal && at[i] < so_far.at)) so_far = (winner){v, at[i]};
    }
    return so_far;
}

FC_INLINE T sum_lanes(vec v) {
    T sum = 0;
    for (ptrdiff_t i = 0; i < VL; i++) sum += v[i];
    return sum;
}

/* n elements, `step` apart. */
static T sum_run(const T *x, ptrdiff_t n, ptrdiff_t step) {
    T sum = 0;
    ptrdiff_t i = 0;
    if (step == 1 && n >= VL) {
        vec s[4] = {{0}};
        for (; i + 4 * VL <= n; i += 4 * VL)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) s[k] += vload(x + i + k * VL);
        for (; i + VL <= n; i += VL) s[0] += vload(x + i);
        sum = sum_lanes((s[0] + s[1]) + (s[2] + s[3]));
    }
    for (; i < n; i++) sum += x[i * step];
    return sum;
}

static T window_sum(const taps *t, const T *x) {
    T sum = 0;
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++)
            for (ptrdiff_t w = 0; w < t->count[2]; w += FIRST_CHUNK)
                sum += sum_run(x + d * t->step[0] + h * t->step[1] + w * t->step[2],
                               fc_min(FIRST_CHUNK, t->count[2] - w), t->step[2]);
    return sum;
}

FC_INLINE winner window_winner(const taps *t, const T *x, const int op) {
    const int wide = t->step[2] == 1 && t->count[2] >= VL;
    winner so_far = {x[0], 0};
    vec best = vset1(x[0]);
    ivec at = {0}, lane = {0};
    for (ptrdiff_t i = 0; i < VL; i++) lane[i] = (lane_int)(i * t->mark[2]);
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++) {
            const T *row = x + d * t->step[0] + h * t->step[1];
            const ptrdiff_t mark = d * t->mark[0] + h * t->mark[1];
            ptrdiff_t w = 0;
            if (wide)
                for (; w + VL <= t->count[2]; w += VL) {
                    const vec v = vload(row + w);
                    const vmask wins = op == FC_POOL_MAX ? vabove(v, best) : vbelow(v, best);
                    best = vpick(wins, v, best);
                    at = vpick_int(wins, lane + vset1_int((lane_int)(mark + w * t->mark[2])), at);
                }
            for (; w < t->count[2]; w++) {
                const T v = row[w * t->step[2]];
                if (beats(v, so_far.value, op)) so_far = (winner){v, mark + w * t->mark[2]};
            }
        }
    return wide ? join_winners(so_far, best, at, op) : so_far;
}

/* Rows of a window that follow each other without a gap, in memory and in place, are one row. */
FC_INLINE void merge_rows(taps *t) {
    for (int i = 1; i >= 0; i--) {
        if (t->count[i] > 1 && (t->step[i] != t->count[2] * t->step[2] || t->mark[i] != t->count[2] * t->mark[2]))
            return;
        t->count[2] *= t->count[i];
        t->count[i] = 1;
    }
}

static winner window_max(const taps *t, const T *x) { return window_winner(t, x, FC_POOL_MAX); }
static winner window_min(const taps *t, const T *x) { return window_winner(t, x, FC_POOL_MIN); }

/* Outputs [lo, hi) of one row, one at a time. plane is the channel's first element; y and index count
 * elements from the tile's output lo. */
static __attribute__((noinline)) void row_of_windows(const fc_pool *p, taps *t, fc_window wd, fc_window wh,
                                                     const T *plane, ptrdiff_t y, ptrdiff_t index, fc_range o) {
    const T *row = plane + wd.start * p->x.axis[0] + wh.start * p->x.axis[1];
    for (ptrdiff_t w = o.lo; w < o.hi; w++) {
        const fc_window ww = fc_window_at(&p->windows[2], w);
        const T *x = row + ww.start;
        const ptrdiff_t to = w - p->lo[2];
        winner best = {0, 0};
        set_window(p, t, wd, wh, ww);
        merge_rows(t);
        switch (p->op) {
        case FC_POOL_MAX: best = window_max(t, x); break;
        case FC_POOL_MIN: best = window_min(t, x); break;
        case FC_POOL_SUM: best.value = window_sum(t, x); break;
        }
        if (p->y.data) ((T *)p->y.data)[y + to] = best.value;
        if (p->indexing == FC_INDEX_WINDOW) ((uint8_t *)p->index.data)[index + to] = (uint8_t)(t->place + best.at);
        if (p->indexing == FC_INDEX_PLANE) ((int64_t *)p->index.data)[index + to] = t->place + best.at;
    }
}

/* ------------------------------------------------------------------ rows: channels-first */

enum { MOST_EDGE_TAPS = 64 };

/* VL outputs from `o` on, some of which lie beyond the row or have taps on padding. Tap t is there in lanes
 * lo <= lane < hi. For stride 2 a tap of even number and the next one are read together, as 2 * VL elements:
 * those of the masks `low` and `high`. `at` is the first tap that is there, as a place. */
typedef struct edge {
    ptrdiff_t o;
    ivec at;
    struct edge_tap {
        ptrdiff_t lo, hi;
        vmask there, low, high;
    } tap[MOST_EDGE_TAPS];
} edge;

FC_INLINE fc_range clip(ptrdiff_t lo, ptrdiff_t hi) {
    return (fc_range){fc_min(VL, fc_max(0, lo)), fc_max(0, fc_min(VL, hi))};
}

static __attribute__((noinline)) void set_edge(edge *e, const fc_windows *w, ptrdiff_t o, ptrdiff_t n, ptrdiff_t mark) {
    e->o = o;
    e->at = (ivec){0};
    for (ptrdiff_t t = w->size - 1; t >= 0; t--) {
        const ptrdiff_t column = o * w->stride - w->before + t * w->dilation;
        const fc_range lanes = clip(fc_ceil_div(-column, w->stride), fc_min(n, fc_ceil_div(w->in - column, w->stride)));
        const fc_range low = clip(-column, w->in - column), high = clip(-column - VL, w->in - column - VL);
        e->tap[t] = (struct edge_tap){lanes.lo, lanes.hi, vrange(lanes.lo, lanes.hi), vrange(low.lo, low.hi),
                                      vrange(high.lo, high.hi)};
        for (ptrdiff_t i = lanes.lo; i < lanes.hi; i++) e->at[i] = (lane_int)(t * mark);
    }
}

/* Tap t of VL outputs, at row + w; without an edge it is there in all lanes. */
FC_INLINE vec strided_tap(const T *x, ptrdiff_t stride, const edge *e, ptrdiff_t t, const int known_stride) {
    vec v = {0};
    if (known_stride == 1) return e ? vload_where(e->tap[t].there, x) : vload(x);
    for (ptrdiff_t i = e ? e->tap[t].lo : 0; i < (e ? e->tap[t].hi : VL); i++) v[i] = x[i * stride];
    return v;
}

/* The next tap, t, of the lanes where it is there. */
FC_INLINE void take_there(lanes *l, vec v, const edge *e, ptrdiff_t t, ptrdiff_t mark, const int op, const int track,
                          const int exact) {
    take(l, e && op != FC_POOL_SUM ? vpick(e->tap[t].there, v, l->best) : v, mark, op, track, exact);
}

/* VL outputs, `stride` elements apart. */
FC_INLINE lanes output_lanes(const taps *t, const T *x, ptrdiff_t stride, const edge *e, const int known_stride,
                             const int op, const int track, const int exact) {
    const T worst = op == FC_POOL_MAX ? (T)-INFINITY : (T)INFINITY;
    lanes l = {op == FC_POOL_SUM ? (vec){0} : vset1(worst), e ? e->at : (ivec){0}, visnan((vec){0})};
    vec sum = {0};
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++) {
            const T *row = x + d * t->step[0] + h * t->step[1];
            ptrdiff_t mark = d * t->mark[0] + h * t->mark[1];
            if (known_stride == 2) /* dilation 1: two taps from one pair of loads */
                for (ptrdiff_t w = 0; w < t->count[2]; w += 2, mark += 2 * t->mark[2]) {
                    const vec a = e ? vload_where(e->tap[w].low, row + w) : vload(row + w);
                    const vec b = e ? vload_where(e->tap[w].high, row + w + VL) : vload(row + w + VL);
                    take_there(&l, vevens(a, b), e, w, mark, op, track, exact);
                    if (w + 1 < t->count[2])
                        take_there(&l, vodds(a, b), e, w + 1, mark + t->mark[2], op, track, exact);
                }
            else
                for (ptrdiff_t w = 0; w < t->count[2]; w++, mark += t->mark[2])
                    take_there(&l, strided_tap(row + w * t->step[2], stride, e, w, known_stride), e, w, mark, op, track,
                               exact);
            if (op == FC_POOL_SUM) {
                sum += l.best;
                l.best = (vec){0};
            }
        }
    if (op == FC_POOL_SUM) l.best = sum;
    return l;
}

FC_INLINE lanes outputs(const taps *t, const T *x, ptrdiff_t stride, const edge *e, const int known_stride,
                        const int op, const int track) {
    const lanes l = output_lanes(t, x, stride, e, known_stride, op, track, 0);
    if (op == FC_POOL_SUM || !vany(l.nan)) return l;
    return output_lanes(t, x, stride, e, known_stride, op, track, 1);
}

/* Outputs [q.lo, q.hi) of one row; `row` is column 0 of the window's first row. Vectors that begin inside
 * `full` have all of their elements. */
FC_INLINE void row_of_outputs(const fc_pool *p, const taps *t, const T *row, ptrdiff_t y, ptrdiff_t index, fc_range q,
                              fc_range full, edge edges[2], const int known_stride, const int op, const int track) {
    const ptrdiff_t stride = known_stride ? known_stride : p->windows[2].stride;
    const int plane = p->indexing == FC_INDEX_PLANE;
    for (ptrdiff_t o = q.lo; o < q.hi; o += VL) {
        const ptrdiff_t n = fc_min(VL, q.hi - o), column = o * stride - p->windows[2].before;
        lanes l;
        if (n == VL && o >= full.lo && o < full.hi) l = outputs(t, row + column, stride, NULL, known_stride, op, track);
        else {
            edge *e = &edges[o != q.lo];
            if (e->o != o) set_edge(e, &p->windows[2], o, n, t->mark[2]);
            l = outputs(t, row + column, stride, e, known_stride, op, track);
        }
        if (p->y.data) vstore_upto((T *)p->y.data + y + o - p->lo[2], l.best, n);
        if (track)
            put_places(p, index + o - p->lo[2], l.at, t->place + (plane ? column : 0), plane ? stride : 0, n);
    }
}

/* The h axis's windows of a row of outputs far enough ahead that their elements come from memory in time. */
FC_INLINE void prefetch_rows(const fc_pool *p, const T *plane, fc_window wh) {
    const ptrdiff_t first = wh.start + PREFETCH_ROWS, rows = fc_min(p->windows[1].stride, 2);
    if (first + rows > p->windows[1].in) return;
    for (ptrdiff_t r = first; r < first + rows; r++)
        for (ptrdiff_t w = 0; w < p->windows[2].in; w += (ptrdiff_t)(64 / sizeof(T)))
            __builtin_prefetch(plane + r * p->x.axis[1] + w);
}

/* Where a vector of outputs may begin whose windows are whole; those of stride 2 read 2 * VL elements from
 * each tap of even number on. */
static fc_range full_vectors(const fc_windows *w, ptrdiff_t lo, ptrdiff_t hi, int known_stride) {
    fc_range full = fc_whole_windows(w, lo, hi);
    full.hi -= VL - 1;
    if (known_stride == 2) full.hi = fc_min(full.hi, fc_floor_div(w->in + w->before - (w->size - 1) / 2 * 2 - 2 * VL, 2) + 1);
    return full;
}

/* One output at a time pays where a row has few outputs with wide windows: counted in vector steps a row
 * of taps, with about 8 steps to join the lanes. */
static int takes_windows(const fc_windows *w) {
    if (w->size == 0) return 1;
    const ptrdiff_t by_row = (w->out + VL - 1) / VL * w->size;
    const ptrdiff_t one = w->dilation == 1 && w->size >= VL ? w->size / VL + 8 : w->size;
    return w->out * one <= by_row;
}

/* The outputs of a row that are taken as vectors: with many taps, those of full vectors alone. */
static fc_range vector_outputs(const fc_windows *w, fc_range all, fc_range full) {
    if (takes_windows(w)) return (fc_range){all.hi, all.hi};
    if (w->size <= MOST_EDGE_TAPS) return all;
    return (fc_range){full.lo, full.hi > full.lo ? full.lo + (full.hi - full.lo + VL - 1) / VL * VL : full.lo};
}

/* Every output of the tile, channels first: vectors, and one at a time before and after them. */
FC_INLINE void rows(const fc_pool *p, const int known_stride, const int op, const int track) {
    const fc_windows *windows = p->windows;
    const fc_range full = full_vectors(&windows[2], p->lo[2], p->hi[2], known_stride);
    const fc_range q = vector_outputs(&windows[2], (fc_range){p->lo[2], p->hi[2]}, full);
    const fc_range before = {p->lo[2], q.lo}, after = {q.hi, p->hi[2]};
    edge edges[2];
    edges[0].o = edges[1].o = -1;
    taps t = taps_of_tile(p);
    for (ptrdiff_t c = 0; c < p->channels; c++)
        for (ptrdiff_t d = p->lo[0]; d < p->hi[0]; d++)
            for (ptrdiff_t h = p->lo[1]; h < p->hi[1]; h++) {
                const fc_window wd = fc_window_at(&windows[0], d), wh = fc_window_at(&windows[1], h);
                const T *image = (const T *)p->x.data + c * p->x.c, *plane = image + wd.start * p->x.axis[0];
                const ptrdiff_t od = d - p->lo[0], oh = h - p->lo[1];
                const ptrdiff_t y = c * p->y.c + od * p->y.axis[0] + oh * p->y.axis[1];
                const ptrdiff_t index = c * p->index.c + od * p->index.axis[0] + oh * p->index.axis[1];
                prefetch_rows(p, plane, wh);
                if (before.lo < before.hi) row_of_windows(p, &t, wd, wh, image, y, index, before);
                if (q.lo < q.hi) {
                    set_window(p, &t, wd, wh, (fc_window){0, windows[2].size, 0, 0});
                    row_of_outputs(p, &t, plane + wh.start * p->x.axis[1], y, index, q, full, edges, known_stride, op,
                                   track);
                }
                if (after.lo < after.hi) row_of_windows(p, &t, wd, wh, image, y, index, after);
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
