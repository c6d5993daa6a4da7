/* Pooling with numbers of taps that come from the caller: they are copied with a check. */

typedef uint8_t byte_run __attribute__((vector_size(16), aligned(1), may_alias));

/* Copy 16 bytes; whether all of them are below a limit. */
FC_INLINE int copy_run(uint8_t *to, const uint8_t *from, byte_run most) {
    const byte_run run = *(const byte_run *)from, above = (byte_run)(run > most);
    uint64_t any[2];
    memcpy(any, &above, 16);
    *(byte_run *)to = run;
    return !(any[0] | any[1]);
}

/* Copy n bytes; returns the first that is `limit` or more, or NULL. limit is at most 256. */
FC_INLINE const uint8_t *copy_below(uint8_t *to, const uint8_t *from, ptrdiff_t n, ptrdiff_t limit) {
    const byte_run most = (uint8_t)(limit - 1) - (byte_run){0};
    int below = n >= 16;
    for (ptrdiff_t i = 0; below && i + 16 <= n; i += 16) below = copy_run(to + i, from + i, most);
    if (below && copy_run(to + n - 16, from + n - 16, most)) return NULL;
    for (ptrdiff_t i = 0; i < n; i++) { /* few bytes, or one of them is the one */
        if (from[i] >= limit) return from + i;
        to[i] = from[i];
    }
    return NULL;
}

enum { MOST_WINDOW_TAPS = 256 };

/* Which bytes mean a real tap of windows with the taps `at`[d h w]; made anew where those change. */
typedef struct tap_table {
    uint8_t real[MOST_WINDOW_TAPS];
    fc_window at[3];
} tap_table;

static void set_tap_table(tap_table *table, const fc_windows *w, const fc_window at[3]) {
    memset(table->real, 0, sizeof table->real);
    memcpy(table->at, at, sizeof table->at);
    for (ptrdiff_t d = at[0].tap; d < at[0].tap + at[0].count; d++)
        for (ptrdiff_t h = at[1].tap; h < at[1].tap + at[1].count; h++)
            memset(table->real + (d * w[1].size + h) * w[2].size + at[2].tap, 1, (size_t)at[2].count);
}

/* Whether windows have the same real taps. */
static int same_taps(const fc_window a[3], const fc_window b[3]) {
    int same = 1;
    for (int i = 0; i < 3; i++) same &= a[i].tap == b[i].tap && a[i].count == b[i].count;
    return same;
}

/* n bytes, `step` apart in both places, that belong to windows with the real taps at[d h w]. */
static __attribute__((noinline)) const uint8_t *stage_run(tap_table *table, const fc_windows *w, uint8_t *to,
                                                          ptrdiff_t to_step, const uint8_t *from, ptrdiff_t from_step,
                                                          ptrdiff_t n, const fc_window at[3]) {
    const ptrdiff_t taps = w[0].size * w[1].size * w[2].size;
    int real = 1;
    if (from_step == 1 && to_step == 1 && at[0].count * at[1].count * at[2].count == taps)
        return copy_below(to, from, n, taps);
    if (!same_taps(table->at, at)) set_tap_table(table, w, at);
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint8_t byte = from[i * from_step];
        to[i * to_step] = byte;
        real &= table->real[byte];
    }
    for (ptrdiff_t i = 0; i < n && !real; i++)
        if (!table->real[from[i * from_step]]) return from + i * from_step;
    return NULL;
}

/* Whether the box has whole windows only, and lies without gaps in both places. */
static int is_one_run(const fc_pool_stage *s, const fc_windows *w) {
    ptrdiff_t step = s->channels_last ? s->channels : 1;
    for (int i = 2; i >= 0; i--) {
        const fc_range whole = fc_whole_windows(&w[i], s->lo[i], s->hi[i]);
        if (whole.lo > s->lo[i] || whole.hi < s->hi[i]) return 0;
        if (s->hi[i] - s->lo[i] > 1 && (s->src.axis[i] != step || s->dst.axis[i] != step)) return 0;
        step *= s->hi[i] - s->lo[i];
    }
    return s->channels == 1 || (s->channels_last ? s->src.c == 1 : s->src.c == step && s->dst.c == step);
}

/* One row of outputs: those with whole windows along w at a time, the others one by one. */
static const uint8_t *stage_row(const fc_pool_stage *s, tap_table *table, const uint8_t *from, uint8_t *to,
                                fc_range whole, fc_window at[3]) {
    const int joined = !s->channels_last
        || (s->src.axis[2] == s->channels && s->dst.axis[2] == s->channels && s->src.c == 1);
    for (ptrdiff_t o = s->lo[2]; o < s->hi[2];) {
        const ptrdiff_t alike = o == whole.lo && whole.hi > o && joined ? whole.hi - o : 1;
        const uint8_t *bad = NULL;
        at[2] = window_at(&s->windows[2], o);
        if (s->channels_last)
            bad = stage_run(table, s->windows, to, s->dst.c, from, s->src.c, alike * s->channels, at);
        else
            for (ptrdiff_t c = 0; c < s->channels && !bad; c++)
                bad = stage_run(table, s->windows, to + c * s->dst.c, s->dst.axis[2], from + c * s->src.c,
                                s->src.axis[2], alike, at);
        if (bad) return bad;
        o += alike;
        from += alike * s->src.axis[2];
        to += alike * s->dst.axis[2];
    }
    return NULL;
}

static const void *pool_stage(const fc_pool_stage *s) {
    const fc_windows *w = s->windows;
    const fc_range whole = fc_whole_windows(&w[2], s->lo[2], s->hi[2]);
    const uint8_t *from = s->src.data;
    uint8_t *to = s->dst.data;
    tap_table table;
    memset(table.at, 0, sizeof table.at); /* of no window: every one has a tap */
    if (is_one_run(s, w))
        return copy_below(to, from,
                          s->channels * (s->hi[0] - s->lo[0]) * (s->hi[1] - s->lo[1]) * (s->hi[2] - s->lo[2]),
                          w[0].size * w[1].size * w[2].size);
    for (ptrdiff_t d = s->lo[0]; d < s->hi[0]; d++)
        for (ptrdiff_t h = s->lo[1]; h < s->hi[1]; h++) {
            const ptrdiff_t od = d - s->lo[0], oh = h - s->lo[1];
            fc_window at[3] = {window_at(&w[0], d), window_at(&w[1], h), {0, 0, 0, 0}};
            const uint8_t *bad = stage_row(s, &table, from + od * s->src.axis[0] + oh * s->src.axis[1],
                                           to + od * s->dst.axis[0] + oh * s->dst.axis[1], whole, at);
            if (bad) return bad;
        }
    return NULL;
}
