/* Pooling with indices that come from the caller: copied with a check, or used as positions of a plane. */

typedef uint8_t byte_run __attribute__((vector_size(16), aligned(1), may_alias));

/* Copy n bytes; returns the first that is `limit` or more, or NULL. limit is at most 256. */
static const uint8_t *copy_below(uint8_t *to, const uint8_t *from, ptrdiff_t n, ptrdiff_t limit) {
    const byte_run most = (uint8_t)(limit - 1) - (byte_run){0};
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const byte_run run = *(const byte_run *)(from + i);
        const byte_run above = (byte_run)(run > most);
        uint64_t any[2];
        memcpy(any, &above, 16);
        if (any[0] | any[1]) break;
        *(byte_run *)(to + i) = run;
    }
    for (; i < n; i++) {
        if (from[i] >= limit) return from + i;
        to[i] = from[i];
    }
    return NULL;
}

static int is_real(uint8_t index, const fc_windows *w, const fc_window at[3]) {
    const ptrdiff_t tap[3] = {index / (w[1].size * w[2].size), index / w[2].size % w[1].size, index % w[2].size};
    for (int i = 0; i < 3; i++)
        if (tap[i] < at[i].tap || tap[i] >= at[i].tap + at[i].count) return 0;
    return 1;
}

/* n bytes, `from_step` and `to_step` apart, that belong to windows with the real taps `at`. */
static const uint8_t *stage_run(uint8_t *to, ptrdiff_t to_step, const uint8_t *from, ptrdiff_t from_step, ptrdiff_t n,
                                const fc_windows *w, const fc_window at[3]) {
    int whole = from_step == 1 && to_step == 1;
    for (int i = 0; i < 3; i++) whole = whole && at[i].count == w[i].size;
    if (whole) return copy_below(to, from, n, w[0].size * w[1].size * w[2].size);
    for (ptrdiff_t i = 0; i < n; i++) {
        if (!is_real(from[i * from_step], w, at)) return from + i * from_step;
        to[i * to_step] = from[i * from_step];
    }
    return NULL;
}

static const void *pool_stage(const fc_pool_stage *s) {
    const fc_windows *w = s->windows;
    const fc_range whole = fc_whole_windows(&w[2], s->lo[2], s->hi[2]);
    for (ptrdiff_t d = s->lo[0]; d < s->hi[0]; d++)
        for (ptrdiff_t h = s->lo[1]; h < s->hi[1]; h++)
            for (ptrdiff_t o = s->lo[2]; o < s->hi[2]; o++) {
                const fc_window at[3] = {fc_window_at(&w[0], d), fc_window_at(&w[1], h), fc_window_at(&w[2], o)};
                const uint8_t *from = (const uint8_t *)s->src.data + (d - s->lo[0]) * s->src.axis[0]
                    + (h - s->lo[1]) * s->src.axis[1] + (o - s->lo[2]) * s->src.axis[2];
                uint8_t *to = (uint8_t *)s->dst.data + (d - s->lo[0]) * s->dst.axis[0]
                    + (h - s->lo[1]) * s->dst.axis[1] + (o - s->lo[2]) * s->dst.axis[2];
                const uint8_t *bad = NULL;
                if (s->channels_last) {
                    bad = stage_run(to, s->dst.c, from, s->src.c, s->channels, w, at);
                    if (bad) return bad;
                    continue;
                }
                const ptrdiff_t alike = o == whole.lo && whole.hi > o ? whole.hi - o : 1;
                for (ptrdiff_t c = 0; c < s->channels && !bad; c++)
                    bad = stage_run(to + c * s->dst.c, s->dst.axis[2], from + c * s->src.c, s->src.axis[2], alike, w,
                                    at);
                if (bad) return bad;
                o += alike - 1;
            }
    return NULL;
}

/* ------------------------------------------------------------------ positions of a plane */

/* One value: where it is, and its index. */
typedef struct value_at {
    T *value;
    const int64_t *index;
} value_at;

FC_INLINE value_at value_of(const fc_scatter *s, ptrdiff_t c, ptrdiff_t d, ptrdiff_t h, ptrdiff_t w) {
    return (value_at){
        (T *)s->value.data + c * s->value.c + d * s->value.axis[0] + h * s->value.axis[1] + w * s->value.axis[2],
        (const int64_t *)s->index.data + c * s->index.c + d * s->index.axis[0] + h * s->index.axis[1]
            + w * s->index.axis[2]};
}

/* Values [c0, c1) of all outputs, in row-major order of the outputs. */
FC_INLINE const void *scatter(const fc_scatter *s, ptrdiff_t c0, ptrdiff_t c1, const int add) {
    for (ptrdiff_t d = 0; d < s->count[0]; d++)
        for (ptrdiff_t h = 0; h < s->count[1]; h++)
            for (ptrdiff_t w = 0; w < s->count[2]; w++)
                for (ptrdiff_t c = c0; c < c1; c++) {
                    const value_at v = value_of(s, c, d, h, w);
                    const int64_t i = *v.index;
                    if (i < 0 || i >= s->positions) return v.index;
                    T *to = (T *)s->plane + c * s->plane_c + i * s->plane_step;
                    *to = add ? *to + *v.value : *v.value;
                }
    return NULL;
}

FC_INLINE const void *scatter_in_order(const fc_scatter *s, const int add) {
    if (s->channels_last) return scatter(s, 0, s->channels, add);
    const void *bad = NULL;
    for (ptrdiff_t c = 0; c < s->channels && !bad; c++) bad = scatter(s, c, c + 1, add);
    return bad;
}

static const void *scatter_add(const fc_scatter *s) { return scatter_in_order(s, 1); }
static const void *scatter_set(const fc_scatter *s) { return scatter_in_order(s, 0); }

/* Backwards over the values: the first to come to a position is the one that was stored last. */
static const void *unscatter_set(const fc_scatter *s, uint8_t *seen, ptrdiff_t lo, ptrdiff_t hi) {
    memset(seen, 0, (size_t)((hi - lo) * s->channels));
    for (ptrdiff_t d = s->count[0] - 1; d >= 0; d--)
        for (ptrdiff_t h = s->count[1] - 1; h >= 0; h--)
            for (ptrdiff_t w = s->count[2] - 1; w >= 0; w--)
                for (ptrdiff_t c = 0; c < s->channels; c++) {
                    const value_at v = value_of(s, c, d, h, w);
                    const int64_t i = *v.index;
                    if (i < 0 || i >= s->positions) return v.index;
                    if (i < lo || i >= hi) continue;
                    uint8_t *mark = seen + (i - lo) * s->channels + c;
                    *v.value = *mark ? 0 : ((const T *)s->plane)[c * s->plane_c + i * s->plane_step];
                    *mark = 1;
                }
    return NULL;
}
