"""Winograd F(m x m, 3 x 3): forward and backward-input of stride-1 convolutions (rules: _blocks.pyx).

g. A unit is one row of tiles of one image, m results high; an item is `units` of them and a group of column
   blocks. Per item: transform the input to V[point][tile][channel]; per column block: one dense product for each
   point, V times U[point][channel][column], to M[point][tile][column]; transform M to results.
h. Every thread transforms what it multiplies: V, and U unless it was packed. Reading what another core has just
   written costs more than transforming it twice. Small weights are transformed once a share, for all of its items;
   large ones chunk by chunk between the products, so that U stays in L2.
"""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t

from fastconv._kernels._blocks cimport Blocks, Box, box_of
from fastconv._kernels._runtime cimport (
    FC_IDENTITY, FC_LEAKY_SLOPE, FC_RELU6, Scratch, fc_activation, fc_current, fc_gemm, fc_kernels, fc_lane_map,
    fc_master, fc_pack, fc_rows, fc_settle, fc_strip, fc_this_thread, fc_winograd, give_scratch, shares_of,
    take_scratch,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, line, tensor_of

cnp.import_array()


cdef Side input_side(Blocks p, const Tensor *x, ptrdiff_t m, ptrdiff_t point) noexcept nogil:
    """The padded input of a plan; channel0 is left to the caller."""
    cdef Side s
    cdef int i
    s.tensor, s.mode, s.m, s.reach, s.point = x[0], p.mode, m, m + 2, point
    s.channels, s.channel0 = p.red, 0
    for i in range(3):
        s.low[i], s.extent[i] = p.low[i], p.src[i]
    return s


cdef void transform_units(const fc_kernels *kernels, Blocks p, const Side *side, ptrdiff_t unit0, ptrdiff_t unit1,
                          char *to, char *strip, char *column_sum) noexcept nogil:
    """Transform the tiles of units [unit0, unit1) to to[point][tile][channel], channels rounded up to vectors.

    Patches inside a channels-last image are read in place, the others from a strip.
    """
    cdef fc_winograd j
    cdef fc_strip s
    cdef fc_lane_map lanes
    cdef const Tensor *x = &side.tensor
    cdef ptrdiff_t unit, c, i, unit_tiles = p.box[3] // side.m
    cdef bint inside
    cdef Box b
    j.m, j.tiles = side.m, unit_tiles  # tiles beyond the results, too: backward-weight adds all of them up
    j.to_point, j.to_tile = side.point, ceil_div(side.channels, p.lanes) * p.lanes
    s.mode = side.mode
    lanes.cols = lanes.red = 1
    s.src_c, s.dst_c = x.c, 1
    for i in range(3):
        s.src_axis[i], s.extent[i] = x.axis[i], side.extent[i]
    for unit in range(unit0, unit1):
        b = box_of(p.extent, p.box, p.boxes, unit)
        for i in range(3):
            s.lo[i] = b.origin[i + 1] + side.low[i]
        s.count[0], s.count[1], s.count[2] = 1, side.reach, (j.tiles - 1) * side.m + side.reach
        s.dst_axis[0], s.dst_axis[1], s.dst_axis[2] = 0, s.count[2] * p.lanes, p.lanes
        inside = (x.c == 1 and s.lo[1] >= 0 and s.lo[2] >= 0 and s.lo[1] + s.count[1] <= side.extent[1]
                  and s.lo[2] + s.count[2] <= side.extent[2])
        for i in range(ceil_div(side.channels, p.lanes)):
            c = i * p.lanes
            j.to = to + ((unit - unit0) * unit_tiles * j.to_tile + c) * p.itemsize
            if inside and c + p.lanes <= side.channels:
                j.from_ = x.data + (b.origin[0] * x.n + (side.channel0 + c) * x.c + s.lo[0] * x.axis[0]
                                    + s.lo[1] * x.axis[1] + s.lo[2] * x.axis[2]) * p.itemsize
                j.from_row, j.from_column = x.axis[1], x.axis[2]
            else:
                lanes.lane0, lanes.lanes = side.channel0 + c, min(p.lanes, side.channels - c)
                s.src, s.dst = x.data + b.origin[0] * x.n * p.itemsize, strip
                kernels.load_lanes(&s, &lanes)
                j.from_, j.from_row, j.from_column = strip, s.dst_axis[1], p.lanes
            if column_sum != NULL:
                j.column_sum = column_sum + c * p.itemsize
                kernels.winograd_gradient(&j)
            else:
                kernels.winograd_input(&j)


@cython.final
cdef class Winograd(Blocks):
    """Forward, or backward-input (``transposed``), of one shape, order and dtype."""

    cdef ptrdiff_t m, points, channels, unit_tiles, units, item_units, item_count, chunk
    cdef bint resident                       # a thread keeps U of all blocks, not transformed chunk by chunk
    cdef bint pack_transformed               # packed weights are U
    cdef ptrdiff_t v_point, m_point, u_point # strides between points
    cdef ptrdiff_t v_bytes, m_bytes, u_bytes, taps_bytes, store_bytes, made_bytes

    def __cinit__(self, blocking, *args, **kwargs):
        cdef ptrdiff_t tiles, pad
        self.m, self.resident, self.chunk = blocking.winograd, blocking.resident, blocking.chunk
        self.pack_transformed = blocking.pack_transformed
        self.points = (self.m + 2) * (self.m + 2)
        self.channels = ceil_div(self.red, self.lanes) * self.lanes
        self.unit_tiles = self.box[3] // self.m
        self.units = self.boxes[0] * self.boxes[1] * self.boxes[2] * self.boxes[3]
        self.item_units = blocking.item_units
        self.item_count = ceil_div(self.units, self.item_units)
        tiles = self.item_units * self.unit_tiles
        # A cache line more than a power of two: points must not fall into one L1 set.
        pad = 64 // self.itemsize
        self.v_point, self.m_point = tiles * self.channels + pad, tiles * self.block + pad
        self.u_point = self.chunk * self.block + pad
        self.v_bytes = line(self.points * self.v_point * self.itemsize)
        self.m_bytes = line(self.points * self.m_point * self.itemsize)
        self.u_bytes = line(self.transformed_size() if self.resident else self.points * self.u_point * self.itemsize)
        self.taps_bytes = line(self.ntap * self.chunk * self.block * self.itemsize)
        self.strip_bytes = line((self.m + 2) * (self.box[3] + 2) * self.lanes * self.itemsize)
        self.store_bytes = line(self.m * self.box[3] * self.block * self.itemsize)
        self.table_bytes = line(2 * tiles * sizeof(ptrdiff_t))
        self.made_bytes = line(self.groups * self.col_blocks)  # flags: this share has made U of the block

    @property
    def packed_bytes(self):
        """Bytes of packed weights: transformed ones, or large ones as the direct tiles have them."""
        if self.pack_transformed:
            return line(self.transformed_size())
        return self.flag_offset() + line(self.groups * self.col_blocks)

    @property
    def scratch_bytes(self):
        """Scratch that all threads share: none, weights are transformed by each."""
        return 0

    @property
    def work_items(self):
        return self.item_count * self.groups * self.k_groups

    cdef ptrdiff_t share_size(self) noexcept nogil:
        return (self.v_bytes + self.m_bytes + self.u_bytes + self.taps_bytes + self.strip_bytes + self.store_bytes
                + self.table_bytes + self.made_bytes)

    cdef ptrdiff_t u_offset(self, ptrdiff_t g, ptrdiff_t kb) noexcept nogil:
        """Elements before the resident U of a block."""
        return ((g * self.padded_cols() + kb * self.block) * self.red + (g * self.col_blocks + kb) * 16) * self.points

    cdef ptrdiff_t transformed_size(self) noexcept nogil:
        return self.u_offset(self.groups, 0) * self.itemsize

    def pack(self, cnp.ndarray w, cnp.ndarray packed):
        """Fill `packed` (packed_bytes long) from contiguous weights; returns whether they were transformed."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef const char *source = <const char *>cnp.PyArray_DATA(w)
        cdef char *target = <char *>cnp.PyArray_DATA(packed)
        cdef Scratch scratch = take_scratch(self.taps_bytes)
        cdef ptrdiff_t g, kb
        with nogil:
            if not self.pack_transformed:
                self.pack_share(kernels, source, target, 0, self.groups * self.col_blocks)
            else:
                for g in range(self.groups):
                    for kb in range(self.col_blocks):
                        self.transform_block(kernels, source, NULL, g, kb, target, scratch.data)
        give_scratch(scratch)
        return self.pack_transformed

    def run(self, cnp.ndarray src, cnp.ndarray w, cnp.ndarray packed, bint transformed, cnp.ndarray bias,
            cnp.ndarray dst, int activation, num_threads):
        """dst = activation(correlation of src with w, or with its packed form, + bias)."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef Tensor x = tensor_of(src), y = tensor_of(dst)
        cdef const char *b = <const char *>cnp.PyArray_DATA(bias) if bias is not None else NULL
        cdef const char *raw = <const char *>cnp.PyArray_DATA(w) if packed is None else NULL
        cdef char *data = <char *>cnp.PyArray_DATA(packed) if packed is not None else NULL
        cdef char *taps = NULL if transformed else data
        cdef char *ready = data if transformed else NULL
        cdef ptrdiff_t items = self.item_count * self.groups * self.k_groups, size = self.share_size()
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t
        cdef Scratch scratch = take_scratch(shares * size)
        cdef fc_master master = fc_this_thread()
        with nogil:
            # Items are disjoint units x column blocks of dst.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                fc_settle(&master)
                self.share(kernels, &x, &y, raw, taps, ready, b, <fc_activation>activation, scratch.data + t * size,
                           items * t // shares, items * (t + 1) // shares)
        give_scratch(scratch)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *raw,
                    const char *packed, const char *ready, const char *bias, fc_activation activation, char *private,
                    ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups outermost, then groups, then units.

        The weights are plain (`raw`), packed taps (`packed`) or transformed (`ready`); the others are NULL.
        """
        cdef uint64_t state = kernels.enter()
        cdef char *v = private
        cdef char *u = v + self.v_bytes + self.m_bytes
        cdef ptrdiff_t item, g, part, unit0, unit1, kb, loaded = -1
        cdef Side side = input_side(self, x, self.m, self.v_point)
        cdef char *made = private + self.share_size() - self.made_bytes
        for kb in range(self.made_bytes):
            made[kb] = 0
        for item in range(item0, item1):
            unit0 = item % self.item_count * self.item_units
            unit1 = min(self.units, unit0 + self.item_units)
            g = item // self.item_count % self.groups
            part = item // self.item_count // self.groups
            if loaded != item % (self.item_count * self.groups):
                loaded = item % (self.item_count * self.groups)
                side.channel0 = g * self.red
                transform_units(kernels, self, &side, unit0, unit1, v, u + self.u_bytes + self.taps_bytes, NULL)
            for kb in range(self.col_blocks * part // self.k_groups, self.col_blocks * (part + 1) // self.k_groups):
                if self.resident and ready == NULL and not made[g * self.col_blocks + kb]:
                    made[g * self.col_blocks + kb] = 1
                    self.transform_block(kernels, raw, packed, g, kb, u, u + self.u_bytes)
                self.block_of_item(kernels, y, raw, packed, ready, bias, activation, private, g, kb, unit0, unit1)
        kernels.leave(state)

    # ------------------------------------------------------------ weights

    cdef void transform_chunk(self, const fc_kernels *kernels, const char *raw, const char *packed, ptrdiff_t g,
                              ptrdiff_t kb, ptrdiff_t c0, ptrdiff_t c1, char *u, ptrdiff_t u_point,
                              char *taps) noexcept nogil:
        """U of channels [c0, c1) of a block, from plain weights or from packed taps of all channels."""
        cdef fc_winograd j
        cdef fc_pack job
        cdef ptrdiff_t width = self.block_width(kb)
        j.m, j.tiles, j.n = self.m, c1 - c0, width
        j.to, j.to_point = u, u_point
        if raw != NULL:
            job = self.pack_job(raw, g, kb, c0, c1, taps)
            kernels.pack_weight(&job)
            j.from_, j.from_point = taps, (c1 - c0) * width
        else:
            j.from_ = packed + (self.packed_offset(g, kb) + c0 * width) * self.itemsize
            j.from_point = self.red * width
        kernels.winograd_weight(&j)

    cdef void transform_block(self, const fc_kernels *kernels, const char *raw, const char *packed, ptrdiff_t g,
                              ptrdiff_t kb, char *u, char *taps) noexcept nogil:
        """The resident U of a block: [point][channel][column]."""
        cdef ptrdiff_t c0 = 0, width = self.block_width(kb)
        u += self.u_offset(g, kb) * self.itemsize
        while c0 < self.red:
            self.transform_chunk(kernels, raw, packed, g, kb, c0, min(c0 + self.chunk, self.red),
                                 u + c0 * width * self.itemsize, self.red * width + 16, taps)
            c0 += self.chunk

    # ------------------------------------------------------------ products and output

    cdef void block_of_item(self, const fc_kernels *kernels, const Tensor *y, const char *raw, const char *packed,
                            const char *ready, const char *bias, fc_activation activation, char *private, ptrdiff_t g, ptrdiff_t kb,
                            ptrdiff_t unit0, ptrdiff_t unit1) noexcept nogil:
        """All products of one column block, then its results."""
        cdef char *v = private
        cdef char *m = v + self.v_bytes
        cdef char *u = m + self.m_bytes
        cdef char *taps = u + self.u_bytes
        cdef ptrdiff_t *row = <ptrdiff_t *>(taps + self.taps_bytes + self.strip_bytes + self.store_bytes)
        cdef ptrdiff_t width = self.block_width(kb), tiles = (unit1 - unit0) * self.unit_tiles, t, c0 = 0, c1
        cdef ptrdiff_t *crow = row + tiles
        for t in range(tiles):
            row[t], crow[t] = t * self.channels, t * width
        if self.resident or ready != NULL:
            u = (u if ready == NULL else <char *>ready) + self.u_offset(g, kb) * self.itemsize
            self.products(kernels, v, u, self.red * width + 16, m, row, crow, tiles, 0, self.red, width)
        else:
            while c0 < self.red:
                c1 = min(c0 + self.chunk, self.red)
                self.transform_chunk(kernels, raw, packed, g, kb, c0, c1, u, self.u_point, taps)
                self.products(kernels, v, u, self.u_point, m, row, crow, tiles, c0, c1, width)
                c0 = c1
        self.transform_output(kernels, y, bias, activation, g, kb, unit0, unit1, m, taps + self.taps_bytes
                              + self.strip_bytes)

    cdef void products(self, const fc_kernels *kernels, const char *v, const char *u, ptrdiff_t u_point, char *m,
                       const ptrdiff_t *row, const ptrdiff_t *crow, ptrdiff_t tiles, ptrdiff_t c0, ptrdiff_t c1,
                       ptrdiff_t width) noexcept nogil:
        """M[point] (+)= V[point][tiles][c0:c1] times U[point]."""
        cdef fc_gemm t
        cdef ptrdiff_t p, zero = 0
        t.row, t.crow, t.rows, t.seg, t.nseg, t.len, t.step = row, crow, tiles, &zero, 1, c1 - c0, 1
        t.n, t.bias, t.accumulate, t.activation = width, NULL, c0 > 0, FC_IDENTITY
        for p in range(self.points):
            t.a = v + (p * self.v_point + c0) * self.itemsize
            t.b = u + p * u_point * self.itemsize
            t.c = m + p * self.m_point * self.itemsize
            kernels.gemm(&t)

    cdef void transform_output(self, const fc_kernels *kernels, const Tensor *y, const char *bias,
                               fc_activation activation, ptrdiff_t g, ptrdiff_t kb, ptrdiff_t unit0, ptrdiff_t unit1,
                               const char *m, char *rows) noexcept nogil:
        cdef fc_winograd j
        cdef fc_rows r
        cdef ptrdiff_t unit, width = self.block_width(kb), column = g * self.cols + kb * self.block
        cdef bint direct = y.c == 1 and y.axis[2] != 1 and activation <= FC_RELU6
        cdef Box b
        cdef char *to
        j.m, j.n, j.from_point, j.from_tile = self.m, min(self.block, self.cols - kb * self.block), self.m_point, width
        j.bias = bias + column * self.itemsize if bias != NULL else NULL
        j.activation = activation if activation <= FC_RELU6 else FC_IDENTITY
        r.n, r.x_c, r.column_sum, r.rows = j.n, y.c, NULL, rows
        for unit in range(unit0, unit1):
            b = box_of(self.extent, self.box, self.boxes, unit)
            to = y.data + (b.origin[0] * y.n + column * y.c + b.origin[1] * y.axis[0] + b.origin[2] * y.axis[1]
                           + b.origin[3] * y.axis[2]) * self.itemsize
            j.from_ = m + (unit - unit0) * self.unit_tiles * width * self.itemsize
            j.tiles, j.rows, j.columns = ceil_div(b.count[3], self.m), b.count[2], b.count[3]
            if direct:
                j.to, j.to_row, j.to_column = to, y.axis[1], y.axis[2]
                kernels.winograd_output(&j)
                continue
            j.to, j.to_row, j.to_column = rows, b.count[3] * width, width
            kernels.winograd_output(&j)
            if activation > FC_RELU6:
                kernels.activate(activation, FC_LEAKY_SLOPE, rows, rows, b.count[2] * b.count[3] * width)
            r.x, r.count[0], r.count[1], r.count[2] = to, 1, b.count[2], b.count[3]
            r.x_axis[0], r.x_axis[1], r.x_axis[2] = y.axis[0], y.axis[1], y.axis[2]
            kernels.store_rows(&r)
