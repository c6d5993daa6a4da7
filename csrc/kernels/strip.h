/* Strips: the padded input of one output box, copied into private scratch in the order it has. */
#include "../padding.h"

FC_INLINE void copy(T *dst, const T *src, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) vstore(dst + i, vload(src + i));
    if (i < n) vstore_n(dst + i, vload_n(src + i, n - i), n - i);
}

FC_INLINE void zero(T *dst, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) vstore(dst + i, (vec){0});
    if (i < n) vstore_n(dst + i, (vec){0}, n - i);
}

/* Interior of a split row: n elements, the first of which is column i of the strip. */
static void split_run(const fc_strip *s, const T *src, T *dst, ptrdiff_t i, ptrdiff_t n) {
    const ptrdiff_t split = s->split, sw = s->src_axis[2];
    if (split == 2 && sw == 1) {
        T *even = dst + i % 2 * s->dst_run + i / 2, *odd = dst + (i + 1) % 2 * s->dst_run + (i + 1) / 2;
        for (; n > 0; n -= 2 * VL, src += 2 * VL, even += VL, odd += VL) {
            const vec a = vload_upto(src, n), b = n > VL ? vload_upto(src + VL, n - VL) : (vec){0};
            vstore_upto(even, vevens(a, b), (n + 1) / 2);
            vstore_upto(odd, vodds(a, b), n / 2);
        }
        return;
    }
    for (ptrdiff_t f = 0; f < split; f++) { /* column i + f and every split-th after it */
        T *to = dst + (i + f) % split * s->dst_run + (i + f) / split;
        for (ptrdiff_t k = f; k < n; k += split) *to++ = src[k * sw];
    }
}

/* What a row of one channel has outside of columns [in0, in1), which are in the image; src NULL is a row of zeros. */
static void row_outside(const fc_strip *s, const T *src, T *dst, ptrdiff_t in0, ptrdiff_t in1) {
    const ptrdiff_t w0 = s->lo[2], w1 = w0 + s->count[2], sw = s->src_axis[2], dw = s->dst_axis[2];
    const int zeros = dw == 1 && (!src || s->mode == FC_ZEROS);
    if (zeros && s->split == 1) {
        zero(dst, in0 - w0);
        zero(dst + in1 - w0, w1 - in1);
    } else if (zeros) {
        zero(dst, s->split * s->dst_run);
    } else {
        for (ptrdiff_t w = w0; w < w1; w++) {
            if (w == in0) w = in1;
            if (w == w1) break;
            const ptrdiff_t from = src ? padded_source(w, s->extent[2], s->mode) : -1;
            dst[(w - w0) % s->split * s->dst_run + (w - w0) / s->split * dw] = from < 0 ? 0 : src[from * sw];
        }
    }
}

/* The rest of that row: n elements from column i of the strip on. */
static void row_inside(const fc_strip *s, const T *src, T *dst, ptrdiff_t i, ptrdiff_t n) {
    const ptrdiff_t sw = s->src_axis[2], dw = s->dst_axis[2];
    if (s->split > 1) split_run(s, src, dst, i, n);
    else if (sw == 1 && dw == 1) copy(dst + i, src, n);
    else
        for (ptrdiff_t k = 0; k < n; k++) dst[(i + k) * dw] = src[k * sw];
}

/* The same for all channels of channels-last pixels, whose channels the strip holds apart. */
static void pixels_inside(const fc_strip *s, const T *src, T *dst, ptrdiff_t i, ptrdiff_t n) {
    for (ptrdiff_t f = 0; f < s->split && f < n; f++) /* column i + f and every split-th after it */
        transpose(src + f * s->src_axis[2], s->split * s->src_axis[2], (n - f - 1) / s->split + 1, s->channels,
                  dst + (i + f) % s->split * s->dst_run + (i + f) / s->split, s->dst_c);
}

/* Columns [i, end) of a strip whose channels are adjacent, all outside of the image; src NULL is a row of zeros. */
static void pixels_outside(const fc_strip *s, const T *src, T *dst, ptrdiff_t i, ptrdiff_t end) {
    for (; i < end; i++) {
        T *to = dst + i * s->dst_axis[2];
        const ptrdiff_t from = src ? padded_source(s->lo[2] + i, s->extent[2], s->mode) : -1;
        if (from < 0) zero(to, s->channels);
        else
            for (ptrdiff_t j = 0; j < s->channels; j++) to[j] = src[from * s->src_axis[2] + j * s->src_c];
    }
}

/* n pixels for such a strip, whose channels or whose columns are adjacent. */
static void pixels_adjacent(const fc_strip *s, const T *src, T *dst, ptrdiff_t n) {
    const ptrdiff_t sw = s->src_axis[2], dw = s->dst_axis[2], c = s->channels;
    if (s->src_c != 1) transpose(src, s->src_c, c, n, dst, dw);
    else if (sw == c && dw == c) copy(dst, src, n * c);
    else
        for (ptrdiff_t i = 0; i < n; i++) copy(dst + i * dw, src + i * sw, c);
}

/* One row (fixed d and h) of all channels; src is the row's w = 0, or NULL for a row of zeros. */
static void strip_row(const fc_strip *s, const T *src, T *dst) {
    const ptrdiff_t w0 = s->lo[2], w1 = w0 + s->count[2], extent = s->extent[2];
    const ptrdiff_t sw = s->src_axis[2], dw = s->dst_axis[2], c = s->channels;
    const ptrdiff_t in0 = w0 < 0 ? (w1 < 0 ? w1 : 0) : w0, end = w1 < extent ? w1 : extent;
    const ptrdiff_t in1 = end > in0 ? end : in0;
    const ptrdiff_t left = (src ? in0 : w1) - w0, n = src ? in1 - in0 : 0, right = w1 - w0 - left - n;
    if (dw == 1 && s->split == 1 && (!src || (sw == 1 && s->mode == FC_ZEROS))) { /* zeros around rows as they are */
        const ptrdiff_t src_c = s->src_c, dst_c = s->dst_c;
        for (ptrdiff_t j = 0; j < c; j++, dst += dst_c) {
            zero(dst, left);
            if (n) copy(dst + left, src + in0 + j * src_c, n);
            zero(dst + left + n, right);
        }
        return;
    }
    if (s->dst_c == 1 && s->split == 1 && (!src || s->src_c == 1 || sw == 1)) { /* to channels-last */
        pixels_outside(s, src, dst, 0, left);
        if (n) pixels_adjacent(s, src + in0 * sw, dst + left * dw, n);
        pixels_outside(s, src, dst, left + n, w1 - w0);
        return;
    }
    const int together = s->src_c == 1 && c > 1 && dw == 1;
    for (ptrdiff_t j = 0; j < c; j++) {
        const T *from = src ? src + j * s->src_c : NULL;
        row_outside(s, from, dst + j * s->dst_c, w0 + left, w0 + left + n);
        if (n && !together) row_inside(s, from + in0 * sw, dst + j * s->dst_c, left, n);
    }
    if (n && together) pixels_inside(s, src + in0 * sw, dst, left, n);
}

static void load_strip(const fc_strip *s) {
    for (ptrdiff_t d = 0; d < s->count[0]; d++) {
        const ptrdiff_t from_d = padded_source(s->lo[0] + d, s->extent[0], s->mode);
        for (ptrdiff_t h = 0; h < s->count[1]; h++) {
            const ptrdiff_t from_h = padded_source(s->lo[1] + h, s->extent[1], s->mode);
            const T *src = from_d < 0 || from_h < 0
                ? NULL : (const T *)s->src + from_d * s->src_axis[0] + from_h * s->src_axis[1];
            strip_row(s, src, (T *)s->dst + d * s->dst_axis[0] + h * s->dst_axis[1]);
        }
    }
}

/* src at lo + (d, h, w), as the padding mode maps it, += dst[c][d][h][w]; zeros take nothing. */
static void fold_strip(const fc_strip *s) {
    for (ptrdiff_t d = 0; d < s->count[0]; d++) {
        const ptrdiff_t to_d = padded_source(s->lo[0] + d, s->extent[0], s->mode);
        for (ptrdiff_t h = 0; h < s->count[1]; h++) {
            const ptrdiff_t to_h = padded_source(s->lo[1] + h, s->extent[1], s->mode);
            if (to_d < 0 || to_h < 0) continue;
            T *to = (T *)s->src + to_d * s->src_axis[0] + to_h * s->src_axis[1];
            const T *from = (const T *)s->dst + d * s->dst_axis[0] + h * s->dst_axis[1];
            for (ptrdiff_t w = 0; w < s->count[2]; w++) {
                const ptrdiff_t to_w = padded_source(s->lo[2] + w, s->extent[2], s->mode);
                if (to_w < 0) continue;
                for (ptrdiff_t c = 0; c < s->channels; c++)
                    to[to_w * s->src_axis[2] + c * s->src_c] += from[w * s->dst_axis[2] + c * s->dst_c];
            }
        }
    }
}
