/* Filters on images of interleaved channels: rows come in as T, with their borders; results go out as T or bytes. */

enum {
    HAS_BYTES = sizeof(T) == 4,              /* images of bytes are summed in float32 alone */
    FILTER_PAST = STORES_PAST && HAS_BYTES,  /* large images of float64 are rare */
};

/* 1.5 x 2^(bits of the fraction): a sum with it has the integer next to a small number, ties to even, in low bits. */
#define FC_ROUNDER (sizeof(T) == 4 ? (T)0x1.8p23 : (T)0x1.8p52)

FC_INLINE ivec vround_int(vec v) {
    const vec rounder = vset1(FC_ROUNDER);
    return (ivec)(v + rounder) - (ivec)rounder;
}

FC_INLINE vec vfrom_int(ivec v) {
    const vec rounder = vset1(FC_ROUNDER);
    return (vec)(v + (ivec)rounder) - rounder;
}

static void widen_bytes(const uint8_t *from, T *to, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) vstore(to + i, vfrom_int(vload_bytes(from + i)));
    for (; i < n; i++) to[i] = from[i];
}

static void load_image_row(const fc_photo *p, ptrdiff_t row, ptrdiff_t lo, ptrdiff_t count, void *to) {
    const ptrdiff_t c = p->channels, from = padded_source(row, p->extent[0], p->mode), w = p->extent[1];
    T *pixel = to;
    if (from < 0) {
        zero(pixel, count * c);
        return;
    }
    const T *line = (const T *)p->x + from * p->row;
    const uint8_t *bytes = (const uint8_t *)p->x + from * p->row;
    for (ptrdiff_t i = lo; i < lo + count;) {
        if (i >= 0 && i < w) { /* all that is inside; the next row is prefetched, since the hardware sees no pattern
                                * in pieces of rows: that saves a fifth of the time of small kernels */
            const ptrdiff_t end = lo + count < w ? lo + count : w, size = HAS_BYTES && p->bytes ? 1 : sizeof(T);
            const char *next = (const char *)p->x + ((from + 1) * p->row + i * c) * size;
            for (ptrdiff_t ahead = 0; from + 1 < p->extent[0] && ahead < (end - i) * c * size; ahead += 64)
                __builtin_prefetch(next + ahead);
            if (HAS_BYTES && p->bytes) widen_bytes(bytes + i * c, pixel, (end - i) * c);
            else copy(pixel, line + i * c, (end - i) * c);
            pixel += (end - i) * c;
            i = end;
            continue;
        }
        const ptrdiff_t at = padded_source(i++, w, p->mode);
        for (ptrdiff_t j = 0; j < c; j++)
            *pixel++ = at < 0 ? 0 : HAS_BYTES && p->bytes ? bytes[at * c + j] : line[at * c + j];
    }
}

FC_INLINE ivec rounded_byte(vec v) {
    return vround_int(vmin_second(vmax_second(v, vset1(0)), vset1(255)));
}

/* n <= most results of one kernel, from memory that has room for whole vectors. */
static void store_filtered(const fc_filter *f, const T *from, ptrdiff_t i, ptrdiff_t n, void *y) {
    const vec offset = vset1((T)f->offset);
    for (ptrdiff_t at = 0; at < n; at += VL) {
        const vec v = vload(from + at) + offset;
        if (FILTER_PAST && f->past && n - at >= VL) vstore_past((T *)y + i + at, v);
        else if (HAS_BYTES && f->bytes) vstore_bytes((uint8_t *)y + i + at, rounded_byte(v), n - at);
        else vstore_upto((T *)y + i + at, v, n - at);
    }
}

enum { FILTER_ALONE = 2 * FC_NV }; /* vectors of a tile of one kernel: enough chains to hide the FMA latency */

/* `vectors` vectors of results of `kernels` kernels from element i on, as far as there are results. */
FC_INLINE void filter_tile(const fc_filter *f, ptrdiff_t i, const int kernels, const int vectors) {
    vec sum[FC_FILTER_KERNELS][FILTER_ALONE], source[FILTER_ALONE];
#pragma GCC unroll 4
    for (int k = 0; k < kernels; k++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) sum[k][v] = (vec){0};
    const T *w = f->w;
    for (ptrdiff_t t = 0; t < f->taps; t++, w += kernels) {
        const T *x = (const T *)f->x + f->at[t] + i;
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) source[v] = vload(x + v * VL);
#pragma GCC unroll 4
        for (int k = 0; k < kernels; k++) {
            const vec weight = vset1(w[k]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[k][v] = vfma(source[v], weight, sum[k][v]);
        }
    }
    const ptrdiff_t n = f->len - i < vectors * VL ? f->len - i : vectors * VL;
    if (kernels == 1 && n == vectors * VL) { /* straight from registers: in small kernels, stores are the bottleneck */
        const vec offset = vset1((T)f->offset);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            const ptrdiff_t at = i + v * VL;
            if (HAS_BYTES && f->bytes) vput_bytes((uint8_t *)f->y[0] + at, rounded_byte(sum[0][v] + offset));
            else if (FILTER_PAST && f->past) vstore_past((T *)f->y[0] + at, sum[0][v] + offset);
            else vstore((T *)f->y[0] + at, sum[0][v] + offset);
        }
        return;
    }
    vec results[FC_FILTER_KERNELS * FC_NV]; /* in memory, so that the code of the stores exists once for all vectors */
#pragma GCC unroll 4
    for (int k = 0; k < kernels; k++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) results[k * vectors + v] = sum[k][v];
    for (int k = 0; k < kernels && f->y[k]; k++) store_filtered(f, (const T *)(results + k * vectors), i, n, f->y[k]);
}

static __attribute__((noinline)) void filter_elements(const fc_filter *f) {
    if (f->kernels == 1)
        for (ptrdiff_t i = 0; i < f->len; i += FILTER_ALONE * VL) filter_tile(f, i, 1, FILTER_ALONE);
    else
        for (ptrdiff_t i = 0; i < f->len; i += FC_NV * VL) filter_tile(f, i, FC_FILTER_KERNELS, FC_NV);
}

static void filter_row(const fc_filter *f) {
    fc_filter g = *f;
    const ptrdiff_t lead = lead_of(g.y[0]);
    for (int k = 0; k < g.kernels; k++) g.past = FILTER_PAST && g.past && !g.bytes && (!g.y[k] || lead_of(g.y[k]) == lead);
    if (g.past && lead) { /* what lies before the first whole vector */
        g.len = lead < f->len ? lead : f->len;
        g.past = 0;
        filter_elements(&g);
        g.x = (const T *)g.x + lead;
        for (int k = 0; k < g.kernels; k++) g.y[k] = g.y[k] ? (T *)g.y[k] + lead : NULL;
        g.len = f->len - lead;
        g.past = 1;
    }
    filter_elements(&g);
    if (g.past) fence_past();
}
