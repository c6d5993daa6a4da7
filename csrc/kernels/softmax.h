/* Softmax and its logarithm, and their gradients: vectors that lie one after the other (rows) or side by
 * side (columns). Sums are taken in double, in the order of the elements' vectors. A vector with a NaN or
 * +infinity in it becomes all NaN. */

/* Elements of the buffer in L1 that columns are copied to, and the shortest run of a row that is worth copying. */
enum { SOFTMAX_KEPT = 32 * 1024 / sizeof(T), SOFTMAX_RUN = 512 / sizeof(T) };

#define MINUS_INFINITY vset1((T)-__builtin_inf())

FC_INLINE void softmax_row(const T *x, T *y, ptrdiff_t n, const int logarithm) {
    const ptrdiff_t body = n / VL * VL, tail = n - body;
    const ivec kept = vfirst(tail);
    vec most = MINUS_INFINITY;
    for (ptrdiff_t i = 0; i < body; i += VL) most = vmax_second(vload(x + i), most);
    if (tail) most = vmax_second(vselect(kept, vload_n(x + body, tail), MINUS_INFINITY), most);
    most = vmax_lanes(most);

    wide sum = {0};
    for (ptrdiff_t i = 0; i < body; i += VL) {
        const vec e = vexp(vload(x + i) - most);
        if (!logarithm) vstore(y + i, e);
        sum = wide_add(sum, vwiden(e));
    }
    if (tail) {
        const vec e = vexp(vload_n(x + body, tail) - most);
        if (!logarithm) vstore_n(y + body, e, tail);
        sum = wide_add(sum, vwiden(vselect(kept, e, vset1(0))));
    }
    const double total = wide_sum(sum);
    if (logarithm) {
        const vec log_total = vlog_from_one(vset1((T)total));
        for (ptrdiff_t i = 0; i < n; i += VL)
            vstore_upto(y + i, vload_upto(x + i, n - i) - most - log_total, n - i);
    } else {
        const vec scale = vset1((T)(1 / total));
        for (ptrdiff_t i = 0; i < n; i += VL) vstore_upto(y + i, vload_upto(y + i, n - i) * scale, n - i);
    }
}

/* A vector of columns; elements lie `step` apart in x and y, which may be one array. */
FC_INLINE void softmax_columns(const T *x, T *y, ptrdiff_t len, ptrdiff_t step, const int logarithm) {
    vec most = MINUS_INFINITY;
    for (ptrdiff_t l = 0; l < len; l++) most = vmax_second(vload(x + l * step), most);

    wide sum = {0};
    for (ptrdiff_t l = 0; l < len; l++) {
        const vec e = vexp(vload(x + l * step) - most);
        if (!logarithm) vstore(y + l * step, e);
        sum = wide_add(sum, vwiden(e));
    }
    if (logarithm) {
        const vec log_total = vlog_from_one(vnarrow(sum));
        for (ptrdiff_t l = 0; l < len; l++) vstore(y + l * step, vload(x + l * step) - most - log_total);
    } else {
        const vec scale = vset1(1) / vnarrow(sum);
        for (ptrdiff_t l = 0; l < len; l++) vstore(y + l * step, vload(y + l * step) * scale);
    }
}

/* dx = y (dy - sum dy y) of softmax, dy - exp(y) sum dy of its logarithm. */
FC_INLINE vec softmax_term(vec dy, vec y, vec sum, const int logarithm) {
    return logarithm ? dy - vexp(y) * sum : y * (dy - sum);
}

FC_INLINE wide softmax_sum(wide sum, vec dy, vec y, const int logarithm) {
    return logarithm ? wide_add(sum, vwiden(dy)) : wide_add_product(sum, vwiden(dy), vwiden(y));
}

FC_INLINE void softmax_row_backward(const T *dy, const T *y, T *dx, ptrdiff_t n, const int logarithm) {
    wide sum = {0};
    for (ptrdiff_t i = 0; i < n; i += VL)
        sum = softmax_sum(sum, vload_upto(dy + i, n - i), vload_upto(y + i, n - i), logarithm);
    const vec total = vset1((T)wide_sum(sum));
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const vec term = softmax_term(vload_upto(dy + i, n - i), vload_upto(y + i, n - i), total, logarithm);
        vstore_upto(dx + i, term, n - i);
    }
}

FC_INLINE void softmax_columns_backward(const T *dy, const T *y, T *dx, ptrdiff_t len, ptrdiff_t step,
                                        const int logarithm) {
    wide sum = {0};
    for (ptrdiff_t l = 0; l < len; l++) sum = softmax_sum(sum, vload(dy + l * step), vload(y + l * step), logarithm);
    const vec total = vnarrow(sum);
    for (ptrdiff_t l = 0; l < len; l++)
        vstore(dx + l * step, softmax_term(vload(dy + l * step), vload(y + l * step), total, logarithm));
}

/* Many long columns: runs of SOFTMAX_WIDE elements of each row are read once a pass, with maxima and sums in L1. */
enum { SOFTMAX_WIDE = 2048 / sizeof(T), SOFTMAX_VECTORS = SOFTMAX_WIDE / VL };

FC_INLINE void softmax_wide(const T *x, T *y, ptrdiff_t n, ptrdiff_t len, ptrdiff_t step, const int logarithm) {
    vec most[SOFTMAX_VECTORS], last[SOFTMAX_VECTORS];
    wide sum[SOFTMAX_VECTORS];
    for (ptrdiff_t j = 0; j < n; j += VL) {
        most[j / VL] = MINUS_INFINITY;
        sum[j / VL] = (wide){0};
    }
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t j = 0; j < n; j += VL)
            most[j / VL] = vmax_second(vload_upto(x + l * step + j, n - j), most[j / VL]);
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t j = 0; j < n; j += VL) {
            const vec e = vexp(vload_upto(x + l * step + j, n - j) - most[j / VL]);
            if (!logarithm) vstore_upto(y + l * step + j, e, n - j);
            sum[j / VL] = wide_add(sum[j / VL], vwiden(e));
        }
    for (ptrdiff_t j = 0; j < n; j += VL)
        if (logarithm) last[j / VL] = vlog_from_one(vnarrow(sum[j / VL]));
        else last[j / VL] = vset1(1) / vnarrow(sum[j / VL]);
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t j = 0; j < n; j += VL) {
            vec v = vload_upto((logarithm ? x : y) + l * step + j, n - j);
            if (logarithm) v = v - most[j / VL] - last[j / VL];
            else v = v * last[j / VL];
            vstore_upto(y + l * step + j, v, n - j);
        }
}

FC_INLINE void softmax_wide_backward(const T *dy, const T *y, T *dx, ptrdiff_t n, ptrdiff_t len, ptrdiff_t step,
                                     const int logarithm) {
    wide sum[SOFTMAX_VECTORS];
    for (ptrdiff_t j = 0; j < n; j += VL) sum[j / VL] = (wide){0};
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t j = 0; j < n; j += VL) {
            const ptrdiff_t at = l * step + j;
            sum[j / VL] = softmax_sum(sum[j / VL], vload_upto(dy + at, n - j), vload_upto(y + at, n - j), logarithm);
        }
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t j = 0; j < n; j += VL) {
            const ptrdiff_t at = l * step + j;
            const vec total = vnarrow(sum[j / VL]);
            vstore_upto(dx + at, softmax_term(vload_upto(dy + at, n - j), vload_upto(y + at, n - j), total, logarithm),
                        n - j);
        }
}

/* Rows lie pages apart, which the hardware doesn't prefetch: asking for them is 10-15 % at 21 x 256 x 256.
 * Out of line: one copy for all that keep columns. */
static __attribute__((noinline)) void copy_rows(const T *from, ptrdiff_t from_row, T *to, ptrdiff_t to_row,
                                                ptrdiff_t rows, ptrdiff_t n) {
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = 0; i < n; i += VL) {
            __builtin_prefetch(from + (r + 4) * from_row + i);
            vstore_upto(to + r * to_row + i, vload_upto(from + r * from_row + i, n - i), n - i);
        }
}

/* Copy n columns of `len` elements to the buffer, whose rows are `width` long, and back; columns whose elements are
 * adjacent in memory (step 1) are transposed. */
FC_INLINE void keep(const fc_softmax *s, const T *from, T *kept, ptrdiff_t width, ptrdiff_t n) {
    if (s->step == 1) transpose(from, s->len, n, s->len, kept, width);
    else copy_rows(from, s->step, kept, width, s->len, n);
}

FC_INLINE void put_back(const fc_softmax *s, const T *kept, ptrdiff_t width, T *to, ptrdiff_t n) {
    if (s->step == 1) transpose(kept, width, s->len, n, to, s->len);
    else copy_rows(kept, width, to, s->step, s->len, n);
}

/* All columns, forward, or backward where dy is given. Blocks of them are copied into a buffer and back, so that memory
 * is passed over once, in long runs, even if a column's elements share a cache set. Short rows are columns of the
 * buffer too: they would leave lanes idle, and each would be summed across its lanes. */
FC_INLINE void each_column(const fc_softmax *s, const int backward, const int logarithm) {
    T buffer[SOFTMAX_KEPT];
    const T *x = s->x, *dy = s->dy;
    T *y = s->y;
    const ptrdiff_t len = s->len, step = s->step, next = step == 1 ? len : 1;
    const ptrdiff_t fitting = SOFTMAX_KEPT / (len * (backward ? 2 : 1)) / VL * VL;
    const int wide_runs = fitting < SOFTMAX_RUN && fitting < s->count;
    const ptrdiff_t width = wide_runs ? SOFTMAX_WIDE : fitting;
    for (ptrdiff_t i = 0; i < s->count; i += width) {
        const ptrdiff_t n = s->count - i < width ? s->count - i : width, at = i * next;
        if (wide_runs) {
            if (backward) softmax_wide_backward(dy + at, x + at, y + at, n, len, step, logarithm);
            else softmax_wide(x + at, y + at, n, len, step, logarithm);
            continue;
        }
        T *kept = buffer, *kept_dy = buffer + len * width;
        keep(s, x + at, kept, width, n);
        if (backward) keep(s, dy + at, kept_dy, width, n);
        for (ptrdiff_t j = 0; j < n; j += VL)
            if (backward) softmax_columns_backward(kept_dy + j, kept + j, kept + j, len, width, logarithm);
            else softmax_columns(kept + j, kept + j, len, width, logarithm);
        put_back(s, kept, width, y + at, n);
    }
}

FC_INLINE void each_row(const fc_softmax *s, const int backward, const int logarithm) {
    const T *x = s->x, *dy = s->dy;
    T *y = s->y;
    for (ptrdiff_t i = 0; i < s->count * s->len; i += s->len)
        if (backward) softmax_row_backward(dy + i, x + i, y + i, s->len, logarithm);
        else softmax_row(x + i, y + i, s->len, logarithm);
}

FC_INLINE int has_long_rows(const fc_softmax *s, const int backward) {
    return s->step == 1 && s->len >= (backward ? VL : 2 * VL);
}

/* Vectors of one element, side by side: 1, or its logarithm. */
static void softmax_of_one(const fc_softmax *s) {
    const vec one = vset1(s->logarithm ? 0 : 1);
    const T *x = s->x;
    T *y = s->y;
    for (ptrdiff_t i = 0; i < s->count; i += VL) {
        const vec v = vload_upto(x + i, s->count - i);
        vstore_upto(y + i, (v - v) + one, s->count - i); /* NaN where x is not finite */
    }
}

static void softmax(const fc_softmax *s) {
    if (s->len == 1) softmax_of_one(s);
    else if (has_long_rows(s, 0) && s->logarithm) each_row(s, 0, 1);
    else if (has_long_rows(s, 0)) each_row(s, 0, 0);
    else if (s->logarithm) each_column(s, 0, 1);
    else each_column(s, 0, 0);
}

static void softmax_backward(const fc_softmax *s) {
    if (has_long_rows(s, 1) && s->logarithm) each_row(s, 1, 1);
    else if (has_long_rows(s, 1)) each_row(s, 1, 0);
    else if (s->logarithm) each_column(s, 1, 1);
    else each_column(s, 1, 0);
}
