"""Drivers of batch normalisation (sums per channel, scale and shift per channel), of sums of tensors and of optimizers.

a. Arrays are channels-first or channels-last without gaps; all arrays of a call have one order.
b. Work items are boxes of about CHUNK elements, fixed by the shape. Channels-first: one channel of some
   images, or a piece of one image. Channels-last: some pixels of at most WIDEST channels. Scaling needs no slots:
   its boxes hold about SCALED elements, or one plane, so that it goes through memory nearly in order.
c. Each box stores the sums of its channels in slots of its own; the slots of a channel are joined in the
   order of the boxes, so the bits don't depend on the threads. The slots take at most 1/4096 of x and
   16 bytes a channel (channels-first), MOST_PARTS * 16 bytes a channel (channels-last).
d. A relu behind the normalisation takes no pass of its own. Its gradient is told by the sign of the forward
   result, which is computed anew from x: the same operations on the same numbers have the same bits.
e. Sums and steps of optimizers work on runs of elements; a step takes all parameters in one parallel region.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.stdint cimport uint64_t
import numpy as np

from fastconv._kernels._runtime cimport (
    Scratch, fc_channels, fc_current, fc_kernels, fc_master, fc_settle, fc_step, fc_this_thread, give_scratch,
    shares_of, take_scratch,
)
from fastconv._kernels._tensor cimport ceil_div

cnp.import_array()

cdef enum:
    CHUNK = 16 * 1024
    WIDEST = 256
    MOST_PARTS = 256
    SCALED = 256


cdef struct ChannelBoxes:
    # How (n, channels, pixels) elements fall into boxes. A part holds some elements of every channel.
    ptrdiff_t channels
    ptrdiff_t rows, per_part    # rows (images, or pixels of all images) and how many of them a part holds
    ptrdiff_t length, piece     # elements of a row, and how many of them a box takes
    ptrdiff_t pieces            # boxes in a row
    ptrdiff_t parts             # slots of a channel
    ptrdiff_t items
    bint by_column


cdef ChannelBoxes channel_boxes(cnp.ndarray x, bint channels_last, ptrdiff_t chunk) noexcept:
    """Boxes of about `chunk` elements, of one plane at least."""
    cdef ChannelBoxes b
    cdef ptrdiff_t n = cnp.PyArray_DIM(x, 0), pixels = 1
    cdef int i
    for i in range(2, cnp.PyArray_NDIM(x)):
        pixels *= cnp.PyArray_DIM(x, i)
    b.channels = cnp.PyArray_DIM(x, 1)
    b.by_column = (channels_last or pixels == 1) and b.channels > 1
    if b.by_column:
        b.rows, b.length = n * pixels, b.channels
        b.piece = min(b.length, WIDEST)
        b.per_part = max(CHUNK // b.piece, ceil_div(b.rows, MOST_PARTS))
        b.pieces = ceil_div(b.length, b.piece)
        b.parts = ceil_div(b.rows, b.per_part)
        b.items = b.parts * b.pieces
    else:
        b.rows, b.length = n, pixels
        b.piece = ceil_div(pixels, ceil_div(pixels, CHUNK))
        b.pieces = ceil_div(pixels, b.piece)
        b.per_part = max(1, chunk // pixels)
        b.parts = ceil_div(n, b.per_part) * b.pieces
        b.items = b.parts * b.channels
    return b


cdef inline ptrdiff_t part_rows(const ChannelBoxes *b, ptrdiff_t part) noexcept nogil:
    """Rows of a part, or of the images that a part has a piece of."""
    if not b.by_column:
        part //= b.pieces
    return min(b.per_part, b.rows - part * b.per_part)


cdef inline ptrdiff_t part_size(const ChannelBoxes *b, ptrdiff_t part) noexcept nogil:
    """Elements of each channel in a part."""
    if b.by_column:
        return part_rows(b, part)
    return part_rows(b, part) * min(b.piece, b.length - part % b.pieces * b.piece)


cdef void boxes_share(const fc_kernels *kernels, const ChannelBoxes *b, const fc_channels *whole, ptrdiff_t item0,
                      ptrdiff_t item1) noexcept nogil:
    """Run channel_sums (where there are sums to store) or channel_scale on boxes [item0, item1)."""
    cdef fc_channels c = whole[0]
    cdef uint64_t state = kernels.enter()
    cdef ptrdiff_t item, part, channel, at, size = kernels.itemsize
    c.by_column = b.by_column
    c.row = b.length if b.by_column else b.length * b.channels
    for item in range(item0, item1):
        if b.by_column:
            part, channel = item // b.pieces, item % b.pieces * b.piece
            at = part * b.per_part * b.length + channel
            c.len = min(b.piece, b.length - channel)
        else:
            part, channel = item // b.channels, item % b.channels
            at = (part // b.pieces * b.per_part * b.channels + channel) * b.length + part % b.pieces * b.piece
            c.len = min(b.piece, b.length - part % b.pieces * b.piece)
        c.rows = part_rows(b, part)
        c.x = <const char *>whole.x + at * size if whole.x != NULL else NULL
        c.dy = <const char *>whole.dy + at * size if whole.dy != NULL else NULL
        c.mean = <const char *>whole.mean + channel * size if whole.mean != NULL else NULL
        c.scale = <const char *>whole.scale + channel * size if whole.scale != NULL else NULL
        c.offset = <const char *>whole.offset + channel * size if whole.offset != NULL else NULL
        if whole.sums != NULL:
            c.sums = whole.sums + 2 * (part * b.channels + channel)
            kernels.channel_sums(&c)
        else:
            c.y = <char *>whole.y + at * size
            c.slope = <const char *>whole.slope + channel * size if whole.slope != NULL else NULL
            c.shift = <const char *>whole.shift + channel * size if whole.shift != NULL else NULL
            kernels.channel_scale(&c)
    kernels.leave(state)


cdef int run_boxes(const fc_kernels *kernels, const ChannelBoxes *b, const fc_channels *whole, num_threads) except -1:
    cdef double moved = 2.0 * b.rows * b.length * kernels.itemsize * (1 if b.by_column else b.channels)
    cdef Py_ssize_t shares = shares_of(num_threads, b.items, moved), t
    cdef fc_master master = fc_this_thread()
    with nogil:
        # ChannelBoxes are disjoint, and so are their slots and their parts of the result.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            boxes_share(kernels, b, whole, b.items * t // shares, b.items * (t + 1) // shares)
    return 0


cdef void join_moments(const ChannelBoxes *b, const double *slots, double *mean, double *squares) noexcept nogil:
    """Mean and sum of squares around it of each channel, from those of its parts (Chan et al. 1979)."""
    cdef ptrdiff_t part, c
    cdef double size, total = 0, weight, delta
    for c in range(b.channels):
        mean[c] = squares[c] = 0
    for part in range(b.parts):
        size = part_size(b, part)
        weight = size / (total + size)
        for c in range(b.channels):
            delta = slots[2 * (part * b.channels + c)] - mean[c]
            mean[c] = mean[c] + delta * weight
            squares[c] = squares[c] + slots[2 * (part * b.channels + c) + 1] + delta * delta * total * weight
        total = total + size


cdef void join_sums(const ChannelBoxes *b, const double *slots, double *first, double *second) noexcept nogil:
    cdef ptrdiff_t part, c
    for c in range(b.channels):
        first[c] = second[c] = 0
    for part in range(b.parts):
        for c in range(b.channels):
            first[c] = first[c] + slots[2 * (part * b.channels + c)]
            second[c] = second[c] + slots[2 * (part * b.channels + c) + 1]


cdef tuple sums_of(cnp.ndarray x, fc_channels *whole, bint channels_last, num_threads):
    """Two float64 arrays of sums per channel, as channel_sums describes them."""
    cdef const fc_kernels *kernels = fc_current(cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64)
    cdef ChannelBoxes b = channel_boxes(x, channels_last, CHUNK)
    cdef cnp.ndarray first = np.empty(b.channels), second = np.empty(b.channels)
    cdef double *first_data = <double *>cnp.PyArray_DATA(first)
    cdef double *second_data = <double *>cnp.PyArray_DATA(second)
    cdef Scratch slots = take_scratch(2 * b.parts * b.channels * sizeof(double))
    whole.sums = <double *>slots.data
    run_boxes(kernels, &b, whole, num_threads)
    cdef uint64_t state = kernels.enter()
    if whole.dy == NULL:
        join_moments(&b, whole.sums, first_data, second_data)
    else:
        join_sums(&b, whole.sums, first_data, second_data)
    kernels.leave(state)
    give_scratch(slots)
    return first, second


cdef fc_channels no_channels() noexcept:
    cdef fc_channels c
    c.x, c.dy, c.y, c.mean, c.scale, c.slope, c.shift = NULL, NULL, NULL, NULL, NULL, NULL, NULL
    c.offset, c.sums = NULL, NULL
    c.rows = c.len = c.row = c.by_column = c.relu = 0
    return c


cdef inline double get(const void *a, ptrdiff_t i, bint f64) noexcept nogil:
    return (<const double *>a)[i] if f64 else (<const float *>a)[i]


cdef inline void put(void *a, ptrdiff_t i, bint f64, double value) noexcept nogil:
    if f64:
        (<double *>a)[i] = value
    else:
        (<float *>a)[i] = <float>value


cdef cnp.ndarray per_channel(cnp.ndarray x):
    """A new array of x's dtype with an element for each of its channels."""
    cdef cnp.npy_intp channels = cnp.PyArray_DIM(x, 1)
    return cnp.PyArray_EMPTY(1, &channels, cnp.PyArray_TYPE(x), False)


cdef void follow(void *running, ptrdiff_t c, bint f64, double momentum, double batch) noexcept nogil:
    """Move a running statistic by `momentum` towards the batch's, of which `batch` is already that part."""
    put(running, c, f64, (1 - momentum) * get(running, c, f64) + batch)


def normalise(cnp.ndarray x, cnp.ndarray y, cnp.ndarray gamma, cnp.ndarray beta, cnp.ndarray running_mean,
              cnp.ndarray running_var, bint training, double momentum, double eps, bint relu, bint channels_last,
              num_threads):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta per channel, cut off at 0 by relu.

    In training mean and variance are the batch's, towards which the running ones move. Returns (mean,
    1 / sqrt(var + eps), scale, shift) with y = scale * (x - mean) + shift. All arrays have x's dtype.
    """
    cdef bint f64 = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    cdef cnp.ndarray centre = per_channel(x), inv_std = per_channel(x), scale = per_channel(x), shift = per_channel(x)
    cdef cnp.ndarray means, squares
    cdef void *run_mean = cnp.PyArray_DATA(running_mean)
    cdef void *run_var = cnp.PyArray_DATA(running_var)
    cdef double mean, var, inverse, factor, count = cnp.PyArray_SIZE(x) // cnp.PyArray_DIM(x, 1)
    cdef fc_channels whole = no_channels()
    cdef ptrdiff_t c
    if training:
        whole.x = cnp.PyArray_DATA(x)
        means, squares = sums_of(x, &whole, channels_last, num_threads)
    for c in range(cnp.PyArray_DIM(x, 1)):
        if training:
            mean, var = (<double *>cnp.PyArray_DATA(means))[c], (<double *>cnp.PyArray_DATA(squares))[c]
            follow(run_mean, c, f64, momentum, momentum * mean)
            follow(run_var, c, f64, momentum, momentum * var / (count - 1))
            var = var / count
        else:
            mean, var = get(run_mean, c, f64), get(run_var, c, f64)
        inverse = 1 / sqrt(var + eps)
        factor = get(cnp.PyArray_DATA(gamma), c, f64) * inverse
        put(cnp.PyArray_DATA(centre), c, f64, mean)
        put(cnp.PyArray_DATA(inv_std), c, f64, inverse)
        put(cnp.PyArray_DATA(scale), c, f64, factor)
        # The shift makes good for what rounding the mean has left out.
        put(cnp.PyArray_DATA(shift), c, f64, get(cnp.PyArray_DATA(beta), c, f64)
            - (mean - get(cnp.PyArray_DATA(centre), c, f64)) * factor)
    scale_and_shift(x, y, centre, scale, shift, relu, channels_last, num_threads)
    return centre, inv_std, scale, shift


def scale_and_shift(cnp.ndarray x, cnp.ndarray y, cnp.ndarray mean, cnp.ndarray scale, cnp.ndarray shift, bint relu,
                    bint channels_last, num_threads):
    """y = scale * (x - mean) + shift per channel, cut off at 0 by relu."""
    cdef ChannelBoxes b = channel_boxes(x, channels_last, SCALED)
    cdef fc_channels whole = no_channels()
    whole.x, whole.y, whole.relu = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), relu
    whole.mean, whole.scale, whole.shift = cnp.PyArray_DATA(mean), cnp.PyArray_DATA(scale), cnp.PyArray_DATA(shift)
    run_boxes(fc_current(cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64), &b, &whole, num_threads)


def normalise_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dx, cnp.ndarray gamma, cnp.ndarray mean,
                       cnp.ndarray inv_std, cnp.ndarray scale, cnp.ndarray offset, bint training, bint channels_last,
                       num_threads):
    """dx of normalise, and (dgamma, dbeta), which is returned; without training its statistics are constants.

    Where normalise's scale and shift, here the offset, are given, dy counts as 0 where relu cut off the result.
    """
    cdef bint f64 = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    cdef cnp.ndarray slope = per_channel(x), shift = per_channel(x)
    cdef cnp.ndarray dgamma = per_channel(x), dbeta = per_channel(x), sums, products
    cdef double inverse, factor, product, total, count = max(cnp.PyArray_SIZE(x) // cnp.PyArray_DIM(x, 1), 1)
    cdef ptrdiff_t c
    if scale is None:
        scale = per_channel(x)
        for c in range(cnp.PyArray_DIM(x, 1)):
            factor = get(cnp.PyArray_DATA(gamma), c, f64) * get(cnp.PyArray_DATA(inv_std), c, f64)
            put(cnp.PyArray_DATA(scale), c, f64, factor)
    cdef fc_channels whole = no_channels()
    whole.x, whole.dy, whole.mean = cnp.PyArray_DATA(x), cnp.PyArray_DATA(dy), cnp.PyArray_DATA(mean)
    whole.scale, whole.relu = cnp.PyArray_DATA(scale), offset is not None
    whole.offset = <const void *>cnp.PyArray_DATA(offset) if whole.relu else whole.scale
    sums, products = sums_of(x, &whole, channels_last, num_threads)
    for c in range(cnp.PyArray_DIM(x, 1)):
        inverse = get(cnp.PyArray_DATA(inv_std), c, f64)
        product, total = (<double *>cnp.PyArray_DATA(products))[c] * inverse, (<double *>cnp.PyArray_DATA(sums))[c]
        put(cnp.PyArray_DATA(dgamma), c, f64, product)
        put(cnp.PyArray_DATA(dbeta), c, f64, total)
        factor = -get(cnp.PyArray_DATA(gamma), c, f64) * inverse
        put(cnp.PyArray_DATA(slope), c, f64, factor * (inverse * product) / count)
        put(cnp.PyArray_DATA(shift), c, f64, factor * total / count)
    # dx = scale * dy + slope * (x - mean) + shift, or scale * dy alone.
    cdef ChannelBoxes b = channel_boxes(dy, channels_last, SCALED)
    whole.sums, whole.y = NULL, cnp.PyArray_DATA(dx)
    if training:
        whole.slope, whole.shift = cnp.PyArray_DATA(slope), cnp.PyArray_DATA(shift)
    else:
        whole.x = whole.mean = whole.offset = NULL
        whole.relu = False
    run_boxes(fc_current(f64), &b, &whole, num_threads)
    return dgamma, dbeta


# ---------------------------------------------------------------- sums of tensors

cdef void sum_share(const fc_kernels *kernels, const char *a, const char *b, bint relu, char *y, ptrdiff_t size,
                    ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
    cdef uint64_t state = kernels.enter()
    cdef ptrdiff_t item, at
    for item in range(item0, item1):
        at = item * CHUNK * kernels.itemsize
        kernels.add(a + at, b + at, relu, y + at, min(CHUNK, size - item * CHUNK))
    kernels.leave(state)


def add(cnp.ndarray a, cnp.ndarray b, bint relu, cnp.ndarray y, num_threads):
    """y = a + b, cut off at 0 by relu; arrays without gaps in one memory order."""
    cdef const fc_kernels *kernels = fc_current(cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT64)
    cdef const char *a_data = <const char *>cnp.PyArray_DATA(a)
    cdef const char *b_data = <const char *>cnp.PyArray_DATA(b)
    cdef char *y_data = <char *>cnp.PyArray_DATA(y)
    cdef ptrdiff_t size = cnp.PyArray_SIZE(a), items = ceil_div(size, CHUNK)
    cdef Py_ssize_t shares = shares_of(num_threads, items, 3.0 * size * kernels.itemsize), t
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint runs of the result.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            sum_share(kernels, a_data, b_data, relu, y_data, size, items * t // shares, items * (t + 1) // shares)


# ---------------------------------------------------------------- optimizers

cdef struct Update:
    fc_step step
    const fc_kernels *kernels
    ptrdiff_t size      # of the parameter
    ptrdiff_t item      # the first of its work items


cdef void update_share(const Update *updates, ptrdiff_t count, bint adam, ptrdiff_t item0,
                       ptrdiff_t item1) noexcept nogil:
    cdef uint64_t state = updates[0].kernels.enter()
    cdef const Update *u = updates
    cdef ptrdiff_t item, at
    for item in range(item0, item1):
        while u - updates + 1 < count and item >= u[1].item:
            u += 1
        at = (item - u.item) * CHUNK
        if adam:
            u.kernels.adam(&u.step, at, min(CHUNK, u.size - at))
        else:
            u.kernels.sgd(&u.step, at, min(CHUNK, u.size - at))
    updates[0].kernels.leave(state)


cdef void *data_or_null(cnp.ndarray a) noexcept:
    return NULL if a is None else cnp.PyArray_DATA(a)


def update(list parameters, bint adam, double decay, double beta1, double beta2, double eps, bint nesterov):
    """A step of Adam, or of SGD, as csrc/fastconv.h describes them, on (w, g, mean, square, rate, shrink, root) each.

    Arrays are C-contiguous, those of a parameter of one dtype and size; mean and square may be None for SGD.
    """
    cdef ptrdiff_t count = len(parameters), items = 0, i
    cdef double moved = 0
    cdef cnp.ndarray w
    if count == 0:
        return
    cdef Scratch scratch = take_scratch(count * sizeof(Update))
    cdef Update *updates = <Update *>scratch.data
    cdef Update *u
    for i in range(count):
        u = &updates[i]
        w, g, mean, square, u.step.rate, u.step.shrink, u.step.root = parameters[i]
        u.step.w, u.step.g = cnp.PyArray_DATA(w), data_or_null(g)
        u.step.mean, u.step.square = data_or_null(mean), data_or_null(square)
        u.step.decay, u.step.eps, u.step.nesterov = decay, eps, nesterov
        u.step.beta1, u.step.beta2 = beta1, beta2
        u.kernels = fc_current(cnp.PyArray_TYPE(w) == cnp.NPY_FLOAT64)
        u.size, u.item = cnp.PyArray_SIZE(w), items
        items += ceil_div(u.size, CHUNK)
        moved += 5.0 * u.size * u.kernels.itemsize
    cdef Py_ssize_t shares = shares_of(None, items, moved), t
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint runs of elements of the parameters.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            update_share(updates, count, adam, items * t // shares, items * (t + 1) // shares)
    give_scratch(scratch)
