# Forward and backward-input by tiles of columns or of pixels; _lanes.pyx runs another tile in the same frame.
from fastconv._kernels._blocks cimport Blocks, Box, Phase
from fastconv._kernels._runtime cimport fc_activation, fc_gemm, fc_kernels
from fastconv._kernels._tensor cimport Tensor


cdef class Correlation(Blocks):
    cdef void share(self, const fc_kernels *kernels, const Tensor *x, const Tensor *y, const char *weights,
                    const char *bias, int activation, char *private, ptrdiff_t item0, ptrdiff_t item1) noexcept nogil
    cdef void item(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b, ptrdiff_t g,
                   ptrdiff_t kb0, ptrdiff_t kb1, const char *weights, const char *bias, fc_activation activation,
                   char *private) noexcept nogil
    cdef ptrdiff_t fill_rows(self, const Tensor *a, const Tensor *y, const Box *b, const Phase *phase,
                             ptrdiff_t *row, ptrdiff_t *crow, ptrdiff_t width) noexcept nogil
    cdef void multiply_planar(self, const fc_kernels *kernels, const Tensor *a, const Tensor *y, const Box *b,
                              fc_gemm *t, ptrdiff_t *lanes) noexcept nogil
    cdef void real_taps(self, const fc_kernels *kernels, const Tensor *a, const Box *b, const Phase *phase,
                        fc_gemm *t, ptrdiff_t width) noexcept nogil
    cdef void store(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block, char *rows,
                    ptrdiff_t columns, ptrdiff_t width) noexcept nogil
    cdef void activate_pixels(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block,
                              ptrdiff_t columns, fc_activation activation) noexcept nogil
    cdef void activate_rows(self, const fc_kernels *kernels, const Tensor *y, const Box *b, char *block,
                            ptrdiff_t columns, fc_activation activation) noexcept nogil
