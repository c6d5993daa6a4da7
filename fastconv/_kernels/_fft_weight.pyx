"""Backward-weight by Fourier transforms (rules: _fft.pyx)."""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastconv._kernels._fft cimport LANES_GROUPS, LANES_TILES, Fourier, Place
from fastconv._kernels._runtime cimport (
    Scratch, fc_current, fc_fft, fc_kernels, fc_master, fc_settle, fc_spectral, fc_this_thread, give_scratch, shares_of,
    take_scratch,
)
from fastconv._kernels._tensor cimport Tensor, tensor_of

cnp.import_array()


@cython.final
cdef class FftWeight(Fourier):
    """dw of one shape, order and dtype; db by `strict`, the direct plan.

    Work item = (part, block of groups, group of column blocks). A part is a fixed run of boxes of tiles, whose products
    V conj(Z), with Z the spectra of dy, are summed to a dU of its own. The parts' are added up in order, then
    transformed back to taps.
    """

    cdef ptrdiff_t parts
    cdef object strict

    def __cinit__(self, blocking, n, groups, red, cols, kernel, mode, f64, flops, transposed, strict):
        self.weight, self.parts, self.strict = True, blocking.parts, strict

    @property
    def scratch_bytes(self):
        """Bytes of all partial sums."""
        return max(self.parts * self.sums_bytes(), self.strict.scratch_bytes)

    @property
    def share_bytes(self):
        return max(self.share_size(), self.strict.share_bytes)

    @property
    def work_items(self):
        return self.parts * self.group_blocks * self.k_groups

    cdef ptrdiff_t sums_bytes(self) noexcept nogil:
        return self.u_blocks * self.spectrum_bytes(self.u_len)

    def run(self, cnp.ndarray src, cnp.ndarray grad, cnp.ndarray dw, cnp.ndarray db, bint accumulate, num_threads):
        """dw (contiguous) and db from x and dy; either result may be None."""
        if db is not None:
            self.strict.run(src, grad, None, db, accumulate, num_threads)
        if dw is None:
            return
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef Tensor x = tensor_of(src), dy = tensor_of(grad)
        cdef char *to = <char *>cnp.PyArray_DATA(dw)
        cdef ptrdiff_t items = self.parts * self.group_blocks * self.k_groups, size = self.share_size()
        cdef ptrdiff_t sums = self.sums_bytes(), lines = self.u_blocks * (self.u_len // self.lanes)
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t, joiners = min(shares, lines)
        cdef Scratch scratch = take_scratch(self.parts * sums + shares * size)
        cdef char *private = scratch.data + self.parts * sums
        cdef fc_master master = fc_this_thread()
        with nogil:
            # Items are disjoint (part, block of groups, columns) pieces of the partial sums.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                fc_settle(&master)
                self.share(kernels, &x, &dy, scratch.data, private + t * size, items * t // shares,
                           items * (t + 1) // shares)
            # Runs of lines of dU are disjoint, and so are their taps.
            for t in prange(joiners, num_threads=joiners, schedule="static", chunksize=1):
                fc_settle(&master)
                self.join(kernels, scratch.data, to, accumulate, private + t * size, lines * t // joiners,
                          lines * (t + 1) // joiners)
        give_scratch(scratch)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *dy, char *sums, char *private,
                    ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups innermost, then blocks of groups, parts."""
        cdef uint64_t state = kernels.enter()
        cdef char *v = private + self.work_bytes
        cdef char *z = v + self.spectrum_bytes(self.v_len)
        cdef char *du
        cdef ptrdiff_t item, kp, kb, block, part, unit, first
        cdef Place at
        for item in range(item0, item1):
            kp, block = item % self.k_groups, item // self.k_groups % self.group_blocks
            part = item // self.k_groups // self.group_blocks
            du = sums + part * self.sums_bytes() + block * self.column_blocks * self.spectrum_bytes(self.u_len)
            first = self.units * part // self.parts
            for unit in range(first, self.units * (part + 1) // self.parts):
                at = self.place(unit, block)
                self.load_patches(kernels, x, &at, v, private)
                for kb in range(self.column_blocks * kp // self.k_groups,
                                self.column_blocks * (kp + 1) // self.k_groups):
                    self.load_gradients(kernels, dy, &at, kb, z, private)
                    self.multiply(kernels, v, z, du + kb * self.spectrum_bytes(self.u_len), &at, kb, unit > first)
        kernels.leave(state)

    cdef void load_gradients(self, const fc_kernels *kernels, const Tensor *dy, const Place *at, ptrdiff_t kb, char *z,
                             char *work) noexcept nogil:
        """Z of a block of columns: conjugates that undo the transforms' scale."""
        cdef fc_fft f = self.transform(work, self.m_len)
        cdef double biases[16]
        cdef ptrdiff_t i = 0
        f.conjugate, f.scale = True, 0.25 / self.size
        while i < self.m_len:
            self.result_lines(&f, dy, at, kb, i, NULL, <char *>biases)
            f.spectrum = z + i * self.itemsize
            kernels.fft_forward(&f)
            i += self.lanes

    cdef void multiply(self, const fc_kernels *kernels, const char *v, const char *z, char *du, const Place *at,
                       ptrdiff_t kb, bint accumulate) noexcept nogil:
        """dU of a block of columns (+)= sums over the tiles of a place."""
        cdef fc_spectral p
        cdef ptrdiff_t *row = <ptrdiff_t *>(z + self.spectrum_bytes(self.m_len))
        cdef ptrdiff_t *crow = row + self.most_rows
        cdef ptrdiff_t *aseg = crow + self.most_rows
        cdef ptrdiff_t *bseg = aseg + self.most_rows
        cdef ptrdiff_t i, c, k
        p.points, p.len_, p.n, p.a_step, p.b_step = self.points, 1, self.width(kb), 0, 0
        p.lanewise, p.accumulate = self.are == LANES_GROUPS, accumulate
        p.row, p.crow, p.aseg, p.bseg = row, crow, aseg, bseg
        p.a, p.a_point, p.a_im = v, self.point(self.v_len), self.v_len
        p.b, p.b_point, p.b_im = z, self.point(self.m_len), self.m_len
        p.c, p.c_point, p.c_im = du, self.point(self.u_len), self.u_len
        p.segs = self.list_tiles(at, aseg, self.v_patch, bseg, self.m_tile)
        if self.are == LANES_TILES:  # of dU, distances of taps
            p.a, p.a_point, p.a_im, p.b_point, p.b_im = z, p.b_point, p.b_im, p.a_point, p.a_im
            p.aseg, p.bseg, p.rows, p.n = bseg, aseg, self.cols, self.u_channel
            for k in range(self.cols):
                row[k], crow[k] = k * self.m_column, k * self.u_column
            for c in range(self.red):
                p.b, p.c = v + c * self.v_channel * self.itemsize, du + c * self.u_channel * self.itemsize
                kernels.spectral(&p)
        elif self.are == LANES_GROUPS:
            p.rows = self.all_taps
            for c in range(self.red):
                for k in range(self.cols):
                    p.a, p.b = v + c * self.v_channel * self.itemsize, z + k * self.m_column * self.itemsize
                    p.c = du + (c * self.u_channel + k * self.u_column) * self.itemsize
                    for i in range(self.all_taps):
                        row[i], crow[i] = self.shift(i) * self.v_patch, i * self.u_tap
                    kernels.spectral(&p)
        else:
            p.rows = self.red
            for c in range(self.red):
                row[c], crow[c] = c, c * self.u_channel
            for i in range(self.all_taps):
                p.a = v + self.shift(i) * self.v_patch * self.itemsize
                p.c = du + i * self.u_tap * self.itemsize
                kernels.spectral(&p)

    cdef void join(self, const fc_kernels *kernels, char *sums, char *dw, bint accumulate, char *work, ptrdiff_t item0,
                   ptrdiff_t item1) noexcept nogil:
        """Vectors [item0, item1) of lines of dU: their parts, added up in order, to taps."""
        cdef uint64_t state = kernels.enter()
        cdef fc_fft f = self.transform(work, self.u_len)
        cdef double biases[16]
        cdef ptrdiff_t item, vectors = self.u_len // self.lanes, part, i
        cdef char *first
        memset(biases, 0, sizeof(biases))
        f.bias, f.accumulate = biases, accumulate
        for item in range(item0, item1):
            first = sums + (item // vectors * self.spectrum_bytes(self.u_len)
                            + item % vectors * self.lanes * self.itemsize)
            for part in range(1, self.parts):
                for i in range(self.points):
                    add_vector(kernels, first + i * f.point * self.itemsize, part * self.sums_bytes(), self.lanes)
                    add_vector(kernels, first + (i * f.point + f.im) * self.itemsize, part * self.sums_bytes(),
                               self.lanes)
            self.weight_lines(&f, dw, item // vectors, item % vectors * self.lanes)
            f.spectrum = first
            if f.lanes:
                kernels.fft_backward(&f)
        kernels.leave(state)


cdef inline void add_vector(const fc_kernels *kernels, char *to, ptrdiff_t distance, ptrdiff_t lanes) noexcept nogil:
    kernels.add(to, to + distance, 0, to, lanes)
