/* Pooling, backward: every output adds to, or stores at, the position that its index names. */

enum { PLANES_TOGETHER = 8 };

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

static void clear_planes(const fc_scatter *s) {
    for (ptrdiff_t i = 0; s->channels_last && i < s->positions; i++)
        zero((T *)s->plane + i * s->plane_step, s->channels);
    for (ptrdiff_t c = 0; !s->channels_last && c < s->channels; c++) zero((T *)s->plane + c * s->plane_c, s->positions);
}

/* n values, those of neighbouring channels (`lane` elements apart in the plane) or of outputs along w (lane 0). */
FC_INLINE const void *scatter_run(T *plane, ptrdiff_t positions, ptrdiff_t position_step, value_at v,
                                  ptrdiff_t value_step, ptrdiff_t index_step, ptrdiff_t n, const int lane,
                                  const int add) {
    for (ptrdiff_t k = 0; k < n; k++) {
        const int64_t i = v.index[k * index_step];
        if ((uint64_t)i >= (uint64_t)positions) return v.index + k * index_step;
        T *to = plane + k * lane + i * position_step;
        *to = add ? *to + v.value[k * value_step] : v.value[k * value_step];
    }
    return NULL;
}

/* The same; gradients with steps that are known where they mostly are 1. */
FC_INLINE const void *scatter_values(const fc_scatter *s, T *plane, value_at v, ptrdiff_t value_step,
                                     ptrdiff_t index_step, ptrdiff_t n, const int lane, const int add) {
    const ptrdiff_t position_step = lane ? s->plane_step : 1;
    if (add && value_step == 1 && index_step == 1)
        return scatter_run(plane, s->positions, position_step, v, 1, 1, n, lane, add);
    return scatter_run(plane, s->positions, position_step, v, value_step, index_step, n, lane, add);
}

/* Each channel's values in row-major order of the outputs. */
FC_INLINE const void *scatter(const fc_scatter *s, const int add) {
    const int last = s->channels_last;
    const void *bad = NULL;
    if (s->clear) clear_planes(s);
    for (ptrdiff_t c = 0; c < (last ? 1 : s->channels); c++)
        for (ptrdiff_t d = 0; d < s->count[0]; d++)
            for (ptrdiff_t h = 0; h < s->count[1] && !bad; h++) {
                value_at v = value_of(s, c, d, h, 0);
                if (!last)
                    bad = scatter_values(s, (T *)s->plane + c * s->plane_c, v, s->value.axis[2], s->index.axis[2],
                                         s->count[2], 0, add);
                for (ptrdiff_t w = 0; last && w < s->count[2] && !bad; w++) {
                    bad = scatter_values(s, s->plane, v, s->value.c, s->index.c, s->channels, 1, add);
                    v.value += s->value.axis[2];
                    v.index += s->index.axis[2];
                }
            }
    return bad;
}

static const void *scatter_add(const fc_scatter *s) { return scatter(s, 1); }
static const void *scatter_set(const fc_scatter *s) { return scatter(s, 0); }

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

/* ------------------------------------------------------------------ taps of windows */

/* Where each tap of a window lies: along the axes, and in elements of dx, from the window's origin on. */
typedef struct tap_places {
    ptrdiff_t offset[MOST_WINDOW_TAPS];
    ptrdiff_t axis[MOST_WINDOW_TAPS][3];
} tap_places;

static void set_tap_places(tap_places *p, const fc_pool_gather *g) {
    const fc_windows *w = g->windows;
    ptrdiff_t t = 0;
    for (ptrdiff_t d = 0; d < w[0].size; d++)
        for (ptrdiff_t h = 0; h < w[1].size; h++)
            for (ptrdiff_t i = 0; i < w[2].size; i++, t++) {
                const ptrdiff_t at[3] = {d * w[0].dilation, h * w[1].dilation, i * w[2].dilation};
                memcpy(p->axis[t], at, sizeof at);
                p->offset[t] = at[0] * g->dx.axis[0] + at[1] * g->dx.axis[1] + at[2] * g->dx.axis[2];
            }
}

/* Channels-last, dx = zeros, and dy added where its int64 place lies in the box, a run of the plane. Returns how many
 * places do. */
static ptrdiff_t add_places(const fc_pool_gather *g) {
    const fc_windows *w = g->windows;
    const ptrdiff_t channels = g->channels, pixel = g->dx.axis[2];
    const int64_t lo = (g->lo[0] * w[1].in + g->lo[1]) * w[2].in + g->lo[2];
    const uint64_t positions = (uint64_t)((g->hi[0] - g->lo[0]) * (g->hi[1] - g->lo[1]) * (g->hi[2] - g->lo[2]));
    ptrdiff_t found = 0;
    T *dx = g->dx.data;
    if (pixel == channels) zero(dx, (ptrdiff_t)positions * pixel);
    else
        for (uint64_t i = 0; i < positions; i++) zero(dx + (ptrdiff_t)i * pixel, channels);
    for (ptrdiff_t d = 0; d < g->last[0] - g->first[0]; d++)
        for (ptrdiff_t h = 0; h < g->last[1] - g->first[1]; h++) {
            const T *dy = (const T *)g->dy.data + d * g->dy.axis[0] + h * g->dy.axis[1];
            const int64_t *place = (const int64_t *)g->tap.data + d * g->tap.axis[0] + h * g->tap.axis[1];
            for (ptrdiff_t o = g->first[2]; o < g->last[2]; o++, dy += g->dy.axis[2], place += g->tap.axis[2])
                for (ptrdiff_t c = 0; c < channels; c++) {
                    const uint64_t at = (uint64_t)(place[c] - lo);
                    if (at >= positions) continue;
                    dx[(ptrdiff_t)at * pixel + c] += dy[c];
                    found++;
                }
        }
    return found;
}

/* One output of n channels whose winners lie in the box. */
FC_INLINE void add_run(const tap_places *p, T *dx, ptrdiff_t dx_step, const T *dy, ptrdiff_t dy_step,
                       const uint8_t *tap, ptrdiff_t tap_step, ptrdiff_t n) {
    for (ptrdiff_t k = 0; k < n; k++) dx[k * dx_step + p->offset[tap[k * tap_step]]] += dy[k * dy_step];
}

/* One output whose winner may lie outside of the box. */
FC_INLINE void add_inside(const tap_places *p, const fc_pool_gather *g, const ptrdiff_t origin[3], T *dx, T dy,
                          uint8_t tap) {
    int inside = 1;
    for (int i = 0; i < 3; i++) {
        const ptrdiff_t at = origin[i] + p->axis[tap][i];
        inside &= at >= g->lo[i] && at < g->hi[i];
    }
    if (inside) dx[p->offset[tap]] += dy;
}

/* Whether real taps of the window at `origin` can't lie outside of the box, which may end with the image. */
FC_INLINE int window_inside(const fc_pool_gather *g, int axis, ptrdiff_t origin) {
    const fc_windows *w = &g->windows[axis];
    return (origin >= g->lo[axis] || g->lo[axis] == 0) && (origin + fc_span(w) <= g->hi[axis] || g->hi[axis] == w->in);
}

/* Channels [c0, c1) of the row of outputs (d, h, ...). */
FC_INLINE void add_row(const tap_places *p, const fc_pool_gather *g, ptrdiff_t d, ptrdiff_t h, ptrdiff_t c0,
                       ptrdiff_t c1) {
    const fc_windows *windows = g->windows;
    const ptrdiff_t od = d - g->first[0], oh = h - g->first[1];
    const T *dy = (const T *)g->dy.data + c0 * g->dy.c + od * g->dy.axis[0] + oh * g->dy.axis[1];
    const uint8_t *tap = (const uint8_t *)g->tap.data + c0 * g->tap.c + od * g->tap.axis[0] + oh * g->tap.axis[1];
    ptrdiff_t origin[3] = {d * windows[0].stride - windows[0].before, h * windows[1].stride - windows[1].before, 0};
    const int whole = window_inside(g, 0, origin[0]) && window_inside(g, 1, origin[1]);
    T *dx = (T *)g->dx.data + c0 * g->dx.c + (origin[0] - g->lo[0]) * g->dx.axis[0]
        + (origin[1] - g->lo[1]) * g->dx.axis[1] - g->lo[2] * g->dx.axis[2];
    for (ptrdiff_t w = g->first[2]; w < g->last[2]; w++) {
        const ptrdiff_t ow = w - g->first[2];
        origin[2] = w * windows[2].stride - windows[2].before;
        T *to = dx + origin[2] * g->dx.axis[2];
        if (whole && window_inside(g, 2, origin[2])) {
            add_run(p, to, g->dx.c, dy + ow * g->dy.axis[2], g->dy.c, tap + ow * g->tap.axis[2], g->tap.c, c1 - c0);
            continue;
        }
        for (ptrdiff_t c = 0; c < c1 - c0; c++)
            add_inside(p, g, origin, to + c * g->dx.c, dy[ow * g->dy.axis[2] + c * g->dy.c],
                       tap[ow * g->tap.axis[2] + c * g->tap.c]);
    }
}

/* dx = zeros, and dy added by the taps, in the order of the outputs. Channels-first, a few planes at a time:
 * neighbouring outputs often have the same winner, and additions to one place wait for each other. */
static void add_outputs(const fc_pool_gather *g) {
    const ptrdiff_t together = g->channels_last ? g->channels : PLANES_TOGETHER;
    const ptrdiff_t pixels = g->hi[2] - g->lo[2];
    tap_places places;
    set_tap_places(&places, g);
    for (ptrdiff_t c = 0; c < (g->channels_last ? 1 : g->channels); c++)
        for (ptrdiff_t d = 0; d < g->hi[0] - g->lo[0]; d++)
            for (ptrdiff_t h = 0; h < g->hi[1] - g->lo[1]; h++) {
                T *row = (T *)g->dx.data + c * g->dx.c + d * g->dx.axis[0] + h * g->dx.axis[1];
                if (!g->channels_last) zero(row, pixels);
                else
                    for (ptrdiff_t w = 0; w < pixels; w++) zero(row + w * g->dx.axis[2], g->channels);
            }
    for (ptrdiff_t c = 0; c < g->channels; c += together)
        for (ptrdiff_t d = g->first[0]; d < g->last[0]; d++)
            for (ptrdiff_t h = g->first[1]; h < g->last[1]; h++)
                add_row(&places, g, d, h, c, fc_min(c + together, g->channels));
}
