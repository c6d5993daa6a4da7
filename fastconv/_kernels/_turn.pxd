# Channels-first images that are pooled as channels-last ones, box by box in private memory: channels fill the vectors
# where rows of outputs are too short for that, or the taps of neighbouring outputs too far apart.
from libc.stdint cimport uint8_t

from fastconv._kernels._runtime cimport FC_ZEROS, fc_image, fc_kernels, fc_strip, fc_windows
from fastconv._kernels._tensor cimport Boxes, ceil_div

cdef enum:
    TURNED_ELEMENTS = 1 << 16   # of the larger side of a box: a quarter of a second-level cache
    TURNED_CHANNELS = 64        # at most
    WHOLE_PLANE = 96            # elements from which on windows of whole planes are summed up as they are


cdef inline bint are_turned(const fc_windows *w, const ptrdiff_t *shape, ptrdiff_t row, ptrdiff_t lanes) noexcept nogil:
    """Whether to turn an image of `shape` (n c d h w), whose kernels for channels-first images take rows of `row`."""
    if 2 * shape[1] < lanes:
        return False
    if w[2].size == 0:
        return w[2].out > 1 or w[1].out > 1 or w[1].in_ * w[2].in_ < WHOLE_PLANE
    return w[2].stride > 2 or 2 * row < 3 * lanes


cdef inline ptrdiff_t inputs_of(const fc_windows *w, ptrdiff_t outputs) noexcept nogil:
    """Positions that `outputs` neighbouring windows reach over, at most."""
    if w.size:
        return min(w.in_, (outputs - 1) * w.stride + (w.size - 1) * w.dilation + 1)
    return min(w.in_, outputs * w.in_ // w.out + 2)


cdef inline ptrdiff_t outputs_within(const fc_windows *w, ptrdiff_t inputs) noexcept nogil:
    """How many neighbouring windows reach over at most `inputs` positions; 0 if a single one reaches over more."""
    cdef ptrdiff_t n
    if inputs >= w.in_:
        return w.out
    if w.size:
        n = inputs - (w.size - 1) * w.dilation - 1
        return 0 if n < 0 else min(w.out, n // w.stride + 1)
    return max(0, min(w.out, (inputs - 2) * w.out // w.in_))


cdef inline bint set_turned_boxes(Boxes *b, const fc_windows *w, const ptrdiff_t *shape) noexcept nogil:
    """Boxes of outputs (their `shape` is n c d h w) with inputs of at most TURNED_ELEMENTS; False if there are none."""
    cdef ptrdiff_t channels = min(shape[1], <ptrdiff_t>TURNED_CHANNELS), room
    cdef int i
    while True:
        room = TURNED_ELEMENTS // channels
        for i in range(2, -1, -1):
            b.size[i + 1] = outputs_within(&w[i], room)
            if b.size[i + 1] == 0:
                break
            room //= inputs_of(&w[i], b.size[i + 1])
        else:
            break
        if channels <= 16:
            return False
        channels = channels // 2
    b.size[0], b.items = channels, shape[0]
    for i in range(4):
        b.extent[i], b.count[i] = shape[i + 1], ceil_div(shape[i + 1], b.size[i])
        b.items *= b.count[i]
    return True


cdef inline void copy_box(const fc_kernels *kernels, const fc_image *src, const fc_image *dst, ptrdiff_t channels,
                          const ptrdiff_t *count) noexcept nogil:
    """dst = src for `channels` of `count` (d h w) positions, each in an order of its own."""
    cdef fc_strip s
    cdef ptrdiff_t extent[3]
    cdef int i, outer
    s.src, s.src_c, s.dst, s.dst_c = src.data, src.c, dst.data, dst.c
    s.mode, s.channels, s.split, s.dst_run = FC_ZEROS, channels, 1, 0
    for i in range(3):
        extent[i] = count[i]
    for outer in range(1, -1, -1):  # rows that follow each other without a gap are one
        if (src.axis[outer] != extent[2] * src.axis[2] or dst.axis[outer] != extent[2] * dst.axis[2]) \
                and extent[outer] > 1:
            break
        extent[2] *= extent[outer]
        extent[outer] = 1
    for i in range(3):
        s.src_axis[i], s.dst_axis[i] = src.axis[i], dst.axis[i]
        s.lo[i], s.extent[i], s.count[i] = 0, extent[i], extent[i]
    kernels.load_strip(&s)


cdef inline void copy_indices(const fc_kernels *doubles, const fc_image *src, const fc_image *dst, ptrdiff_t itemsize,
                              ptrdiff_t channels, const ptrdiff_t *count) noexcept nogil:
    """The same for int64 or uint8 elements; 64 bits are moved as if they were float64."""
    cdef const uint8_t *a
    cdef uint8_t *b
    cdef ptrdiff_t c, d, h, w
    if itemsize == 8:
        copy_box(doubles, src, dst, channels, count)
        return
    for d in range(count[0]):
        for h in range(count[1]):
            for c in range(channels):
                a = <const uint8_t *>src.data + c * src.c + d * src.axis[0] + h * src.axis[1]
                b = <uint8_t *>dst.data + c * dst.c + d * dst.axis[0] + h * dst.axis[1]
                for w in range(count[2]):
                    b[w * dst.axis[2]] = a[w * src.axis[2]]


cdef inline void set_layout(fc_image *image, char *data, bint channels_last, ptrdiff_t channels, const ptrdiff_t *lo,
                            const ptrdiff_t *hi) noexcept nogil:
    """Strides of a box without gaps."""
    cdef ptrdiff_t step = channels if channels_last else 1
    cdef int i
    image.data = data
    for i in range(2, -1, -1):
        image.axis[i] = step
        step *= hi[i] - lo[i]
    image.c = 1 if channels_last else step
