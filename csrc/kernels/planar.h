/* The tile where output columns are few: pixels are the lanes.
 *
 * acc[j][v] += broadcast(b[step][j]) * a[vector v + step]. Loads of the strip are shared by all columns of the tile,
 * and the number of columns doesn't matter to the lanes. Channels-first results are rows of the tensor as they are, or
 * every n-th element of a row; channels-last ones are transposed, all columns of all groups together. */

enum {
    PLANAR_VECTORS = FC_NV,
#if FC_NV > 2
    PLANAR_COLUMNS = FC_MR_4
#else
    PLANAR_COLUMNS = FC_MR_2
#endif
};

/* Vectors of pixels that a tile computes: where they begin in the strip, where results go, how many lanes count. */
typedef struct planar_batch {
    ptrdiff_t row[PLANAR_VECTORS], to[PLANAR_VECTORS], lanes[PLANAR_VECTORS], col;
    int gaps[PLANAR_VECTORS]; /* the lanes that count are those of `keep`, else the first ones */
    ivec keep[PLANAR_VECTORS];
} planar_batch;

/* The numbers of those of the first `lanes` lanes that are pixels, not gaps between rows, in order. */
FC_INLINE ivec planar_keep(const fc_planar *p, ptrdiff_t first, ptrdiff_t lanes) {
    static const uint8_t count[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const ivec lane = vload_bytes(count);
    ivec keep = lane;
    for (ptrdiff_t i = first; i < lanes; i += p->width)
        keep += (ivec)(lane >= vset1_int((lane_int)i)) & vset1_int((lane_int)p->gap);
    return keep;
}

/* `columns` columns of the first nv vectors. columns and nv are constants after inlining. Sums are those of gemm.h: of
 * chunks of REDUCTION_STEPS products. */
FC_INLINE void planar_tile(const fc_gemm *g, const planar_batch *t, const T *a, const T *b, const T *bias, T *c,
                           const int columns, const int nv) {
    const ptrdiff_t width = whole_vectors(g->n), chunks = chunks_of(g->nseg);
    const T *from[PLANAR_VECTORS];
    vec acc[PLANAR_COLUMNS][PLANAR_VECTORS], sum[PLANAR_COLUMNS][PLANAR_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) from[v] = a + t->row[v];
    ptrdiff_t i = 0, s = 0;
    do {
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) {
            const vec start = bias && i == 0 ? vset1(bias[j]) : (vec){0};
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[j][v] = start;
        }
        const ptrdiff_t end = chunks == 1 ? g->nseg : g->nseg * (i + 1) / chunks; /* division is slow */
        for (; s < end; s++, b += width) {
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
        if (chunks == 1) break;
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) {
                if (i) acc[j][v] = sum[j][v] + acc[j][v];
                sum[j][v] = acc[j][v];
            }
    } while (++i < chunks);
    if (g->activation != FC_IDENTITY) {
        const vec top = clamp_top(g->activation);
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[j][v] = vclamp(acc[j][v], top);
    }
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        T *to = c + t->to[v];
        const ptrdiff_t lanes = t->lanes[v];
        if (t->gaps[v])
#pragma GCC unroll 6
            for (int j = 0; j < columns; j++) acc[j][v] = vpermute2(acc[j][v], acc[j][v], t->keep[v]);
        if (lanes >= VL)
#pragma GCC unroll 6
            for (int j = 0; j < columns; j++) vstore(to + j * t->col, acc[j][v]);
        else
#pragma GCC unroll 6
            for (int j = 0; j < columns; j++) vstore_n(to + j * t->col, acc[j][v], lanes);
    }
}

FC_INLINE void planar_columns(const fc_gemm *g, const planar_batch *t, const T *a, const T *b, const T *bias, T *c,
                              ptrdiff_t columns, const int nv) {
    switch (columns) {
    case 1: planar_tile(g, t, a, b, bias, c, 1, nv); break;
    case 2: planar_tile(g, t, a, b, bias, c, 2, nv); break;
    case 3: planar_tile(g, t, a, b, bias, c, 3, nv); break;
    case 4: planar_tile(g, t, a, b, bias, c, 4, nv); break;
    case 5: planar_tile(g, t, a, b, bias, c, 5, nv); break;
    case 6: if (PLANAR_COLUMNS >= 6) planar_tile(g, t, a, b, bias, c, 6, nv); break;
    }
}

/* All columns of all groups. */
FC_INLINE void planar_groups(const fc_gemm *g, const fc_planar *p, const planar_batch *t, T *c, const int nv) {
    const ptrdiff_t tiles = (g->n + PLANAR_COLUMNS - 1) / PLANAR_COLUMNS;
    const ptrdiff_t columns = g->n / tiles, longer = g->n % tiles;
    for (ptrdiff_t group = 0, column = 0; group < p->groups; group++) {
        const T *a = (const T *)g->a + group * p->a_group, *b = (const T *)g->b + group * p->b_group;
        for (ptrdiff_t i = 0; i < tiles; i++) {
            const ptrdiff_t n = columns + (i < longer);
            planar_columns(g, t, a, b, g->bias ? (const T *)g->bias + column : NULL, c + column * t->col, n, nv);
            b += n;
            column += n;
        }
    }
}

#define FC_PLANAR static __attribute__((noinline)) void
FC_PLANAR planar_2(const fc_gemm *g, const fc_planar *p, const planar_batch *t, T *c) { planar_groups(g, p, t, c, 2); }
#if FC_NV > 2
FC_PLANAR planar_3(const fc_gemm *g, const fc_planar *p, const planar_batch *t, T *c) { planar_groups(g, p, t, c, 3); }
FC_PLANAR planar_4(const fc_gemm *g, const fc_planar *p, const planar_batch *t, T *c) { planar_groups(g, p, t, c, 4); }
#else
FC_PLANAR planar_1(const fc_gemm *g, const fc_planar *p, const planar_batch *t, T *c) { planar_groups(g, p, t, c, 1); }
#endif

/* Vectors are split evenly (13 = 4 + 3 + 3 + 3, not 4 + 4 + 4 + 1): one alone doesn't fill the FMA pipes. */
static void planar_gemm(const fc_gemm *g, const fc_planar *p) {
    static void (*const by_vectors[])(const fc_gemm *, const fc_planar *, const planar_batch *, T *) = {
#if FC_NV > 2
        planar_2, planar_2, planar_3, planar_4,
#else
        planar_1, planar_2,
#endif
    };
    T block[FC_NV * LANES][PLANAR_VECTORS * LANES];
    const int adjacent = p->lane == 1;
    const ptrdiff_t columns = g->n * p->groups, batches = (g->rows + PLANAR_VECTORS - 1) / PLANAR_VECTORS;
    planar_batch t = {.col = adjacent ? p->col : PLANAR_VECTORS * VL};
    for (ptrdiff_t i = 0; i < batches; i++) {
        const ptrdiff_t m0 = g->rows * i / batches, vectors = g->rows * (i + 1) / batches - m0;
        for (ptrdiff_t v = 0; v < PLANAR_VECTORS; v++) { /* where there are fewer, the last one is repeated */
            const ptrdiff_t m = m0 + (v < vectors ? v : vectors - 1), lanes = p->lanes[m];
            t.row[v] = g->row[m];
            t.to[v] = adjacent ? g->crow[m] : v * VL;
            t.lanes[v] = adjacent ? lanes : VL;
            t.gaps[v] = p->gap && p->first[m] < lanes;
            if (t.gaps[v]) t.keep[v] = planar_keep(p, p->first[m], lanes);
        }
        by_vectors[vectors - 1](g, p, &t, adjacent ? (T *)g->c : block[0]);
        if (adjacent) continue;
        for (ptrdiff_t v = 0; v < vectors; v++) {
            T *to = (T *)g->c + g->crow[m0 + v];
            if (p->col == 1) transpose(block[0] + v * VL, t.col, columns, p->lanes[m0 + v], to, p->lane);
            else
                for (ptrdiff_t j = 0; j < columns; j++)
                    for (ptrdiff_t l = 0; l < p->lanes[m0 + v]; l++)
                        to[j * p->col + l * p->lane] = block[j][v * VL + l];
        }
    }
}
