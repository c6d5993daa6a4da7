/* The contract between the Cython drivers and the C kernels.
 *
 * C computes one tile: no threads, no allocation, no argument checks, no output but what the
 * descriptor names. One fc_kernels table exists per instruction set and element type; the drivers are
 * written once for both element types, so data pointers are void and every size, offset and stride
 * counts elements (never bytes).
 *
 * Letters: n batch, c in-channels, d h w input, k out-channels, r s kernel, p q output. A "strip" is
 * the padded input of one output box, private to one work item. A "block" is up to `block` adjacent
 * output columns (out-channels) whose packed weights lie in rows of a whole number of vectors. */
#ifndef FASTCONV_H
#define FASTCONV_H

#include <stddef.h>
#include <stdint.h>

#include "pooling.h"

/* How positions outside the input are filled (numpy.pad's meaning of the words). */
typedef enum fc_pad_mode { FC_ZEROS, FC_REFLECT, FC_REPLICATE, FC_CIRCULAR, FC_SYMMETRIC } fc_pad_mode;

/* What is applied to a value when it is stored. */
typedef enum fc_activation {
    FC_IDENTITY, FC_RELU, FC_RELU6, FC_LEAKY_RELU, FC_SIGMOID, FC_TANH, FC_SILU, FC_HARDSWISH
} fc_activation;
#define FC_LEAKY_SLOPE 0.01 /* where leaky_relu is fused into a store */
/* Results of so many bytes leave no cache anything else to hold: they are stored past the caches. */
#define FC_PAST_BYTES (24 << 20)

#include "spectra.h"

/* Copy a box of one padded image into a strip: dst[c][d][h][w] = src at lo + (d, h, w), or padding.
 * A split row holds its columns 0, split, 2 split, ... and, dst_run further on, 1, split + 1, ...: what a convolution
 * of stride `split` reads at one tap is adjacent. */
typedef struct fc_strip {
    const void *src;       /* element (0, 0, 0, 0) of the image and channel group */
    ptrdiff_t src_c, src_axis[3];
    ptrdiff_t extent[3];   /* of the image: d h w */
    fc_pad_mode mode;
    ptrdiff_t channels;
    ptrdiff_t lo[3], count[3];
    void *dst;
    ptrdiff_t dst_c, dst_axis[3];
    ptrdiff_t split, dst_run;  /* split 1: rows are not split */
} fc_strip;

/* The adjoint of that copy takes the same descriptor: what the strip holds is added where it came from. */

/* Memory to prefetch: `runs` runs of `lines` cache lines, `stride` bytes from one run to the next. The first `line`
 * lines of the first run have been asked for. */
typedef struct fc_ahead {
    const char *from;
    ptrdiff_t runs, lines, stride, line;
    ptrdiff_t step;            /* lines asked for in one call: few, since the CPU drops what it can't queue */
} fc_ahead;

/* Ask for the next lines, into L2. */
static inline void fc_prefetch(fc_ahead *a) {
    for (ptrdiff_t left = a->step; left > 0 && a->runs;) {
        const ptrdiff_t n = a->lines - a->line < left ? a->lines - a->line : left;
        const char *const from = a->from + 64 * a->line;
        for (ptrdiff_t i = 0; i < n; i++) __builtin_prefetch(from + 64 * i, 0, 2);
        left -= n;
        a->line += n;
        if (a->line == a->lines) {
            a->line = 0;
            a->from += a->stride;
            a->runs--;
        }
    }
}

/* c[crow[m] + j] = act(bias[j] + sum over s < nseg, l < len of
 *                      a[row[m] + seg[s] + l * step] * b[(s * len + l) * width + j])
 * for m < rows and j < n. b's rows are `width` wide, n rounded up to whole vectors. */
typedef struct fc_gemm {
    const void *a;
    const ptrdiff_t *row, *seg;
    ptrdiff_t rows, nseg, len, step;
    const void *b;
    const ptrdiff_t *bseg;     /* where the segments' rows of b begin; NULL: one after the other */
    ptrdiff_t n;
    void *c;
    const ptrdiff_t *crow;
    const void *bias;          /* n elements, or NULL */
    int accumulate;            /* add to what c holds (bias is not used then) */
    fc_activation activation;  /* applied by the tile: FC_IDENTITY, FC_RELU or FC_RELU6 */
} fc_gemm;

/* few_rows: the same product for at most FC_FEW_ROWS rows, one segment, any n, and weights that are not packed,
 * b[j * b_column + l * b_step]. Either b_column is 1, or both b_step and step are. */
enum { FC_FEW_ROWS = 8 };

/* planar_gemm: the same product with pixels as lanes. Row m of a is a vector of adjacent elements, of which lanes[m]
 * are pixels to compute: the first `first[m]` elements, then, after `gap` elements between two rows of the image,
 * the next `width`, and so on. Pixel l of row m, column j of group i goes to c + crow[m] + l * lane + (i * n + j) *
 * col. groups * n is at most a block; the groups' rows of a are a_group apart, their weights b_group. len is 1 and
 * nothing is accumulated. Reads go up to a vector beyond the last element of a row. */
typedef struct fc_planar {
    ptrdiff_t groups, a_group, b_group;
    ptrdiff_t lane, col;
    const ptrdiff_t *lanes, *first;
    ptrdiff_t width, gap;
} fc_planar;

/* Pack one block of weights: dst[(at[t] * len + l) * width + j] = src[j * col + l * red + t], zero for
 * n <= j < width. Returns 0 if a weight is NaN or infinite, else 1. `at` permutes the taps (backward-input groups them
 * by stride phase) and is negative for those that nothing reads. */
typedef struct fc_pack {
    const void *src;
    ptrdiff_t n, col;      /* columns of the block */
    ptrdiff_t len, red;    /* reduction channels */
    ptrdiff_t ntap;
    const ptrdiff_t *at;
    void *dst;
} fc_pack;

/* Rows of pixels, each `width` (n rounded up to whole vectors) wide, to and from a channels-first or
 * channels-last tensor box: x[j * x_c + (d, h, w) . x_axis] <-> rows[((d * H + h) * W + w) * width + j]. */
typedef struct fc_rows {
    void *x;
    ptrdiff_t x_c, x_axis[3], count[3];
    void *rows;
    ptrdiff_t n;
    void *column_sum;      /* load: n sums over pixels are added here, or NULL */
} fc_rows;

/* Join partial weight gradients: dst[j * col + l * red + t] (+)= sum over p of
 * part[p * part_stride + (t * len + l) * width + j]. */
typedef struct fc_join {
    const void *part;
    ptrdiff_t parts, part_stride;
    ptrdiff_t n, col, len, red, ntap;
    int accumulate;
    void *dst;
} fc_join;

/* Lanes of a block of a grouped convolution with few channels a group: lane i is output column lane0 + i
 * of all groups together, and reads the `red` reduction channels of its group, of `cols` columns. */
typedef struct fc_lane_map {
    ptrdiff_t lanes, lane0, cols, red;
} fc_lane_map;

/* At most FC_SLIDE_TAPS taps whose sources continue each other: result m reads source m + t for tap t. Sources
 * lo <= i < hi lie in the image, and of each of them lanes lane_lo <= i < lane_hi of the line; the others are padding.
 * x and w are the offsets of source 0 and tap 0, w_step that from one tap's weights to the next. Or, where tap_step
 * isn't 0, any number of taps whose sources are tap_step apart: result m reads source m of each, and all lie in the
 * image. */
typedef struct fc_run {
    ptrdiff_t taps, lo, hi, lane_lo, lane_hi, x, w, w_step, tap_step;
    unsigned lanes[2];         /* set by slide: lane_lo and lane_hi as bits, for the vector at hand */
} fc_run;
enum { FC_SLIDE_TAPS = 7 };

/* A line of results y_step apart, of whole vectors and a last one of what remains of `lanes`; the sources are x_step
 * apart, and every vector has weights (or their sums) and a bias (or the sum of its results' gradients) of its own, or
 * all have the same. Sources of neighbouring lanes are x_lane apart: 1, or 2 with masked_loads. There are `lines` such
 * lines, whose sources and results are x_line and y_line apart.
 *   slide:      y = act(b + sum over the taps of all runs of source * weight)
 *   slide_back: w += sum over the results of source * y, for every tap; b += sum of y */
typedef struct fc_slide {
    fc_run *run;
    ptrdiff_t runs, results, lanes, lines;
    const void *x;
    ptrdiff_t x_step, x_vector, x_lane, x_line;
    void *y;
    ptrdiff_t y_step, y_vector, y_line;
    void *w;
    ptrdiff_t w_vector;
    void *b;                   /* slide: may be NULL */
    ptrdiff_t b_vector;
    fc_activation activation;  /* FC_IDENTITY, FC_RELU or FC_RELU6 */
    fc_ahead *ahead;           /* NULL, or two, of which each tile prefetches a step */
} fc_slide;

/* Columns of a block of cells of `step` results an axis: column0 + j is result channel % cols of phase / cols. */
typedef struct fc_fold {
    ptrdiff_t column0, cols;
    ptrdiff_t row_cols;      /* columns of the phases that differ along w alone */
    const ptrdiff_t *tap;    /* [phase][packed tap]: the tap of the weights, or -1 for zero; */
    ptrdiff_t taps;          /* of a phase */
    const ptrdiff_t *first;  /* [phase][3]: the phase's position in the cell */
    ptrdiff_t step[3];
} fc_fold;

/* Transforms of Winograd convolution F(m x m, 3 x 3), (m + 2)^2 points; or, of a line, of F(m, FC_LINE_POINTS + 1 - m)
 * along rows, FC_LINE_POINTS points, 2 <= m < FC_LINE_POINTS; tiles and weights have one row then.
 * input:  from[row][column][c] -> to[point][tile][c] for c < n, rounded up to vectors; tiles are m columns apart.
 *         Rows and columns outside of lo <= i < hi and channels from n on are zeros, and need not be in memory.
 * gradient: as input, for results' gradients: m rows; their sums are added to column_sum.
 * weight: from[tap][tile][j] -> to[point][tile][j] for j < n (whole vectors); a tile is a channel here. A line may have
 *         fewer `taps` than that.
 * taps:   from[point][i] -> to[tap][i], for i < tiles * n: the adjoint of weight.
 * output: from[point][tile][j] -> to[row][column][j] for j < n, + bias, through the activation, for rows and
 *         columns below hi. */
enum { FC_LINE_POINTS = 8 };

typedef struct fc_winograd {
    int m, line;
    ptrdiff_t taps, tiles, n;
    const void *from;
    ptrdiff_t from_row, from_column, from_point, from_tile;
    ptrdiff_t lo[2], hi[2];
    void *to;
    ptrdiff_t to_row, to_column, to_point, to_tile;
    const void *bias;
    fc_activation activation;
    int past; /* the caches: every vector of results is whole */
    void *column_sum;
} fc_winograd;

/* c[point][m][j] (+)= act(bias[j] + sum over s < segs, l < len of a[point][s][m][l] * b[point][s * len + l][j]), for m
 * < rows and j < n, whole vectors, a block at most; rows of b are n wide. Reads go up to 11 rows of a further, but not
 * where there are FC_PRODUCT_ROWS and nothing is accumulated. */
enum { FC_PRODUCT_ROWS = 12 };

typedef struct fc_products {
    ptrdiff_t points, rows, segs, len, n;
    const void *a;
    ptrdiff_t a_point, a_seg, a_row, a_step;
    const void *b;
    ptrdiff_t b_point;
    void *c;
    ptrdiff_t c_point, c_row;
    const void *bias;          /* n elements, or NULL */
    int accumulate;            /* add to what c holds */
    fc_activation activation;  /* FC_IDENTITY, FC_RELU or FC_RELU6 */
} fc_products;

/* Winograd's products where tiles are few: groups of block / lanes tiles times one vector of columns, whose
 * transformed weights U are computed in registers, from from[tap * from_point + channel * from_tile + column].
 * v[group][point][tile][FC_FUSED_STEPS]: `steps` channels of both are used. The sums of a chunk of channels are
 * kept between its calls, in sums[group][point][tile][column], from the `first` one on. The `last` one writes or
 * adds them to to[point * to_point + tile * to_tile + column]. */
enum { FC_FUSED_STEPS = 16 };

typedef struct fc_fused {
    int m, first, last, accumulate;
    ptrdiff_t groups, steps;
    const void *from;
    ptrdiff_t from_point, from_tile;
    const void *v;
    void *sums, *to;
    ptrdiff_t to_point, to_tile;
    fc_ahead *ahead;           /* each row of points prefetches a step */
} fc_fused;

/* Their backward-weight, of one vector of columns and at most FC_FUSED_STEPS channels:
 * to[tap * to_tap + channel * to_channel + column] from v[tile][point][FC_FUSED_STEPS] and z[tile][point][column]. */
typedef struct fc_fused_taps {
    int m;
    ptrdiff_t tiles, channels;
    const void *v, *z;
    void *to;
    ptrdiff_t to_tap, to_channel;
} fc_fused_taps;

/* Softmax of `count` vectors of `len` elements, which lie one after the other where step is 1, else side by
 * side: element l of vector i at i * len + l or at l * step + i. Backward: x is the output, y takes dx. */
typedef struct fc_softmax {
    const void *x, *dy;
    void *y;
    ptrdiff_t count, len, step;
    int logarithm;             /* log_softmax */
} fc_softmax;

/* A box of `rows` rows, `row` apart, of `len` adjacent elements. by_column: every column is a channel, and
 * the arrays below hold `len` of each; else the box belongs to one channel.
 *   channel_sums:  sums[2 j], sums[2 j + 1] = mean and sum of (x - mean)^2; where dy is given, sums of dy
 *                  and of dy (x - mean)
 *   channel_scale: y = scale (x - mean) + shift; where dy is given, scale dy + slope (x - mean) + shift,
 *                  or scale dy where x is not given
 * With relu, y is at least 0, and dy counts as 0 where relu made the forward result, scale (x - mean) + offset, 0.
 * Where x and dy are given, so are scale and offset (whose values don't matter without relu). */
typedef struct fc_channels {
    const void *x, *dy;
    void *y;
    ptrdiff_t rows, len, row;
    int by_column, relu;
    const void *mean, *scale, *slope, *shift, *offset;
    double *sums;
} fc_channels;

/* ---------------------------------------------------------------- filters on images */

/* An image of rows `row` apart, of pixels of interleaved channels; bytes: uint8, else the table's type. */
typedef struct fc_photo {
    const void *x;
    int bytes;
    ptrdiff_t extent[2], row, channels;
    fc_pad_mode mode;
} fc_photo;

/* y[k][i] = offset + sum over t of w[t * kernels + k] * x[at[t] + i] for i < len. There are 1 or FC_FILTER_KERNELS
 * kernels, of which those after the first y that is NULL are not stored. bytes: y is uint8, rounded to nearest, ties to
 * even, and saturated. Reads go up to 2 blocks beyond the last source. */
enum { FC_FILTER_KERNELS = 4 };

typedef struct fc_filter {
    const void *x, *w;
    const ptrdiff_t *at;
    ptrdiff_t taps, kernels, len;
    void *y[FC_FILTER_KERNELS];
    int bytes, past; /* the caches, where y[0 ... kernels) have whole vectors at the same elements */
    double offset;
} fc_filter;

/* One step of an optimizer: from the gradient g' = g + decay w and, where given, running means that it updates.
 *   sgd:  mean = beta1 mean + g'; w -= rate mean, or with nesterov rate (g' + beta1 mean), or without mean rate g'
 *   adam: mean = beta1 mean + (1 - beta1) g'; square = beta2 square + (1 - beta2) g'^2;
 *         w = shrink w - rate mean / (sqrt(square) root + eps) */
typedef struct fc_step {
    void *w;
    const void *g;
    void *mean, *square;
    double rate, decay, shrink, beta1, beta2, eps, root;
    int nesterov;
} fc_step;

typedef struct fc_kernels {
    const char *isa;
    ptrdiff_t itemsize, lanes, block;  /* block: widest block of output columns */
    int masked_loads;                  /* slide heeds lane_lo and lane_hi */

    uint64_t (*enter)(void);           /* flush subnormals; returns the state for leave() */
    void (*leave)(uint64_t);
    double (*fma_peak)(ptrdiff_t iterations);  /* runs independent FMA chains; returns the FLOPs done */

    void (*load_strip)(const fc_strip *);
    void (*fold_strip)(const fc_strip *);
    int (*pack_weight)(const fc_pack *);
    void (*gemm)(const fc_gemm *);
    void (*few_rows)(const fc_gemm *, ptrdiff_t b_column, ptrdiff_t b_step);
    void (*planar_gemm)(const fc_gemm *, const fc_planar *);
    void (*load_rows)(const fc_rows *);
    void (*store_rows)(const fc_rows *);
    void (*join_weight)(const fc_join *);

    /* Grouped convolution: strips and packed weights are [..][j < red][lane]. */
    void (*load_lanes)(const fc_strip *, const fc_lane_map *);
    int (*pack_lanes)(const fc_pack *, const fc_lane_map *);
    void (*join_lanes)(const fc_join *, const fc_lane_map *);
    void (*slide)(const fc_slide *);
    void (*slide_back)(const fc_slide *);
    void (*spread)(const void *from, ptrdiff_t step, ptrdiff_t count, void *to);
    void (*sum_vectors)(const void *from, ptrdiff_t step, ptrdiff_t count, void *to);
    void (*join_phases)(const void *from, ptrdiff_t from_run, ptrdiff_t runs, ptrdiff_t n, void *to);

    /* Packing to, and storing from, columns that are phases x channels (fc_pack.at isn't used). */
    void (*pack_folded)(const fc_pack *, const fc_fold *);
    void (*store_folded)(const fc_rows *, const fc_fold *);
    int (*has_nan)(const void *, ptrdiff_t n);

    void (*products)(const fc_products *);
    void (*winograd_input)(const fc_winograd *);
    void (*winograd_weight)(const fc_winograd *);
    void (*winograd_output)(const fc_winograd *);
    void (*winograd_gradient)(const fc_winograd *);
    void (*winograd_taps)(const fc_winograd *);
    void (*winograd_fused)(const fc_fused *);
    void (*winograd_fused_taps)(const fc_fused_taps *);
    void (*fft_forward)(const fc_fft *);
    void (*fft_backward)(const fc_fft *);
    void (*spectral)(const fc_spectral *);

    /* leaky_relu takes the slope. saved: the output of relu, sigmoid and tanh, else the input. In all of
     * these the result may be an operand. */
    void (*activate)(fc_activation, double slope, const void *x, void *y, ptrdiff_t n, int past); /* the caches */
    void (*activate_backward)(fc_activation, double slope, const void *dy, const void *saved, void *dx, ptrdiff_t n);
    void (*scale_kept)(const void *x, const uint8_t *mask, double scale, void *y, ptrdiff_t n);
    /* The sum of (x - target)^2, or logistic: of the binary cross entropies of logits x. */
    double (*pair_loss)(int logistic, const void *x, const void *target, ptrdiff_t n);
    void (*softmax)(const fc_softmax *);
    void (*softmax_backward)(const fc_softmax *);
    void (*channel_sums)(const fc_channels *);
    void (*channel_scale)(const fc_channels *);

    /* to[i * channels + j] = channel j of pixel lo + i of a row, i < count, which may lie outside of the image. */
    void (*load_image_row)(const fc_photo *, ptrdiff_t row, ptrdiff_t lo, ptrdiff_t count, void *to);
    void (*filter_row)(const fc_filter *);

    void (*add)(const void *a, const void *b, int relu, void *y, ptrdiff_t n); /* y may be an operand */
    void (*sgd)(const fc_step *, ptrdiff_t at, ptrdiff_t n);                   /* elements [at, at + n) */
    void (*adam)(const fc_step *, ptrdiff_t at, ptrdiff_t n);

    void (*pool)(const fc_pool *);
    void (*pool_divide)(const fc_pool_divide *);
    ptrdiff_t (*pool_gather)(const fc_pool_gather *);  /* returns how many winners lie in the box, by `places` alone */
    const void *(*pool_stage)(const fc_pool_stage *);

    /* Each returns NULL, or the first index outside of the plane (the work is unfinished then). */
    const void *(*scatter_add)(const fc_scatter *);   /* plane += value */
    const void *(*scatter_set)(const fc_scatter *);   /* plane = value; of equal indices the last counts */
    const void *(*unscatter_set)(const fc_scatter *, uint8_t *seen, ptrdiff_t lo, ptrdiff_t hi);
    /* value = plane where scatter_set would have stored last, else 0; for positions lo <= i < hi, with
     * (hi - lo) * channels bytes to work with */
} fc_kernels;

/* Best first; the tables that this build holds. */
ptrdiff_t fc_isa_count(void);
const char *fc_isa_name(ptrdiff_t i);
int fc_isa_supported(ptrdiff_t i);                    /* on this CPU and operating system */
const fc_kernels *fc_isa_kernels(ptrdiff_t i, int f64);

#endif
