/* Winograd convolution F(m, r) along rows, m + r = 9: transforms of tiles of one row and of rows of weights.
 *
 * All of them have the points 0, +-1/2, +-1, +-2, infinity, and so the same transform of the input; those of weights
 * and results are polynomials in the points, of as many coefficients as there are taps or results. Each pair of points
 * shares an even and an odd part. */

FC_INLINE vec scaled(T s, vec v) { return vset1(s) * v; }
FC_INLINE vec plus(T s, vec v, vec to) { return vfma(vset1(s), v, to); } /* to + s * v */

enum { LINE_PAIRS = 3, LINE_POINTS = FC_LINE_POINTS, LINE_MOST = LINE_POINTS - 1 }; /* taps or results, at most */

static const T line_point[LINE_PAIRS] = {0.5, 1, 2};
/* Coefficients of 1 and x in the product of x - p^2 over the points p of the other pairs. */
static const T line_others[LINE_PAIRS][2] = {{4, -5}, {1, -4.25}, {0.25, -1.25}};
/* Divisors of the Lagrange polynomials, with the half of their pair; that of 0 is -1. */
static const T line_weight[LINE_PAIRS] = {(T)1 / (T)1.40625, (T)1 / (T)-4.5, (T)1 / (T)90};

/* to = B^T from: LINE_POINTS vectors each, `step` and `point` elements apart. */
static __attribute__((noinline)) void line_input(const T *from, ptrdiff_t step, T *to, ptrdiff_t point) {
    vec d[LINE_POINTS];
#pragma GCC unroll 8
    for (int i = 0; i < LINE_POINTS; i++) d[i] = vload(from + i * step);
    vstore(to, plus((T)5.25, d[2] - d[4], d[6] - d[0]));
#pragma GCC unroll 3
    for (int k = 0; k < LINE_PAIRS; k++) {
        const T *c = line_others[k];
        const vec even = plus(c[1], d[4], plus(c[0], d[2], d[6])), odd = plus(c[1], d[3], plus(c[0], d[1], d[5]));
        vstore(to + (2 * k + 1) * point, plus(line_point[k], odd, even));
        vstore(to + (2 * k + 2) * point, plus(-line_point[k], odd, even));
    }
    vstore(to + LINE_MOST * point, plus((T)5.25, d[3] - d[5], d[7] - d[1]));
}

/* The polynomial with coefficients g[0] to g[last] at all points: G without its divisors, or A. Later g are zeros. */
static __attribute__((noinline)) void line_values(const vec g[LINE_MOST], ptrdiff_t last, T *to, ptrdiff_t point) {
    vstore(to, g[0]);
#pragma GCC unroll 3
    for (int k = 0; k < LINE_PAIRS; k++) {
        const T square = line_point[k] * line_point[k];
        const vec even = plus(square, plus(square, plus(square, g[6], g[4]), g[2]), g[0]);
        const vec odd = plus(square, plus(square, g[5], g[3]), g[1]);
        vstore(to + (2 * k + 1) * point, plus(line_point[k], odd, even));
        vstore(to + (2 * k + 2) * point, plus(-line_point[k], odd, even));
    }
    vstore(to + LINE_MOST * point, g[last]);
}

/* Its adjoint, with the divisors. */
static __attribute__((noinline)) void line_coefficients(const T *from, ptrdiff_t point, ptrdiff_t last,
                                                        vec g[LINE_MOST]) {
    vec part[2][LINE_PAIRS];
    T power[LINE_PAIRS] = {1, 1, 1};
#pragma GCC unroll 3
    for (int k = 0; k < LINE_PAIRS; k++) {
        const vec plus_p = vload(from + (2 * k + 1) * point), minus_p = vload(from + (2 * k + 2) * point);
        part[0][k] = scaled(line_weight[k], plus_p + minus_p);
        part[1][k] = scaled(line_weight[k], plus_p - minus_p);
    }
#pragma GCC unroll 7
    for (int i = 0; i < LINE_MOST; i++) {
        const vec *p = part[i % 2];
        g[i] = plus(power[0], p[0], plus(power[2], p[2], p[1]));
#pragma GCC unroll 3
        for (int k = 0; k < LINE_PAIRS; k++) power[k] *= line_point[k];
    }
    g[0] -= vload(from);
    g[last] += vload(from + LINE_MOST * point);
}

/* Transform tiles of the input, LINE_POINTS columns each, or of dy, m columns each, whose column sums are added up. */
static __attribute__((noinline)) void line_tiles(const fc_winograd *w, int gradient) {
    const ptrdiff_t reach = gradient ? w->m : LINE_POINTS, column = w->from_column;
    const ptrdiff_t lo = w->lo[1], hi = w->lo[0] < w->hi[0] ? w->hi[1] : 0;
    for (ptrdiff_t c = 0; c < w->n; c += VL) {
        const ptrdiff_t lanes = w->n - c;
        vec sum = {0}, d[LINE_POINTS] = {{0}};
        for (ptrdiff_t t = 0, j = 0; t < w->tiles; t++, j += w->m) {
            const T *from = (const T *)w->from + j * column + c;
            T *to = (T *)w->to + t * w->to_tile + c;
            if (!gradient && j >= lo && j + LINE_POINTS <= hi && lanes >= VL) {
                line_input(from, column, to, w->to_point);
                continue;
            }
            for (ptrdiff_t i = 0; i < reach; i++) {
                d[i] = (vec){0};
                if (j + i >= lo && j + i < hi) d[i] = vload_upto(from + i * column, lanes);
                sum += d[i];
            }
            if (gradient) line_values(d, reach - 1, to, w->to_point);
            else line_input((const T *)d, VL, to, w->to_point);
        }
        if (gradient) vstore((T *)w->column_sum + c, vload((T *)w->column_sum + c) + sum);
    }
}

static __attribute__((noinline)) void line_output(const fc_winograd *w) {
    const vec top = clamp_top(w->activation);
    for (ptrdiff_t t = 0; t < w->tiles; t++)
        for (ptrdiff_t j = 0; j < w->n; j += VL) {
            T *to = (T *)w->to + t * w->m * w->to_column + j;
            const ptrdiff_t left = w->hi[1] - t * w->m, lanes = w->n - j;
            vec y[LINE_MOST], start = {0};
            if (w->bias) start = vload_upto((const T *)w->bias + j, lanes);
            line_coefficients((const T *)w->from + t * w->from_tile + j, w->from_point, w->m - 1, y);
            for (ptrdiff_t i = 0; i < w->m && i < left; i++, to += w->to_column) {
                vec v = y[i] + start;
                if (w->activation != FC_IDENTITY) v = vclamp(v, top);
                vstore_upto(to, v, lanes);
            }
        }
}

static __attribute__((noinline)) void line_weights(const fc_winograd *w) {
    vec g[LINE_MOST] = {{0}};
    for (ptrdiff_t t = 0; t < w->tiles; t++)
        for (ptrdiff_t j = 0; j < w->n; j += VL) {
            for (ptrdiff_t s = 0; s < w->taps; s++)
                g[s] = vload((const T *)w->from + s * w->from_point + t * w->from_tile + j);
            line_values(g, LINE_POINTS - w->m, (T *)w->to + t * w->to_tile + j, w->to_point);
        }
}

static __attribute__((noinline)) void line_taps(const fc_winograd *w) {
    for (ptrdiff_t j = 0; j < w->tiles * w->n; j += VL) {
        vec g[LINE_MOST];
        line_coefficients((const T *)w->from + j, w->from_point, LINE_POINTS - w->m, g);
        for (ptrdiff_t s = 0; s < w->taps; s++) vstore((T *)w->to + s * w->to_point + j, g[s]);
    }
}
