# Pooling windows, as Python hands them over: (in, out, size, stride, dilation, before, after) for d h w.
from fastconv._kernels._runtime cimport fc_pool, fc_pool_divide, fc_windows
from fastconv._kernels._tensor cimport Tensor


cdef inline int read_windows(fc_windows *w, windows) except -1:
    cdef int i
    for i in range(3):
        w[i].in_, w[i].out, w[i].size, w[i].stride, w[i].dilation, w[i].before, w[i].after = windows[i]
    return 0


cdef inline bint join_whole_axes(fc_windows *w, Tensor *t) noexcept nogil:
    """Axes with one adaptive window each become one axis of t, the last: places in the plane stay what they are."""
    cdef int i
    for i in range(1, -1, -1):
        if w[i].size or w[i].out != 1 or w[2].size or w[2].out != 1:
            return False
        if t.shape[i + 2] > 1 and t.axis[i] != t.shape[4] * t.axis[2]:
            return False
        t.shape[4] *= t.shape[i + 2]
        t.shape[i + 2] = 1
        w[2].in_ *= w[i].in_
        w[i].in_ = 1
    return True


cdef inline bint side_by_side(const fc_windows *w) noexcept nogil:
    """Whether windows follow each other without gaps or overlap."""
    return w.dilation == 1 and w.stride == w.size if w.size else w.in_ % w.out == 0


cdef inline int read_divisor(fc_pool_divide *divide, const fc_windows *windows, bint channels_last, average) except -1:
    """`average` is (include_pad, divisor), with divisor 0 for the number of taps."""
    cdef int i
    divide.include_pad, divide.divisor = average
    divide.channels_last = channels_last
    for i in range(3):
        divide.windows[i] = windows[i]
    return 0


cdef inline ptrdiff_t length_of(const fc_windows *w) noexcept nogil:
    """Elements of an axis from the first to the last of a window; of an adaptive one, at most."""
    return (w.size - 1) * w.dilation + 1 if w.size else w.in_ // w.out + 2


cdef inline ptrdiff_t span_of(const fc_windows *w) noexcept nogil:
    """Elements of the plane from the first to the last of a window."""
    return (length_of(&w[0]) * w[1].in_ + length_of(&w[1])) * w[2].in_ + length_of(&w[2])


cdef inline ptrdiff_t taps_of(const fc_windows *w) noexcept nogil:
    """Taps of a window, about."""
    cdef ptrdiff_t taps = 1
    cdef int i
    for i in range(3):
        taps *= w[i].size if w[i].size else w[i].in_ // w[i].out + 1
    return taps
