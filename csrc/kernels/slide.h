/* The tile of lanes: every lane of a vector has a source, a weight and a result of its own.
 *
 * Lanes are channels (channels-last) or neighbouring pixels (channels-first); results of the tile are neighbours along
 * the other axis, along w or h, and slide over the source: a source vector is read once for all taps of a run. Forward
 * and backward-input keep the results in registers, backward-weight their gradients: both are one loop over the same
 * sources. Sources outside of the image along that axis are left out, not multiplied as zeros: infinite weights stay
 * where they are. */

enum { SLIDE_TAPS = FC_SLIDE_TAPS, SLIDE_RESULTS = FC_SLIDE_RESULTS }; /* 8 chains at least hide the FMA latency */

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

/* A tile's products with one run of taps: taps, x_lane and gradient are constants after inlining. Gradients
 * take nothing from results beyond n and lanes beyond n_lanes: their zeros would make NaN of an infinite source. */
FC_INLINE void slide_run(const T *x, ptrdiff_t x_step, const vmask lanes[2], T *w, ptrdiff_t w_step, unsigned there,
                         vec *row, ptrdiff_t n, ptrdiff_t n_lanes, const int taps, const int x_lane,
                         const int gradient) {
    vec t[SLIDE_TAPS];
#pragma GCC unroll 7
    for (int s = 0; s < taps; s++) t[s] = gradient ? (vec){0} : vload(w + s * w_step);
#pragma GCC unroll 20
    for (int i = 0; i < SLIDE_RESULTS + taps - 1; i++, x += x_step) {
        if (!(there >> i & 1)) continue;
        const vec v = vregister(slide_source(x, lanes, x_lane));
#pragma GCC unroll 7
        for (int s = 0; s < taps; s++) {
            const int m = i - s;
            if (m < 0 || m >= SLIDE_RESULTS) continue;
            if (gradient && m >= n) continue;
            if (gradient) t[s] = vfma(v, row[m], t[s]);
            else row[m] = vfma(v, t[s], row[m]);
        }
    }
    if (!gradient) return;
#pragma GCC unroll 7
    for (int s = 0; s < taps; s++) vstore_upto(w + s * w_step, vload(w + s * w_step) + t[s], n_lanes);
}

/* The same for any number of taps whose sources are tap_step apart; whole: n is SLIDE_RESULTS. */
FC_INLINE void slide_far(const fc_run *run, const T *x, ptrdiff_t x_step, T *w, vec *row, ptrdiff_t n, const int whole,
                         const int gradient) {
    for (ptrdiff_t s = 0; s < run->taps; s++, x += run->tap_step, w += run->w_step) {
        vec t = gradient ? (vec){0} : vload(w);
        const T *from = x;
#pragma GCC unroll 14
        for (int m = 0; m < SLIDE_RESULTS; m++) {
            if (!whole && m >= n) continue;
            const vec v = vload(from);
            from += x_step;
            if (gradient) t = vfma(v, row[m], t);
            else row[m] = vfma(v, t, row[m]);
        }
        if (gradient) vstore(w, vload(w) + t);
    }
}

/* The same for a tile of one result: at the ends of the rows of 1-D layers are nothing but such. */
FC_INLINE vec slide_one(const fc_run *run, const T *x, ptrdiff_t x_step, const vmask lanes[2], T *w, unsigned there,
                        vec row, ptrdiff_t n_lanes, const int x_lane, const int gradient) {
    for (ptrdiff_t s = 0; s < run->taps; s++, x += x_step, w += run->w_step) {
        if (!(there >> s & 1)) continue;
        const vec v = slide_source(x, lanes, x_lane);
        if (gradient) vstore_upto(w, vfma(v, row, vload(w)), n_lanes);
        else row = vfma(v, vload(w), row);
    }
    return row;
}

static __attribute__((noinline)) void ask_ahead(fc_ahead *ahead) {
    for (int i = 0; i < 2; i++) fc_prefetch(ahead + i);
}

/* n <= SLIDE_RESULTS results from m0 on, of the vector that begins at lane v; inner: as many as that, whose sources all
 * lie in the image. */
FC_INLINE void slide_tile(const fc_slide *g, ptrdiff_t m0, ptrdiff_t n, ptrdiff_t v, T *w, T *b, vec start, int inner,
                          const int x_lane, const int gradient) {
    const T *x = (const T *)g->x + m0 * g->x_step + v / VL * g->x_vector;
    T *y = (T *)g->y + m0 * g->y_step + v / VL * g->y_vector;
    const ptrdiff_t lanes = g->lanes - v;
    vec row[SLIDE_RESULTS];
    if (g->ahead) ask_ahead(g->ahead);
#pragma GCC unroll 14
    for (int m = 0; m < SLIDE_RESULTS; m++)
        row[m] = !gradient ? start : m < n ? vload_upto(y + m * g->y_step, lanes) : (vec){0};
    for (const fc_run *run = g->run, *const end = run + g->runs; run < end; run++) {
        const vmask mask[2] = {vmask_of_bits(run->lanes[0]), vmask_of_bits(run->lanes[1])};
        const T *from = x + run->x;
        T *t = w + run->w;
        const ptrdiff_t to = run->w_step;
        if (run->tap_step) {
            if (n == SLIDE_RESULTS) slide_far(run, from, g->x_step, t, row, n, 1, gradient);
            else slide_far(run, from, g->x_step, t, row, n, 0, gradient);
            continue;
        }
        const unsigned there = inner ? ~0u : sources_there(run, m0, n + run->taps - 1);
        if (n == 1) {
            row[0] = slide_one(run, from, g->x_step, mask, t, there, row[0], lanes, x_lane, gradient);
            continue;
        }
        switch (run->taps) {
        case 1: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, 1, x_lane, gradient); break;
        case 2: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, 2, x_lane, gradient); break;
        case 3: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, 3, x_lane, gradient); break;
        case 4: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, 4, x_lane, gradient); break;
        case 5: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, 5, x_lane, gradient); break;
        case 6: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, 6, x_lane, gradient); break;
        case 7: slide_run(from, g->x_step, mask, t, to, there, row, n, lanes, 7, x_lane, gradient); break;
        default: __builtin_unreachable();
        }
    }
    if (gradient) {
        vec sum = row[0];
#pragma GCC unroll 14
        for (int m = 1; m < SLIDE_RESULTS; m++) sum += row[m];
        vstore(b, vload(b) + sum);
        return;
    }
    if (g->activation != FC_IDENTITY) {
        const vec top = clamp_top(g->activation);
#pragma GCC unroll 14
        for (int m = 0; m < SLIDE_RESULTS; m++) row[m] = vclamp(row[m], top);
    }
    if (lanes >= VL && n == SLIDE_RESULTS)
#pragma GCC unroll 14
        for (int m = 0; m < SLIDE_RESULTS; m++) vstore(y + m * g->y_step, row[m]);
    else
#pragma GCC unroll 14
        for (int m = 0; m < SLIDE_RESULTS; m++)
            if (m < n) vstore_upto(y + m * g->y_step, row[m], lanes);
}

/* Results of the next tile where `left` are left: the last two share, as those of few results wait for their sums. */
FC_INLINE ptrdiff_t tile_results(ptrdiff_t left) {
    if (left <= SLIDE_RESULTS) return left;
    return left < 2 * SLIDE_RESULTS ? (left + 1) / 2 : SLIDE_RESULTS;
}

/* A line in tiles. */
FC_INLINE void slide_tiles(const fc_slide *line, const int x_lane, const int gradient) {
    fc_slide g = *line; /* a copy: the compiler knows that stores to y don't change it */
    for (ptrdiff_t v = 0; v < g.lanes; v += VL) {
        T *w = (T *)g.w + v / VL * g.w_vector, *b = g.b ? (T *)g.b + v / VL * g.b_vector : NULL;
        vec start = {0};
        if (!gradient && b) start = vload_upto(b, g.b_vector ? g.lanes - v : VL);
        ptrdiff_t inner_lo = 0, inner_hi = g.results;
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
            for (ptrdiff_t m = 0, n; m < g.results; m += n) {
                n = tile_results(g.results - m);
                const int inner = n == SLIDE_RESULTS && inner_lo <= m && m + n <= inner_hi;
                slide_tile(&g, m, n, v, w, b, start, inner, x_lane, gradient);
            }
        }
    }
}

/* `apart`: sources of neighbouring lanes are 2 apart. */
#define FC_SLIDE static __attribute__((noinline)) void
FC_SLIDE slide_adjacent(const fc_slide *g) { slide_tiles(g, 1, 0); }
FC_SLIDE slide_apart(const fc_slide *g) { slide_tiles(g, 2, 0); }
FC_SLIDE slide_back_adjacent(const fc_slide *g) { slide_tiles(g, 1, 1); }
FC_SLIDE slide_back_apart(const fc_slide *g) { slide_tiles(g, 2, 1); }

static void slide(const fc_slide *g) {
    if (MASKED_LOADS && g->x_lane == 2) slide_apart(g);
    else slide_adjacent(g);
}

static void slide_back(const fc_slide *g) {
    if (MASKED_LOADS && g->x_lane == 2) slide_back_apart(g);
    else slide_back_adjacent(g);
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
