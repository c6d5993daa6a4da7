# Forward and backward-input by tiles of columns or of pixels; _lanes.pyx runs another tile in the same frame.
from fastconv._kernels._blocks cimport Blocks, Box, Phase
from fastconv._kernels._runtime cimport fc_activation, fc_gemm, fc_kernels
from fastconv._kernels._tensor cimport Tensor


cdef class Correlation(Blocks):
    cdef bint few  # pixels of a single tap: plain weights may be read without packing them

    cdef void share_few(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *w,
                        const char *bias, int activation, char *private, ptrdiff_t item0,
                        ptrdiff_t item1) noexcept nogil
    cdef ptrdiff_t first_item(self, ptrdiff_t items, ptrdiff_t t, ptrdiff_t shares) noexcept nogil
    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *weights,
                    const char *bias, int activation, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil
    cdef void item(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b, ptrdiff_t g0,
                   ptrdiff_t g1, ptrdiff_t kb0, ptrdiff_t kb1, const char *weights, const char *bias,
                   fc_activation activation, fc_gemm *t, char *private) noexcept nogil
    cdef bint is_finite(self, const char *weights, ptrdiff_t g, ptrdiff_t kb) noexcept nogil
    cdef void multiply_columns(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                               fc_gemm *block, ptrdiff_t width, bint strict, fc_activation activation,
                               char *rows) noexcept nogil
    cdef bint multiply_even(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                            const fc_gemm *t, ptrdiff_t width, ptrdiff_t row_width) noexcept nogil
    cdef void multiply_regions(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                               const Phase *phase, const fc_gemm *t, ptrdiff_t width,
                               ptrdiff_t row_width) noexcept nogil
    cdef void multiply_region(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                              const Phase *phase, const fc_gemm *box, ptrdiff_t width, ptrdiff_t row_width,
                              const ptrdiff_t *origin, const ptrdiff_t *begin, const ptrdiff_t *end) noexcept nogil
    cdef ptrdiff_t fill_rows(self, const Tensor *a, const Tensor *y, const Box *b, const Phase *phase,
                             const ptrdiff_t *begin, const ptrdiff_t *end, ptrdiff_t *row, ptrdiff_t *crow,
                             ptrdiff_t width) noexcept nogil
    cdef void multiply_planar(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                              fc_gemm *t, ptrdiff_t groups, ptrdiff_t width, fc_activation activation) noexcept nogil
    cdef void real_taps(self, const fc_kernels *kernels, const Tensor *a, const Box *b, const Phase *phase,
                        fc_gemm *t, ptrdiff_t width) noexcept nogil
    cdef void store(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block, char *rows,
                    ptrdiff_t columns, ptrdiff_t width) noexcept nogil
    cdef void activate_pixels(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block,
                              ptrdiff_t columns, fc_activation activation) noexcept nogil
    cdef void activate_rows(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block,
                            ptrdiff_t columns, fc_activation activation) noexcept nogil
