/* Pooling, backward: loops that gather what reaches each position of dx. Those that scatter are in pool_scatter.h. */
#include "pool_scatter.h"

/* Out of line: one copy for the many loops over positions. */
static __attribute__((noinline)) fc_hits hits_of(const fc_windows *w, fc_hit_steps step, ptrdiff_t i) {
    return fc_hits_of(w, step, i);
}
static __attribute__((noinline)) fc_hit_steps hit_steps_of(const fc_windows *w) { return fc_hit_steps_of(w); }

/* ------------------------------------------------------------------ dx from dy, channels-last */

/* How the winners are given: not at all (sums), as uint8 numbers of taps, or as int64 positions in the plane. */
enum { ALL, TAPS, PLACES };

/* The outputs that one position of dx adds up: counts on d h w, and from one to the next the steps in dy (elements), in
 * taps or places (bytes), and down in the number of the tap. */
typedef struct sources {
    ptrdiff_t count[3], dy[3], tap[3], number[3];
} sources;

/* Steps are the same for all positions; counts are set for each. */
static sources sources_of_tile(const fc_pool_gather *g, const fc_hit_steps step[3]) {
    const fc_windows *w = g->windows;
    const ptrdiff_t window[3] = {w[1].size * w[2].size, w[2].size, 1}, unit = g->places ? sizeof(int64_t) : 1;
    sources s = {{0}, {0}, {0}, {0}};
    for (int i = 0; i < 3; i++) {
        s.dy[i] = step[i].output * g->dy.axis[i];
        s.tap[i] = step[i].output * g->tap.axis[i] * unit;
        s.number[i] = step[i].tap * window[i];
    }
    return s;
}

/* n channels of one position, `nv` vectors of them. `wanted` is the number that the first output has for it, or its
 * place in the plane. Adds to `found` how many winners it is. */
FC_INLINE void gather_pixel(const sources *s, const T *dy, const char *tap, ptrdiff_t wanted, T *dx, ptrdiff_t n,
                            ivec *found, const int nv, const int by) {
    const ptrdiff_t last = nv - 1;
    vec sum[4];
    ivec here[4];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        sum[v] = (vec){0};
        here[v] = (ivec){0};
    }
    for (ptrdiff_t d = 0; d < s->count[0]; d++, dy += s->dy[0], tap += s->tap[0], wanted -= s->number[0]) {
        const T *row = dy;
        const char *taps = tap;
        ptrdiff_t first = wanted;
        for (ptrdiff_t h = 0; h < s->count[1]; h++, row += s->dy[1], taps += s->tap[1], first -= s->number[1]) {
            const T *from = row;
            const char *at = taps;
            ptrdiff_t number = first;
            for (ptrdiff_t w = 0; w < s->count[2]; w++, from += s->dy[2], at += s->tap[2], number -= s->number[2])
#pragma GCC unroll 4
                for (int v = 0; v < nv; v++) {
                    const ptrdiff_t some = v == last ? n - v * VL : VL;
                    const vec one = vload_upto(from + v * VL, some);
                    if (by == ALL) {
                        sum[v] += one;
                        continue;
                    }
                    const vmask m = by == TAPS
                        ? vsame_int(vload_bytes((const uint8_t *)at + v * VL), vset1_int((lane_int)number))
                        : vsame_int64((const int64_t *)at + v * VL, wanted, some);
                    sum[v] = vadd_where(m, sum[v], one);
                    if (by == PLACES) here[v] = vcount(m, here[v]);
                }
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        vstore_upto(dx + v * VL, sum[v], v == last ? n - v * VL : VL);
        if (by == PLACES) *found += here[v];
    }
}

/* All channels of one position. */
FC_INLINE void gather_channels(const sources *s, const T *dy, const char *tap, ptrdiff_t wanted, T *dx,
                               ptrdiff_t channels, ivec *found, const int by) {
    const ptrdiff_t unit = by == PLACES ? sizeof(int64_t) : 1;
    for (; channels >= 4 * VL; channels -= 4 * VL, dy += 4 * VL, tap += 4 * VL * unit, dx += 4 * VL)
        gather_pixel(s, dy, tap, wanted, dx, 4 * VL, found, 4, by);
    for (; channels >= 2 * VL; channels -= 2 * VL, dy += 2 * VL, tap += 2 * VL * unit, dx += 2 * VL)
        gather_pixel(s, dy, tap, wanted, dx, 2 * VL, found, 2, by);
    for (; channels > 0; channels -= VL, dy += VL, tap += VL * unit, dx += VL)
        gather_pixel(s, dy, tap, wanted, dx, fc_min(VL, channels), found, 1, by);
}

/* Returns how many winners lie in the box, by PLACES alone. Without winners, a row in reach of the same rows of outputs
 * as the one above is its copy. */
FC_INLINE ptrdiff_t gather_pixels(const fc_pool_gather *g, const int by) {
    const fc_windows *windows = g->windows;
    const ptrdiff_t columns = g->hi[2] - g->lo[2], unit = by == PLACES ? sizeof(int64_t) : 1;
    fc_hits column[FC_GATHER_COLUMNS];
    fc_hit_steps step[3];
    fc_hits above = {0, 0, 0};
    ivec found = {0};
    ptrdiff_t sum = 0;
    for (int i = 0; i < 3; i++) step[i] = hit_steps_of(&windows[i]);
    for (ptrdiff_t w = 0; w < columns; w++) column[w] = hits_of(&windows[2], step[2], g->lo[2] + w);
    sources s = sources_of_tile(g, step);
    for (ptrdiff_t d = g->lo[0]; d < g->hi[0]; d++)
        for (ptrdiff_t h = g->lo[1]; h < g->hi[1]; h++) {
            const fc_hits hd = hits_of(&windows[0], step[0], d), hh = hits_of(&windows[1], step[1], h);
            const int again = by == ALL && h > g->lo[1] && hh.first == above.first && hh.count == above.count;
            const ptrdiff_t od = hd.first - g->first[0], oh = hh.first - g->first[1];
            const T *dy = (const T *)g->dy.data + od * g->dy.axis[0] + oh * g->dy.axis[1];
            const char *tap = by == ALL ? (const char *)dy /* some address: there are no winners to read */
                : (const char *)g->tap.data + (od * g->tap.axis[0] + oh * g->tap.axis[1]) * unit;
            T *dx = (T *)g->dx.data + (d - g->lo[0]) * g->dx.axis[0] + (h - g->lo[1]) * g->dx.axis[1];
            const ptrdiff_t number = (hd.tap * windows[1].size + hh.tap) * windows[2].size;
            const ptrdiff_t place = (d * windows[1].in + h) * windows[2].in + g->lo[2];
            above = hh;
            if (again && g->dx.axis[2] == g->channels) {
                memcpy(dx, dx - g->dx.axis[1], (size_t)(columns * g->channels) * sizeof(T));
                continue;
            }
            s.count[0] = hd.count;
            s.count[1] = hh.count;
            for (ptrdiff_t w = 0; w < columns; w++, dx += g->dx.axis[2]) {
                const ptrdiff_t ow = column[w].first - g->first[2];
                s.count[2] = column[w].count;
                gather_channels(&s, dy + ow * g->dy.axis[2], tap + ow * g->tap.axis[2] * unit,
                                by == PLACES ? place + w : number + column[w].tap, dx, g->channels, &found, by);
            }
        }
    for (ptrdiff_t i = 0; i < VL; i++) sum += found[i];
    return sum;
}

/* ------------------------------------------------------------------ dx from dy, channels-first */

enum { MOST_SOURCES = 256, MOST_TAPS = 32 };

/* Vectors of positions that may miss outputs: the first of a row, the last, others. */
enum { FIRST, LAST, OTHER, KINDS };

/* Phase p of a row has the positions lo + p + m * stride. By tap t, position m adds up output m + column[t],
 * if there is such an output: in the lanes of mask[kind][t]. Vectors at inside.lo <= m < inside.hi miss no output. */
typedef struct phase {
    ptrdiff_t taps, sources;
    fc_range inside;
    ptrdiff_t tap[MOST_TAPS], column[MOST_TAPS];
    vmask mask[KINDS][MOST_TAPS];
    struct source {
        ptrdiff_t at;         /* what m is added to, in elements of dy and of its taps */
        ptrdiff_t t;
        lane_int number;      /* of the tap in the window */
    } source[MOST_SOURCES];
} phase;

/* Masks of the vector at m. */
static void set_masks(phase *p, const fc_pool_gather *g, ptrdiff_t m, int kind) {
    for (ptrdiff_t t = 0; t < p->taps; t++) {
        const ptrdiff_t o = m + p->column[t];
        p->mask[kind][t] = vrange(fc_min(VL, fc_max(0, g->first[2] - o)), fc_max(0, fc_min(VL, g->last[2] - o)));
    }
}

/* The taps of a phase, in the order of the outputs; the last vector of a row begins at `last`. */
FC_INLINE void set_taps(phase *p, const fc_pool_gather *g, ptrdiff_t lo, ptrdiff_t last, const int stride) {
    const fc_windows *w = &g->windows[2];
    p->taps = 0;
    p->inside = (fc_range){0, PTRDIFF_MAX};
    for (ptrdiff_t t = w->size - 1; t >= 0; t--) {
        const ptrdiff_t distance = lo + w->before - t * w->dilation;
        if (distance % stride) continue;
        const ptrdiff_t column = fc_floor_div(distance, stride);
        p->tap[p->taps] = t;
        p->column[p->taps++] = column;
        p->inside.lo = fc_max(p->inside.lo, g->first[2] - column);
        p->inside.hi = fc_min(p->inside.hi, g->last[2] - column - VL + 1);
    }
    set_masks(p, g, 0, FIRST);
    set_masks(p, g, last, LAST);
}

/* The sources of one row, which `hits` belong to. */
FC_INLINE void set_sources(phase *p, const fc_pool_gather *g, const fc_hits *hits, const fc_hit_steps *step) {
    const ptrdiff_t size_h = g->windows[1].size, size_w = g->windows[2].size;
    p->sources = 0;
    for (ptrdiff_t d = 0; d < hits[0].count; d++)
        for (ptrdiff_t h = 0; h < hits[1].count; h++) {
            const ptrdiff_t od = hits[0].first + d * step[0].output - g->first[0];
            const ptrdiff_t oh = hits[1].first + h * step[1].output - g->first[1];
            const ptrdiff_t at = od * g->dy.axis[0] + oh * g->dy.axis[1] - g->first[2];
            const ptrdiff_t td = hits[0].tap - d * step[0].tap, th = hits[1].tap - h * step[1].tap;
            const ptrdiff_t number = (td * size_h + th) * size_w;
            for (ptrdiff_t t = 0; t < p->taps; t++)
                p->source[p->sources++] = (struct source){at + p->column[t], t, (lane_int)(number + p->tap[t])};
        }
}

/* One or two vectors (nv) of positions of a row, at m. */
typedef struct run {
    ptrdiff_t m[2];
    int kind[2];
} run;

FC_INLINE void add_sources(vec sum[2], const phase *p, const run *r, const T *dy, const uint8_t *tap, const int nv,
                           const int inside, const int select) {
    for (const struct source *s = p->source, *end = s + p->sources; s < end; s++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) {
            const T *from = dy + s->at + r->m[v];
            const vec one = inside ? vload(from) : vload_where(p->mask[r->kind[v]][s->t], from);
            const ivec wanted = vset1_int(s->number);
            if (select) sum[v] = vadd_where(vsame_int(vload_bytes(tap + s->at + r->m[v]), wanted), sum[v], one);
            else sum[v] += one;
        }
}

/* The sums of a run in one phase. */
FC_INLINE void gather_phase(vec sum[2], const phase *p, const run *r, const T *dy, const uint8_t *tap, const int nv,
                            const int select) {
    for (int v = 0; v < nv; v++) sum[v] = (vec){0};
    if (r->m[0] >= p->inside.lo && r->m[nv - 1] < p->inside.hi) add_sources(sum, p, r, dy, tap, nv, 1, select);
    else add_sources(sum, p, r, dy, tap, nv, 0, select);
}

/* The phases side by side, in the row of dx that begins at dx. */
FC_INLINE void gather_run(const phase p[2], const run *r, const T *dy, const uint8_t *tap, T *dx, ptrdiff_t columns,
                          const int stride, const int nv, const int select) {
    vec first[2], second[2];
    gather_phase(first, &p[0], r, dy, tap, nv, select);
    if (stride == 2) gather_phase(second, &p[1], r, dy, tap, nv, select);
#pragma GCC unroll 2
    for (int v = 0; v < nv; v++) {
        T *to = dx + r->m[v] * stride;
        const ptrdiff_t left = columns - r->m[v] * stride;
        vstore_upto(to, stride == 2 ? vzip_lo(first[v], second[v]) : first[v], left);
        if (stride == 2 && left > VL) vstore_upto(to + VL, vzip_hi(first[v], second[v]), left - VL);
    }
}

/* A row of dx: vectors at 0, VL, ..., and at `last`, which ends with the row if that is long enough. */
FC_INLINE void gather_row(const fc_pool_gather *g, phase p[2], ptrdiff_t last, const T *dy, const uint8_t *tap, T *dx,
                          const int stride, const int select) {
    const ptrdiff_t columns = g->hi[2] - g->lo[2];
    const fc_range inside = stride == 1 ? p[0].inside : (fc_range){fc_max(p[0].inside.lo, p[1].inside.lo),
                                                                   fc_min(p[0].inside.hi, p[1].inside.hi)};
    run r = {{0, fc_min(VL, last)}, {FIRST, last <= VL ? LAST : OTHER}};
    for (;;) {
        const int other = r.kind[0] == OTHER || r.kind[1] == OTHER;
        if (other && !(r.m[0] >= inside.lo && r.m[1] < inside.hi)) { /* masks are made for it alone */
            r.m[1] = r.m[0];
            for (int i = 0; i < stride && r.kind[0] == OTHER; i++) set_masks(&p[i], g, r.m[0], OTHER);
        }
        if (r.m[1] == r.m[0]) gather_run(p, &r, dy, tap, dx, columns, stride, 1, select);
        else gather_run(p, &r, dy, tap, dx, columns, stride, 2, select);
        if (r.m[1] == last) return;
        r.m[0] = fc_min(r.m[1] + VL, last);
        r.m[1] = fc_min(r.m[0] + VL, last);
        r.kind[0] = r.m[0] == last ? LAST : OTHER;
        r.kind[1] = r.m[1] == last ? LAST : OTHER;
    }
}

/* Strides 1 and 2: each phase of the stride has vectors of its own, which are zipped into a row of dx. */
FC_INLINE void gather_rows(const fc_pool_gather *g, const int stride, const int select) {
    const ptrdiff_t last = fc_max(0, (g->hi[2] - g->lo[2] + stride - 1) / stride - VL);
    const fc_hit_steps step[2] = {hit_steps_of(&g->windows[0]), hit_steps_of(&g->windows[1])};
    phase p[2];
    for (int i = 0; i < stride; i++) set_taps(&p[i], g, g->lo[2] + i, last, stride);
    for (ptrdiff_t d = g->lo[0]; d < g->hi[0]; d++)
        for (ptrdiff_t h = g->lo[1]; h < g->hi[1]; h++) {
            const fc_hits hits[2] = {hits_of(&g->windows[0], step[0], d), hits_of(&g->windows[1], step[1], h)};
            const ptrdiff_t row = (d - g->lo[0]) * g->dx.axis[0] + (h - g->lo[1]) * g->dx.axis[1];
            for (int i = 0; i < stride; i++) set_sources(&p[i], g, hits, step);
            for (ptrdiff_t c = 0; c < g->channels; c++)
                gather_row(g, p, last, (const T *)g->dy.data + c * g->dy.c,
                           select ? (const uint8_t *)g->tap.data + c * g->tap.c : NULL,
                           (T *)g->dx.data + c * g->dx.c + row, stride, select);
        }
}

/* What one row of outputs adds to a row of dx by the taps of number outer + t: the last tap first, so that
 * every position adds in the order of the outputs. */
FC_INLINE void add_taps(const fc_pool_gather *g, const T *dy, const uint8_t *tap, T *dx, ptrdiff_t outer) {
    const fc_windows *w = &g->windows[2];
    for (ptrdiff_t t = w->size - 1; t >= 0; t--) {
        const ptrdiff_t shift = t * w->dilation - w->before;
        const ptrdiff_t o0 = fc_max(g->first[2], fc_ceil_div(g->lo[2] - shift, w->stride));
        const ptrdiff_t o1 = fc_min(g->last[2], fc_floor_div(g->hi[2] - 1 - shift, w->stride) + 1);
        for (ptrdiff_t o = o0; o < o1; o++)
            if (tap[o - g->first[2]] == outer + t) dx[o * w->stride + shift - g->lo[2]] += dy[o - g->first[2]];
    }
}

/* The taps of a window inside the box: whole ones without a division. */
FC_INLINE fc_window window_in_box(const fc_pool_gather *g, fc_range whole, ptrdiff_t step, ptrdiff_t o) {
    const fc_windows *w = &g->windows[2];
    fc_window at = o >= whole.lo && o < whole.hi ? (fc_window){o * w->stride - w->before, w->size, 0, 0}
                                                 : window_at(w, o);
    if (at.start < g->lo[2]) {
        const ptrdiff_t skipped = fc_ceil_div(g->lo[2] - at.start, step);
        at = (fc_window){at.start + skipped * step, at.count - skipped, 0, 0};
    }
    if (at.start + (at.count - 1) * step >= g->hi[2]) at.count = fc_ceil_div(g->hi[2] - at.start, step);
    return at;
}

/* Without indices, a window at a time: each output adds its dy to a run of dx. */
FC_INLINE void add_windows(const fc_pool_gather *g, const T *dy, T *dx) {
    const fc_windows *w = &g->windows[2];
    const ptrdiff_t step = w->size ? w->dilation : 1;
    const fc_range whole = w->size ? fc_whole_windows(w, g->first[2], g->last[2]) : (fc_range){0, 0};
    for (ptrdiff_t o = g->first[2]; o < g->last[2]; o++) {
        const fc_window at = window_in_box(g, whole, step, o);
        T *run = dx + at.start - g->lo[2];
        const T one = dy[o - g->first[2]];
        ptrdiff_t i = 0;
        if (step == 1)
            for (; i + VL <= at.count; i += VL) vstore(run + i, vload(run + i) + vset1(one));
        for (; i < at.count; i++) run[i * step] += one;
    }
}

/* Windows side by side, without gaps: each output fills its run of dx, and what lies beyond it until the next does. */
FC_INLINE int side_by_side(const fc_windows *w) {
    return w->size ? w->dilation == 1 && w->stride == w->size : w->in % w->out == 0;
}

FC_INLINE void fill_windows(const fc_pool_gather *g, const T *dy, T *dx) {
    const fc_windows *w = &g->windows[2];
    const ptrdiff_t size = w->size ? w->size : w->in / w->out, end = g->hi[2] - g->lo[2];
    ptrdiff_t start = g->first[2] * size - w->before - g->lo[2];
    for (ptrdiff_t o = g->first[2]; o < g->last[2]; o++, start += size) {
        const vec one = vset1(dy[o - g->first[2]]);
        const ptrdiff_t to = fc_min(start + size, end);
        for (ptrdiff_t i = fc_max(0, start); i < to; i += VL) vstore_upto(dx + i, one, end - i);
    }
    if (start < end) zero(dx + fc_max(0, start), end - fc_max(0, start));
}

/* All other strides, large and adaptive windows. Without indices, a row in reach of the same rows of outputs as the one
 * above is its copy. */
FC_INLINE void add_rows(const fc_pool_gather *g, const int select) {
    fc_hits above = {0, 0, 0};
    const ptrdiff_t size_h = g->windows[1].size, size_w = g->windows[2].size;
    const fc_hit_steps step[2] = {hit_steps_of(&g->windows[0]), hit_steps_of(&g->windows[1])};
    for (ptrdiff_t d = g->lo[0]; d < g->hi[0]; d++)
        for (ptrdiff_t h = g->lo[1]; h < g->hi[1]; h++) {
            const fc_hits hd = hits_of(&g->windows[0], step[0], d), hh = hits_of(&g->windows[1], step[1], h);
            const int again = !select && h > g->lo[1] && hh.first == above.first && hh.count == above.count;
            const int fills = !select && hd.count * hh.count == 1 && side_by_side(&g->windows[2]);
            above = hh;
            for (ptrdiff_t c = 0; c < g->channels; c++) {
                T *dx = (T *)g->dx.data + c * g->dx.c + (d - g->lo[0]) * g->dx.axis[0] + (h - g->lo[1]) * g->dx.axis[1];
                if (again) {
                    memcpy(dx, dx - g->dx.axis[1], (size_t)(g->hi[2] - g->lo[2]) * sizeof(T));
                    continue;
                }
                if (!fills) zero(dx, g->hi[2] - g->lo[2]);
                for (ptrdiff_t i = 0; i < hd.count; i++)
                    for (ptrdiff_t j = 0; j < hh.count; j++) {
                        const ptrdiff_t od = hd.first + i * step[0].output - g->first[0];
                        const ptrdiff_t oh = hh.first + j * step[1].output - g->first[1];
                        const T *dy = (const T *)g->dy.data + c * g->dy.c + od * g->dy.axis[0] + oh * g->dy.axis[1];
                        if (select)
                            add_taps(g, dy, (const uint8_t *)g->tap.data + c * g->tap.c + od * g->tap.axis[0]
                                     + oh * g->tap.axis[1], dx,
                                     ((hd.tap - i * step[0].tap) * size_h + hh.tap - j * step[1].tap) * size_w);
                        else if (fills) fill_windows(g, dy, dx);
                        else add_windows(g, dy, dx);
                    }
            }
        }
}

static void gather_pixels_all(const fc_pool_gather *g) { gather_pixels(g, ALL); }
static void gather_pixels_taps(const fc_pool_gather *g) { gather_pixels(g, TAPS); }
static ptrdiff_t gather_pixels_places(const fc_pool_gather *g) { return gather_pixels(g, PLACES); }
static void gather_rows_1(const fc_pool_gather *g) { gather_rows(g, 1, 0); }
static void gather_rows_1_select(const fc_pool_gather *g) { gather_rows(g, 1, 1); }
static void gather_rows_2(const fc_pool_gather *g) { gather_rows(g, 2, 0); }
static void gather_rows_2_select(const fc_pool_gather *g) { gather_rows(g, 2, 1); }
static void add_rows_all(const fc_pool_gather *g) { add_rows(g, 0); }
static void add_rows_select(const fc_pool_gather *g) { add_rows(g, 1); }

static ptrdiff_t pool_gather(const fc_pool_gather *g) {
    const fc_windows *w = g->windows;
    const int select = g->tap.data != NULL;
    const int few = w[2].size <= MOST_TAPS && w[0].size * w[1].size * w[2].size <= MOST_SOURCES;
    if (g->places) return (g->added ? add_places : gather_pixels_places)(g);
    if (select && w[0].size * w[1].size * w[2].size > FC_POOL_COMPARED) add_outputs(g);
    else if (g->channels_last) (select ? gather_pixels_taps : gather_pixels_all)(g);
    else if (few && w[2].size && w[2].stride == 1) (select ? gather_rows_1_select : gather_rows_1)(g);
    else if (few && w[2].size && w[2].stride == 2) (select ? gather_rows_2_select : gather_rows_2)(g);
    else (select ? add_rows_select : add_rows_all)(g);
    return 0;
}
