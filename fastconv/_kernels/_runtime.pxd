# What the other compiled modules use: the C side (_contract.pxd), the kernel table in use, results, scratch memory.
cimport numpy as cnp
from libc.stddef cimport ptrdiff_t

from fastconv._kernels._contract cimport *


cdef const fc_kernels *fc_current(bint f64) noexcept nogil

cpdef empty(shape, cnp.dtype dtype, bint channels_last=*)

cdef class Scratch:
    cdef char *data
    cdef size_t size

cdef Scratch take_scratch(size_t size)
cdef void give_scratch(Scratch scratch)

# The number of shares of `items` work items that cost `flops` in total (floating-point operations, or
# bytes moved for kernels that compute little); num_threads None means the default of this moment.
cdef Py_ssize_t shares_of(object num_threads, Py_ssize_t items, double flops) except 0
