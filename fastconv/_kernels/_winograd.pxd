# Transforms of whole rows of tiles, for Winograd forward, backward-input and backward-weight.
from fastconv._kernels._blocks cimport Blocks
from fastconv._kernels._runtime cimport fc_kernels, fc_pad_mode
from fastconv._kernels._tensor cimport Tensor


cdef struct Side:
    # What is transformed: patches of reach x reach, m apart, from `low` on, of some channels of a tensor.
    Tensor tensor
    ptrdiff_t low[3]
    ptrdiff_t extent[3]
    fc_pad_mode mode
    ptrdiff_t m, reach, channel0, channels
    ptrdiff_t point   # stride between points of the result


cdef Side input_side(Blocks p, const Tensor *x, ptrdiff_t m, ptrdiff_t point) noexcept nogil

# column_sum given: results' gradients (reach m), whose sums over pixels are added to it.
cdef void transform_units(const fc_kernels *kernels, Blocks p, const Side *side, ptrdiff_t unit0, ptrdiff_t unit1,
                          char *to, char *strip, char *column_sum) noexcept nogil
