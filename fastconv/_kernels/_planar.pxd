# Tiles whose lanes are the pixels of a box (csrc/kernels/planar.h): where their vectors begin.
from fastconv._kernels._blocks cimport Blocks, Box, Phase
from fastconv._kernels._tensor cimport Tensor, ceil_div


cdef inline bint is_one_run(Blocks k, const Tensor *x, const Tensor *y, const Box *b) noexcept nogil:
    """Whether a box of the only tap is a run of adjacent pixels in x and in y, so that no strip is needed."""
    cdef ptrdiff_t width = b.count[3]
    cdef int i
    for i in range(3):
        if k.in_step[i] != 1 or k.out_step[i] != 1 or k.low[i] or k.high[i]:
            return False
    return (k.ntap == 1 and b.count[2] * width >= k.lanes and x.axis[2] == 1
            and x.axis[1] == width and y.axis[1] == width * y.axis[2] and k.src[1] == k.extent[2])


cdef inline ptrdiff_t row_gap(Blocks k, const Tensor *a, const Tensor *y, const Box *b) noexcept nogil:
    """Columns of the strip between the pixels of two rows, where vectors go on in the next row; else a vector's.

    They do where that takes fewer vectors, and both the strip's and the results' rows follow each other.
    """
    cdef ptrdiff_t width = b.count[3]
    if (k.phases == 1 and k.in_step[1] == 1 and k.in_step[2] == 1 and width == k.extent[3]
            and y.axis[1] == width * y.axis[2] and a.axis[1] < ceil_div(width, k.lanes) * k.lanes):
        return a.axis[1] - width
    return k.lanes


cdef inline ptrdiff_t fill_vectors(Blocks k, const Tensor *a, const Tensor *y, const Box *b, const Phase *phase,
                                   ptrdiff_t gap, ptrdiff_t *row, ptrdiff_t *crow, ptrdiff_t *lanes) noexcept nogil:
    """Vectors of a phase's pixels of a box: where they begin in strip and result, then fc_planar.lanes and .first."""
    cdef ptrdiff_t *first = lanes + k.box_pixels()
    cdef ptrdiff_t m = 0, n, d, h, w, left, run, from_d, to_d, step = k.out_step[2] * y.axis[2]
    cdef ptrdiff_t height = ceil_div(b.count[2] - phase.first[1], k.out_step[1])
    cdef ptrdiff_t width = ceil_div(b.count[3] - phase.first[2], k.out_step[2]), pixels = height * width
    for n in range(b.count[0]):
        for d in range(ceil_div(b.count[1] - phase.first[0], k.out_step[0])):
            from_d = n * a.n + d * k.in_step[0] * a.axis[0]
            to_d = (n * y.n + (d * k.out_step[0] + phase.first[0]) * y.axis[0] + phase.first[1] * y.axis[1]
                    + phase.first[2] * y.axis[2])
            h = w = 0
            while gap == 0 and pixels >= k.lanes and w < pixels:
                left = min(w, pixels - k.lanes)
                row[m], crow[m] = from_d + left, to_d + left * step
                lanes[m] = first[m] = k.lanes
                w, h, m = w + k.lanes, height, m + 1
            while h < height and width > 0:
                row[m] = from_d + h * k.in_step[1] * a.axis[1] + w
                crow[m] = to_d + h * k.out_step[1] * y.axis[1] + w * step
                lanes[m], first[m], left = 0, width - w, k.lanes
                while left > 0 and h < height:
                    run = min(left, width - w)
                    lanes[m] += run
                    left -= run
                    w += run
                    if w == width:
                        h, w, left = h + 1, 0, left - gap
                m += 1
    return m
