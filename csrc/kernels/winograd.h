/* Winograd convolution F(m x m, 3 x 3), m = 2 or 4: transforms of tiles and weights (Lavin and Gray, "Fast
 * Algorithms for Convolutional Neural Networks", 2015). The products between them are the dense tile's.
 *
 * F(4) uses the points 0, +-a, +-b, infinity with a = 11/16 and b = 3/2, both exact in binary: as many
 * operations as the usual 0, +-1, +-2, and a third to a fifth of the error. Each pair of points shares an
 * even and an odd part. Transforms run over vectors of channels; a 2-D one is the 1-D one over columns,
 * then over rows. m is a constant wherever these are inlined. */

#define WA ((T)0.6875)
#define WB ((T)1.5)
#define WA2 (WA * WA)
#define WB2 (WB * WB)

enum { WINOGRAD_POINTS = 6 }; /* m + 2 of the larger one */

/* u = B^T d: m + 2 inputs to m + 2 points. */
FC_INLINE void input_points(const int m, const vec d[WINOGRAD_POINTS], vec u[WINOGRAD_POINTS]) {
    if (m == 2) {
        u[0] = d[0] - d[2];
        u[1] = d[1] + d[2];
        u[2] = d[2] - d[1];
        u[3] = d[1] - d[3];
        return;
    }
    const vec even_a = plus(-WB2, d[2], d[4]), odd_a = plus(-WB2, d[1], d[3]);
    const vec even_b = plus(-WA2, d[2], d[4]), odd_b = plus(-WA2, d[1], d[3]);
    u[0] = plus(WA2 * WB2, d[0], plus(-(WA2 + WB2), d[2], d[4]));
    u[1] = plus(WA, odd_a, even_a);
    u[2] = plus(-WA, odd_a, even_a);
    u[3] = plus(WB, odd_b, even_b);
    u[4] = plus(-WB, odd_b, even_b);
    u[5] = plus(WA2 * WB2, d[1], plus(-(WA2 + WB2), d[3], d[5]));
}

/* Divisors of the Lagrange polynomials, with the sign and the half of their pair. */
#define WN0 (1 / (WA2 * WB2))
#define WNA (1 / (2 * WA2 * (WA2 - WB2)))
#define WNB (1 / (2 * WB2 * (WB2 - WA2)))

/* y = A^T z: m + 2 points to m outputs. The divisors that U lacks are applied here. */
FC_INLINE void output_points(const int m, const vec z[WINOGRAD_POINTS], vec y[4]) {
    if (m == 2) {
        y[0] = plus((T)0.5, z[1] + z[2], z[0]);
        y[1] = plus((T)0.5, z[1] - z[2], -z[3]);
        return;
    }
    const vec sum_a = z[1] + z[2], odd_a = z[1] - z[2], sum_b = z[3] + z[4], odd_b = z[3] - z[4];
    y[0] = plus(WNA, sum_a, plus(WNB, sum_b, scaled(WN0, z[0])));
    y[1] = plus(WNA * WA, odd_a, scaled(WNB * WB, odd_b));
    y[2] = plus(WNA * WA2, sum_a, scaled(WNB * WB2, sum_b));
    y[3] = plus(WNA * WA2 * WA, odd_a, plus(WNB * WB2 * WB, odd_b, z[5]));
}

/* u = G g: 3 weights to m + 2 points, without the divisors. */
FC_INLINE void weight_points(const int m, const vec g[3], vec u[WINOGRAD_POINTS]) {
    u[0] = g[0];
    if (m == 2) {
        const vec sum = g[0] + g[2];
        u[1] = sum + g[1];
        u[2] = sum - g[1];
        u[3] = g[2];
        return;
    }
    const vec even_a = plus(WA2, g[2], g[0]), even_b = plus(WB2, g[2], g[0]);
    u[1] = plus(WA, g[1], even_a);
    u[2] = plus(-WA, g[1], even_a);
    u[3] = plus(WB, g[1], even_b);
    u[4] = plus(-WB, g[1], even_b);
    u[5] = g[2];
}

/* z = A y: m gradients of results to m + 2 points (the adjoint of output_points). */
FC_INLINE void gradient_points(const int m, const vec y[4], vec z[WINOGRAD_POINTS]) {
    if (m == 2) {
        z[0] = y[0];
        z[1] = y[0] + y[1];
        z[2] = y[0] - y[1];
        z[3] = -y[1];
        return;
    }
    const vec even_a = plus(WA2, y[2], y[0]), odd_a = plus(WA2, y[3], y[1]);
    const vec even_b = plus(WB2, y[2], y[0]), odd_b = plus(WB2, y[3], y[1]);
    z[0] = y[0];
    z[1] = plus(WA, odd_a, even_a);
    z[2] = plus(-WA, odd_a, even_a);
    z[3] = plus(WB, odd_b, even_b);
    z[4] = plus(-WB, odd_b, even_b);
    z[5] = y[3];
}

/* g = G^T u: m + 2 points to 3 weights (the adjoint of weight_points). */
FC_INLINE void tap_points(const int m, const vec u[WINOGRAD_POINTS], vec g[3]) {
    if (m == 2) {
        const vec sum = scaled((T)0.5, u[1] + u[2]);
        g[0] = u[0] + sum;
        g[1] = scaled((T)0.5, u[1] - u[2]);
        g[2] = u[3] + sum;
        return;
    }
    const vec sum_a = scaled(WNA, u[1] + u[2]), odd_a = scaled(WNA * WA, u[1] - u[2]);
    const vec sum_b = scaled(WNB, u[3] + u[4]), odd_b = scaled(WNB * WB, u[3] - u[4]);
    g[0] = plus(WN0, u[0], sum_a + sum_b);
    g[1] = odd_a + odd_b;
    g[2] = plus(WA2, sum_a, plus(WB2, sum_b, u[5]));
}

/* One transform down the columns of a few tiles, whose points stay in L1, then one along their rows: neighbouring tiles
 * share columns, so the first is done once for both. Input: patches of m + 2; gradient: of m, whose sums are taken on
 * the way. */
enum { STEP_TILES = 4, STEP_COLUMNS = 4 * STEP_TILES + 2 };

FC_INLINE void points_of(const int m, const int gradient, const vec d[WINOGRAD_POINTS], vec u[WINOGRAD_POINTS]) {
    if (gradient) gradient_points(m, d, u);
    else input_points(m, d, u);
}

/* Columns [begin, end) of the run; returns the sum of what they hold. */
FC_INLINE vec step_columns(const fc_winograd *w, const int m, const int gradient, ptrdiff_t c, ptrdiff_t begin,
                           ptrdiff_t end, vec half[WINOGRAD_POINTS][STEP_COLUMNS], vec sum) {
    const int reach = gradient ? m : m + 2;
    const ptrdiff_t row = w->from_row, lanes = w->n - c;
    const int whole = w->lo[0] == 0 && w->hi[0] >= reach && lanes >= VL;
    const T *from = (const T *)w->from + begin * w->from_column + c;
    for (ptrdiff_t j = begin; j < end; j++, from += w->from_column) {
        vec d[WINOGRAD_POINTS], u[WINOGRAD_POINTS] = {{0}};
        if (j >= w->lo[1] && j < w->hi[1]) {
#pragma GCC unroll 6
            for (int i = 0; i < reach; i++) {
                d[i] = (vec){0};
                if (whole) d[i] = vload(from + i * row);
                else if (i >= w->lo[0] && i < w->hi[0]) d[i] = vload_upto(from + i * row, lanes);
                if (gradient) sum += d[i];
            }
            points_of(m, gradient, d, u);
        }
#pragma GCC unroll 6
        for (int i = 0; i < m + 2; i++) half[i][j - begin] = u[i];
    }
    return sum;
}

FC_INLINE void step_rows(const int m, const int gradient, ptrdiff_t tiles, vec half[WINOGRAD_POINTS][STEP_COLUMNS],
                         T *to, ptrdiff_t to_tile, ptrdiff_t point) {
    for (ptrdiff_t t = 0; t < tiles; t++, to += to_tile)
        for (int i = 0; i < m + 2; i++) {
            vec u[WINOGRAD_POINTS];
            points_of(m, gradient, half[i] + m * t, u);
#pragma GCC unroll 6
            for (int j = 0; j < m + 2; j++) vstore(to + (i * (m + 2) + j) * point, u[j]);
        }
}

FC_INLINE void transform_run(const fc_winograd *w, const int m, const int gradient) {
    vec half[WINOGRAD_POINTS][STEP_COLUMNS];
    for (ptrdiff_t c = 0; c < w->n; c += VL) {
        vec sum = {0};
        for (ptrdiff_t t = 0; t < w->tiles; t += STEP_TILES) {
            const ptrdiff_t tiles = w->tiles - t < STEP_TILES ? w->tiles - t : STEP_TILES;
            sum = step_columns(w, m, gradient, c, m * t, m * (t + tiles) + (gradient ? 0 : 2), half, sum);
            step_rows(m, gradient, tiles, half, (T *)w->to + t * w->to_tile + c, w->to_tile, w->to_point);
        }
        if (gradient) vstore((T *)w->column_sum + c, vload((T *)w->column_sum + c) + sum);
    }
}

static void winograd_input(const fc_winograd *w) {
    if (w->line) line_tiles(w, 0);
    else if (w->m == 4) transform_run(w, 4, 0);
    else transform_run(w, 2, 0);
}

static void winograd_gradient(const fc_winograd *w) {
    if (w->line) line_tiles(w, 1);
    else if (w->m == 4) transform_run(w, 4, 1);
    else transform_run(w, 2, 1);
}

FC_INLINE void output_tile(const int m, const fc_winograd *w, ptrdiff_t t, ptrdiff_t j, vec start) {
    const T *from = (const T *)w->from + t * w->from_tile + j;
    T *to = (T *)w->to + m * t * w->to_column + j;
    const ptrdiff_t rows = w->hi[0], columns = w->hi[1] - m * t, lanes = w->n - j;
    vec half[4][WINOGRAD_POINTS], y[4][4];
#pragma GCC unroll 6
    for (int b = 0; b < m + 2; b++) {
        vec z[WINOGRAD_POINTS], o[4];
#pragma GCC unroll 6
        for (int a = 0; a < m + 2; a++) z[a] = vload(from + (a * (m + 2) + b) * w->from_point);
        output_points(m, z, o);
#pragma GCC unroll 4
        for (int a = 0; a < m; a++) half[a][b] = o[a];
    }
    const vec top = clamp_top(w->activation);
#pragma GCC unroll 4
    for (int a = 0; a < m; a++) {
        output_points(m, half[a], y[a]);
#pragma GCC unroll 4
        for (int b = 0; b < m; b++) y[a][b] += start;
        if (w->activation != FC_IDENTITY)
#pragma GCC unroll 4
            for (int b = 0; b < m; b++) y[a][b] = vclamp(y[a][b], top);
    }
    const int whole = rows >= m && columns >= m && lanes >= VL;
#pragma GCC unroll 4
    for (int a = 0; a < m; a++)
#pragma GCC unroll 4
        for (int b = 0; b < m; b++) {
            T *at = to + a * w->to_row + b * w->to_column;
            if (STORES_PAST && m == 4 && whole && w->past) vstore_past(at, y[a][b]);
            else if (whole) vstore(at, y[a][b]);
            else if (a < rows && b < columns) vstore_upto(at, y[a][b], lanes);
        }
}

static void winograd_output(const fc_winograd *w) {
    if (w->line) {
        line_output(w);
        return;
    }
    for (ptrdiff_t t = 0; t < w->tiles; t++)
        for (ptrdiff_t j = 0; j < w->n; j += VL) {
            vec start = {0};
            if (w->bias) start = vload_upto((const T *)w->bias + j, w->n - j);
            if (w->m == 4) output_tile(4, w, t, j, start);
            else output_tile(2, w, t, j, start);
        }
    if (STORES_PAST && w->past) fence_past();
}

FC_INLINE void weight_tile(const int m, const T *from, ptrdiff_t tap, T *to, ptrdiff_t point) {
    vec t[WINOGRAD_POINTS][3];
#pragma GCC unroll 3
    for (int s = 0; s < 3; s++) {
        vec g[3], u[WINOGRAD_POINTS];
#pragma GCC unroll 3
        for (int r = 0; r < 3; r++) g[r] = vload(from + (r * 3 + s) * tap);
        weight_points(m, g, u);
#pragma GCC unroll 6
        for (int i = 0; i < m + 2; i++) t[i][s] = u[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < m + 2; i++) {
        vec u[WINOGRAD_POINTS];
        weight_points(m, t[i], u);
#pragma GCC unroll 6
        for (int j = 0; j < m + 2; j++) vstore(to + (i * (m + 2) + j) * point, u[j]);
    }
}

static void winograd_weight(const fc_winograd *w) {
    if (w->line) {
        line_weights(w);
        return;
    }
    const T *from = w->from;
    T *to = w->to;
    for (ptrdiff_t t = 0; t < w->tiles; t++, from += w->from_tile, to += w->to_tile)
        for (ptrdiff_t j = 0; j < w->n; j += VL)
            if (w->m == 4) weight_tile(4, from + j, w->from_point, to + j, w->to_point);
            else weight_tile(2, from + j, w->from_point, to + j, w->to_point);
}

FC_INLINE void tap_tile(const int m, const T *from, ptrdiff_t point, T *to, ptrdiff_t tap) {
    vec t[3][WINOGRAD_POINTS];
#pragma GCC unroll 6
    for (int j = 0; j < m + 2; j++) {
        vec u[WINOGRAD_POINTS], g[3];
#pragma GCC unroll 6
        for (int i = 0; i < m + 2; i++) u[i] = vload(from + (i * (m + 2) + j) * point);
        tap_points(m, u, g);
#pragma GCC unroll 3
        for (int r = 0; r < 3; r++) t[r][j] = g[r];
    }
#pragma GCC unroll 3
    for (int r = 0; r < 3; r++) {
        vec g[3];
        tap_points(m, t[r], g);
#pragma GCC unroll 3
        for (int q = 0; q < 3; q++) vstore(to + (r * 3 + q) * tap, g[q]);
    }
}

static void winograd_taps(const fc_winograd *w) {
    if (w->line) {
        line_taps(w);
        return;
    }
    const T *from = w->from;
    T *to = w->to;
    for (ptrdiff_t i = 0; i < w->tiles * w->n; i += VL)
        if (w->m == 4) tap_tile(4, from + i, w->from_point, to + i, w->to_point);
        else tap_tile(2, from + i, w->from_point, to + i, w->to_point);
}

/* Few tiles: each U is used so rarely that storing it would cost more than it saves. Weights transformed down their
 * columns become one row of points at a time, in registers, which is multiplied by FUSED_TILES tiles at once. The first
 * and the last row of points take the weights as they are. */
enum { FUSED_TILES = FC_NV }; /* times six points: as many accumulators as there are registers for */

/* One row of points: sums of v[p][t][c] * U[p][c] over the steps c. */
FC_INLINE void fused_row(const int m, const fc_fused *f, const T *half, ptrdiff_t tap, ptrdiff_t step, const T *v,
                         T *sums, T *to) {
    const ptrdiff_t to_point = f->to_point, to_tile = f->to_tile;
    vec acc[WINOGRAD_POINTS][FUSED_TILES];
#pragma GCC unroll 6
    for (int p = 0; p < m + 2; p++)
#pragma GCC unroll 4
        for (int t = 0; t < FUSED_TILES; t++)
            acc[p][t] = f->first ? (vec){0} : vload(sums + (p * FUSED_TILES + t) * VL);
    for (const T *const end = v + f->steps; v != end; half += step, v++) {
        const vec g[3] = {vload(half), vload(half + tap), vload(half + 2 * tap)};
        vec u[WINOGRAD_POINTS];
        weight_points(m, g, u);
#pragma GCC unroll 6
        for (int p = 0; p < m + 2; p++)
#pragma GCC unroll 4
            for (int t = 0; t < FUSED_TILES; t++)
                acc[p][t] = vfma(vset1(v[(p * FUSED_TILES + t) * FC_FUSED_STEPS]), u[p], acc[p][t]);
    }
    if (!f->last) {
#pragma GCC unroll 6
        for (int p = 0; p < m + 2; p++)
#pragma GCC unroll 4
            for (int t = 0; t < FUSED_TILES; t++) vstore(sums + (p * FUSED_TILES + t) * VL, acc[p][t]);
        return;
    }
#pragma GCC unroll 6
    for (int p = 0; p < m + 2; p++, to += to_point)
#pragma GCC unroll 4
        for (int t = 0; t < FUSED_TILES; t++) {
            T *at = to + t * to_tile;
            if (f->accumulate) acc[p][t] = vload(at) + acc[p][t];
            vstore(at, acc[p][t]);
        }
}

FC_INLINE void fused_rows(const int m, const fc_fused *f) {
    enum { STEPS = FC_FUSED_STEPS, ROW = 3 * STEPS };
    const T *from = f->from;
    vec half[4 * ROW];
    for (ptrdiff_t c = 0; c < f->steps; c++)
#pragma GCC unroll 3
        for (int s = 0; s < 3; s++) {
            vec g[3], u[WINOGRAD_POINTS];
#pragma GCC unroll 3
            for (int r = 0; r < 3; r++) g[r] = vload(from + (r * 3 + s) * f->from_point + c * f->from_tile);
            weight_points(m, g, u);
#pragma GCC unroll 4
            for (int i = 0; i < m; i++) half[i * ROW + c * 3 + s] = u[i + 1];
        }
    for (ptrdiff_t group = 0; group < f->groups; group++)
        for (int i = 0; i < m + 2; i++) {
            const int inner = i > 0 && i <= m;
            const ptrdiff_t point = (group * (m + 2) + i) * (m + 2), tap = inner ? VL : f->from_point;
            fc_prefetch(f->ahead);
            fused_row(m, f, inner ? (const T *)(half + (i - 1) * ROW) : i ? from + 6 * tap : from, tap,
                      inner ? 3 * VL : f->from_tile, (const T *)f->v + point * FUSED_TILES * STEPS,
                      (T *)f->sums + point * FUSED_TILES * VL,
                      (T *)f->to + i * (m + 2) * f->to_point + group * FUSED_TILES * f->to_tile);
        }
}

static void winograd_fused(const fc_fused *f) {
    if (f->m == 4) fused_rows(4, f);
    else fused_rows(2, f);
}

/* Backward-weight with few tiles: dU is never stored. One row of its points is summed up in registers, for FUSED_TILES
 * channels at a time, and transformed to three values; those of all rows are transformed to the taps. */
FC_INLINE void fused_taps_row(const int m, const fc_fused_taps *f, const T *v, const T *z, vec *half) {
    enum { STEPS = FC_FUSED_STEPS, CHANNELS = FUSED_TILES };
    const ptrdiff_t points = (m + 2) * (m + 2);
    for (ptrdiff_t c = 0; c < f->channels; c += CHANNELS) {
        vec acc[WINOGRAD_POINTS][CHANNELS] = {{{0}}};
        for (ptrdiff_t t = 0; t < f->tiles; t++)
#pragma GCC unroll 6
            for (int p = 0; p < m + 2; p++) {
                const vec g = vload(z + (t * points + p) * VL);
#pragma GCC unroll 4
                for (int k = 0; k < CHANNELS; k++)
                    acc[p][k] = vfma(vset1(v[(t * points + p) * STEPS + c + k]), g, acc[p][k]);
            }
#pragma GCC unroll 4
        for (int k = 0; k < CHANNELS; k++) {
            vec u[WINOGRAD_POINTS], g[3];
#pragma GCC unroll 6
            for (int p = 0; p < m + 2; p++) u[p] = acc[p][k];
            tap_points(m, u, g);
#pragma GCC unroll 3
            for (int s = 0; s < 3; s++) half[s * STEPS + c + k] = g[s];
        }
    }
}

FC_INLINE void fused_taps(const int m, const fc_fused_taps *f) {
    enum { STEPS = FC_FUSED_STEPS };
    vec half[WINOGRAD_POINTS][3 * STEPS];
    for (int i = 0; i < m + 2; i++)
        fused_taps_row(m, f, (const T *)f->v + i * (m + 2) * STEPS, (const T *)f->z + i * (m + 2) * VL, half[i]);
    for (ptrdiff_t c = 0; c < f->channels; c++)
#pragma GCC unroll 3
        for (int s = 0; s < 3; s++) {
            vec u[WINOGRAD_POINTS], g[3];
#pragma GCC unroll 6
            for (int i = 0; i < m + 2; i++) u[i] = half[i][s * STEPS + c];
            tap_points(m, u, g);
#pragma GCC unroll 3
            for (int r = 0; r < 3; r++) vstore((T *)f->to + (3 * r + s) * f->to_tap + c * f->to_channel, g[r]);
        }
}

static void winograd_fused_taps(const fc_fused_taps *f) {
    if (f->m == 4) fused_taps(4, f);
    else fused_taps(2, f);
}
