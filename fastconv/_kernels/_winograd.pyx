"""Winograd F(m x m, 3 x 3), and F(m, r) along rows: forward and backward-input, stride 1 (rules: _blocks.pyx).

i. A tile is m x m or 1 x m results of one image. Threads share the tiles out, or the groups of column blocks where
   weights outweigh the tiles. A share takes a group of tiles at a time: transform the input to V[point][tile][channel];
   per column block: one dense product for each point, V times U[point][channel][column], to M[point][tile][column];
   transform M to results. Taps along the depth, and along rows those of other rows and beyond the first r, are as many
   reductions more: V has a patch of each tile for every slice of the taps.
j. Every thread transforms what it multiplies: V, and U unless it was packed. Reading what another core has just
   written costs more than transforming it twice. Small weights are transformed once a share, for all of its tiles;
   large ones chunk by chunk between the products, so that U stays in L2. With a few tiles it isn't stored at all:
   a fused plan makes it in registers.
"""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t

from fastconv._kernels._blocks cimport Blocks
from fastconv._kernels._runtime cimport (
    FC_FUSED_STEPS, FC_IDENTITY, FC_LEAKY_SLOPE, FC_RELU6, Scratch, fc_activation, fc_ahead, fc_current, fc_fused,
    fc_kernels, fc_master, fc_pack, fc_prefetch, fc_products, fc_rows, fc_settle, fc_this_thread, fc_winograd,
    give_scratch, shares_of, take_scratch,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, element, goes_past, line, tensor_of
from fastconv._kernels._tiles cimport (
    Run, Side, group_end, input_side, run_bytes, run_of, transform_slices, transform_tiles,
)

cnp.import_array()


@cython.final
cdef class Winograd(Blocks):
    """Forward, or backward-input (``transposed``), of one shape, order and dtype."""

    cdef ptrdiff_t points, channels, group_tiles, tile_parts, chunk
    cdef bint resident                       # a thread keeps U of all blocks, not transformed chunk by chunk
    cdef bint pack_transformed               # packed weights are U
    cdef ptrdiff_t fused                     # tiles at a time whose U is made in registers; 0: it is stored
    cdef ptrdiff_t v_point, m_point, u_point # strides between points
    cdef ptrdiff_t v_bytes, m_bytes, u_bytes, taps_bytes, made_bytes

    def __cinit__(self, blocking, *args, **kwargs):
        cdef ptrdiff_t pad = 64 // self.itemsize, slices = self.slices, widest = self.block_width(0)
        self.resident, self.chunk, self.tile_parts = blocking.resident, blocking.chunk, blocking.tile_parts
        self.pack_transformed, self.group_tiles = blocking.pack_transformed, blocking.group_tiles
        self.points = self.patch[0] * self.patch[1]
        self.channels = ceil_div(self.red, self.lanes) * self.lanes
        self.fused = self.block // self.lanes if blocking.fused else 0
        if self.fused:
            self.group_tiles = ceil_div(self.group_tiles, self.fused) * self.fused
        # A cache line more than a power of two: points must not fall into one L1 set.
        self.v_point, self.m_point = slices * self.group_tiles * self.channels + pad, self.group_tiles * widest + pad
        self.u_point = slices * self.chunk * widest + pad
        self.v_bytes = line(self.points * self.v_point * self.itemsize)
        self.m_bytes = line(self.points * self.m_point * self.itemsize)
        self.u_bytes = line(self.transformed_size() if self.resident else self.points * self.u_point * self.itemsize)
        if self.fused:  # and what packed weights that are transformed need, should they come
            self.v_bytes += line(self.points * self.group_tiles * FC_FUSED_STEPS * self.itemsize)
            self.u_bytes = line(self.points * self.group_tiles * self.lanes * self.itemsize)  # sums
        self.taps_bytes = line(self.ntap * max(self.block, self.lanes * max(self.lanes, FC_FUSED_STEPS))
                               * self.itemsize)
        self.strip_bytes = run_bytes(self)
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
        return self.tile_parts * self.groups * self.k_groups

    cdef ptrdiff_t share_size(self) noexcept nogil:
        return (self.v_bytes + self.m_bytes + self.u_bytes + self.taps_bytes + self.strip_bytes + self.made_bytes)

    cdef ptrdiff_t u_offset(self, ptrdiff_t g, ptrdiff_t kb) noexcept nogil:
        """Elements before the resident U of a block."""
        return self.points * (16 * (g * self.col_blocks + kb)
                              + (g * self.padded_cols() + kb * self.block) * self.slices * self.red)

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
        cdef ptrdiff_t items = self.tile_parts * self.groups * self.k_groups, size = self.share_size()
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t
        cdef Scratch scratch = take_scratch(shares * size)
        cdef fc_master master = fc_this_thread()
        with nogil:
            # Items are disjoint tiles x column blocks of dst.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                fc_settle(&master)
                self.share(kernels, &x, &y, raw, taps, ready, b, <fc_activation>activation, scratch.data + t * size,
                           items * t // shares, items * (t + 1) // shares)
        give_scratch(scratch)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *raw,
                    const char *packed, const char *ready, const char *bias, fc_activation activation, char *private,
                    ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): groups outermost, then parts of the tiles, then column groups.

        The weights are plain (`raw`), packed taps (`packed`) or transformed (`ready`); the others are NULL.
        """
        cdef uint64_t state = kernels.enter()
        cdef char *v = private
        cdef char *u = v + self.v_bytes + self.m_bytes
        cdef ptrdiff_t item = item0, part, parts, g, kp, kb, tile0, tile1, t0, t1, apart = 0, loaded = -1
        cdef bint fused = self.fused and ready == NULL
        cdef Side side = input_side(self, x, self.v_point)
        cdef char *strip = u + self.u_bytes + self.taps_bytes
        cdef char *made = strip + self.strip_bytes
        for kb in range(self.made_bytes):
            made[kb] = 0
        while item < item1:
            kp = item % self.k_groups
            part = item // self.k_groups % self.tile_parts
            g = item // self.k_groups // self.tile_parts
            parts = min(item1 - item, self.tile_parts - part) if self.k_groups == 1 else 1
            tile0, tile1 = self.box_count * part // self.tile_parts, self.box_count * (part + parts) // self.tile_parts
            side.channel0 = g * self.red
            t0 = tile0
            while t0 < tile1:
                t1 = group_end(self, t0, tile1, self.group_tiles)
                if loaded != g * self.box_count + t0:
                    loaded = g * self.box_count + t0
                    if fused:
                        self.transform_fused(kernels, &side, t0, t1, v, strip)
                    else:
                        apart = transform_slices(kernels, self, &side, t0, t1, v, strip)
                for kb in range(self.col_blocks * kp // self.k_groups, self.col_blocks * (kp + 1) // self.k_groups):
                    if self.resident and ready == NULL and not made[g * self.col_blocks + kb]:
                        made[g * self.col_blocks + kb] = 1
                        self.transform_block(kernels, raw, packed, g, kb, u, u + self.u_bytes)
                    if fused:
                        self.multiply_fused(kernels, raw, packed, private, g, kb, t1 - t0)
                    else:
                        self.multiply_block(kernels, raw, packed, ready, private, g, kb, t1 - t0, apart)
                    self.transform_output(kernels, y, bias, activation, g, kb, t0, t1, v + self.v_bytes, strip)
                t0 = t1
            item += parts
        kernels.leave(state)

    # ------------------------------------------------------------ weights

    cdef fc_ahead weights_after(self, const char *raw, const char *packed, ptrdiff_t g, ptrdiff_t kb,
                                ptrdiff_t c0, ptrdiff_t steps) noexcept nogil:
        """Where the weights lie from which the next U is made: the chunk at channel c0, or the next block's first.

        They are to be asked for in so many steps.
        """
        cdef fc_ahead a = fc_ahead(NULL, 0, 0, 0, 0, 0)
        cdef fc_pack job
        cdef ptrdiff_t channels, width
        if c0 == self.red:
            kb, c0 = kb + 1, 0
        if kb == self.col_blocks:
            return a
        channels, width = min(self.chunk, self.red - c0), self.block_width(kb)
        if packed == NULL:
            job = self.pack_job(raw, g, kb, c0, c0 + channels, NULL)
            return self.job_ahead(&job, steps)
        a.from_ = packed + (self.packed_offset(g, kb) + c0 * width) * self.itemsize
        a.runs, a.lines, a.stride = self.ntap, channels * width * self.itemsize // 64, self.red * width * self.itemsize
        a.step = ceil_div(a.runs * a.lines, steps)
        return a

    cdef fc_ahead job_ahead(self, const fc_pack *job, ptrdiff_t steps) noexcept nogil:
        """The plain weights of a job."""
        cdef fc_ahead a = fc_ahead(<const char *>job.src, 0, 0, 0, 0, 0)
        if self.transposed:
            a.runs, a.lines, a.stride = job.len, job.n * self.ntap, job.red
        else:
            a.runs, a.lines, a.stride = job.n, job.len * self.ntap, job.col
        a.lines, a.stride = ceil_div(a.lines * self.itemsize, 64), a.stride * self.itemsize
        a.step = ceil_div(a.runs * a.lines, steps)
        return a

    cdef fc_pack part_job(self, const char *raw, ptrdiff_t g, ptrdiff_t kb, ptrdiff_t column, ptrdiff_t columns,
                          ptrdiff_t c0, ptrdiff_t c1, char *dst) noexcept nogil:
        """Plain weights of `columns` of a block's columns, to be packed to dst[tap][channel][column]."""
        cdef fc_pack job = self.pack_job(raw, g, kb, c0, c1, dst)
        job.n = min(columns, job.n - column)
        job.src = <const char *>job.src + column * job.col * self.itemsize
        return job

    cdef void transform_chunk(self, const fc_kernels *kernels, const char *raw, const char *packed, ptrdiff_t g,
                              ptrdiff_t kb, ptrdiff_t c0, ptrdiff_t c1, char *u, ptrdiff_t u_point, char *taps,
                              fc_ahead *ahead) noexcept nogil:
        """U of channels [c0, c1) of a block, [point][slice][channel][column].

        From plain weights or from packed taps of all channels; some of those `ahead` are asked for on the way.
        """
        cdef fc_winograd j = self.transform_job()
        cdef fc_pack job
        cdef ptrdiff_t width = self.block_width(kb), columns, channels, c, v, t
        j.to_point, j.to_tile = u_point, width
        if packed != NULL:
            j.from_point, j.from_tile, j.tiles, j.n = self.red * width, width, c1 - c0, width
            for t in range(self.slices):
                j.taps = self.taps_of_slice(t)
                j.from_ = packed + (self.packed_offset(g, kb) + (self.slice_tap(t) * self.red + c0) * width) * (
                    self.itemsize)
                j.to = u + t * (c1 - c0) * width * self.itemsize
                fc_prefetch(ahead)
                kernels.winograd_weight(&j)
            return
        # Some channels of some columns at a time: their taps stay in L1. A vector of columns, or of transposed weights
        # all columns of a few channels: they lie side by side, in pieces long enough to be foreseen.
        columns = width if self.transposed else self.lanes
        channels = max(1, self.lanes * self.lanes // columns)
        j.from_tile = columns
        for v in range(width // columns):
            c = c0
            while c < c1:
                j.n, j.tiles = columns, min(channels, c1 - c)
                j.from_point = j.tiles * columns
                fc_prefetch(ahead)
                job = self.part_job(raw, g, kb, v * columns, columns, c, c + j.tiles, taps)
                kernels.pack_weight(&job)
                for t in range(self.slices):
                    j.taps = self.taps_of_slice(t)
                    j.from_ = taps + self.slice_tap(t) * j.from_point * self.itemsize
                    j.to = u + ((t * (c1 - c0) + c - c0) * width + v * columns) * self.itemsize
                    kernels.winograd_weight(&j)
                c += j.tiles

    cdef void transform_block(self, const fc_kernels *kernels, const char *raw, const char *packed, ptrdiff_t g,
                              ptrdiff_t kb, char *u, char *taps) noexcept nogil:
        """The resident U of a block: [point], then chunk by chunk."""
        cdef ptrdiff_t c0 = 0, width = self.block_width(kb), depth = self.slices * width
        cdef fc_ahead nothing = fc_ahead(NULL, 0, 0, 0, 0, 0)
        u += self.u_offset(g, kb) * self.itemsize
        while c0 < self.red:
            self.transform_chunk(kernels, raw, packed, g, kb, c0, min(c0 + self.chunk, self.red),
                                 u + c0 * depth * self.itemsize, self.red * depth + 16, taps,
                                 &nothing)
            c0 += self.chunk

    # ------------------------------------------------------------ products and output

    cdef void multiply_block(self, const fc_kernels *kernels, const char *raw, const char *packed, const char *ready,
                             char *private, ptrdiff_t g, ptrdiff_t kb, ptrdiff_t tiles,
                             ptrdiff_t apart) noexcept nogil:
        """M of one column block: all products with the V of some tiles."""
        cdef char *v = private
        cdef char *m = v + self.v_bytes
        cdef char *u = m + self.m_bytes
        cdef char *taps = u + self.u_bytes
        cdef ptrdiff_t width = self.block_width(kb), depth = self.slices * width, i, c0 = 0, c1
        cdef ptrdiff_t across = self.patch[0], rows = self.patch[1]
        cdef bint made = self.resident or ready != NULL
        cdef ptrdiff_t u_point = self.red * depth + 16 if made else self.u_point
        cdef fc_products t
        cdef fc_ahead ahead = fc_ahead(NULL, 0, 0, 0, 0, 0)
        t.points, t.rows, t.segs, t.n = across, tiles, self.slices, width
        t.a_point, t.a_seg, t.a_row, t.a_step = self.v_point, apart * self.channels, self.channels, 1
        t.b_point, t.c_point, t.c_row, t.bias, t.activation = u_point, self.m_point, width, NULL, FC_IDENTITY
        if made:
            u = (u if ready == NULL else <char *>ready) + self.u_offset(g, kb) * self.itemsize
        while c0 < self.red:
            c1 = min(c0 + self.chunk, self.red)
            t.len, t.accumulate = c1 - c0, c0 > 0
            if not made:
                ahead = self.weights_after(raw, packed, g, kb, c1,
                                           rows + ceil_div(c1 - c0, self.lanes) * width // self.lanes)
                self.transform_chunk(kernels, raw, packed, g, kb, c0, c1, u, u_point, taps, &ahead)
            for i in range(rows):
                fc_prefetch(&ahead)
                t.a = v + (i * across * self.v_point + c0) * self.itemsize
                t.b = u + (i * across * u_point + (c0 * depth if made else 0)) * self.itemsize
                t.c = m + i * across * self.m_point * self.itemsize
                kernels.products(&t)
            c0 = c1

    cdef void transform_fused(self, const fc_kernels *kernels, Side *side, ptrdiff_t tile0, ptrdiff_t tile1, char *v,
                              char *strip) noexcept nogil:
        """V as the fused products read it: [run of FC_FUSED_STEPS channels][tiles at a time][point][tile][channel]."""
        cdef ptrdiff_t i, tile
        side.run, side.runs = FC_FUSED_STEPS, self.points * self.group_tiles * FC_FUSED_STEPS
        side.point, side.tile = self.fused * FC_FUSED_STEPS, FC_FUSED_STEPS
        for i in range(ceil_div(tile1 - tile0, self.fused)):
            tile = tile0 + i * self.fused
            transform_tiles(kernels, self, side, tile, min(tile + self.fused, tile1),
                            v + (tile - tile0) * self.points * FC_FUSED_STEPS * self.itemsize, strip, NULL)

    cdef void multiply_fused(self, const fc_kernels *kernels, const char *raw, const char *packed, char *private,
                             ptrdiff_t g, ptrdiff_t kb, ptrdiff_t tiles) noexcept nogil:
        """The same M as multiply_block's, bit for bit, without a U in memory: a vector of columns at a time."""
        cdef char *m = private + self.v_bytes
        cdef char *sums = m + self.m_bytes
        cdef char *taps = sums + self.u_bytes
        cdef ptrdiff_t width = self.block_width(kb), v, c, c0 = 0, c1
        cdef ptrdiff_t channel = self.points * self.group_tiles * self.itemsize  # bytes of V
        cdef fc_ahead ahead = fc_ahead(NULL, 0, 0, 0, 0, 0)
        cdef fc_fused f
        cdef fc_pack job
        f.ahead, f.m, f.groups, f.sums = &ahead, self.m, ceil_div(tiles, self.fused), sums
        f.to_point, f.to_tile = self.m_point, width
        while c0 < self.red:
            c1 = min(c0 + self.chunk, self.red)
            f.accumulate = c0 > 0
            for v in range(width // self.lanes):
                f.to = m + v * self.lanes * self.itemsize
                c = c0
                while c < c1:
                    f.steps = min(FC_FUSED_STEPS, c1 - c)
                    f.first, f.last, f.v = c == c0, c + f.steps == c1, private + c * channel
                    if packed != NULL:
                        f.from_ = packed + (self.packed_offset(g, kb) + c * width + v * self.lanes) * self.itemsize
                        f.from_point, f.from_tile = self.red * width, width
                    else:
                        job = self.part_job(raw, g, kb, v * self.lanes, self.lanes, c, c + f.steps, taps)
                        kernels.pack_weight(&job)
                        f.from_, f.from_point, f.from_tile = taps, f.steps * self.lanes, self.lanes
                    if self.transposed and packed == NULL and not f.last:  # rows too short to be foreseen
                        job = self.part_job(raw, g, kb, v * self.lanes, self.lanes, c + f.steps,
                                            min(c + 2 * f.steps, c1), NULL)
                        ahead = self.job_ahead(&job, f.groups * (self.m + 2))
                    kernels.winograd_fused(&f)
                    c += f.steps
            c0 = c1

    cdef void transform_output(self, const fc_kernels *kernels, const Tensor *y, const char *bias,
                               fc_activation activation, ptrdiff_t g, ptrdiff_t kb, ptrdiff_t tile0, ptrdiff_t tile1,
                               const char *m, char *strip) noexcept nogil:
        """M of a column block to results: in place, or from a strip of one vector of columns."""
        cdef fc_winograd j = self.transform_job()
        cdef fc_rows r
        cdef ptrdiff_t tile = tile0, width = self.block_width(kb), i, c, column = g * self.cols + kb * self.block
        cdef ptrdiff_t cols = min(self.block, self.cols - kb * self.block), step = self.lanes
        cdef bint direct = y.c == 1 and y.axis[2] != 1 and activation <= FC_RELU6
        cdef bint past = self.cols % self.lanes == 0 and goes_past(y, self.lanes)
        cdef Run run
        cdef char *to
        if direct:
            step = cols
        j.from_point, j.from_tile = self.m_point, width
        j.activation = activation if activation <= FC_RELU6 else FC_IDENTITY
        r.x_c, r.column_sum, r.rows = y.c, NULL, strip
        r.x_axis[0], r.x_axis[1], r.x_axis[2] = y.axis[0], y.axis[1] * self.tile_step[0], y.axis[2] * self.tile_step[1]
        while tile < tile1:
            run = run_of(self, tile, tile1)
            j.tiles, j.hi[0], j.hi[1] = run.tiles, run.rows, run.columns
            for i in range(ceil_div(cols, step)):
                c = i * step
                j.n = min(step, cols - c)
                j.from_ = m + ((tile - tile0) * width + c) * self.itemsize
                j.bias = bias + (column + c) * self.itemsize if bias != NULL else NULL
                to = element(y, run.n, column + c, run.d, run.h, run.w)
                if direct:
                    j.past = past
                    j.to, j.to_row, j.to_column = to, r.x_axis[1], r.x_axis[2]
                    kernels.winograd_output(&j)
                    continue
                j.to, j.to_row, j.to_column = strip, j.hi[1] * self.lanes, self.lanes
                kernels.winograd_output(&j)
                if activation > FC_RELU6:
                    kernels.activate(activation, FC_LEAKY_SLOPE, strip, strip, j.hi[0] * j.hi[1] * self.lanes, False)
                r.x, r.n = to, j.n
                r.count[0], r.count[1], r.count[2] = 1, j.hi[0], j.hi[1]
                kernels.store_rows(&r)
            tile += j.tiles
