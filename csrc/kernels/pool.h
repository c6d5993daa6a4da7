/* Pooling, forward: sums, maxima and minima over windows, with the place of the winner.
 *
 * Three loops for three ways that windows lie in memory:
 *   pixels    channels-last: a vector holds channels of one output
 *   rows      channels-first: a vector holds neighbouring outputs of a row
 *   windows   channels-first: one output at a time, a vector holds neighbouring taps of it
 * Each is compiled per operation (`op`) and with or without places (`track`). A lane keeps the place of
 * its winner as an offset from the window's first real tap. */
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

/* The next tap of each lane. */
FC_INLINE void take(vec *best, ivec *at, vec v, ptrdiff_t mark, const int op, const int track) {
    if (op == FC_POOL_SUM) {
        *best += v;
        return;
    }
    const vmask wins = op == FC_POOL_MAX ? vabove(v, *best) : vbelow(v, *best);
    *best = vpick(wins, v, *best);
    if (track) *at = vpick_int(wins, vset1_int((lane_int)mark), *at);
}

/* Places of n lanes, from index element i on: first + lane * step + at. */
FC_INLINE void put_places(const fc_pool *p, ptrdiff_t i, ivec at, int64_t first, ptrdiff_t step, ptrdiff_t n) {
    if (p->indexing == FC_INDEX_WINDOW) {
        vstore_bytes((uint8_t *)p->index.data + i, at + (lane_int)first, n);
        return;
    }
    int64_t *to = (int64_t *)p->index.data + i;
    for (ptrdiff_t lane = 0; lane < fc_min(n, VL); lane++) to[lane] = first + lane * step + at[lane];
}

/* ------------------------------------------------------------------ pixels: channels-last */

/* nv vectors of channels of one output, n channels in the last of them. */
FC_INLINE void pixel(const fc_pool *p, const taps *t, const T *x, T *y, ptrdiff_t index, ptrdiff_t n,
                     const int nv, const int op, const int track) {
    const ptrdiff_t last = nv - 1;
    vec best[4], sum[4];
    ivec at[4];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        best[v] = op == FC_POOL_SUM ? (vec){0} : v == last ? vload_upto(x + v * VL, n) : vload(x + v * VL);
        sum[v] = (vec){0};
        at[v] = (ivec){0};
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
                        take(&best[v], &at[v], v == last ? vload_upto(tap + v * VL, n) : vload(tap + v * VL), mark,
                             op, track);
                if (op == FC_POOL_SUM)
#pragma GCC unroll 4
                    for (int v = 0; v < nv; v++) {
                        sum[v] += best[v];
                        best[v] = (vec){0};
                    }
            }
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        const ptrdiff_t lanes = v == last ? n : VL;
        if (y) vstore_upto(y + v * VL, op == FC_POOL_SUM ? sum[v] : best[v], lanes);
        if (track) put_places(p, index + v * VL, at[v], t->place, 0, lanes);
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
    ivec at = {0}, lane;
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

/* n outputs, `stride` elements apart; `full` promises VL outputs and, for stride 2, that 2 * VL elements
 * after each tap of even number can be read. */
FC_INLINE void outputs(const taps *t, const T *x, ptrdiff_t stride, ptrdiff_t n, vec *best, ivec *at,
                       const int known_stride, const int full, const int op, const int track) {
    vec sum = {0};
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++) {
            const T *row = x + d * t->step[0] + h * t->step[1];
            ptrdiff_t mark = d * t->mark[0] + h * t->mark[1];
            if (known_stride == 2) /* dilation 1: two taps from one pair of loads */
                for (ptrdiff_t w = 0; w < t->count[2]; w += 2, mark += 2 * t->mark[2]) {
                    const int both = w + 1 < t->count[2];
                    const ptrdiff_t there = 2 * n - 1 + both;
                    const vec a = full ? vload(row + w) : vload_upto(row + w, there);
                    const vec b = full ? vload(row + w + VL) : there > VL ? vload_n(row + w + VL, there - VL) : (vec){0};
                    take(best, at, vevens(a, b), mark, op, track);
                    if (both) take(best, at, vodds(a, b), mark + t->mark[2], op, track);
                }
            else
                for (ptrdiff_t w = 0; w < t->count[2]; w++, mark += t->mark[2]) {
                    const T *tap = row + w * t->step[2];
                    vec v = {0};
                    if (known_stride == 1) v = full ? vload(tap) : vload_n(tap, n);
                    else
                        for (ptrdiff_t i = 0; i < (full ? VL : n); i++) v[i] = tap[i * stride];
                    take(best, at, v, mark, op, track);
                }
            if (op == FC_POOL_SUM) {
                sum += *best;
                *best = (vec){0};
            }
        }
    if (op == FC_POOL_SUM) *best = sum;
}

/* Winners start from the first tap. */
FC_INLINE vec first_tap(const T *x, ptrdiff_t stride, ptrdiff_t n) {
    vec v = {0};
    if (stride == 1) return vload_upto(x, n);
    for (ptrdiff_t i = 0; i < n; i++) v[i] = x[i * stride];
    return v;
}

/* Outputs of one row whose windows lie inside the input on the w axis. */
FC_INLINE void whole_windows(const fc_pool *p, const taps *t, const T *row, ptrdiff_t y, ptrdiff_t index,
                             fc_range q, const int known_stride, const int op, const int track) {
    const ptrdiff_t stride = known_stride ? known_stride : p->windows[2].stride;
    const ptrdiff_t even_taps = (t->count[2] - 1) / 2 * 2;
    for (ptrdiff_t o = q.lo; o < q.hi; o += VL) {
        const ptrdiff_t n = fc_min(VL, q.hi - o), column = o * stride - p->windows[2].before;
        const int full = n == VL && (known_stride != 2 || column + even_taps + 2 * VL <= p->windows[2].in);
        vec best = {0};
        ivec at = {0};
        if (full) {
            if (op != FC_POOL_SUM)
                best = known_stride == 2 ? vevens(vload(row + column), vload(row + column + VL))
                                         : first_tap(row + column, stride, VL);
            outputs(t, row + column, stride, n, &best, &at, known_stride, 1, op, track);
        } else {
            if (op != FC_POOL_SUM) best = first_tap(row + column, stride, n);
            outputs(t, row + column, stride, n, &best, &at, known_stride, 0, op, track);
        }
        if (p->y.data) vstore_upto((T *)p->y.data + y + o - p->lo[2], best, n);
        if (track) {
            const int plane = p->indexing == FC_INDEX_PLANE;
            put_places(p, index + o - p->lo[2], at, t->place + (plane ? column : 0), plane ? stride : 0, n);
        }
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

/* Every output of the tile, channels first; known_stride 0 is any stride. Outputs before and after the
 * whole windows are taken one at a time. */
FC_INLINE void rows(const fc_pool *p, const fc_range whole, const int known_stride, const int op, const int track) {
    const fc_windows *windows = p->windows;
    const fc_range all = {p->lo[2], p->hi[2]};
    taps t = taps_of_tile(p);
    for (ptrdiff_t c = 0; c < p->channels; c++)
        for (ptrdiff_t d = p->lo[0]; d < p->hi[0]; d++)
            for (ptrdiff_t h = p->lo[1]; h < p->hi[1]; h++) {
                const fc_window wd = fc_window_at(&windows[0], d), wh = fc_window_at(&windows[1], h);
                const T *plane = (const T *)p->x.data + c * p->x.c + wd.start * p->x.axis[0];
                const ptrdiff_t od = d - p->lo[0], oh = h - p->lo[1];
                const ptrdiff_t y = c * p->y.c + od * p->y.axis[0] + oh * p->y.axis[1];
                const ptrdiff_t index = c * p->index.c + od * p->index.axis[0] + oh * p->index.axis[1];
                const T *image = (const T *)p->x.data + c * p->x.c;
                prefetch_rows(p, plane, wh);
                row_of_windows(p, &t, wd, wh, image, y, index, (fc_range){all.lo, whole.lo});
                if (whole.hi > whole.lo) {
                    set_window(p, &t, wd, wh, (fc_window){0, windows[2].size, 0, 0});
                    whole_windows(p, &t, plane + wh.start * p->x.axis[1], y, index, whole, known_stride, op, track);
                }
                row_of_windows(p, &t, wd, wh, image, y, index, (fc_range){whole.hi, all.hi});
            }
}

/* ------------------------------------------------------------------ which of them */

/* One output at a time pays where a row has few outputs with wide windows: counted in vector steps a row
 * of taps, with about 8 steps to join the lanes. */
static int takes_windows(const fc_windows *w) {
    if (w->size == 0) return 1;
    const ptrdiff_t by_row = (w->out + VL - 1) / VL * w->size;
    const ptrdiff_t one = w->dilation == 1 && w->size >= VL ? w->size / VL + 8 : w->size;
    return w->out * one <= by_row;
}

FC_INLINE void each_output(const fc_pool *p, const int op, const int track) {
    const fc_windows *w = &p->windows[2];
    const fc_range none = {p->hi[2], p->hi[2]};
    const fc_range whole = takes_windows(w) ? none : fc_whole_windows(w, p->lo[2], p->hi[2]);
    if (p->channels_last) pixels(p, op, track);
    else if (w->stride == 1) rows(p, whole, 1, op, track);
    else if (w->stride == 2 && w->dilation == 1) rows(p, whole, 2, op, track);
    else rows(p, whole, 0, op, track);
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
