/* Average pooling: sums are divided by the number of taps that count, one by one or whole boxes of them. */

/* What to divide by: a power of two has an exact reciprocal, and multiplication is faster. */
typedef struct divisor {
    double taps;
    int exact;
    vec by;                /* taps, or their reciprocal if that is exact */
} divisor;

FC_INLINE divisor divisor_of(double taps) {
    uint64_t bits;
    memcpy(&bits, &taps, sizeof bits);
    const int exact = bits << 12 == 0;
    return (divisor){taps, exact, vset1((T)(exact ? 1 / taps : taps))};
}

FC_INLINE vec divided(vec v, const divisor *d) { return d->exact ? v * d->by : v / d->by; }

/* Divide n elements. */
static __attribute__((noinline)) void divide_run(T *y, ptrdiff_t n, double taps) {
    const divisor d = divisor_of(taps);
    ptrdiff_t i = 0;
    if (d.exact)
        for (; i + VL <= n; i += VL) vstore(y + i, vload(y + i) * d.by);
    for (; i + VL <= n; i += VL) vstore(y + i, vload(y + i) / d.by);
    if (i < n) vstore_n(y + i, divided(vload_n(y + i, n - i), &d), n - i);
}

/* Whether all windows of an axis have as many taps that count. */
static int all_count_alike(const fc_pool_divide *q, int axis) {
    const fc_windows *w = &q->windows[axis];
    if (w->size == 0) return q->hi[axis] - q->lo[axis] == 1;
    const fc_window first = window_at(w, q->lo[axis]), last = window_at(w, q->hi[axis] - 1);
    return q->include_pad ? last.padded == w->size : first.count == w->size && last.count == w->size;
}

/* The same divisor everywhere: rows that follow each other without a gap are one. */
static void divide_all(const fc_pool_divide *q, double divisor) {
    ptrdiff_t count[3], run = q->channels_last ? q->channels : 1;
    int axis = 3;
    for (int i = 0; i < 3; i++) count[i] = q->hi[i] - q->lo[i];
    while (axis > 0 && (count[axis - 1] == 1 || q->y.axis[axis - 1] == run)) run *= count[--axis];
    for (int i = axis; i < 3; i++) count[i] = 1;
    for (ptrdiff_t c = 0; c < (q->channels_last ? 1 : q->channels); c++)
        for (ptrdiff_t d = 0; d < count[0]; d++)
            for (ptrdiff_t h = 0; h < count[1]; h++)
                for (ptrdiff_t w = 0; w < count[2]; w++)
                    divide_run((T *)q->y.data + c * q->y.c + d * q->y.axis[0] + h * q->y.axis[1] + w * q->y.axis[2],
                               run, divisor);
}

static void pool_divide(const fc_pool_divide *q) {
    if (q->divisor != 0 || (all_count_alike(q, 0) && all_count_alike(q, 1) && all_count_alike(q, 2))) {
        double taps = 1;
        for (int i = 0; i < 3; i++) {
            const fc_window w = window_at(&q->windows[i], q->lo[i]);
            taps *= (double)(q->include_pad ? w.padded : w.count);
        }
        divide_all(q, q->divisor != 0 ? q->divisor : taps);
        return;
    }
    const fc_windows *windows = q->windows;
    const ptrdiff_t lo = q->lo[2], hi = q->hi[2];
    const fc_range whole = windows[2].size ? fc_whole_windows(&windows[2], lo, hi) : (fc_range){hi, hi};
    for (ptrdiff_t d = q->lo[0]; d < q->hi[0]; d++)
        for (ptrdiff_t h = q->lo[1]; h < q->hi[1]; h++) {
            const fc_window wd = window_at(&windows[0], d), wh = window_at(&windows[1], h);
            const double outer = q->include_pad ? (double)wd.padded * wh.padded : (double)wd.count * wh.count;
            T *row = (T *)q->y.data + (d - q->lo[0]) * q->y.axis[0] + (h - q->lo[1]) * q->y.axis[1];
            for (ptrdiff_t w = lo; w < hi; w++) {
                const fc_window ww = window_at(&windows[2], w);
                const double taps = outer * (q->include_pad ? ww.padded : ww.count);
                if (q->channels_last) {
                    divide_run(row + (w - lo) * q->y.axis[2], q->channels, taps);
                    continue;
                }
                const ptrdiff_t equal = w == whole.lo && whole.hi > w ? whole.hi - w : 1;
                for (ptrdiff_t c = 0; c < q->channels; c++) divide_run(row + c * q->y.c + w - lo, equal, taps);
                w += equal - 1;
            }
        }
}
