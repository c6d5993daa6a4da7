# The part of backward-weight that every algorithm shares: partial sums and how they are joined.
from fastconv._kernels._blocks cimport Blocks
from fastconv._kernels._runtime cimport fc_kernels
from fastconv._kernels._tensor cimport Tensor


cdef class PartialSums(Blocks):
    cdef ptrdiff_t item_count(self) noexcept nogil
    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, char *part, char *column_sums,
                    char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil
    cdef void join(self, const fc_kernels *kernels, const char *part, const char *column_sums, char *dw, char *db,
                   bint accumulate, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil
