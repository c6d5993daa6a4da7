/* The register tile of every convolution and dense layer: MR rows x NV vectors of accumulators,
 * acc[m][v] += broadcast(a[row m]) * b[v].
 *
 * A row of a is a base offset (`row`), the reduction is a list of segments (`seg`) of `len` elements
 * `step` apart, the same for all rows. That is enough for taps of any stride and dilation over
 * channels-first (step = channel stride) and channels-last (step = 1) strips, for backward-input (taps
 * of one stride phase), backward-weight (rows are taps, the reduction runs over pixels) and dense
 * layers (one segment). */

enum {
    MR_MAX = 12,
    /* Products summed one after the other. Longer sums are sums of such sums: their error grows less, and the
     * packed weights of one (128 KiB at most) stay in L2 while all rows pass over them. */
    REDUCTION_STEPS = 512,
};

FC_INLINE ptrdiff_t chunks_of(ptrdiff_t steps) {
    return steps > REDUCTION_STEPS ? (steps + REDUCTION_STEPS - 1) / REDUCTION_STEPS : 1;
}

/* Steps [begin, end) of the reduction, counted over all segments. */
typedef struct chunk {
    ptrdiff_t begin, end;
    int first, last;
} chunk;

/* Store a tile whose last vector of columns is partial. few.h ends with it, too. */
static __attribute__((noinline)) void store_part(const fc_gemm *g, const ptrdiff_t *crow, ptrdiff_t rows, int add,
                                                 fc_activation activation, const vec *sums) {
    const vec top = clamp_top(activation);
    for (ptrdiff_t m = 0; m < rows; m++)
        for (ptrdiff_t j = 0; j < g->n; j += VL, sums++) {
            T *to = (T *)g->c + crow[m] + j;
            vec y = *sums;
            if (add) y = vload_upto(to, g->n - j) + y;
            if (activation != FC_IDENTITY) y = vclamp(y, top);
            vstore_upto(to, y, g->n - j);
        }
}

/* mr and nv are constants after inlining. The literal array bounds keep acc in registers: an array
 * bounded by the parameters would be a variable-length one, which gcc leaves in memory (3x slower). */
FC_INLINE void tile(const fc_gemm *g, const chunk *k, ptrdiff_t m0, const int mr, const int nv) {
    const ptrdiff_t width = nv * VL, tail = g->n - (nv - 1) * VL, step = g->step;
    const int add = !k->first || g->accumulate;
    const fc_activation activation = k->last ? g->activation : FC_IDENTITY;
    const T *row[MR_MAX], *bias = add ? NULL : g->bias;
    vec acc[MR_MAX][FC_NV];

#pragma GCC unroll 12
    for (int m = 0; m < mr; m++) row[m] = (const T *)g->a + g->row[m0 + m];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        vec start = {0};
        if (bias) start = vload_upto(bias + v * VL, v == nv - 1 ? tail : VL);
#pragma GCC unroll 12
        for (int m = 0; m < mr; m++) acc[m][v] = start;
    }
    ptrdiff_t s = k->begin ? k->begin / g->len : 0, l = k->begin - s * g->len, left = k->end - k->begin;
    const T *b = (const T *)g->b + k->begin * width;
    for (; left > 0; s++, l = 0) {
        const ptrdiff_t steps = g->len - l < left ? g->len - l : left;
        if (g->bseg) b = (const T *)g->b + g->bseg[s] + l * width;
        const T *const end = b + steps * width;
        left -= steps;
        for (ptrdiff_t i = g->seg[s] + l * step; b != end; i += step, b += width) {
            vec w[FC_NV];
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) w[v] = vload(b + v * VL);
#pragma GCC unroll 12
            for (int m = 0; m < mr; m++) {
                const vec x = vset1(row[m][i]);
#pragma GCC unroll 4
                for (int v = 0; v < nv; v++) acc[m][v] = vfma(x, w[v], acc[m][v]);
            }
        }
    }
    T *const c = g->c;
    const ptrdiff_t *crow = g->crow + m0;
    if (tail < VL) {
        vec sums[MR_MAX * FC_NV];
#pragma GCC unroll 12
        for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) sums[m * nv + v] = acc[m][v];
        store_part(g, crow, mr, add, activation, sums);
        return;
    }
    if (add)
#pragma GCC unroll 12
        for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[m][v] = vload(c + crow[m] + v * VL) + acc[m][v];
    if (activation != FC_IDENTITY) {
        const vec top = clamp_top(activation);
#pragma GCC unroll 12
        for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[m][v] = vclamp(acc[m][v], top);
    }
#pragma GCC unroll 12
    for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) vstore(c + crow[m] + v * VL, acc[m][v]);
}

FC_INLINE void tile_of(const fc_gemm *g, const chunk *k, ptrdiff_t m0, ptrdiff_t mr, const int nv, const int most) {
    switch (mr) {
    case 1: tile(g, k, m0, 1, nv); break;
    case 2: tile(g, k, m0, 2, nv); break;
    case 3: tile(g, k, m0, 3, nv); break;
    case 4: tile(g, k, m0, 4, nv); break;
    case 5: tile(g, k, m0, 5, nv); break;
    case 6: if (most >= 6) tile(g, k, m0, 6, nv); break;
    case 7: if (most >= 7) tile(g, k, m0, 7, nv); break;
    case 8: if (most >= 8) tile(g, k, m0, 8, nv); break;
    case 9: if (most >= 9) tile(g, k, m0, 9, nv); break;
    case 10: if (most >= 10) tile(g, k, m0, 10, nv); break;
    case 11: if (most >= 11) tile(g, k, m0, 11, nv); break;
    case 12: if (most >= 12) tile(g, k, m0, 12, nv); break;
    }
}

/* All rows against one chunk of the reduction. Rows are split evenly (16 = 6 + 5 + 5, not 6 + 6 + 4):
 * small tiles don't fill the FMA pipes. */
FC_INLINE void all_rows(const fc_gemm *g, const chunk *k, const int nv, const int most) {
    const ptrdiff_t tiles = (g->rows + most - 1) / most;
    const ptrdiff_t mr = g->rows / tiles, longer = g->rows % tiles;
    for (ptrdiff_t t = 0, m0 = 0; t < tiles; t++) {
        const ptrdiff_t rows = mr + (t < longer);
        tile_of(g, k, m0, rows, nv, most);
        m0 += rows;
    }
}

static __attribute__((noinline)) void rows_1(const fc_gemm *g, const chunk *k) { all_rows(g, k, 1, FC_MR_1); }
static __attribute__((noinline)) void rows_2(const fc_gemm *g, const chunk *k) { all_rows(g, k, 2, FC_MR_2); }
#if FC_NV > 2
static __attribute__((noinline)) void rows_3(const fc_gemm *g, const chunk *k) { all_rows(g, k, 3, FC_MR_3); }
static __attribute__((noinline)) void rows_4(const fc_gemm *g, const chunk *k) { all_rows(g, k, 4, FC_MR_4); }
#endif

static void gemm(const fc_gemm *g) {
    static void (*const by_width[])(const fc_gemm *, const chunk *) = {
        rows_1, rows_2,
#if FC_NV > 2
        rows_3, rows_4,
#endif
    };
    const ptrdiff_t vectors = (g->n + VL - 1) / VL, steps = g->nseg * g->len, chunks = chunks_of(steps);
    if (g->rows == 0) return;
    for (ptrdiff_t i = 0; i < chunks; i++) {
        const chunk k = {steps * i / chunks, steps * (i + 1) / chunks, i == 0, i == chunks - 1};
        by_width[vectors - 1](g, &k);
    }
}
