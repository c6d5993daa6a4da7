"""Backward-weight of grouped convolution with few channels a group (rules: _blocks.pyx, e; lanes: _lanes.pyx)."""
cimport cython
cimport numpy as cnp
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastconv._kernels._ahead cimport next_line, next_plane, planes_after
from fastconv._kernels._blocks cimport Box, box_of
from fastconv._kernels._lanes cimport (
    Runs, blocks_in_place, has_order, in_order_of, lane_step, lane_tensor, rows_of, source_of, strip_source,
)
from fastconv._kernels._runtime cimport FC_ZEROS, fc_ahead, fc_kernels, fc_rows, fc_run, fc_slide
from fastconv._kernels._slide_line cimport slide_line
from fastconv._kernels._tensor cimport Tensor, line
from fastconv._kernels._weight_gradient cimport Gradient, PartialSums, all_finite

cnp.import_array()


@cython.final
cdef class LaneGradient(PartialSums):
    """dw and db of one shape, order and dtype.

    Work item = (part, column group). A part is a fixed run of boxes with partial sums of its own.
    """

    cdef Runs runs
    cdef bint turned
    cdef ptrdiff_t channel_size   # elements of one channel's sums, where lanes are pixels

    def __cinit__(self, *args, **kwargs):
        self.runs = Runs(self)
        self.turned = self.blocking.turned
        self.channel_size = (self.ntap + 1) * self.lanes
        self.rows_bytes = line(self.lanes * self.channel_size * self.itemsize) if self.planar else 0
        if self.turned:
            self.strip_bytes = line(self.src[0] * self.src[1] * self.src[2] * self.lanes * self.itemsize)
            self.rows_bytes = line(self.box_pixels() * self.lanes * self.itemsize)
        self.table_bytes = line((self.runs.count + 2 * self.runs.most) * self.red * sizeof(fc_run))

    def run(self, cnp.ndarray src, cnp.ndarray grad, cnp.ndarray dw, cnp.ndarray db, bint accumulate, num_threads):
        """dw (contiguous) and db from x and dy; either result may be None."""
        cdef bint last = not (self.planar or self.turned)
        if not has_order(grad, last):
            grad = in_order_of(grad, last)
        PartialSums.run(self, src, grad, dw, db, accumulate, num_threads)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, const Gradient *d,
                    char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups innermost."""
        cdef uint64_t state = kernels.enter()
        cdef ptrdiff_t item, part, q, kb, kb0, kb1, box0, box1
        cdef char *sums
        cdef char *column_sums
        memset(private, 0, self.strip_bytes)  # lanes beyond a row of results meet zeros
        for item in range(item0, item1):
            part, q = item % self.k_groups, item // self.k_groups
            kb0, kb1 = self.col_blocks * part // self.k_groups, self.col_blocks * (part + 1) // self.k_groups
            box0, box1 = self.box_count * q // self.parts, self.box_count * (q + 1) // self.parts
            sums = d.part if d.part != NULL else d.column_sums  # no part: of db alone, which has no taps to add up
            sums += (q * self.packed_size() + self.packed_offset(0, kb0)) * self.itemsize
            column_sums = d.column_sums + (q * self.padded_cols() + kb0 * self.lanes) * self.itemsize
            if self.planar:
                for kb in range(kb0, kb1):
                    self.block_planes(kernels, x, dy, kb, box0, box1, d.dw != NULL,
                                      sums + self.packed_offset(0, kb - kb0) * self.itemsize,
                                      column_sums + (kb - kb0) * self.lanes * self.itemsize, private)
                continue
            memset(column_sums, 0, (kb1 - kb0) * self.lanes * self.itemsize)
            if d.dw != NULL:
                memset(sums, 0, self.packed_offset(0, kb1 - kb0) * self.itemsize)
            if self.turned:
                for kb in range(kb0, kb1):
                    self.turn(kernels, x, dy, kb, box0, box1, d.dw != NULL,
                              sums + self.packed_offset(0, kb - kb0) * self.itemsize,
                              column_sums + (kb - kb0) * self.lanes * self.itemsize, private)
                continue
            self.pixels(kernels, x, dy, kb0, kb1, box0, box1, d.dw != NULL, sums, column_sums, private)
        kernels.leave(state)

    cdef void pixels(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, ptrdiff_t kb0, ptrdiff_t kb1,
                     ptrdiff_t box0, ptrdiff_t box1, bint taps, char *sums, char *column_sums,
                     char *private) noexcept nogil:
        """Boxes [box0, box1) of column blocks [kb0, kb1); lanes are channels."""
        cdef ptrdiff_t box, kb, whole = min(kb1, blocks_in_place(self, kernels)) if self.in_place else kb0
        cdef Box b
        cdef Tensor a
        for box in range(box0, box1):
            b = box_of(self.extent, self.grain, self.boxes, box)
            if whole > kb0:
                a = self.place(x, &b, kb0 * self.lanes)
                self.add_pixels(kernels, &a, dy, &b, kb0, whole, taps, sums, column_sums, private, NULL)
            for kb in range(max(kb0, whole), kb1):
                if taps:
                    a = strip_source(self, kernels, x, &b, kb, 0, private)
                self.add_pixels(kernels, &a, dy, &b, kb, kb + 1, taps,
                                sums + self.packed_offset(0, kb - kb0) * self.itemsize,
                                column_sums + (kb - kb0) * self.lanes * self.itemsize, private, NULL)

    cdef void turn(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, ptrdiff_t kb, ptrdiff_t box0,
                   ptrdiff_t box1, bint taps, char *sums, char *column_sums, char *private) noexcept nogil:
        """Images [box0, box1) of column block kb: planes become channels-last pixels."""
        cdef ptrdiff_t column = kb * self.lanes, channels = min(self.lanes, self.cols - column), box
        cdef char *rows = private + self.strip_bytes
        cdef Tensor a = lane_tensor(self, private, self.src)
        cdef Tensor c = lane_tensor(self, rows - column * self.itemsize, self.extent + 1)
        cdef fc_rows r
        cdef fc_ahead after[2]
        cdef Box b
        for box in range(box0, box1):
            b = box_of(self.extent, self.grain, self.boxes, box)
            r = rows_of(self, dy, b.origin[0], column, channels, self.extent + 1, rows)
            kernels.load_rows(&r)
            after[1] = planes_after(self, dy, r.x)
            after[0] = after[1]
            if taps:
                r = rows_of(self, x, b.origin[0], column, channels, self.src, private)
                kernels.load_rows(&r)
                after[0] = planes_after(self, x, r.x)
            a.data = private
            a = self.place(&a, &b, 0)
            self.add_pixels(kernels, &a, &c, &b, kb, kb + 1, taps, sums, column_sums, private, after)

    cdef void add_pixels(self, const fc_kernels *kernels, const Tensor *a, const Tensor *dy, const Box *b,
                         ptrdiff_t kb0, ptrdiff_t kb1, bint taps, char *sums, char *column_sums,
                         char *private, fc_ahead *after) noexcept nogil:
        cdef fc_run *every = <fc_run *>(private + self.strip_bytes + self.rows_bytes)
        cdef fc_run *run = every + self.runs.count * self.red
        cdef ptrdiff_t column = kb0 * self.lanes, n, d, h
        cdef ptrdiff_t cell[3]
        cdef fc_slide s
        cdef fc_ahead ahead[2]
        s.lines, s.x_line, s.y_line = 1, 0, 0
        s.run, s.runs, s.lanes = run, 0, min(kb1 * self.lanes, self.cols) - column
        s.w, s.w_vector, s.b, s.b_vector = sums, self.packed_offset(0, 1), column_sums, self.lanes
        s.x, s.x_step, s.x_vector, s.x_lane = dy.data, 0, 0, 1  # without taps nothing is read there
        if taps:
            s.x_step, s.x_vector = self.in_step[2] * a.axis[2], self.lanes
        s.y_step, s.y_vector, s.results = dy.axis[2], self.lanes, b.count[3]
        s.ahead = NULL if not self.runs.far else after if after != NULL else ahead
        cell[0], cell[1], cell[2] = b.origin[1], b.origin[2], b.origin[3]
        if taps:
            self.runs.fill(self, a, cell, s.lanes, every)
        for d in range(b.count[1]):
            for h in range(b.count[2]):
                cell[0], cell[1] = b.origin[1] + d, b.origin[2] + h
                if taps:
                    s.runs = self.runs.there(self, 0, cell, False, every, run)
                for n in range(b.count[0]):
                    if taps:
                        s.x = a.data + (n * a.n + d * self.in_step[0] * a.axis[0]
                                        + h * self.in_step[1] * a.axis[1]) * self.itemsize
                    s.y = dy.data + ((b.origin[0] + n) * dy.n + column + cell[0] * dy.axis[0] + cell[1] * dy.axis[1]
                                     + cell[2] * dy.axis[2]) * self.itemsize
                    if s.ahead == ahead:
                        next_line(self, &s, a, dy.axis[1])
                    kernels.slide_back(&s)

    cdef void block_planes(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, ptrdiff_t kb,
                           ptrdiff_t box0, ptrdiff_t box1, bint taps, char *sums, char *column_sums,
                           char *private) noexcept nogil:
        """Boxes [box0, box1) of column block kb, once more without padding's zeros where dy isn't finite."""
        self.planes(kernels, x, dy, kb, box0, box1, taps, False, sums, column_sums, private)
        if taps and self.mode == FC_ZEROS and not all_finite(column_sums, self.lanes, self.f64):
            self.planes(kernels, x, dy, kb, box0, box1, taps, True, sums, column_sums, private)

    cdef void planes(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, ptrdiff_t kb, ptrdiff_t box0,
                     ptrdiff_t box1, bint taps, bint strict, char *sums, char *column_sums,
                     char *private) noexcept nogil:
        """Boxes [box0, box1) of column block kb; lanes are pixels, whose sums are added up last.

        `strict`: pixel by pixel, with the taps that lie in the source.
        """
        cdef char *own = private + self.strip_bytes
        cdef ptrdiff_t lanes = min(self.lanes, self.cols - kb * self.lanes)
        cdef ptrdiff_t box, lane, column, channel, loaded, tap
        cdef Box b
        cdef Tensor a
        memset(own, 0, lanes * self.channel_size * self.itemsize)
        for box in range(box0, box1):
            b = box_of(self.extent, self.grain, self.boxes, box)
            loaded = -1
            for lane in range(lanes):
                column = kb * self.lanes + lane
                channel = column // self.lane_cols
                if taps and channel != loaded:
                    a = source_of(self, kernels, x, &b, channel, private)
                    loaded = channel
                self.add_plane(kernels, &a, dy, &b, column, taps, lane == 0, strict,
                               own + lane * self.channel_size * self.itemsize, own + self.rows_bytes)
        for tap in range(self.ntap if taps else 0):
            kernels.sum_vectors(own + tap * self.lanes * self.itemsize, self.channel_size, lanes,
                                sums + tap * self.lanes * self.itemsize)
        kernels.sum_vectors(own + self.ntap * self.lanes * self.itemsize, self.channel_size, lanes, column_sums)

    cdef void add_plane(self, const fc_kernels *kernels, const Tensor *a, const Tensor *dy, const Box *b,
                        ptrdiff_t column, bint taps, bint fresh, bint strict, char *sums, char *table) noexcept nogil:
        """One channel; the table of runs serves all channels of the box."""
        cdef fc_run *every = <fc_run *>table
        cdef fc_run *run = every + self.runs.count
        cdef ptrdiff_t n, d, i, cells = b.count[3] if strict else 1
        cdef ptrdiff_t cell[3]
        cdef fc_slide s
        cdef fc_ahead ahead[2]
        s.lines, s.x_line, s.y_line = 1, 0, 0
        s.run, s.runs, s.lanes, s.results = run, 0, b.count[3] // cells, b.count[2]
        s.w, s.w_vector, s.b, s.b_vector = sums, 0, sums + self.ntap * self.lanes * self.itemsize, 0
        s.x_lane = lane_step(self)
        s.x, s.x_step, s.x_vector = dy.data, 0, 0
        if taps:
            s.x_step, s.x_vector = self.in_step[1] * a.axis[1], s.x_lane * self.lanes
        s.y_step, s.y_vector, s.ahead = dy.axis[1], self.lanes, ahead if self.runs.far else NULL
        for i in range(cells):
            cell[0], cell[1], cell[2] = b.origin[1], b.origin[2], b.origin[3] + i
            if taps and (fresh or strict):
                self.runs.fill(self, a, cell, s.lanes, every)
            for d in range(b.count[1]):
                cell[0] = b.origin[1] + d
                if taps:
                    s.runs = self.runs.there(self, 0, cell, not strict, every, run)
                for n in range(b.count[0]):
                    if taps:
                        s.x = a.data + (n * a.n + d * self.in_step[0] * a.axis[0] + i * s.x_lane) * self.itemsize
                    s.y = dy.data + ((b.origin[0] + n) * dy.n + column * dy.c + cell[0] * dy.axis[0]
                                     + cell[1] * dy.axis[1] + cell[2]) * self.itemsize
                    s.lanes = b.count[3] // cells
                    if self.runs.far:
                        next_plane(self, &s, a, dy, <const char *>s.y, s.results, d + 1 == b.count[1])
                    if self.runs.flat and not strict:
                        slide_line(kernels, &s, self.lanes, True)
                    else:
                        kernels.slide_back(&s)
