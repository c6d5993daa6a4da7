/* The windows of pooling: which taps an output has, and which outputs a position reaches. */
#ifndef FC_WINDOW_H
#define FC_WINDOW_H

#include "fastconv.h"

/* One window of one axis: `count` real taps from number `tap` on, the first of them at position `start`.
 * `padded` counts the taps inside the input and its padding. */
typedef struct fc_window {
    ptrdiff_t start, count, tap, padded;
} fc_window;

/* Half-open range. */
typedef struct fc_range {
    ptrdiff_t lo, hi;
} fc_range;

static inline ptrdiff_t fc_ceil_div(ptrdiff_t a, ptrdiff_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }
static inline ptrdiff_t fc_floor_div(ptrdiff_t a, ptrdiff_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
static inline ptrdiff_t fc_min(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t fc_max(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

static inline ptrdiff_t fc_span(const fc_windows *w) { return (w->size - 1) * w->dilation + 1; }

/* Taps t < size of a window at `origin` that lie before position `end`. */
static inline ptrdiff_t fc_taps_before(const fc_windows *w, ptrdiff_t origin, ptrdiff_t end) {
    return origin + fc_span(w) <= end ? w->size : fc_ceil_div(end - origin, w->dilation);
}

static inline fc_window fc_window_at(const fc_windows *w, ptrdiff_t o) {
    if (w->size == 0) {
        const ptrdiff_t start = o * w->in / w->out, count = fc_ceil_div((o + 1) * w->in, w->out) - start;
        return (fc_window){start, count, 0, count};
    }
    const ptrdiff_t origin = o * w->stride - w->before;
    const ptrdiff_t tap = origin < 0 ? fc_ceil_div(-origin, w->dilation) : 0;
    return (fc_window){origin + tap * w->dilation, fc_taps_before(w, origin, w->in) - tap, tap,
                       fc_taps_before(w, origin, w->in + w->after)};
}

/* Sliding windows: the outputs of [lo, hi) all of whose taps are real. */
static inline fc_range fc_whole_windows(const fc_windows *w, ptrdiff_t lo, ptrdiff_t hi) {
    const ptrdiff_t first = fc_max(lo, fc_ceil_div(w->before, w->stride));
    const ptrdiff_t last = fc_floor_div(w->in - fc_span(w) + w->before, w->stride);
    const ptrdiff_t from = fc_min(first, hi);
    return (fc_range){from, fc_max(from, fc_min(hi, last + 1))};
}

/* The outputs whose window reaches over position i (a dilated one may step over it). */
static inline fc_range fc_reach(const fc_windows *w, ptrdiff_t i) {
    if (w->size == 0) return (fc_range){i * w->out / w->in, fc_ceil_div((i + 1) * w->out, w->in)};
    return (fc_range){fc_max(0, fc_ceil_div(i + w->before - fc_span(w) + 1, w->stride)),
                      fc_min(w->out, (i + w->before) / w->stride + 1)};
}

/* The outputs that have position i as a real tap: first + j * output_step for j < count, as tap
 * tap - j * tap_step. Taps of adaptive windows have no numbers (0). */
typedef struct fc_hits {
    ptrdiff_t first, count, tap;
} fc_hits;

typedef struct fc_hit_steps {
    ptrdiff_t output, tap;
} fc_hit_steps;

/* i + before = output * stride + tap * dilation: solutions are this far apart. */
static inline fc_hit_steps fc_hit_steps_of(const fc_windows *w) {
    if (w->size == 0) return (fc_hit_steps){1, 0};
    ptrdiff_t a = w->stride, b = w->dilation;
    while (b) {
        const ptrdiff_t rest = a % b;
        a = b;
        b = rest;
    }
    return (fc_hit_steps){w->dilation / a, w->stride / a};
}

static inline fc_hits fc_hits_of(const fc_windows *w, fc_hit_steps step, ptrdiff_t i) {
    const fc_range reach = fc_reach(w, i);
    const ptrdiff_t count = fc_max(0, reach.hi - reach.lo);
    if (w->size == 0) return (fc_hits){reach.lo, count, 0};
    if (w->dilation == 1) return (fc_hits){reach.lo, count, i + w->before - reach.lo * w->stride};
    ptrdiff_t o = reach.lo;
    while (o < reach.hi && (i + w->before - o * w->stride) % w->dilation) o++;
    return (fc_hits){o, o < reach.hi ? (reach.hi - 1 - o) / step.output + 1 : 0,
                     (i + w->before - o * w->stride) / w->dilation};
}

#endif
