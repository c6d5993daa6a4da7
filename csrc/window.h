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

/* The tap of output o, in reach of position i, that is i; -1 if a dilated window steps over it. Taps of
 * adaptive windows have no numbers. */
static inline ptrdiff_t fc_tap_at(const fc_windows *w, ptrdiff_t o, ptrdiff_t i) {
    if (w->size == 0) return 0;
    const ptrdiff_t distance = i - (o * w->stride - w->before);
    if (w->dilation == 1) return distance;
    return distance % w->dilation ? -1 : distance / w->dilation;
}

/* Outputs of a row that pool_gather reads for positions [lo, hi), channels-first and strides 1 and 2: it
 * reads whole vectors, so the range may leave [0, out). The caller stores zeros there. */
static inline fc_range fc_row_reach(const fc_windows *w, ptrdiff_t lo, ptrdiff_t hi, ptrdiff_t lanes) {
    const ptrdiff_t steps = fc_ceil_div(hi - lo, w->stride);
    const ptrdiff_t last = fc_floor_div(lo + w->stride - 1 + w->before, w->stride);
    return (fc_range){fc_floor_div(lo + w->before - fc_span(w) + 1, w->stride),
                      last + fc_ceil_div(steps, lanes) * lanes};
}

#endif
