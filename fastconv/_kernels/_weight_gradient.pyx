"""Backward-weight: dw and db (rules: _blocks.pyx)."""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport isfinite
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastconv._kernels._blocks cimport Blocks, Box, box_of
from fastconv._kernels._runtime cimport (
    FC_IDENTITY, FC_ZEROS, Scratch, fc_current, fc_gemm, fc_join, fc_kernels, fc_lane_map, fc_master, fc_pack, fc_rows,
    fc_settle, fc_this_thread, give_scratch, shares_of, take_scratch,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, line, tensor_of

cnp.import_array()

cdef enum:
    DW_ROWS = 24  # of dw that are written side by side: whole tiles of any width


cdef bint all_finite(const char *a, ptrdiff_t n, bint f64) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(n):
        if not isfinite((<const double *>a)[i] if f64 else (<const float *>a)[i]):
            return False
    return True


cdef class PartialSums(Blocks):
    """Runs work items that fill partial sums [part][group][block][tap][channel][column], then joins the parts.

    A single part needs no joining: each item keeps its sums private and moves them to dw itself.
    """

    @property
    def scratch_bytes(self):
        """Bytes of all partial sums."""
        return (line(self.parts * self.groups * self.padded_cols() * self.itemsize)
                + (0 if self.single() else line(self.parts * self.packed_size() * self.itemsize)))

    @property
    def work_items(self):
        return self.item_count()

    cdef bint single(self) noexcept nogil:
        return self.parts == 1 and not self.lane_cols

    cdef ptrdiff_t item_count(self) noexcept nogil:
        return self.groups * self.parts * self.k_groups * self.c_parts

    def run(self, cnp.ndarray src, cnp.ndarray grad, cnp.ndarray dw, cnp.ndarray db, bint accumulate, num_threads):
        """dw (contiguous) and db from x and dy; either result may be None."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef Tensor x = tensor_of(src), dy = tensor_of(grad)
        cdef ptrdiff_t items = self.item_count(), joins = self.groups * self.col_blocks
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t
        cdef ptrdiff_t sums = line(self.parts * self.groups * self.padded_cols() * self.itemsize)
        cdef bint shared = dw is not None and not self.single()
        cdef ptrdiff_t partial = line(self.parts * self.packed_size() * self.itemsize) if shared else 0
        cdef Py_ssize_t joiners = min(shares, joins) if shared else 1
        cdef ptrdiff_t share_bytes = self.share_size()
        cdef Scratch scratch = take_scratch(sums + partial + shares * share_bytes)
        cdef char *private = scratch.data + sums + partial
        cdef Gradient d
        cdef fc_master master = fc_this_thread()
        d.column_sums, d.accumulate = scratch.data, accumulate
        d.part = scratch.data + sums if shared else NULL
        d.dw = <char *>cnp.PyArray_DATA(dw) if dw is not None else NULL
        d.db = <char *>cnp.PyArray_DATA(db) if db is not None else NULL
        with nogil:
            # Items are disjoint (part, group, column block, channel part) pieces of the partial sums, or of dw.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                fc_settle(&master)
                self.share(kernels, &x, &dy, &d, private + t * share_bytes, items * t // shares,
                           items * (t + 1) // shares)
            # Joins are disjoint (group, column block) pieces of dw and db.
            for t in prange(joiners, num_threads=joiners, schedule="static", chunksize=1):
                fc_settle(&master)
                self.join(kernels, &d, joins * t // joiners, joins * (t + 1) // joiners)
        give_scratch(scratch)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, const Gradient *d,
                    char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1); each subclass has its own."""

    cdef void join(self, const fc_kernels *kernels, const Gradient *d, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Add the parts up, in order, into (group, column block) pieces of dw and db."""
        cdef uint64_t state = kernels.enter()
        cdef fc_join j
        cdef fc_lane_map m
        cdef ptrdiff_t item, g, kb
        j.parts, j.accumulate = self.parts, d.accumulate
        for item in range(item0, item1):
            g, kb = item // self.col_blocks, item % self.col_blocks
            j.n = min(self.block, self.cols - kb * self.block)
            if d.part != NULL and self.lane_cols and self.red > 1:
                j.part, j.part_stride = d.part + self.packed_offset(g, kb) * self.itemsize, self.packed_size()
                j.len, j.red, j.ntap, j.col, j.dst = self.red, self.ntap, self.ntap, self.red * self.ntap, d.dw
                m = self.lane_map(kb)
                kernels.join_lanes(&j, &m)
            elif d.part != NULL:
                self.join_block(kernels, d, d.part + self.packed_offset(g, kb) * self.itemsize, g, kb, 0, self.red)
            if d.db != NULL:
                j.part = d.column_sums + (g * self.padded_cols() + kb * self.block) * self.itemsize
                j.part_stride = self.groups * self.padded_cols()
                j.len, j.red, j.ntap, j.col = 1, 1, 1, 1
                j.dst = d.db + (g * self.cols + kb * self.block) * self.itemsize
                kernels.join_weight(&j)
        kernels.leave(state)

    cdef void join_block(self, const fc_kernels *kernels, const Gradient *d, const char *part, ptrdiff_t g,
                         ptrdiff_t kb, ptrdiff_t c0, ptrdiff_t c1) noexcept nogil:
        """Move the sums [tap][c1 - c0][column] of a block, of all parts, to dw's channels [c0, c1)."""
        cdef fc_join j
        j.part, j.part_stride, j.parts, j.accumulate = part, self.packed_size(), self.parts, d.accumulate
        j.n = min(self.block, self.cols - kb * self.block)
        j.len, j.red, j.ntap, j.col = c1 - c0, self.ntap, self.ntap, self.red * self.ntap
        j.dst = d.dw + ((g * self.cols + kb * self.block) * j.col + c0 * self.ntap) * self.itemsize
        kernels.join_weight(&j)


@cython.final
cdef class WeightGradient(PartialSums):
    """dw and db of one shape, order and dtype.

    Work item = (group, part, column group, channel part). A part is a fixed run of boxes with partial
    sums of its own; the parts are joined in order. Zeros of a padded strip would make NaN of a dy that isn't finite,
    which its sums tell: from then on each tap takes the pixels for which it lies in the source.
    """

    cdef ptrdiff_t private_block  # elements of a column block's sums, where an item keeps its own
    cdef bint few  # pixels of the only tap, evenly spaced

    def __cinit__(self, *args, **kwargs):
        cdef ptrdiff_t channels = ceil_div(self.red, self.c_parts)
        self.rows_bytes += line(self.block * self.itemsize)  # sums of dy whose db isn't this item's
        self.table_bytes = line(
            2 * (self.ntap * channels + self.box[0] * self.box[1] * self.box[2]) * sizeof(ptrdiff_t))
        self.few = (self.in_place and self.ntap == 1 and self.single() and self.box_pixels() == self.pixels()
                    and self.pixels() <= self.block // 2 and self.red >= self.lanes
                    and (self.n == self.pixels() or self.extent[3] == self.pixels()))
        self.private_block = self.ntap * channels * self.block if self.single() else 0

    cdef ptrdiff_t pixels(self) noexcept nogil:
        return self.extent[0] * self.extent[1] * self.extent[2] * self.extent[3]

    cdef ptrdiff_t share_size(self) noexcept nogil:
        return (self.strip_bytes + self.rows_bytes + self.table_bytes
                + line(ceil_div(self.col_blocks, self.k_groups) * self.private_block * self.itemsize))

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, const Gradient *d,
                    char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): channel parts innermost, then column groups, parts, groups."""
        cdef uint64_t state = kernels.enter()
        cdef ptrdiff_t item, g, q, cp, kp, kb, box, c0, c1, kb0, kb1
        cdef char *own = private + self.strip_bytes + self.rows_bytes + self.table_bytes
        cdef char *sums
        cdef bint first
        cdef Box b
        cdef Tensor a
        cdef const Gradient *whole = d
        cdef Gradient sums_alone = d[0]
        cdef bint few = self.few and x.c == 1 and d.dw != NULL
        if few:
            sums_alone.dw = NULL
            d = &sums_alone
        for item in range(item0, item1):
            cp = item % self.c_parts
            kp = item // self.c_parts % self.k_groups
            q = item // self.c_parts // self.k_groups % self.parts
            g = item // self.c_parts // self.k_groups // self.parts
            c0, c1 = self.red * cp // self.c_parts, self.red * (cp + 1) // self.c_parts
            kb0, kb1 = self.col_blocks * kp // self.k_groups, self.col_blocks * (kp + 1) // self.k_groups
            if few:
                self.add_rows(kernels, x, dy, whole, g, kb0 * self.block, min(kb1 * self.block, self.cols), c0, c1,
                              private + self.strip_bytes + self.rows_bytes, own)
            first = True
            for box in range(self.box_count * q // self.parts, self.box_count * (q + 1) // self.parts):
                b = box_of(self.extent, self.grain, self.boxes, box)
                if d.dw != NULL:
                    a = self.source(kernels, x, &b, kb0, g * self.red + c0, c1 - c0, private)
                for kb in range(kb0, kb1):
                    if d.part != NULL:
                        sums = d.part + (q * self.packed_size() + self.packed_offset(g, kb)) * self.itemsize
                    else:
                        sums = own + (kb - kb0) * self.private_block * self.itemsize
                    self.add_box(kernels, &a, dy, &b, g, q, kb, c0, c1, first, d, sums, private + self.strip_bytes)
                first = False
            if d.dw != NULL and self.single():
                for kb in range(kb0, kb1):
                    self.join_block(kernels, d, own + (kb - kb0) * self.private_block * self.itemsize, g, kb, c0, c1)
        kernels.leave(state)

    cdef void add_rows(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, const Gradient *d,
                       ptrdiff_t g, ptrdiff_t k0, ptrdiff_t k1, ptrdiff_t c0, ptrdiff_t c1, char *table,
                       char *packed) noexcept nogil:
        """Columns [k0, k1) and channels [c0, c1) of dw from few pixels: here columns are the tile's rows.

        So dw, whose channels are adjacent, is written where it belongs.
        """
        cdef bint images = self.n == self.pixels()
        cdef ptrdiff_t *row = <ptrdiff_t *>table
        cdef ptrdiff_t k, c, i, seg = 0, first = 0, most = min(<ptrdiff_t>DW_ROWS, ceil_div(self.red, self.c_parts))
        cdef fc_gemm t
        cdef fc_pack p
        t.row, t.crow, t.seg, t.nseg, t.len, t.bseg = row, row + most, &seg, 1, self.pixels(), NULL
        t.step, t.bias, t.activation, t.accumulate = dy.n if images else dy.axis[2], NULL, FC_IDENTITY, d.accumulate
        p.col, p.len, p.ntap, p.at = 1, t.len, 1, &first
        p.red = x.n if images else self.in_step[2] * x.axis[2]
        for i in range(most):
            row[i], row[most + i] = i * dy.c, i * self.red
        for i in range(ceil_div(c1 - c0, self.block)):
            c = c0 + i * self.block
            p.src, p.n = x.data + (g * self.red + c) * self.itemsize, min(self.block, c1 - c)
            p.dst = packed + (c - c0) * t.len * self.itemsize
            kernels.pack_weight(&p)
        k = k0
        while k < k1:
            t.rows, t.a = min(most, k1 - k), dy.data + (g * self.cols + k) * dy.c * self.itemsize
            for i in range(ceil_div(c1 - c0, self.block)):
                c = c0 + i * self.block
                t.n, t.b = min(self.block, c1 - c), packed + (c - c0) * t.len * self.itemsize
                t.c = d.dw + ((g * self.cols + k) * self.red + c) * self.itemsize
                kernels.gemm(&t)
            k += t.rows

    cdef void add_box(self, const fc_kernels *kernels, const Tensor *a, const Tensor *dy, const Box *b, ptrdiff_t g,
                      ptrdiff_t q, ptrdiff_t kb, ptrdiff_t c0, ptrdiff_t c1, bint first, const Gradient *d, char *sums,
                      char *private) noexcept nogil:
        """Add one box's products to the sums of a column block and channels [c0, c1)."""
        cdef char *rows = private
        cdef ptrdiff_t *row = <ptrdiff_t *>(private + self.rows_bytes)
        cdef ptrdiff_t *crow = row + self.ntap * ceil_div(self.red, self.c_parts)
        cdef ptrdiff_t *seg = crow + self.ntap * ceil_div(self.red, self.c_parts)
        cdef ptrdiff_t width = self.block_width(kb), i
        cdef char *column_sums = d.column_sums + (
            (q * self.groups + g) * self.padded_cols() + kb * self.block) * self.itemsize
        cdef fc_gemm t
        cdef Box real
        if c0 > 0:
            column_sums = rows + self.rows_bytes - line(self.block * self.itemsize)
        if first or c0 > 0:
            memset(column_sums, 0, width * self.itemsize)
        self.load_gradient(kernels, dy, b, g, kb, rows, column_sums)
        if d.dw == NULL:
            return
        t.a, t.row, t.crow, t.seg, t.b, t.c, t.n = a.data, row, crow, seg, rows, sums, width
        t.bias, t.activation, t.accumulate = NULL, FC_IDENTITY, not first
        t.bseg, t.step = seg + b.count[0] * b.count[1] * b.count[2], self.in_step[2] * a.axis[2]
        t.rows = self.fill_rows(a, c0, c1, width, row, crow)
        if not self.region_channels and (self.mode != FC_ZEROS or all_finite(column_sums, width, self.f64)):
            self.fill_pixels(a, b, b, width, &t)
            kernels.gemm(&t)
            return
        # Tap by tap, over the pixels for which it lies in the source.
        t.rows = c1 - c0
        for i in range(self.ntap):
            real = self.real_pixels(b, self.offset + 3 * i)
            self.fill_pixels(a, b, &real, width, &t)
            t.row, t.crow = row + i * t.rows, crow + i * t.rows
            kernels.gemm(&t)

    cdef void load_gradient(self, const fc_kernels *kernels, const Tensor *dy, const Box *b, ptrdiff_t g,
                            ptrdiff_t kb, char *rows, char *sums) noexcept nogil:
        """dy of one box and column block as rows of pixels; its sums over pixels are added to `sums`."""
        cdef fc_rows r
        cdef ptrdiff_t i, column = g * self.cols + kb * self.block
        cdef ptrdiff_t image = b.count[1] * b.count[2] * b.count[3] * self.block_width(kb)
        r.n, r.x_c, r.column_sum = min(self.block, self.cols - kb * self.block), dy.c, sums
        for i in range(3):
            r.x_axis[i], r.count[i] = dy.axis[i], b.count[i + 1]
        for i in range(b.count[0]):
            r.x = dy.data + ((b.origin[0] + i) * dy.n + column * dy.c + b.origin[1] * dy.axis[0]
                             + b.origin[2] * dy.axis[1] + b.origin[3] * dy.axis[2]) * self.itemsize
            r.rows = rows + i * image * self.itemsize
            kernels.load_rows(&r)

    cdef ptrdiff_t fill_rows(self, const Tensor *a, ptrdiff_t c0, ptrdiff_t c1, ptrdiff_t width, ptrdiff_t *row,
                             ptrdiff_t *crow) noexcept nogil:
        """Rows (tap, channel): where the source of the first pixel lies, and the row of the sums."""
        cdef ptrdiff_t m = 0, t, c, at
        cdef ptrdiff_t first = c0 if self.single() else 0, channels = c1 - c0 if self.single() else self.red
        cdef const ptrdiff_t *o
        for t in range(self.ntap):
            o = self.offset + 3 * t
            at = ((o[0] - self.low[0]) * a.axis[0] + (o[1] - self.low[1]) * a.axis[1]
                  + (o[2] - self.low[2]) * a.axis[2])
            for c in range(c0, c1):
                row[m] = at + (c - c0) * a.c
                crow[m] = (t * channels + c - first) * width
                m += 1
        return m

    cdef Box real_pixels(self, const Box *b, const ptrdiff_t *offset) noexcept nogil:
        """The part of a box for which a tap lies in the source, not on padding."""
        cdef Box r = b[0]
        cdef ptrdiff_t first, last
        cdef int i
        for i in range(3):
            first = max(r.origin[i + 1], ceil_div(-offset[i], self.in_step[i]))
            last = min(r.origin[i + 1] + r.count[i + 1], ceil_div(self.src[i] - offset[i], self.in_step[i]))
            r.origin[i + 1], r.count[i + 1] = first, max(0, last - first)
        return r

    cdef void fill_pixels(self, const Tensor *a, const Box *b, const Box *part, ptrdiff_t width,
                          fc_gemm *t) noexcept nogil:
        """One segment for each row of pixels of a part of the box."""
        cdef ptrdiff_t *seg = <ptrdiff_t *>t.seg
        cdef ptrdiff_t *bseg = <ptrdiff_t *>t.bseg
        cdef ptrdiff_t s = 0, n, d, h, w = part.origin[3] - b.origin[3]
        for n in range(b.count[0]):
            for d in range(part.origin[1] - b.origin[1], part.origin[1] - b.origin[1] + part.count[1]):
                for h in range(part.origin[2] - b.origin[2], part.origin[2] - b.origin[2] + part.count[2]):
                    seg[s] = n * a.n + d * self.in_step[0] * a.axis[0] + h * self.in_step[1] * a.axis[1] + w * t.step
                    bseg[s] = (((n * b.count[1] + d) * b.count[2] + h) * b.count[3] + w) * width
                    s += 1
        t.nseg, t.len = s if part.count[3] else 0, part.count[3]
