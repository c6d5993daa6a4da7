/* Pooling, forward: the taps of a window, what a lane does with them, and one output at a time. */
#include "../window.h"

enum {
    LAST_CHUNK = 256,      /* taps that one accumulator adds before its sum moves on: bounds rounding errors */
    FIRST_CHUNK = 4096,
};

/* The real taps of one window: counts on d h w, and from one tap to the next the step in x and in place. */
typedef struct taps {
    ptrdiff_t count[3], step[3], mark[3];
    int64_t place;         /* of the first */
} taps;

/* Out of line: one copy for the many loops over windows. */
static __attribute__((noinline)) fc_window window_at(const fc_windows *w, ptrdiff_t o) { return fc_window_at(w, o); }

/* Steps and marks are the same for all windows; counts and place are set for each (set_window). */
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
    vec sum;       /* of all taps so far: NaN if one of them is, or if there are infinities of both signs */
} lanes;

/* Take the next tap of each lane. The winner is right unless a tap is NaN (`sum` tells); with `exact` always, but
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
    l->sum += v;
}

/* Places of n lanes, from index element i on: first + lane * step + at. */
FC_INLINE void put_places(const fc_pool *p, ptrdiff_t i, ivec at, int64_t first, ptrdiff_t step, ptrdiff_t n) {
    if (p->indexing == FC_INDEX_WINDOW) vstore_bytes((uint8_t *)p->index.data + i, at + (lane_int)first, n);
    else vstore_int64((int64_t *)p->index.data + i, at, first, step, n);
}

/* ------------------------------------------------------------------ windows: one output at a time */

typedef struct winner {
    T value;
    ptrdiff_t at;
} winner;

/* A window's taps, a row at a time: vectors of neighbours, the last of which has the lanes `rest`. Where taps are not
 * neighbours, or are few, that is one vector of some lanes after the other. */
typedef struct window_rows {
    ptrdiff_t most, n;     /* lanes of a vector, taps of a row */
    vmask rest;
} window_rows;

static window_rows rows_of_window(const taps *t) {
    const ptrdiff_t most = t->step[2] == 1 ? VL : 1, rest = t->count[2] % most;
    return (window_rows){most, t->count[2], vrange(0, rest ? rest : most)};
}

FC_INLINE T sum_lanes(vec v) {
    T part[LANES];
    vstore(part, v);
    for (ptrdiff_t half = VL / 2; half > 0; half /= 2)
        for (ptrdiff_t i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

/* Few or distant taps, one after the other. */
static T sum_of_few(const taps *t, const T *x) {
    T sum = 0;
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++) {
            T part = 0;
            for (ptrdiff_t w = 0; w < t->count[2]; w++)
                part += x[d * t->step[0] + h * t->step[1] + w * t->step[2]];
            sum += part;
        }
    return sum;
}

FC_INLINE void set_aside(T *sum, vec part[4]) {
    *sum += sum_lanes((part[0] + part[1]) + (part[2] + part[3]));
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) part[k] = (vec){0};
}

static T window_sum(const taps *t, const T *x) {
    if (t->step[2] != 1 || 2 * t->count[2] <= VL) return sum_of_few(t, x);
    const window_rows r = rows_of_window(t);
    T sum = 0;
    vec part[4] = {{0}};
    ptrdiff_t taken = 0;
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++) {
            const T *row = x + d * t->step[0] + h * t->step[1];
            for (ptrdiff_t w = 0; w < r.n; w += FIRST_CHUNK) {
                const ptrdiff_t end = fc_min(w + FIRST_CHUNK, r.n);
                ptrdiff_t i = w;
                for (; i + 4 * VL < end; i += 4 * VL)
#pragma GCC unroll 4
                    for (int k = 0; k < 4; k++) part[k] += vload(row + i + k * VL);
                for (; i + VL < end; i += VL) part[0] += vload(row + i);
                part[1] += end < r.n ? vload(row + i) : vload_where(r.rest, row + i);
                if ((taken += end - w) < FIRST_CHUNK) continue;
                set_aside(&sum, part);
                taken = 0;
            }
        }
    set_aside(&sum, part);
    return sum;
}

/* The best value, and whether a NaN may be among the taps. */
typedef struct extreme {
    T value;
    int suspect;
} extreme;

FC_INLINE vec better(vec v, vec best, const int op) {
    return op == FC_POOL_MAX ? vmax_second(v, best) : vmin_second(v, best);
}

FC_INLINE extreme window_extreme(const taps *t, const T *x, const int op) {
    const window_rows r = rows_of_window(t);
    vec best[4], sum[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        best[k] = vset1(x[0]);
        sum[k] = (vec){0};
    }
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++) {
            const T *row = x + d * t->step[0] + h * t->step[1];
            ptrdiff_t w = 0;
            for (; r.most == VL && w + 4 * VL < r.n; w += 4 * VL)
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++) {
                    const vec v = vload(row + w + k * VL);
                    best[k] = better(v, best[k], op);
                    sum[k] += v;
                }
            for (; w < r.n; w += r.most) {
                const int all = r.most == VL && w + VL <= r.n;
                const vec v = all ? vload(row + w) : vload_where(r.rest, row + w * t->step[2]);
                best[0] = better(all ? v : vpick(r.rest, v, best[0]), best[0], op);
                sum[0] += v;
            }
        }
    const vec joined = better(better(best[0], best[1], op), better(best[2], best[3], op), op);
    T value = joined[0];
    for (ptrdiff_t i = 1; i < VL; i++) value = op == FC_POOL_MAX ? (joined[i] > value ? joined[i] : value)
                                                                 : (joined[i] < value ? joined[i] : value);
    return (extreme){value, vany(visnan((sum[0] + sum[1]) + (sum[2] + sum[3])))};
}

/* The first tap that is NaN, or the first that equals `value`, the best of taps without a NaN. `at` is -1 for none. */
static winner first_tap(const taps *t, const T *x, T value, int want_nan) {
    for (ptrdiff_t d = 0; d < t->count[0]; d++)
        for (ptrdiff_t h = 0; h < t->count[1]; h++) {
            const T *row = x + d * t->step[0] + h * t->step[1];
            for (ptrdiff_t w = 0; w < t->count[2];) {
                if (t->step[2] == 1 && w + VL <= t->count[2]) { /* most vectors hold no such tap */
                    const vec v = vload(row + w), other = vset1(value);
                    const vmask differs = vgreater(v, other) | vgreater(other, v);
                    if (want_nan ? !vany(visnan(v)) : !vany((vmask)~differs)) {
                        w += VL;
                        continue;
                    }
                }
                for (const ptrdiff_t end = fc_min(w + VL, t->count[2]); w < end; w++) {
                    const T v = row[w * t->step[2]];
                    if (want_nan ? v != v : v == value)
                        return (winner){v, d * t->mark[0] + h * t->mark[1] + w * t->mark[2]};
                }
            }
        }
    return (winner){value, -1};
}

/* NaN wins, and of equals the first, which with zeros decides about the sign. The place is found for `track` alone. */
FC_INLINE winner window_winner(const taps *t, const T *x, int track, const int op) {
    const extreme best = window_extreme(t, x, op);
    if (best.suspect || best.value != best.value) {
        const winner nan = first_tap(t, x, 0, 1);
        if (nan.at >= 0) return nan;
    }
    return track || best.value == 0 ? first_tap(t, x, best.value, 0) : (winner){best.value, 0};
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

static winner window_max(const taps *t, const T *x, int track) { return window_winner(t, x, track, FC_POOL_MAX); }
static winner window_min(const taps *t, const T *x, int track) { return window_winner(t, x, track, FC_POOL_MIN); }

/* Outputs [lo, hi) of one row, one at a time. plane is the channel's first element; y and index count
 * elements from the tile's output lo. */
static __attribute__((noinline)) void row_of_windows(const fc_pool *p, taps *t, fc_window wd, fc_window wh,
                                                     const T *plane, ptrdiff_t y, ptrdiff_t index, fc_range o) {
    const T *row = plane + wd.start * p->x.axis[0] + wh.start * p->x.axis[1];
    const int track = p->indexing != FC_INDEX_NONE;
    for (ptrdiff_t w = o.lo; w < o.hi; w++) {
        const fc_window ww = fc_window_at(&p->windows[2], w);
        const T *x = row + ww.start;
        const ptrdiff_t to = w - p->lo[2];
        winner best = {0, 0};
        set_window(p, t, wd, wh, ww);
        merge_rows(t);
        switch (p->op) {
        case FC_POOL_MAX: best = window_max(t, x, track); break;
        case FC_POOL_MIN: best = window_min(t, x, track); break;
        case FC_POOL_SUM: best.value = window_sum(t, x); break;
        }
        if (p->y.data) ((T *)p->y.data)[y + to] = best.value;
        if (p->indexing == FC_INDEX_WINDOW) ((uint8_t *)p->index.data)[index + to] = (uint8_t)(t->place + best.at);
        if (p->indexing == FC_INDEX_PLANE) ((int64_t *)p->index.data)[index + to] = t->place + best.at;
    }
}
