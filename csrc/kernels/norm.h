/* What batch normalisation needs of a box of one or many channels: sums per channel, and scale and shift.
 *
 * A box is `rows` rows of `len` adjacent elements. Either every column is a channel of its own
 * (channels-last), or the whole box belongs to one channel (channels-first). Sums are taken in double,
 * around a centre: the first element of each channel in the box, or the mean that is given. */

/* What is done with a channel's elements; in by_column boxes each lane has a channel of its own. Backward through a
 * relu, `offset` is the shift of the forward pass: the sign of its result is computed anew, with the same bits. */
typedef struct affine { vec mean, scale, slope, shift, offset; } affine;

typedef struct moments { wide first, second; } moments;

/* Vectors that are summed side by side: their additions hide each other's latency, and runs of a row are longer. */
enum { SUMMED = VBYTES == 64 ? 4 : 2 };

enum { SCALE_X, SCALE_DY, SCALE_BOTH };

/* A result that isn't above this one is replaced by it: 0 for relu, or NaN, which nothing compares with. */
FC_INLINE vec floor_of(const fc_channels *b) { return vset1(b->relu ? (T)0 : (T)__builtin_nan("")); }

/* dy, or 0 where relu has cut off the result at the distance d from the mean. */
FC_INLINE vec gradient_at(const affine *a, vec floor, vec d, vec dy) {
    return vselect((ivec)(vfma(d, a->scale, a->offset) <= floor), vset1(0), dy);
}

FC_INLINE vec channel_value(const void *p, ptrdiff_t j, ptrdiff_t n, const int by_column) {
    if (by_column) return vload_upto((const T *)p + j, n);
    return vset1(*(const T *)p);
}

/* Add up to VL elements from `at` on: the sums of x - mean and its square, or of the gradient g and g (x - mean). */
FC_INLINE moments add_moments(moments m, const fc_channels *b, ptrdiff_t at, ptrdiff_t n, const affine *a, vec floor,
                              const int backward) {
    vec value = vload_upto((const T *)b->x + at, n);
    if (n < VL) value = vselect(vfirst(n), value, a->mean);
    const wide d = wide_sub(vwiden(value), vwiden(a->mean));
    if (backward) {
        const wide g = vwiden(gradient_at(a, floor, value - a->mean, vload_upto((const T *)b->dy + at, n)));
        return (moments){wide_add(m.first, g), wide_add_product(m.second, g, d)};
    }
    return (moments){wide_add(m.first, d), wide_add_product(m.second, d, d)};
}

/* Forward, the sums of n elements become their mean and the sum of squares around it. */
FC_INLINE void store_moments(double *to, double first, double second, double centre, double n, const int backward) {
    to[0] = backward ? first : centre + first / n;
    to[1] = backward ? second : second - first * (first / n);
}

/* Sums are taken around the mean that is given, or the first element of each channel in the box. */
FC_INLINE affine centre_of(const fc_channels *b, ptrdiff_t j, ptrdiff_t n, const int by_column, const int backward) {
    affine a = {.mean = channel_value(backward ? b->mean : b->x, j, n, by_column)};
    if (backward) {
        a.scale = channel_value(b->scale, j, n, by_column);
        a.offset = channel_value(b->offset, j, n, by_column);
    }
    return a;
}

FC_INLINE void box_sums(const fc_channels *b, const int backward) {
    const affine a = centre_of(b, 0, 1, 0, backward);
    const vec floor = floor_of(b);
    moments m[SUMMED] = {0};
    for (ptrdiff_t r = 0; r < b->rows; r++) {
        ptrdiff_t i = 0;
        for (; i + SUMMED * VL <= b->len; i += SUMMED * VL)
#pragma GCC unroll 4
            for (int v = 0; v < SUMMED; v++)
                m[v] = add_moments(m[v], b, r * b->row + i + v * VL, VL, &a, floor, backward);
        for (; i < b->len; i += VL) m[0] = add_moments(m[0], b, r * b->row + i, b->len - i, &a, floor, backward);
    }
    for (int v = 1; v < SUMMED; v++) {
        m[0].first = wide_add(m[0].first, m[v].first);
        m[0].second = wide_add(m[0].second, m[v].second);
    }
    store_moments(b->sums, wide_sum(m[0].first), wide_sum(m[0].second), a.mean[0],
                  (double)b->rows * (double)b->len, backward);
}

/* `vectors` vectors of columns from j on, of n columns each. */
FC_INLINE void vector_sums(const fc_channels *b, ptrdiff_t j, ptrdiff_t n, const int vectors, const int backward) {
    const vec floor = floor_of(b);
    affine a[SUMMED];
    moments m[SUMMED] = {0};
    for (int v = 0; v < vectors; v++) a[v] = centre_of(b, j + v * VL, n, 1, backward);
    for (ptrdiff_t r = 0; r < b->rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            m[v] = add_moments(m[v], b, r * b->row + j + v * VL, n, &a[v], floor, backward);
    for (int v = 0; v < vectors; v++) {
        double first[LANES], second[LANES];
        memcpy(first, &m[v].first, sizeof first);
        memcpy(second, &m[v].second, sizeof second);
        for (ptrdiff_t i = 0; i < n; i++)
            store_moments(b->sums + 2 * (j + v * VL + i), first[i], second[i], a[v].mean[i], (double)b->rows, backward);
    }
}

FC_INLINE void column_sums(const fc_channels *b, const int backward) {
    ptrdiff_t j = 0;
    for (; j + SUMMED * VL <= b->len; j += SUMMED * VL) vector_sums(b, j, VL, SUMMED, backward);
    for (; j < b->len; j += VL) vector_sums(b, j, b->len - j < VL ? b->len - j : VL, 1, backward);
}

static void channel_sums(const fc_channels *b) {
    if (b->dy && b->by_column) column_sums(b, 1);
    else if (b->dy) box_sums(b, 1);
    else if (b->by_column) column_sums(b, 0);
    else box_sums(b, 0);
}

FC_INLINE affine affine_of(const fc_channels *b, ptrdiff_t j, ptrdiff_t n, const int what, const int by_column) {
    affine a = {.scale = channel_value(b->scale, j, n, by_column)};
    if (what != SCALE_DY) {
        a.mean = channel_value(b->mean, j, n, by_column);
        a.shift = channel_value(b->shift, j, n, by_column);
    }
    if (what == SCALE_BOTH) {
        a.slope = channel_value(b->slope, j, n, by_column);
        a.offset = channel_value(b->offset, j, n, by_column);
    }
    return a;
}

FC_INLINE vec affine_at(const affine *a, vec floor, const fc_channels *b, ptrdiff_t at, ptrdiff_t n, const int what) {
    if (what == SCALE_DY) return vload_upto((const T *)b->dy + at, n) * a->scale;
    const vec d = vload_upto((const T *)b->x + at, n) - a->mean;
    if (what == SCALE_X) {
        const vec y = vfma(d, a->scale, a->shift);
        return vselect((ivec)(y <= floor), floor, y);
    }
    const vec g = gradient_at(a, floor, d, vload_upto((const T *)b->dy + at, n));
    return vfma(g, a->scale, vfma(d, a->slope, a->shift));
}

FC_INLINE void scale_rows(const fc_channels *b, const int what, const int by_column) {
    const vec floor = floor_of(b);
    affine a = affine_of(b, 0, 1, what, 0);
    for (ptrdiff_t r = 0; r < b->rows; r++)
        for (ptrdiff_t i = 0; i < b->len; i += VL) {
            const ptrdiff_t at = r * b->row + i, n = b->len - i;
            if (by_column) a = affine_of(b, i, n, what, 1);
            vstore_upto((T *)b->y + at, affine_at(&a, floor, b, at, n, what), n);
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
