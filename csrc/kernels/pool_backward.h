/* Pooling, backward: every loop here gathers, so that the caller can give disjoint boxes of dx to threads.
 * The scatters, for indices that may point anywhere in a plane, own whole planes instead. */

/* Divide n elements. */
FC_INLINE void divide_run(T *y, ptrdiff_t n, double divisor) {
    const vec by = vset1((T)divisor);
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) vstore(y + i, vload(y + i) / by);
    for (; i < n; i++) y[i] /= (T)divisor;
}

static void pool_divide(const fc_pool_divide *q) {
    const fc_windows *windows = q->windows;
    const ptrdiff_t lo = q->lo[2], hi = q->hi[2];
    const fc_range whole = windows[2].size ? fc_whole_windows(&windows[2], lo, hi) : (fc_range){hi, hi};
    for (ptrdiff_t d = q->lo[0]; d < q->hi[0]; d++)
        for (ptrdiff_t h = q->lo[1]; h < q->hi[1]; h++) {
            const fc_window wd = fc_window_at(&windows[0], d), wh = fc_window_at(&windows[1], h);
            const double outer = q->include_pad ? (double)wd.padded * wh.padded : (double)wd.count * wh.count;
            T *row = (T *)q->y.data + (d - q->lo[0]) * q->y.axis[0] + (h - q->lo[1]) * q->y.axis[1];
            for (ptrdiff_t w = lo; w < hi; w++) {
                const fc_window ww = fc_window_at(&windows[2], w);
                const double taps = outer * (q->include_pad ? ww.padded : ww.count);
                const double divisor = q->divisor != 0 ? q->divisor : taps;
                if (q->channels_last) {
                    divide_run(row + (w - lo) * q->y.axis[2], q->channels, divisor);
                    continue;
                }
                const ptrdiff_t equal = w == whole.lo && whole.hi > w ? whole.hi - w : 1;
                for (ptrdiff_t c = 0; c < q->channels; c++) divide_run(row + c * q->y.c + w - lo, equal, divisor);
                w += equal - 1;
            }
        }
}

/* ------------------------------------------------------------------ dx from dy, channels-last */

/* Outputs that reach one position of dx, on every axis. */
typedef struct sources {
    fc_range range[3];
    ptrdiff_t position[3];
} sources;

/* nv vectors of channels, n of them in the last. */
FC_INLINE void gather_pixel(const fc_pool_gather *g, const sources *s, T *dx, ptrdiff_t c, ptrdiff_t n,
                            const int nv, const int select) {
    const fc_windows *w = g->windows;
    const ptrdiff_t last = nv - 1;
    vec sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) sum[v] = (vec){0};
    for (ptrdiff_t od = s->range[0].lo; od < s->range[0].hi; od++) {
        const ptrdiff_t td = fc_tap_at(&w[0], od, s->position[0]);
        if (td < 0) continue;
        for (ptrdiff_t oh = s->range[1].lo; oh < s->range[1].hi; oh++) {
            const ptrdiff_t th = fc_tap_at(&w[1], oh, s->position[1]);
            if (th < 0) continue;
            for (ptrdiff_t ow = s->range[2].lo; ow < s->range[2].hi; ow++) {
                const ptrdiff_t tw = fc_tap_at(&w[2], ow, s->position[2]);
                if (tw < 0) continue;
                const ptrdiff_t o[3] = {od - g->first[0], oh - g->first[1], ow - g->first[2]};
                const T *dy = (const T *)g->dy.data + c + o[0] * g->dy.axis[0] + o[1] * g->dy.axis[1]
                    + o[2] * g->dy.axis[2];
                const uint8_t *taps = NULL;
                if (select)
                    taps = (const uint8_t *)g->tap.data + c + o[0] * g->tap.axis[0] + o[1] * g->tap.axis[1]
                        + o[2] * g->tap.axis[2];
                const ivec tap = vset1_int((lane_int)((td * w[1].size + th) * w[2].size + tw));
#pragma GCC unroll 4
                for (int v = 0; v < nv; v++) {
                    const vec one = v == last ? vload_upto(dy + v * VL, n) : vload(dy + v * VL);
                    sum[v] += select ? vkeep(vsame_int(vload_bytes(taps + v * VL), tap), one) : one;
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        if (v == last) vstore_upto(dx + v * VL, sum[v], n);
        else vstore(dx + v * VL, sum[v]);
    }
}

FC_INLINE void gather_pixels(const fc_pool_gather *g, const int select) {
    sources s;
    for (ptrdiff_t d = g->lo[0]; d < g->hi[0]; d++)
        for (ptrdiff_t h = g->lo[1]; h < g->hi[1]; h++)
            for (ptrdiff_t w = g->lo[2]; w < g->hi[2]; w++) {
                const ptrdiff_t position[3] = {d, h, w};
                T *dx = (T *)g->dx.data;
                for (int i = 0; i < 3; i++) {
                    s.position[i] = position[i];
                    s.range[i] = fc_reach(&g->windows[i], position[i]);
                    dx += (position[i] - g->lo[i]) * g->dx.axis[i];
                }
                ptrdiff_t c = 0;
                for (; c + 4 * VL <= g->channels; c += 4 * VL) gather_pixel(g, &s, dx + c, c, VL, 4, select);
                for (; c < g->channels; c += VL)
                    gather_pixel(g, &s, dx + c, c, fc_min(VL, g->channels - c), 1, select);
            }
}

/* ------------------------------------------------------------------ dx from dy, channels-first */

enum { MOST_SOURCES = 256 };

/* What positions of one row and one stride phase add up: element m + at of dy, where its index is tap. */
typedef struct source {
    ptrdiff_t at;
    lane_int tap;
} source;

/* The sources of positions lo[2] + phase + m * stride in row (d, h). */
FC_INLINE ptrdiff_t sources_of(const fc_pool_gather *g, ptrdiff_t d, ptrdiff_t h, ptrdiff_t phase, source *s,
                               const int stride) {
    const fc_windows *w = g->windows;
    const fc_range range_d = fc_reach(&w[0], d), range_h = fc_reach(&w[1], h);
    ptrdiff_t n = 0;
    for (ptrdiff_t od = range_d.lo; od < range_d.hi; od++) {
        const ptrdiff_t td = fc_tap_at(&w[0], od, d);
        if (td < 0) continue;
        for (ptrdiff_t oh = range_h.lo; oh < range_h.hi; oh++) {
            const ptrdiff_t th = fc_tap_at(&w[1], oh, h);
            if (th < 0) continue;
            const ptrdiff_t row = (od - g->first[0]) * g->dy.axis[0] + (oh - g->first[1]) * g->dy.axis[1];
            for (ptrdiff_t tw = w[2].size - 1; tw >= 0; tw--) {
                const ptrdiff_t distance = g->lo[2] + phase + w[2].before - tw * w[2].dilation;
                if (distance % stride) continue;
                s[n++] = (source){row + fc_floor_div(distance, stride) - g->first[2],
                                  (lane_int)((td * w[1].size + th) * w[2].size + tw)};
            }
        }
    }
    return n;
}

FC_INLINE vec gather_lanes(const T *dy, const uint8_t *tap, const source *s, ptrdiff_t n, const int select) {
    vec sum = {0};
    for (ptrdiff_t i = 0; i < n; i++) {
        const vec one = vload(dy + s[i].at);
        sum += select ? vkeep(vsame_int(vload_bytes(tap + s[i].at), vset1_int(s[i].tap)), one) : one;
    }
    return sum;
}

/* Strides 1 and 2: vectors of dy, one phase of the stride each, zipped into a row of dx. */
FC_INLINE void gather_rows(const fc_pool_gather *g, const int stride, const int select) {
    const ptrdiff_t columns = g->hi[2] - g->lo[2];
    source s[2][MOST_SOURCES];
    ptrdiff_t n[2] = {0, 0};
    for (ptrdiff_t d = g->lo[0]; d < g->hi[0]; d++)
        for (ptrdiff_t h = g->lo[1]; h < g->hi[1]; h++) {
            for (int phase = 0; phase < stride; phase++) n[phase] = sources_of(g, d, h, phase, s[phase], stride);
            for (ptrdiff_t c = 0; c < g->channels; c++) {
                const T *dy = (const T *)g->dy.data + c * g->dy.c;
                const uint8_t *tap = select ? (const uint8_t *)g->tap.data + c * g->dy.c : NULL;
                T *dx = (T *)g->dx.data + c * g->dx.c + (d - g->lo[0]) * g->dx.axis[0] + (h - g->lo[1]) * g->dx.axis[1];
                for (ptrdiff_t m = 0; m * stride < columns; m += VL, dy += VL, tap += select ? VL : 0) {
                    const vec first = gather_lanes(dy, tap, s[0], n[0], select);
                    const ptrdiff_t left = columns - m * stride;
                    if (stride == 1) {
                        vstore_upto(dx + m, first, left);
                        continue;
                    }
                    const vec second = gather_lanes(dy, tap, s[1], n[1], select);
                    vstore_upto(dx + 2 * m, vzip_lo(first, second), left);
                    if (left > VL) vstore_upto(dx + 2 * m + VL, vzip_hi(first, second), left - VL);
                }
            }
        }
}

/* What one row of outputs adds to a row of dx by the taps (td, th, *), columns [lo, hi): the last tap
 * first, so that every position adds in the order of the outputs. */
FC_INLINE void add_taps(const fc_pool_gather *g, const T *dy, const uint8_t *tap, T *dx, ptrdiff_t outer_tap,
                        const int select) {
    const fc_windows *w = &g->windows[2];
    for (ptrdiff_t t = w->size - 1; t >= 0; t--) {
        const ptrdiff_t shift = t * w->dilation - w->before;
        const ptrdiff_t o0 = fc_max(0, fc_ceil_div(g->lo[2] - shift, w->stride));
        const ptrdiff_t o1 = fc_min(w->out, fc_floor_div(g->hi[2] - 1 - shift, w->stride) + 1);
        const ptrdiff_t number = outer_tap * w->size + t;
        for (ptrdiff_t o = o0; o < o1; o++)
            if (!select || tap[o - g->first[2]] == number) dx[o * w->stride + shift - g->lo[2]] += dy[o - g->first[2]];
    }
}

/* The same without indices, a window at a time: each adds its dy to a run of dx. */
FC_INLINE void add_windows(const fc_pool_gather *g, const T *dy, T *dx) {
    const fc_windows *w = &g->windows[2];
    const ptrdiff_t step = w->size ? w->dilation : 1;
    const ptrdiff_t o1 = fc_reach(w, g->hi[2] - 1).hi;
    for (ptrdiff_t o = fc_reach(w, g->lo[2]).lo; o < o1; o++) {
        fc_window at = fc_window_at(w, o);
        const ptrdiff_t skip = at.start < g->lo[2] ? fc_ceil_div(g->lo[2] - at.start, step) : 0;
        const ptrdiff_t fit = at.start < g->hi[2] ? fc_ceil_div(g->hi[2] - at.start, step) : 0;
        T *run = dx + at.start - g->lo[2];
        const T one = dy[o - g->first[2]];
        ptrdiff_t i = skip;
        const ptrdiff_t end = fc_min(at.count, fit);
        if (step == 1)
            for (; i + VL <= end; i += VL) vstore(run + i, vload(run + i) + vset1(one));
        for (; i < end; i++) run[i * step] += one;
    }
}

FC_INLINE void add_rows(const fc_pool_gather *g, const int select) {
    const fc_windows *w = g->windows;
    for (ptrdiff_t c = 0; c < g->channels; c++)
        for (ptrdiff_t d = g->lo[0]; d < g->hi[0]; d++)
            for (ptrdiff_t h = g->lo[1]; h < g->hi[1]; h++) {
                const fc_range range_d = fc_reach(&w[0], d), range_h = fc_reach(&w[1], h);
                T *dx = (T *)g->dx.data + c * g->dx.c + (d - g->lo[0]) * g->dx.axis[0] + (h - g->lo[1]) * g->dx.axis[1];
                zero(dx, g->hi[2] - g->lo[2]);
                for (ptrdiff_t od = range_d.lo; od < range_d.hi; od++) {
                    const ptrdiff_t td = fc_tap_at(&w[0], od, d);
                    for (ptrdiff_t oh = range_h.lo; oh < range_h.hi && td >= 0; oh++) {
                        const ptrdiff_t th = fc_tap_at(&w[1], oh, h);
                        const ptrdiff_t at = c * g->dy.c + (od - g->first[0]) * g->dy.axis[0]
                            + (oh - g->first[1]) * g->dy.axis[1];
                        if (th < 0) continue;
                        if (select)
                            add_taps(g, (const T *)g->dy.data + at, (const uint8_t *)g->tap.data + at, dx, td * w[1].size + th, 1);
                        else add_windows(g, (const T *)g->dy.data + at, dx);
                    }
                }
            }
}

static void gather_pixels_all(const fc_pool_gather *g) { gather_pixels(g, 0); }
static void gather_pixels_select(const fc_pool_gather *g) { gather_pixels(g, 1); }
static void gather_rows_1(const fc_pool_gather *g) { gather_rows(g, 1, 0); }
static void gather_rows_1_select(const fc_pool_gather *g) { gather_rows(g, 1, 1); }
static void gather_rows_2(const fc_pool_gather *g) { gather_rows(g, 2, 0); }
static void gather_rows_2_select(const fc_pool_gather *g) { gather_rows(g, 2, 1); }
static void add_rows_all(const fc_pool_gather *g) { add_rows(g, 0); }
static void add_rows_select(const fc_pool_gather *g) { add_rows(g, 1); }

static void pool_gather(const fc_pool_gather *g) {
    const fc_windows *w = g->windows;
    const int select = g->tap.data != NULL, few = w[0].size * w[1].size * w[2].size <= MOST_SOURCES;
    if (g->channels_last) (select ? gather_pixels_select : gather_pixels_all)(g);
    else if (few && w[2].size && w[2].stride == 1) (select ? gather_rows_1_select : gather_rows_1)(g);
    else if (few && w[2].size && w[2].stride == 2) (select ? gather_rows_2_select : gather_rows_2)(g);
    else (select ? add_rows_select : add_rows_all)(g);
}
