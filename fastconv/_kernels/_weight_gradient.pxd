# The part of backward-weight that every algorithm shares: partial sums and how they are joined.
from fastconv._kernels._blocks cimport Blocks
from fastconv._kernels._runtime cimport fc_kernels
from fastconv._kernels._tensor cimport Tensor


cdef struct Gradient:
    char *part          # partial sums that items share, NULL: each item joins its own, or dw isn't wanted
    char *column_sums
    char *dw            # NULL: not wanted
    char *db
    bint accumulate


cdef bint all_finite(const char *a, ptrdiff_t n, bint f64) noexcept nogil


cdef class PartialSums(Blocks):
    cdef bint single(self) noexcept nogil
    cdef ptrdiff_t item_count(self) noexcept nogil
    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, const Gradient *d,
                    char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil
    cdef void join(self, const fc_kernels *kernels, const Gradient *d, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil
    cdef void join_block(self, const fc_kernels *kernels, const Gradient *d, const char *part, ptrdiff_t g,
                         ptrdiff_t kb, ptrdiff_t c0, ptrdiff_t c1) noexcept nogil
