# Arrays as the drivers see them, and how their elements fall into boxes: the work items.
cimport numpy as cnp

from fastconv._kernels._runtime cimport FC_PAST_BYTES, fc_image


cdef struct Tensor:
    # An array of shape (n, c, d, h, w); strides in elements. Missing spatial axes have extent 1, stride 0.
    char *data
    ptrdiff_t n, c, itemsize
    ptrdiff_t axis[3]
    ptrdiff_t shape[5]


cdef inline Tensor tensor_of(cnp.ndarray a):
    """View of (n, c, *spatial) with one to three spatial axes."""
    cdef Tensor t
    cdef int missing = 5 - cnp.PyArray_NDIM(a), i
    t.data = <char *>cnp.PyArray_DATA(a)
    t.itemsize = cnp.PyArray_ITEMSIZE(a)
    t.n = cnp.PyArray_STRIDE(a, 0) // t.itemsize
    t.c = cnp.PyArray_STRIDE(a, 1) // t.itemsize
    t.shape[0], t.shape[1] = cnp.PyArray_DIM(a, 0), cnp.PyArray_DIM(a, 1)
    for i in range(3):
        t.axis[i] = cnp.PyArray_STRIDE(a, i + 2 - missing) // t.itemsize if i >= missing else 0
        t.shape[i + 2] = cnp.PyArray_DIM(a, i + 2 - missing) if i >= missing else 1
    # The kernels know adjacent pixels by the stride, which one pixel may give as it likes.
    if t.shape[4] == 1 and t.c != 1:
        t.axis[2] = 1
    return t


cdef inline bint goes_past(const Tensor *t, ptrdiff_t lanes) noexcept nogil:
    """Whether a result is larger than the caches, and all pixels are whole vectors of channels."""
    cdef ptrdiff_t size = t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3] * t.shape[4] * t.itemsize
    return (size >= FC_PAST_BYTES and t.c == 1 and <size_t>t.data % <size_t>(lanes * t.itemsize) == 0
            and (t.n | t.axis[0] | t.axis[1] | t.axis[2] | t.shape[1]) % lanes == 0)


cdef inline char *element(const Tensor *t, ptrdiff_t n, ptrdiff_t c, ptrdiff_t d, ptrdiff_t h,
                          ptrdiff_t w) noexcept nogil:
    return t.data + (n * t.n + c * t.c + d * t.axis[0] + h * t.axis[1] + w * t.axis[2]) * t.itemsize


cdef inline fc_image image_of(const Tensor *t, char *data) noexcept nogil:
    """What a kernel sees of the tensor from `data` on."""
    cdef fc_image image
    cdef int i
    image.data, image.c = data, t.c
    for i in range(3):
        image.axis[i] = t.axis[i]
    return image


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline ptrdiff_t line(ptrdiff_t size) noexcept nogil:
    """Bytes rounded up to whole cache lines, so that threads share none."""
    return (size + 63) // 64 * 64


cdef struct Boxes:
    # n images of extents c d h w, cut into `count` boxes an axis of `size` (less at the end).
    ptrdiff_t extent[4]
    ptrdiff_t size[4]
    ptrdiff_t count[4]
    ptrdiff_t items


cdef struct Box:
    ptrdiff_t n
    ptrdiff_t lo[4]
    ptrdiff_t hi[4]


cdef inline Boxes boxes_of(const ptrdiff_t *shape, bint channels_last, ptrdiff_t elements,
                           ptrdiff_t longest) noexcept nogil:
    """Boxes of about `elements`, filled along the axes in the order in which they lie in memory.

    `longest` bounds the box along w. A cut through channels-last pixels is a multiple of a cache line.
    """
    cdef Boxes b
    cdef ptrdiff_t left = elements if elements > 1 else 1, size
    cdef int i, k, axis
    b.items = shape[0]
    for k in range(4):
        i = 3 - k
        axis = (0 if k == 0 else i + 1) if channels_last else i
        b.extent[axis] = shape[axis + 1]
        size = min(shape[axis + 1], left)
        if axis == 0 and channels_last:
            size = min(shape[1], (size + 31) // 32 * 32)
        if axis == 3:
            size = min(size, longest)
        b.size[axis] = size
        b.count[axis] = ceil_div(shape[axis + 1], size)
        b.items *= b.count[axis]
        left = left // size
        if left < 1:
            left = 1
    return b


cdef inline Box box_at(const Boxes *b, ptrdiff_t item) noexcept nogil:
    """Box number `item`; w is the fastest axis, then h, d, c, n."""
    cdef Box box
    cdef int i
    for i in range(3, -1, -1):
        box.lo[i] = item % b.count[i] * b.size[i]
        box.hi[i] = min(box.lo[i] + b.size[i], b.extent[i])
        item //= b.count[i]
    box.n = item
    return box
