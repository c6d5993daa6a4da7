"""Winograd backward-weight: dU[point] = V[point]^T Z[point] over tiles, dw = G^T dU G (rules: _blocks.pyx)."""
cimport cython
from libc.stdint cimport uint64_t

from fastconv._kernels._runtime cimport (
    FC_FUSED_STEPS, FC_IDENTITY, FC_ZEROS, fc_fused_taps, fc_kernels, fc_products, fc_winograd,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, line
from fastconv._kernels._tiles cimport Side, group_end, input_side, run_bytes, transform_slices, transform_tiles
from fastconv._kernels._weight_gradient cimport Gradient, PartialSums


@cython.final
cdef class WinogradWeight(PartialSums):
    """dw and db of one convolution of stride 1.

    Work item = (part, group, column group). A part is a fixed run of tiles, taken `group_tiles` at a time: transform
    them to V and Z, then add V^T Z for each point to dU. A part that is one such step is finished a few channels at a
    time, whose dU stays in L2, and the thread keeps its V for the next column group. With a few tiles the plan is fused.
    """

    cdef bint fused                          # dU isn't stored, taps are made in registers
    cdef ptrdiff_t points, channels, group_tiles, kept_blocks, du_channels
    cdef ptrdiff_t finished                  # channels whose dw is made at a time
    cdef ptrdiff_t v_point, z_point, du_point
    cdef ptrdiff_t v_bytes, z_bytes, du_bytes, taps_bytes

    def __cinit__(self, blocking, *args, **kwargs):
        cdef ptrdiff_t pad = 64 // self.itemsize, slices = self.slices, widest = self.block_width(0)
        self.group_tiles = blocking.group_tiles
        self.points = self.patch[0] * self.patch[1]
        self.fused = blocking.fused
        self.channels = ceil_div(self.red, self.lanes) * self.lanes
        self.kept_blocks, self.du_channels = ceil_div(self.col_blocks, self.k_groups), self.red
        if self.group_tiles * self.parts >= self.box_count:
            self.kept_blocks, self.du_channels = 1, min(self.red, blocking.chunk)
        # A cache line more than a power of two: points must not fall into one L1 set.
        self.v_point, self.z_point = slices * self.group_tiles * self.channels + pad, self.group_tiles * widest + pad
        self.du_point = slices * self.du_channels * widest + pad
        self.v_bytes = line(self.points * self.v_point * self.itemsize)
        self.z_bytes = line(self.points * self.z_point * self.itemsize)
        self.du_bytes = line(self.points * self.du_point * self.itemsize)
        self.finished = self.lanes if self.single() else self.red
        if self.fused:
            self.finished, self.du_bytes = FC_FUSED_STEPS, 0
            self.v_bytes += line(self.points * self.group_tiles * FC_FUSED_STEPS * self.itemsize)
        self.strip_bytes = run_bytes(self)
        self.taps_bytes = line(self.ntap * self.finished * self.block * self.itemsize) if self.single() else 0

    cdef ptrdiff_t share_size(self) noexcept nogil:
        return (self.v_bytes + self.z_bytes + self.kept_blocks * self.du_bytes + self.strip_bytes
                + self.taps_bytes)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, const Gradient *d,
                    char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups innermost, then groups, then parts."""
        cdef uint64_t state = kernels.enter()
        cdef Side from_x = input_side(self, x, self.v_point)
        cdef char *v = private
        cdef char *strip = v + self.v_bytes + self.z_bytes + self.kept_blocks * self.du_bytes
        cdef ptrdiff_t item, g, q, kp, kb, kb0, kb1, tile0, tile1, t0, t1
        cdef ptrdiff_t apart = 0, loaded = -1
        if self.fused:
            self.lay_fused(&from_x, FC_FUSED_STEPS)
        for item in range(item0, item1):
            kp = item % self.k_groups
            g = item // self.k_groups % self.groups
            q = item // self.k_groups // self.groups
            kb0, kb1 = self.col_blocks * kp // self.k_groups, self.col_blocks * (kp + 1) // self.k_groups
            from_x.channel0 = g * self.red
            tile0, tile1 = self.box_count * q // self.parts, self.box_count * (q + 1) // self.parts
            t0 = tile0
            while t0 < tile1:
                t1 = group_end(self, t0, tile1, self.group_tiles)
                if d.dw != NULL and loaded != g * self.box_count + t0:
                    loaded = g * self.box_count + t0
                    apart = transform_slices(kernels, self, &from_x, t0, t1, v, strip)
                for kb in range(kb0, kb1):
                    self.add_tiles(kernels, dy, g, q, kb, (kb - kb0) % self.kept_blocks, t0, t1, apart, t0 == tile0,
                                   t1 == tile1, d, private)
                t0 = t1
        kernels.leave(state)

    cdef void add_tiles(self, const fc_kernels *kernels, const Tensor *dy, ptrdiff_t g, ptrdiff_t q, ptrdiff_t kb,
                        ptrdiff_t kept, ptrdiff_t tile0, ptrdiff_t tile1, ptrdiff_t apart, bint first, bint last,
                        const Gradient *d, char *private) noexcept nogil:
        """Add the products of tiles [tile0, tile1) to dU of a column block, and dy's sums to the column sums."""
        cdef char *z = private + self.v_bytes
        cdef char *du = z + self.z_bytes + kept * self.du_bytes
        cdef char *strip = z + self.z_bytes + self.kept_blocks * self.du_bytes
        cdef ptrdiff_t width = self.block_width(kb), i, c = 0
        cdef char *sums = d.column_sums + ((q * self.groups + g) * self.padded_cols() + kb * self.block) * self.itemsize
        cdef Side from_dy
        from_dy.tensor, from_dy.mode = dy[0], FC_ZEROS
        from_dy.reach[0], from_dy.reach[1] = self.box[2], self.box[3]
        from_dy.channels = min(self.block, self.cols - kb * self.block)
        from_dy.channel0, from_dy.point = g * self.cols + kb * self.block, self.z_point
        from_dy.run = from_dy.runs = from_dy.tile = width
        if self.fused:
            self.lay_fused(&from_dy, self.lanes)
        for i in range(3):
            from_dy.low[i], from_dy.extent[i] = 0, self.extent[i + 1]
        if first:
            for i in range(width * self.itemsize):
                sums[i] = 0
        transform_tiles(kernels, self, &from_dy, tile0, tile1, z, strip, sums)
        if self.fused and d.dw != NULL:
            self.multiply_fused(kernels, private, g, kb, tile1 - tile0, d)
            return
        while d.dw != NULL and c < self.red:
            i = min(self.red, c + self.du_channels)
            self.multiply_channels(kernels, private, du, width, c, i, tile1 - tile0, apart, first)
            if last:
                self.finish(kernels, g, q, kb, c, i, du, d, private + self.share_size() - self.taps_bytes)
            c = i

    cdef void lay_fused(self, Side *side, ptrdiff_t run) noexcept nogil:
        """V or Z as fused products read it: [run of channels][tile][point][channel]."""
        side.point, side.tile, side.run = run, self.points * run, run
        side.runs = self.group_tiles * side.tile

    cdef void multiply_fused(self, const fc_kernels *kernels, char *private, ptrdiff_t g, ptrdiff_t kb, ptrdiff_t tiles,
                             const Gradient *d) noexcept nogil:
        """dw of a column block from all tiles: no dU in memory."""
        cdef char *z = private + self.v_bytes
        cdef char *taps = private + self.share_size() - self.taps_bytes
        cdef ptrdiff_t width = self.block_width(kb), tile = self.points * self.group_tiles * self.itemsize, c = 0, v
        cdef fc_fused_taps f
        f.m, f.tiles, f.to_channel = self.m, tiles, width
        while c < self.red:
            f.channels = min(self.finished, self.red - c)
            f.v, f.to_tap = private + c * tile, f.channels * width
            for v in range(width // self.lanes):
                f.z, f.to = z + v * self.lanes * tile, taps + v * self.lanes * self.itemsize
                kernels.winograd_fused_taps(&f)
            self.join_block(kernels, d, taps, g, kb, c, c + f.channels)
            c += f.channels

    cdef void multiply_channels(self, const fc_kernels *kernels, const char *v, char *du, ptrdiff_t width,
                                ptrdiff_t c0, ptrdiff_t c1, ptrdiff_t tiles, ptrdiff_t apart,
                                bint first) noexcept nogil:
        """dU[point][slice][c1 - c0][width] (+)= V[point][tiles][c0:c1]^T Z[point][tiles][width].

        Z lies behind V.
        """
        cdef ptrdiff_t i
        cdef fc_products t
        t.points, t.rows, t.segs, t.len, t.n = self.points, c1 - c0, 1, tiles, width
        t.a_point, t.a_seg, t.a_row, t.a_step = self.v_point, 0, 1, self.channels
        t.b, t.b_point, t.c_point, t.c_row = v + self.v_bytes, self.z_point, self.du_point, width
        t.bias, t.activation, t.accumulate = NULL, FC_IDENTITY, not first
        for i in range(self.slices):
            t.a = v + (i * apart * self.channels + c0) * self.itemsize
            t.c = du + i * (c1 - c0) * width * self.itemsize
            kernels.products(&t)

    cdef void finish(self, const fc_kernels *kernels, ptrdiff_t g, ptrdiff_t q, ptrdiff_t kb, ptrdiff_t c0,
                     ptrdiff_t c1, const char *du, const Gradient *d, char *taps) noexcept nogil:
        """dU of channels [c0, c1) to a part's sums [tap][channel][column], or, a few channels at a time, to dw."""
        cdef fc_winograd j = self.transform_job()
        cdef ptrdiff_t width = self.block_width(kb), c = c0, step = min(self.finished, c1 - c0), t
        j.n, j.from_point = width, self.du_point
        while c < c1:
            j.tiles = min(step, c1 - c)
            j.to, j.to_point = taps, j.tiles * width
            if not self.single():
                j.to = d.part + (q * self.packed_size() + self.packed_offset(g, kb) + c * width) * self.itemsize
                j.to_point = self.red * width
            for t in range(self.slices):
                j.taps = self.taps_of_slice(t)
                j.from_ = du + (t * (c1 - c0) + c - c0) * width * self.itemsize
                kernels.winograd_taps(&j)
                j.to = <char *>j.to + j.taps * j.to_point * self.itemsize
            if self.single():
                self.join_block(kernels, d, taps, g, kb, c, c + j.tiles)
            c += j.tiles
