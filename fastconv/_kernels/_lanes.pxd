# Runs of taps and their sources, for grouped convolution with few channels a group, in all three directions.
cimport numpy as cnp

from fastconv._kernels._blocks cimport Blocks, Box
from fastconv._kernels._runtime cimport fc_kernels, fc_rows, fc_run
from fastconv._kernels._tensor cimport Tensor


cdef struct Run:
    # Taps at offset, offset + in_step, ... along the sliding axis, at packed positions tap, tap + tap_step, ...
    ptrdiff_t offset[3]
    ptrdiff_t taps, tap, tap_step


cdef class Runs:
    cdef int slid            # the axis that results slide along
    cdef bint far            # source and results don't stay in cache: they are prefetched
    cdef bint flat           # there is nothing to slide along: 1-D, with pixels as lanes
    cdef Run *run
    cdef ptrdiff_t *first    # phase ph has the runs first[ph] <= i < first[ph + 1]
    cdef readonly ptrdiff_t most, count   # of one phase, at most; of all

    cdef list _chains(self, Blocks blocks, ptrdiff_t ph)
    cdef _add(self, Blocks blocks, ptrdiff_t ph, list chain)
    cdef void fill(self, Blocks k, const Tensor *a, const ptrdiff_t *cell, ptrdiff_t lanes, fc_run *to) noexcept nogil
    cdef ptrdiff_t there(self, Blocks k, ptrdiff_t ph, const ptrdiff_t *cell, bint any_w, const fc_run *all_,
                         fc_run *to) noexcept nogil
    cdef ptrdiff_t same_end(self, Blocks k, ptrdiff_t ph, const ptrdiff_t *cell, ptrdiff_t end) noexcept nogil


cdef cnp.ndarray in_order_of(cnp.ndarray a, bint last)
cdef bint has_order(cnp.ndarray a, bint last)
cdef ptrdiff_t lane_step(Blocks k) noexcept nogil
cdef Tensor lane_tensor(Blocks k, char *data, const ptrdiff_t *extent) noexcept nogil
cdef fc_rows rows_of(Blocks k, const Tensor *t, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t channels,
                     const ptrdiff_t *extent, char *rows) noexcept nogil
cdef ptrdiff_t blocks_in_place(Blocks k, const fc_kernels *kernels) noexcept nogil
cdef Tensor source_of(Blocks k, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t channel,
                      char *strip) noexcept nogil
cdef Tensor strip_source(Blocks k, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t kb,
                         ptrdiff_t channel, char *strip) noexcept nogil
