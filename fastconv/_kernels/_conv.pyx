"""Convolution drivers: which box, channel block and chunk goes to which thread.

a. Forward and backward-input are one driver, :class:`Correlation`; backward-weight is
   :class:`WeightGradient`. What a call does is fixed by its plan (fastconv/planning.py), which knows
   shapes and kernels but neither the arrays nor the number of threads.
b. Every parallel loop runs over shares: share t of T does the work items [n * t / T, n * (t + 1) / T)
   with scratch number t. Items don't depend on T, so neither do the bits.
c. Sizes, offsets and strides count elements; `char *` arithmetic multiplies by the itemsize once.
d. Three axes, always: d h w. Arrays with fewer spatial axes have extent 1 and stride 0 in front.
e. Grouped convolution with few columns a group puts lanes of different groups into one vector: then all
   groups together are one, a block is one vector, and strips and tiles are those of csrc/kernels/lanes.h.
f. A thread reads nothing that another thread has just written, but packed weights and partial sums.
"""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

from fastconv._kernels._runtime cimport (
    FC_IDENTITY, FC_LEAKY_SLOPE, FC_RELU6, FC_ZEROS, Scratch, fc_activation, fc_current, fc_gemm, fc_join, fc_kernels,
    fc_lane_map, fc_pack, fc_pad_mode, fc_rows, fc_strip, give_scratch, shares_of, take_scratch,
)

cnp.import_array()


cdef struct Tensor:
    # An array of shape (n, c, d, h, w); strides in elements.
    char *data
    ptrdiff_t n, c
    ptrdiff_t axis[3]


cdef struct Phase:
    # Outputs first + out_step * i share the taps [seg0, seg0 + segs) of the packed order.
    ptrdiff_t first[3]
    ptrdiff_t seg0, segs   # in Blocks.seg
    ptrdiff_t tap0         # first tap in packed order


cdef struct Box:
    # One box of results: images [n0, n0 + count[0]), then d h w.
    ptrdiff_t origin[4]
    ptrdiff_t count[4]


cdef Tensor tensor_of(cnp.ndarray a):
    """View of (n, c, *spatial) with one to three spatial axes."""
    cdef Tensor t
    cdef int spatial = cnp.PyArray_NDIM(a) - 2, i
    cdef ptrdiff_t itemsize = cnp.PyArray_ITEMSIZE(a)
    t.data = <char *>cnp.PyArray_DATA(a)
    t.n = cnp.PyArray_STRIDE(a, 0) // itemsize
    t.c = cnp.PyArray_STRIDE(a, 1) // itemsize
    for i in range(3):
        t.axis[i] = cnp.PyArray_STRIDE(a, i - 1 + spatial) // itemsize if i + spatial >= 3 else 0
        # The kernels test for adjacent pixels by stride, which an axis of extent 1 may give freely.
        if i + spatial >= 3 and cnp.PyArray_DIM(a, i - 1 + spatial) == 1 and i == 2 and t.c != 1:
            t.axis[i] = 1
    return t


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline ptrdiff_t line(ptrdiff_t size) noexcept nogil:
    """Bytes rounded up to whole cache lines, so that threads share none."""
    return (size + 63) // 64 * 64


cdef Box box_of(const ptrdiff_t *extent, const ptrdiff_t *box, const ptrdiff_t *boxes, ptrdiff_t index) noexcept nogil:
    """Box number `index`, w fastest, clipped to the extents."""
    cdef Box b
    cdef int i
    for i in range(3, -1, -1):
        b.origin[i] = index % boxes[i] * box[i]
        b.count[i] = min(box[i], extent[i] - b.origin[i])
        index //= boxes[i]
    return b


cdef class Blocks:
    """The C side of a planning.Blocking: extents, strides of the strip, tap tables, scratch sizes."""

    cdef readonly object blocking
    cdef ptrdiff_t itemsize, block, lanes
    cdef bint f64, in_place, transposed
    cdef double flops
    cdef ptrdiff_t strip_bytes, rows_bytes, table_bytes
    cdef fc_pad_mode mode
    cdef ptrdiff_t n, groups, red, cols, ntap
    cdef ptrdiff_t lane_cols      # columns of a group, where lanes belong to different groups; else 0
    cdef ptrdiff_t src[3]
    cdef ptrdiff_t extent[4]      # n and d h w of the results
    cdef ptrdiff_t in_step[3]
    cdef ptrdiff_t out_step[3]
    cdef ptrdiff_t low[3]
    cdef ptrdiff_t high[3]
    cdef ptrdiff_t box[4]
    cdef ptrdiff_t boxes[4]
    cdef ptrdiff_t box_count, col_blocks, k_groups, c_parts, parts
    cdef ptrdiff_t strip_n, strip_c, strip_size
    cdef ptrdiff_t strip_axis[3]
    cdef ptrdiff_t phases
    cdef Phase *phase
    cdef ptrdiff_t *at            # packed position of tap t
    cdef ptrdiff_t *offset        # 3 source offsets of the tap at each packed position

    def __cinit__(self, blocking, ptrdiff_t n, ptrdiff_t groups, ptrdiff_t red, ptrdiff_t cols, kernel, int mode,
                  bint f64, double flops, bint transposed=False):
        cdef const fc_kernels *kernels = fc_current(f64)
        cdef int i
        self.blocking, self.flops, self.transposed = blocking, flops, transposed
        self.f64, self.mode = f64, <fc_pad_mode>mode
        self.itemsize, self.block, self.lanes = kernels.itemsize, kernels.block, kernels.lanes
        self.n, self.groups, self.red, self.cols, self.lane_cols = n, groups, red, cols, 0
        if blocking.lanewise:
            self.groups, self.cols, self.lane_cols, self.block = 1, groups * cols, cols, self.lanes
        self.in_place = blocking.in_place
        self.extent[0] = n
        for i in range(3):
            axis = blocking.axes[i]
            self.src[i], self.extent[i + 1] = axis.src, axis.dst
            self.in_step[i], self.out_step[i] = axis.in_step, axis.out_step
            self.low[i], self.high[i] = axis.low, axis.high
        for i in range(4):
            self.box[i], self.boxes[i] = blocking.box[i], blocking.boxes[i]
        self.box_count = self.boxes[0] * self.boxes[1] * self.boxes[2] * self.boxes[3]
        self.strip_n, self.strip_c = blocking.strip_stride[0], blocking.strip_stride[1]
        for i in range(3):
            self.strip_axis[i] = blocking.strip_stride[i + 2]
        self.strip_size = 0 if self.in_place else self.box[0] * self.strip_n
        self.k_groups, self.c_parts, self.parts = blocking.k_groups, blocking.c_parts, blocking.parts
        self.col_blocks = ceil_div(self.cols, self.block)
        self.ntap = kernel[0] * kernel[1] * kernel[2]
        self._fill_taps(blocking.axes, kernel)
        self.strip_bytes = line(self.strip_size * self.itemsize)
        self.rows_bytes = line(self.box_pixels() * self.block * self.itemsize)

    cdef _fill_taps(self, axes, kernel):
        """Order the taps by phase; taps of no phase (no output in reach) come last."""
        cdef ptrdiff_t position = 0, t
        cdef Phase *phase
        self.phases = len(axes[0].phases) * len(axes[1].phases) * len(axes[2].phases)
        self.phase = <Phase *>malloc(self.phases * sizeof(Phase))
        self.at = <ptrdiff_t *>malloc(self.ntap * sizeof(ptrdiff_t))
        self.offset = <ptrdiff_t *>malloc(3 * self.ntap * sizeof(ptrdiff_t))
        if self.phase == NULL or self.at == NULL or self.offset == NULL:
            raise MemoryError("fastconv: could not allocate the tables of a convolution plan")
        for t in range(self.ntap):
            self.at[t] = -1
        phase = self.phase
        for a, taps_d in enumerate(axes[0].phases):
            for b, taps_h in enumerate(axes[1].phases):
                for c, taps_w in enumerate(axes[2].phases):
                    phase.first[0], phase.first[1], phase.first[2] = a, b, c
                    phase.seg0 = phase.tap0 = position
                    for td, od in taps_d:
                        for th, oh in taps_h:
                            for tw, ow in taps_w:
                                self.at[(td * kernel[1] + th) * kernel[2] + tw] = position
                                self.offset[3 * position] = od
                                self.offset[3 * position + 1] = oh
                                self.offset[3 * position + 2] = ow
                                position += 1
                    phase.segs = position - phase.seg0
                    phase += 1
        for t in range(self.ntap):
            if self.at[t] < 0:
                self.at[t] = position
                position += 1

    @property
    def share_bytes(self):
        """Scratch memory of one thread."""
        return self.strip_bytes + self.rows_bytes + self.table_bytes

    def __dealloc__(self):
        free(self.phase)
        free(self.at)
        free(self.offset)

    cdef ptrdiff_t padded_cols(self) noexcept nogil:
        """Columns of all blocks of a group, the last one rounded up to whole vectors."""
        return ceil_div(self.cols, self.lanes) * self.lanes

    cdef ptrdiff_t block_width(self, ptrdiff_t kb) noexcept nogil:
        return min(self.block, self.padded_cols() - kb * self.block)

    cdef ptrdiff_t packed_size(self) noexcept nogil:
        """Elements of the packed weights of all groups."""
        return self.groups * self.ntap * self.red * self.padded_cols()

    cdef ptrdiff_t flag_offset(self) noexcept nogil:
        """Bytes before the flags that follow the packed weights, one byte a block: its weights are finite."""
        return line(self.packed_size() * self.itemsize)

    cdef ptrdiff_t packed_offset(self, ptrdiff_t g, ptrdiff_t kb) noexcept nogil:
        return (g * self.padded_cols() + kb * self.block) * self.ntap * self.red

    cdef ptrdiff_t box_pixels(self) noexcept nogil:
        return self.box[0] * self.box[1] * self.box[2] * self.box[3]

    cdef fc_lane_map lane_map(self, ptrdiff_t kb) noexcept nogil:
        cdef fc_lane_map m
        m.lane0, m.lanes = kb * self.block, min(self.block, self.cols - kb * self.block)
        m.cols, m.red = self.lane_cols, self.red
        return m

    cdef void load(self, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t kb, ptrdiff_t channel,
                   ptrdiff_t channels, char *strip) noexcept nogil:
        """Copy the source of a box, padded: channels [channel, channel + channels), or those of block kb's lanes."""
        cdef fc_strip s
        cdef fc_lane_map m = self.lane_map(kb)
        cdef ptrdiff_t i, cells
        s.mode = self.mode
        s.channels = channels
        s.src_c, s.dst_c = x.c, self.strip_c
        for i in range(3):
            s.src_axis[i], s.dst_axis[i] = x.axis[i], self.strip_axis[i]
            s.extent[i] = self.src[i]
            cells = ceil_div(b.count[i + 1], self.out_step[i])
            s.lo[i] = b.origin[i + 1] // self.out_step[i] * self.in_step[i] + self.low[i]
            s.count[i] = (cells - 1) * self.in_step[i] + self.high[i] - self.low[i] + 1
        for i in range(b.count[0]):
            s.src = x.data + ((b.origin[0] + i) * x.n + channel * x.c) * self.itemsize
            s.dst = strip + i * self.strip_n * self.itemsize
            if self.lane_cols:
                kernels.load_lanes(&s, &m)
            else:
                kernels.load_strip(&s)

    cdef void multiply(self, const fc_kernels *kernels, const fc_gemm *t) noexcept nogil:
        if self.lane_cols:
            kernels.lane_gemm(t)
        else:
            kernels.gemm(t)

    cdef ptrdiff_t fill_segments(self, const Tensor *a, const Phase *phase, ptrdiff_t *seg, fc_gemm *g) noexcept nogil:
        """Offsets of a phase's taps in the strip (or in the source) and the reduction's len and step.

        Taps along w that continue the run of channels are one segment.
        """
        cdef ptrdiff_t t, run = 1, gap
        cdef const ptrdiff_t *o = self.offset + 3 * phase.tap0
        g.len, g.step = self.red, a.c
        for t in range(phase.segs):
            seg[t] = ((o[3 * t] - self.low[0]) * a.axis[0] + (o[3 * t + 1] - self.low[1]) * a.axis[1]
                      + (o[3 * t + 2] - self.low[2]) * a.axis[2])
        if phase.segs < 2:
            return phase.segs
        gap = seg[1] - seg[0]
        if not ((a.c == 1 and gap == self.red) or self.red == 1):
            return phase.segs
        while run < phase.segs and seg[run] - seg[run - 1] == gap:
            run += 1
        if phase.segs % run:
            return phase.segs
        for t in range(1, phase.segs):
            if t % run and seg[t] - seg[t - 1] != gap:
                return phase.segs
        if self.red == 1:
            g.step = gap
        g.len = run * self.red
        for t in range(phase.segs // run):
            seg[t] = seg[t * run]
        return phase.segs // run


cdef Tensor strip_tensor(Blocks p, char *data) noexcept nogil:
    """The strip as a tensor whose origin is the box's first source position."""
    cdef Tensor t
    cdef int i
    t.data, t.n, t.c = data, p.strip_n, p.strip_c
    for i in range(3):
        t.axis[i] = p.strip_axis[i]
    return t


cdef Tensor source_of(Blocks p, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t kb,
                      ptrdiff_t channel, ptrdiff_t channels, char *strip) noexcept nogil:
    """Where the tiles read the padded source of a box: a strip that is loaded here, or x itself."""
    cdef Tensor t
    cdef ptrdiff_t i, skip
    if not p.in_place:
        p.load(kernels, x, b, kb, channel, channels, strip)
        return strip_tensor(p, strip)
    t = x[0]
    skip = b.origin[0] * x.n + channel * x.c
    for i in range(3):
        skip += b.origin[i + 1] // p.out_step[i] * p.in_step[i] * x.axis[i]
    t.data = x.data + skip * p.itemsize
    return t


# ---------------------------------------------------------------- weights

cdef void pack_share(Blocks p, const fc_kernels *kernels, const char *w, ptrdiff_t w_group, ptrdiff_t col,
                     ptrdiff_t red, char *packed, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
    """Pack the weight blocks [item0, item1), counted over (group, block)."""
    cdef fc_pack job
    cdef fc_lane_map m
    cdef ptrdiff_t item, g, kb
    job.src, job.len, job.red, job.col = w, p.red, red, col
    job.ntap, job.at = p.ntap, p.at
    for item in range(item0, item1):
        g, kb = item // p.col_blocks, item % p.col_blocks
        job.dst = packed + p.packed_offset(g, kb) * p.itemsize
        if p.lane_cols:
            m = p.lane_map(kb)
            packed[p.flag_offset() + item] = kernels.pack_lanes(&job, &m)
        else:
            job.n = min(p.block, p.cols - kb * p.block)
            job.src = w + (g * w_group + kb * p.block * col) * p.itemsize
            packed[p.flag_offset() + item] = kernels.pack_weight(&job)


cdef void pack_all(Blocks p, const fc_kernels *kernels, const char *w, bint transposed, char *packed,
                   Py_ssize_t shares) noexcept nogil:
    """Weights (k, c, taps) to blocks of (tap, reduction channel, column); transposed for backward-input."""
    cdef ptrdiff_t taps = p.ntap, items = p.groups * p.col_blocks
    cdef ptrdiff_t col = taps if transposed else p.red * taps
    cdef ptrdiff_t cols = p.lane_cols if p.lane_cols else p.cols
    cdef ptrdiff_t red = cols * taps if transposed else taps
    cdef Py_ssize_t t
    # Blocks are disjoint ranges of `packed`.
    for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
        pack_share(p, kernels, w, p.red * cols * taps, col, red, packed, items * t // shares, items * (t + 1) // shares)


# ---------------------------------------------------------------- forward and backward-input

@cython.final
cdef class Correlation(Blocks):
    """Forward, or backward-input (``transposed`` weights), of one shape, order and dtype."""

    def __cinit__(self, *args, **kwargs):
        self.table_bytes = line((2 * self.box_pixels() + self.ntap) * sizeof(ptrdiff_t))

    @property
    def packed_bytes(self):
        """Bytes of the packed weights and their flags."""
        return self.flag_offset() + line(self.groups * self.col_blocks)

    @property
    def work_items(self):
        return self.box_count * self.groups * self.k_groups

    def pack(self, cnp.ndarray w, cnp.ndarray packed):
        """Fill `packed` (packed_bytes long) from contiguous weights."""
        cdef const char *source = <const char *>cnp.PyArray_DATA(w)
        cdef char *target = <char *>cnp.PyArray_DATA(packed)
        with nogil:
            pack_all(self, fc_current(self.f64), source, self.transposed, target, 1)

    def run(self, cnp.ndarray src, cnp.ndarray w, cnp.ndarray packed, cnp.ndarray bias, cnp.ndarray dst,
            int activation, num_threads):
        """dst = activation(correlation of src with w, or with its packed form, + bias)."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef Tensor x = tensor_of(src), y = tensor_of(dst)
        cdef const char *b = <const char *>cnp.PyArray_DATA(bias) if bias is not None else NULL
        cdef const char *raw = <const char *>cnp.PyArray_DATA(w) if packed is None else NULL
        cdef ptrdiff_t items = self.box_count * self.groups * self.k_groups
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t
        cdef Py_ssize_t packers = min(shares, self.groups * self.col_blocks)
        cdef ptrdiff_t packed_bytes = self.packed_bytes if packed is None else 0
        cdef ptrdiff_t share_bytes = self.strip_bytes + self.rows_bytes + self.table_bytes
        cdef Scratch scratch = take_scratch(packed_bytes + shares * share_bytes)
        cdef char *weights = scratch.data if packed is None else <char *>cnp.PyArray_DATA(packed)
        cdef char *private = scratch.data + packed_bytes
        with nogil:
            if raw != NULL:
                pack_all(self, kernels, raw, self.transposed, weights, packers)
            # Items are disjoint boxes x column blocks of dst.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                self.share(kernels, &x, &y, weights, b, activation, private + t * share_bytes,
                           items * t // shares, items * (t + 1) // shares)
        give_scratch(scratch)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *weights,
                    const char *bias, int activation, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups outermost, then groups, then boxes.

        Blocks of lanes are innermost: neighbours share the cache lines of channels-last pixels.
        """
        cdef uint64_t state = kernels.enter()
        cdef ptrdiff_t item, box, g, part, kb0, kb1
        cdef Box b
        cdef Tensor a
        for item in range(item0, item1):
            if self.lane_cols:
                part, box, g = item % self.k_groups, item // self.k_groups, 0
            else:
                box = item % self.box_count
                g = item // self.box_count % self.groups
                part = item // self.box_count // self.groups
            b = box_of(self.extent, self.box, self.boxes, box)
            kb0, kb1 = self.col_blocks * part // self.k_groups, self.col_blocks * (part + 1) // self.k_groups
            a = source_of(self, kernels, x, &b, kb0, g * self.red, self.red, private)
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
            for ph in range(self.phases):
                t.nseg = self.fill_segments(a, &self.phase[ph], seg, &t)
                t.rows = self.fill_rows(a, y, b, &self.phase[ph], row, crow, 0 if direct else width)
                t.b = weights + (self.packed_offset(g, kb) + self.phase[ph].tap0 * self.red * width) * self.itemsize
                if strict:
                    self.real_taps(kernels, a, b, &self.phase[ph], &t, width)
                else:
                    self.multiply(kernels, &t)
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
        cdef ptrdiff_t sd = self.in_step[0] * a.axis[0], sh = self.in_step[1] * a.axis[1], sw = self.in_step[2] * a.axis[2]
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
                        self.multiply(kernels, &one)
                        one.nseg, one.accumulate = 1, 1
                        at[0], at[1], at[2] = d, h, w
                        for tap in range(phase.segs):
                            inside = True
                            seg = 0
                            for i in range(3):
                                at_i = (b.origin[i + 1] // self.out_step[i] + at[i]) * self.in_step[i] + o[3 * tap + i]
                                inside = inside and 0 <= at_i < self.src[i]
                                seg += (o[3 * tap + i] - self.low[i]) * a.axis[i]
                            if inside:
                                one.b = <const char *>t.b + tap * self.red * width * self.itemsize
                                self.multiply(kernels, &one)
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


# ---------------------------------------------------------------- backward-weight

@cython.final
cdef class WeightGradient(Blocks):
    """dw and db of one shape, order and dtype.

    Work item = (group, part, column group, channel part). A part is a fixed run of boxes with partial
    sums of its own; the parts are joined in order.
    """

    def __cinit__(self, *args, **kwargs):
        self.table_bytes = line(
            (2 * self.ntap * ceil_div(self.red, self.c_parts) + self.box[0] * self.box[1] * self.box[2]) * sizeof(ptrdiff_t))

    @property
    def packed_bytes(self):
        """Bytes of all partial sums."""
        return self.parts * (self.packed_size() + self.groups * self.padded_cols()) * self.itemsize

    @property
    def work_items(self):
        return self.groups * self.parts * self.k_groups * self.c_parts

    def run(self, cnp.ndarray src, cnp.ndarray grad, cnp.ndarray dw, cnp.ndarray db, bint accumulate, num_threads):
        """dw (contiguous) and db from x and dy; either result may be None."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef Tensor x = tensor_of(src), dy = tensor_of(grad)
        cdef ptrdiff_t items = self.groups * self.parts * self.k_groups * self.c_parts, joins = self.groups * self.col_blocks
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t
        cdef Py_ssize_t joiners = min(shares, joins)
        cdef ptrdiff_t sums = line(self.parts * self.groups * self.padded_cols() * self.itemsize)
        cdef ptrdiff_t partial = line(self.parts * self.packed_size() * self.itemsize) if dw is not None else 0
        cdef ptrdiff_t share_bytes = self.strip_bytes + self.rows_bytes + self.table_bytes
        cdef Scratch scratch = take_scratch(sums + partial + shares * share_bytes)
        cdef char *column_sums = scratch.data
        cdef char *part = scratch.data + sums if dw is not None else NULL
        cdef char *private = scratch.data + sums + partial
        cdef char *dw_data = <char *>cnp.PyArray_DATA(dw) if dw is not None else NULL
        cdef char *db_data = <char *>cnp.PyArray_DATA(db) if db is not None else NULL
        with nogil:
            # Items are disjoint (part, group, column block, channel part) pieces of the partial sums.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                self.share(kernels, &x, &dy, part, column_sums, private + t * share_bytes,
                           items * t // shares, items * (t + 1) // shares)
            # Joins are disjoint (group, column block) pieces of dw and db.
            for t in prange(joiners, num_threads=joiners, schedule="static", chunksize=1):
                self.join(kernels, part, column_sums, dw_data, db_data, accumulate,
                          joins * t // joiners, joins * (t + 1) // joiners)
        give_scratch(scratch)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, char *part, char *column_sums,
                    char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): channel parts innermost, then column groups, parts, groups."""
        cdef uint64_t state = kernels.enter()
        cdef ptrdiff_t item, g, q, cp, kp, box, c0, c1, kb0, kb1
        cdef bint first
        cdef Box b
        cdef Tensor a
        for item in range(item0, item1):
            cp = item % self.c_parts
            kp = item // self.c_parts % self.k_groups
            q = item // self.c_parts // self.k_groups % self.parts
            g = item // self.c_parts // self.k_groups // self.parts
            c0, c1 = self.red * cp // self.c_parts, self.red * (cp + 1) // self.c_parts
            kb0, kb1 = self.col_blocks * kp // self.k_groups, self.col_blocks * (kp + 1) // self.k_groups
            first = True
            for box in range(self.box_count * q // self.parts, self.box_count * (q + 1) // self.parts):
                b = box_of(self.extent, self.box, self.boxes, box)
                if part != NULL:
                    a = source_of(self, kernels, x, &b, kb0, g * self.red + c0, c1 - c0, private)
                self.add_box(kernels, &a, dy, &b, g, q, kb0, kb1, c0, c1, first, part, column_sums,
                         private + self.strip_bytes)
                first = False
        kernels.leave(state)

    cdef void add_box(self, const fc_kernels *kernels, const Tensor *a, const Tensor *dy, const Box *b, ptrdiff_t g,
                  ptrdiff_t q, ptrdiff_t kb0, ptrdiff_t kb1, ptrdiff_t c0, ptrdiff_t c1, bint first, char *part,
                  char *column_sums, char *private) noexcept nogil:
        """Add one box's products to the partial sums of column blocks [kb0, kb1) and channels [c0, c1)."""
        cdef char *rows = private
        cdef ptrdiff_t *row = <ptrdiff_t *>(private + self.rows_bytes)
        cdef ptrdiff_t *crow = row + self.ntap * ceil_div(self.red, self.c_parts)
        cdef ptrdiff_t *seg = crow + self.ntap * ceil_div(self.red, self.c_parts)
        cdef ptrdiff_t kb, width, i
        cdef char *sums
        cdef fc_gemm t
        t.a, t.row, t.crow, t.seg = a.data, row, crow, seg
        t.b, t.bias, t.activation = rows, NULL, FC_IDENTITY
        t.accumulate = not first
        for kb in range(kb0, kb1):
            width = self.block_width(kb)
            t.n = width
            sums = column_sums + ((q * self.groups + g) * self.padded_cols() + kb * self.block) * self.itemsize
            if first and c0 == 0:
                for i in range(width * self.itemsize):
                    sums[i] = 0
            self.load_gradient(kernels, dy, b, g, kb, rows, sums if c0 == 0 else NULL)
            if part == NULL:
                continue
            t.rows = self.fill_rows(a, c0, c1, width, row, crow)
            t.nseg = self.fill_pixels(a, b, seg)
            t.len, t.step = b.count[3], self.in_step[2] * a.axis[2]
            t.c = part + (q * self.packed_size() + self.packed_offset(g, kb)) * self.itemsize
            self.multiply(kernels, &t)

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
        """Rows (tap, channel): where the source of the first pixel lies, and the row of the partial sums."""
        cdef ptrdiff_t m = 0, t, c, at
        cdef const ptrdiff_t *o
        for t in range(self.ntap):
            o = self.offset + 3 * t
            at = ((o[0] - self.low[0]) * a.axis[0] + (o[1] - self.low[1]) * a.axis[1] + (o[2] - self.low[2]) * a.axis[2])
            for c in range(c0, c1):
                row[m] = at + (c - c0) * a.c
                crow[m] = (t * self.red + c) * width
                m += 1
        return m

    cdef ptrdiff_t fill_pixels(self, const Tensor *a, const Box *b, ptrdiff_t *seg) noexcept nogil:
        """One segment for each row of pixels of the box."""
        cdef ptrdiff_t s = 0, n, d, h
        for n in range(b.count[0]):
            for d in range(b.count[1]):
                for h in range(b.count[2]):
                    seg[s] = n * a.n + d * self.in_step[0] * a.axis[0] + h * self.in_step[1] * a.axis[1]
                    s += 1
        return s

    cdef void join(self, const fc_kernels *kernels, const char *part, const char *column_sums, char *dw, char *db,
                   bint accumulate, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Add the parts up, in order, into (group, column block) pieces of dw and db."""
        cdef uint64_t state = kernels.enter()
        cdef fc_join j
        cdef fc_lane_map m
        cdef ptrdiff_t item, g, kb, column
        j.parts, j.accumulate = self.parts, accumulate
        for item in range(item0, item1):
            g, kb = item // self.col_blocks, item % self.col_blocks
            column = g * self.cols + kb * self.block
            j.n = min(self.block, self.cols - kb * self.block)
            if dw != NULL:
                j.part, j.part_stride = part + self.packed_offset(g, kb) * self.itemsize, self.packed_size()
                j.len, j.red, j.ntap, j.col = self.red, self.ntap, self.ntap, self.red * self.ntap
                j.dst = dw + column * j.col * self.itemsize
                if self.lane_cols:
                    m = self.lane_map(kb)
                    j.dst = dw
                    kernels.join_lanes(&j, &m)
                else:
                    kernels.join_weight(&j)
            if db != NULL:
                j.part = column_sums + (g * self.padded_cols() + kb * self.block) * self.itemsize
                j.part_stride = self.groups * self.padded_cols()
                j.len, j.red, j.ntap, j.col = 1, 1, 1, 1
                j.dst = db + column * self.itemsize
                kernels.join_weight(&j)
        kernels.leave(state)


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
    with nogil:
        # Items are disjoint (image, channels) pieces of the target.
        for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
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
