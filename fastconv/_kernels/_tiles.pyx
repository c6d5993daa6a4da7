"""Tiles of a Winograd convolution, and their transform from an image: of forward, backward-input and backward-weight.

Tiles are counted like boxes (_blocks.pyx), those side by side form runs. Channels-last images are read in place,
channels-first ones, and padding other than zeros, through a strip of one run and one vector of channels.
"""
from fastconv._kernels._blocks cimport Blocks
from fastconv._kernels._runtime cimport FC_ZEROS, fc_kernels, fc_rows, fc_strip, fc_winograd
from fastconv._kernels._tensor cimport Tensor, ceil_div, line

cdef enum:
    RUN_TILES = 64  # side by side, at most: long rows of channels-first images are read and written at a time


cdef ptrdiff_t run_bytes(Blocks p) noexcept nogil:
    """Bytes of the source, or of the results, of one run of tiles, a vector of channels."""
    return line(p.patch[0] * (p.m * (min(RUN_TILES, p.boxes[3]) - 1) + p.patch[1]) * p.lanes * p.itemsize)


cdef ptrdiff_t run_tiles(Blocks p, ptrdiff_t tile, ptrdiff_t end) noexcept nogil:
    """Tiles from `tile` on, before tile `end`, of one run: rows of tiles are cut evenly, RUN_TILES at most."""
    cdef ptrdiff_t row = p.boxes[3], runs = ceil_div(row, RUN_TILES), column = tile % row
    return min(end - tile, row * ceil_div((column + 1) * runs, row) // runs - column)


cdef ptrdiff_t group_end(Blocks p, ptrdiff_t tile, ptrdiff_t end, ptrdiff_t most) noexcept nogil:
    """The end of whole runs from `tile` on, before tile `end`: as many as `most` tiles are, or a part of one."""
    cdef ptrdiff_t t = tile, tiles
    while t < end:
        tiles = run_tiles(p, t, end)
        if t + tiles - tile > most:
            return t if t > tile else tile + most
        t += tiles
    return t


cdef Run run_of(Blocks p, ptrdiff_t tile, ptrdiff_t end) noexcept nogil:
    """The run of tiles from `tile` on, before tile `end`."""
    cdef Run r
    cdef ptrdiff_t column = tile % p.boxes[3], rest = tile // p.boxes[3], residue
    r.tiles = run_tiles(p, tile, end)
    r.h = rest % p.boxes[2] * p.box[2] * p.tile_step[0]
    rest //= p.boxes[2]
    residue = rest % (p.tile_step[0] * p.tile_step[1])
    r.d = rest % p.boxes[1] // (p.tile_step[0] * p.tile_step[1])
    r.n = rest // p.boxes[1]
    r.h += residue // p.tile_step[1]
    r.w = column * p.m * p.tile_step[1] + residue % p.tile_step[1]
    r.rows = max(0, min(p.box[2], ceil_div(p.extent[2] - r.h, p.tile_step[0])))
    r.columns = max(0, min(r.tiles * p.m, ceil_div(p.extent[3] - r.w, p.tile_step[1])))
    return r


cdef Side input_side(Blocks p, const Tensor *x, ptrdiff_t point) noexcept nogil:
    """The padded input of a plan; channel0 is left to the caller."""
    cdef Side s
    cdef int i
    s.tensor, s.mode, s.point = x[0], p.mode, point
    s.reach[0], s.reach[1] = p.patch[0], p.patch[1]
    s.channels, s.channel0 = p.red, 0
    s.run = s.runs = s.tile = ceil_div(p.red, p.lanes) * p.lanes
    for i in range(3):
        s.low[i], s.extent[i] = p.low[i], p.src[i]
    return s


cdef void transform_tiles(const fc_kernels *kernels, Blocks p, const Side *side, ptrdiff_t tile0, ptrdiff_t tile1,
                          char *to, char *strip, char *column_sum) noexcept nogil:
    """Transform tiles [tile0, tile1) to to[run of channels][point][tile][channel], channels rounded up to vectors.

    Channels-last images are read in place, channels-first ones and their padding other than zeros from a strip.
    """
    cdef fc_winograd j = p.transform_job()
    cdef Tensor x = side.tensor
    cdef ptrdiff_t tile = tile0, lanes = p.lanes, columns, step, c, i
    cdef ptrdiff_t lo[3]
    cdef bint padded
    cdef Run r
    cdef const char *origin
    cdef bint outside
    x.axis[1], x.axis[2] = x.axis[1] * p.tile_step[0], x.axis[2] * p.tile_step[1]
    j.column_sum = NULL
    j.to_point, j.to_tile = side.point, side.tile
    while tile < tile1:
        r = run_of(p, tile, tile1)
        j.tiles, columns = r.tiles, (r.tiles - 1) * p.m + side.reach[1]
        lo[0], lo[1], lo[2] = r.d + side.low[0], r.h + side.low[1], r.w + side.low[2]
        j.lo[0], j.lo[1] = max(0, ceil_div(-lo[1], p.tile_step[0])), max(0, ceil_div(-lo[2], p.tile_step[1]))
        j.hi[0] = max(j.lo[0], min(side.reach[0], ceil_div(side.extent[1] - lo[1], p.tile_step[0])))
        j.hi[1] = max(j.lo[1], min(columns, ceil_div(side.extent[2] - lo[2], p.tile_step[1])))
        outside = lo[0] < 0 or lo[0] >= side.extent[0]
        if outside:
            j.hi[0], j.hi[1] = j.lo[0], j.lo[1]
        padded = side.mode != FC_ZEROS and (
            outside or j.lo[0] or j.lo[1] or j.hi[0] < side.reach[0] or j.hi[1] < columns)
        step = side.run if x.c == 1 and not padded else lanes
        for i in range(ceil_div(side.channels, step)):
            c = i * step
            j.n = min(step, side.channels - c)
            j.to = to + (c // side.run * side.runs + (tile - tile0) * j.to_tile + c % side.run) * p.itemsize
            origin = x.data + (r.n * x.n + (side.channel0 + c) * x.c) * p.itemsize
            if padded:
                pad_patches(kernels, side, origin, lo, &j, columns, lanes, strip)
            else:
                origin += (lo[0] * x.axis[0] + lo[1] * side.tensor.axis[1] + lo[2] * side.tensor.axis[2]) * p.itemsize
                j.from_, j.from_row, j.from_column = origin, x.axis[1], x.axis[2]
                if x.c != 1 and not outside:
                    load_patches(kernels, p, &x, origin, &j, strip)
            if column_sum != NULL:
                j.column_sum = column_sum + c * p.itemsize
                kernels.winograd_gradient(&j)
            else:
                kernels.winograd_input(&j)
        tile += j.tiles


cdef ptrdiff_t transform_slices(const fc_kernels *kernels, Blocks p, Side *side, ptrdiff_t tile0, ptrdiff_t tile1,
                                char *to, char *strip) noexcept nogil:
    """Transform what tiles [tile0, tile1) need for every slice.

    Returns the distance of two slices' tiles. Enough tiles that lie together share slices, others don't.
    """
    cdef ptrdiff_t tiles = tile1 - tile0, apart = p.slice_tiles, plane = p.plane_tiles, t, first
    cdef int i
    cdef ptrdiff_t row = ceil_div(side.channels, p.lanes) * p.lanes * p.itemsize
    cdef bint shared = plane and tiles > apart and tile0 // plane == (tile1 - 1) // plane
    if not shared:
        apart = tiles
    for t in range(p.slices):
        for i in range(3):
            side.low[i] = p.offset[3 * p.slice_tap(t) + i]
        first = tile1 - apart if t and shared else tile0
        transform_tiles(kernels, p, side, first, tile1, to + (t * apart + first - tile0) * row, strip, NULL)
    return apart


cdef void load_patches(const fc_kernels *kernels, Blocks p, const Tensor *x, const char *origin, fc_winograd *j,
                       char *strip) noexcept nogil:
    """Copy the rows and columns of patches that exist from a channels-first image, channels adjacent."""
    cdef fc_rows r
    r.x = <char *>origin + (j.lo[0] * x.axis[1] + j.lo[1] * x.axis[2]) * p.itemsize
    r.x_c, r.x_axis[0], r.x_axis[1], r.x_axis[2] = x.c, x.axis[0], x.axis[1], x.axis[2]
    r.count[0], r.count[1], r.count[2] = 1, j.hi[0] - j.lo[0], j.hi[1] - j.lo[1]
    r.rows, r.n, r.column_sum = strip, j.n, NULL
    kernels.load_rows(&r)
    j.from_row, j.from_column = r.count[2] * p.lanes, p.lanes
    j.from_ = strip - (j.lo[0] * j.from_row + j.lo[1] * j.from_column) * p.itemsize


cdef void pad_patches(const fc_kernels *kernels, const Side *side, const char *origin, const ptrdiff_t *lo,
                      fc_winograd *j, ptrdiff_t columns, ptrdiff_t lanes, char *strip) noexcept nogil:
    """Copy whole patches, padded as the mode says, channels adjacent."""
    cdef fc_strip s
    cdef int i
    s.mode, s.channels, s.split, s.src, s.dst = side.mode, j.n, 1, origin, strip
    s.src_c, s.dst_c = side.tensor.c, 1
    s.count[0], s.count[1], s.count[2] = 1, side.reach[0], columns
    for i in range(3):
        s.lo[i], s.src_axis[i], s.extent[i] = lo[i], side.tensor.axis[i], side.extent[i]
    s.dst_axis[0], s.dst_axis[1], s.dst_axis[2] = 0, s.count[2] * lanes, lanes
    kernels.load_strip(&s)
    j.from_, j.from_row, j.from_column = strip, s.dst_axis[1], lanes
    j.lo[0] = j.lo[1] = 0
    j.hi[0], j.hi[1] = s.count[1], s.count[2]
