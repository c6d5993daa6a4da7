/* Dense products whose sums are short: Winograd's, as short as a layer has channels, and those of few channels and
 * taps. Rows of a and of c are evenly spaced and columns are whole vectors, so that tiles hold no pointers and begin
 * and end at once. */

enum { PRODUCT_ROWS = 4 }; /* heights of tiles are multiples of this; rows of a come in quads with one pointer */

/* Rows [0, mr) of the first `rows`; a is read for all of them. nv and mr are constants after inlining. */
FC_INLINE void product_tile(const fc_products *p, const T *a, const T *b, T *c, ptrdiff_t rows, const int mr,
                            const int nv) {
    const ptrdiff_t width = nv * VL, row = p->a_row, quad = PRODUCT_ROWS * row, step = p->a_step;
    static const T zeros[FC_NV * LANES], nothing[] = {[0 ... FC_NV * LANES - 1] = -(T)0};
    const T *bias = p->bias ? p->bias : zeros;
    vec acc[MR_MAX][FC_NV];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        const vec start = vload(bias + v * VL);
#pragma GCC unroll 12
        for (int m = 0; m < mr; m++) acc[m][v] = start;
    }
    for (ptrdiff_t s = 0; s < p->segs; s++, a += p->a_seg) {
        const T *at[3] = {a, a + quad, a + 2 * quad};
        for (const T *const end = b + p->len * width; b != end; b += width) {
            vec w[FC_NV];
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) w[v] = vload(b + v * VL);
#pragma GCC unroll 12
            for (int m = 0; m < mr; m++) {
                const vec x = vset1(at[m / PRODUCT_ROWS][m % PRODUCT_ROWS * row]);
#pragma GCC unroll 4
                for (int v = 0; v < nv; v++) acc[m][v] = vfma(x, w[v], acc[m][v]);
            }
#pragma GCC unroll 3
            for (int i = 0; i < (mr + PRODUCT_ROWS - 1) / PRODUCT_ROWS; i++) at[i] += step;
        }
    }
    const T *to_add = p->accumulate ? c : nothing; /* x + -0.0 is x for every x */
    const ptrdiff_t c_row = p->c_row, add_row = p->accumulate ? c_row : 0;
    const vec top = clamp_top(p->activation);
#pragma GCC unroll 12
    for (int m = 0; m < mr; m++, c += c_row, to_add += add_row) {
        if (m == rows) return;
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[m][v] += vload(to_add + v * VL);
        if (p->activation != FC_IDENTITY)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[m][v] = vclamp(acc[m][v], top);
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) vstore(c + v * VL, acc[m][v]);
    }
}

/* Tiles of two heights, 3 : 2 or 4 : 3, so that hardly any row is calculated that doesn't exist. The last tile begins
 * early rather than to read rows that don't exist, where that changes nothing. */
FC_INLINE void product(const fc_products *p, const T *a, const T *b, T *c, const int nv, const int high) {
    const int low = (high + 1) * 2 / 3;
    const ptrdiff_t rest = p->rows % high, lows = rest ? (high - rest) / (high - low) : 0;
    for (ptrdiff_t m = 0, left = p->rows; left > 0;) {
        const int mr = left > lows * low ? high : low;
        if (left < mr && p->rows >= mr && !p->accumulate) {
            m = p->rows - mr;
            left = mr;
        }
        T *to = c + m * p->c_row;
        if (mr == high) product_tile(p, a + m * p->a_row, b, to, left, high, nv);
        else product_tile(p, a + m * p->a_row, b, to, left, low, nv);
        m += mr;
        left -= mr;
    }
}

static void products(const fc_products *p) {
    const T *a = p->a, *b = p->b;
    T *c = p->c;
    for (ptrdiff_t i = 0; i < p->points; i++, a += p->a_point, b += p->b_point, c += p->c_point)
        switch (p->n / VL) {
        case 1: product(p, a, b, c, 1, FC_NV > 2 ? FC_MR_2 : FC_MR_1); break; /* as many quads */
        case 2: product(p, a, b, c, 2, FC_MR_2); break;
#if FC_NV > 2
        case 3: product(p, a, b, c, 3, FC_MR_3); break;
        case 4: product(p, a, b, c, 4, FC_MR_4); break;
#endif
        }
}
