# The C side of a convolution plan, shared by the drivers: extents, strips, taps, packed weights.
from fastconv._kernels._runtime cimport fc_gemm, fc_kernels, fc_lane_map, fc_pack, fc_pad_mode, fc_winograd
from fastconv._kernels._tensor cimport Tensor


cdef struct Phase:
    # Outputs first + out_step * i share `segs` taps, from tap0 on in packed order.
    ptrdiff_t first[3]
    ptrdiff_t tap0, segs


cdef struct Box:
    # One box of results: images [origin[0], origin[0] + count[0]), then d h w.
    ptrdiff_t origin[4]
    ptrdiff_t count[4]


cdef Box box_of(const ptrdiff_t *extent, const ptrdiff_t *grain, const ptrdiff_t *boxes,
                ptrdiff_t index) noexcept nogil


cdef class Blocks:
    cdef readonly object blocking
    cdef ptrdiff_t itemsize, block, lanes
    cdef bint f64, in_place, transposed, planar
    cdef double flops
    cdef ptrdiff_t strip_bytes, rows_bytes, table_bytes
    cdef fc_pad_mode mode
    cdef ptrdiff_t n, groups, red, cols
    cdef ptrdiff_t ntap, used               # taps of the kernel, and those that some result has inside of the source
    cdef ptrdiff_t lane_cols      # columns of a group, where lanes belong to different groups; else 0
    cdef ptrdiff_t src[3]
    cdef ptrdiff_t extent[4]      # n and d h w of the results
    cdef ptrdiff_t in_step[3]
    cdef ptrdiff_t out_step[3]
    cdef ptrdiff_t low[3]
    cdef ptrdiff_t high[3]
    cdef ptrdiff_t box[4]         # n d h w of the results of a box, at most
    cdef ptrdiff_t grain[4]       # boxes begin at multiples of it
    cdef ptrdiff_t boxes[4]
    cdef ptrdiff_t box_count, col_blocks, k_groups, c_parts, parts
    cdef ptrdiff_t group_runs     # work items along the groups
    cdef ptrdiff_t strip_n, strip_c, strip_size
    cdef ptrdiff_t m                  # Winograd: boxes are tiles of m x m results, or lines of m; else 0
    cdef ptrdiff_t tile_step[2]       # h w between the results of a tile: the dilation
    cdef ptrdiff_t patch[2]           # rows and columns of the source that a tile needs
    cdef bint tile_line
    cdef ptrdiff_t region_channels    # of the source that regions of results read at a time; 0: there are no regions
    cdef ptrdiff_t slices             # patches of the source that a tile needs, one for each slice of the taps
    cdef ptrdiff_t slice_taps         # taps of a slice, out of `run_taps` adjacent ones (the last slice has the rest)
    cdef ptrdiff_t run_taps, run_slices
    cdef ptrdiff_t slice_tiles        # 0, or a patch is that of another tile, this many tiles further,
    cdef ptrdiff_t plane_tiles        # within groups of this many tiles
    cdef ptrdiff_t split, strip_run   # rows of the strip hold `split` runs of columns, this far apart
    cdef ptrdiff_t strip_axis[3]
    cdef ptrdiff_t phases
    cdef Phase *phase
    cdef ptrdiff_t *at            # packed position of tap t
    cdef ptrdiff_t *offset        # 3 source offsets of the tap at each packed position

    cdef _fill_taps(self, axes, kernel)
    cdef _fill_slices(self, blocking, kernel)
    cdef ptrdiff_t share_size(self) noexcept nogil
    cdef fc_winograd transform_job(self) noexcept nogil
    cdef ptrdiff_t slice_tap(self, ptrdiff_t slice) noexcept nogil
    cdef ptrdiff_t taps_of_slice(self, ptrdiff_t slice) noexcept nogil
    cdef ptrdiff_t padded_cols(self) noexcept nogil
    cdef ptrdiff_t block_width(self, ptrdiff_t kb) noexcept nogil
    cdef ptrdiff_t packed_size(self) noexcept nogil
    cdef ptrdiff_t flag_offset(self) noexcept nogil
    cdef ptrdiff_t packed_offset(self, ptrdiff_t g, ptrdiff_t kb) noexcept nogil
    cdef ptrdiff_t box_pixels(self) noexcept nogil
    cdef fc_lane_map lane_map(self, ptrdiff_t kb) noexcept nogil
    cdef ptrdiff_t tap_offset(self, const Tensor *a, const ptrdiff_t *offset) noexcept nogil
    cdef ptrdiff_t region_end(self, const Phase *phase, int axis, ptrdiff_t begin, ptrdiff_t end) noexcept nogil
    cdef bint inside(self, const ptrdiff_t *offset, const ptrdiff_t *cell) noexcept nogil
    cdef ptrdiff_t pixel_step(self, const Tensor *a) noexcept nogil
    cdef void load(self, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t kb, ptrdiff_t channel,
                   ptrdiff_t channels, char *strip) noexcept nogil
    cdef Tensor source(self, const fc_kernels *kernels, const Tensor *x, const Box *b, ptrdiff_t kb,
                       ptrdiff_t channel, ptrdiff_t channels, char *strip) noexcept nogil
    cdef ptrdiff_t taps_in_run(self, const Tensor *a, const ptrdiff_t *seg, ptrdiff_t segs, const ptrdiff_t *tap,
                               ptrdiff_t tap_step) noexcept nogil
    cdef ptrdiff_t fill_segments(self, const Tensor *a, const Phase *phase, ptrdiff_t *seg, fc_gemm *g) noexcept nogil
    cdef Tensor place(self, const Tensor *x, const Box *b, ptrdiff_t channel) noexcept nogil
    cdef fc_pack pack_job(self, const char *w, ptrdiff_t g, ptrdiff_t kb, ptrdiff_t c0, ptrdiff_t c1,
                          char *dst) noexcept nogil
    cdef void pack_share(self, const fc_kernels *kernels, const char *w, char *packed, ptrdiff_t item0,
                         ptrdiff_t item1) noexcept nogil
    cdef void copy_share(self, const char *every, char *packed, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil
