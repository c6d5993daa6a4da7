/* Few columns: the stride phases, or neighbouring pixels, of one cell of results become columns.
 *
 * Column j of a block stands for phase (column0 + j) / cols and result channel (column0 + j) % cols. The
 * phases of a block share one list of taps, the union of theirs; a phase has weight zero where a tap isn't its own.
 * Zero times an infinite value is NaN where nothing should be added: the driver looks for NaN in the results. */

static void pack_folded(const fc_pack *p, const fc_fold *f) {
    const ptrdiff_t width = whole_vectors(p->n);
    T *to = p->dst;
    for (ptrdiff_t t = 0; t < p->ntap; t++) {
        ptrdiff_t at[FC_NV * LANES]; /* where the column's weights begin, or -1 */
        int adjacent = 1;
        for (ptrdiff_t j = 0; j < p->n; j++) {
            const ptrdiff_t tap = f->tap[(f->column0 + j) / f->cols * f->taps + t];
            at[j] = tap < 0 ? -1 : (f->column0 + j) % f->cols * p->col + tap;
            adjacent &= tap >= 0 && at[j] == at[0] + j;
        }
        for (ptrdiff_t l = 0; l < p->len; l++, to += width) {
            const T *from = (const T *)p->src + l * p->red;
            memset(to, 0, (size_t)width * sizeof(T));
            if (adjacent) memcpy(to, from + at[0], (size_t)p->n * sizeof(T));
            else
                for (ptrdiff_t j = 0; j < p->n; j++)
                    if (at[j] >= 0) to[j] = from[at[j]];
        }
    }
}

/* One column of all cells to a channels-first or any other tensor. */
FC_INLINE void unfold_column(const fc_rows *r, const fc_fold *f, ptrdiff_t j, ptrdiff_t width) {
    const ptrdiff_t *first = f->first + 3 * ((f->column0 + j) / f->cols);
    ptrdiff_t cells[3], mine[3];
    for (int i = 0; i < 3; i++) {
        cells[i] = (r->count[i] + f->step[i] - 1) / f->step[i];
        mine[i] = (r->count[i] - first[i] + f->step[i] - 1) / f->step[i];
    }
    const ptrdiff_t step = f->step[2] * r->x_axis[2];
    for (ptrdiff_t d = 0; d < mine[0]; d++)
        for (ptrdiff_t h = 0; h < mine[1]; h++) {
            const T *from = (const T *)r->rows + (d * cells[1] + h) * cells[2] * width + j;
            T *to = (T *)r->x + (f->column0 + j) % f->cols * r->x_c + (d * f->step[0] + first[0]) * r->x_axis[0]
                    + (h * f->step[1] + first[1]) * r->x_axis[1] + first[2] * r->x_axis[2];
            for (ptrdiff_t w = 0; w < mine[2]; w++) to[w * step] = from[w * width];
        }
}

/* Columns [j, end) of one row of phases along w, whose results are adjacent: channels-last, or of the only channel. */
FC_INLINE void unfold_run(const fc_rows *r, const fc_fold *f, ptrdiff_t j, ptrdiff_t end, ptrdiff_t width) {
    const ptrdiff_t *first = f->first + 3 * ((f->column0 + j) / f->cols);
    const ptrdiff_t start = first[2] * f->cols + (f->column0 + j) % f->cols; /* elements into the cell */
    ptrdiff_t cells[3];
    for (int i = 0; i < 3; i++) cells[i] = (r->count[i] + f->step[i] - 1) / f->step[i];
    for (ptrdiff_t d = 0; d < cells[0] && d * f->step[0] + first[0] < r->count[0]; d++)
        for (ptrdiff_t h = 0; h < cells[1] && h * f->step[1] + first[1] < r->count[1]; h++) {
            const T *from = (const T *)r->rows + (d * cells[1] + h) * cells[2] * width + j;
            T *to = (T *)r->x + (d * f->step[0] + first[0]) * r->x_axis[0] + (h * f->step[1] + first[1]) * r->x_axis[1];
            for (ptrdiff_t w = 0; w < cells[2]; w++, from += width) {
                const ptrdiff_t at = w * f->step[2] * f->cols + start, left = r->count[2] * f->cols - at;
                if (left > 0) copy(to + at, from, left < end - j ? left : end - j);
            }
        }
}

static void store_folded(const fc_rows *r, const fc_fold *f) {
    const ptrdiff_t width = whole_vectors(r->n);
    const int adjacent = r->x_axis[2] == f->cols && (r->x_c == 1 || f->cols == 1);
    for (ptrdiff_t j = 0, end; j < r->n; j = end) {
        if (adjacent) { /* up to the end of the block or of this row of phases */
            end = j + f->row_cols - (f->column0 + j) % f->row_cols;
            if (end > r->n) end = r->n;
            unfold_run(r, f, j, end, width);
        } else {
            end = j + 1;
            unfold_column(r, f, j, width);
        }
    }
}

static int has_nan(const void *x, ptrdiff_t n) {
    const T *p = x;
    ivec nan = {0};
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) nan |= (ivec)(vload(p + i) != vload(p + i));
    int found = 0;
    for (ptrdiff_t j = 0; j < VL; j++) found |= nan[j] != 0;
    for (; i < n; i++) found |= p[i] != p[i];
    return found;
}
