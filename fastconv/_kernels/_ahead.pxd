# What tiles of lanes will read and write next, for them to prefetch (fc_slide.ahead): 0 of the source, 1 of results.
from fastconv._kernels._blocks cimport Blocks
from fastconv._kernels._runtime cimport fc_ahead, fc_slide
from fastconv._kernels._tensor cimport Tensor, ceil_div

cdef enum:
    SLIDE_RESULTS = 14  # of a tile, at most


cdef inline fc_ahead soon(const char *start, ptrdiff_t runs, ptrdiff_t bytes, ptrdiff_t stride,
                          ptrdiff_t tiles) noexcept nogil:
    """`runs` runs of memory, `stride` bytes apart, to be prefetched evenly by `tiles` tiles."""
    cdef fc_ahead a
    a.from_, a.runs, a.stride, a.line = start, runs if bytes > 0 else 0, stride, 0
    a.lines = ceil_div(bytes, 64)
    a.step = ceil_div(runs * a.lines, max(tiles, 1))
    return a


cdef inline ptrdiff_t tiles_of(Blocks k, const fc_slide *s, ptrdiff_t results) noexcept nogil:
    """About how many tiles compute `results` results of a line's lanes."""
    return ceil_div(results * ceil_div(s.lanes, k.lanes), SLIDE_RESULTS)


cdef inline fc_ahead planes_after(Blocks k, const Tensor *t, const void *planes) noexcept nogil:
    """The planes that follow those of a vector of channels: narrow ones, of about 8 results a tile."""
    cdef ptrdiff_t bytes = k.lanes * t.c * k.itemsize
    return soon(<const char *>planes + bytes, 1, bytes, 0, k.extent[1] * k.extent[2] * k.extent[3] // 8)


cdef inline void next_line(Blocks k, fc_slide *s, const Tensor *a, ptrdiff_t y_line) noexcept nogil:
    """Prefetch what the next line of pixels reads and this one doesn't, or where there is one line, what follows it.

    Results of the next line are y_line elements on.
    """
    cdef ptrdiff_t tiles = tiles_of(k, s, s.results), rows = k.in_step[1]
    cdef ptrdiff_t on = (k.high[1] - k.low[1] + 1) * a.axis[1] + (k.high[0] - k.low[0]) * a.axis[0]
    if k.extent[2] == 1:
        rows, on, y_line = 1, s.results * s.x_step, s.results * s.y_step
    s.ahead[0] = soon(<const char *>s.x + on * k.itemsize, rows if k.in_place and s.runs > 0 else 0,
                      (s.results * s.x_step + s.lanes) * k.itemsize, a.axis[1] * k.itemsize, tiles)
    s.ahead[1] = soon(<const char *>s.y + y_line * k.itemsize, 1, (s.results * s.y_step + s.lanes) * k.itemsize, 0,
                      tiles)


cdef inline void next_plane(Blocks k, fc_slide *s, const Tensor *a, const Tensor *y, const char *plane, ptrdiff_t rows,
                            bint last) noexcept nogil:
    """Prefetch the next plane of `rows` rows of a channel, or where this is the `last` one, the next channel's first.

    Results of this plane begin at `plane`.
    """
    cdef ptrdiff_t tiles = tiles_of(k, s, rows), depth = k.high[0] - k.low[0]
    cdef ptrdiff_t runs = min(depth + 1, k.src[0]) if last else k.in_step[0]
    cdef ptrdiff_t on = a.c if last else (depth + 1) * a.axis[0]
    cdef ptrdiff_t width = a.axis[1] if k.src[1] > 1 else s.lanes * k.in_step[2]
    cdef ptrdiff_t to_width = y.axis[1] if k.extent[2] > 1 else s.lanes * k.out_step[2]
    if not k.in_place or s.runs == 0:
        runs = 0
    s.ahead[0] = soon(<const char *>s.x + on * k.itemsize, runs,
                      ((rows - 1) * k.in_step[1] + k.high[1] - k.low[1] + 1) * width * k.itemsize,
                      a.axis[0] * k.itemsize, tiles)
    s.ahead[1] = soon(plane + (y.c if last else k.out_step[0] * y.axis[0]) * k.itemsize, 1,
                      rows * k.out_step[1] * to_width * k.itemsize, 0, tiles)
