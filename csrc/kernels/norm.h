/* What batch normalisation needs of a box of one or many channels: sums per channel, and scale and shift.
 *
 * A box is `rows` rows of `len` adjacent elements. Either every column is a channel of its own
 * (channels-last), or the whole box belongs to one channel (channels-first). Sums are taken in double,
 * around a centre: the first element of each channel in the box, or the mean that is given. */

typedef struct moments { wide first, second; } moments;

/* Add up to VL elements: the sums of x - centre and its square, or of dy and dy (x - centre). */
FC_INLINE moments add_moments(moments m, const T *x, const T *dy, ptrdiff_t n, vec centre, wide wide_centre,
                              const int backward) {
    vec value = vload_upto(x, n);
    if (n < VL) value = vselect(vfirst(n), value, centre);
    const wide d = wide_sub(vwiden(value), wide_centre);
    if (backward) {
        const wide g = vwiden(vload_upto(dy, n));
        return (moments){wide_add(m.first, g), wide_add_product(m.second, g, d)};
    }
    return (moments){wide_add(m.first, d), wide_add_product(m.second, d, d)};
}

/* Forward, the sums of n elements become their mean and the sum of squares around it. */
FC_INLINE void store_moments(double *to, double first, double second, double centre, double n, const int backward) {
    to[0] = backward ? first : centre + first / n;
    to[1] = backward ? second : second - first * (first / n);
}

FC_INLINE void box_sums(const fc_channels *b, const int backward) {
    const T *x = b->x, *dy = b->dy;
    const T centre = backward ? *(const T *)b->mean : x[0];
    const wide wide_centre = vwiden(vset1(centre));
    moments m = {0};
    for (ptrdiff_t r = 0; r < b->rows; r++)
        for (ptrdiff_t i = 0; i < b->len; i += VL)
            m = add_moments(m, x + r * b->row + i, backward ? dy + r * b->row + i : NULL, b->len - i, vset1(centre),
                            wide_centre, backward);
    store_moments(b->sums, wide_sum(m.first), wide_sum(m.second), centre, (double)b->rows * (double)b->len, backward);
}

FC_INLINE void column_sums(const fc_channels *b, const int backward) {
    for (ptrdiff_t j = 0; j < b->len; j += VL) {
        const T *x = (const T *)b->x + j, *dy = backward ? (const T *)b->dy + j : NULL;
        const ptrdiff_t n = b->len - j < VL ? b->len - j : VL;
        const vec centre = vload_upto(backward ? (const T *)b->mean + j : x, n);
        const wide wide_centre = vwiden(centre);
        double first[LANES], second[LANES];
        moments m = {0};
        for (ptrdiff_t r = 0; r < b->rows; r++)
            m = add_moments(m, x + r * b->row, backward ? dy + r * b->row : NULL, n, centre, wide_centre, backward);
        memcpy(first, &m.first, sizeof first);
        memcpy(second, &m.second, sizeof second);
        for (ptrdiff_t i = 0; i < n; i++)
            store_moments(b->sums + 2 * (j + i), first[i], second[i], centre[i], (double)b->rows, backward);
    }
}

static void channel_sums(const fc_channels *b) {
    if (b->dy && b->by_column) column_sums(b, 1);
    else if (b->dy) box_sums(b, 1);
    else if (b->by_column) column_sums(b, 0);
    else box_sums(b, 0);
}

/* What is done with a channel's elements; in by_column boxes each lane has a channel of its own. */
typedef struct affine { vec mean, scale, slope, shift; } affine;

enum { SCALE_X, SCALE_DY, SCALE_BOTH };

FC_INLINE vec channel_value(const void *p, ptrdiff_t j, ptrdiff_t n, const int by_column) {
    if (by_column) return vload_upto((const T *)p + j, n);
    return vset1(*(const T *)p);
}

FC_INLINE affine affine_of(const fc_channels *b, ptrdiff_t j, ptrdiff_t n, const int what, const int by_column) {
    affine a = {.scale = channel_value(b->scale, j, n, by_column)};
    if (what != SCALE_DY) {
        a.mean = channel_value(b->mean, j, n, by_column);
        a.shift = channel_value(b->shift, j, n, by_column);
    }
    if (what == SCALE_BOTH) a.slope = channel_value(b->slope, j, n, by_column);
    return a;
}

FC_INLINE vec affine_at(const affine *a, const fc_channels *b, ptrdiff_t at, ptrdiff_t n, const int what) {
    if (what == SCALE_DY) return vload_upto((const T *)b->dy + at, n) * a->scale;
    const vec d = vload_upto((const T *)b->x + at, n) - a->mean;
    if (what == SCALE_X) return vfma(d, a->scale, a->shift);
    return vfma(vload_upto((const T *)b->dy + at, n), a->scale, vfma(d, a->slope, a->shift));
}

FC_INLINE void scale_rows(const fc_channels *b, const int what, const int by_column) {
    affine a = affine_of(b, 0, 1, what, 0);
    for (ptrdiff_t r = 0; r < b->rows; r++)
        for (ptrdiff_t i = 0; i < b->len; i += VL) {
            const ptrdiff_t at = r * b->row + i, n = b->len - i;
            if (by_column) a = affine_of(b, i, n, what, 1);
            vstore_upto((T *)b->y + at, affine_at(&a, b, at, n, what), n);
        }
}

/* y = scale (x - mean) + shift, or scale dy, or scale dy + slope (x - mean) + shift, as x and dy are given. */
static void channel_scale(const fc_channels *b) {
    if (!b->dy && b->by_column) scale_rows(b, SCALE_X, 1);
    else if (!b->dy) scale_rows(b, SCALE_X, 0);
    else if (!b->x && b->by_column) scale_rows(b, SCALE_DY, 1);
    else if (!b->x) scale_rows(b, SCALE_DY, 0);
    else if (b->by_column) scale_rows(b, SCALE_BOTH, 1);
    else scale_rows(b, SCALE_BOTH, 0);
}

/* y = x scale where the mask is not 0, else 0 (also where x is not finite). */
static void scale_kept(const void *x, const uint8_t *mask, double scale, void *y, ptrdiff_t n) {
    const T *from = x;
    T *to = y;
    const vec factor = vset1((T)scale);
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) {
        const ivec kept = vload_bytes(mask + i) != 0;
        vstore(to + i, vselect(kept, vload(from + i) * factor, vset1(0)));
    }
    for (; i < n; i++) to[i] = mask[i] ? from[i] * (T)scale : 0;
}
