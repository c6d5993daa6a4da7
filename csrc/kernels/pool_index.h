/* Pooling with indices that come from the caller: numbers of taps are copied with a check, positions in the plane are
 * turned into such numbers. */

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

/* Whether windows have the same real taps on the first axes. */
static int same_taps(const fc_window a[3], const fc_window b[3], int axes) {
    int same = 1;
    for (int i = 0; i < axes; i++) same &= a[i].tap == b[i].tap && a[i].count == b[i].count;
    return same;
}

/* n bytes, `step` apart in both places, that belong to windows with the real taps at[d h w]. */
FC_INLINE const uint8_t *stage_run(tap_table *table, const fc_windows *w, uint8_t *to, ptrdiff_t to_step,
                                   const uint8_t *from, ptrdiff_t from_step, ptrdiff_t n, const fc_window at[3]) {
    const ptrdiff_t taps = w[0].size * w[1].size * w[2].size;
    int real = 1;
    if (from_step == 1 && to_step == 1 && at[0].count * at[1].count * at[2].count == taps)
        return copy_below(to, from, n, taps);
    if (!same_taps(table->at, at, 3)) set_tap_table(table, w, at);
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint8_t byte = from[i * from_step];
        to[i * to_step] = byte;
        real &= table->real[byte];
    }
    for (ptrdiff_t i = 0; i < n && !real; i++)
        if (!table->real[from[i * from_step]]) return from + i * from_step;
    return NULL;
}

/* Runs of taps that are neighbours in the plane, of windows with the real planes and rows at[d h]: tap number + i is
 * `mark` + i positions, i < length, from the tap of the first real plane and row that has number 0 along w, and
 * `column` + i columns. Made anew where windows have other planes or rows. */
typedef struct tap_runs {
    fc_window at[3];
    ptrdiff_t count, length;
    struct tap_run {
        lane_int mark, column, number;
    } run[MOST_WINDOW_TAPS];
} tap_runs;

static void set_tap_runs(tap_runs *r, const fc_windows *w, const fc_window at[3]) {
    const ptrdiff_t rows = w[1].in, columns = w[2].in;
    memcpy(r->at, at, sizeof r->at);
    r->length = w[2].dilation == 1 ? w[2].size : 1;
    r->count = 0;
    for (ptrdiff_t d = 0; d < at[0].count; d++)
        for (ptrdiff_t h = 0; h < at[1].count; h++)
            for (ptrdiff_t i = 0; i < w[2].size; i += r->length) {
                const ptrdiff_t column = i * w[2].dilation;
                const ptrdiff_t mark = (d * w[0].dilation * rows + h * w[1].dilation) * columns + column;
                if (mark > LANE_MOST - MOST_WINDOW_TAPS) return; /* such far taps aren't recognized */
                r->run[r->count++] = (struct tap_run){(lane_int)mark, (lane_int)column, (lane_int)(
                    ((at[0].tap + d) * w[1].size + at[1].tap + h) * w[2].size + i)};
            }
}

/* The taps that positions are, at distances `off` from the tap that runs count from, which is in `column`; -1 for none. */
FC_INLINE ivec taps_at(const tap_runs *r, ivec off, ivec column, lane_int columns) {
    ivec number = vset1_int(-1);
    for (const struct tap_run *run = r->run, *end = run + r->count; run < end; run++) {
        const ivec i = off - vset1_int(run->mark), there = column + vset1_int(run->column) + i;
        const ivec here = (ivec)(i >= 0) & (ivec)(i < vset1_int((lane_int)r->length)) & (ivec)(there >= 0)
            & (ivec)(there < vset1_int(columns));
        number = (here & (i + vset1_int(run->number))) | (~here & number);
    }
    return number;
}

/* n positions of neighbouring channels of output o along w, or of the outputs from o on, which are `step` columns
 * apart; their windows have the real planes and rows at[d h]. */
static const void *stage_places(tap_runs *r, const fc_windows *w, uint8_t *to, ptrdiff_t to_step, const int64_t *from,
                                ptrdiff_t from_step, ptrdiff_t n, ptrdiff_t o, ptrdiff_t step, const fc_window at[3]) {
    const ptrdiff_t first_column = o * w[2].stride - w[2].before;
    const ptrdiff_t row = (at[0].start * w[1].in + at[1].start) * w[2].in;
    int64_t part[VBYTES / sizeof(T)] = {0};
    uint8_t bytes[VBYTES / sizeof(T)];
    const ivec lane = vlanes();
    if (!same_taps(r->at, at, 2)) set_tap_runs(r, w, at);
    for (ptrdiff_t next = 0; next < n; next += VL) {
        const ptrdiff_t i = fc_min(next, fc_max(0, n - VL)), here = fc_min(VL, n - i), column = first_column + i * step;
        const int64_t *place = from + i * from_step;
        if (from_step != 1 || here < VL) {
            for (ptrdiff_t j = 0; j < here; j++) part[j] = place[j * from_step];
            place = part;
        }
        const ivec number = taps_at(r, vload_int64(place, row + column, step), lane * (lane_int)step + (lane_int)column,
                                    (lane_int)w[2].in);
        if (vany_int((ivec)(number < 0) & (ivec)(lane < vset1_int((lane_int)here)))) return from + i * from_step;
        if (to_step == 1) {
            vstore_bytes(to + i, number, here);
            continue;
        }
        vput_bytes(bytes, number);
        for (ptrdiff_t j = 0; j < here; j++) to[(i + j) * to_step] = bytes[j];
    }
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

/* Windows that have been met, of which numbers or positions are asked. */
typedef union tap_kinds {
    tap_table table;
    tap_runs runs;
} tap_kinds;

/* n indices of channels of output o along w, or of outputs from o on in one channel. */
FC_INLINE const void *stage_alike(const fc_pool_stage *s, tap_kinds *kinds, const char *from, uint8_t *to, ptrdiff_t n,
                                  ptrdiff_t o, const fc_window at[3]) {
    const ptrdiff_t to_step = s->channels_last ? s->dst.c : s->dst.axis[2];
    const ptrdiff_t from_step = s->channels_last ? s->src.c : s->src.axis[2];
    if (s->places)
        return stage_places(&kinds->runs, s->windows, to, to_step, (const int64_t *)from, from_step, n, o,
                            s->channels_last ? 0 : s->windows[2].stride, at);
    return stage_run(&kinds->table, s->windows, to, to_step, (const uint8_t *)from, from_step, n, at);
}

/* One row of outputs: those with whole windows along w at a time, the others one by one; of positions, all at a time. */
static const void *stage_row(const fc_pool_stage *s, tap_kinds *kinds, const char *from, uint8_t *to, fc_range whole,
                             fc_window at[3]) {
    const ptrdiff_t unit = s->places ? sizeof(int64_t) : 1;
    const int joined = !s->channels_last
        || (s->src.axis[2] == s->channels && s->dst.axis[2] == s->channels && s->src.c == 1 && !s->places);
    if (s->places) whole = (fc_range){s->lo[2], s->hi[2]};
    for (ptrdiff_t o = s->lo[2]; o < s->hi[2];) {
        const ptrdiff_t alike = o == whole.lo && whole.hi > o && joined ? whole.hi - o : 1;
        const void *bad = NULL;
        if (!s->places) at[2] = fc_window_at(&s->windows[2], o);
        if (s->channels_last) bad = stage_alike(s, kinds, from, to, alike * s->channels, o, at);
        else
            for (ptrdiff_t c = 0; c < s->channels && !bad; c++)
                bad = stage_alike(s, kinds, from + c * s->src.c * unit, to + c * s->dst.c, alike, o, at);
        if (bad) return bad;
        o += alike;
        from += alike * s->src.axis[2] * unit;
        to += alike * s->dst.axis[2];
    }
    return NULL;
}

static const void *pool_stage(const fc_pool_stage *s) {
    const fc_windows *w = s->windows;
    const fc_range whole = fc_whole_windows(&w[2], s->lo[2], s->hi[2]);
    const ptrdiff_t unit = s->places ? sizeof(int64_t) : 1;
    const char *from = s->src.data;
    uint8_t *to = s->dst.data;
    tap_kinds kinds;
    memset(s->places ? kinds.runs.at : kinds.table.at, 0, sizeof kinds.table.at); /* of no window: every one has a tap */
    if (!s->places && is_one_run(s, w))
        return copy_below(to, s->src.data,
                          s->channels * (s->hi[0] - s->lo[0]) * (s->hi[1] - s->lo[1]) * (s->hi[2] - s->lo[2]),
                          w[0].size * w[1].size * w[2].size);
    for (ptrdiff_t d = s->lo[0]; d < s->hi[0]; d++)
        for (ptrdiff_t h = s->lo[1]; h < s->hi[1]; h++) {
            const ptrdiff_t od = d - s->lo[0], oh = h - s->lo[1];
            fc_window at[3] = {fc_window_at(&w[0], d), fc_window_at(&w[1], h), {0, 0, 0, 0}};
            const void *bad = stage_row(s, &kinds, from + (od * s->src.axis[0] + oh * s->src.axis[1]) * unit,
                                        to + od * s->dst.axis[0] + oh * s->dst.axis[1], whole, at);
            if (bad) return bad;
        }
    return NULL;
}
