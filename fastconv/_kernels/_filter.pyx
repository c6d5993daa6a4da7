"""Filters on images whose channels are interleaved (HWC).

a. A work item is a box of at most ITEM_ROWS rows and about ITEM_COLUMNS elements of the image, for all kernels.
b. Its rows, with their borders, come one by one into a strip of the table's type; as soon as a row of results has its
   sources there, it is made and stored. The rows in use stay in L1, and no image is held in between.
c. A group of kernels is one pass over the strip; a separable kernel is a pass down the columns into one line of
   scratch, and one along it.
d. What is summed, and in which order, depends on the kernels alone.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t

from fastconv._kernels._runtime cimport (
    FC_FILTER_KERNELS, FC_PAST_BYTES, Scratch, fc_current, fc_filter, fc_kernels, fc_master, fc_pad_mode, fc_photo, fc_settle,
    fc_this_thread, give_scratch, shares_of, take_scratch,
)

cnp.import_array()

cdef enum:
    ITEM_ROWS = 64          # of 32, more of the time goes into rows that two items read: 1.07 times as long for 3x3
    ITEM_COLUMNS = 1024
    PIXELS = 128            # widths of items are multiples of it: whole tiles

cdef struct Group:
    # Kernels that are done together, or one that is separable: `taps` down the columns, then `along` in a line, which
    # is `extra` elements longer than the results. A result of -1 is none.
    ptrdiff_t kernels, taps, along, extra, first_tap, first_weight
    ptrdiff_t result[FC_FILTER_KERNELS]

cdef struct Job:
    fc_photo photo
    ptrdiff_t reach[4]      # pixels that results read above, below, left and right of themselves
    ptrdiff_t rows, columns, items_across
    ptrdiff_t pitch, line   # of a strip, in elements; of what separable kernels keep
    const Group *groups
    ptrdiff_t count
    const ptrdiff_t *at
    const char *weights
    char *y
    ptrdiff_t y_kernel, y_row, y_size
    int bytes, past
    double offset


cdef void run_group(const fc_kernels *kernels, const Job *job, const Group *g, char *strip, char *line,
                    ptrdiff_t elements, char *y) noexcept nogil:
    """One row of results: `elements` of each kernel. strip: where the first sources of this row are."""
    cdef fc_filter f
    cdef ptrdiff_t k
    f.x, f.w, f.at = strip, job.weights + g.first_weight * kernels.itemsize, job.at + g.first_tap
    f.taps, f.kernels, f.len = g.taps, g.kernels, elements + g.extra
    f.offset, f.bytes, f.past = job.offset, job.bytes, job.past
    for k in range(FC_FILTER_KERNELS):
        f.y[k] = y + g.result[k] * job.y_kernel if g.result[k] >= 0 else NULL
    if g.along:
        f.y[0], f.bytes, f.past, f.offset = line, False, False, 0
        kernels.filter_row(&f)
        f.x, f.w, f.at = line, <const char *>f.w + g.taps * kernels.itemsize, f.at + g.taps
        f.taps, f.len, f.y[0] = g.along, elements, y + g.result[0] * job.y_kernel
        f.offset, f.bytes, f.past = job.offset, job.bytes, job.past
    kernels.filter_row(&f)


cdef void run_item(const fc_kernels *kernels, const Job *job, ptrdiff_t item, char *scratch) noexcept nogil:
    cdef ptrdiff_t row0 = item // job.items_across * job.rows, column0 = item % job.items_across * job.columns
    cdef ptrdiff_t rows = min(job.rows, job.photo.extent[0] - row0)
    cdef ptrdiff_t columns = min(job.columns, job.photo.extent[1] - column0)
    cdef ptrdiff_t left = job.reach[2], across = left + columns + job.reach[3], depth = job.reach[0] + job.reach[1]
    cdef char *strip = scratch + job.line * kernels.itemsize
    cdef ptrdiff_t pitch = job.pitch * kernels.itemsize, row, i
    cdef char *y = job.y + row0 * job.y_row + column0 * job.photo.channels * job.y_size
    for row in range(rows + depth):
        kernels.load_image_row(&job.photo, row0 - job.reach[0] + row, column0 - left, across, strip + row * pitch)
        if row >= depth:
            for i in range(job.count):
                run_group(kernels, job, &job.groups[i], strip + (row - depth) * pitch, scratch,
                          columns * job.photo.channels, y + (row - depth) * job.y_row)


cdef void run_share(const fc_kernels *kernels, const Job *job, char *scratch, ptrdiff_t item0,
                    ptrdiff_t item1) noexcept nogil:
    cdef uint64_t state = kernels.enter()
    cdef ptrdiff_t item
    for item in range(item0, item1):
        run_item(kernels, job, item, scratch)
    kernels.leave(state)


def run(cnp.ndarray image, cnp.ndarray y, cnp.ndarray groups, cnp.ndarray taps, cnp.ndarray weights,
        cnp.ndarray reach, int mode, double offset, num_threads):
    """y[kernel, h, w, c] from image[h, w, c]; all arrays are contiguous.

    groups: intp, rows as in Group. taps: intp, rows and elements behind the first that an item's result reads.
    weights: those of all groups, in the type of the sums. reach: intp, above, below, left and right of a result.
    """
    cdef const fc_kernels *kernels = fc_current(cnp.PyArray_TYPE(weights) == cnp.NPY_FLOAT64)
    cdef ptrdiff_t channels = image.shape[2], width = image.shape[1], slack = 3 * kernels.block, i
    cdef const ptrdiff_t *place = <const ptrdiff_t *>cnp.PyArray_DATA(taps)
    cdef Job job
    job.photo.x, job.photo.bytes = cnp.PyArray_DATA(image), cnp.PyArray_TYPE(image) == cnp.NPY_UINT8
    job.photo.extent[0], job.photo.extent[1] = image.shape[0], width
    job.photo.row, job.photo.channels, job.photo.mode = width * channels, channels, <fc_pad_mode>mode
    for i in range(4):
        job.reach[i] = (<const ptrdiff_t *>cnp.PyArray_DATA(reach))[i]
    job.rows = ITEM_ROWS
    job.columns = (ITEM_COLUMNS + channels * PIXELS - 1) // (channels * PIXELS) * PIXELS
    job.items_across = (width + job.columns - 1) // job.columns
    job.line = ((min(job.columns, width) + job.reach[2] + job.reach[3]) * channels + slack + 15) // 16 * 16
    job.pitch = job.line
    job.groups, job.count = <const Group *>cnp.PyArray_DATA(groups), groups.shape[0]
    job.weights = <const char *>cnp.PyArray_DATA(weights)
    job.bytes, job.offset = cnp.PyArray_TYPE(y) == cnp.NPY_UINT8, offset
    job.y, job.y_size = <char *>cnp.PyArray_DATA(y), cnp.PyArray_ITEMSIZE(y)
    job.y_row, job.y_kernel = width * channels * job.y_size, cnp.PyArray_SIZE(image) * job.y_size
    job.past = cnp.PyArray_NBYTES(y) >= FC_PAST_BYTES

    cdef ptrdiff_t items = (job.photo.extent[0] + job.rows - 1) // job.rows * job.items_across
    cdef double flops = 2.0 * cnp.PyArray_SIZE(weights) * cnp.PyArray_SIZE(image)
    cdef Py_ssize_t shares = shares_of(num_threads, items, flops), t
    cdef ptrdiff_t depth = job.rows + job.reach[0] + job.reach[1]
    cdef ptrdiff_t part = ((job.line + depth * job.pitch + slack) * kernels.itemsize + 63) // 64 * 64
    cdef Scratch scratch = take_scratch(shares * part + taps.shape[0] * sizeof(ptrdiff_t))
    cdef ptrdiff_t *at = <ptrdiff_t *>(scratch.data + shares * part)
    for i in range(taps.shape[0]):
        at[i] = place[2 * i] * job.pitch + place[2 * i + 1]
    job.at = at
    cdef fc_master master = fc_this_thread()
    with nogil:
        # Items are disjoint boxes of the results.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
            fc_settle(&master)
            run_share(kernels, &job, scratch.data + t * part, items * t // shares, items * (t + 1) // shares)
    give_scratch(scratch)
