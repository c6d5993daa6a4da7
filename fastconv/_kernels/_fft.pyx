"""Convolution by Fourier transforms along rows, stride 1: forward and backward-input; what all operations share.

a. A tile is `results` neighbouring results of a row, its patch the `size` elements of the source that a slice of the
   row's taps needs for them. Their correlation is a product at each frequency (overlap-save). The other taps (those of
   other rows, and beyond the first slice) are so many patches more, and sums over them and the channels are taken
   between the transforms. So transforms stay in L2 however long the kernel, and images of two and three axes need
   nothing of their own. Where there are several slices, patches are as far apart as these, and tiles share them.
b. A vector holds lines, one a lane, and transforms need no shuffles: lanes are result columns (dense layers), or
   neighbouring tiles (few columns), or groups (depthwise layers). Spectra lie by frequency: [frequency][re, im][line].
c. First all weights are transformed, by all threads, to U (or are packed so). Then a work item transforms the patches
   of some tiles to V, multiplies and sums for each frequency to M, and transforms that back, a block of columns at a
   time. Items are images x boxes of tiles x blocks of groups x groups of column blocks, whatever the number of threads.
d. A value that isn't finite reaches all results of the tiles whose patches hold it.
"""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from fastconv._kernels._runtime cimport (
    FC_IDENTITY, FC_ZEROS, Scratch, fc_activation, fc_current, fc_fft, fc_kernels, fc_master, fc_pad_mode,
    fc_settle, fc_spectral, fc_this_thread, give_scratch, padded_source, shares_of, take_scratch,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, element, line, tensor_of

from fastconv.planning_fft import COLUMNS, TILES, fft_roots

cnp.import_array()


cdef class Fourier:
    """Tiles, boxes and layouts of a planning_fft.FftBlocking."""

    def __cinit__(self, blocking, ptrdiff_t n, ptrdiff_t groups, ptrdiff_t red, ptrdiff_t cols, kernel, int mode,
                  bint f64, double flops, bint transposed=False, *args):
        cdef const fc_kernels *kernels = fc_current(f64)
        cdef int i
        self.blocking, self.flops, self.transposed, self.f64 = blocking, flops, transposed, f64
        self.mode = <fc_pad_mode>mode
        self.itemsize, self.lanes = kernels.itemsize, kernels.lanes
        self.n, self.groups, self.red, self.cols, self.row_taps = n, groups, red, cols, kernel[2]
        tile = blocking.tile
        self.size, self.results, self.slice_taps, self.step = tile.size, tile.results, tile.taps, tile.step
        self.points = self.size // 2 + 1
        self.roots = fft_roots(tile.size, "float64" if f64 else "float32")
        self.are = (LANES_COLUMNS if blocking.lanes_are == COLUMNS else
                    LANES_TILES if blocking.lanes_are == TILES else LANES_GROUPS)
        self.units = n
        for i in range(3):
            axis = blocking.axes[i]
            self.src[i], self.dst[i], self.low[i] = axis.src, axis.dst, axis.low
            self.taps[i], self.tiles[i] = blocking.taps[i], blocking.tiles[i]
            self.box[i], self.boxes[i] = blocking.box[i], blocking.boxes[i]
            self.reach[i] = self.box[i] + self.taps[i] - 1
            self.units *= self.boxes[i]
        self.all_taps = self.taps[0] * self.taps[1] * self.taps[2]
        self.most_tiles = self.box[0] * self.box[1] * self.box[2]
        self.group_blocks, self.column_blocks = blocking.group_blocks, blocking.column_blocks
        self.u_blocks = self.group_blocks * self.column_blocks
        self.columns, self.k_groups = blocking.columns, blocking.k_groups
        self.v_len, self.v_patch, self.v_channel = blocking.v
        self.u_len, self.u_tap, self.u_channel, self.u_column = blocking.u
        self.m_len, self.m_tile, self.m_column = blocking.m
        # Rows of products and what each sums over: tiles, taps, channels, in one way or the other.
        self.most_rows = max(self.most_tiles, self.all_taps, self.red, self.cols)
        self.table_bytes = line(4 * self.most_rows * sizeof(ptrdiff_t))
        self.work_bytes = 2 * self.size * self.lanes * self.itemsize

    cdef ptrdiff_t point(self, ptrdiff_t length) noexcept nogil:
        """Elements of a frequency: two planes, and a cache line, so that frequencies don't fall into one L1 set."""
        return 2 * length + 64 // self.itemsize

    cdef ptrdiff_t spectrum_bytes(self, ptrdiff_t length) noexcept nogil:
        return line(self.points * self.point(length) * self.itemsize)

    cdef ptrdiff_t share_size(self) noexcept nogil:
        return (self.spectrum_bytes(self.v_len) + self.spectrum_bytes(self.m_len) + self.work_bytes
                + self.table_bytes)

    @property
    def share_bytes(self):
        """Scratch memory of one thread."""
        return self.share_size()

    # ------------------------------------------------------------ tiles and lines

    cdef fc_fft transform(self, char *work, ptrdiff_t length) noexcept nogil:
        """What all transforms to or from spectra of `length` lines have in common."""
        cdef fc_fft f
        memset(&f, 0, sizeof(fc_fft))
        f.size, f.roots, f.work = self.size, cnp.PyArray_DATA(<cnp.ndarray>self.roots), work
        f.point, f.im, f.mode, f.scale, f.activation = self.point(length), length, FC_ZEROS, 1, FC_IDENTITY
        return f

    cdef Place place(self, ptrdiff_t unit, ptrdiff_t group_block) noexcept nogil:
        """Box number `unit` of all images, w fastest."""
        cdef Place p
        cdef int i
        p.groups = group_block
        for i in range(2, -1, -1):
            p.origin[i] = unit % self.boxes[i] * self.box[i]
            p.count[i] = min(self.box[i], self.tiles[i] - p.origin[i])
            unit //= self.boxes[i]
        p.n = unit
        return p

    cdef ptrdiff_t shift(self, ptrdiff_t tap) noexcept nogil:
        """Patches from a tile's first one to that of a tap."""
        return ((tap // self.taps[2] // self.taps[1] * self.reach[1] + tap // self.taps[2] % self.taps[1])
                * self.reach[2] + tap % self.taps[2])

    cdef ptrdiff_t list_tiles(self, const Place *at, ptrdiff_t *patch, ptrdiff_t patch_step, ptrdiff_t *result,
                              ptrdiff_t result_step) noexcept nogil:
        """Where the first patches and the results of a place's tiles lie; returns how many there are.

        Results are counted as they come, or like patches where lanes are tiles.
        """
        cdef ptrdiff_t d, h, w, i = 0, at_patch
        for d in range(at.count[0]):
            for h in range(at.count[1]):
                for w in range(at.count[2]):
                    at_patch = (d * self.reach[1] + h) * self.reach[2] + w
                    patch[i] = at_patch * patch_step
                    result[i] = (at_patch if self.are == LANES_TILES else i) * result_step
                    i += 1
        return i

    cdef ptrdiff_t width(self, ptrdiff_t kb) noexcept nogil:
        """Lanes of a block of columns that are multiplied."""
        if self.are == LANES_COLUMNS:
            return min(self.columns, ceil_div(self.cols - kb * self.columns, self.lanes) * self.lanes)
        return self.lanes if self.are == LANES_GROUPS else self.m_column

    cdef void weight_lines(self, fc_fft *f, const char *w, ptrdiff_t block, ptrdiff_t first) noexcept nogil:
        """Slices of weights' rows, in lines from `first` on of a block of groups and columns; turned round for dx."""
        cdef ptrdiff_t l, i, d, h, s, c, k, g, flat
        f.lanes, f.step, f.extent, f.len_, f.reversed_ = 0, 1, self.row_taps, self.slice_taps, self.transposed
        for l in range(self.lanes):
            i, g = first + l, block // self.column_blocks
            if self.are == LANES_GROUPS:
                g, i = block * self.lanes + l, i // self.lanes
                k, i = i % self.cols, i // self.cols
                c, flat = i % self.red, i // self.red
            elif self.are == LANES_TILES:
                flat, i = i % self.u_channel, i // self.u_channel
                c, k = i % self.red, i // self.red
            else:
                k, i = block % self.column_blocks * self.columns + i % self.columns, i // self.columns
                c, flat = i % self.red, i // self.red
            if self.weight and self.are == LANES_TILES:
                d, h, s = flat // self.reach[2] // self.reach[1], flat // self.reach[2] % self.reach[1], (
                    flat % self.reach[2])
            else:
                d, h, s = flat // self.taps[2] // self.taps[1], flat // self.taps[2] % self.taps[1], (
                    flat % self.taps[2])
            f.line[l] = NULL
            if g >= self.groups or k >= self.cols or d >= self.taps[0] or h >= self.taps[1] or s >= self.taps[2]:
                continue
            if self.transposed:
                d, h, i = self.taps[0] - 1 - d, self.taps[1] - 1 - h, (g * self.red + c) * self.cols + k
                f.at[l] = self.row_taps - 1 - s * self.slice_taps
            else:
                i, f.at[l] = (g * self.cols + k) * self.red + c, s * self.slice_taps
            f.line[l] = <char *>w + ((i * self.taps[0] + d) * self.taps[1] + h) * self.row_taps * self.itemsize
            f.lanes = l + 1

    cdef void patch_lines(self, fc_fft *f, const Tensor *x, const Place *at, ptrdiff_t first) noexcept nogil:
        """Patches of the source, in lines from `first` on."""
        cdef ptrdiff_t l, i, c, p, g = at.groups, d, h, w
        f.lanes = 0
        for l in range(self.lanes):
            i = first + l
            if self.are == LANES_GROUPS:
                g, i = at.groups * self.lanes + l, i // self.lanes
                c, p = i % self.red, i // self.red
            elif self.are == LANES_TILES:
                c, p = i // self.v_channel, i % self.v_channel
            else:
                c, p = i % self.v_patch, i // self.v_patch
            d, h, w = p // self.reach[2] // self.reach[1], p // self.reach[2] % self.reach[1], p % self.reach[2]
            f.line[l] = NULL
            if (g >= self.groups or c >= self.red or d >= at.count[0] + self.taps[0] - 1
                    or h >= at.count[1] + self.taps[1] - 1 or w >= at.count[2] + self.taps[2] - 1):
                continue
            d = padded_source(at.origin[0] + d + self.low[0], self.src[0], self.mode)
            h = padded_source(at.origin[1] + h + self.low[1], self.src[1], self.mode)
            f.at[l] = (at.origin[2] + w) * self.step + self.low[2]
            if d >= 0 and h >= 0:
                f.line[l] = element(x, at.n, g * self.red + c, d, h, 0)
            f.lanes = l + 1

    cdef void result_lines(self, fc_fft *f, const Tensor *y, const Place *at, ptrdiff_t kb, ptrdiff_t first,
                           const char *bias, char *biases) noexcept nogil:
        """Tiles of results, in lines from `first` on, and the biases of the lanes."""
        cdef ptrdiff_t l, i, k, g = at.groups, d, h, w
        f.lanes, f.step, f.extent, f.len_, f.bias = 0, y.axis[2], self.dst[2], self.results, biases
        for l in range(self.lanes):
            i = first + l
            if self.are == LANES_GROUPS:
                g, i = at.groups * self.lanes + l, i // self.lanes
                k, i = i % self.cols, i // self.cols
            elif self.are == LANES_TILES:
                k, i = i // self.m_column, i % self.m_column
            else:
                k, i = kb * self.columns + i % self.columns, i // self.columns
            if self.are == LANES_TILES:
                d, h, w = i // self.reach[2] // self.reach[1], i // self.reach[2] % self.reach[1], i % self.reach[2]
            else:
                d, h, w = i // at.count[2] // at.count[1], i // at.count[2] % at.count[1], i % at.count[2]
            f.line[l] = NULL
            if g >= self.groups or k >= self.cols or d >= at.count[0] or h >= at.count[1] or w >= at.count[2]:
                continue
            f.line[l] = element(y, at.n, g * self.cols + k, at.origin[0] + d, at.origin[1] + h, 0)
            f.at[l] = (at.origin[2] + w) * self.results
            if bias != NULL:
                memcpy(biases + l * self.itemsize, bias + (g * self.cols + k) * self.itemsize, self.itemsize)
            f.lanes = l + 1

    cdef void load_patches(self, const fc_kernels *kernels, const Tensor *x, const Place *at, char *v,
                           char *work) noexcept nogil:
        """The spectra of all patches of a place."""
        cdef fc_fft f = self.transform(work, self.v_len)
        cdef ptrdiff_t i = 0
        f.step, f.extent, f.len_, f.mode = x.axis[2], self.src[2], self.size, self.mode
        while i < self.v_len:
            self.patch_lines(&f, x, at, i)
            f.spectrum = v + i * self.itemsize
            if f.lanes or self.are == LANES_TILES:
                kernels.fft_forward(&f)
            i += self.lanes


@cython.final
cdef class Fft(Fourier):
    """Forward, or backward-input (``transposed``), of one shape, order and dtype."""

    @property
    def packed_bytes(self):
        """Bytes of all transformed weights."""
        return self.u_blocks * self.spectrum_bytes(self.u_len)

    @property
    def scratch_bytes(self):
        return self.packed_bytes

    @property
    def work_items(self):
        return self.units * self.group_blocks * self.k_groups

    def pack(self, cnp.ndarray w, cnp.ndarray packed):
        """Fill `packed` (packed_bytes long) from contiguous weights; returns that they were transformed."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef const char *source = <const char *>cnp.PyArray_DATA(w)
        cdef char *target = <char *>cnp.PyArray_DATA(packed)
        cdef Scratch scratch = take_scratch(self.work_bytes)
        with nogil:
            self.transform_weights(kernels, source, target, scratch.data, 0, self.weight_items())
        give_scratch(scratch)
        return True

    cdef ptrdiff_t weight_items(self) noexcept nogil:
        return self.u_blocks * (self.u_len // self.lanes)

    cdef void transform_weights(self, const fc_kernels *kernels, const char *w, char *u, char *work, ptrdiff_t item0,
                                ptrdiff_t item1) noexcept nogil:
        """U of vectors [item0, item1) of lines: conjugates, for a correlation, that undo the transforms' scale."""
        cdef uint64_t state = kernels.enter()
        cdef fc_fft f = self.transform(work, self.u_len)
        cdef ptrdiff_t item, vectors = self.u_len // self.lanes
        f.conjugate, f.scale = True, 0.25 / self.size
        for item in range(item0, item1):
            self.weight_lines(&f, w, item // vectors, item % vectors * self.lanes)
            f.spectrum = u + (item // vectors * self.spectrum_bytes(self.u_len)
                              + item % vectors * self.lanes * self.itemsize)
            kernels.fft_forward(&f)
        kernels.leave(state)

    def run(self, cnp.ndarray src, cnp.ndarray w, cnp.ndarray packed, bint transformed, cnp.ndarray bias,
            cnp.ndarray dst, int activation, num_threads):
        """dst = activation(correlation of src with w, or with its packed form, + bias)."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef Tensor x = tensor_of(src), y = tensor_of(dst)
        cdef const char *b = <const char *>cnp.PyArray_DATA(bias) if bias is not None else NULL
        cdef const char *raw = <const char *>cnp.PyArray_DATA(w) if packed is None else NULL
        cdef ptrdiff_t items = self.units * self.group_blocks * self.k_groups, size = self.share_size()
        cdef ptrdiff_t weights = self.weight_items(), held = self.packed_bytes if packed is None else 0
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t, packers = min(shares, weights)
        cdef Scratch scratch = take_scratch(held + shares * size)
        cdef char *private = scratch.data + held
        cdef char *u = scratch.data if packed is None else <char *>cnp.PyArray_DATA(packed)
        cdef fc_master master = fc_this_thread()
        with nogil:
            if raw != NULL:
                # Vectors of lines of U are disjoint.
                for t in prange(packers, num_threads=packers, schedule="static", chunksize=1):
                    fc_settle(&master)
                    self.transform_weights(kernels, raw, u, private + t * size, weights * t // packers,
                                           weights * (t + 1) // packers)
            # Items are disjoint tiles x columns of dst.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                fc_settle(&master)
                self.share(kernels, &x, &y, u, b, <fc_activation>activation, private + t * size, items * t // shares,
                           items * (t + 1) // shares)
        give_scratch(scratch)

    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *u, const char *bias,
                    fc_activation activation, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups innermost, then blocks of groups, boxes, images."""
        cdef uint64_t state = kernels.enter()
        cdef char *v = private + self.work_bytes
        cdef char *m = v + self.spectrum_bytes(self.v_len)
        cdef ptrdiff_t item, kp, kb, block, loaded = -1
        cdef Place at
        for item in range(item0, item1):
            kp, block = item % self.k_groups, item // self.k_groups % self.group_blocks
            at = self.place(item // self.k_groups // self.group_blocks, block)
            if loaded != item // self.k_groups:
                loaded = item // self.k_groups
                self.load_patches(kernels, x, &at, v, private)
            for kb in range(self.column_blocks * kp // self.k_groups, self.column_blocks * (kp + 1) // self.k_groups):
                self.multiply(kernels, u + (block * self.column_blocks + kb) * self.spectrum_bytes(self.u_len), v, m,
                              &at, kb)
                self.store_results(kernels, y, &at, kb, bias, activation, m, private)
        kernels.leave(state)

    cdef void multiply(self, const fc_kernels *kernels, const char *u, const char *v, char *m, const Place *at,
                       ptrdiff_t kb) noexcept nogil:
        """M of a block of columns: sums over taps and channels."""
        cdef fc_spectral p
        cdef ptrdiff_t *row = <ptrdiff_t *>(m + self.spectrum_bytes(self.m_len))
        cdef ptrdiff_t *crow = row + self.most_rows
        cdef ptrdiff_t *aseg = crow + self.most_rows
        cdef ptrdiff_t *bseg = aseg + self.most_rows
        cdef ptrdiff_t i, k
        p.points, p.segs, p.len_, p.n, p.accumulate = self.points, self.all_taps, self.red, self.width(kb), False
        p.lanewise = self.are == LANES_GROUPS
        p.row, p.crow, p.aseg, p.bseg, p.c = row, crow, aseg, bseg, m
        p.c_point, p.c_im = self.point(self.m_len), self.m_len
        if self.are == LANES_TILES:  # rows are columns, which the weights have one after the other
            p.a, p.a_point, p.a_im, p.a_step = u, self.point(self.u_len), self.u_len, self.u_channel
            p.b, p.b_point, p.b_im, p.b_step = v, self.point(self.v_len), self.v_len, self.v_channel
            p.rows = self.cols
            for k in range(self.cols):
                row[k], crow[k] = k * self.u_column, k * self.m_column
            for i in range(self.all_taps):
                aseg[i], bseg[i] = i * self.u_tap, self.shift(i) * self.v_patch
            kernels.spectral(&p)
            return
        p.a, p.a_point, p.a_im, p.a_step = v, self.point(self.v_len), self.v_len, self.v_channel
        p.b, p.b_point, p.b_im, p.b_step = u, self.point(self.u_len), self.u_len, self.u_channel
        p.rows = self.list_tiles(at, row, self.v_patch, crow, self.m_tile)
        for i in range(self.all_taps):
            aseg[i], bseg[i] = self.shift(i) * self.v_patch, i * self.u_tap
        if self.are == LANES_COLUMNS:
            kernels.spectral(&p)
            return
        for k in range(self.cols):
            p.b, p.c = u + k * self.u_column * self.itemsize, m + k * self.m_column * self.itemsize
            kernels.spectral(&p)

    cdef void store_results(self, const fc_kernels *kernels, const Tensor *y, const Place *at, ptrdiff_t kb,
                            const char *bias, fc_activation activation, char *m, char *work) noexcept nogil:
        """M of a block of columns to results."""
        cdef fc_fft f = self.transform(work, self.m_len)
        cdef double biases[16]
        cdef ptrdiff_t i = 0
        memset(biases, 0, sizeof(biases))
        f.activation = activation
        while i < self.m_len:
            self.result_lines(&f, y, at, kb, i, bias, <char *>biases)
            f.spectrum = m + i * self.itemsize
            if f.lanes:
                kernels.fft_backward(&f)
            i += self.lanes
