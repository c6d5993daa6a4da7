/* A few rows times weights that are not packed: packing would take longer than the products. Weights are read once for
 * all rows. Sums are in the order of gemm.h, so the bits are the same. */

/* FEW_STEPS steps of FEW_COLUMNS columns (a page) are added at a time to sums that stay in L1. Transposed weights are
 * prefetched FEW_AHEAD steps ahead: their rows lie too far apart for the hardware to do so. */
enum { FEW_STEPS = 8, FEW_COLUMNS = 4096 / sizeof(T), FEW_SUMS = 16 * 1024 / sizeof(T), FEW_AHEAD = 256 / sizeof(T) };

/* sums += x . `steps` rows of weights, FEW_STEPS at most. */
static __attribute__((noinline)) void few_add(const T *x, ptrdiff_t step, const T *b, ptrdiff_t b_step,
                                              ptrdiff_t steps, T *sums, ptrdiff_t columns) {
    if (steps == FEW_STEPS) {
        vec by[FEW_STEPS];
#pragma GCC unroll 8
        for (ptrdiff_t s = 0; s < FEW_STEPS; s++) by[s] = vset1(x[s * step]);
        for (; columns >= VL; columns -= VL, b += VL, sums += VL) {
            vec acc = vload(sums);
#pragma GCC unroll 8
            for (ptrdiff_t s = 0; s < FEW_STEPS; s++) acc = vfma(by[s], vload(b + s * b_step), acc);
            vstore(sums, acc);
        }
    }
    for (; columns > 0; columns -= VL, b += VL, sums += VL) {
        vec acc = vload(sums);
        for (ptrdiff_t s = 0; s < steps; s++) acc = vfma(vset1(x[s * step]), vload_upto(b + s * b_step, columns), acc);
        vstore(sums, acc);
    }
}

/* Steps [l, end) of all rows for columns whose weights of one step are adjacent. */
static void few_runs(const fc_gemm *g, ptrdiff_t b_step, ptrdiff_t l, ptrdiff_t end, T *sums, ptrdiff_t width) {
    for (ptrdiff_t steps; l < end; l += steps) {
        steps = end - l < FEW_STEPS ? end - l : FEW_STEPS;
        for (ptrdiff_t m = 0; m < g->rows; m++)
            few_add((const T *)g->a + g->row[m] + g->seg[0] + l * g->step, g->step, (const T *)g->b + l * b_step,
                    b_step, steps, sums + m * width, g->n);
    }
}

/* The same for a vector of columns at most, whose steps are adjacent: squares of weights are transposed. */
static void few_squares(const fc_gemm *g, ptrdiff_t b_column, ptrdiff_t l, ptrdiff_t end, T *sums) {
    const T *b[LANES];
    for (ptrdiff_t j = 0; j < VL; j++) b[j] = (const T *)g->b + (j < g->n ? j : g->n - 1) * b_column;
    for (; l + VL <= end; l += VL) {
        vec square[LANES];
#pragma GCC unroll 16
        for (ptrdiff_t j = 0; j < VL; j++) {
            square[j] = vload(b[j] + l);
            __builtin_prefetch(b[j] + l + FEW_AHEAD);
        }
        vtranspose(square);
        for (ptrdiff_t m = 0; m < g->rows; m++) {
            const T *x = (const T *)g->a + g->row[m] + g->seg[0] + l;
            vec acc = vload(sums + m * VL);
#pragma GCC unroll 16
            for (ptrdiff_t s = 0; s < VL; s++) acc = vfma(vset1(x[s]), square[s], acc);
            vstore(sums + m * VL, acc);
        }
    }
    T rest[LANES][LANES];
    if (l < end) transpose_part(b[0] + l, b_column, g->n, end - l, rest[0], VL, VL);
    for (ptrdiff_t m = 0; m < g->rows; m++) {
        const T *x = (const T *)g->a + g->row[m] + g->seg[0];
        vec acc = vload(sums + m * VL);
        for (ptrdiff_t s = l; s < end; s++) acc = vfma(vset1(x[s]), vload(rest[s - l]), acc);
        vstore(sums + m * VL, acc);
    }
}

static void few_rows(const fc_gemm *g, ptrdiff_t b_column, ptrdiff_t b_step) {
    const ptrdiff_t fit = FEW_SUMS / g->rows < FEW_COLUMNS ? FEW_SUMS / g->rows : FEW_COLUMNS;
    const ptrdiff_t most = b_column == 1 ? fit / VL * VL : VL, chunks = chunks_of(g->len);
    fc_gemm t = *g;
    vec sums[FEW_SUMS / LANES];
    for (ptrdiff_t j = 0; j < g->n; j += most) {
        t.n = g->n - j < most ? g->n - j : most;
        t.b = (const T *)g->b + j * b_column;
        t.c = (T *)g->c + j;
        const ptrdiff_t vectors = (t.n + VL - 1) / VL;
        for (ptrdiff_t i = 0; i < chunks; i++) {
            const int last = i == chunks - 1, add = i > 0 || g->accumulate;
            for (ptrdiff_t v = 0; v < g->rows * vectors; v++) {
                const ptrdiff_t at = v % vectors * VL;
                vec start = {0};
                if (i == 0 && g->bias) start = vload_upto((const T *)g->bias + j + at, t.n - at);
                sums[v] = start;
            }
            const ptrdiff_t begin = g->len * i / chunks, end = g->len * (i + 1) / chunks;
            if (b_column == 1) few_runs(&t, b_step, begin, end, (T *)sums, vectors * VL);
            else few_squares(&t, b_column, begin, end, (T *)sums);
            store_part(&t, g->crow, g->rows, add, last ? g->activation : FC_IDENTITY, sums);
        }
    }
}
