# Tiles of convolutions by Fourier transforms, and the lines of images and weights that lie in lanes.
from fastconv._kernels._runtime cimport fc_fft, fc_kernels, fc_pad_mode
from fastconv._kernels._tensor cimport Tensor


cdef struct Place:
    # Some tiles of an image, of a block of groups: d h and along w.
    ptrdiff_t n, groups
    ptrdiff_t origin[3]
    ptrdiff_t count[3]


cdef enum Lanes:
    LANES_COLUMNS
    LANES_TILES
    LANES_GROUPS


cdef class Fourier:
    cdef readonly object blocking
    cdef object roots
    cdef Lanes are
    cdef bint f64, transposed, weight
    cdef double flops
    cdef fc_pad_mode mode
    cdef ptrdiff_t itemsize, lanes, size, points, results, slice_taps, step
    cdef ptrdiff_t n, groups, red, cols, row_taps
    cdef ptrdiff_t src[3]
    cdef ptrdiff_t dst[3]
    cdef ptrdiff_t low[3]
    cdef ptrdiff_t taps[3]
    cdef ptrdiff_t tiles[3]
    cdef ptrdiff_t box[3]
    cdef ptrdiff_t boxes[3]
    cdef ptrdiff_t reach[3]
    cdef ptrdiff_t all_taps, most_tiles, most_rows, units, group_blocks, column_blocks, u_blocks, columns, k_groups
    cdef ptrdiff_t v_len, v_patch, v_channel
    cdef ptrdiff_t u_len, u_tap, u_channel, u_column
    cdef ptrdiff_t m_len, m_tile, m_column
    cdef ptrdiff_t table_bytes, work_bytes

    cdef ptrdiff_t point(self, ptrdiff_t length) noexcept nogil
    cdef ptrdiff_t spectrum_bytes(self, ptrdiff_t length) noexcept nogil
    cdef ptrdiff_t share_size(self) noexcept nogil
    cdef fc_fft transform(self, char *work, ptrdiff_t length) noexcept nogil
    cdef Place place(self, ptrdiff_t unit, ptrdiff_t group_block) noexcept nogil
    cdef ptrdiff_t shift(self, ptrdiff_t tap) noexcept nogil
    cdef ptrdiff_t list_tiles(self, const Place *at, ptrdiff_t *patch, ptrdiff_t patch_step, ptrdiff_t *result,
                              ptrdiff_t result_step) noexcept nogil
    cdef ptrdiff_t width(self, ptrdiff_t kb) noexcept nogil
    cdef void weight_lines(self, fc_fft *f, const char *w, ptrdiff_t block, ptrdiff_t first) noexcept nogil
    cdef void patch_lines(self, fc_fft *f, const Tensor *x, const Place *at, ptrdiff_t first) noexcept nogil
    cdef void result_lines(self, fc_fft *f, const Tensor *y, const Place *at, ptrdiff_t kb, ptrdiff_t first,
                           const char *bias, char *biases) noexcept nogil
    cdef void load_patches(self, const fc_kernels *kernels, const Tensor *x, const Place *at, char *v,
                           char *work) noexcept nogil
