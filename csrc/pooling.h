/* Descriptors of pooling: a part of the contract of fastconv.h.
 *
 * Windows, the taps of one output, are the product of one window an axis (window.h). A box is
 * lo <= position < hi on the axes d h w. Two layouts: channels-last (adjacent channels, channels_last
 * set) and channels-first (adjacent elements of a row). */
#ifndef FC_POOLING_H
#define FC_POOLING_H

#include <stddef.h>
#include <stdint.h>

/* The windows of one axis. Sliding: window o has the taps t < size at o * stride - before + t * dilation,
 * and the real ones lie inside [0, in). Adaptive (size 0): [floor(o * in / out), ceil((o + 1) * in / out)). */
typedef struct fc_windows {
    ptrdiff_t in, out, size, stride, dilation, before, after;
} fc_windows;

/* One image and channel group: element (c, d, h, w) at data + c * channel + (d, h, w) . axis. */
typedef struct fc_image {
    void *data;
    ptrdiff_t c, axis[3];
} fc_image;

typedef enum fc_pool_op { FC_POOL_MAX, FC_POOL_MIN, FC_POOL_SUM } fc_pool_op;

/* Where a winner is: uint8 number of the tap in its window, or int64 position in the input plane. */
typedef enum fc_pool_index { FC_INDEX_NONE, FC_INDEX_WINDOW, FC_INDEX_PLANE } fc_pool_index;

/* y /= the number of taps of its window that average pooling counts: the real ones, with include_pad
 * those on padding too, or `divisor` if that isn't 0. */
typedef struct fc_pool_divide {
    int channels_last, include_pad;
    double divisor;
    fc_windows windows[3];
    ptrdiff_t channels, lo[3], hi[3];
    fc_image y;            /* of output lo */
} fc_pool_divide;

/* y = the sum or the winner of each output's real taps, index = where the winner lies. NaN wins; of
 * equals the first in row-major order. Windows must span less than 2^31 elements where index is asked for. */
typedef struct fc_pool {
    fc_pool_op op;
    fc_pool_index indexing;
    int channels_last;
    int ahead;             /* x comes from memory: channels-last, its elements are prefetched */
    const fc_pool_divide *mean; /* NULL, or channels-last: how to divide the sums */
    fc_windows windows[3];
    ptrdiff_t channels, lo[3], hi[3];
    fc_image x;            /* of position (0, 0, 0) */
    fc_image y, index;     /* of output lo; y.data may be NULL, index counts in elements of its own */
} fc_pool;

enum {
    FC_GATHER_COLUMNS = 1024,
    FC_POOL_COMPARED = 16  /* taps: in larger windows, each output is added at its tap, which costs less than comparing
                            * the numbers of all taps that reach a position */
};

/* dx = the sum of dy over the outputs whose window holds the position; with tap (of those outputs, the uint8 window
 * indices or, channels-last, with `places`, int64 positions in the plane), over the outputs whose winner is that
 * position. Sums run in the order of the outputs. The box has at most FC_GATHER_COLUMNS positions along w; by places
 * that are `added`, output by output, it may have any number but is a run of the plane without gaps. */
typedef struct fc_pool_gather {
    int channels_last, places, added;
    fc_windows windows[3];
    ptrdiff_t channels, lo[3], hi[3];
    fc_image dx;           /* of position lo */
    ptrdiff_t first[3], last[3];  /* outputs first <= o < last are those whose windows reach the box */
    fc_image dy, tap;      /* of output first; tap.data may be NULL. Window indices have 64 bytes around them that can
                            * be read, and channels-first the strides of dy along the axes; channels-last, tap.c is 1 */
} fc_pool_gather;

/* A copy of the uint8 window indices of a box of outputs. Returns NULL, or the first that is no real tap. */
typedef struct fc_pool_stage {
    int channels_last;
    fc_windows windows[3];
    ptrdiff_t channels, lo[3], hi[3];
    fc_image src, dst;     /* of output lo */
} fc_pool_stage;

/* Values (c, d, h, w) that belong to positions index (c, d, h, w) of a plane: position i of channel c is
 * at plane + c * plane_c + i * plane_step. */
typedef struct fc_scatter {
    int channels_last, clear; /* clear: the planes are zeroed first */
    ptrdiff_t channels, count[3];
    fc_image value, index; /* index: int64 */
    void *plane;
    ptrdiff_t plane_c, plane_step, positions;
} fc_scatter;

#endif
