/* A few rows against weights where they lie: to pack them first would take longer than to multiply by them. They are
 * read once for all rows. Sums are those of gemm.h. */

/* Columns of several steps are added at a time, as many as fit a page, to sums that stay in L1. Transposed weights are
 * asked for so many steps ahead: their rows lie too far apart for the CPU to see where they go on. */
enum { FEW_STEPS = 8, FEW_COLUMNS = 4096 / sizeof(T), FEW_SUMS = 16 * 1024 / sizeof(T), FEW_AHEAD = 256 / sizeof(T) };

/* VL columns, of which the first `columns` count and whose steps are adjacent: squares of weights are transposed. */
static void few_columns(const fc_gemm *g, const T *b, ptrdiff_t b_column, ptrdiff_t column, ptrdiff_t columns) {
    const ptrdiff_t chunks = chunks_of(g->len);
    const T *a = (const T *)g->a + g->seg[0], *of[VBYTES / sizeof(T)];
    vec acc[FC_FEW_ROWS], sum[FC_FEW_ROWS];
    for (ptrdiff_t j = 0; j < VL; j++) of[j] = b + (j < columns ? j : columns - 1) * b_column;
    for (ptrdiff_t i = 0; i < chunks; i++) {
        const ptrdiff_t end = g->len * (i + 1) / chunks;
        vec start = {0};
        if (i == 0 && g->bias) start = vload_upto((const T *)g->bias + column, columns);
        for (ptrdiff_t m = 0; m < g->rows; m++) acc[m] = start;
        for (ptrdiff_t l = g->len * i / chunks; l < end; l += VL) {
            const ptrdiff_t from = l + VL <= end ? l : end - VL; /* the last square begins early */
            vec block[VBYTES / sizeof(T)];
#pragma GCC unroll 16
            for (ptrdiff_t j = 0; j < VL; j++) {
                block[j] = vload(of[j] + from);
                __builtin_prefetch(of[j] + from + FEW_AHEAD);
            }
            vtranspose(block);
            if (from == l)
                for (ptrdiff_t m = 0; m < g->rows; m++) {
                    const T *x = a + g->row[m] + l;
                    vec y = acc[m];
#pragma GCC unroll 16
                    for (ptrdiff_t s = 0; s < VL; s++) y = vfma(vset1(x[s]), block[s], y);
                    acc[m] = y;
                }
            else {
                vec kept[VBYTES / sizeof(T)]; /* an array that a variable looks into isn't kept in registers */
                memcpy(kept, block, sizeof kept);
                for (ptrdiff_t m = 0; m < g->rows; m++)
                    for (ptrdiff_t s = l; s < end; s++)
                        acc[m] = vfma(vset1(a[g->row[m] + s]), kept[s - from], acc[m]);
            }
        }
        for (ptrdiff_t m = 0; m < g->rows; m++) {
            if (i) acc[m] = sum[m] + acc[m];
            sum[m] = acc[m];
        }
    }
    for (ptrdiff_t m = 0; m < g->rows; m++)
        vstore_upto((T *)g->c + g->crow[m] + column, clamp(sum[m], g->activation), columns);
}

/* sums += x . `steps` rows of weights; steps is constant after inlining. */
FC_INLINE void few_add(const T *x, ptrdiff_t step, const T *b, ptrdiff_t b_step, const int steps, T *sums,
                       ptrdiff_t columns) {
    vec by[FEW_STEPS];
#pragma GCC unroll 8
    for (int s = 0; s < steps; s++) by[s] = vset1(x[s * step]);
    for (; columns > 0; columns -= VL, b += VL, sums += VL) {
        vec acc = vload(sums);
        if (columns >= VL)
#pragma GCC unroll 8
            for (int s = 0; s < steps; s++) acc = vfma(by[s], vload(b + s * b_step), acc);
        else
            for (int s = 0; s < steps; s++) acc = vfma(vset1(x[s * step]), vload_n(b + s * b_step, columns), acc);
        vstore(sums, acc);
    }
}

/* Columns whose weights of one step are adjacent. */
static void few_runs(const fc_gemm *g, const T *b, ptrdiff_t b_step, ptrdiff_t column, ptrdiff_t columns) {
    const ptrdiff_t chunks = chunks_of(g->len), width = (columns + VL - 1) / VL * VL;
    const T *a = (const T *)g->a + g->seg[0];
    T sums[FEW_SUMS];
    for (ptrdiff_t i = 0; i < chunks; i++) {
        const ptrdiff_t end = g->len * (i + 1) / chunks;
        zero(sums, g->rows * width);
        if (i == 0 && g->bias)
            for (ptrdiff_t m = 0; m < g->rows; m++) copy(sums + m * width, (const T *)g->bias + column, columns);
        for (ptrdiff_t l = g->len * i / chunks, steps; l < end; l += steps) {
            steps = end - l < FEW_STEPS ? 1 : FEW_STEPS;
            for (ptrdiff_t m = 0; m < g->rows; m++) {
                const T *x = a + g->row[m] + l * g->step;
                if (steps == 1) few_add(x, g->step, b + l * b_step, b_step, 1, sums + m * width, columns);
                else few_add(x, g->step, b + l * b_step, b_step, FEW_STEPS, sums + m * width, columns);
            }
        }
        for (ptrdiff_t m = 0; m < g->rows; m++)
            for (ptrdiff_t j = 0; j < columns; j += VL) {
                T *to = (T *)g->c + g->crow[m] + column + j;
                vec y = vload(sums + m * width + j);
                if (i || g->accumulate) y = vload_upto(to, columns - j) + y;
                if (i == chunks - 1) y = clamp(y, g->activation);
                vstore_upto(to, y, columns - j);
            }
    }
}

static void few_rows(const fc_gemm *g, ptrdiff_t b_column, ptrdiff_t b_step) {
    const ptrdiff_t fit = FEW_SUMS / g->rows < FEW_COLUMNS ? FEW_SUMS / g->rows : FEW_COLUMNS;
    const ptrdiff_t most = b_column == 1 ? fit / VL * VL : VL;
    for (ptrdiff_t j = 0; j < g->n; j += most) {
        const ptrdiff_t columns = g->n - j < most ? g->n - j : most;
        const T *b = (const T *)g->b + j * b_column;
        if (b_column == 1) few_runs(g, b, b_step, j, columns);
        else few_columns(g, b, b_column, j, columns);
    }
}
