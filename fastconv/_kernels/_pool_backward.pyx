"""Pooling, backward, and unpooling.

a. Two drivers. :func:`gather` owns boxes of dx and adds up what reaches each position: sums, averages, and
   max or min by numbers of taps, or channels-last by int64 indices, which positions are compared with or which say
   where in the box to add. :func:`scatter_add` and its like own whole planes and add or store every value where its
   int64 index says: unpooling, adaptive and large windows channels-first, and indices that point out of their windows.
b. Neither lets two items write the same place, and every position adds in the order of the outputs: the
   same bits for any number of threads, by either driver.
c. Where max and min come without indices, the forward kernel finds them again, box by box, in scratch.
d. A caller's indices are checked where they are read. The drivers return the first bad one, or None. Int64 ones of a
   box need no check before: each belongs to one position, so they are right if as many winners were found as there are
   outputs.
e. Channels-first images whose rows suit no vectors are turned (see _turn.pxd): dy and taps are copied as
   channels-last, and the box of dx that is made of them is copied back.
f. Comparisons and copies see subnormals; the additions flush them (the state is set around each tile).
"""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset

from fastconv._kernels._runtime cimport (
    FC_GATHER_COLUMNS, FC_INDEX_PLANE, FC_INDEX_WINDOW, FC_POOL_COMPARED, FC_POOL_MAX, FC_POOL_MIN, Scratch, fc_current,
    fc_image, fc_kernels, fc_master, fc_pool, fc_pool_divide, fc_pool_gather, fc_pool_op, fc_pool_stage, fc_range,
    fc_reach, fc_scatter, fc_settle, fc_this_thread, fc_windows, give_scratch, shares_of, take_scratch,
)
from fastconv._kernels._tensor cimport (
    Box, Boxes, Tensor, box_at, boxes_of, ceil_div, element, image_of, line, tensor_of,
)
from fastconv._kernels._turn cimport TURNED_CHANNELS, are_turned, copy_box, copy_indices, set_layout
from fastconv._kernels._windows cimport (
    join_whole_axes, length_of, read_divisor, read_windows, side_by_side, taps_of,
)

cnp.import_array()

cdef enum:
    GRAIN = 32768          # positions of dx in a work item: half of a second-level cache, few outputs twice
    ADDED = 1 << 18        # of dx in a work item that adds each output: most windows lie in one box alone
    CHUNK = 4096           # outputs whose places are found at a time
    CHANNELS = 32          # of channels-last planes in a work item: whole cache lines
    SEEN = 1 << 20         # bytes of scratch that remember stored positions
    AROUND = 64            # bytes before and after the taps that the kernel may read

OPERATIONS = {"max": FC_POOL_MAX, "min": FC_POOL_MIN}


OUTSIDE = -1               # the verdict on int64 indices some of which point out of their windows


cdef object first_bad(const void **bad, Py_ssize_t shares, bint wide):
    """The index that a kernel refused, as a Python int, or None."""
    cdef Py_ssize_t t
    for t in range(shares):
        if bad[t] != NULL:
            return (<const int64_t *>bad[t])[0] if wide else (<const uint8_t *>bad[t])[0]
    return None


# ---------------------------------------------------------------- gather

cdef struct Gather:
    const fc_kernels *kernels
    fc_pool_gather tile    # what all tiles have in common
    fc_pool find
    fc_pool_stage stage
    fc_pool_divide divide
    bint select, recompute, average
    bint staged            # dy is copied: to divide it, or because its strides aren't those that the kernels read
    bint turned, index_turned
    Tensor dx, dy, x, index
    Boxes boxes
    ptrdiff_t dx_bytes, dy_bytes, tap_bytes, index_bytes


def gather(cnp.ndarray dy, cnp.ndarray dx, windows, bint channels_last, average, op, cnp.ndarray x, cnp.ndarray index,
           num_threads):
    """dx from dy, both in one memory order or dy in the other.

    Sums and averages have `op` None. For "max" and "min" the winners are `index` (uint8 or int64) or, if that is
    None, those of x. dx and x are of one order, channels-last if `index` is int64. `average` is (include_pad, divisor)
    or None. Returns an index that is no real tap of its window (OUTSIDE for one of int64), or None.
    """
    cdef Gather call
    cdef const fc_windows *w = call.tile.windows
    cdef Py_ssize_t t, shares
    cdef ptrdiff_t share_bytes, head, winners = 0
    cdef ptrdiff_t *found
    cdef Scratch scratch
    cdef const void **bad
    cdef bint filled
    memset(&call, 0, sizeof(call))
    call.dx, call.dy = tensor_of(dx), tensor_of(dy)
    call.kernels = fc_current(call.dx.itemsize == 8)
    read_windows(call.tile.windows, windows)
    call.select, call.recompute, call.average = op is not None, index is None, average is not None
    if index is not None:
        call.index = tensor_of(index)
    if not channels_last:
        join_whole_axes(call.tile.windows, &call.dx)
    filled = not call.select and side_by_side(&w[0]) and side_by_side(&w[1]) and side_by_side(&w[2])
    call.turned = (not channels_last and not filled and not (call.select and call.recompute)
                   and are_turned(w, call.dx.shape, call.dx.shape[4], call.kernels.lanes))
    if call.turned:
        channels_last = True
        call.boxes = boxes_of_channels(call.dx.shape, TURNED_CHANNELS, GRAIN)
    elif channels_last and index is not None and call.index.itemsize > 1:
        call.tile.places, call.tile.added = True, are_added(w, call.dx.shape, call.kernels.lanes)
        call.boxes = runs_of_plane(w, call.dx.shape) if call.tile.added else boxes_of(
            call.dx.shape, True, GRAIN, FC_GATHER_COLUMNS)
    elif channels_last and call.select and taps_of(w) > FC_POOL_COMPARED:
        call.boxes = boxes_of_channels(call.dx.shape, CHANNELS, ADDED)
    else:
        call.boxes = boxes_of(call.dx.shape, channels_last, GRAIN, FC_GATHER_COLUMNS)
    call.tile.channels_last = channels_last
    if call.average:
        read_divisor(&call.divide, w, channels_last, average)
    if call.select and call.recompute:
        call.x = tensor_of(x)
        call.find.op, call.find.indexing = <fc_pool_op><int>OPERATIONS[op], FC_INDEX_WINDOW
        call.find.channels_last, call.find.y.data = channels_last, NULL
        read_windows(call.find.windows, windows)
    elif call.select:
        call.stage.channels_last = channels_last
        call.index_turned = call.turned or (call.tile.places and call.index.c != 1)
        read_windows(call.stage.windows, windows)
    if channels_last:
        call.staged = call.turned or call.average or call.dy.c != 1
    else:
        call.staged = (call.average or call.dy.axis[2] != 1 or call.boxes.count[3] > 1
                       or (call.boxes.count[2] > 1 and call.dx.shape[2] > 1))
    set_scratch_sizes(&call)
    shares = shares_of(num_threads, call.boxes.items, cnp.PyArray_NBYTES(dx) + cnp.PyArray_NBYTES(dy))
    share_bytes = call.dx_bytes + call.dy_bytes + call.tap_bytes + call.index_bytes
    head = line(shares * (sizeof(void *) + sizeof(ptrdiff_t)))
    scratch = take_scratch(head + shares * share_bytes)
    bad = <const void **>scratch.data
    found = <ptrdiff_t *>(bad + shares)
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint boxes of dx.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            bad[t] = gather_share(&call, scratch.data + head + t * share_bytes, call.boxes.items * t // shares,
                                  call.boxes.items * (t + 1) // shares, &found[t])
    verdict = first_bad(bad, shares, False)
    for t in range(shares):
        winners += found[t]
    give_scratch(scratch)
    return OUTSIDE if call.tile.places and winners != cnp.PyArray_SIZE(dy) else verdict


cdef bint are_added(const fc_windows *w, const ptrdiff_t *shape, ptrdiff_t lanes) noexcept nogil:
    """Whether int64 places are added output by output, rather than compared with the positions that a window has.

    An addition takes about 3 cycles; comparing takes a cycle for 4 vectors and taps, and some 20 for each position,
    in vectors of channels. Measured for 4 to 256 channels, windows of 2x2 to 5x5 and strides 1 to 5.
    """
    cdef ptrdiff_t taps = taps_of(w), positions = 1, outputs = shape[1]
    cdef int i
    for i in range(3):
        positions *= w[i].in_
        outputs *= w[i].out
    # taps * 16 / lanes + 160 * positions / outputs > 20, in integers: rounding would raise the caller's flags.
    return taps > 2 * lanes or 16 * taps * outputs + 160 * positions * lanes > 20 * lanes * outputs


cdef Boxes runs_of_plane(const fc_windows *w, const ptrdiff_t *shape) noexcept nogil:
    """Boxes that are runs of a channels-last plane, cut between windows that lie side by side where that can be."""
    cdef Boxes b = boxes_of(shape, True, GRAIN, GRAIN)
    cdef ptrdiff_t stride
    cdef int i
    for i in range(2, -1, -1):  # the innermost axis that is cut: of those outside of it, boxes have one position each
        if b.size[i + 1] < b.extent[i + 1]:
            stride = w[i].stride if w[i].size else 1
            b.items //= b.count[i + 1]
            b.size[i + 1] = min(b.extent[i + 1], max(b.size[i + 1] // stride, 1) * stride)
            b.count[i + 1] = ceil_div(b.extent[i + 1], b.size[i + 1])
            b.items *= b.count[i + 1]
            break
    return b


cdef Boxes boxes_of_channels(const ptrdiff_t *shape, ptrdiff_t channels, ptrdiff_t elements) noexcept nogil:
    """Boxes of `channels` channels and about `elements` elements, filled along w, h, d."""
    cdef ptrdiff_t planes[5]
    cdef Boxes b
    cdef int i
    for i in range(5):
        planes[i] = shape[i]
    planes[1], channels = 1, min(shape[1], channels)
    b = boxes_of(planes, False, elements // channels, FC_GATHER_COLUMNS)
    b.extent[0], b.size[0], b.count[0] = shape[1], channels, ceil_div(shape[1], channels)
    b.items *= b.count[0]
    return b


cdef void set_scratch_sizes(Gather *call) noexcept nogil:
    """Bytes for a turned box of dx, and for dy and taps of the outputs that reach a box, at most."""
    cdef const fc_windows *w
    cdef ptrdiff_t outputs = call.boxes.size[0], positions = outputs
    cdef int i
    for i in range(3):
        w = &call.tile.windows[i]
        positions *= call.boxes.size[i + 1]
        if w.size:
            outputs *= min(w.out, (call.boxes.size[i + 1] + length_of(w)) // w.stride + 1)
        else:
            outputs *= min(w.out, call.boxes.size[i + 1] * w.out // w.in_ + 2)
    call.dx_bytes = line(positions * call.dx.itemsize) if call.turned else 0
    call.dy_bytes = line(outputs * call.dx.itemsize) if call.staged else 0
    call.tap_bytes = line(outputs + 2 * AROUND) if call.select and not call.tile.places else 0
    call.index_bytes = line(outputs * call.index.itemsize) if call.index_turned else 0


cdef const void *gather_share(const Gather *call, char *private, ptrdiff_t item0, ptrdiff_t item1,
                              ptrdiff_t *found) noexcept nogil:
    """Returns the first bad index, or NULL; `found` is the number of winners that int64 indices name."""
    cdef uint64_t before = call.kernels.enter()
    cdef const void *bad = NULL
    cdef ptrdiff_t item
    call.kernels.leave(before)
    found[0] = 0
    for item in range(item0, item1):
        bad = gather_item(call, private, box_at(&call.boxes, item), found)
        if bad != NULL:
            break
    call.kernels.leave(before)
    return bad


cdef const void *gather_item(const Gather *call, char *private, Box box, ptrdiff_t *found) noexcept nogil:
    cdef const fc_kernels *kernels = call.kernels
    cdef fc_pool_gather tile = call.tile
    cdef fc_image dx = image_of(&call.dx, element(&call.dx, box.n, box.lo[0], box.lo[1], box.lo[2], box.lo[3]))
    cdef fc_range reach
    cdef const void *bad = NULL
    cdef uint64_t state
    cdef ptrdiff_t count[3]
    cdef int i
    tile.channels = box.hi[0] - box.lo[0]
    for i in range(3):
        tile.lo[i], tile.hi[i] = box.lo[i + 1], box.hi[i + 1]
        count[i] = tile.hi[i] - tile.lo[i]
        reach = reach_of(&tile.windows[i], tile.lo[i], tile.hi[i])
        tile.first[i], tile.last[i] = reach.lo, reach.hi
    tile.dx = dx
    if call.turned:
        set_layout(&tile.dx, private, True, tile.channels, tile.lo, tile.hi)
    tile.dy = image_of(&call.dy, element(&call.dy, box.n, box.lo[0], tile.first[0], tile.first[1], tile.first[2]))
    if call.staged:
        set_layout(&tile.dy, private + call.dx_bytes, tile.channels_last, tile.channels, tile.first, tile.last)
        stage_dy(call, &tile, box.n, box.lo[0])
    if call.select:
        bad = set_winners(call, &tile, box.n, box.lo[0], private + call.dx_bytes + call.dy_bytes)
    if bad == NULL:
        state = kernels.enter()
        if call.average:
            divide_dy(call, &tile)
        found[0] = found[0] + kernels.pool_gather(&tile)
        kernels.leave(state)
        if call.turned:
            copy_box(kernels, &tile.dx, &dx, tile.channels, count)
    return bad


cdef fc_range reach_of(const fc_windows *w, ptrdiff_t lo, ptrdiff_t hi) noexcept nogil:
    """Outputs whose windows reach positions [lo, hi); empty in a gap between windows."""
    cdef fc_range r
    r.lo = fc_reach(w, lo).lo
    r.hi = max(r.lo, fc_reach(w, hi - 1).hi)
    return r


cdef void stage_dy(const Gather *call, const fc_pool_gather *tile, ptrdiff_t n, ptrdiff_t channel) noexcept nogil:
    """Copy the outputs in reach."""
    cdef fc_image dy = image_of(&call.dy, element(&call.dy, n, channel, tile.first[0], tile.first[1], tile.first[2]))
    cdef ptrdiff_t count[3]
    cdef int i
    for i in range(3):
        count[i] = tile.last[i] - tile.first[i]
    copy_box(call.kernels, &dy, &tile.dy, tile.channels, count)


cdef const void *set_winners(const Gather *call, fc_pool_gather *tile, ptrdiff_t n, ptrdiff_t channel,
                             char *private) noexcept nogil:
    """The places that a caller names, or numbers of taps: found, or copied and checked."""
    cdef fc_image index
    cdef fc_pool find = call.find
    cdef fc_pool_stage stage = call.stage
    if not call.recompute:
        index = image_of(&call.index, element(&call.index, n, channel, tile.first[0], tile.first[1], tile.first[2]))
        if call.index_turned:
            index = turned_index(call, tile, &index, private + call.tap_bytes)
        if tile.places:
            tile.tap = index
            return NULL
    set_layout(&tile.tap, private + AROUND, tile.channels_last, tile.channels, tile.first, tile.last)
    if call.recompute:
        find.channels, find.lo, find.hi, find.index = tile.channels, tile.first, tile.last, tile.tap
        find.x = image_of(&call.x, element(&call.x, n, channel, 0, 0, 0))
        call.kernels.pool(&find)
        return NULL
    stage.channels, stage.lo, stage.hi, stage.src, stage.dst = tile.channels, tile.first, tile.last, index, tile.tap
    return call.kernels.pool_stage(&stage)


cdef fc_image turned_index(const Gather *call, const fc_pool_gather *tile, const fc_image *index,
                           char *private) noexcept nogil:
    """A channels-last copy of the indices of the outputs in reach."""
    cdef fc_image copy
    cdef ptrdiff_t count[3]
    cdef int i
    for i in range(3):
        count[i] = tile.last[i] - tile.first[i]
    set_layout(&copy, private, True, tile.channels, tile.first, tile.last)
    copy_indices(fc_current(True), index, &copy, call.index.itemsize, tile.channels, count)
    return copy


cdef void divide_dy(const Gather *call, fc_pool_gather *tile) noexcept nogil:
    cdef fc_pool_divide divide = call.divide
    divide.channels, divide.lo, divide.hi, divide.y = tile.channels, tile.first, tile.last, tile.dy
    call.kernels.pool_divide(&divide)


# ---------------------------------------------------------------- scatter

cdef struct Scatter:
    const fc_kernels *kernels
    fc_scatter tile        # what all tiles have in common
    fc_pool find
    bint recompute
    const void *(*store)(const fc_scatter *) noexcept nogil  # NULL: read back what scatter_set has stored
    Tensor plane, value, index, x
    Boxes boxes            # channels of planes
    Boxes chunks           # of outputs, in row-major order
    ptrdiff_t share_bytes


def scatter_add(cnp.ndarray dy, cnp.ndarray dx, windows, bint channels_last, op, cnp.ndarray x, cnp.ndarray index,
                num_threads):
    """dx = zeros with dy added at `index` (int64), or at the places of the winners of x by `op`."""
    cdef Scatter call
    cdef ptrdiff_t outputs[5]
    set_planes(&call, dx, dy, channels_last)
    call.store = call.kernels.scatter_add
    call.recompute = index is None
    if call.recompute:
        call.x = tensor_of(x)
        call.find.op, call.find.indexing = <fc_pool_op><int>OPERATIONS[op], FC_INDEX_PLANE
        call.find.channels_last, call.find.ahead, call.find.y.data = channels_last, False, NULL
        read_windows(call.find.windows, windows)
        outputs[0], outputs[1] = 1, 1
        outputs[2], outputs[3], outputs[4] = call.tile.count[0], call.tile.count[1], call.tile.count[2]
        call.chunks = boxes_of(outputs, False, CHUNK // call.boxes.size[0], CHUNK)
        call.share_bytes = line(call.boxes.size[0] * call.chunks.size[1] * call.chunks.size[2] * call.chunks.size[3]
                                * sizeof(int64_t))
    else:
        call.index = tensor_of(index)
    return run_scatter(&call, num_threads)


def scatter_set(cnp.ndarray x, cnp.ndarray index, cnp.ndarray y, bint channels_last, num_threads):
    """y = zeros with x at its places `index` (int64); of equal ones the last counts."""
    cdef Scatter call
    set_planes(&call, y, x, channels_last)
    call.store = call.kernels.scatter_set
    call.index = tensor_of(index)
    return run_scatter(&call, num_threads)


def unscatter_set(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray dx, bint channels_last, num_threads):
    """The gradient of :func:`scatter_set`."""
    cdef Scatter call
    set_planes(&call, dy, dx, channels_last)
    call.store = NULL
    call.index = tensor_of(index)
    call.share_bytes = min(SEEN, line(call.tile.positions * call.boxes.size[0]))
    return run_scatter(&call, num_threads)


cdef void set_planes(Scatter *call, cnp.ndarray plane, cnp.ndarray value, bint channels_last):
    """Work items: groups of channels, whose planes hold about GRAIN positions."""
    cdef ptrdiff_t room
    cdef int i
    call.plane, call.value = tensor_of(plane), tensor_of(value)
    call.kernels = fc_current(call.plane.itemsize == 8)
    call.recompute, call.share_bytes = False, 0
    call.tile.channels_last, call.tile.clear, call.tile.plane_c = channels_last, True, call.plane.c
    call.tile.positions = call.plane.shape[2] * call.plane.shape[3] * call.plane.shape[4]
    call.tile.plane_step = 1
    for i in range(3):
        call.tile.count[i] = call.value.shape[i + 2]
        if call.plane.shape[i + 2] > 1:
            call.tile.plane_step = call.plane.axis[i]  # of the innermost axis that has any
    call.boxes = boxes_of(call.plane.shape, False, GRAIN, call.tile.positions)
    if channels_last:
        room = GRAIN // call.tile.positions // CHANNELS * CHANNELS
        call.boxes.size[0] = min(call.plane.shape[1], max(CHANNELS, room))
    for i in range(1, 4):
        call.boxes.size[i], call.boxes.count[i] = call.plane.shape[i + 1], 1
    call.boxes.count[0] = ceil_div(call.plane.shape[1], call.boxes.size[0])
    call.boxes.items = call.plane.shape[0] * call.boxes.count[0]


cdef object run_scatter(Scatter *call, num_threads):
    cdef Py_ssize_t t, shares
    cdef ptrdiff_t items = call.boxes.items, head
    cdef Scratch scratch
    cdef const void **bad
    shares = shares_of(num_threads, items, <double>items * call.boxes.size[0] * call.tile.positions * 4)
    head = line(shares * sizeof(void *))
    scratch = take_scratch(head + shares * call.share_bytes)
    bad = <const void **>scratch.data
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint groups of planes.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            bad[t] = scatter_share(call, scratch.data + head + t * call.share_bytes, items * t // shares,
                                   items * (t + 1) // shares)
    found = first_bad(bad, shares, True)
    give_scratch(scratch)
    return found


cdef const void *scatter_share(const Scatter *call, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
    cdef uint64_t before = call.kernels.enter()
    cdef fc_scatter tile = call.tile
    cdef const void *bad = NULL
    cdef ptrdiff_t item
    cdef Box box
    call.kernels.leave(before)
    for item in range(item0, item1):
        box = box_at(&call.boxes, item)
        tile.channels = box.hi[0] - box.lo[0]
        tile.plane = element(&call.plane, box.n, box.lo[0], 0, 0, 0)
        tile.value = image_of(&call.value, element(&call.value, box.n, box.lo[0], 0, 0, 0))
        if not call.recompute:
            tile.index = image_of(&call.index, element(&call.index, box.n, box.lo[0], 0, 0, 0))
        if call.store == NULL:
            bad = read_back(call, &tile, <uint8_t *>private)
        else:
            bad = scatter_found(call, &tile, &box, private) if call.recompute else store(call, &tile)
        if bad != NULL:
            break
    call.kernels.leave(before)
    return bad


cdef const void *store(const Scatter *call, const fc_scatter *tile) noexcept nogil:
    cdef uint64_t state = call.kernels.enter()
    cdef const void *bad = call.store(tile)
    call.kernels.leave(state)
    return bad


cdef const void *read_back(const Scatter *call, const fc_scatter *tile, uint8_t *seen) noexcept nogil:
    """As many positions at a time as `seen` has room for."""
    cdef ptrdiff_t room = call.share_bytes // tile.channels, lo = 0
    cdef const void *bad = NULL
    while lo < tile.positions and bad == NULL:
        bad = call.kernels.unscatter_set(tile, seen, lo, min(lo + room, tile.positions))
        lo += room
    return bad


cdef const void *scatter_found(const Scatter *call, const fc_scatter *planes, const Box *box,
                               char *private) noexcept nogil:
    """Find places for one chunk of outputs, add its dy, and so on in order."""
    cdef fc_scatter tile = planes[0]
    cdef fc_pool find = call.find
    cdef const void *bad = NULL
    cdef ptrdiff_t chunk
    cdef Box outputs
    cdef int i
    find.channels = tile.channels
    find.x = image_of(&call.x, element(&call.x, box.n, box.lo[0], 0, 0, 0))
    for chunk in range(call.chunks.items):
        outputs = box_at(&call.chunks, chunk)
        for i in range(3):
            find.lo[i], find.hi[i] = outputs.lo[i + 1], outputs.hi[i + 1]
            tile.count[i] = find.hi[i] - find.lo[i]
        set_layout(&tile.index, private, tile.channels_last, tile.channels, find.lo, find.hi)
        find.index = tile.index
        tile.value = image_of(&call.value,
                              element(&call.value, box.n, box.lo[0], find.lo[0], find.lo[1], find.lo[2]))
        call.kernels.pool(&find)
        bad = store(call, &tile)
        if bad != NULL:
            break
        tile.clear = False
    return bad
