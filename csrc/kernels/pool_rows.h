/* Pooling, forward, channels-first: vectors of neighbouring outputs of a row. */
#include <math.h>

enum { MOST_EDGE_TAPS = 64, PREFETCH_ROWS = 8 };

/* VL outputs from `o` on, some of which lie beyond the row or have taps on padding. Tap t lies in the image in lanes
 * lo <= lane < hi. For stride 2 a tap of even number and the next one are read together, as 2 * VL elements:
 * those of the masks `low` and `high`. `at` is the place of each lane's first tap in the image. */
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

/* VL elements, `stride` apart, by inserts in two chains: a loop over lanes, as for some of them, goes through memory
 * and takes up to 1.5 times as long. Out of line: one copy each for all operations. */
static __attribute__((noinline)) vec strided_lanes(const T *x, ptrdiff_t stride) {
    vec low = {0}, high = {0};
#pragma GCC unroll 8
    for (ptrdiff_t i = 0; i < VL / 2; i++) {
        low[i] = x[i * stride];
        high[VL / 2 + i] = x[(VL / 2 + i) * stride];
    }
    return (vec)((ivec)low | (ivec)high);
}

static __attribute__((noinline)) vec some_strided_lanes(const T *x, ptrdiff_t stride, ptrdiff_t lo, ptrdiff_t hi) {
    vec v = {0};
    for (ptrdiff_t i = lo; i < hi; i++) v[i] = x[i * stride];
    return v;
}

/* Tap t of VL outputs; without an edge it lies in the image in all lanes. */
FC_INLINE vec strided_tap(const T *x, ptrdiff_t stride, const edge *e, ptrdiff_t t, const int known_stride) {
    if (known_stride == 1) return e ? vload_where(e->tap[t].there, x) : vload(x);
    return e ? some_strided_lanes(x, stride, e->tap[t].lo, e->tap[t].hi) : strided_lanes(x, stride);
}

/* Take the next tap, t, in the lanes where it lies in the image. */
FC_INLINE void take_there(lanes *l, vec v, const edge *e, ptrdiff_t t, ptrdiff_t mark, const int op, const int track,
                          const int exact) {
    take(l, e && op != FC_POOL_SUM ? vpick(e->tap[t].there, v, l->best) : v, mark, op, track, exact);
}

/* VL outputs, `stride` elements apart. */
FC_INLINE lanes output_lanes(const taps *t, const T *x, ptrdiff_t stride, const edge *e, const int known_stride,
                             const int op, const int track, const int exact) {
    const T worst = op == FC_POOL_MAX ? (T)-INFINITY : (T)INFINITY;
    lanes l = {op == FC_POOL_SUM ? (vec){0} : vset1(worst), e ? e->at : (ivec){0}, {0}};
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

/* The same with NaN handled: rare, so out of line and shared by all. */
static __attribute__((noinline)) lanes exact_outputs(const taps *t, const T *x, ptrdiff_t stride, const edge *e,
                                                     int known_stride, int op, int track) {
    return output_lanes(t, x, stride, e, known_stride, op, track, 1);
}

FC_INLINE lanes outputs(const taps *t, const T *x, ptrdiff_t stride, const edge *e, const int known_stride,
                        const int op, const int track) {
    const lanes l = output_lanes(t, x, stride, e, known_stride, op, track, 0);
    if (op == FC_POOL_SUM || !vany(visnan(l.sum))) return l;
    return exact_outputs(t, x, stride, e, known_stride, op, track);
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

/* Rows of elements far enough ahead that they come from memory in time: of adaptive windows, those of the next. */
FC_INLINE void prefetch_rows(const fc_pool *p, const T *plane, fc_window wh) {
    const fc_windows *h = &p->windows[1];
    const ptrdiff_t rows = h->size ? fc_min(h->stride, 2) : wh.count;
    const ptrdiff_t first = wh.start + (h->size ? PREFETCH_ROWS : wh.count);
    if (first + rows > h->in) return;
    for (ptrdiff_t r = first; r < first + rows; r++)
        for (ptrdiff_t w = 0; w < p->windows[2].in; w += (ptrdiff_t)(64 / sizeof(T)))
            __builtin_prefetch(plane + r * p->x.axis[1] + w);
}

/* Where a vector of outputs may begin whose windows are whole; those of stride 2 read 2 * VL elements from
 * each tap of even number on. */
static fc_range full_vectors(const fc_windows *w, ptrdiff_t lo, ptrdiff_t hi, int known_stride) {
    fc_range full = fc_whole_windows(w, lo, hi);
    full.hi -= VL - 1;
    if (known_stride == 2) {
        const ptrdiff_t last_even_tap = (w->size - 1) / 2 * 2;
        full.hi = fc_min(full.hi, fc_floor_div(w->in + w->before - last_even_tap - 2 * VL, 2) + 1);
    }
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
    return (fc_range){full.lo, full.hi > full.lo ? full.lo + whole_vectors(full.hi - full.lo) : full.lo};
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
                const fc_window wd = window_at(&windows[0], d), wh = window_at(&windows[1], h);
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
