"""im2col and col2im: the windows of an array as columns, and back; and the gradients of padding.

a. A work item is one channel of one image: its rows of the columns, and its plane of the array.
b. The array's strides may be any.
c. col2im adds the taps of a plane in row-major order, whatever the number of threads.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastconv._kernels._runtime cimport (
    fc_current, fc_kernels, fc_master, fc_pad_mode, fc_settle, fc_strip, fc_this_thread, shares_of,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, element, tensor_of

cnp.import_array()

ctypedef fused real:
    float
    double


cdef struct Windows:
    # Tap t of output q meets input q * stride - before + t * dilation; d h w.
    Tensor x
    ptrdiff_t out[3]
    ptrdiff_t kernel[3]
    ptrdiff_t stride[3]
    ptrdiff_t dilation[3]
    ptrdiff_t before[3]
    ptrdiff_t taps, positions


cdef Windows windows_of(cnp.ndarray x, geometry, before):
    cdef Windows w
    cdef int i
    w.x, w.taps, w.positions = tensor_of(x), 1, 1
    for i in range(3):
        w.out[i], w.kernel[i], w.stride[i] = geometry.out[i], geometry.kernel[i], geometry.stride[i]
        w.dilation[i], w.before[i] = geometry.dilation[i], before[i]
        w.taps, w.positions = w.taps * w.kernel[i], w.positions * w.out[i]
    return w


cdef inline ptrdiff_t source(const Windows *w, int axis, ptrdiff_t q, ptrdiff_t t) noexcept nogil:
    """Input position of tap t of output q, or -1 where it lies in the padding."""
    cdef ptrdiff_t i = q * w.stride[axis] - w.before[axis] + t * w.dilation[axis]
    return i if 0 <= i < w.x.shape[axis + 2] else -1


cdef void copy_plane(const Windows *w, const real *plane, real *column) noexcept nogil:
    """Columns of one channel: taps, then positions, both row-major."""
    cdef ptrdiff_t tap, td, th, tw, d, h, q, i, j, k
    cdef const real *row
    for tap in range(w.taps):
        td, th, tw = tap // (w.kernel[1] * w.kernel[2]), tap // w.kernel[2] % w.kernel[1], tap % w.kernel[2]
        for d in range(w.out[0]):
            i = source(w, 0, d, td)
            for h in range(w.out[1]):
                j = source(w, 1, h, th)
                if i < 0 or j < 0:
                    memset(column, 0, w.out[2] * sizeof(real))
                else:
                    row = plane + i * w.x.axis[0] + j * w.x.axis[1]
                    for q in range(w.out[2]):
                        k = source(w, 2, q, tw)
                        column[q] = row[k * w.x.axis[2]] if k >= 0 else 0
                column += w.out[2]


cdef void add_plane(const Windows *w, real *plane, const real *column) noexcept nogil:
    """Add the columns of one channel to the elements that they come from."""
    cdef ptrdiff_t tap, td, th, tw, d, h, q, i, j, k
    cdef real *row
    for tap in range(w.taps):
        td, th, tw = tap // (w.kernel[1] * w.kernel[2]), tap // w.kernel[2] % w.kernel[1], tap % w.kernel[2]
        for d in range(w.out[0]):
            i = source(w, 0, d, td)
            for h in range(w.out[1]):
                j = source(w, 1, h, th)
                if i >= 0 and j >= 0:
                    row = plane + i * w.x.axis[0] + j * w.x.axis[1]
                    for q in range(w.out[2]):
                        k = source(w, 2, q, tw)
                        if k >= 0:
                            row[k * w.x.axis[2]] += column[q]
                column += w.out[2]


cdef inline char *plane_of(const Windows *w, ptrdiff_t item) noexcept nogil:
    return element(&w.x, item // w.x.shape[1], item % w.x.shape[1], 0, 0, 0)


cdef void copy_share(const Windows *w, real *cols, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
    cdef ptrdiff_t item
    for item in range(item0, item1):
        copy_plane(w, <const real *>plane_of(w, item), cols + item * w.taps * w.positions)


cdef void add_share(const fc_kernels *kernels, const Windows *w, real *cols, ptrdiff_t item0,
                    ptrdiff_t item1) noexcept nogil:
    cdef uint64_t state = kernels.enter()
    cdef ptrdiff_t item
    for item in range(item0, item1):
        add_plane(w, <real *>plane_of(w, item), <const real *>(cols + item * w.taps * w.positions))
    kernels.leave(state)


def run(cnp.ndarray x, cnp.ndarray cols, geometry, before, bint backward, num_threads):
    """Fill `cols` (contiguous) with the windows of x, or add it to x; `before` is negative where x is cropped."""
    cdef bint f64 = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    cdef const fc_kernels *kernels = fc_current(f64)
    cdef Windows w = windows_of(x, geometry, before)
    cdef void *data = cnp.PyArray_DATA(cols)
    cdef ptrdiff_t items = w.x.shape[0] * w.x.shape[1], item0, item1
    cdef Py_ssize_t shares = shares_of(num_threads, items, 2.0 * cnp.PyArray_NBYTES(cols)), t
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint planes of x and disjoint rows of the columns.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            item0, item1 = items * t // shares, items * (t + 1) // shares
            if f64 and backward:
                add_share[double](kernels, &w, <double *>data, item0, item1)
            elif f64:
                copy_share[double](&w, <double *>data, item0, item1)
            elif backward:
                add_share[float](kernels, &w, <float *>data, item0, item1)
            else:
                copy_share[float](&w, <float *>data, item0, item1)

# ---------------------------------------------------------------- padding modes, backwards

def fold(cnp.ndarray padded, cnp.ndarray target, before, int mode, num_threads):
    """Add a gradient with respect to a padded array into that of the array (n, c, *spatial)."""
    cdef const fc_kernels *kernels = fc_current(cnp.PyArray_ITEMSIZE(padded) == 8)
    cdef Tensor from_ = tensor_of(padded), to = tensor_of(target)
    cdef ptrdiff_t n = cnp.PyArray_DIM(target, 0), channels = cnp.PyArray_DIM(target, 1)
    cdef ptrdiff_t chunks = ceil_div(channels, FOLD_CHANNELS)
    cdef Py_ssize_t shares = shares_of(num_threads, n * chunks, cnp.PyArray_SIZE(padded)), t
    cdef int spatial = cnp.PyArray_NDIM(padded) - 2, i
    cdef fc_strip s
    s.mode = <fc_pad_mode>mode
    s.src_c, s.dst_c = to.c, from_.c
    for i in range(3):
        s.src_axis[i], s.dst_axis[i], s.lo[i] = to.axis[i], from_.axis[i], -before[i]
        s.extent[i] = s.count[i] = 1
    for i in range(spatial):
        s.extent[3 - spatial + i] = cnp.PyArray_DIM(target, 2 + i)
        s.count[3 - spatial + i] = cnp.PyArray_DIM(padded, 2 + i)
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint (image, channels) pieces of the target.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            fold_share(kernels, &s, &from_, &to, channels, n * chunks * t // shares, n * chunks * (t + 1) // shares)


cdef enum:
    FOLD_CHANNELS = 16


cdef void fold_share(const fc_kernels *kernels, const fc_strip *shape, const Tensor *padded, const Tensor *target,
                     ptrdiff_t channels, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
    cdef fc_strip s = shape[0]
    cdef uint64_t state = kernels.enter()
    cdef ptrdiff_t item, n, c, chunks = ceil_div(channels, FOLD_CHANNELS)
    for item in range(item0, item1):
        n, c = item // chunks, item % chunks * FOLD_CHANNELS
        s.channels = min(FOLD_CHANNELS, channels - c)
        s.src = target.data + (n * target.n + c * target.c) * kernels.itemsize
        s.dst = padded.data + (n * padded.n + c * padded.c) * kernels.itemsize
        kernels.fold_strip(&s)
    kernels.leave(state)
