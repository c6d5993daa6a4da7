"""Grouped convolution with few channels a group, depthwise above all (rules: _blocks.pyx, e).

Lanes are channels of different groups (channels-last sources), or pixels of one channel (channels-first ones of
depthwise convolution). The other axis that the tile needs, w or h, is the one that results slide along: taps whose
sources continue each other there are one run (csrc/kernels/slide.h).
"""
cimport cython
cimport numpy as cnp
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

import numpy as np

from fastconv._kernels._ahead cimport next_line, next_plane, planes_after
from fastconv._kernels._blocks cimport Blocks, Box, Phase, box_of
from fastconv._kernels._correlation cimport Correlation
from fastconv._kernels._runtime cimport (
    FC_IDENTITY, FC_RELU6, FC_SLIDE_TAPS, FC_ZEROS, fc_activation, fc_ahead, fc_kernels, fc_rows, fc_run, fc_slide,
)
from fastconv._kernels._slide_line cimport slide_line
from fastconv._kernels._tensor cimport Tensor, ceil_div, line

cnp.import_array()


@cython.final
cdef class Runs:
    """The runs of taps of every stride phase."""

    def __cinit__(self, Blocks blocks):
        self.slid, self.most = 1 if blocks.planar else 2, 0
        self.run = <Run *>malloc(max(blocks.ntap, 1) * sizeof(Run))
        self.first = <ptrdiff_t *>malloc((blocks.phases + 1) * sizeof(ptrdiff_t))
        if self.run == NULL or self.first == NULL:
            raise MemoryError("fastconv: could not allocate the tables of a convolution plan")
        self.first[0] = 0
        for ph in range(blocks.phases):
            self.first[ph + 1] = self.first[ph]
            for chain in self._chains(blocks, ph):
                self._add(blocks, ph, chain)
            self.most = max(self.most, self.first[ph + 1] - self.first[ph])
        self.count = self.first[blocks.phases]
        self.far = blocks.blocking.far
        self.flat = (blocks.planar and blocks.out_step[2] == 1 and blocks.extent[2] == 1 and blocks.src[1] == 1
                     and all(self.run[i].taps == 1 and self.run[i].offset[1] == 0 for i in range(self.count)))

    cdef list _chains(self, Blocks blocks, ptrdiff_t ph):
        """Lists of (offset along the sliding axis, packed position), the sources of each continuing each other."""
        cdef Phase *phase = blocks.phase + ph
        cdef ptrdiff_t step = blocks.in_step[self.slid], position, slid
        cdef const ptrdiff_t *o
        cdef list chains = [], chain
        lines = {}
        for position in range(phase.tap0, phase.tap0 + phase.segs):
            o = blocks.offset + 3 * position
            slid = o[self.slid]
            key = (o[0], o[3 - self.slid], (slid - blocks.low[self.slid]) % step)
            lines.setdefault(key, []).append((slid, position))
        for taps in lines.values():
            for offset, position in taps:
                if offset == taps[0][0] or offset != chain[len(chain) - 1][0] + step:
                    chain = []
                    chains.append(chain)
                chain.append((offset, position))
        return chains

    cdef _add(self, Blocks blocks, ptrdiff_t ph, list chain):
        """Cut a chain evenly into runs that the tile can take."""
        cdef Run *run
        cdef ptrdiff_t n = len(chain), parts = ceil_div(n, FC_SLIDE_TAPS), i, axis
        for i in range(parts):
            taps = chain[n * i // parts:n * (i + 1) // parts]
            run = self.run + self.first[ph + 1]
            run.taps, run.tap = len(taps), taps[0][1]
            run.tap_step = taps[1][1] - taps[0][1] if len(taps) > 1 else 0
            for axis in range(3):
                run.offset[axis] = blocks.offset[3 * run.tap + axis]
            self.first[ph + 1] += 1

    def __dealloc__(self):
        free(self.run)
        free(self.first)

    cdef void fill(self, Blocks k, const Tensor *a, const ptrdiff_t *cell, ptrdiff_t lanes, fc_run *to) noexcept nogil:
        """The runs of all phases in a source `a`, for lines of `lanes` that begin at `cell`."""
        cdef ptrdiff_t i, j
        cdef const Run *run
        cdef fc_run *r = to
        for i in range(self.count):
            run = self.run + i
            for j in range(k.red):
                r.tap_step = 0
                r.taps, r.lo, r.hi, r.lane_lo, r.lane_hi = run.taps, 0, 1 << 60, 0, lanes if k.in_place else 1 << 60
                if k.mode == FC_ZEROS:
                    cells_there(k, self.slid, run.offset, cell, &r.lo, &r.hi)
                if k.in_place and k.planar:
                    cells_there(k, 2, run.offset, cell, &r.lane_lo, &r.lane_hi)
                r.x = k.tap_offset(a, run.offset) + j * a.c
                r.w, r.w_step = (run.tap * k.red + j) * k.lanes, run.tap_step * k.red * k.lanes
                r += 1

    cdef ptrdiff_t there(self, Blocks k, ptrdiff_t ph, const ptrdiff_t *cell, bint any_w, const fc_run *all_,
                         fc_run *to) noexcept nogil:
        """Copy those of the runs `all_` that reach the source from the line of cells `cell`; returns their number.

        `any_w`: lanes are pixels, and those of padding are zeros in the strip.
        """
        cdef ptrdiff_t i, j, axis, at
        cdef const Run *run
        cdef fc_run *r = to
        cdef bint inside
        for i in range(self.first[ph], self.first[ph + 1]):
            run = self.run + i
            inside = True
            for axis in range(3):
                if axis != self.slid and not (axis == 2 and any_w) and k.mode == FC_ZEROS:
                    at = cell[axis] * k.in_step[axis] + run.offset[axis]
                    inside = inside and 0 <= at < k.src[axis]
            if inside:
                for j in range(k.red):
                    r[0] = all_[i * k.red + j]
                    r += 1
        return r - to

    cdef ptrdiff_t same_end(self, Blocks k, ptrdiff_t ph, const ptrdiff_t *cell, ptrdiff_t end) noexcept nogil:
        """Up to where along h, but `end`, the runs that reach the source are those of `cell`."""
        cdef ptrdiff_t i, lo, hi
        for i in range(self.first[ph], self.first[ph + 1]):
            lo, hi = 0, 1 << 60
            cells_there(k, 1, self.run[i].offset, cell, &lo, &hi)
            if lo > 0:
                end = min(end, cell[1] + lo)
            elif hi > 0:
                end = min(end, cell[1] + hi)
        return end


cdef ptrdiff_t ceil_div_any(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    """Of any sign of a."""
    return -((-a) // b) if a <= 0 else (a + b - 1) // b


cdef void cells_there(Blocks k, int axis, const ptrdiff_t *offset, const ptrdiff_t *cell, ptrdiff_t *lo,
                      ptrdiff_t *hi) noexcept nogil:
    """Leave of lo <= i < hi those whose source, of the i-th cell from `cell` on at a tap, is inside of the image."""
    lo[0] = max(lo[0], ceil_div_any(-offset[axis], k.in_step[axis]) - cell[axis])
    hi[0] = min(hi[0], ceil_div_any(k.src[axis] - offset[axis], k.in_step[axis]) - cell[axis])


cdef ptrdiff_t lane_step(Blocks k) noexcept nogil:
    """Sources of neighbouring pixels: strips hold them side by side."""
    return k.in_step[2] // k.split


cdef cnp.ndarray in_order_of(cnp.ndarray a, bint last):
    """a, or a copy of it in the order of the source."""
    if last:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)
    return np.ascontiguousarray(a)


cdef bint has_order(cnp.ndarray a, bint last):
    if last:
        return cnp.PyArray_STRIDE(a, 1) == cnp.PyArray_ITEMSIZE(a)
    return cnp.PyArray_STRIDE(a, cnp.PyArray_NDIM(a) - 1) == cnp.PyArray_ITEMSIZE(a) or cnp.PyArray_DIM(
        a, cnp.PyArray_NDIM(a) - 1) == 1


cdef ptrdiff_t blocks_in_place(Blocks k, const fc_kernels *kernels) noexcept nogil:
    """Blocks of channels that can be read in place: whole vectors, or all of them where loads can be masked."""
    return k.col_blocks if kernels.masked_loads else k.cols // k.lanes


cdef Tensor source_of(Blocks k, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t channel,
                      char *strip) noexcept nogil:
    """Where the planes of a box are read, from `channel` on."""
    if k.in_place:
        return k.place(x, b, channel)
    return strip_source(k, kernels, x, b, 0, channel, strip)


cdef Tensor lane_tensor(Blocks k, char *data, const ptrdiff_t *extent) noexcept nogil:
    """Pixels of one vector of channels: wherever these are in a tensor, here they are the first ones."""
    cdef Tensor t
    cdef int i
    t.data, t.n, t.c, t.itemsize = data, 0, 0, k.itemsize
    t.shape[0], t.shape[1] = 1, k.lanes
    for i in range(3):
        t.shape[i + 2] = extent[i]
    t.axis[2] = k.lanes
    t.axis[1] = extent[2] * t.axis[2]
    t.axis[0] = extent[1] * t.axis[1]
    return t


cdef fc_rows rows_of(Blocks k, const Tensor *t, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t channels,
                     const ptrdiff_t *extent, char *rows) noexcept nogil:
    """Channels of an image as rows of pixels."""
    cdef fc_rows r
    cdef ptrdiff_t i
    r.x = t.data + (image * t.n + channel * t.c) * k.itemsize
    r.x_c, r.rows, r.n, r.column_sum = t.c, rows, channels, NULL
    for i in range(3):
        r.x_axis[i], r.count[i] = t.axis[i], extent[i]
    return r


cdef Tensor strip_source(Blocks k, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t kb,
                         ptrdiff_t channel, char *strip) noexcept nogil:
    """The strip of a box: the lanes of block kb, or `red` planes from `channel` on."""
    cdef Tensor t = x[0]
    cdef ptrdiff_t i
    k.load(kernels, x, b, kb, channel, k.red, strip)
    t.data, t.n, t.c = strip, k.strip_n, k.strip_c
    for i in range(3):
        t.axis[i] = k.strip_axis[i]
    return t


@cython.final
cdef class LaneCorrelation(Correlation):
    """Forward, or backward-input (``transposed`` weights), of one shape, order and dtype."""

    cdef Runs runs
    cdef bint turned
    cdef ptrdiff_t spread_bytes, plane   # of the results of one phase along w of one channel

    def __cinit__(self, *args, **kwargs):
        self.runs = Runs(self)
        self.rows_bytes = self.spread_bytes = self.plane = 0
        self.turned = self.blocking.turned
        if self.turned:
            self.strip_bytes = line(self.src[0] * self.src[1] * self.src[2] * self.lanes * self.itemsize)
            self.rows_bytes = line(self.box_pixels() * self.lanes * self.itemsize)
        if self.planar:
            self.plane = (ceil_div(ceil_div(self.box[3], self.out_step[2]), self.lanes) * self.lanes
                          * self.box[1] * self.box[2])
            self.spread_bytes = line((self.ntap * self.red + 1) * self.lanes * self.itemsize)
            self.rows_bytes = self.spread_bytes
            if self.out_step[2] > 1:
                self.rows_bytes += line(self.plane * self.out_step[2] * self.itemsize)
        self.table_bytes = line((self.runs.count + 2 * self.runs.most) * self.red * sizeof(fc_run))

    @property
    def work_items(self):
        return self.box_count * self.k_groups

    def run(self, cnp.ndarray src, cnp.ndarray w, cnp.ndarray packed, bint transformed, cnp.ndarray bias,
            cnp.ndarray dst, int activation, num_threads):
        cdef cnp.ndarray target = dst
        cdef bint last = not (self.planar or self.turned)
        if not has_order(dst, last):
            target = in_order_of(dst, last)
        Correlation.run(self, src, w, packed, transformed, bias, target, activation, num_threads)
        if target is not dst:
            dst[...] = target

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *weights,
                    const char *bias, int activation, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups innermost, they share the cache lines of channels-last pixels."""
        cdef uint64_t state = kernels.enter()
        cdef ptrdiff_t item, part, kb, kb0, kb1, whole
        cdef Box b
        cdef Tensor a
        for item in range(item0, item1):
            part = item % self.k_groups
            b = box_of(self.extent, self.grain, self.boxes, item // self.k_groups)
            kb0, kb1 = self.col_blocks * part // self.k_groups, self.col_blocks * (part + 1) // self.k_groups
            if self.planar or self.turned:
                for kb in range(kb0, kb1):
                    if self.planar:
                        self.planes(kernels, x, y, &b, kb, weights, bias, <fc_activation>activation, private)
                    else:
                        self.turn(kernels, x, y, &b, kb, weights, bias, <fc_activation>activation, private)
                continue
            whole = min(kb1, blocks_in_place(self, kernels)) if self.in_place else kb0
            if whole > kb0:
                a = self.place(x, &b, kb0 * self.lanes)
                self.pixels(kernels, &a, y, &b, kb0, whole, weights, bias, <fc_activation>activation, private, NULL)
            for kb in range(max(kb0, whole), kb1):
                a = strip_source(self, kernels, x, &b, kb, 0, private)
                self.pixels(kernels, &a, y, &b, kb, kb + 1, weights, bias, <fc_activation>activation, private, NULL)
        kernels.leave(state)

    cdef void turn(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const Box *b, ptrdiff_t kb,
                   const char *weights, const char *bias, fc_activation activation, char *private) noexcept nogil:
        """Column block kb of an image: planes become channels-last pixels, and these planes of results."""
        cdef ptrdiff_t column = kb * self.lanes, channels = min(self.lanes, self.cols - column)
        cdef char *rows = private + self.strip_bytes
        cdef Tensor a = lane_tensor(self, private, self.src)
        cdef Tensor c = lane_tensor(self, rows, self.extent + 1)
        cdef fc_rows r = rows_of(self, x, b.origin[0], column, channels, self.src, private)
        cdef fc_ahead after[2]
        kernels.load_rows(&r)
        a = self.place(&a, b, 0)
        after[0] = planes_after(self, x, r.x)
        after[1] = planes_after(self, y, y.data + (b.origin[0] * y.n + column * y.c) * self.itemsize)
        self.pixels(kernels, &a, &c, b, kb, kb + 1, weights, bias, activation, private, after)
        r = rows_of(self, y, b.origin[0], column, channels, self.extent + 1, rows)
        kernels.store_rows(&r)

    cdef void pixels(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b, ptrdiff_t kb0,
                     ptrdiff_t kb1, const char *weights, const char *bias, fc_activation activation, char *private,
                     fc_ahead *after) noexcept nogil:
        """Column blocks [kb0, kb1) of one box; lanes are channels. Asks for what comes `after`, or the next line."""
        cdef fc_run *every = <fc_run *>(private + self.strip_bytes + self.rows_bytes)
        cdef fc_run *run = every + self.runs.count * self.red
        cdef ptrdiff_t column = kb0 * self.lanes, ph, n, d, h, stop
        cdef ptrdiff_t cell[3]
        cdef ptrdiff_t first[3]
        cdef const Phase *phase
        cdef fc_slide s
        cdef fc_ahead ahead[2]
        cdef char *block = y.data + (b.origin[0] * y.n + column * y.c + b.origin[1] * y.axis[0]
                                     + b.origin[2] * y.axis[1] + b.origin[3] * y.axis[2]) * self.itemsize
        for n in range(3):
            first[n] = b.origin[n + 1] // self.out_step[n]
        s.run, s.lanes, s.lines = run, min(kb1 * self.lanes, self.cols) - column, 1
        s.w, s.w_vector = <char *>weights + self.packed_offset(0, kb0) * self.itemsize, self.packed_offset(0, 1)
        s.b, s.b_vector = <char *>bias + column * self.itemsize if bias != NULL else NULL, self.lanes
        s.x_step, s.x_vector, s.x_lane = self.in_step[2] * a.axis[2], self.lanes, 1
        s.y_step, s.y_vector = self.out_step[2] * y.axis[2], self.lanes
        s.x_line, s.y_line = self.in_step[1] * a.axis[1], self.out_step[1] * y.axis[1]
        s.ahead = NULL if not self.runs.far else after if after != NULL else ahead
        s.activation = activation if activation <= FC_RELU6 else FC_IDENTITY
        self.runs.fill(self, a, first, s.lanes, every)
        for ph in range(self.phases):
            phase = self.phase + ph
            s.results = ceil_div(b.count[3] - phase.first[2], self.out_step[2])
            cell[2], stop = first[2], first[1] + ceil_div(b.count[2] - phase.first[1], self.out_step[1])
            for d in range(ceil_div(b.count[1] - phase.first[0], self.out_step[0])):
                cell[0], cell[1] = first[0] + d, first[1]
                while cell[1] < stop:
                    h = cell[1] - first[1]
                    if self.turned:  # lines of one vector are together in cache
                        s.lines = self.runs.same_end(self, ph, cell, stop) - cell[1]
                    s.runs = self.runs.there(self, ph, cell, False, every, run)
                    for n in range(b.count[0]):
                        s.x = a.data + (n * a.n + d * self.in_step[0] * a.axis[0]
                                        + h * self.in_step[1] * a.axis[1]) * self.itemsize
                        s.y = block + (n * y.n + (d * self.out_step[0] + phase.first[0]) * y.axis[0]
                                       + (h * self.out_step[1] + phase.first[1]) * y.axis[1]
                                       + phase.first[2] * y.axis[2]) * self.itemsize
                        if s.ahead == ahead:
                            next_line(self, &s, a, self.out_step[1] * y.axis[1])
                        kernels.slide(&s)
                    cell[1] += s.lines
        if activation > FC_RELU6:
            self.activate_pixels(kernels, y, b, block, s.lanes, activation)

    cdef void planes(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const Box *b, ptrdiff_t kb,
                     const char *weights, const char *bias, fc_activation activation, char *private) noexcept nogil:
        """The channels of column block kb of one box, one after the other; lanes are pixels."""
        cdef char *spread = private + self.strip_bytes
        cdef ptrdiff_t lane, column, channel, i, loaded = -1, taps = self.ntap * self.red
        cdef ptrdiff_t first[3]
        cdef const char *w = weights + self.packed_offset(0, kb) * self.itemsize
        cdef bint strict = self.mode == FC_ZEROS and not weights[self.flag_offset() + kb]
        cdef Tensor a
        cdef char *plane
        for lane in range(min(self.lanes, self.cols - kb * self.lanes)):
            column = kb * self.lanes + lane
            channel = column // self.lane_cols * self.red
            if channel != loaded:
                a = source_of(self, kernels, x, b, channel, private)
                loaded = channel
            kernels.spread(w + lane * self.itemsize, self.lanes, taps, spread)
            if bias != NULL:
                kernels.spread(bias + column * self.itemsize, 1, 1, spread + taps * self.lanes * self.itemsize)
            plane = y.data + (b.origin[0] * y.n + column * y.c + b.origin[1] * y.axis[0] + b.origin[2] * y.axis[1]
                              + b.origin[3] * y.axis[2]) * self.itemsize
            if lane == 0:
                for i in range(3):
                    first[i] = b.origin[i + 1] // self.out_step[i]
                self.runs.fill(self, &a, first, b.count[3], <fc_run *>(spread + self.rows_bytes))
            self.channel(kernels, &a, y, b, first, plane, spread, bias != NULL, strict, activation)
            if activation > FC_RELU6:
                self.activate_rows(kernels, y, b, plane, 1, activation)

    cdef void channel(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                      const ptrdiff_t *first, char *plane, char *spread, bint biased, bint strict,
                      fc_activation activation) noexcept nogil:
        """One channel of a box whose first cell is `first`.

        `strict`: a weight isn't finite, so zeros of the strip mustn't meet it; columns of one lane leave them out.
        """
        cdef fc_run *every = <fc_run *>(spread + self.rows_bytes)
        cdef fc_run *run = every + self.runs.count * self.red
        cdef char *rows = spread + self.spread_bytes
        cdef ptrdiff_t n, d, h, w, i, ph, cells, row
        cdef ptrdiff_t cell[3]
        cdef const Phase *phase
        cdef fc_slide s
        cdef fc_ahead ahead[2]
        s.run, s.w, s.w_vector, s.b_vector = run, spread, 0, 0
        s.lines, s.x_line, s.y_line = 1, 0, 0
        s.b = spread + self.ntap * self.red * self.lanes * self.itemsize if biased else NULL
        s.x_lane = lane_step(self)
        s.x_step, s.x_vector, s.y_vector = self.in_step[1] * a.axis[1], s.x_lane * self.lanes, self.lanes
        s.activation = activation if activation <= FC_RELU6 else FC_IDENTITY
        row = ceil_div(ceil_div(b.count[3], self.out_step[2]), self.lanes) * self.lanes
        for n in range(b.count[0]):
            for ph in range(self.phases):
                phase = self.phase + ph
                s.results = ceil_div(b.count[2] - phase.first[1], self.out_step[1])
                cells = ceil_div(b.count[3] - phase.first[2], self.out_step[2])
                cell[1] = first[1]
                for d in range(ceil_div(b.count[1] - phase.first[0], self.out_step[0])):
                    cell[0] = first[0] + d
                    s.lanes = 1 if strict else cells
                    for i in range(cells if strict else 1):
                        w = i * s.lanes
                        cell[2] = first[2] + w
                        if strict:
                            self.runs.fill(self, a, cell, 1, every)
                        s.runs = self.runs.there(self, ph, cell, not strict, every, run)
                        s.x = a.data + (n * a.n + d * self.in_step[0] * a.axis[0] + w * s.x_lane) * self.itemsize
                        h = (d * self.out_step[0] + phase.first[0])
                        if self.out_step[2] == 1:
                            s.y_step = self.out_step[1] * y.axis[1]
                            s.y = plane + (n * y.n + h * y.axis[0] + phase.first[1] * y.axis[1] + w) * self.itemsize
                        else:
                            s.y_step = self.out_step[1] * row
                            s.y = rows + (phase.first[2] * self.plane + (h * b.count[2] + phase.first[1]) * row
                                          + w) * self.itemsize
                        s.ahead = NULL
                        if self.runs.far and ph == 0 and i == 0:
                            s.ahead = ahead
                            next_plane(self, &s, a, y, plane + (n * y.n + h * y.axis[0]) * self.itemsize, s.results,
                                       d + 1 == b.count[1])
                        if self.runs.flat and not strict:
                            slide_line(kernels, &s, self.lanes, False)
                        else:
                            kernels.slide(&s)
            if self.out_step[2] > 1:
                for d in range(b.count[1]):
                    for h in range(b.count[2]):
                        kernels.join_phases(
                            rows + (d * b.count[2] + h) * row * self.itemsize, self.plane, self.out_step[2], b.count[3],
                            plane + (n * y.n + d * y.axis[0] + h * y.axis[1]) * self.itemsize)
