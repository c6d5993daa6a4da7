# The C side as Cython sees it: csrc/fastconv.h with what that includes, window.h, padding.h, openmp.h. Their comments
# say what all of it means. Drivers cimport it through _runtime.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t, uint64_t


cdef extern from "fastconv.h":
    ctypedef enum fc_pad_mode:
        FC_ZEROS
        FC_REFLECT
        FC_REPLICATE
        FC_CIRCULAR
        FC_SYMMETRIC

    ctypedef enum fc_activation:
        FC_IDENTITY
        FC_RELU
        FC_RELU6
        FC_LEAKY_RELU
        FC_SIGMOID
        FC_TANH
        FC_SILU
        FC_HARDSWISH

    const double FC_LEAKY_SLOPE
    const ptrdiff_t FC_PAST_BYTES

    ctypedef struct fc_strip:
        const void *src
        ptrdiff_t src_c
        ptrdiff_t src_axis[3]
        ptrdiff_t extent[3]
        fc_pad_mode mode
        ptrdiff_t channels
        ptrdiff_t lo[3]
        ptrdiff_t count[3]
        void *dst
        ptrdiff_t dst_c
        ptrdiff_t dst_axis[3]
        ptrdiff_t split
        ptrdiff_t dst_run

    ctypedef struct fc_ahead:
        const char *from_ "from"
        ptrdiff_t runs
        ptrdiff_t lines
        ptrdiff_t stride
        ptrdiff_t line
        ptrdiff_t step

    void fc_prefetch(fc_ahead *) noexcept nogil

    ctypedef struct fc_gemm:
        const void *a
        const ptrdiff_t *row
        const ptrdiff_t *seg
        ptrdiff_t rows
        ptrdiff_t nseg
        ptrdiff_t len
        ptrdiff_t step
        const void *b
        const ptrdiff_t *bseg
        ptrdiff_t n
        void *c
        const ptrdiff_t *crow
        const void *bias
        int accumulate
        fc_activation activation

    int FC_FEW_ROWS

    ctypedef struct fc_planar:
        ptrdiff_t groups
        ptrdiff_t a_group
        ptrdiff_t b_group
        ptrdiff_t lane
        ptrdiff_t col
        const ptrdiff_t *lanes
        const ptrdiff_t *first
        ptrdiff_t width
        ptrdiff_t gap

    ctypedef struct fc_pack:
        const void *src
        ptrdiff_t n
        ptrdiff_t col
        ptrdiff_t len
        ptrdiff_t red
        ptrdiff_t ntap
        const ptrdiff_t *at
        void *dst

    ctypedef struct fc_rows:
        void *x
        ptrdiff_t x_c
        ptrdiff_t x_axis[3]
        ptrdiff_t count[3]
        void *rows
        ptrdiff_t n
        void *column_sum

    ctypedef struct fc_join:
        const void *part
        ptrdiff_t parts
        ptrdiff_t part_stride
        ptrdiff_t n
        ptrdiff_t col
        ptrdiff_t len
        ptrdiff_t red
        ptrdiff_t ntap
        int accumulate
        void *dst

    ctypedef struct fc_lane_map:
        ptrdiff_t lanes
        ptrdiff_t lane0
        ptrdiff_t cols
        ptrdiff_t red

    enum:
        FC_SLIDE_TAPS

    ctypedef struct fc_run:
        ptrdiff_t taps
        ptrdiff_t lo
        ptrdiff_t hi
        ptrdiff_t lane_lo
        ptrdiff_t lane_hi
        ptrdiff_t x
        ptrdiff_t w
        ptrdiff_t w_step
        ptrdiff_t tap_step

    ctypedef struct fc_slide:
        fc_run *run
        ptrdiff_t runs
        ptrdiff_t results
        ptrdiff_t lanes
        ptrdiff_t lines
        const void *x
        ptrdiff_t x_step
        ptrdiff_t x_vector
        ptrdiff_t x_lane
        ptrdiff_t x_line
        void *y
        ptrdiff_t y_step
        ptrdiff_t y_vector
        ptrdiff_t y_line
        void *w
        ptrdiff_t w_vector
        void *b
        ptrdiff_t b_vector
        fc_activation activation
        fc_ahead *ahead

    ctypedef struct fc_fold:
        ptrdiff_t column0
        ptrdiff_t cols
        ptrdiff_t row_cols
        const ptrdiff_t *tap
        ptrdiff_t taps
        const ptrdiff_t *first
        ptrdiff_t step[3]

    ctypedef struct fc_products:
        ptrdiff_t points, rows, segs, len, n
        const void *a
        ptrdiff_t a_point, a_seg, a_row, a_step
        const void *b
        ptrdiff_t b_point
        void *c
        ptrdiff_t c_point, c_row
        const void *bias
        int accumulate
        fc_activation activation

    int FC_PRODUCT_ROWS, FC_FUSED_STEPS

    ctypedef struct fc_fused:
        int m
        int first
        int last
        int accumulate
        ptrdiff_t groups
        ptrdiff_t steps
        const void *from_ "from"
        ptrdiff_t from_point
        ptrdiff_t from_tile
        const void *v
        void *sums
        void *to
        ptrdiff_t to_point
        ptrdiff_t to_tile
        fc_ahead *ahead

    ctypedef struct fc_fused_taps:
        int m
        ptrdiff_t tiles
        ptrdiff_t channels
        const void *v
        const void *z
        void *to
        ptrdiff_t to_tap
        ptrdiff_t to_channel

    ctypedef struct fc_winograd:
        int m
        int line
        ptrdiff_t taps
        ptrdiff_t tiles
        ptrdiff_t n
        const void *from_ "from"
        ptrdiff_t from_row
        ptrdiff_t from_column
        ptrdiff_t from_point
        ptrdiff_t from_tile
        ptrdiff_t lo[2]
        ptrdiff_t hi[2]
        void *to
        ptrdiff_t to_row
        ptrdiff_t to_column
        ptrdiff_t to_point
        ptrdiff_t to_tile
        const void *bias
        fc_activation activation
        int past
        void *column_sum

    int FC_FFT_LANES

    ctypedef struct fc_fft:
        ptrdiff_t size, lanes
        const void *roots
        void *line[16]
        ptrdiff_t at[16]
        ptrdiff_t step, extent
        ptrdiff_t len_ "len"
        fc_pad_mode mode
        bint reversed_ "reversed"
        bint conjugate, accumulate
        double scale
        void *spectrum
        ptrdiff_t point, im
        const void *bias
        fc_activation activation
        void *work

    ctypedef struct fc_spectral:
        ptrdiff_t points, rows, segs
        ptrdiff_t len_ "len"
        ptrdiff_t n
        const void *a
        const void *b
        void *c
        const ptrdiff_t *row
        const ptrdiff_t *crow
        const ptrdiff_t *aseg
        const ptrdiff_t *bseg
        ptrdiff_t a_step, b_step, a_im, b_im, c_im, a_point, b_point, c_point
        bint lanewise, accumulate

    ctypedef struct fc_softmax:
        const void *x
        const void *dy
        void *y
        ptrdiff_t count
        ptrdiff_t len
        ptrdiff_t step
        int logarithm

    ctypedef struct fc_channels:
        const void *x
        const void *dy
        void *y
        ptrdiff_t rows
        ptrdiff_t len
        ptrdiff_t row
        int by_column
        int relu
        const void *mean
        const void *scale
        const void *slope
        const void *shift
        const void *offset
        double *sums

    ctypedef struct fc_step:
        void *w
        const void *g
        void *mean
        void *square
        double rate
        double decay
        double shrink
        double beta1
        double beta2
        double eps
        double root
        int nesterov

    # pooling
    enum:
        FC_FILTER_KERNELS

    ctypedef struct fc_photo:
        const void *x
        int bytes
        ptrdiff_t extent[2]
        ptrdiff_t row
        ptrdiff_t channels
        fc_pad_mode mode

    ctypedef struct fc_filter:
        const void *x
        const void *w
        const ptrdiff_t *at
        ptrdiff_t taps
        ptrdiff_t kernels
        ptrdiff_t len
        void *y[FC_FILTER_KERNELS]
        int bytes
        int past
        double offset

    ctypedef struct fc_windows:
        ptrdiff_t in_ "in"
        ptrdiff_t out
        ptrdiff_t size
        ptrdiff_t stride
        ptrdiff_t dilation
        ptrdiff_t before
        ptrdiff_t after

    ctypedef struct fc_image:
        void *data
        ptrdiff_t c
        ptrdiff_t axis[3]

    ctypedef enum fc_pool_op:
        FC_POOL_MAX
        FC_POOL_MIN
        FC_POOL_SUM

    ctypedef enum fc_pool_index:
        FC_INDEX_NONE
        FC_INDEX_WINDOW
        FC_INDEX_PLANE

    ctypedef struct fc_pool_divide:
        bint channels_last
        bint include_pad
        double divisor
        fc_windows windows[3]
        ptrdiff_t channels
        ptrdiff_t lo[3]
        ptrdiff_t hi[3]
        fc_image y

    ctypedef struct fc_pool:
        fc_pool_op op
        fc_pool_index indexing
        bint channels_last
        bint ahead
        const fc_pool_divide *mean
        fc_windows windows[3]
        ptrdiff_t channels
        ptrdiff_t lo[3]
        ptrdiff_t hi[3]
        fc_image x
        fc_image y
        fc_image index

    enum:
        FC_GATHER_COLUMNS
        FC_POOL_COMPARED

    ctypedef struct fc_pool_gather:
        bint channels_last, places, added
        fc_windows windows[3]
        ptrdiff_t channels
        ptrdiff_t lo[3]
        ptrdiff_t hi[3]
        fc_image dx
        ptrdiff_t first[3]
        ptrdiff_t last[3]
        fc_image dy
        fc_image tap

    ctypedef struct fc_pool_stage:
        bint channels_last
        fc_windows windows[3]
        ptrdiff_t channels
        ptrdiff_t lo[3]
        ptrdiff_t hi[3]
        fc_image src
        fc_image dst

    ctypedef struct fc_scatter:
        bint channels_last, clear
        ptrdiff_t channels
        ptrdiff_t count[3]
        fc_image value
        fc_image index
        void *plane
        ptrdiff_t plane_c
        ptrdiff_t plane_step
        ptrdiff_t positions

    ctypedef struct fc_kernels:
        const char *isa
        ptrdiff_t itemsize
        ptrdiff_t lanes
        ptrdiff_t block
        bint masked_loads
        uint64_t (*enter)() noexcept nogil
        void (*leave)(uint64_t) noexcept nogil
        double (*fma_peak)(ptrdiff_t) noexcept nogil
        void (*load_strip)(const fc_strip *) noexcept nogil
        void (*fold_strip)(const fc_strip *) noexcept nogil
        int (*pack_weight)(const fc_pack *) noexcept nogil
        void (*gemm)(const fc_gemm *) noexcept nogil
        void (*few_rows)(const fc_gemm *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*planar_gemm)(const fc_gemm *, const fc_planar *) noexcept nogil
        void (*load_rows)(const fc_rows *) noexcept nogil
        void (*store_rows)(const fc_rows *) noexcept nogil
        void (*join_weight)(const fc_join *) noexcept nogil
        void (*load_lanes)(const fc_strip *, const fc_lane_map *) noexcept nogil
        int (*pack_lanes)(const fc_pack *, const fc_lane_map *) noexcept nogil
        void (*join_lanes)(const fc_join *, const fc_lane_map *) noexcept nogil
        void (*slide)(const fc_slide *) noexcept nogil
        void (*slide_back)(const fc_slide *) noexcept nogil
        void (*spread)(const void *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*sum_vectors)(const void *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*join_phases)(const void *, ptrdiff_t, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*pack_folded)(const fc_pack *, const fc_fold *) noexcept nogil
        void (*store_folded)(const fc_rows *, const fc_fold *) noexcept nogil
        int (*has_nan)(const void *, ptrdiff_t) noexcept nogil
        void (*products)(const fc_products *) noexcept nogil
        void (*winograd_input)(const fc_winograd *) noexcept nogil
        void (*winograd_weight)(const fc_winograd *) noexcept nogil
        void (*winograd_output)(const fc_winograd *) noexcept nogil
        void (*winograd_gradient)(const fc_winograd *) noexcept nogil
        void (*winograd_taps)(const fc_winograd *) noexcept nogil
        void (*winograd_fused)(const fc_fused *) noexcept nogil
        void (*winograd_fused_taps)(const fc_fused_taps *) noexcept nogil
        void (*fft_forward)(const fc_fft *) noexcept nogil
        void (*fft_backward)(const fc_fft *) noexcept nogil
        void (*spectral)(const fc_spectral *) noexcept nogil
        void (*activate)(fc_activation, double, const void *, void *, ptrdiff_t, int) noexcept nogil
        void (*activate_backward)(fc_activation, double, const void *, const void *, void *, ptrdiff_t) noexcept nogil
        void (*scale_kept)(const void *, const uint8_t *, double, void *, ptrdiff_t) noexcept nogil
        double (*pair_loss)(int, const void *, const void *, ptrdiff_t) noexcept nogil
        void (*softmax)(const fc_softmax *) noexcept nogil
        void (*softmax_backward)(const fc_softmax *) noexcept nogil
        void (*channel_sums)(const fc_channels *) noexcept nogil
        void (*channel_scale)(const fc_channels *) noexcept nogil
        void (*load_image_row)(const fc_photo *, ptrdiff_t, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*filter_row)(const fc_filter *) noexcept nogil
        void (*add)(const void *, const void *, int, void *, ptrdiff_t) noexcept nogil
        void (*sgd)(const fc_step *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*adam)(const fc_step *, ptrdiff_t, ptrdiff_t) noexcept nogil
        void (*pool)(const fc_pool *) noexcept nogil
        void (*pool_divide)(const fc_pool_divide *) noexcept nogil
        ptrdiff_t (*pool_gather)(const fc_pool_gather *) noexcept nogil
        const void *(*pool_stage)(const fc_pool_stage *) noexcept nogil
        const void *(*scatter_add)(const fc_scatter *) noexcept nogil
        const void *(*scatter_set)(const fc_scatter *) noexcept nogil
        const void *(*unscatter_set)(const fc_scatter *, uint8_t *, ptrdiff_t, ptrdiff_t) noexcept nogil


cdef extern from "window.h":
    ctypedef struct fc_window:
        ptrdiff_t start
        ptrdiff_t count
        ptrdiff_t tap
        ptrdiff_t padded

    ctypedef struct fc_range:
        ptrdiff_t lo
        ptrdiff_t hi

    fc_window fc_window_at(const fc_windows *, ptrdiff_t) noexcept nogil
    fc_range fc_reach(const fc_windows *, ptrdiff_t) noexcept nogil


cdef extern from "padding.h":
    ptrdiff_t padded_source(ptrdiff_t, ptrdiff_t, fc_pad_mode) noexcept nogil


cdef extern from "openmp.h":
    # A driver takes fc_this_thread() before its parallel region, and every share begins with fc_settle().
    ctypedef struct fc_master:
        int cpu
    fc_master fc_this_thread() noexcept nogil
    void fc_settle(const fc_master *) noexcept nogil
