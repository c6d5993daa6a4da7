/* The tile of lanes: every lane of a vector has a source, a weight and a result of its own.
 *
 * Lanes are channels (channels-last) or neighbouring pixels (channels-first); results of the tile are neighbours along
 * the other axis, along w or h, and slide over the source: a source vector is read once for all taps of a run. Forward
 * and backward-input keep the results in registers, backward-weight their gradients: both are one loop over the same
 * sources. Sources outside of the image along that axis are left out, not multiplied as zeros: infinite weights stay
 * where they are. */

enum { SLIDE_TAPS = FC_SLIDE_TAPS, SLIDE_RESULTS = 8 }; /* 8 chains hide the FMA latency */

/* Which of the sources first, first + 1, ... of a run lie in the image, as bits. */
FC_INLINE unsigned sources_there(const fc_run *run, ptrdiff_t first, ptrdiff_t count) {
    const ptrdiff_t lo = run->lo > first ? run->lo - first : 0;
    const ptrdiff_t hi = run->hi < first + count ? run->hi - first : count;
    return hi > lo ? (1u << hi) - (1u << lo) : 0;
}

/* Lanes lo <= i < hi of a vector, as bits. */
FC_INLINE unsigned lane_bits(ptrdiff_t lo, ptrdiff_t hi) {
    if (lo < 0) lo = 0;
    if (hi > VL) hi = VL;
    return hi > lo ? (1u << hi) - (1u << lo) : 0;
}

/* The sources of a vector of results, x_lane apart; zeros for those outside of the image. */
FC_INLINE vec slide_source(const T *x, const vmask lanes[2], const int x_lane) {
    if (!MASKED_LOADS) return vload(x);
    return x_lane == 1 ? vload_where(lanes[0], x) : vevens(vload_where(lanes[0], x), vload_where(lanes[1], x + VL));
}

/* A tile's products with one run of taps: results, taps, x_lane and gradient are constants after inlining. Gradients
 * take nothing from results beyond n and lanes beyond n_lanes: their zeros would make NaN of an infinite source. */
FC_INLINE void slide_run(const T *x, ptrdiff_t x_step, const vmask lanes[2], T *w, ptrdiff_t w_step, unsigned there,
                         vec *row, ptrdiff_t n, ptrdiff_t n_lanes, const int results, const int taps, const int x_lane,
                         const int gradient) {
    vec t[SLIDE_TAPS];
#pragma GCC unroll 5
    for (int s = 0; s < taps; s++) t[s] = gradient ? (vec){0} : vload(w + s * w_step);
#pragma GCC unroll 12
    for (int i = 0; i < results + taps - 1; i++, x += x_step) {
        if (!(there >> i & 1)) continue;
        const vec v = vregister(slide_source(x, lanes, x_lane));
#pragma GCC unroll 5
        for (int s = 0; s < taps; s++) {
            const int m = i - s;
            if (m < 0 || m >= results) continue;
            if (gradient && m >= n) continue;
            if (gradient) t[s] = vfma(v, row[m], t[s]);
            else row[m] = vfma(v, t[s], row[m]);
        }
    }
    if (!gradient) return;
#pragma GCC unroll 5
    for (int s = 0; s < taps; s++) vstore_upto(w + s * w_step, vload(w + s * w_step) + t[s], n_lanes);
}

/* The same for any number of taps whose sources are tap_step apart; whole: n is `results`. */
FC_INLINE void slide_apart(const fc_run *run, const T *x, ptrdiff_t x_step, T *w, vec *row, ptrdiff_t n,
                           const int whole, const int results, const int gradient) {
    for (ptrdiff_t s = 0; s < run->taps; s++, x += run->tap_step, w += run->w_step) {
        vec t = gradient ? (vec){0} : vload(w);
#pragma GCC unroll 8
        for (int m = 0; m < results; m++) {
            if (!whole && m >= n) continue;
            const vec v = vload(x + m * x_step);
            if (gradient) t = vfma(v, row[m], t);
            else row[m] = vfma(v, t, row[m]);
        }
        if (gradient) vstore(w, vload(w) + t);
    }
}

static __attribute__((noinline)) void ask_ahead(fc_ahead *ahead) {
    for (int i = 0; i < 2; i++) fc_prefetch(ahead + i);
}

/* n <= results results from m0 on, of the vector that begins at lane v; inner: their sources all lie in the image. */
FC_INLINE void slide_tile(const fc_slide *g, ptrdiff_t m0, ptrdiff_t n, ptrdiff_t v, T *w, T *b, vec start, int inner,
                          const int results, const int x_lane, const int gradient) {
    const T *x = (const T *)g->x + m0 * g->x_step + v / VL * g->x_vector;
    T *y = (T *)g->y + m0 * g->y_step + v / VL * g->y_vector;
    const ptrdiff_t lanes = g->lanes - v;
    vec row[SLIDE_RESULTS];
    if (g->ahead) ask_ahead(g->ahead);
#pragma GCC unroll 8
    for (int m = 0; m < results; m++)
        row[m] = !gradient ? start : m < n ? vload_upto(y + m * g->y_step, lanes) : (vec){0};
    for (const fc_run *run = g->run, *const end = run + g->runs; run < end; run++) {
        const unsigned there = inner ? ~0u : sources_there(run, m0, n + run->taps - 1);
        const vmask mask[2] = {vmask_of_bits(run->lanes[0]), vmask_of_bits(run->lanes[1])};
        const T *from = x + run->x;
        T *t = w + run->w;
        const ptrdiff_t to = run->w_step;
        if (run->tap_step) {
            if (n == results) slide_apart(run, from, g->x_step, t, row, n, 1, results, gradient);
            else slide_apart(run, from, g->x_step, t, row, n, 0, results, gradient);
            continue;
        }
        switch (run->taps) {
        case 1: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, results, 1, x_lane, gradient); break;
        case 2: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, results, 2, x_lane, gradient); break;
        case 3: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, results, 3, x_lane, gradient); break;
        case 4: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, results, 4, x_lane, gradient); break;
        case 5: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, results, 5, x_lane, gradient); break;
        default: __builtin_unreachable();
        }
    }
    if (gradient) {
        vec sum = row[0];
#pragma GCC unroll 8
        for (int m = 1; m < results; m++) sum += row[m];
        vstore(b, vload(b) + sum);
        return;
    }
    if (g->activation != FC_IDENTITY) {
        const vec top = clamp_top(g->activation);
#pragma GCC unroll 8
        for (int m = 0; m < results; m++) row[m] = vclamp(row[m], top);
    }
    if (lanes >= VL && n == results)
#pragma GCC unroll 8
        for (int m = 0; m < results; m++) vstore(y + m * g->y_step, row[m]);
    else
#pragma GCC unroll 8
        for (int m = 0; m < results; m++)
            if (m < n) vstore_upto(y + m * g->y_step, row[m], lanes);
}

/* Results [m0, stop) of a line in tiles of `results`, the last of which may be a part. */
FC_INLINE void slide_tiles(const fc_slide *line, ptrdiff_t m0, ptrdiff_t stop, const int results, const int x_lane,
                           const int gradient) {
    fc_slide g = *line; /* a copy: the compiler knows that stores to y don't change it */
    for (ptrdiff_t v = 0; v < g.lanes; v += VL) {
        T *w = (T *)g.w + v / VL * g.w_vector, *b = g.b ? (T *)g.b + v / VL * g.b_vector : NULL;
        vec start = {0};
        if (!gradient && b) start = vload_upto(b, g.b_vector ? g.lanes - v : VL);
        ptrdiff_t inner_lo = 0, inner_hi = stop;
        for (fc_run *run = g.run, *const end = run + g.runs; run < end; run++) {
            if (MASKED_LOADS)
                for (int i = 0; i < x_lane; i++) /* the last source is that of a lane */
                    run->lanes[i] = lane_bits(x_lane * (run->lane_lo - v) - i * VL,
                                              x_lane * (run->lane_hi - v) - (x_lane - 1) - i * VL);
            if (run->lo > inner_lo) inner_lo = run->lo;
            if (run->hi - run->taps + 1 < inner_hi) inner_hi = run->hi - run->taps + 1;
        }
        for (ptrdiff_t i = 0; i < g.lines; i++) {
            g.x = (const T *)line->x + i * g.x_line;
            g.y = (T *)line->y + i * g.y_line;
            for (ptrdiff_t m = m0; m < stop; m += results)
                slide_tile(&g, m, stop - m < results ? stop - m : results, v, w, b, start,
                           inner_lo <= m && m + results <= inner_hi, results, x_lane, gradient);
        }
    }
}

/* Tiles of 4 or 8 results; `apart`: sources of neighbouring lanes are 2 apart. */
#define FC_SLIDE static __attribute__((noinline)) void
FC_SLIDE slide_4(const fc_slide *g, ptrdiff_t m, ptrdiff_t stop) { slide_tiles(g, m, stop, 4, 1, 0); }
FC_SLIDE slide_8(const fc_slide *g, ptrdiff_t m, ptrdiff_t stop) { slide_tiles(g, m, stop, 8, 1, 0); }
FC_SLIDE slide_back_4(const fc_slide *g, ptrdiff_t m, ptrdiff_t stop) { slide_tiles(g, m, stop, 4, 1, 1); }
FC_SLIDE slide_back_8(const fc_slide *g, ptrdiff_t m, ptrdiff_t stop) { slide_tiles(g, m, stop, 8, 1, 1); }
FC_SLIDE slide_4_apart(const fc_slide *g, ptrdiff_t m, ptrdiff_t stop) { slide_tiles(g, m, stop, 4, 2, 0); }
FC_SLIDE slide_8_apart(const fc_slide *g, ptrdiff_t m, ptrdiff_t stop) { slide_tiles(g, m, stop, 8, 2, 0); }
FC_SLIDE slide_back_4_apart(const fc_slide *g, ptrdiff_t m, ptrdiff_t stop) { slide_tiles(g, m, stop, 4, 2, 1); }
FC_SLIDE slide_back_8_apart(const fc_slide *g, ptrdiff_t m, ptrdiff_t stop) { slide_tiles(g, m, stop, 8, 2, 1); }

typedef void slide_part(const fc_slide *, ptrdiff_t m, ptrdiff_t stop);

/* Tiles of 8 results, the last one if more than half of it is used; else the rest are a tile of 4. */
FC_INLINE void slide_all(const fc_slide *g, slide_part *by_8, slide_part *by_4) {
    const ptrdiff_t whole = g->results % 8 > 4 ? g->results : g->results / 8 * 8;
    if (whole) by_8(g, 0, whole);
    if (whole < g->results) by_4(g, whole, g->results);
}

static void slide(const fc_slide *g) {
    if (MASKED_LOADS && g->x_lane == 2) slide_all(g, slide_8_apart, slide_4_apart);
    else slide_all(g, slide_8, slide_4);
}

static void slide_back(const fc_slide *g) {
    if (MASKED_LOADS && g->x_lane == 2) slide_all(g, slide_back_8_apart, slide_back_4_apart);
    else slide_all(g, slide_back_8, slide_back_4);
}

/* Vector i of `to` has `from`'s element i * step in all lanes. */
static void spread(const void *from, ptrdiff_t step, ptrdiff_t count, void *to) {
    for (ptrdiff_t i = 0; i < count; i++) vstore((T *)to + i * VL, vset1(((const T *)from)[i * step]));
}

/* Lane i of `to` is the sum of the lanes of the vector at from + i * step, i < count; zero from there on. */
static void sum_vectors(const void *from, ptrdiff_t step, ptrdiff_t count, void *to) {
    vec block[LANES], sum;
#pragma GCC unroll 16
    for (ptrdiff_t i = 0; i < VL; i++) block[i] = i < count ? vload((const T *)from + i * step) : (vec){0};
    vtranspose(block);
    sum = block[0];
#pragma GCC unroll 16
    for (ptrdiff_t i = 1; i < VL; i++) sum += block[i];
    vstore(to, sum);
}

/* to[i * to_step] = from[i % runs * from_run + i / runs] for i < n: results of stride phases to their row. */
static void join_phases(const void *from, ptrdiff_t from_run, ptrdiff_t runs, ptrdiff_t n, void *to) {
    const T *a = from;
    T *y = to;
    if (runs != 2) {
        for (ptrdiff_t r = 0; r < runs; r++)
            for (ptrdiff_t i = r, k = r * from_run; i < n; i += runs) y[i] = a[k++];
        return;
    }
    for (ptrdiff_t i = 0; i < n; i += 2 * VL) {
        const vec even = vload(a + i / 2), odd = vload(a + from_run + i / 2);
        vstore_upto(y + i, vzip_lo(even, odd), n - i);
        if (i + VL < n) vstore_upto(y + i + VL, vzip_hi(even, odd), n - i - VL);
    }
}
