/* The tile for channels-first results where output columns are few: pixels are the lanes.
 *
 * acc[j][v] += broadcast(b[step][j]) * a[vector v + step]. Loads of the strip are shared by all columns of the tile and
 * results are rows of the tensor as they are, so neither the strip nor the results are transposed, and the
 * number of columns doesn't matter to the lanes. */

enum {
    PLANAR_VECTORS = FC_NV,
#if FC_NV > 2
    PLANAR_COLUMNS = FC_MR_4
#else
    PLANAR_COLUMNS = FC_MR_2
#endif
};

/* Columns [j0, j0 + columns) of vectors [v0, v0 + nv), the last one repeated where there are fewer.
 * columns and nv are constants after inlining. */
FC_INLINE void planar_tile(const fc_gemm *g, const fc_planar *p, ptrdiff_t v0, ptrdiff_t j0, const int columns,
                           const int nv) {
    const ptrdiff_t width = (g->n + VL - 1) / VL * VL;
    const T *from[PLANAR_VECTORS], *b = (const T *)g->b + j0;
    vec acc[PLANAR_COLUMNS][PLANAR_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) from[v] = (const T *)g->a + g->row[v0 + v < g->rows ? v0 + v : g->rows - 1];
#pragma GCC unroll 6
    for (int j = 0; j < columns; j++) {
        const vec start = g->bias ? vset1(((const T *)g->bias)[j0 + j]) : (vec){0};
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[j][v] = start;
    }
    for (ptrdiff_t s = 0; s < g->nseg; s++, b += width) {
        vec x[PLANAR_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) x[v] = vload(from[v] + g->seg[s]);
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) {
            const vec w = vset1(b[j]);
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[j][v] = vfma(w, x[v], acc[j][v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        const ptrdiff_t m = v0 + v < g->rows ? v0 + v : g->rows - 1, lanes = p->lanes[m];
        T *to = (T *)g->c + g->crow[m] + j0 * p->col;
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) vstore_upto(to + j * p->col, clamp(acc[j][v], g->activation), lanes);
    }
}

static __attribute__((noinline)) void planar_columns(const fc_gemm *g, const fc_planar *p, ptrdiff_t v0, ptrdiff_t j0,
                                                     ptrdiff_t columns) {
    switch (columns) {
    case 1: planar_tile(g, p, v0, j0, 1, PLANAR_VECTORS); break;
    case 2: planar_tile(g, p, v0, j0, 2, PLANAR_VECTORS); break;
    case 3: planar_tile(g, p, v0, j0, 3, PLANAR_VECTORS); break;
    case 4: planar_tile(g, p, v0, j0, 4, PLANAR_VECTORS); break;
    case 5: planar_tile(g, p, v0, j0, 5, PLANAR_VECTORS); break;
    case 6: if (PLANAR_COLUMNS >= 6) planar_tile(g, p, v0, j0, 6, PLANAR_VECTORS); break;
    }
}

static void planar_gemm(const fc_gemm *g, const fc_planar *p) {
    const ptrdiff_t tiles = (g->n + PLANAR_COLUMNS - 1) / PLANAR_COLUMNS;
    const ptrdiff_t columns = g->n / tiles, longer = g->n % tiles;
    for (ptrdiff_t v = 0; v < g->rows; v += PLANAR_VECTORS)
        for (ptrdiff_t t = 0, j = 0; t < tiles; t++) {
            planar_columns(g, p, v, j, columns + (t < longer));
            j += columns + (t < longer);
        }
}
