"""What the convolution drivers share: the C side of a planning.Blocking.

a. Forward and backward-input are one driver, `_correlation.Correlation`; backward-weight is
   `_weight_gradient.WeightGradient`. What a call does is fixed by its plan (fastconv/planning.py), which knows
   shapes and kernels but neither the arrays nor the number of threads.
b. Every parallel loop runs over shares: share t of T does the work items [n * t / T, n * (t + 1) / T)
   with scratch number t. Items don't depend on T, so neither do the bits.
c. Sizes, offsets and strides count elements; `char *` arithmetic multiplies by the itemsize once.
d. Three axes, always: d h w. Arrays with fewer spatial axes have extent 1 and stride 0 in front.
e. Depthwise convolution, and backward-weight of groups with few columns, put lanes of different groups into one
   vector: then all groups together are one, a block is one vector, and strips and tiles are those of
   csrc/kernels/lanes.h and slide.h. Turned: narrow channels-first planes are transposed for it, and the results back.
f. A thread reads nothing that another thread has just written, but packed weights and partial sums.
g. A planar plan has neighbouring pixels as lanes (csrc/kernels/planar.h): its strip is channels-first, and rows are
   split by the stride, so that what a vector of pixels reads at one tap is adjacent; of several stride phases, a
   vector's pixels are neighbours in one. A work item may have several groups, whose channels and columns are
   transposed together.
h. Regions (planning.uses_regions): results that have the same taps inside the source are multiplied at once, so that
   no padding is read. A correlation then reads the source in place, or an interleaved strip; backward-weight has a
   strip, and sums each tap over the pixels for which it lies in the source.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastconv._kernels._runtime cimport (
    fc_current, fc_gemm, fc_kernels, fc_lane_map, fc_pack, fc_pad_mode, fc_strip, fc_winograd,
)
from fastconv._kernels._tensor cimport Tensor, ceil_div, line


cdef Box box_of(const ptrdiff_t *extent, const ptrdiff_t *grain, const ptrdiff_t *boxes,
                ptrdiff_t index) noexcept nogil:
    """Box number `index`, w fastest: extents are split into boxes as evenly as the grain allows."""
    cdef Box b
    cdef ptrdiff_t cells, at
    cdef int i
    for i in range(3, -1, -1):
        cells, at = ceil_div(extent[i], grain[i]), index % boxes[i]
        b.origin[i] = cells * at // boxes[i] * grain[i]
        b.count[i] = min(cells * (at + 1) // boxes[i] * grain[i], extent[i]) - b.origin[i]
        index //= boxes[i]
    return b


cdef class Blocks:
    """The C side of a planning.Blocking: extents, strides of the strip, tap tables, scratch sizes."""

    def __cinit__(self, blocking, ptrdiff_t n, ptrdiff_t groups, ptrdiff_t red, ptrdiff_t cols, kernel, int mode,
                  bint f64, double flops, bint transposed=False, strict=None):
        cdef const fc_kernels *kernels = fc_current(f64)
        cdef int i
        self.blocking, self.flops, self.transposed = blocking, flops, transposed
        self.f64, self.mode = f64, <fc_pad_mode>mode
        self.itemsize, self.block, self.lanes = kernels.itemsize, kernels.block, kernels.lanes
        self.n, self.groups, self.red, self.cols, self.lane_cols = n, groups, red, cols, 0
        if blocking.lanewise:
            self.groups, self.cols, self.lane_cols, self.block = 1, groups * cols, cols, self.lanes
        self.region_channels = blocking.region_channels
        self.group_runs = ceil_div(self.groups, blocking.group_run)
        self.in_place, self.planar = blocking.in_place, blocking.planar
        self.split, self.strip_run = blocking.split, blocking.strip_run
        self.m = blocking.winograd
        self.tile_step[0], self.tile_step[1] = blocking.tile_step
        self.extent[0] = n
        for i in range(3):
            axis = blocking.axes[i]
            self.src[i], self.extent[i + 1] = axis.src, axis.dst
            self.in_step[i], self.out_step[i] = axis.in_step, axis.out_step
            self.low[i], self.high[i] = axis.low, axis.high
        for i in range(4):
            self.box[i], self.boxes[i] = blocking.box[i], blocking.boxes[i]
            self.grain[i] = self.out_step[i - 1] if i else 1
        if self.planar and not self.lane_cols and self.boxes[3] > 1:
            self.grain[3] = self.lanes * self.out_step[2]
        self.box_count = self.boxes[0] * self.boxes[1] * self.boxes[2] * self.boxes[3]
        self.strip_n, self.strip_c = blocking.strip_stride[0], blocking.strip_stride[1]
        for i in range(3):
            self.strip_axis[i] = blocking.strip_stride[i + 2]
        # Lanes beyond whole vectors of channels aren't read in place.
        in_place = self.in_place and (self.planar or self.cols % self.lanes * self.lane_cols == 0)
        self.strip_size = 0 if in_place else self.box[0] * self.strip_n
        self.k_groups, self.c_parts, self.parts = blocking.k_groups, blocking.c_parts, blocking.parts
        self.col_blocks = ceil_div(self.cols, self.block)
        self.ntap = kernel[0] * kernel[1] * kernel[2]
        self._fill_taps(blocking.axes, kernel)
        self._fill_slices(blocking, kernel)
        # Tiles of pixels read up to a vector beyond the last one.
        self.strip_bytes = line((self.strip_size + (self.lanes if self.planar else 0)) * self.itemsize)
        self.rows_bytes = line(self.box_pixels() * self.block * self.itemsize)

    cdef _fill_taps(self, axes, kernel):
        """Order the taps by phase; those of no phase, out of all reach or on padding alone, aren't packed."""
        cdef ptrdiff_t position = 0, t
        cdef Phase *phase
        self.used = 1
        for axis in axes:
            self.used *= sum(len(phase_taps) for phase_taps in axis.phases)
        self.phases = len(axes[0].phases) * len(axes[1].phases) * len(axes[2].phases)
        self.phase = <Phase *>malloc(self.phases * sizeof(Phase))
        self.at = <ptrdiff_t *>malloc(self.ntap * sizeof(ptrdiff_t))
        self.offset = <ptrdiff_t *>malloc(3 * max(self.used, 1) * sizeof(ptrdiff_t))
        if self.phase == NULL or self.at == NULL or self.offset == NULL:
            raise MemoryError("fastconv: could not allocate the tables of a convolution plan")
        for t in range(self.ntap):
            self.at[t] = -1
        phase = self.phase
        for a, taps_d in enumerate(axes[0].phases):
            for b, taps_h in enumerate(axes[1].phases):
                for c, taps_w in enumerate(axes[2].phases):
                    phase.first[0], phase.first[1], phase.first[2] = a, b, c
                    phase.tap0 = position
                    for td, od in taps_d:
                        for th, oh in taps_h:
                            for tw, ow in taps_w:
                                self.at[(td * kernel[1] + th) * kernel[2] + tw] = position
                                self.offset[3 * position] = od
                                self.offset[3 * position + 1] = oh
                                self.offset[3 * position + 2] = ow
                                position += 1
                    phase.segs = position - phase.tap0
                    phase += 1

    cdef _fill_slices(self, blocking, kernel):
        """Winograd: which taps have a patch of the source for each tile."""
        self.patch[0], self.patch[1], self.tile_line = blocking.strip[1], blocking.strip[2], blocking.line
        self.run_taps = kernel[2] if self.tile_line else kernel[1] * kernel[2]
        self.slice_taps = self.patch[1] + 1 - self.m if self.tile_line else self.run_taps
        self.run_slices = ceil_div(self.run_taps, self.slice_taps) if self.m else 1
        self.slices = self.run_slices * (self.ntap // self.run_taps)
        self.slice_tiles, self.plane_tiles = blocking.slice_tiles

    cdef fc_winograd transform_job(self) noexcept nogil:
        cdef fc_winograd j
        j.m, j.line, j.taps, j.past = self.m, self.tile_line, self.slice_taps, False
        return j

    cdef ptrdiff_t slice_tap(self, ptrdiff_t slice) noexcept nogil:
        """The packed position of a slice's first tap."""
        return slice // self.run_slices * self.run_taps + slice % self.run_slices * self.slice_taps

    cdef ptrdiff_t taps_of_slice(self, ptrdiff_t slice) noexcept nogil:
        return min(self.slice_taps, self.run_taps - slice % self.run_slices * self.slice_taps)

    @property
    def share_bytes(self):
        """Scratch memory of one thread."""
        return self.share_size()

    cdef ptrdiff_t share_size(self) noexcept nogil:
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
        """Copy the source of a box: channels [channel, channel + channels), or those of block kb's lanes.

        It is padded, but where there are regions, which don't read what lies outside.
        """
        cdef fc_strip s
        cdef fc_lane_map m = self.lane_map(kb)
        cdef ptrdiff_t i, cells, inside, skip = 0
        s.mode = self.mode
        s.channels = channels
        s.src_c, s.dst_c = x.c, self.strip_c
        s.split, s.dst_run = self.split, self.strip_run
        for i in range(3):
            s.src_axis[i], s.dst_axis[i] = x.axis[i], self.strip_axis[i]
            s.extent[i] = self.src[i]
            cells = ceil_div(b.count[i + 1], self.out_step[i])
            s.lo[i] = b.origin[i + 1] // self.out_step[i] * self.in_step[i] + self.low[i]
            s.count[i] = (cells - 1) * self.in_step[i] + self.high[i] - self.low[i] + 1
            if self.region_channels:
                inside = max(s.lo[i], 0)
                s.count[i] = max(min(s.lo[i] + s.count[i], self.src[i]) - inside, 0)
                skip += (inside - s.lo[i]) * self.strip_axis[i]
                s.lo[i] = inside
        for i in range(b.count[0]):
            s.src = x.data + ((b.origin[0] + i) * x.n + channel * x.c) * self.itemsize
            s.dst = strip + (i * self.strip_n + skip) * self.itemsize
            if self.lane_cols and not self.planar:
                kernels.load_lanes(&s, &m)
            else:
                kernels.load_strip(&s)

    cdef ptrdiff_t tap_offset(self, const Tensor *a, const ptrdiff_t *offset) noexcept nogil:
        """Where a tap lies in the strip (or in the source), counted from the pixel that it belongs to."""
        cdef ptrdiff_t column = offset[2] - self.low[2]
        return ((offset[0] - self.low[0]) * a.axis[0] + (offset[1] - self.low[1]) * a.axis[1]
                + column % self.split * self.strip_run + column // self.split * a.axis[2])

    cdef ptrdiff_t region_end(self, const Phase *phase, int axis, ptrdiff_t begin, ptrdiff_t end) noexcept nogil:
        """Where along an axis, after cell `begin`, a tap of the phase enters or leaves the source, or `end`."""
        cdef ptrdiff_t t, o, first, last
        for t in range(phase.tap0, phase.tap0 + phase.segs):
            o = self.offset[3 * t + axis]
            first, last = ceil_div(-o, self.in_step[axis]), ceil_div(self.src[axis] - o, self.in_step[axis])
            if begin < first < end:
                end = first
            if begin < last < end:
                end = last
        return end

    cdef bint inside(self, const ptrdiff_t *offset, const ptrdiff_t *cell) noexcept nogil:
        """Whether a cell's tap lies in the source, not on padding."""
        cdef int i
        for i in range(3):
            if not 0 <= cell[i] * self.in_step[i] + offset[i] < self.src[i]:
                return False
        return True

    cdef ptrdiff_t pixel_step(self, const Tensor *a) noexcept nogil:
        """Distance of what neighbouring pixels along w read at one tap."""
        return self.in_step[2] // self.split * a.axis[2]

    cdef ptrdiff_t fill_segments(self, const Tensor *a, const Phase *phase, ptrdiff_t *seg, fc_gemm *g) noexcept nogil:
        """Offsets of a phase's taps in the strip (or in the source) and the reduction's len and step.

        Taps along w that continue the run of channels are one segment.
        """
        cdef ptrdiff_t t, run
        cdef const ptrdiff_t *o = self.offset + 3 * phase.tap0
        g.len, g.step = self.red, a.c
        for t in range(phase.segs):
            seg[t] = self.tap_offset(a, o + 3 * t)
        run = self.taps_in_run(a, seg, phase.segs, NULL, 0)
        if run == 1:
            return phase.segs
        if self.red == 1:
            g.step = seg[1] - seg[0]
        g.len = run * self.red
        for t in range(phase.segs // run):
            seg[t] = seg[t * run]
        return phase.segs // run

    cdef ptrdiff_t taps_in_run(self, const Tensor *a, const ptrdiff_t *seg, ptrdiff_t segs, const ptrdiff_t *tap,
                               ptrdiff_t tap_step) noexcept nogil:
        """How many of these taps, all along, are one run of elements: channels follow channels, or there is one.

        So do their weights, of which each tap has `tap_step`, where they lie at `tap`.
        """
        cdef ptrdiff_t t, run = 0, gap = seg[1] - seg[0] if segs > 1 else 0
        if segs < 2 or not ((a.c == 1 and gap == self.red) or self.red == 1):
            return 1
        for t in range(1, segs + 1):
            if t < segs and seg[t] - seg[t - 1] == gap and (tap == NULL or tap[t] - tap[t - 1] == tap_step):
                continue
            if run == 0:
                run = t
            if t % run:
                return 1
        return run

    cdef Tensor source(self, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t kb,
                       ptrdiff_t channel, ptrdiff_t channels, char *strip) noexcept nogil:
        """Where the tiles read the padded source of a box: a strip that is loaded here, or x itself.

        The origin of the result is the box's first source position, which may lie outside of x.
        """
        cdef Tensor t = x[0]
        cdef ptrdiff_t i
        if self.in_place:
            return self.place(x, b, channel)
        self.load(kernels, x, b, kb, channel, channels, strip)
        t.data, t.n, t.c = strip, self.strip_n, self.strip_c
        for i in range(3):
            t.axis[i] = self.strip_axis[i]
        return t

    cdef Tensor place(self, const Tensor *x, const Box *b, ptrdiff_t channel) noexcept nogil:
        """x itself, from a box's first source position and a channel on."""
        cdef Tensor t = x[0]
        cdef ptrdiff_t i, skip = b.origin[0] * x.n + channel * x.c
        for i in range(3):
            skip += (b.origin[i + 1] // self.out_step[i] * self.in_step[i] + self.low[i]) * x.axis[i]
        t.data = x.data + skip * self.itemsize
        return t

    cdef fc_pack pack_job(self, const char *w, ptrdiff_t g, ptrdiff_t kb, ptrdiff_t c0, ptrdiff_t c1,
                          char *dst) noexcept nogil:
        """Reduction channels [c0, c1) of a block of weights (k, c, taps), to be packed to dst.

        `transposed` weights have the reduction channels outermost: backward-input.
        """
        cdef fc_pack job
        cdef ptrdiff_t cols = self.lane_cols if self.lane_cols else self.cols
        job.ntap, job.at, job.len = self.ntap, self.at, c1 - c0
        job.col = self.ntap if self.transposed else self.red * self.ntap
        job.red = cols * self.ntap if self.transposed else self.ntap
        job.n = min(self.block, self.cols - kb * self.block)
        job.src = w + (g * self.red * cols * self.ntap + kb * self.block * job.col + c0 * job.red) * self.itemsize
        job.dst = dst
        return job

    cdef void pack_share(self, const fc_kernels *kernels, const char *w, char *packed, ptrdiff_t item0,
                         ptrdiff_t item1) noexcept nogil:
        """Pack the weight blocks [item0, item1), counted over (group, block), and flag those that are finite."""
        cdef fc_pack job
        cdef fc_lane_map m
        cdef ptrdiff_t item, g, kb
        for item in range(item0, item1):
            g, kb = item // self.col_blocks, item % self.col_blocks
            job = self.pack_job(w, g, kb, 0, self.red, packed + self.packed_offset(g, kb) * self.itemsize)
            if self.lane_cols and self.red > 1:
                m = self.lane_map(kb)
                job.src = w  # the map finds the weights of each lane
                packed[self.flag_offset() + item] = kernels.pack_lanes(&job, &m)
            else:
                packed[self.flag_offset() + item] = kernels.pack_weight(&job)

    cdef void copy_share(self, const char *every, char *packed, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil:
        """The same of weights that are packed already, where some of `every` tap are not used."""
        cdef ptrdiff_t item, g, kb, t, at, size
        for item in range(item0, item1):
            g, kb = item // self.col_blocks, item % self.col_blocks
            at = self.packed_offset(g, kb) * self.itemsize
            size = self.red * self.block_width(kb) * self.itemsize
            for t in range(self.ntap):
                if self.at[t] >= 0:
                    memcpy(packed + at + self.at[t] * size, every + at + t * size, size)
            packed[self.flag_offset() + item] = every[self.flag_offset() + item]
