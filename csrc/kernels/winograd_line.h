/* Winograd convolution F(m, r) along rows, m + r = 9: transforms of tiles of one row and of rows of weights.
 *
 * All of them have the points 0, +-1/2, +-1, +-2, infinity, and so the same transform of the input; those of weights and
 * results are polynomials in the points, of as many coefficients as there are taps or results. Each pair of points shares
 * an even and an odd part. */

FC_INLINE vec scaled(T s, vec v) { return vset1(s) * v; }
FC_INLINE vec plus(T s, vec v, vec to) { return vfma(vset1(s), v, to); } /* to + s * v */

enum { LINE_PAIRS = 3, LINE_POINTS = FC_LINE_POINTS };

static const T line_point[LINE_PAIRS] = {0.5, 1, 2};
/* Coefficients of 1 and x in the product of x - p^2 over the points p of the other pairs. */
static const T line_others[LINE_PAIRS][2] = {{4, -5}, {1, -4.25}, {0.25, -1.25}};
/* Divisors of the Lagrange polynomials, with the half of their pair; that of 0 is -1. */
static const T line_weight[LINE_PAIRS] = {(T)1 / (T)1.40625, (T)1 / (T)-4.5, (T)1 / (T)90};

/* u = B^T d. */
FC_INLINE void line_input(const vec d[LINE_POINTS], vec u[LINE_POINTS]) {
    u[0] = plus((T)5.25, d[2] - d[4], d[6] - d[0]);
    u[LINE_POINTS - 1] = plus((T)5.25, d[3] - d[5], d[7] - d[1]);
#pragma GCC unroll 3
    for (int k = 0; k < LINE_PAIRS; k++) {
        const T *c = line_others[k];
        const vec even = plus(c[1], d[4], plus(c[0], d[2], d[6])), odd = plus(c[1], d[3], plus(c[0], d[1], d[5]));
        u[2 * k + 1] = plus(line_point[k], odd, even);
        u[2 * k + 2] = plus(-line_point[k], odd, even);
    }
}

/* The polynomial of n coefficients, g[n] being zero, at all points but infinity: G without its divisors, or A. */
FC_INLINE void line_values(const vec g[LINE_POINTS], ptrdiff_t n, vec u[LINE_POINTS]) {
    vec even[LINE_PAIRS] = {{0}}, odd[LINE_PAIRS] = {{0}};
    for (ptrdiff_t i = (n - 1) / 2 * 2; i >= 0; i -= 2)
#pragma GCC unroll 3
        for (int k = 0; k < LINE_PAIRS; k++) {
            const T square = line_point[k] * line_point[k];
            even[k] = plus(square, even[k], g[i]);
            odd[k] = plus(square, odd[k], g[i + 1]);
        }
    u[0] = g[0];
#pragma GCC unroll 3
    for (int k = 0; k < LINE_PAIRS; k++) {
        u[2 * k + 1] = plus(line_point[k], odd[k], even[k]);
        u[2 * k + 2] = plus(-line_point[k], odd[k], even[k]);
    }
}

/* Its adjoint, with the divisors: n coefficients of all points but infinity. */
FC_INLINE void line_coefficients(const vec u[LINE_POINTS], ptrdiff_t n, vec g[LINE_POINTS]) {
    vec even[LINE_PAIRS], odd[LINE_PAIRS];
#pragma GCC unroll 3
    for (int k = 0; k < LINE_PAIRS; k++) {
        even[k] = scaled(line_weight[k], u[2 * k + 1] + u[2 * k + 2]);
        odd[k] = scaled(line_weight[k] * line_point[k], u[2 * k + 1] - u[2 * k + 2]);
    }
    for (ptrdiff_t i = 0; i < n; i += 2) {
        g[i] = even[0] + (even[1] + even[2]);
        g[i + 1] = odd[0] + (odd[1] + odd[2]);
#pragma GCC unroll 3
        for (int k = 0; k < LINE_PAIRS; k++) {
            even[k] = scaled(line_point[k] * line_point[k], even[k]);
            odd[k] = scaled(line_point[k] * line_point[k], odd[k]);
        }
    }
    g[0] -= u[0];
}

/* Tiles of the input, of LINE_POINTS columns, or of results' gradients, of m, whose sums are taken on the way. */
FC_INLINE void line_tiles(const fc_winograd *w, const int gradient) {
    const int reach = gradient ? w->m : LINE_POINTS;
    for (ptrdiff_t c = 0; c < w->n; c += VL) {
        vec sum = {0};
        for (ptrdiff_t t = 0; t < w->tiles; t++) {
            const ptrdiff_t j = t * w->m, lo = w->lo[1] - j, hi = w->lo[0] < w->hi[0] ? w->hi[1] - j : 0;
            const T *from = (const T *)w->from + j * w->from_column + c;
            T *to = (T *)w->to + t * w->to_tile + c;
            vec d[LINE_POINTS] = {{0}}, u[LINE_POINTS];
            for (int i = 0; i < reach; i++, from += w->from_column)
                if (i >= lo && i < hi) d[i] = vload_upto(from, w->n - c);
            if (gradient) {
                for (int i = 0; i < reach; i++) sum += d[i];
                line_values(d, reach, u);
                u[LINE_POINTS - 1] = d[reach - 1];
            } else {
                line_input(d, u);
            }
#pragma GCC unroll 8
            for (int i = 0; i < LINE_POINTS; i++) vstore(to + i * w->to_point, u[i]);
        }
        if (gradient) vstore((T *)w->column_sum + c, vload((T *)w->column_sum + c) + sum);
    }
}

FC_INLINE void line_output(const fc_winograd *w) {
    for (ptrdiff_t t = 0; t < w->tiles; t++)
        for (ptrdiff_t j = 0; j < w->n; j += VL) {
            const T *from = (const T *)w->from + t * w->from_tile + j;
            T *to = (T *)w->to + t * w->m * w->to_column + j;
            const ptrdiff_t columns = w->hi[1] - t * w->m;
            vec u[LINE_POINTS], y[LINE_POINTS], start = {0};
            if (w->bias) start = vload_upto((const T *)w->bias + j, w->n - j);
#pragma GCC unroll 8
            for (int i = 0; i < LINE_POINTS; i++) u[i] = vload(from + i * w->from_point);
            line_coefficients(u, w->m, y);
            y[w->m - 1] += u[LINE_POINTS - 1];
            for (ptrdiff_t i = 0; i < w->m && i < columns; i++, to += w->to_column)
                vstore_upto(to, clamp(y[i] + start, w->activation), w->n - j);
        }
}

/* Taps from w->taps on are zeros. */
FC_INLINE void line_weights(const fc_winograd *w) {
    const int most = LINE_POINTS + 1 - w->m;
    const T *from = w->from;
    T *to = w->to;
    for (ptrdiff_t t = 0; t < w->tiles; t++, from += w->from_tile, to += w->to_tile)
        for (ptrdiff_t j = 0; j < w->n; j += VL) {
            vec g[LINE_POINTS] = {{0}}, u[LINE_POINTS];
            for (ptrdiff_t s = 0; s < w->taps; s++) g[s] = vload(from + s * w->from_point + j);
            line_values(g, w->taps, u);
            u[LINE_POINTS - 1] = g[most - 1];
#pragma GCC unroll 8
            for (int i = 0; i < LINE_POINTS; i++) vstore(to + i * w->to_point + j, u[i]);
        }
}

FC_INLINE void line_taps(const fc_winograd *w) {
    const int most = LINE_POINTS + 1 - w->m;
    for (ptrdiff_t j = 0; j < w->tiles * w->n; j += VL) {
        vec u[LINE_POINTS], g[LINE_POINTS];
#pragma GCC unroll 8
        for (int i = 0; i < LINE_POINTS; i++) u[i] = vload((const T *)w->from + i * w->from_point + j);
        line_coefficients(u, most, g);
        g[most - 1] += u[LINE_POINTS - 1];
        for (ptrdiff_t s = 0; s < w->taps; s++) vstore((T *)w->to + s * w->to_point + j, g[s]);
    }
}
