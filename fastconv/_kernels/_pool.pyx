"""Pooling, forward: max, min, sum and average over sliding or adaptive windows, with indices.

a. One driver for every operation, order and rank. The operation is a field of the tile's descriptor; an
   average is a sum that is divided before it is stored, or channels-first while the tile is still in the cache.
b. Work items are disjoint boxes of outputs. Every output is computed from x alone, so items and threads
   don't show in the bits.
c. Max and min select: subnormals pass, so the kernels run without flushing them; only the floating-point
   flags are restored. Sums flush them.
d. Integers, and float windows so long that a lane can't count their places, take the portable tile here.
e. Channels-first windows that suit no vectors of a row's outputs are turned (see _turn.pxd): the box of x is copied
   into scratch as channels-last, pooled there, and the results are copied back.
"""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastconv._kernels._runtime cimport (
    FC_INDEX_NONE, FC_INDEX_PLANE, FC_INDEX_WINDOW, FC_POOL_MAX, FC_POOL_MIN, FC_POOL_SUM, Scratch, fc_current,
    fc_image, fc_kernels, fc_master, fc_pool, fc_pool_divide, fc_pool_op, fc_settle, fc_this_thread, fc_window,
    fc_window_at, fc_windows, give_scratch, shares_of, take_scratch,
)
from fastconv._kernels._tensor cimport Box, Boxes, Tensor, box_at, boxes_of, element, image_of, line, tensor_of
from fastconv._kernels._turn cimport are_turned, copy_box, copy_indices, inputs_of, set_layout, set_turned_boxes
from fastconv._kernels._windows cimport read_divisor, read_windows, span_of, taps_of

cnp.import_array()

OPERATIONS = {"max": FC_POOL_MAX, "min": FC_POOL_MIN, "sum": FC_POOL_SUM, "avg": FC_POOL_SUM}

cdef enum:
    GRAIN = 16384          # taps of a work item: about 5 us of work in the first-level cache
    FROM_MEMORY = 1 << 24  # bytes of x from which on it is prefetched: a smaller one may lie in the last-level cache

cdef ptrdiff_t lane_places = 0x7fffffff  # the places that a lane of 32 bits can count


cdef struct Pooling:
    const fc_kernels *kernels
    fc_pool tile           # what all tiles have in common
    fc_pool_divide divide
    bint average, portable, turned
    char kind              # of x: 'i', 'u' or 'f'
    Tensor x, y, index
    Boxes boxes
    ptrdiff_t x_bytes, y_bytes, index_bytes  # of a turned box


def set_lane_places(ptrdiff_t places):
    """For tests: with indices, windows that span more elements take the portable tile; returns the limit before."""
    global lane_places
    before, lane_places = lane_places, places
    return before


def pool(op, cnp.ndarray x, cnp.ndarray y, cnp.ndarray index, windows, bint channels_last, average, num_threads):
    """y and index (uint8, int64 or None) of x, all in one memory order; `average` is (include_pad, divisor) or None."""
    cdef Pooling call
    cdef Py_ssize_t t, shares
    call.x, call.y = tensor_of(x), tensor_of(y)
    call.kernels = fc_current(call.x.itemsize == 8)
    call.kind = ord(x.dtype.kind)
    call.tile.op = <fc_pool_op><int>OPERATIONS[op]
    call.tile.channels_last = channels_last
    call.tile.indexing, call.tile.mean = FC_INDEX_NONE, NULL
    call.tile.ahead = channels_last and cnp.PyArray_NBYTES(x) > FROM_MEMORY
    if index is not None:
        call.index = tensor_of(index)
        call.tile.indexing = FC_INDEX_WINDOW if call.index.itemsize == 1 else FC_INDEX_PLANE
    read_windows(call.tile.windows, windows)
    call.average = average is not None
    if call.average:
        read_divisor(&call.divide, call.tile.windows, channels_last, average)
    call.portable = call.kind != b"f" or (index is not None and span_of(call.tile.windows) > lane_places)
    call.turned = (not call.portable and not channels_last
                   and are_turned(call.tile.windows, call.y.shape, call.y.shape[4], call.kernels.lanes)
                   and set_turned_boxes(&call.boxes, call.tile.windows, call.y.shape))
    if call.turned:
        call.tile.channels_last = call.divide.channels_last = True
    else:
        call.boxes = boxes_of(call.y.shape, channels_last, GRAIN // taps_of(call.tile.windows), GRAIN)
    if call.average and call.tile.channels_last:
        call.tile.mean = &call.divide
    set_scratch_sizes(&call)
    shares = shares_of(num_threads, call.boxes.items, cnp.PyArray_NBYTES(x) + cnp.PyArray_NBYTES(y))
    cdef ptrdiff_t share_bytes = call.x_bytes + call.y_bytes + call.index_bytes
    cdef Scratch scratch = take_scratch(shares * share_bytes) if call.turned else None
    cdef char *private = scratch.data if call.turned else <char *>call.y.data  # that is, some address
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint boxes of y and index.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            pool_share(&call, private + t * share_bytes, call.boxes.items * t // shares,
                       call.boxes.items * (t + 1) // shares)
    if call.turned:
        give_scratch(scratch)


cdef void set_scratch_sizes(Pooling *call) noexcept nogil:
    cdef ptrdiff_t inputs = call.boxes.size[0], outputs = inputs
    cdef int i
    call.x_bytes = call.y_bytes = call.index_bytes = 0
    if not call.turned:
        return
    for i in range(3):
        inputs *= inputs_of(&call.tile.windows[i], call.boxes.size[i + 1])
        outputs *= call.boxes.size[i + 1]
    call.x_bytes, call.y_bytes = line(inputs * call.x.itemsize), line(outputs * call.y.itemsize)
    if call.tile.indexing != FC_INDEX_NONE:
        call.index_bytes = line(outputs * call.index.itemsize)


cdef void pool_share(const Pooling *call, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
    cdef fc_pool tile = call.tile
    cdef uint64_t state = call.kernels.enter()
    cdef ptrdiff_t item
    cdef int i
    cdef Box box
    if tile.op != FC_POOL_SUM:
        call.kernels.leave(state)
    for item in range(item0, item1):
        box = box_at(&call.boxes, item)
        tile.channels = box.hi[0] - box.lo[0]
        for i in range(3):
            tile.lo[i], tile.hi[i] = box.lo[i + 1], box.hi[i + 1]
        tile.x = image_of(&call.x, element(&call.x, box.n, box.lo[0], 0, 0, 0))
        tile.y = image_of(&call.y, element(&call.y, box.n, box.lo[0], box.lo[1], box.lo[2], box.lo[3]))
        if tile.indexing != FC_INDEX_NONE:
            tile.index = image_of(&call.index, element(&call.index, box.n, box.lo[0], box.lo[1], box.lo[2], box.lo[3]))
        if call.turned:
            pool_turned(call, &tile, private)
        else:
            pool_box(call, &tile)
    call.kernels.leave(state)


cdef void pool_box(const Pooling *call, fc_pool *tile) noexcept nogil:
    cdef fc_pool_divide divide = call.divide
    if call.portable:
        portable_pool(tile, call.kind, call.x.itemsize)
    else:
        call.kernels.pool(tile)
    if call.average and tile.mean == NULL:
        divide.channels, divide.lo, divide.hi, divide.y = tile.channels, tile.lo, tile.hi, tile.y
        call.kernels.pool_divide(&divide)


cdef void pool_turned(const Pooling *call, const fc_pool *tile, char *private) noexcept nogil:
    """The same by way of copies in the other order."""
    cdef fc_pool turned = tile[0]
    cdef fc_image x = tile.x
    cdef ptrdiff_t lo[3]
    cdef ptrdiff_t hi[3]
    cdef ptrdiff_t count[3]
    cdef ptrdiff_t origin = 0, from_ = 0
    cdef int i
    for i in range(3):
        set_inputs(&tile.windows[i], tile.lo[i], tile.hi[i], &lo[i], &hi[i])
        count[i] = hi[i] - lo[i]
        from_ += lo[i] * x.axis[i]
    x.data = <char *>x.data + from_ * call.x.itemsize
    set_layout(&turned.x, private, True, tile.channels, lo, hi)
    copy_box(call.kernels, &x, &turned.x, tile.channels, count)
    for i in range(3):
        origin += lo[i] * turned.x.axis[i]
    turned.x.data = <char *>turned.x.data - origin * call.x.itemsize  # where position (0, 0, 0) would be
    set_layout(&turned.y, private + call.x_bytes, True, tile.channels, turned.lo, turned.hi)
    set_layout(&turned.index, private + call.x_bytes + call.y_bytes, True, tile.channels, turned.lo, turned.hi)
    pool_box(call, &turned)
    for i in range(3):
        count[i] = tile.hi[i] - tile.lo[i]
    copy_box(call.kernels, &turned.y, &tile.y, tile.channels, count)
    if tile.indexing != FC_INDEX_NONE:
        copy_indices(fc_current(True), &turned.index, &tile.index, call.index.itemsize, tile.channels, count)


cdef void set_inputs(const fc_windows *w, ptrdiff_t o0, ptrdiff_t o1, ptrdiff_t *lo, ptrdiff_t *hi) noexcept nogil:
    """The positions [lo, hi) that outputs [o0, o1) reach over."""
    cdef fc_window last = fc_window_at(w, o1 - 1)
    if w.size == 0:
        lo[0], hi[0] = fc_window_at(w, o0).start, last.start + last.count
    else:
        lo[0] = max(0, o0 * w.stride - w.before)
        hi[0] = min(w.in_, (o1 - 1) * w.stride - w.before + (w.size - 1) * w.dilation + 1)


# ---------------------------------------------------------------- the portable tile

ctypedef fused number:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    float
    double


cdef void portable_pool(const fc_pool *p, char kind, ptrdiff_t itemsize) noexcept nogil:
    if kind == b"i":
        if itemsize == 1:
            portable_tile(p, <const int8_t *>p.x.data)
        elif itemsize == 2:
            portable_tile(p, <const int16_t *>p.x.data)
        elif itemsize == 4:
            portable_tile(p, <const int32_t *>p.x.data)
        else:
            portable_tile(p, <const int64_t *>p.x.data)
    elif kind == b"u":
        if itemsize == 1:
            portable_tile(p, <const uint8_t *>p.x.data)
        elif itemsize == 2:
            portable_tile(p, <const uint16_t *>p.x.data)
        elif itemsize == 4:
            portable_tile(p, <const uint32_t *>p.x.data)
        else:
            portable_tile(p, <const uint64_t *>p.x.data)
    elif itemsize == 4:
        portable_tile(p, <const float *>p.x.data)
    else:
        portable_tile(p, <const double *>p.x.data)


cdef void portable_tile(const fc_pool *p, const number *x) noexcept nogil:
    """The tile of `fc_kernels.pool` for any type and strides."""
    cdef fc_window d, h, w
    cdef ptrdiff_t c, i, j, k, y, index
    for c in range(p.channels):
        for i in range(p.lo[0], p.hi[0]):
            d = fc_window_at(&p.windows[0], i)
            for j in range(p.lo[1], p.hi[1]):
                h = fc_window_at(&p.windows[1], j)
                for k in range(p.lo[2], p.hi[2]):
                    w = fc_window_at(&p.windows[2], k)
                    y = (c * p.y.c + (i - p.lo[0]) * p.y.axis[0] + (j - p.lo[1]) * p.y.axis[1]
                         + (k - p.lo[2]) * p.y.axis[2])
                    index = (c * p.index.c + (i - p.lo[0]) * p.index.axis[0] + (j - p.lo[1]) * p.index.axis[1]
                             + (k - p.lo[2]) * p.index.axis[2])
                    if p.op == FC_POOL_SUM:
                        (<uint64_t *>p.y.data)[y] = portable_sum(p, x + c * p.x.c, &d, &h, &w)
                    else:
                        portable_winner(p, x + c * p.x.c, &d, &h, &w, y, index)


cdef inline ptrdiff_t step_of(const fc_windows *w) noexcept nogil:
    return w.dilation if w.size else 1


cdef uint64_t portable_sum(const fc_pool *p, const number *x, const fc_window *d, const fc_window *h,
                           const fc_window *w) noexcept nogil:
    """Sum modulo 2^64, which is the sum of signed integers too (floats never come here)."""
    cdef uint64_t total = 0
    cdef ptrdiff_t i, j, k, at
    for i in range(d.count):
        for j in range(h.count):
            at = ((d.start + i * step_of(&p.windows[0])) * p.x.axis[0]
                  + (h.start + j * step_of(&p.windows[1])) * p.x.axis[1])
            for k in range(w.count):
                total = total + <uint64_t>x[at + (w.start + k * step_of(&p.windows[2])) * p.x.axis[2]]
    return total


cdef void portable_winner(const fc_pool *p, const number *x, const fc_window *d, const fc_window *h,
                          const fc_window *w, ptrdiff_t y, ptrdiff_t index) noexcept nogil:
    cdef const fc_windows *windows = &p.windows[0]
    cdef bint wins
    cdef number best = x[d.start * p.x.axis[0] + h.start * p.x.axis[1] + w.start * p.x.axis[2]], value
    cdef ptrdiff_t i, j, k, pd, ph, pw
    cdef ptrdiff_t bi = 0, bj = 0, bk = 0
    for i in range(d.count):
        for j in range(h.count):
            for k in range(w.count):
                pd = d.start + i * step_of(&windows[0])
                ph = h.start + j * step_of(&windows[1])
                pw = w.start + k * step_of(&windows[2])
                value = x[pd * p.x.axis[0] + ph * p.x.axis[1] + pw * p.x.axis[2]]
                wins = value > best if p.op == FC_POOL_MAX else value < best
                if number is float or number is double:
                    wins = wins or (value != value and best == best)
                if wins:
                    best = value
                    bi, bj, bk = i, j, k
    if p.y.data != NULL:
        (<number *>p.y.data)[y] = best
    if p.indexing == FC_INDEX_WINDOW:
        (<uint8_t *>p.index.data)[index] = <uint8_t>(
            ((d.tap + bi) * windows[1].size + h.tap + bj) * windows[2].size + w.tap + bk)
    elif p.indexing == FC_INDEX_PLANE:
        pd = d.start + bi * step_of(&windows[0])
        ph = h.start + bj * step_of(&windows[1])
        pw = w.start + bk * step_of(&windows[2])
        (<int64_t *>p.index.data)[index] = (pd * windows[1].in_ + ph) * windows[2].in_ + pw
