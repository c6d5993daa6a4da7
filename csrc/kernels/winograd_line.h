/* Winograd convolution F(m, r) along rows, m + r = 9: transforms of tiles of one row and of rows of weights.
 *
 * All of them have the points 0, +-1/2, +-1, +-2, infinity, and so the same transform of the input; those of weights and
 * results are polynomials in the points, of as many coefficients as there are taps or results. Each pair of points shares
 * an even and an odd part. */

FC_INLINE vec scaled(T s, vec v) { return vset1(s) * v; }
FC_INLINE vec plus(T s, vec v, vec to) { return vfma(vset1(s), v, to); } /* to + s * v */

enum { LINE_PAIRS = 3, LINE_POINTS = FC_LINE_POINTS, LINE_MOST = LINE_POINTS - 1 }; /* taps or results, at most */

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

/* The polynomial of these coefficients at all points but infinity: G without its divisors, or A. */
FC_INLINE void line_values(const vec g[LINE_MOST], vec u[LINE_POINTS]) {
    u[0] = g[0];
#pragma GCC unroll 3
    for (int k = 0; k < LINE_PAIRS; k++) {
        const T square = line_point[k] * line_point[k];
        const vec even = plus(square, plus(square, plus(square, g[6], g[4]), g[2]), g[0]);
        const vec odd = plus(square, plus(square, g[5], g[3]), g[1]);
        u[2 * k + 1] = plus(line_point[k], odd, even);
        u[2 * k + 2] = plus(-line_point[k], odd, even);
    }
}

/* Its adjoint, with the divisors; infinity is the coefficient `last`. */
FC_INLINE void line_coefficients(const vec u[LINE_POINTS], ptrdiff_t last, vec g[LINE_MOST]) {
    vec part[2][LINE_PAIRS];
    T power[LINE_PAIRS] = {1, 1, 1};
#pragma GCC unroll 3
    for (int k = 0; k < LINE_PAIRS; k++) {
        part[0][k] = scaled(line_weight[k], u[2 * k + 1] + u[2 * k + 2]);
        part[1][k] = scaled(line_weight[k], u[2 * k + 1] - u[2 * k + 2]);
    }
#pragma GCC unroll 7
    for (int i = 0; i < LINE_MOST; i++) {
        const vec *p = part[i % 2];
        g[i] = plus(power[0], p[0], plus(power[2], p[2], p[1]));
        if (i == last) g[i] += u[LINE_POINTS - 1];
#pragma GCC unroll 3
        for (int k = 0; k < LINE_PAIRS; k++) power[k] *= line_point[k];
    }
    g[0] -= u[0];
}

/* Tiles of the input, of LINE_POINTS columns, or of results' gradients, of m, whose sums are taken on the way. */
FC_INLINE void line_tiles(const fc_winograd *w, const int gradient) {
    const ptrdiff_t reach = gradient ? w->m : LINE_POINTS, column = w->from_column;
    const ptrdiff_t end = w->lo[0] < w->hi[0] ? w->hi[1] : 0;
    for (ptrdiff_t c = 0; c < w->n; c += VL) {
        const ptrdiff_t lanes = w->n - c;
        vec sum = {0};
        for (ptrdiff_t t = 0, j = 0; t < w->tiles; t++, j += w->m) {
            const int whole = j >= w->lo[1] && j + LINE_POINTS <= end && lanes >= VL;
            const T *from = (const T *)w->from + j * column + c;
            T *to = (T *)w->to + t * w->to_tile + c;
            vec d[LINE_POINTS], u[LINE_POINTS], last = {0};
#pragma GCC unroll 8
            for (int i = 0; i < LINE_POINTS; i++) {
                d[i] = (vec){0};
                if (whole && (!gradient || i < reach)) d[i] = vload(from + i * column);
                else if (i < reach && j + i >= w->lo[1] && j + i < end) d[i] = vload_upto(from + i * column, lanes);
                if (gradient) sum += d[i];
                if (gradient && i == reach - 1) last = d[i];
            }
            if (gradient) {
                line_values(d, u);
                u[LINE_POINTS - 1] = last;
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
            const ptrdiff_t left = w->hi[1] - t * w->m, columns = left < w->m ? left : w->m, lanes = w->n - j;
            vec u[LINE_POINTS], y[LINE_MOST], start = {0};
            if (w->bias) start = vload_upto((const T *)w->bias + j, lanes);
#pragma GCC unroll 8
            for (int i = 0; i < LINE_POINTS; i++) u[i] = vload(from + i * w->from_point);
            line_coefficients(u, w->m - 1, y);
#pragma GCC unroll 7
            for (int i = 0; i < LINE_MOST; i++)
                if (i < columns) vstore_upto(to + i * w->to_column, clamp(y[i] + start, w->activation), lanes);
        }
}

FC_INLINE void line_weights(const fc_winograd *w) {
    const T *from = w->from;
    T *to = w->to;
    for (ptrdiff_t t = 0; t < w->tiles; t++, from += w->from_tile, to += w->to_tile)
        for (ptrdiff_t j = 0; j < w->n; j += VL) {
            vec g[LINE_MOST], u[LINE_POINTS], last = {0};
#pragma GCC unroll 7
            for (int s = 0; s < LINE_MOST; s++) {
                g[s] = s < w->taps ? vload(from + s * w->from_point + j) : (vec){0};
                if (s == LINE_POINTS - w->m) last = g[s];
            }
            line_values(g, u);
            u[LINE_POINTS - 1] = last;
#pragma GCC unroll 8
            for (int i = 0; i < LINE_POINTS; i++) vstore(to + i * w->to_point + j, u[i]);
        }
}

FC_INLINE void line_taps(const fc_winograd *w) {
    for (ptrdiff_t j = 0; j < w->tiles * w->n; j += VL) {
        vec u[LINE_POINTS], g[LINE_MOST];
#pragma GCC unroll 8
        for (int i = 0; i < LINE_POINTS; i++) u[i] = vload((const T *)w->from + i * w->from_point + j);
        line_coefficients(u, LINE_POINTS - w->m, g);
#pragma GCC unroll 7
        for (int s = 0; s < LINE_MOST; s++)
            if (s < w->taps) vstore((T *)w->to + s * w->to_point + j, g[s]);
    }
}
