"""Forward and backward-input (rules: _blocks.pyx)."""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t

from fastconv._kernels._blocks cimport Blocks, Box, Phase, box_of
from fastconv._kernels._runtime cimport (
    FC_IDENTITY, FC_LEAKY_SLOPE, FC_RELU6, FC_ZEROS, Scratch, fc_activation, fc_current, fc_gemm, fc_kernels,
    fc_master, fc_pad_mode, fc_planar, fc_rows, fc_settle, fc_strip, fc_this_thread, give_scratch, shares_of,
    take_scratch,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, line, tensor_of

cnp.import_array()


cdef class Correlation(Blocks):
    """Forward, or backward-input (``transposed`` weights), of one shape, order and dtype."""

    def __cinit__(self, *args, **kwargs):
        cdef ptrdiff_t steps = self.ntap * self.red if self.planar else self.ntap
        self.table_bytes = line((3 * self.box_pixels() + steps) * sizeof(ptrdiff_t))

    @property
    def packed_bytes(self):
        """Bytes of the packed weights and their flags."""
        return self.flag_offset() + line(self.groups * self.col_blocks)

    @property
    def work_items(self):
        return self.box_count * self.groups * self.k_groups

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
        cdef ptrdiff_t items = self.box_count * self.groups * self.k_groups
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t
        cdef ptrdiff_t packs = self.groups * self.col_blocks
        cdef Py_ssize_t packers = min(shares, packs)
        cdef ptrdiff_t packed_bytes = self.packed_bytes if packed is None else 0
        cdef ptrdiff_t share_bytes = self.share_size()
        cdef Scratch scratch = take_scratch(packed_bytes + shares * share_bytes)
        cdef char *weights = scratch.data if packed is None else <char *>cnp.PyArray_DATA(packed)
        cdef char *private = scratch.data + packed_bytes
        cdef fc_master master = fc_this_thread()
        with nogil:
            if raw != NULL:
                # Blocks of packed weights are disjoint.
                for t in prange(packers, num_threads=packers, schedule="static", chunksize=1):
                    fc_settle(&master)
                    self.pack_share(kernels, raw, weights, packs * t // packers, packs * (t + 1) // packers)
            # Items are disjoint boxes x column blocks of dst.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                fc_settle(&master)
                self.share(kernels, &x, &y, weights, b, activation, private + t * share_bytes,
                           items * t // shares, items * (t + 1) // shares)
        give_scratch(scratch)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *weights,
                    const char *bias, int activation, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups outermost, then groups, then boxes."""
        cdef uint64_t state = kernels.enter()
        cdef ptrdiff_t item, box, g, part, kb0, kb1
        cdef Box b
        cdef Tensor a
        for item in range(item0, item1):
            box = item % self.box_count
            g = item // self.box_count % self.groups
            part = item // self.box_count // self.groups
            b = box_of(self.extent, self.box, self.boxes, box)
            kb0, kb1 = self.col_blocks * part // self.k_groups, self.col_blocks * (part + 1) // self.k_groups
            a = self.source(kernels, x, &b, kb0, g * self.red, self.red, private)
            self.item(kernels, &a, y, &b, g, kb0, kb1, weights, bias, <fc_activation>activation,
                      private + self.strip_bytes)
        kernels.leave(state)

    cdef void item(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b, ptrdiff_t g,
                   ptrdiff_t kb0, ptrdiff_t kb1, const char *weights, const char *bias, fc_activation activation,
                   char *private) noexcept nogil:
        """One box of one group: every phase of every column block, then the store."""
        cdef bint direct = y.c == 1 and self.cols > 1 or y.c == 1 and y.axis[2] != 1
        cdef char *rows = private
        cdef ptrdiff_t *row = <ptrdiff_t *>(private + self.rows_bytes)
        cdef ptrdiff_t *crow = row + self.box_pixels()
        cdef ptrdiff_t *seg = crow + self.box_pixels()
        cdef ptrdiff_t kb, ph, column, width
        cdef bint strict
        cdef fc_gemm t
        cdef char *block
        t.a, t.seg, t.row, t.crow = a.data, seg, row, crow
        t.accumulate = 0
        t.activation = activation if activation <= FC_RELU6 else FC_IDENTITY
        for kb in range(kb0, kb1):
            column = g * self.cols + kb * self.block
            width = self.block_width(kb)
            t.n = min(self.block, self.cols - kb * self.block)
            t.bias = bias + column * self.itemsize if bias != NULL else NULL
            block = y.data + (b.origin[0] * y.n + column * y.c + b.origin[1] * y.axis[0] + b.origin[2] * y.axis[1]
                              + b.origin[3] * y.axis[2]) * self.itemsize
            t.c = block if direct else rows
            strict = self.mode == FC_ZEROS and not weights[self.flag_offset() + g * self.col_blocks + kb]
            if self.planar and y.axis[2] == 1 and not strict:
                t.b, t.c = weights + self.packed_offset(g, kb) * self.itemsize, block
                self.multiply_planar(kernels, a, y, b, &t, seg + self.ntap * self.red)
                if activation > FC_RELU6:
                    self.activate_rows(kernels, y, b, block, t.n, activation)
                continue
            for ph in range(self.phases):
                t.nseg = self.fill_segments(a, &self.phase[ph], seg, &t)
                t.rows = self.fill_rows(a, y, b, &self.phase[ph], row, crow, 0 if direct else width)
                t.b = weights + (self.packed_offset(g, kb) + self.phase[ph].tap0 * self.red * width) * self.itemsize
                if strict:
                    self.real_taps(kernels, a, b, &self.phase[ph], &t, width)
                else:
                    kernels.gemm(&t)
            if direct:
                if activation > FC_RELU6:
                    self.activate_pixels(kernels, y, b, block, t.n, activation)
            else:
                if activation > FC_RELU6:
                    kernels.activate(activation, FC_LEAKY_SLOPE, rows, rows,
                                     b.count[0] * b.count[1] * b.count[2] * b.count[3] * width)
                self.store(kernels, y, b, block, rows, t.n, width)

    cdef ptrdiff_t fill_rows(self, const Tensor *a, const Tensor *y, const Box *b, const Phase *phase,
                             ptrdiff_t *row, ptrdiff_t *crow, ptrdiff_t width) noexcept nogil:
        """Source and result offsets of a phase's pixels; result rows are `width` apart, or in y if 0."""
        cdef ptrdiff_t m = 0, n, d, h, w, from_h, to_h
        cdef ptrdiff_t od = self.out_step[0], oh = self.out_step[1], ow = self.out_step[2]
        cdef ptrdiff_t sd = self.in_step[0] * a.axis[0], sh = self.in_step[1] * a.axis[1], sw = self.pixel_step(a)
        cdef ptrdiff_t yw = width if width else y.axis[2]
        cdef ptrdiff_t yh = b.count[3] * width if width else y.axis[1]
        cdef ptrdiff_t yd = b.count[2] * b.count[3] * width if width else y.axis[0]
        cdef ptrdiff_t yn = b.count[1] * b.count[2] * b.count[3] * width if width else y.n
        for n in range(b.count[0]):
            for d in range(ceil_div(b.count[1] - phase.first[0], od)):
                for h in range(ceil_div(b.count[2] - phase.first[1], oh)):
                    from_h = n * a.n + d * sd + h * sh
                    to_h = (n * yn + (d * od + phase.first[0]) * yd + (h * oh + phase.first[1]) * yh
                            + phase.first[2] * yw)
                    for w in range(ceil_div(b.count[3] - phase.first[2], ow)):
                        row[m] = from_h + w * sw
                        crow[m] = to_h + w * ow * yw
                        m += 1
        return m

    cdef void multiply_planar(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                              fc_gemm *t, ptrdiff_t *lanes) noexcept nogil:
        """One column block of a box by the tile whose lanes are pixels; results are stored where they belong."""
        cdef fc_planar p
        cdef ptrdiff_t *row = <ptrdiff_t *>t.row
        cdef ptrdiff_t *crow = <ptrdiff_t *>t.crow
        cdef ptrdiff_t *seg = <ptrdiff_t *>t.seg
        cdef ptrdiff_t m = 0, n, d, h, w, i, tap, c, at
        for n in range(b.count[0]):
            for d in range(b.count[1]):
                for h in range(b.count[2]):
                    for i in range(ceil_div(b.count[3], self.lanes)):
                        w = i * self.lanes
                        row[m] = n * a.n + d * self.in_step[0] * a.axis[0] + h * self.in_step[1] * a.axis[1] + w
                        crow[m] = n * y.n + d * y.axis[0] + h * y.axis[1] + w
                        lanes[m] = min(self.lanes, b.count[3] - w)
                        m += 1
        for tap in range(self.ntap):
            at = self.tap_offset(a, self.offset + 3 * tap)
            for c in range(self.red):
                seg[tap * self.red + c] = at + c * a.c
        t.rows, t.nseg, t.len = m, self.ntap * self.red, 1
        p.col, p.lanes = y.c, lanes
        kernels.planar_gemm(t, &p)

    cdef void real_taps(self, const fc_kernels *kernels, const Tensor *a, const Box *b, const Phase *phase,
                        fc_gemm *t, ptrdiff_t width) noexcept nogil:
        """A phase's pixels one by one, over the taps that lie inside the source.

        Weights that are not finite would make NaN of the zeros of a strip; padding contributes nothing.
        """
        cdef ptrdiff_t m = 0, tap, i, d, h, w, n, at_i
        cdef ptrdiff_t at[3]
        cdef ptrdiff_t seg
        cdef const ptrdiff_t *o = self.offset + 3 * phase.tap0
        cdef bint inside
        cdef fc_gemm one = t[0]
        one.rows, one.len, one.step, one.seg, one.activation = 1, self.red, a.c, &seg, FC_IDENTITY
        for n in range(b.count[0]):
            for d in range(ceil_div(b.count[1] - phase.first[0], self.out_step[0])):
                for h in range(ceil_div(b.count[2] - phase.first[1], self.out_step[1])):
                    for w in range(ceil_div(b.count[3] - phase.first[2], self.out_step[2])):
                        one.row, one.crow = t.row + m, t.crow + m
                        one.nseg, one.accumulate = 0, 0
                        kernels.gemm(&one)
                        one.nseg, one.accumulate = 1, 1
                        at[0], at[1], at[2] = d, h, w
                        for tap in range(phase.segs):
                            inside = True
                            seg = self.tap_offset(a, o + 3 * tap)
                            for i in range(3):
                                at_i = (b.origin[i + 1] // self.out_step[i] + at[i]) * self.in_step[i] + o[3 * tap + i]
                                inside = inside and 0 <= at_i < self.src[i]
                            if inside:
                                one.b = <const char *>t.b + tap * self.red * width * self.itemsize
                                kernels.gemm(&one)
                        if t.activation != FC_IDENTITY:
                            kernels.activate(t.activation, FC_LEAKY_SLOPE, <char *>t.c + t.crow[m] * self.itemsize,
                                             <char *>t.c + t.crow[m] * self.itemsize, t.n)
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
                        kernels.activate(activation, FC_LEAKY_SLOPE, pixel, pixel, columns)

    cdef void activate_rows(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block,
                            ptrdiff_t columns, fc_activation activation) noexcept nogil:
        cdef ptrdiff_t n, j, d, h
        cdef char *row
        for n in range(b.count[0]):
            for j in range(columns):
                for d in range(b.count[1]):
                    for h in range(b.count[2]):
                        row = block + (n * y.n + j * y.c + d * y.axis[0] + h * y.axis[1]) * self.itemsize
                        kernels.activate(activation, FC_LEAKY_SLOPE, row, row, b.count[3])


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
