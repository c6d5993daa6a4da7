/* Fourier transforms of real lines, one a lane, and the products between them.
 *
 * A line of `size` elements is a complex one of half as many, its even elements the real parts; the transform of that
 * is Stockham's, whose passes of radix 4 (and one of 2) go from one buffer to another and leave the frequencies in
 * order. Neither needs a shuffle: a lane never meets another. As 2 X comes out of the split and 2 Z of its inverse, and
 * the inverse transform isn't divided either, what is convolved is 4 size times too large: the weights are scaled. */

FC_INLINE int lines_adjacent(const fc_fft *f) {
    if (!f->line[0]) return 0;
    for (ptrdiff_t l = 1; l < f->lanes; l++)
        if ((T *)f->line[l] != (T *)f->line[0] + l || f->at[l] != f->at[0]) return 0;
    return f->lanes > 1 || f->step != 1;
}

/* n elements of a lane, from i on. */
FC_INLINE vec line_piece(const fc_fft *f, ptrdiff_t l, ptrdiff_t i, ptrdiff_t n) {
    const T *const line = f->line[l];
    T v[VBYTES / sizeof(T)] = {0};
    if (!line) return vload(v);
    const ptrdiff_t way = f->reversed ? -1 : 1, at = f->at[l] + way * i, end = at + way * (n - 1);
    const int inside = at >= 0 && end >= 0 && at < f->extent && end < f->extent;
    if (f->step == 1 && !f->reversed && inside) return vload_upto(line + at, n);
    for (ptrdiff_t k = 0; k < n; k++) {
        const ptrdiff_t from = inside ? at + way * k : padded_source(at + way * k, f->extent, f->mode);
        if (from >= 0) v[k] = line[from * f->step];
    }
    return vload(v);
}

static __attribute__((noinline)) void load_lines(const fc_fft *f, T *to) {
    const ptrdiff_t len = f->len;
    zero(to + len * VL, (f->size - len) * VL);
    if (lines_adjacent(f)) {
        for (ptrdiff_t i = 0; i < len; i++) {
            const ptrdiff_t from = padded_source(f->at[0] + (f->reversed ? -i : i), f->extent, f->mode);
            vec v = {0};
            if (from >= 0) v = vload_upto((const T *)f->line[0] + from * f->step, f->lanes);
            vstore(to + i * VL, v);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < len; i += VL) {
        const ptrdiff_t n = len - i < VL ? len - i : VL;
        vec r[VBYTES / sizeof(T)] = {{0}};
        for (ptrdiff_t l = 0; l < f->lanes; l++) r[l] = line_piece(f, l, i, n);
        vtranspose(r);
        for (ptrdiff_t k = 0; k < n; k++) vstore(to + (i + k) * VL, r[k]);
    }
}

/* Elements [0, len) of each lane to where they belong, as far as that exists. */
static __attribute__((noinline)) void store_lines(const fc_fft *f, const T *from) {
    if (lines_adjacent(f)) {
        for (ptrdiff_t i = 0; i < f->len && f->at[0] + i < f->extent; i++) {
            T *const to = (T *)f->line[0] + (f->at[0] + i) * f->step;
            vec v = vload(from + i * VL);
            if (f->accumulate) v += vload_upto(to, f->lanes);
            vstore_upto(to, v, f->lanes);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < f->len; i += VL) {
        vec r[VBYTES / sizeof(T)] = {{0}};
        for (ptrdiff_t k = 0; k < VL && i + k < f->len; k++) r[k] = vload(from + (i + k) * VL);
        vtranspose(r);
        for (ptrdiff_t l = 0; l < f->lanes; l++) {
            ptrdiff_t n = f->extent - f->at[l] - i;
            if (n > f->len - i) n = f->len - i;
            if (!f->line[l] || n <= 0) continue;
            T *const to = (T *)f->line[l] + (f->at[l] + i) * f->step;
            if (n > VL) n = VL;
            if (f->step == 1) {
                if (f->accumulate) r[l] += vload_upto(to, n);
                vstore_upto(to, r[l], n);
            } else {
                for (ptrdiff_t k = 0; k < n; k++) to[k * f->step] = f->accumulate ? to[k * f->step] + r[l][k] : r[l][k];
            }
        }
    }
}

/* (re, im) at `to` = (re, im) exp(-2 pi i k / size). */
FC_INLINE void store_turned(T *to, vec re, vec im, const T *root) {
    const vec c = vset1(root[0]), s = vset1(root[1]);
    vstore(to, vfma(s, im, c * re));
    vstore(to + VL, vfma(-s, re, c * im));
}

/* A pass over n elements, s side by side:
 * y[4 p + k] = sum over l < 4 of x[p + l n / 4] exp(-2 pi i (l k / 4 + p k / n)). */
static __attribute__((noinline)) void fft_four(const T *x, T *y, ptrdiff_t n, ptrdiff_t s, const T *roots,
                                              ptrdiff_t apart) {
    const ptrdiff_t row = 2 * VL, part = n / 4 * s * row, out = s * row;
    for (ptrdiff_t p = 0; p < n / 4; p++, y += 3 * out) {
        const T *const root = roots + 2 * p * apart;
        for (ptrdiff_t q = 0; q < s; q++, x += row, y += row) {
            const vec ar = vload(x), ai = vload(x + VL), br = vload(x + part), bi = vload(x + part + VL);
            const vec cr = vload(x + 2 * part), ci = vload(x + 2 * part + VL);
            const vec dr = vload(x + 3 * part), di = vload(x + 3 * part + VL);
            const vec er = ar + cr, ei = ai + ci, fr = ar - cr, fi = ai - ci;
            const vec gr = br + dr, gi = bi + di, hr = br - dr, hi = bi - di;
            vstore(y, er + gr);
            vstore(y + VL, ei + gi);
            store_turned(y + out, fr + hi, fi - hr, root);
            store_turned(y + 2 * out, er - gr, ei - gi, roots + 4 * p * apart);
            store_turned(y + 3 * out, fr - hi, fi + hr, roots + 6 * p * apart);
        }
    }
}

static void fft_two(const T *x, T *y, ptrdiff_t s) {
    for (ptrdiff_t i = 0; i < 2 * s * VL; i += VL) {
        const vec a = vload(x + i), b = vload(x + i + 2 * s * VL);
        vstore(y + i, a + b);
        vstore(y + i + 2 * s * VL, a - b);
    }
}

/* The transform of size / 2 complex elements at f->work; returns where it lies. */
static T *fft_complex(const fc_fft *f) {
    T *x = f->work, *y = x + f->size * VL;
    for (ptrdiff_t n = f->size / 2, s = 1; n > 1; n /= 4, s *= 4) {
        if (n == 2) fft_two(x, y, s);
        else fft_four(x, y, n, s, f->roots, f->size / n);
        T *const swap = x;
        x = y;
        y = swap;
        if (n == 2) break;
    }
    return x;
}

/* spectrum[k][re, im][lane] = scale (2 X, or its conjugate), 0 <= k <= size / 2. */
static void fft_forward(const fc_fft *f) {
    const ptrdiff_t half = f->size / 2, row = 2 * VL, point = f->point;
    const vec scale = vset1((T)f->scale), turn = f->conjugate ? -scale : scale;
    load_lines(f, f->work);
    const T *const z = fft_complex(f);
    T *const to = f->spectrum, *const to_im = to + f->im;
    const vec re = vload(z), im = vload(z + VL);
    vstore(to, scale * (re + re + (im + im)));
    vstore(to_im, (vec){0});
    vstore(to + half * point, scale * (re + re - (im + im)));
    vstore(to_im + half * point, (vec){0});
    for (ptrdiff_t k = 1; k <= half / 2; k++) {
        const ptrdiff_t j = half - k;
        const vec ar = vload(z + k * row), ai = vload(z + k * row + VL), br = vload(z + j * row);
        const vec bi = vload(z + j * row + VL), er = ar + br, ei = ai - bi, or = ai + bi, oi = br - ar;
        const vec c = vset1(((const T *)f->roots)[2 * k]), s = vset1(((const T *)f->roots)[2 * k + 1]);
        const vec tr = vfma(s, oi, c * or), ti = vfma(-s, or, c * oi);
        vstore(to + k * point, scale * (er + tr));
        vstore(to_im + k * point, turn * (ei + ti));
        vstore(to + j * point, scale * (er - tr));
        vstore(to_im + j * point, turn * (ti - ei));
    }
}

/* The adjoint way: sums of products to lines, + bias, through the activation. With real and imaginary parts exchanged
 * before and after, the transform is the inverse one. */
static void fft_backward(const fc_fft *f) {
    const ptrdiff_t half = f->size / 2, row = 2 * VL, point = f->point;
    const T *const from = f->spectrum, *const from_im = from + f->im;
    T *const z = f->work;
    const vec first = vload(from), last = vload(from + half * point);
    vstore(z, first - last);
    vstore(z + VL, first + last);
    for (ptrdiff_t k = 1; k <= half / 2; k++) {
        const ptrdiff_t j = half - k;
        const vec ar = vload(from + k * point), ai = vload(from_im + k * point), br = vload(from + j * point);
        const vec bi = vload(from_im + j * point), er = ar + br, ei = ai - bi, dr = ar - br, di = ai + bi;
        const vec c = vset1(((const T *)f->roots)[2 * k]), s = vset1(((const T *)f->roots)[2 * k + 1]);
        const vec or = vfma(-s, di, c * dr), oi = vfma(s, dr, c * di);
        vstore(z + k * row, ei + or);
        vstore(z + k * row + VL, er - oi);
        vstore(z + j * row, or - ei);
        vstore(z + j * row + VL, er + oi);
    }
    T *const y = fft_complex(f);
    const vec bias = vload(f->bias);
    for (ptrdiff_t i = 0; i < f->len; i += 2) { /* both of a pair are there: len < size */
        const vec odd = vload(y + i * VL), even = vload(y + (i + 1) * VL);
        vstore(y + i * VL, even + bias);
        vstore(y + (i + 1) * VL, odd + bias);
    }
    if (f->activation != FC_IDENTITY) activate(f->activation, FC_LEAKY_SLOPE, y, y, f->len * VL, 0);
    store_lines(f, y);
}

/* ------------------------------------------------------------------ products */

enum { SPECTRAL_NV = 2, SPECTRAL_ROWS = FC_NV > 2 ? 6 : 2 };

FC_INLINE void spectral_tile(const fc_spectral *p, const T *a, const T *b, T *c, const ptrdiff_t *row,
                             const ptrdiff_t *crow, const int mr, const int nv, const int lanewise) {
    vec re[SPECTRAL_ROWS][SPECTRAL_NV], im[SPECTRAL_ROWS][SPECTRAL_NV];
    ptrdiff_t at[SPECTRAL_ROWS];
#pragma GCC unroll 6
    for (int m = 0; m < mr; m++) {
        at[m] = row[m];
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) {
            re[m][v] = p->accumulate ? vload(c + crow[m] + v * VL) : (vec){0};
            im[m][v] = p->accumulate ? vload(c + crow[m] + v * VL + p->c_im) : (vec){0};
        }
    }
    for (ptrdiff_t s = 0; s < p->segs; s++) {
        const T *x = a + p->aseg[s], *x_im = x + p->a_im, *w = b + p->bseg[s], *w_im = w + p->b_im;
        for (ptrdiff_t l = 0; l < p->len; l++, x += p->a_step, x_im += p->a_step, w += p->b_step, w_im += p->b_step) {
            vec wr[SPECTRAL_NV], wi[SPECTRAL_NV];
#pragma GCC unroll 2
            for (int v = 0; v < nv; v++) {
                wr[v] = vload(w + v * VL);
                wi[v] = vload(w_im + v * VL);
            }
#pragma GCC unroll 6
            for (int m = 0; m < mr; m++) {
                const vec xr = lanewise ? vload(x + at[m]) : vset1(x[at[m]]);
                const vec xi = lanewise ? vload(x_im + at[m]) : vset1(x_im[at[m]]);
#pragma GCC unroll 2
                for (int v = 0; v < nv; v++) {
                    re[m][v] = vfma(xr, wr[v], re[m][v]);
                    im[m][v] = vfma(xr, wi[v], im[m][v]);
                    re[m][v] = vfma(-xi, wi[v], re[m][v]);
                    im[m][v] = vfma(xi, wr[v], im[m][v]);
                }
            }
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < mr; m++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) {
            vstore(c + crow[m] + v * VL, re[m][v]);
            vstore(c + crow[m] + v * VL + p->c_im, im[m][v]);
        }
}

/* All rows of one or two vectors. */
FC_INLINE void spectral_columns(const fc_spectral *p, const T *a, const T *b, T *c, const int nv, const int lanewise) {
    ptrdiff_t m = 0;
    for (; m + SPECTRAL_ROWS <= p->rows; m += SPECTRAL_ROWS)
        spectral_tile(p, a, b, c, p->row + m, p->crow + m, SPECTRAL_ROWS, nv, lanewise);
#if FC_NV > 2
    for (; m + 3 <= p->rows; m += 3) spectral_tile(p, a, b, c, p->row + m, p->crow + m, 3, nv, lanewise);
#endif
    for (; m < p->rows; m++) spectral_tile(p, a, b, c, p->row + m, p->crow + m, 1, nv, lanewise);
}

static void spectral(const fc_spectral *p) {
    const T *a = p->a, *b = p->b;
    T *c = p->c;
    for (ptrdiff_t k = 0; k < p->points; k++, a += p->a_point, b += p->b_point, c += p->c_point) {
        if (p->lanewise) {
            spectral_columns(p, a, b, c, 1, 1);
            continue;
        }
        ptrdiff_t j = 0;
        for (; j + 2 * VL <= p->n; j += 2 * VL) spectral_columns(p, a, b + j, c + j, 2, 0);
        if (j < p->n) spectral_columns(p, a, b + j, c + j, 1, 0);
    }
}
