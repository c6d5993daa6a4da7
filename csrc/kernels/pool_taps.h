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
