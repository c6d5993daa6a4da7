"""Drivers of the elementwise functions and of softmax.

a. Arrays come in one memory layout (fastconv/checks/elementwise.py sees to that), so they are runs of elements here.
b. Every parallel loop runs over shares: share t of T does the work items [n * t / T, n * (t + 1) / T). An
   item is a fixed number of elements, or of whole softmax vectors: items don't depend on T, nor do the bits.
c. Arithmetic flushes subnormals inside the region; functions that select (relu, relu6) pass them on.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint8_t, uint64_t

import numpy as np

from fastconv._kernels._runtime cimport (
    FC_PAST_BYTES, FC_RELU, FC_RELU6, FC_SIGMOID, FC_SILU, FC_TANH, empty, fc_activation, fc_current, fc_kernels, fc_master,
    fc_settle, fc_softmax, fc_this_thread, shares_of,
)

cnp.import_array()

cdef object np_ndarray = np.ndarray

cdef enum:
    CHUNK = 16 * 1024       # elements of a work item: operands and result stay in L2
    COLUMNS_BYTES = 512     # an item of softmax columns is at least this wide: memory is read in runs
    EXP_FLOPS = 40          # what an element of a function with an exponential costs

cdef struct Flat:
    # Operands and result of an elementwise function: bytes of element 0. The result of a loss is a double an item.
    const char *x
    const char *saved
    const uint8_t *mask
    char *y
    fc_activation activation
    double factor           # leaky_relu's slope, dropout's scale
    bint flush
    bint past               # results go past the caches


ctypedef void (*run_item)(const fc_kernels *, const Flat *, ptrdiff_t, ptrdiff_t) noexcept nogil


cdef const fc_kernels *kernels_for(cnp.ndarray x) noexcept:
    return fc_current(cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64)


cdef void forward_item(const fc_kernels *kernels, const Flat *f, ptrdiff_t at, ptrdiff_t n) noexcept nogil:
    kernels.activate(f.activation, f.factor, f.x + at * kernels.itemsize, f.y + at * kernels.itemsize, n, f.past)


cdef void backward_item(const fc_kernels *kernels, const Flat *f, ptrdiff_t at, ptrdiff_t n) noexcept nogil:
    kernels.activate_backward(f.activation, f.factor, f.x + at * kernels.itemsize, f.saved + at * kernels.itemsize,
                              f.y + at * kernels.itemsize, n)


cdef void masked_item(const fc_kernels *kernels, const Flat *f, ptrdiff_t at, ptrdiff_t n) noexcept nogil:
    kernels.scale_kept(f.x + at * kernels.itemsize, f.mask + at, f.factor, f.y + at * kernels.itemsize, n)


cdef void loss_item(const fc_kernels *kernels, const Flat *f, ptrdiff_t at, ptrdiff_t n) noexcept nogil:
    (<double *>f.y)[at // CHUNK] = kernels.pair_loss(f.activation == FC_SIGMOID, f.x + at * kernels.itemsize,
                                                     f.saved + at * kernels.itemsize, n)


cdef void flat_share(const fc_kernels *kernels, run_item run, const Flat *f, ptrdiff_t size, ptrdiff_t item0,
                     ptrdiff_t item1) noexcept nogil:
    cdef ptrdiff_t item
    cdef uint64_t state = kernels.enter() if f.flush else 0
    for item in range(item0, item1):
        run(kernels, f, item * CHUNK, min(CHUNK, size - item * CHUNK))
    if f.flush:
        kernels.leave(state)


cdef int run_flat(const fc_kernels *kernels, run_item run, const Flat *f, ptrdiff_t size, double cost,
                  num_threads) except -1:
    """`cost`: FLOPs, or bytes moved, of an element."""
    cdef ptrdiff_t items = (size + CHUNK - 1) // CHUNK
    cdef Py_ssize_t shares = shares_of(num_threads, items, cost * size), t
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint runs of the result.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            flat_share(kernels, run, f, size, items * t // shares, items * (t + 1) // shares)
    return 0


cdef double cost_of(fc_activation activation, ptrdiff_t itemsize) noexcept:
    return EXP_FLOPS if activation in (FC_SIGMOID, FC_TANH, FC_SILU) else 2 * itemsize


cpdef activate(int activation, double slope, cnp.ndarray x, cnp.ndarray y, num_threads):
    """y = activation(x); y may be x."""
    cdef const fc_kernels *kernels = kernels_for(x)
    cdef Flat f
    f.x, f.y = <const char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(y)
    f.activation, f.factor = <fc_activation>activation, slope
    f.flush = f.activation != FC_RELU and f.activation != FC_RELU6
    f.past = f.x != f.y and cnp.PyArray_NBYTES(y) >= FC_PAST_BYTES
    run_flat(kernels, forward_item, &f, cnp.PyArray_SIZE(x), cost_of(f.activation, kernels.itemsize), num_threads)


cdef bint runs_without_gaps(cnp.ndarray x, bint channels_last) noexcept:
    """Whether the strides are the canonical ones of a memory order."""
    cdef ptrdiff_t stride = cnp.PyArray_ITEMSIZE(x)
    cdef int ndim = cnp.PyArray_NDIM(x), i, axis
    for i in range(ndim):
        axis = ndim - 1 - i
        if channels_last and axis > 0:
            axis = 1 if i == 0 else axis + 1
        if cnp.PyArray_STRIDE(x, axis) != stride:
            return False
        stride *= cnp.PyArray_DIM(x, axis)
    return True


def activated(int activation, double slope, x):
    """A new array activation(x), in x's memory order; None where x isn't an array that is read as it is."""
    cdef cnp.ndarray a
    cdef bint channels_last = False
    if type(x) is not np_ndarray:
        return None
    a = x
    if (cnp.PyArray_TYPE(a) != cnp.NPY_FLOAT32 and cnp.PyArray_TYPE(a) != cnp.NPY_FLOAT64
            or not cnp.PyArray_ISBEHAVED_RO(a)):
        return None
    if not runs_without_gaps(a, False):
        channels_last = cnp.PyArray_NDIM(a) > 2
        if not (channels_last and runs_without_gaps(a, True)):
            return None
    y = empty(x.shape, a.dtype, channels_last)
    activate(activation, slope, a, y, None)
    return y


def activate_backward(int activation, double slope, cnp.ndarray dy, cnp.ndarray saved, cnp.ndarray dx, num_threads):
    """dx = dy * activation'; dx may be dy or saved."""
    cdef const fc_kernels *kernels = kernels_for(dy)
    cdef Flat f
    f.x, f.saved = <const char *>cnp.PyArray_DATA(dy), <const char *>cnp.PyArray_DATA(saved)
    f.y = <char *>cnp.PyArray_DATA(dx)
    f.activation, f.factor = <fc_activation>activation, slope
    f.flush = f.activation != FC_RELU and f.activation != FC_RELU6
    run_flat(kernels, backward_item, &f, cnp.PyArray_SIZE(dy), cost_of(f.activation, kernels.itemsize), num_threads)


def scale_kept(cnp.ndarray x, cnp.ndarray mask, double scale, cnp.ndarray y, num_threads):
    """y = x * scale where the mask (bool) is set, else 0."""
    cdef const fc_kernels *kernels = kernels_for(x)
    cdef Flat f
    f.x, f.y, f.mask = <const char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(y), <uint8_t *>cnp.PyArray_DATA(mask)
    f.factor, f.flush = scale, True
    run_flat(kernels, masked_item, &f, cnp.PyArray_SIZE(x), 2 * kernels.itemsize, num_threads)


def pair_loss(cnp.ndarray x, cnp.ndarray target, bint logistic):
    """The sum of (x - target)**2, or logistic: of the binary cross entropies of logits x; items are joined in order."""
    cdef const fc_kernels *kernels = kernels_for(x)
    cdef ptrdiff_t size = cnp.PyArray_SIZE(x)
    cdef cnp.ndarray sums = np.empty((size + CHUNK - 1) // CHUNK)
    cdef Flat f
    f.x, f.saved = <const char *>cnp.PyArray_DATA(x), <const char *>cnp.PyArray_DATA(target)
    f.y, f.flush = <char *>cnp.PyArray_DATA(sums), True
    f.activation = FC_SIGMOID if logistic else FC_RELU
    run_flat(kernels, loss_item, &f, size, cost_of(f.activation, kernels.itemsize), None)
    return float(sums.sum())


# ---------------------------------------------------------------- softmax

cdef void softmax_share(const fc_kernels *kernels, const fc_softmax *shape, bint backward, ptrdiff_t per_item,
                        ptrdiff_t items_across, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
    """Work items [item0, item1): `items_across` of them share one block of len * step elements."""
    cdef fc_softmax s = shape[0]
    cdef uint64_t state = kernels.enter()
    cdef ptrdiff_t item, first, at
    for item in range(item0, item1):
        first = item % items_across * per_item
        s.count = min(per_item, shape.count - first)
        at = (item // items_across * shape.len * shape.step
              + (first * shape.len if shape.step == 1 else first)) * kernels.itemsize
        s.x, s.y = <const char *>shape.x + at, <char *>shape.y + at
        if backward:
            s.dy = <const char *>shape.dy + at
            kernels.softmax_backward(&s)
        else:
            kernels.softmax(&s)
    kernels.leave(state)


cdef int run_softmax(const fc_kernels *kernels, fc_softmax *s, bint backward, ptrdiff_t outer, ptrdiff_t inner,
                     num_threads) except -1:
    """(outer, len, inner) elements: rows where inner is 1, else `inner` columns in each of `outer` blocks."""
    if s.len == 1:  # vectors of one element each are columns side by side, whatever the axes
        outer, inner = 1, outer * inner
    cdef ptrdiff_t blocks = 1 if inner == 1 else outer
    cdef ptrdiff_t line = COLUMNS_BYTES // kernels.itemsize
    cdef ptrdiff_t per_item = max(1, CHUNK // s.len), across
    s.step, s.count = inner, outer if inner == 1 else inner
    if inner > 1:
        per_item = max(line, per_item // line * line)
    across = (s.count + per_item - 1) // per_item
    cdef ptrdiff_t items = blocks * across
    cdef Py_ssize_t shares = shares_of(num_threads, items, <double>EXP_FLOPS * outer * s.len * inner), t
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint sets of softmax vectors.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            softmax_share(kernels, s, backward, per_item, across, items * t // shares, items * (t + 1) // shares)
    return 0


def softmax(cnp.ndarray x, cnp.ndarray y, ptrdiff_t outer, ptrdiff_t length, ptrdiff_t inner, bint logarithm,
            num_threads):
    """Softmax of (outer, length, inner) elements along the middle axis; y may be x."""
    cdef fc_softmax s
    s.x, s.dy, s.y, s.len, s.logarithm = cnp.PyArray_DATA(x), NULL, cnp.PyArray_DATA(y), length, logarithm
    run_softmax(kernels_for(x), &s, False, outer, inner, num_threads)


def softmax_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx, ptrdiff_t outer, ptrdiff_t length,
                     ptrdiff_t inner, bint logarithm, num_threads):
    """dx from dy and the output y; dx may be either."""
    cdef fc_softmax s
    s.x, s.dy, s.y = cnp.PyArray_DATA(y), cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dx)
    s.len, s.logarithm = length, logarithm
    run_softmax(kernels_for(dy), &s, True, outer, inner, num_threads)


# ---------------------------------------------------------------- cross entropy

ctypedef fused real:
    float
    double


cdef double sum_of_picked(const real *y, const cnp.npy_intp *target, const uint8_t *counts, ptrdiff_t outer,
                          ptrdiff_t length, ptrdiff_t inner) noexcept nogil:
    cdef ptrdiff_t o, i, at
    cdef double total = 0
    for o in range(outer):
        for i in range(inner):
            at = o * inner + i
            if counts == NULL or counts[at]:
                total += y[(o * length + target[at]) * inner + i]
    return total


cdef void take_from_picked(real *y, const cnp.npy_intp *target, const uint8_t *counts, double taken, double scale,
                           ptrdiff_t outer, ptrdiff_t length, ptrdiff_t inner) noexcept nogil:
    cdef ptrdiff_t o, i, at, l
    cdef real factor = <real>scale
    for o in range(outer):
        for i in range(inner):
            at = o * inner + i
            y[(o * length + target[at]) * inner + i] -= <real>taken
            if counts != NULL and not counts[at]:
                for l in range(length):
                    y[(o * length + l) * inner + i] = 0
    for i in range(outer * length * inner):
        y[i] *= factor


cdef uint8_t *bytes_or_null(cnp.ndarray a) noexcept:
    return NULL if a is None else <uint8_t *>cnp.PyArray_DATA(a)


def are_below(cnp.ndarray a, cnp.npy_intp end):
    """Whether all of a's elements, C-contiguous and of intp, are from 0 to below `end`."""
    cdef const cnp.npy_intp *data = <const cnp.npy_intp *>cnp.PyArray_DATA(a)
    cdef ptrdiff_t size = cnp.PyArray_SIZE(a), i
    cdef bint below = True
    with nogil:
        for i in range(size):
            below &= 0 <= data[i] < end
    return below


def picked(cnp.ndarray y, cnp.ndarray target, cnp.ndarray counts, ptrdiff_t outer, ptrdiff_t length, ptrdiff_t inner):
    """The sum of one of (outer, length, inner) elements along the middle axis each, where `counts` is True or None.

    The indices in `target`, (outer, inner), are of intp and within the axis, also where they don't count.
    """
    cdef const cnp.npy_intp *indices = <const cnp.npy_intp *>cnp.PyArray_DATA(target)
    cdef const uint8_t *kept = bytes_or_null(counts)
    cdef void *data = cnp.PyArray_DATA(y)
    cdef bint f64 = cnp.PyArray_TYPE(y) == cnp.NPY_FLOAT64
    cdef double total
    with nogil:
        if f64:
            total = sum_of_picked(<const double *>data, indices, kept, outer, length, inner)
        else:
            total = sum_of_picked(<const float *>data, indices, kept, outer, length, inner)
    return total


def less_picked(cnp.ndarray y, cnp.ndarray target, cnp.ndarray counts, double taken, double scale, ptrdiff_t outer,
                ptrdiff_t length, ptrdiff_t inner):
    """y times `scale`, after `taken` has been subtracted from each picked element; 0 where positions don't count."""
    cdef const cnp.npy_intp *indices = <const cnp.npy_intp *>cnp.PyArray_DATA(target)
    cdef const uint8_t *kept = bytes_or_null(counts)
    cdef void *data = cnp.PyArray_DATA(y)
    cdef bint f64 = cnp.PyArray_TYPE(y) == cnp.NPY_FLOAT64
    with nogil:
        if f64:
            take_from_picked(<double *>data, indices, kept, taken, scale, outer, length, inner)
        else:
            take_from_picked(<float *>data, indices, kept, taken, scale, outer, length, inner)
