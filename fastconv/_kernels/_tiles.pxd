# Transforms of runs of tiles, for Winograd forward, backward-input and backward-weight.
from fastconv._kernels._blocks cimport Blocks
from fastconv._kernels._runtime cimport fc_kernels, fc_pad_mode
from fastconv._kernels._tensor cimport Tensor


cdef struct Run:
    # Tiles side by side: the first one's first result (n, d, h, w), and how many rows and columns of results exist.
    ptrdiff_t tiles, n, d, h, w, rows, columns


cdef struct Side:
    # What is transformed: patches of reach[0] x reach[1], a tile apart, from `low` on, of some channels of a tensor.
    Tensor tensor
    ptrdiff_t low[3]
    ptrdiff_t extent[3]
    fc_pad_mode mode
    ptrdiff_t reach[2]
    ptrdiff_t channel0, channels
    # Strides of the result: between points, between tiles, between runs of `run` channels.
    ptrdiff_t point, tile, runs, run


cdef ptrdiff_t run_bytes(Blocks p) noexcept nogil
cdef ptrdiff_t group_end(Blocks p, ptrdiff_t tile, ptrdiff_t end, ptrdiff_t most) noexcept nogil
cdef Run run_of(Blocks p, ptrdiff_t tile, ptrdiff_t end) noexcept nogil
cdef Side input_side(Blocks p, const Tensor *x, ptrdiff_t point) noexcept nogil

# column_sum given: results' gradients (reach m), whose sums over pixels are added to it.
cdef void transform_tiles(const fc_kernels *kernels, Blocks p, const Side *side, ptrdiff_t tile0, ptrdiff_t tile1,
                          char *to, char *strip, char *column_sum) noexcept nogil
cdef ptrdiff_t transform_slices(const fc_kernels *kernels, Blocks p, Side *side, ptrdiff_t tile0, ptrdiff_t tile1,
                                char *to, char *strip) noexcept nogil
