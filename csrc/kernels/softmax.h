/* Softmax and its logarithm, and their gradients: vectors that lie one after the other (rows) or side by
 * side (columns). Sums are taken in double, in the order of the elements' vectors. A vector with a NaN or
 * +infinity in it becomes all NaN. */

enum { SOFTMAX_WIDTH = 4, SOFTMAX_KEPT = 32 * 1024 / sizeof(T) };

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

/* At most SOFTMAX_WIDTH vectors of columns. Where they fit, their exponentials are kept in a buffer between
 * the passes, so that memory is read and written once even if a column's elements share a cache set. */
FC_INLINE void softmax_columns(const T *x, T *y, ptrdiff_t n, ptrdiff_t len, ptrdiff_t step, const int logarithm) {
    T buffer[SOFTMAX_KEPT];
    const ptrdiff_t vectors = (n + VL - 1) / VL, width = vectors * VL;
    const int fits = len * width <= SOFTMAX_KEPT;
    vec most[SOFTMAX_WIDTH], total[SOFTMAX_WIDTH];
    wide sum[SOFTMAX_WIDTH] = {0};

    for (ptrdiff_t v = 0; v < vectors; v++) most[v] = MINUS_INFINITY;
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t v = 0; v < vectors; v++) {
            const vec value = vload_upto(x + l * step + v * VL, n - v * VL);
            most[v] = vmax_second(value, most[v]);
            if (fits) vstore(buffer + l * width + v * VL, value);
        }
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t v = 0; v < vectors; v++) {
            T *kept = buffer + l * width + v * VL, *to = y + l * step + v * VL;
            const vec shifted = (fits ? vload(kept) : vload_upto(x + l * step + v * VL, n - v * VL)) - most[v];
            const vec e = vexp(shifted), result = logarithm ? shifted : e;
            sum[v] = wide_add(sum[v], vwiden(e));
            if (fits) vstore(kept, result);
            else vstore_upto(to, result, n - v * VL);
        }
    for (ptrdiff_t v = 0; v < vectors; v++) {
        total[v] = vnarrow(sum[v]);
        if (logarithm) total[v] = vlog_from_one(total[v]);
        else total[v] = vset1(1) / total[v];
    }
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t v = 0; v < vectors; v++) {
            T *to = y + l * step + v * VL;
            const vec value = fits ? vload(buffer + l * width + v * VL) : vload_upto(to, n - v * VL);
            vstore_upto(to, logarithm ? value - total[v] : value * total[v], n - v * VL);
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

FC_INLINE void softmax_columns_backward(const T *dy, const T *y, T *dx, ptrdiff_t n, ptrdiff_t len, ptrdiff_t step,
                                        const int logarithm) {
    T buffer[SOFTMAX_KEPT];
    const ptrdiff_t vectors = (n + VL - 1) / VL, width = vectors * VL;
    const int fits = 2 * len * width <= SOFTMAX_KEPT;
    wide sum[SOFTMAX_WIDTH] = {0};
    vec total[SOFTMAX_WIDTH];

    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t v = 0; v < vectors; v++) {
            const ptrdiff_t at = l * step + v * VL, valid = n - v * VL;
            const vec gradient = vload_upto(dy + at, valid), output = vload_upto(y + at, valid);
            sum[v] = softmax_sum(sum[v], gradient, output, logarithm);
            if (fits) {
                vstore(buffer + 2 * (l * width + v * VL), gradient);
                vstore(buffer + 2 * (l * width + v * VL) + VL, output);
            }
        }
    for (ptrdiff_t v = 0; v < vectors; v++) total[v] = vnarrow(sum[v]);
    for (ptrdiff_t l = 0; l < len; l++)
        for (ptrdiff_t v = 0; v < vectors; v++) {
            const ptrdiff_t at = l * step + v * VL, valid = n - v * VL;
            const T *kept = buffer + 2 * (l * width + v * VL);
            vec gradient, output;
            if (fits) gradient = vload(kept), output = vload(kept + VL);
            else gradient = vload_upto(dy + at, valid), output = vload_upto(y + at, valid);
            vstore_upto(dx + at, softmax_term(gradient, output, total[v], logarithm), valid);
        }
}

FC_INLINE void softmax_of(const fc_softmax *s, const int logarithm) {
    const T *x = s->x;
    T *y = s->y;
    if (s->step == 1)
        for (ptrdiff_t i = 0; i < s->count; i++) softmax_row(x + i * s->len, y + i * s->len, s->len, logarithm);
    else
        for (ptrdiff_t i = 0; i < s->count; i += SOFTMAX_WIDTH * VL) {
            const ptrdiff_t n = s->count - i < SOFTMAX_WIDTH * VL ? s->count - i : SOFTMAX_WIDTH * VL;
            softmax_columns(x + i, y + i, n, s->len, s->step, logarithm);
        }
}

FC_INLINE void softmax_backward_of(const fc_softmax *s, const int logarithm) {
    const T *dy = s->dy, *y = s->x;
    T *dx = s->y;
    if (s->step == 1)
        for (ptrdiff_t i = 0; i < s->count * s->len; i += s->len)
            softmax_row_backward(dy + i, y + i, dx + i, s->len, logarithm);
    else
        for (ptrdiff_t i = 0; i < s->count; i += SOFTMAX_WIDTH * VL) {
            const ptrdiff_t n = s->count - i < SOFTMAX_WIDTH * VL ? s->count - i : SOFTMAX_WIDTH * VL;
            softmax_columns_backward(dy + i, y + i, dx + i, n, s->len, s->step, logarithm);
        }
}

static void softmax(const fc_softmax *s) {
    if (s->logarithm) softmax_of(s, 1);
    else softmax_of(s, 0);
}

static void softmax_backward(const fc_softmax *s) {
    if (s->logarithm) softmax_backward_of(s, 1);
    else softmax_backward_of(s, 0);
}
