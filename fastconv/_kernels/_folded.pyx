"""Forward and backward-input with few result channels (rules: _blocks.pyx; tiles: csrc/kernels/fold.h).

i. A cell is out_step results an axis. Its phases use one list of taps, the union of theirs, so that phases and
   channels together are the columns of one dense product: 4 phases x 3 channels fill 12 lanes where 3 did. A block of
   columns has the taps from the first to the last that its own phases use.
j. The weights that a phase lacks are zeros, and zero times infinity is NaN. A call whose results hold a NaN is
   done again by `strict`, the direct plan, so that non-finite values stay where they belong.
"""
cimport cython
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastconv._kernels._blocks cimport Blocks, Box, Phase, box_of
from fastconv._kernels._runtime cimport (
    FC_IDENTITY, FC_LEAKY_SLOPE, FC_RELU6, Scratch, fc_activation, fc_current, fc_fold, fc_gemm, fc_kernels, fc_master,
    fc_pack, fc_rows, fc_settle, fc_this_thread, give_scratch, shares_of, take_scratch,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, line, tensor_of

cnp.import_array()

cdef enum:
    FLAG_BYTES = 64  # of a share, whose last byte tells whether a NaN came out


@cython.final
cdef class Folded(Blocks):
    """Forward, or backward-input (``transposed``), of one shape, order and dtype."""

    cdef ptrdiff_t cell_cols       # columns of one phase
    cdef ptrdiff_t row_cols        # columns of the phases of one row
    cdef ptrdiff_t weight_taps     # taps of the plain weights
    cdef ptrdiff_t cells           # of a box
    cdef ptrdiff_t *tap            # [phase][union tap]: the tap of the plain weights, or -1
    cdef ptrdiff_t *used           # [block of columns]: begin and end of the taps that it uses
    cdef ptrdiff_t *first          # [phase]: d h w in the cell
    cdef ptrdiff_t bias_bytes
    cdef object strict             # the plan for operands that are not finite

    def __cinit__(self, blocking, n, groups, red, cols, kernel, mode, f64, flops, transposed, strict):
        cdef ptrdiff_t i
        self.strict = strict
        self.weight_taps, self.cell_cols = self.ntap, self.cols
        self._fill_union(blocking.axes, kernel)
        self.cols = self.phases * self.cell_cols
        self.col_blocks = ceil_div(self.cols, self.block)
        self._fill_used()
        self.k_groups = min(self.k_groups, self.col_blocks)
        self.cells = self.box[0]
        for i in range(3):
            self.cells *= ceil_div(self.box[i + 1], self.out_step[i])
        self.rows_bytes = line(self.cells * self.block * self.itemsize)
        self.bias_bytes = line(self.cols * self.itemsize)
        self.table_bytes = line((2 * self.cells + self.ntap) * sizeof(ptrdiff_t)) + self.bias_bytes

    cdef _fill_union(self, axes, kernel):
        """Replace the taps of the phases by the union of their offsets."""
        unions = [sorted({offset for phase in axis.phases for _, offset in phase}) for axis in axes]
        offsets = [(d, h, w) for d in unions[0] for h in unions[1] for w in unions[2]]
        free(self.offset)
        self.offset = <ptrdiff_t *>malloc(3 * len(offsets) * sizeof(ptrdiff_t))
        self.tap = <ptrdiff_t *>malloc(self.phases * len(offsets) * sizeof(ptrdiff_t))
        self.first = <ptrdiff_t *>malloc(3 * self.phases * sizeof(ptrdiff_t))
        if self.offset == NULL or self.tap == NULL or self.first == NULL:
            raise MemoryError("fastconv: could not allocate the tables of a convolution plan")
        self.ntap = len(offsets)
        self.row_cols = len(axes[2].phases) * self.cell_cols
        for u, offset in enumerate(offsets):
            for i in range(3):
                self.offset[3 * u + i] = offset[i]
        cdef ptrdiff_t ph = 0
        for a, taps_d in enumerate(axes[0].phases):
            for b, taps_h in enumerate(axes[1].phases):
                for c, taps_w in enumerate(axes[2].phases):
                    own = {(od, oh, ow): (td * kernel[1] + th) * kernel[2] + tw
                           for td, od in taps_d for th, oh in taps_h for tw, ow in taps_w}
                    for u, offset in enumerate(offsets):
                        self.tap[ph * self.ntap + u] = own.get(offset, -1)
                    self.first[3 * ph], self.first[3 * ph + 1], self.first[3 * ph + 2] = a, b, c
                    ph += 1

    cdef _fill_used(self):
        """Find the run of taps that each block of columns uses."""
        cdef ptrdiff_t kb, ph, u
        cdef ptrdiff_t *run
        self.used = <ptrdiff_t *>malloc(2 * self.col_blocks * sizeof(ptrdiff_t))
        if self.used == NULL:
            raise MemoryError("fastconv: could not allocate the tables of a convolution plan")
        for kb in range(self.col_blocks):
            run = self.used + 2 * kb
            run[0], run[1] = self.ntap, 0
            for ph in range(kb * self.block // self.cell_cols,
                            ceil_div(min((kb + 1) * self.block, self.cols), self.cell_cols)):
                for u in range(self.ntap):
                    if self.tap[ph * self.ntap + u] >= 0:
                        run[0], run[1] = min(run[0], u), max(run[1], u + 1)
            run[0] = min(run[0], run[1])

    def __dealloc__(self):
        free(self.tap)
        free(self.used)
        free(self.first)

    @property
    def packed_bytes(self):
        return line(self.packed_size() * self.itemsize)

    @property
    def scratch_bytes(self):
        """Scratch memory that all threads share: plain weights are packed into it."""
        return max(self.packed_bytes, self.strict.scratch_bytes)

    @property
    def share_bytes(self):
        """Scratch memory of one share, of the strict plan's if that needs more."""
        return max(self.share_size() + FLAG_BYTES, self.strict.share_bytes)

    @property
    def work_items(self):
        return self.box_count * self.groups * self.k_groups

    cdef fc_fold fold(self, ptrdiff_t kb) noexcept nogil:
        cdef fc_fold f
        cdef ptrdiff_t i
        f.column0, f.cols, f.row_cols = kb * self.block, self.cell_cols, self.row_cols
        f.tap, f.taps, f.first = self.tap + self.used[2 * kb], self.ntap, self.first
        for i in range(3):
            f.step[i] = self.out_step[i]
        return f

    cdef void pack_share(self, const fc_kernels *kernels, const char *w, char *packed, ptrdiff_t item0,
                         ptrdiff_t item1) noexcept nogil:
        """Pack the blocks [item0, item1), counted over (group, block)."""
        cdef fc_pack job
        cdef fc_fold f
        cdef ptrdiff_t item, g, kb
        job.at, job.len = NULL, self.red
        job.col = self.weight_taps if self.transposed else self.red * self.weight_taps
        job.red = self.cell_cols * self.weight_taps if self.transposed else self.weight_taps
        for item in range(item0, item1):
            g, kb = item // self.col_blocks, item % self.col_blocks
            f = self.fold(kb)
            job.ntap = self.used[2 * kb + 1] - self.used[2 * kb]
            job.n = min(self.block, self.cols - kb * self.block)
            job.src = w + g * self.red * self.cell_cols * self.weight_taps * self.itemsize
            job.dst = packed + self.packed_offset(g, kb) * self.itemsize
            kernels.pack_folded(&job, &f)

    def run(self, cnp.ndarray src, cnp.ndarray w, cnp.ndarray packed, bint transformed, cnp.ndarray bias,
            cnp.ndarray dst, int activation, num_threads):
        """dst = activation(correlation of src with w + bias); `packed` is not used."""
        cdef const fc_kernels *kernels = fc_current(self.f64)
        cdef Tensor x = tensor_of(src), y = tensor_of(dst)
        cdef const char *b = <const char *>cnp.PyArray_DATA(bias) if bias is not None else NULL
        cdef const char *raw = <const char *>cnp.PyArray_DATA(w)
        cdef ptrdiff_t items = self.work_items, packs = self.groups * self.col_blocks
        cdef Py_ssize_t shares = shares_of(num_threads, items, self.flops), t
        cdef Py_ssize_t packers = min(shares, packs)
        cdef ptrdiff_t packed_bytes = self.packed_bytes, share_bytes = self.share_size() + FLAG_BYTES
        cdef Scratch scratch = take_scratch(packed_bytes + shares * share_bytes)
        cdef char *weights = scratch.data
        cdef char *private = scratch.data + packed_bytes
        cdef bint nan = False
        cdef fc_master master = fc_this_thread()
        with nogil:
            # Blocks of packed weights are disjoint.
            for t in prange(packers, num_threads=packers, schedule="static", chunksize=1):
                fc_settle(&master)
                self.pack_share(kernels, raw, weights, packs * t // packers, packs * (t + 1) // packers)
            # Items are disjoint boxes x columns of dst.
            for t in prange(shares, num_threads=shares, schedule="static", chunksize=1):
                fc_settle(&master)
                private[(t + 1) * share_bytes - 1] = self.share(
                    kernels, &x, &y, weights, b, <fc_activation>activation, private + t * share_bytes,
                    items * t // shares, items * (t + 1) // shares)
        for t in range(shares):
            nan = nan or private[(t + 1) * share_bytes - 1]
        give_scratch(scratch)
        if nan:
            self.strict.run(src, w, None, False, bias, dst, activation, num_threads)

    cdef bint share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *weights,
                    const char *bias, fc_activation activation, char *private, ptrdiff_t item0,
                    ptrdiff_t item1) noexcept nogil:
        """Work items [item0, item1): column groups outermost, then groups, then boxes. Whether a NaN came out."""
        cdef bint nan = False
        cdef uint64_t state = kernels.enter()
        cdef char *columns = private + self.share_size() - self.bias_bytes
        cdef ptrdiff_t item, g, part, j
        cdef Box b
        cdef Tensor a
        for item in range(item0, item1):
            b = box_of(self.extent, self.grain, self.boxes, item % self.box_count)
            g = item // self.box_count % self.groups
            part = item // self.box_count // self.groups
            a = self.source(kernels, x, &b, 0, g * self.red, self.red, private)
            if bias != NULL:
                for j in range(self.cols):
                    memcpy(columns + j * self.itemsize,
                           bias + (g * self.cell_cols + j % self.cell_cols) * self.itemsize, self.itemsize)
                memset(columns + self.cols * self.itemsize, 0, self.bias_bytes - self.cols * self.itemsize)
            nan |= self.item(kernels, &a, y, &b, g, self.col_blocks * part // self.k_groups,
                             self.col_blocks * (part + 1) // self.k_groups, weights,
                             columns if bias != NULL else NULL, activation, private + self.strip_bytes)
        kernels.leave(state)
        return nan

    cdef bint item(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b, ptrdiff_t g,
                   ptrdiff_t kb0, ptrdiff_t kb1, const char *weights, const char *bias, fc_activation activation,
                   char *rows) noexcept nogil:
        """One box of one group: a dense product over its cells for each column block, then the store."""
        cdef ptrdiff_t *row = <ptrdiff_t *>(rows + self.rows_bytes)
        cdef ptrdiff_t *crow = row + self.cells
        cdef ptrdiff_t *seg = crow + self.cells
        cdef ptrdiff_t kb, width, i, n, cells = 1
        cdef bint nan = False
        cdef Phase taps
        cdef fc_gemm t
        cdef fc_rows r
        cdef fc_fold f
        t.a, t.row, t.crow, t.seg, t.bseg, t.c, t.accumulate = a.data, row, crow, seg, NULL, rows, 0
        t.activation = activation if activation <= FC_RELU6 else FC_IDENTITY
        for i in range(3):
            r.x_axis[i], r.count[i] = y.axis[i], b.count[i + 1]
            cells *= ceil_div(b.count[i + 1], self.out_step[i])
        r.x_c, r.column_sum = y.c, NULL
        for kb in range(kb0, kb1):
            f = self.fold(kb)
            taps.tap0, taps.segs = self.used[2 * kb], self.used[2 * kb + 1] - self.used[2 * kb]
            t.nseg = self.fill_segments(a, &taps, seg, &t)
            width = self.block_width(kb)
            r.n = min(self.block, self.cols - kb * self.block)
            t.n = width  # whole vectors, so that nothing old is looked at for a NaN
            t.rows = self.fill_cells(a, b, row, crow, width)
            t.b = weights + self.packed_offset(g, kb) * self.itemsize
            t.bias = bias + f.column0 * self.itemsize if bias != NULL else NULL
            kernels.gemm(&t)
            nan |= kernels.has_nan(rows, t.rows * width)
            if activation > FC_RELU6:
                kernels.activate(activation, FC_LEAKY_SLOPE, rows, rows, t.rows * width, False)
            for n in range(b.count[0]):
                r.rows = rows + n * cells * width * self.itemsize
                r.x = y.data + ((b.origin[0] + n) * y.n + g * self.cell_cols * y.c + b.origin[1] * y.axis[0]
                                + b.origin[2] * y.axis[1] + b.origin[3] * y.axis[2]) * self.itemsize
                kernels.store_folded(&r, &f)
        return nan

    cdef ptrdiff_t fill_cells(self, const Tensor *a, const Box *b, ptrdiff_t *row, ptrdiff_t *crow,
                              ptrdiff_t width) noexcept nogil:
        """Source offset of every cell of the box, and its row of results."""
        cdef ptrdiff_t m = 0, n, d, h, w, origin
        for n in range(b.count[0]):
            for d in range(ceil_div(b.count[1], self.out_step[0])):
                for h in range(ceil_div(b.count[2], self.out_step[1])):
                    origin = (n * a.n + d * self.in_step[0] * a.axis[0] + h * self.in_step[1] * a.axis[1])
                    for w in range(ceil_div(b.count[3], self.out_step[2])):
                        row[m], crow[m] = origin + w * self.in_step[2] * a.axis[2], m * width
                        m += 1
        return m
