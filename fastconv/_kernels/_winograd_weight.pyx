"""Winograd backward-weight: dU[point] = V[point]^T Z[point] over tiles, dw = G^T dU G (rules: _blocks.pyx)."""
cimport cython
from libc.stdint cimport uint64_t

from fastconv._kernels._runtime cimport FC_IDENTITY, FC_ZEROS, fc_gemm, fc_kernels, fc_winograd
from fastconv._kernels._tensor cimport Tensor, ceil_div, line
from fastconv._kernels._weight_gradient cimport Gradient, PartialSums
from fastconv._kernels._winograd cimport Side, input_side, strip_size, transform_tiles


@cython.final
cdef class WinogradWeight(PartialSums):
    """dw and db of one stride-1 3x3 convolution.

    Work item = (part, group, column group). A part is a fixed run of tiles, taken `group_tiles` at a
    time: transform them to V and Z, then add V^T Z for each point to dU. The thread keeps the V of a part that
    is one such step for the next column group.
    """

    cdef ptrdiff_t m, points, channels, tiles, group_tiles, kept_blocks
    cdef ptrdiff_t v_point, z_point, du_point
    cdef ptrdiff_t v_bytes, z_bytes, du_bytes, taps_bytes

    def __cinit__(self, blocking, *args, **kwargs):
        cdef ptrdiff_t pad = 64 // self.itemsize
        self.m, self.tiles, self.group_tiles = blocking.winograd, self.box_count, blocking.group_tiles
        self.points = (self.m + 2) * (self.m + 2)
        self.channels = ceil_div(self.red, self.lanes) * self.lanes
        self.kept_blocks = ceil_div(self.col_blocks, self.k_groups)
        # A cache line more than a power of two: points must not fall into one L1 set.
        self.v_point, self.z_point = self.group_tiles * self.channels + pad, self.group_tiles * self.block + pad
        self.du_point = self.red * self.block + pad
        self.v_bytes = line(self.points * self.v_point * self.itemsize)
        self.z_bytes = line(self.points * self.z_point * self.itemsize)
        self.du_bytes = line(self.points * self.du_point * self.itemsize)
        self.strip_bytes = strip_size(self, self.m)
        self.taps_bytes = line(self.ntap * self.lanes * self.block * self.itemsize) if self.single() else 0
        self.table_bytes = line((max(self.red, 1) * 2) * sizeof(ptrdiff_t))

    cdef ptrdiff_t share_size(self) noexcept nogil:
        return (self.v_bytes + self.z_bytes + self.kept_blocks * self.du_bytes + self.strip_bytes + self.table_bytes
                + self.taps_bytes)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, const Gradient *d,
                    char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups innermost, then groups, then parts."""
        cdef uint64_t state = kernels.enter()
        cdef Side from_x = input_side(self, x, self.m, self.v_point)
        cdef char *v = private
        cdef char *strip = v + self.v_bytes + self.z_bytes + self.kept_blocks * self.du_bytes
        cdef ptrdiff_t item, g, q, kp, kb, kb0, kb1, tile0, tile1, steps, i, t0, t1, loaded = -1
        for item in range(item0, item1):
            kp = item % self.k_groups
            g = item // self.k_groups % self.groups
            q = item // self.k_groups // self.groups
            kb0, kb1 = self.col_blocks * kp // self.k_groups, self.col_blocks * (kp + 1) // self.k_groups
            from_x.channel0 = g * self.red
            tile0, tile1 = self.tiles * q // self.parts, self.tiles * (q + 1) // self.parts
            steps = ceil_div(tile1 - tile0, self.group_tiles)
            for i in range(steps):
                t0, t1 = tile0 + (tile1 - tile0) * i // steps, tile0 + (tile1 - tile0) * (i + 1) // steps
                if d.dw != NULL and (steps > 1 or loaded != item // self.k_groups):
                    loaded = item // self.k_groups
                    transform_tiles(kernels, self, &from_x, t0, t1, v, strip, NULL)
                for kb in range(kb0, kb1):
                    self.add_tiles(kernels, dy, g, q, kb, kb - kb0, t0, t1, i == 0, d, private)
            if d.dw != NULL:
                for kb in range(kb0, kb1):
                    self.finish(kernels, g, q, kb, kb - kb0, d, private)
        kernels.leave(state)

    cdef void add_tiles(self, const fc_kernels *kernels, const Tensor *dy, ptrdiff_t g, ptrdiff_t q, ptrdiff_t kb,
                        ptrdiff_t kept, ptrdiff_t tile0, ptrdiff_t tile1, bint first, const Gradient *d,
                        char *private) noexcept nogil:
        """Add the products of tiles [tile0, tile1) to dU of a column block, and dy's sums to the column sums."""
        cdef char *v = private
        cdef char *z = v + self.v_bytes
        cdef char *du = z + self.z_bytes + kept * self.du_bytes
        cdef char *strip = z + self.z_bytes + self.kept_blocks * self.du_bytes
        cdef ptrdiff_t *row = <ptrdiff_t *>(strip + self.strip_bytes)
        cdef ptrdiff_t *crow = row + self.red
        cdef ptrdiff_t width = self.block_width(kb), i, zero = 0
        cdef char *sums = d.column_sums + ((q * self.groups + g) * self.padded_cols() + kb * self.block) * self.itemsize
        cdef Side from_dy
        cdef fc_gemm t
        from_dy.tensor, from_dy.mode, from_dy.m, from_dy.reach = dy[0], FC_ZEROS, self.m, self.m
        from_dy.channels = min(self.block, self.cols - kb * self.block)
        from_dy.channel0, from_dy.point = g * self.cols + kb * self.block, self.z_point
        for i in range(3):
            from_dy.low[i], from_dy.extent[i] = 0, self.extent[i + 1]
        if first:
            for i in range(width * self.itemsize):
                sums[i] = 0
        transform_tiles(kernels, self, &from_dy, tile0, tile1, z, strip, sums)
        if d.dw == NULL:
            return
        for i in range(self.red):
            row[i], crow[i] = i, i * width
        t.row, t.crow, t.rows, t.seg, t.nseg = row, crow, self.red, &zero, 1
        t.len, t.step = tile1 - tile0, self.channels
        t.n, t.bias, t.accumulate, t.activation = width, NULL, not first, FC_IDENTITY
        for i in range(self.points):
            t.a = v + i * self.v_point * self.itemsize
            t.b = z + i * self.z_point * self.itemsize
            t.c = du + i * self.du_point * self.itemsize
            kernels.gemm(&t)

    cdef void finish(self, const fc_kernels *kernels, ptrdiff_t g, ptrdiff_t q, ptrdiff_t kb, ptrdiff_t kept,
                     const Gradient *d, char *private) noexcept nogil:
        """dU of a column block to a part's sums [tap][channel][column], or, some channels at a time, to dw."""
        cdef fc_winograd j
        cdef ptrdiff_t width = self.block_width(kb), c = 0, step = self.lanes if self.single() else self.red
        cdef const char *du = private + self.v_bytes + self.z_bytes + kept * self.du_bytes
        j.m, j.n, j.from_point, j.to = self.m, width, self.du_point, private + self.share_size() - self.taps_bytes
        if d.part != NULL:
            j.to = d.part + (q * self.packed_size() + self.packed_offset(g, kb)) * self.itemsize
        while c < self.red:
            j.tiles = min(step, self.red - c)
            j.from_, j.to_point = du + c * width * self.itemsize, j.tiles * width
            kernels.winograd_taps(&j)
            if self.single():
                self.join_block(kernels, d, <const char *>j.to, g, kb, c, c + j.tiles)
            c += j.tiles
