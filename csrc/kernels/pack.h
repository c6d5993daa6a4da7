/* Moving weights and pixels between the caller's order and rows of `width` columns. */

/* x - x is 0 where x is finite, else NaN: bits that stay 0 as long as everything is finite. */
FC_INLINE ivec not_finite(vec x) { return (ivec)(x - x); }

/* VL columns of one run of src elements, which hold all taps of channel l, then of l + 1, ... Fully unrolled, or gcc
 * would keep the block in memory. */
FC_INLINE ivec pack_run(const fc_pack *p, const T *src, T *dst, ptrdiff_t columns, ptrdiff_t run, ptrdiff_t l) {
    const ptrdiff_t width = whole_vectors(p->n);
    vec block[LANES];
    ivec bad = {0};
    ptrdiff_t t = 0;
    dst += l * width;
    for (ptrdiff_t i0 = 0; i0 < run; i0 += VL) {
        const ptrdiff_t valid = run - i0 < VL ? run - i0 : VL;
        if (valid == VL && columns == VL) {
#pragma GCC unroll 16
            for (ptrdiff_t j = 0; j < VL; j++) block[j] = vload(src + j * p->col + i0);
        } else {
#pragma GCC unroll 16
            for (ptrdiff_t j = 0; j < VL; j++)
                block[j] = j < columns ? vload_n(src + j * p->col + i0, valid) : (vec){0};
        }
        vtranspose(block);
#pragma GCC unroll 16
        for (ptrdiff_t i = 0; i < VL; i++) {
            if (i == valid) break;
            if (p->at[t] >= 0) {
                vstore(dst + p->at[t] * p->len * width, block[i]);
                bad |= not_finite(block[i]);
            }
            if (++t == p->ntap) { t = 0; dst += width; }
        }
    }
    return bad;
}

/* One tap, whose columns are adjacent in memory. */
static ivec pack_rows(const fc_pack *p) {
    const T *src = p->src;
    T *dst = p->dst;
    ivec bad = {0};
    for (ptrdiff_t l = 0; l < p->len; l++, src += p->red)
        for (ptrdiff_t j = 0; j < p->n; j += VL, dst += VL) {
            const vec w = vload_upto(src + j, p->n - j);
            vstore(dst, w);
            bad |= not_finite(w);
        }
    return bad;
}

static int pack_weight(const fc_pack *p) {
    ivec bad = {0};
    const ptrdiff_t runs = p->red == p->ntap ? 1 : p->len, run = p->len / runs * p->ntap;
    if (p->col == 1) bad = pack_rows(p);
    else
        for (ptrdiff_t j = 0; j < p->n; j += VL) {
            const T *src = (const T *)p->src + j * p->col;
            const ptrdiff_t columns = p->n - j < VL ? p->n - j : VL;
            for (ptrdiff_t l = 0; l < runs; l++)
                bad |= pack_run(p, src + l * p->red, (T *)p->dst + j, columns, run, l);
        }
    int finite = 1;
    for (ptrdiff_t i = 0; i < VL; i++) finite &= bad[i] == 0;
    return finite;
}

/* Sum of the partial gradients of VL columns at one (tap, channel) row, in the order of the parts. */
FC_INLINE vec join_row(const fc_join *q, const T *row) {
    vec sum = vload(row);
    for (ptrdiff_t p = 1; p < q->parts; p++) sum += vload(row + p * q->part_stride);
    return sum;
}

static void join_weight(const fc_join *q) {
    const ptrdiff_t width = whole_vectors(q->n), rows = q->len * q->ntap;
    vec sums[LANES], turned[LANES];
    for (ptrdiff_t j = 0; j < q->n; j += VL) {
        const ptrdiff_t columns = q->n - j < VL ? q->n - j : VL;
        const T *part = (const T *)q->part + j;
        ptrdiff_t t = 0, l = 0;
        for (ptrdiff_t i0 = 0; i0 < rows; i0 += VL) { /* i = l * ntap + t, contiguous in dst */
            const ptrdiff_t valid = rows - i0 < VL ? rows - i0 : VL;
            T *to = (T *)q->dst + j * q->col + i0;
            for (ptrdiff_t i = 0; i < valid; i++) {
                sums[i] = join_row(q, part + (t * q->len + l) * width);
                if (++t == q->ntap) { t = 0; l++; }
            }
            if (valid == VL && columns == VL && !q->accumulate) {
                transpose_whole((T *)sums, VL, to, q->col);
                continue;
            }
            transpose_part((T *)sums, VL, valid, columns, (T *)turned, VL, valid);
            for (ptrdiff_t i = 0; i < columns; i++, to += q->col) {
                vec sum = turned[i];
                if (q->accumulate) sum += vload_upto(to, valid);
                vstore_upto(to, sum, valid);
            }
        }
    }
}

/* Pixels of a box as runs that are contiguous in memory for one channel of a channels-first tensor:
 * neighbouring axes that follow each other without a gap are one axis. */
typedef struct runs {
    ptrdiff_t count[3], axis[3];
} runs;

static runs merge_axes(const fc_rows *r) {
    runs m = {{r->count[0], r->count[1], r->count[2]}, {r->x_axis[0], r->x_axis[1], r->x_axis[2]}};
    for (int i = 1; i >= 0; i--)
        if (m.count[i] == 1 || m.axis[i] == m.axis[2] * m.count[2]) {
            m.count[2] *= m.count[i];
            m.count[i] = 1;
        } else break;
    return m;
}

/* One run of pixels, channels first: transpose VL pixels x VL channels at a time. */
FC_INLINE void run_planar(const fc_rows *r, T *x, T *rows, ptrdiff_t pixels, const int store) {
    const ptrdiff_t width = whole_vectors(r->n);
    for (ptrdiff_t j = 0; j < r->n; j += VL) {
        const ptrdiff_t columns = r->n - j < VL ? r->n - j : VL;
        for (ptrdiff_t i = 0; i < pixels; i += VL) {
            const ptrdiff_t valid = pixels - i < VL ? pixels - i : VL;
            T *row = rows + i * width + j, *column = x + j * r->x_c + i;
            const int whole = valid == VL && columns == VL;
            if (store && whole) transpose_whole(row, width, column, r->x_c);
            else if (store) transpose_part(row, width, valid, columns, column, r->x_c, valid);
            else if (whole) transpose_whole(column, r->x_c, row, width);
            else transpose_part(column, r->x_c, columns, valid, row, width, VL);
        }
    }
}

static void add_columns(T *sum, const T *rows, ptrdiff_t pixels, ptrdiff_t n) {
    const ptrdiff_t width = whole_vectors(n);
    for (ptrdiff_t j = 0; j < n; j += VL) {
        vec s = {0};
        for (ptrdiff_t i = 0; i < pixels; i++) s += vload(rows + i * width + j);
        const ptrdiff_t columns = n - j < VL ? n - j : VL;
        vstore_upto(sum + j, vload_upto(sum + j, columns) + s, columns);
    }
}

/* One run of pixels that lie apart, or whose channels do, element by element. */
static void run_strided(const fc_rows *r, ptrdiff_t step, T *x, T *rows, ptrdiff_t pixels, int store) {
    const ptrdiff_t width = whole_vectors(r->n);
    if (!store) zero(rows, pixels * width);
    for (ptrdiff_t j = 0; j < r->n; j++)
        for (ptrdiff_t i = 0; i < pixels; i++)
            if (store) x[j * r->x_c + i * step] = rows[i * width + j];
            else rows[i * width + j] = x[j * r->x_c + i * step];
}

FC_INLINE void each_run(const fc_rows *r, const int store) {
    const ptrdiff_t width = whole_vectors(r->n);
    const runs m = merge_axes(r);
    const int planar = r->x_axis[2] == 1 && (r->x_c != 1 || r->n == 1);
    T *rows = r->rows;
    for (ptrdiff_t d = 0; d < m.count[0]; d++)
        for (ptrdiff_t h = 0; h < m.count[1]; h++) {
            T *x = (T *)r->x + d * m.axis[0] + h * m.axis[1];
            if (planar) run_planar(r, x, rows, m.count[2], store);
            else if (r->x_c != 1) run_strided(r, m.axis[2], x, rows, m.count[2], store);
            else
                for (ptrdiff_t w = 0; w < m.count[2]; w++)
                    for (ptrdiff_t j = 0; j < r->n; j += VL) {
                        T *pixel = x + w * m.axis[2] + j, *row = rows + w * width + j;
                        const ptrdiff_t columns = r->n - j < VL ? r->n - j : VL;
                        if (store) vstore_upto(pixel, vload(row), columns);
                        else vstore(row, vload_upto(pixel, columns));
                    }
            rows += m.count[2] * width;
        }
}

static void store_rows(const fc_rows *r) { each_run(r, 1); }

static void load_rows(const fc_rows *r) {
    each_run(r, 0);
    if (r->column_sum)
        add_columns(r->column_sum, r->rows, r->count[0] * r->count[1] * r->count[2], r->n);
}
