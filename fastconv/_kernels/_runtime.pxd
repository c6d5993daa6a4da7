# What the other compiled modules use of the runtime: the kernel table in use, scratch memory.
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

    ctypedef struct fc_gemm:
        const void *a
        const ptrdiff_t *row
        const ptrdiff_t *seg
        ptrdiff_t rows
        ptrdiff_t nseg
        ptrdiff_t len
        ptrdiff_t step
        const void *b
        ptrdiff_t n
        void *c
        const ptrdiff_t *crow
        const void *bias
        int accumulate
        fc_activation activation

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

    ctypedef struct fc_winograd:
        int m
        ptrdiff_t tiles
        ptrdiff_t n
        const void *from_ "from"
        ptrdiff_t from_row
        ptrdiff_t from_column
        ptrdiff_t from_point
        ptrdiff_t from_tile
        void *to
        ptrdiff_t to_row
        ptrdiff_t to_column
        ptrdiff_t to_point
        ptrdiff_t to_tile
        ptrdiff_t rows
        ptrdiff_t columns
        const void *bias
        fc_activation activation
        void *column_sum

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
        const void *mean
        const void *scale
        const void *slope
        const void *shift
        double *sums

    ctypedef struct fc_kernels:
        const char *isa
        ptrdiff_t itemsize
        ptrdiff_t lanes
        ptrdiff_t block
        uint64_t (*enter)() noexcept nogil
        void (*leave)(uint64_t) noexcept nogil
        double (*fma_peak)(ptrdiff_t) noexcept nogil
        void (*load_strip)(const fc_strip *) noexcept nogil
        void (*fold_strip)(const fc_strip *) noexcept nogil
        int (*pack_weight)(const fc_pack *) noexcept nogil
        void (*gemm)(const fc_gemm *) noexcept nogil
        void (*load_rows)(const fc_rows *) noexcept nogil
        void (*store_rows)(const fc_rows *) noexcept nogil
        void (*join_weight)(const fc_join *) noexcept nogil
        void (*load_lanes)(const fc_strip *, const fc_lane_map *) noexcept nogil
        int (*pack_lanes)(const fc_pack *, const fc_lane_map *) noexcept nogil
        void (*lane_gemm)(const fc_gemm *) noexcept nogil
        void (*join_lanes)(const fc_join *, const fc_lane_map *) noexcept nogil
        void (*winograd_input)(const fc_winograd *) noexcept nogil
        void (*winograd_weight)(const fc_winograd *) noexcept nogil
        void (*winograd_output)(const fc_winograd *) noexcept nogil
        void (*winograd_gradient)(const fc_winograd *) noexcept nogil
        void (*winograd_taps)(const fc_winograd *) noexcept nogil
        void (*activate)(fc_activation, double, const void *, void *, ptrdiff_t) noexcept nogil
        void (*activate_backward)(fc_activation, double, const void *, const void *, void *, ptrdiff_t) noexcept nogil
        void (*scale_kept)(const void *, const uint8_t *, double, void *, ptrdiff_t) noexcept nogil
        void (*softmax)(const fc_softmax *) noexcept nogil
        void (*softmax_backward)(const fc_softmax *) noexcept nogil
        void (*channel_sums)(const fc_channels *) noexcept nogil
        void (*channel_scale)(const fc_channels *) noexcept nogil


cdef const fc_kernels *fc_current(bint f64) noexcept nogil

cdef class Scratch:
    cdef char *data
    cdef size_t size

cdef Scratch take_scratch(size_t size)
cdef void give_scratch(Scratch scratch)

# The number of shares of `items` work items that cost `flops` in total (floating-point operations, or
# bytes moved for kernels that compute little); num_threads None means the default of this moment.
cdef Py_ssize_t shares_of(object num_threads, Py_ssize_t items, double flops) except 0
