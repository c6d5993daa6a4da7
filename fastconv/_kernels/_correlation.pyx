"""Forward and backward-input (rules: _blocks.pyx).

k. Few pixels of a single tap are multiplied by plain weights where these lie (csrc/kernels/few.h): to pack them takes
   longer. The bits are those of packed ones.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from fastconv._kernels._blocks cimport Blocks, Box, Phase, box_of
from fastconv._kernels._planar cimport fill_vectors, is_one_run, row_gap
from fastconv._kernels._runtime cimport (
    FC_FEW_ROWS, FC_IDENTITY, FC_LEAKY_SLOPE, FC_PRODUCT_ROWS, FC_RELU6, FC_ZEROS, Scratch, fc_activation, fc_current,
    fc_gemm, fc_kernels, fc_master, fc_pack, fc_planar, fc_products, fc_rows, fc_settle, fc_this_thread, give_scratch,
    shares_of, take_scratch,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, line, tensor_of

cnp.import_array()

cdef enum:
    SHORT_SUM = 128  # products of a result, at most, where to begin and end a tile takes time that counts
    BLOCK_BYTES = 256  # a row of a block of columns: four vectors of any instruction set, at most


cdef class Correlation(Blocks):
    """Forward, or backward-input (``transposed`` weights), of one shape, order and dtype."""

    def __cinit__(self, *args, **kwargs):
        cdef ptrdiff_t steps = self.ntap * self.red if self.planar else self.ntap
        self.few = (self.in_place and self.ntap == 1 and self.phases == 1 and self.box_count == 1
                    and self.box_pixels() <= FC_FEW_ROWS and not self.lane_cols)
        if self.few:
            self.k_groups = self.col_blocks  # weights are most of the work, and each block has its own
        self.table_bytes = line(((4 if self.planar else 2) * self.box_pixels() + steps + self.ntap) * sizeof(ptrdiff_t))

    @property
    def packed_bytes(self):
        """Bytes of the packed weights and their flags."""
        return self.flag_offset() + line(self.groups * self.col_blocks)

    @property
    def work_items(self):
        return self.box_count * self.group_runs * self.k_groups

    @property
    def scratch_bytes(self):
        """Scratch memory that all threads share: plain weights are packed into it."""
        return self.packed_bytes

    def pack(self, cnp.ndarray w, cnp.ndarray packed):
        """Fill `packed` (packed_bytes long) from contiguous weights; returns whether they were transformed."""
        cdef const char *source = <const char *>cnp.PyArray_DATA(w)
        cdef char *target = <char *>cnp.PyArray_DATA(packed)
        with nogil:
            self.pack_share(fc_current(self.f64), source, target, 0, self.groups * self.col_blocks)
        return False

    def run(self, cnp.ndarray src, cnp.ndarray w, cnp.ndarray packed, bint transformed, cnp.ndarray bias,
            cnp.ndarray dst, int activation, num_threads):
        """dst = activation(correlation of src with w, or with its packed form, + bias)."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef Tensor x = tensor_of(src), y = tensor_of(dst)
        cdef const char *b = <const char *>cnp.PyArray_DATA(bias) if bias is not None else NULL
        cdef const char *raw = <const char *>cnp.PyArray_DATA(w) if packed is None else NULL
        cdef bint few = self.few and packed is None and x.c == 1 and y.c == 1
        cdef ptrdiff_t items = self.work_items
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t
        cdef ptrdiff_t packs = self.groups * self.col_blocks
        cdef Py_ssize_t packers = shares_of(num_threads, packs, self.flops)
        cdef const char *every = <const char *>cnp.PyArray_DATA(packed) if packed is not None else NULL
        cdef bint packs_now = not few if packed is None else self.used < self.ntap
        cdef ptrdiff_t packed_bytes = self.packed_bytes if packs_now else 0
        cdef ptrdiff_t share_bytes = self.share_size()
        cdef Scratch scratch = take_scratch(packed_bytes + shares * share_bytes)
        cdef const char *weights = every if packed is not None and not packs_now else scratch.data
        cdef char *private = scratch.data + packed_bytes
        cdef fc_master master = fc_this_thread()
        with nogil:
            if packs_now:
                # Blocks of packed weights are disjoint.
                for t in prange(packers, num_threads=packers, schedule="static", chunksize=1):
                    fc_settle(&master)
                    if every != NULL:
                        self.copy_share(every, scratch.data, packs * t // packers, packs * (t + 1) // packers)
                    else:
                        self.pack_share(kernels, raw, scratch.data, packs * t // packers, packs * (t + 1) // packers)
            # Items are disjoint boxes x column blocks of dst.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                fc_settle(&master)
                if few:
                    self.share_few(kernels, &x, &y, raw, b, activation, private + t * share_bytes,
                                   items * t // shares, items * (t + 1) // shares)
                else:
                    self.share(kernels, &x, &y, weights, b, activation, private + t * share_bytes,
                               self.first_item(items, t, shares), self.first_item(items, t + 1, shares))
        give_scratch(scratch)

    cdef ptrdiff_t first_item(self, ptrdiff_t items, ptrdiff_t t, ptrdiff_t shares) noexcept nogil:
        """Where share t of the work items begins: all have as many columns, of which the last group may have few."""
        cdef ptrdiff_t sources = items // self.k_groups, part = 0, width = 1, before
        if self.k_groups == 1 or self.lane_cols:
            return items * t // shares
        before = self.padded_cols() * sources * t // shares
        for part in range(self.k_groups):
            width = (min(self.col_blocks * (part + 1) // self.k_groups * self.block, self.padded_cols())
                     - self.col_blocks * part // self.k_groups * self.block)
            if before <= width * sources:
                break
            before -= width * sources
        return part * sources + (before + width // 2) // width

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *weights,
                    const char *bias, int activation, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups outermost, then groups, then boxes; of a single source, one load."""
        cdef uint64_t state = kernels.enter()
        cdef ptrdiff_t item, box, run, g0, g1, part, kb0, kb1
        cdef ptrdiff_t sources = self.box_count * self.group_runs
        cdef Box b, last
        cdef Tensor a
        cdef fc_gemm t
        cdef int i
        last = box_of(self.extent, self.grain, self.boxes, 0)
        t.rows = 0
        for item in range(item0, item1):
            box = item % self.box_count
            run = item // self.box_count % self.group_runs
            part = item // self.box_count // self.group_runs
            b = box_of(self.extent, self.grain, self.boxes, box)
            g0, g1 = self.groups * run // self.group_runs, self.groups * (run + 1) // self.group_runs
            kb0, kb1 = self.col_blocks * part // self.k_groups, self.col_blocks * (part + 1) // self.k_groups
            if item == item0 or sources > 1:
                if self.planar and is_one_run(self, x, y, &b):
                    a = self.place(x, &b, g0 * self.red)
                else:
                    a = self.source(kernels, x, &b, kb0, g0 * self.red, (g1 - g0) * self.red, private)
            for i in range(4):
                if b.count[i] != last.count[i]:
                    t.rows = 0
            last = b
            self.item(kernels, &a, y, &b, g0, g1, kb0, kb1, weights, bias, <fc_activation>activation, &t,
                      private + self.strip_bytes)
        kernels.leave(state)

    cdef void share_few(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *w,
                        const char *bias, int activation, char *private, ptrdiff_t item0,
                        ptrdiff_t item1) noexcept nogil:
        """Column blocks [item0, item1), counted over (group, block), of the only box, from plain weights."""
        cdef uint64_t state = kernels.enter()
        cdef Box b = box_of(self.extent, self.grain, self.boxes, 0)
        cdef ptrdiff_t *row = <ptrdiff_t *>(private + self.rows_bytes)
        cdef ptrdiff_t item = item0, g, kb, last, column
        cdef ptrdiff_t begin[3]
        cdef Tensor a
        cdef fc_pack block
        cdef fc_gemm t
        begin[0] = begin[1] = begin[2] = 0
        t.row, t.crow, t.seg, t.bseg, t.accumulate = row, row + self.box_pixels(), row + 2 * self.box_pixels(), NULL, 0
        t.rows = self.fill_rows(x, y, &b, &self.phase[0], begin, &b.count[1], row, row + self.box_pixels(), 0)
        t.activation = <fc_activation>activation if activation <= FC_RELU6 else FC_IDENTITY
        while item < item1:
            g, kb = item // self.col_blocks, item % self.col_blocks
            last = min(item1, (g + 1) * self.col_blocks) - g * self.col_blocks
            column = g * self.cols + kb * self.block
            a = self.place(x, &b, g * self.red)
            block = self.pack_job(w, g, kb, 0, self.red, NULL)
            t.a, t.b, t.n = a.data, block.src, min(last * self.block, self.cols) - kb * self.block
            t.nseg = self.fill_segments(&a, &self.phase[0], <ptrdiff_t *>t.seg, &t)
            t.bias = bias + column * self.itemsize if bias != NULL else NULL
            t.c = y.data + column * self.itemsize
            kernels.few_rows(&t, block.col, block.red)
            if activation > FC_RELU6:
                self.activate_pixels(kernels, y, &b, <char *>t.c, t.n, <fc_activation>activation)
            item = g * self.col_blocks + last
        kernels.leave(state)

    cdef void item(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b, ptrdiff_t g0,
                   ptrdiff_t g1, ptrdiff_t kb0, ptrdiff_t kb1, const char *weights, const char *bias,
                   fc_activation activation, fc_gemm *t, char *private) noexcept nogil:
        """One box of groups [g0, g1), of all columns if they are several: every column block.

        t.rows is 0 if the rows of the tile aren't those of the box before.
        """
        cdef ptrdiff_t *row = <ptrdiff_t *>(private + self.rows_bytes)
        cdef bint lanes = self.planar and (y.c == 1 or y.axis[2] == 1)
        cdef ptrdiff_t kb, g, column
        cdef bint finite
        t.row, t.crow, t.seg, t.accumulate = row, row + self.box_pixels(), row + 2 * self.box_pixels(), 0
        t.bseg = NULL
        t.activation = activation if activation <= FC_RELU6 else FC_IDENTITY
        for kb in range(kb0, kb1):
            finite = True
            for g in range(g0, g1):
                finite &= self.is_finite(weights, g, kb)
            t.n = min(self.block, self.cols - kb * self.block)
            for g in range(g0, g1):
                column = g * self.cols + kb * self.block
                t.a = a.data + (g - g0) * self.red * a.c * self.itemsize
                t.b = weights + self.packed_offset(g, kb) * self.itemsize
                t.bias = bias + column * self.itemsize if bias != NULL else NULL
                t.c = y.data + (b.origin[0] * y.n + column * y.c + b.origin[1] * y.axis[0] + b.origin[2] * y.axis[1]
                                + b.origin[3] * y.axis[2]) * self.itemsize
                if lanes and finite:
                    self.multiply_planar(kernels, a, y, b, t, g1 - g0, self.block_width(kb), activation)
                    t.rows = 0
                    break
                self.multiply_columns(kernels, a, y, b, t, self.block_width(kb), not self.is_finite(weights, g, kb),
                                      activation, private)

    cdef bint is_finite(self, const char *weights, ptrdiff_t g, ptrdiff_t kb) noexcept nogil:
        """Whether a strip's zeros, where it has them, add nothing: they do to weights that are not finite."""
        return self.in_place or self.mode != FC_ZEROS or weights[self.flag_offset() + g * self.col_blocks + kb]

    cdef void multiply_columns(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                               fc_gemm *block, ptrdiff_t width, bint strict, fc_activation activation,
                               char *rows) noexcept nogil:
        """One column block of a box by the tile whose lanes are columns: every phase, then the store."""
        cdef bint even = self.phases == 1 and self.ntap * self.red <= SHORT_SUM
        cdef bint direct = y.c == 1 and (y.axis[2] != 1 or self.cols > 1) and not (even and self.cols % self.lanes)
        cdef ptrdiff_t ph, row_width = 0 if direct else width
        cdef ptrdiff_t begin[3]
        cdef ptrdiff_t end[3]
        cdef int i
        cdef fc_gemm t = block[0]
        t.c = block.c if direct else rows
        for ph in range(self.phases):
            t.b = <const char *>block.b + self.phase[ph].tap0 * self.red * width * self.itemsize
            if self.region_channels:
                self.multiply_regions(kernels, a, y, b, &self.phase[ph], &t, width, row_width)
                continue
            t.nseg = self.fill_segments(a, &self.phase[ph], <ptrdiff_t *>t.seg, &t)
            if even and not strict and self.multiply_even(kernels, a, y, b, &t, width, row_width):
                continue
            if t.rows == 0 or self.phases > 1 or not direct:
                for i in range(3):
                    begin[i], end[i] = 0, ceil_div(b.count[i + 1] - self.phase[ph].first[i], self.out_step[i])
                t.rows = self.fill_rows(a, y, b, &self.phase[ph], begin, end, <ptrdiff_t *>t.row,
                                        <ptrdiff_t *>t.crow, row_width)
                block.rows = t.rows
            if strict:
                self.real_taps(kernels, a, b, &self.phase[ph], &t, width)
            else:
                kernels.gemm(&t)
        if direct:
            if activation > FC_RELU6:
                self.activate_pixels(kernels, y, b, <char *>t.c, t.n, activation)
        else:
            if activation > FC_RELU6:
                kernels.activate(activation, FC_LEAKY_SLOPE, rows, rows,
                                 b.count[0] * b.count[1] * b.count[2] * b.count[3] * width, False)
            self.store(kernels, y, b, <char *>block.c, rows, t.n, width)

    cdef bint multiply_even(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                            const fc_gemm *t, ptrdiff_t width, ptrdiff_t row_width) noexcept nogil:
        """A box as dense products over rows of pixels, if its segments are evenly spaced; whether that was done.

        Rows of results are `row_width` apart, or in y if 0. Nothing is read beyond the source: rows aren't short.
        """
        cdef fc_products p
        cdef char bias[BLOCK_BYTES]
        cdef ptrdiff_t s, n, d
        cdef ptrdiff_t to_n = y.n, to_d = y.axis[0]
        if t.nseg == 0:
            return False
        for s in range(2, t.nseg):
            if t.seg[s] - t.seg[s - 1] != t.seg[1] - t.seg[0]:
                return False
        p.points, p.rows, p.segs, p.len, p.n = b.count[2], b.count[3], t.nseg, t.len, width
        p.a_point, p.a_row, p.a_step = self.in_step[1] * a.axis[1], self.pixel_step(a), t.step
        p.a_seg = t.seg[1] - t.seg[0] if t.nseg > 1 else 0
        p.b, p.b_point, p.bias, p.activation, p.accumulate = t.b, 0, t.bias, t.activation, 0
        p.c_row, p.c_point = y.axis[2], y.axis[1]
        if t.bias != NULL and t.n < width:
            memset(bias, 0, width * self.itemsize)
            memcpy(bias, t.bias, t.n * self.itemsize)
            p.bias = bias
        if row_width:
            p.c_row, p.c_point = row_width, row_width * b.count[3]
            to_d = p.c_point * b.count[2]
            to_n = to_d * b.count[1]
        if p.a_point == p.rows * p.a_row and p.c_point == p.rows * p.c_row:
            p.points, p.rows = 1, p.points * p.rows
        if p.rows < FC_PRODUCT_ROWS:
            return False
        for n in range(b.count[0]):
            for d in range(b.count[1]):
                p.a = <const char *>t.a + (t.seg[0] + n * a.n + d * self.in_step[0] * a.axis[0]) * self.itemsize
                p.c = <char *>t.c + (n * to_n + d * to_d) * self.itemsize
                kernels.products(&p)
        return True

    cdef void multiply_regions(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                               const Phase *phase, const fc_gemm *t, ptrdiff_t width,
                               ptrdiff_t row_width) noexcept nogil:
        """A phase of a box, without padding: pixels with the same taps inside the source are multiplied at once."""
        cdef ptrdiff_t origin[3]
        cdef ptrdiff_t stop[3]
        cdef ptrdiff_t begin[3]
        cdef ptrdiff_t end[3]
        cdef int i
        for i in range(3):
            origin[i] = b.origin[i + 1] // self.out_step[i]
            stop[i] = origin[i] + ceil_div(b.count[i + 1] - phase.first[i], self.out_step[i])
        begin[0] = origin[0]
        while begin[0] < stop[0]:
            end[0] = self.region_end(phase, 0, begin[0], stop[0])
            begin[1] = origin[1]
            while begin[1] < stop[1]:
                end[1] = self.region_end(phase, 1, begin[1], stop[1])
                begin[2] = origin[2]
                while begin[2] < stop[2]:
                    end[2] = self.region_end(phase, 2, begin[2], stop[2])
                    self.multiply_region(kernels, a, y, b, phase, t, width, row_width, origin, begin, end)
                    begin[2] = end[2]
                begin[1] = end[1]
            begin[0] = end[0]

    cdef void multiply_region(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                              const Phase *phase, const fc_gemm *box, ptrdiff_t width, ptrdiff_t row_width,
                              const ptrdiff_t *origin, const ptrdiff_t *begin, const ptrdiff_t *end) noexcept nogil:
        """Cells [begin, end) of a box that starts at cell `origin`."""
        cdef fc_gemm t = box[0]
        cdef ptrdiff_t *seg = <ptrdiff_t *>t.seg
        cdef ptrdiff_t *bseg = seg + self.ntap
        cdef const ptrdiff_t *o = self.offset + 3 * phase.tap0
        cdef ptrdiff_t first[3]
        cdef ptrdiff_t last[3]
        cdef ptrdiff_t tap, run = 1, c0 = 0, c1
        cdef int i
        for i in range(3):
            first[i], last[i] = begin[i] - origin[i], end[i] - origin[i]
        t.rows = self.fill_rows(a, y, b, phase, first, last, <ptrdiff_t *>t.row, <ptrdiff_t *>t.crow, row_width)
        t.nseg, t.bseg, t.step = 0, bseg, a.c
        for tap in range(phase.segs):
            if self.inside(o + 3 * tap, begin):
                seg[t.nseg] = self.tap_offset(a, o + 3 * tap)
                bseg[t.nseg] = tap * self.red * width
                t.nseg += 1
        if self.red <= self.region_channels:
            run = self.taps_in_run(a, seg, t.nseg, bseg, self.red * width)
        t.nseg //= run
        for tap in range(t.nseg):
            seg[tap], bseg[tap] = seg[tap * run], bseg[tap * run]
        while c0 < self.red:
            c1 = min(c0 + self.region_channels, self.red) if t.nseg else self.red
            t.a, t.b = <const char *>box.a + c0 * a.c * self.itemsize, <const char *>box.b + c0 * width * self.itemsize
            t.len, t.accumulate = run * (c1 - c0), c0 > 0
            t.activation = box.activation if c1 == self.red else FC_IDENTITY
            kernels.gemm(&t)
            c0 = c1

    cdef ptrdiff_t fill_rows(self, const Tensor *a, const Tensor *y, const Box *b, const Phase *phase,
                             const ptrdiff_t *begin, const ptrdiff_t *end, ptrdiff_t *row, ptrdiff_t *crow,
                             ptrdiff_t width) noexcept nogil:
        """Source and result offsets of the pixels in cells [begin, end) of a phase.

        Rows of results are `width` apart, or in y if 0.
        """
        cdef ptrdiff_t m = 0, n, d, h, w, from_h, to_h
        cdef ptrdiff_t od = self.out_step[0], oh = self.out_step[1], ow = self.out_step[2]
        cdef ptrdiff_t sd = self.in_step[0] * a.axis[0], sh = self.in_step[1] * a.axis[1], sw = self.pixel_step(a)
        cdef ptrdiff_t yw = width if width else y.axis[2]
        cdef ptrdiff_t yh = b.count[3] * width if width else y.axis[1]
        cdef ptrdiff_t yd = b.count[2] * b.count[3] * width if width else y.axis[0]
        cdef ptrdiff_t yn = b.count[1] * b.count[2] * b.count[3] * width if width else y.n
        for n in range(b.count[0]):
            for d in range(begin[0], end[0]):
                for h in range(begin[1], end[1]):
                    from_h = n * a.n + d * sd + h * sh
                    to_h = (n * yn + (d * od + phase.first[0]) * yd + (h * oh + phase.first[1]) * yh
                            + phase.first[2] * yw)
                    for w in range(begin[2], end[2]):
                        row[m] = from_h + w * sw
                        crow[m] = to_h + w * ow * yw
                        m += 1
        return m

    cdef void multiply_planar(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                              fc_gemm *t, ptrdiff_t groups, ptrdiff_t width, fc_activation activation) noexcept nogil:
        """One column block of a box by the tile whose lanes are pixels; results are stored where they belong."""
        cdef fc_planar p
        cdef ptrdiff_t *seg = <ptrdiff_t *>t.seg
        cdef ptrdiff_t *lanes = seg + self.ntap * self.red
        cdef ptrdiff_t ph, tap, c, at
        cdef const char *weights = <const char *>t.b
        cdef const Phase *phase
        p.lanes, p.first, p.gap = lanes, lanes + self.box_pixels(), row_gap(self, a, y, b)
        p.groups, p.a_group, p.b_group = groups, self.red * a.c, self.packed_offset(1, 0)
        p.lane, p.col, t.len = self.out_step[2] * y.axis[2], y.c, 1
        for ph in range(self.phases):
            phase = &self.phase[ph]
            for tap in range(phase.segs):
                at = self.tap_offset(a, self.offset + 3 * (phase.tap0 + tap))
                for c in range(self.red):
                    seg[tap * self.red + c] = at + c * a.c
            t.nseg, t.b = phase.segs * self.red, weights + phase.tap0 * self.red * width * self.itemsize
            p.width = ceil_div(b.count[3] - phase.first[2], self.out_step[2])
            t.rows = fill_vectors(self, a, y, b, phase, p.gap, <ptrdiff_t *>t.row, <ptrdiff_t *>t.crow, lanes)
            kernels.planar_gemm(t, &p)
        if activation > FC_RELU6 and y.axis[2] == 1:
            self.activate_rows(kernels, y, b, <char *>t.c, groups * t.n, activation)
        elif activation > FC_RELU6:
            self.activate_pixels(kernels, y, b, <char *>t.c, groups * t.n, activation)

    cdef void real_taps(self, const fc_kernels *kernels, const Tensor *a, const Box *b, const Phase *phase,
                        fc_gemm *t, ptrdiff_t width) noexcept nogil:
        """A phase's pixels one by one, over the taps that lie inside the source.

        Weights that are not finite would make NaN of the zeros of a strip; padding contributes nothing.
        """
        cdef ptrdiff_t m = 0, tap, i, d, h, w, n
        cdef ptrdiff_t first[3]
        cdef ptrdiff_t cell[3]
        cdef ptrdiff_t seg
        cdef const ptrdiff_t *o = self.offset + 3 * phase.tap0
        cdef fc_gemm one = t[0]
        one.rows, one.len, one.step, one.seg, one.activation = 1, self.red, a.c, &seg, FC_IDENTITY
        for i in range(3):
            first[i] = b.origin[i + 1] // self.out_step[i]
        for n in range(b.count[0]):
            for d in range(ceil_div(b.count[1] - phase.first[0], self.out_step[0])):
                for h in range(ceil_div(b.count[2] - phase.first[1], self.out_step[1])):
                    for w in range(ceil_div(b.count[3] - phase.first[2], self.out_step[2])):
                        one.row, one.crow = t.row + m, t.crow + m
                        one.nseg, one.accumulate = 0, 0
                        kernels.gemm(&one)
                        one.nseg, one.accumulate = 1, 1
                        cell[0], cell[1], cell[2] = first[0] + d, first[1] + h, first[2] + w
                        for tap in range(phase.segs):
                            if self.inside(o + 3 * tap, cell):
                                seg = self.tap_offset(a, o + 3 * tap)
                                one.b = <const char *>t.b + tap * self.red * width * self.itemsize
                                kernels.gemm(&one)
                        if t.activation != FC_IDENTITY:
                            kernels.activate(t.activation, FC_LEAKY_SLOPE, <char *>t.c + t.crow[m] * self.itemsize,
                                             <char *>t.c + t.crow[m] * self.itemsize, t.n, False)
                        m += 1

    cdef void store(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block, char *rows,
                    ptrdiff_t columns, ptrdiff_t width) noexcept nogil:
        cdef fc_rows r
        cdef ptrdiff_t i
        cdef ptrdiff_t image = b.count[1] * b.count[2] * b.count[3] * width
        r.n, r.x_c, r.column_sum = columns, y.c, NULL
        for i in range(3):
            r.x_axis[i], r.count[i] = y.axis[i], b.count[i + 1]
        for i in range(b.count[0]):
            r.x = block + i * y.n * self.itemsize
            r.rows = rows + i * image * self.itemsize
            kernels.store_rows(&r)

    cdef void activate_pixels(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block,
                              ptrdiff_t columns, fc_activation activation) noexcept nogil:
        cdef ptrdiff_t n, d, h, w
        cdef char *pixel
        for n in range(b.count[0]):
            for d in range(b.count[1]):
                for h in range(b.count[2]):
                    for w in range(b.count[3]):
                        pixel = block + (n * y.n + d * y.axis[0] + h * y.axis[1] + w * y.axis[2]) * self.itemsize
                        kernels.activate(activation, FC_LEAKY_SLOPE, pixel, pixel, columns, False)

    cdef void activate_rows(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block,
                            ptrdiff_t columns, fc_activation activation) noexcept nogil:
        cdef ptrdiff_t n, j, d, h
        cdef char *row
        for n in range(b.count[0]):
            for j in range(columns):
                for d in range(b.count[1]):
                    for h in range(b.count[2]):
                        row = block + (n * y.n + j * y.c + d * y.axis[0] + h * y.axis[1]) * self.itemsize
                        kernels.activate(activation, FC_LEAKY_SLOPE, row, row, b.count[3], False)
