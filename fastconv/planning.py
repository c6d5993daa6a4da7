"""How a convolution is cut into work items and tiles: a function of shapes, dtype, order and kernels alone.

Forward and backward-input are one operation here, a *correlation*: ``dst[k, o]`` is a sum over taps and
reduction channels of ``src[c, i * in_step + offset(tap)]``. Forward walks its source in steps of the
stride. Backward-input falls into stride phases: the outputs ``phase + out_step * i`` all use the same
taps, at the same offsets from ``i``, so no zeros are inserted anywhere.
"""
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

# A strip and the rows of results beside it share L2 (1 MiB and more) with a chunk of packed weights.
STRIP_BYTES = 256 * 1024
BOX_PIXELS = 1024
# Many channels make strips large, but a box has this many pixels at least: with fewer, all weights would be read for
# each register tile.
FEWEST_PIXELS = 64
# Small images are joined until a box has this many pixels: enough tiles for one pass over the weights.
JOINED_PIXELS = 128
# A work item has about 2 MFLOP at least, to be worth its strip. More items than WANTED_ITEMS balance no better.
ITEM_FLOPS = 2e6
WANTED_ITEMS = 16
WANTED_BOXES = 8  # work items of a correlation, fewer, since each box reads all weights
LEAST_PIXELS = 32
# Boxes of many stride phases are larger, up to this: a phase has few pixels of a box, which read its weights.
PHASE_PIXELS, BOX_OF_PHASES = 64, 4096
# Channels-first strips keep their order from this many channels on; fewer are interleaved, so that a
# row of taps and channels is one run of memory.
PLANAR_CHANNELS = 8
# Boxes of pixels as lanes: at least this many vectors wide, and this many times as high as what the taps reach over.
PLANAR_VECTORS = 4
PLANAR_ROWS = 4
# Measured cycles of a tile over those of its FMAs: of a tile of pixels, and of tiles of columns by their number of
# vectors. COLUMN_CYCLES: what starting and storing a tile takes besides, per result vector.
PLANAR_TILE = 1.2
COLUMN_TILE, COLUMN_CYCLES = {1: 1.4, 2: 1.25, 3: 1.15}, {1: 12, 2: 10, 3: 4}
# Cycles to copy an element of a channels-first source into its strip, and to begin a row of it; times COPY_SPLIT where
# the rows are split by the stride. Cycles to transpose a vector of channels-last pixels or results for tiles of pixels,
# and to store one of channels-first results of tiles of columns.
COPY_CYCLES, COPY_ROW, COPY_SPLIT = 0.4, 10, 1.5
TRANSPOSE_CYCLES, STORE_CYCLES = 8, 7
# What tiles of pixels take more of stride phases, and to store a channels-first result of one.
PLANAR_PHASES, SCATTER_CYCLES = 1.2, 1
# Partial weight gradients: at most this many, and at most this many bytes of them beyond the first.
PARTS = 16
PART_BYTES = 4 * 1024 * 1024
CACHE_LINE = 64


@dataclass(frozen=True)
class ConvPlan:
    """What one convolution call does (:func:`fastconv.explain_conv`)."""

    op: str
    algorithm: str
    reason: str
    isa: str
    dtype: str
    memory_order: str
    box: tuple            #: images, depth, height, width of the output box of one work item
    block: int            #: output channels that one pass of the tile computes
    strip: tuple | None   #: channels, depth, height, width of the padded input copied for a box, or None
    work_items: int
    partial_sums: int     #: of a weight gradient, which are joined in a fixed order
    flops: int            #: multiply and add counted as two, padding taps included
    packed_bytes: int     #: packed weights, or partial weight gradients; with dx of a padding mode the padded gradient
    share_bytes: int      #: scratch memory of one thread
    threads: int
    workspace: int        #: packed_bytes + threads * share_bytes, the scratch memory that the call uses


class Axis(NamedTuple):
    """One spatial axis of a correlation."""

    src: int
    dst: int
    in_step: int
    out_step: int
    phases: tuple  # of tuples of (tap, offset), offsets ascending

    @property
    def low(self):
        return min((phase[0][1] for phase in self.phases if phase), default=0)

    @property
    def high(self):
        return max((phase[-1][1] for phase in self.phases if phase), default=0)

    def reach(self, size):
        """Source positions that `size` adjacent outputs use."""
        return (-(-size // self.out_step) - 1) * self.in_step + self.high - self.low + 1

    def products(self):
        """Taps of all results, those on padding too."""
        return sum(len(phase) * -(-(self.dst - first) // self.out_step) for first, phase in enumerate(self.phases))

    def results_seeing(self, first, offset):
        """Results of phase `first` for which the tap at `offset` lies in the source."""
        cells = -(-(self.dst - first) // self.out_step)
        return max(0, min(cells, -((offset - self.src) // self.in_step)) - max(0, -(offset // self.in_step)))

    def seen(self):
        """The axis without the taps that lie on padding for all results."""
        return self._replace(phases=tuple(
            tuple((tap, o) for tap, o in phase if self.results_seeing(first, o))
            for first, phase in enumerate(self.phases)))

    def real_taps(self):
        """Taps of a result that lie in the source, not on padding, on average."""
        return sum(self.results_seeing(first, o) for first, phase in enumerate(self.phases)
                   for _, o in phase) / self.dst

    def regions(self):
        """Pieces of the results that have the same taps in the source."""
        most = 1
        for first, phase in enumerate(self.phases):
            cells = -(-(self.dst - first) // self.out_step)
            ends = {-((o - edge) // self.in_step) for _, o in phase for edge in (0, self.src)}
            most = max(most, 1 + sum(0 < end < cells for end in ends))
        return most

    def boxes(self, size):
        return -(-self.dst // size)

    def split(self, parts):
        """The size of one of `parts` even pieces, whole stride cells."""
        cells = -(-self.dst // self.out_step)
        return min(self.dst, -(-cells // parts) * self.out_step)


def seen_axes(op, g):
    """The axes of forward or backward-input; taps that meet nothing but zeros are left out."""
    axes = forward_axes(g) if op == "forward" else backward_axes(g)
    return axes if g.mode else tuple(axis.seen() for axis in axes)


def forward_axes(g, fold=1):
    """The axes of forward; along w, `fold` neighbouring results are phases."""
    axes = []
    for i, f in enumerate((1, 1, fold)):
        phases = tuple(tuple((r, r * g.dilation[i] - g.before[i] + a * g.stride[i]) for r in range(g.kernel[i]))
                       for a in range(f))
        axes.append(Axis(g.in_[i], g.out[i], g.stride[i] * f, f, phases))
    return tuple(axes)


def backward_axes(g, fold=1, every_tap=False):
    """The axes of backward-input; along w, there are `fold` times the stride's phases.

    A single output fits any stride; with a long one, every phase has the taps that reach that output and no others.
    Winograd needs `every_tap` at every position.
    """
    axes = []
    for i, f in enumerate((1, 1, fold)):
        s, d = g.stride[i], g.dilation[i]
        if g.out[i] == 1 and not every_tap:
            s = max(s, g.in_[i] + g.before[i] + d * (g.kernel[i] - 1))
        phases = [[] for _ in range(min(s * f, g.in_[i]))]
        for r in range(g.kernel[i]):
            for a in range((r * d - g.before[i]) % s, len(phases), s):
                phases[a].append((r, (a + g.before[i] - r * d) // s))
        phases = (tuple(sorted(taps, key=lambda tap: tap[1])) for taps in phases)
        axes.append(Axis(g.out[i], g.in_[i], f, s * f, tuple(phases)))
    return tuple(axes)


class Blocking(NamedTuple):
    """The numbers that the compiled drivers need; sizes in elements."""

    axes: tuple
    box: tuple            # n d h w
    boxes: tuple
    strip: tuple          # d h w of the strip
    strip_last: bool      # its channels are adjacent
    in_place: bool        # no strip: the tiles read the source
    strip_stride: tuple   # n c d h w
    k_groups: int         # work items along the blocks of output columns
    c_parts: int          # weight gradient: work items along the reduction channels' rows
    parts: int            # weight gradient: partial sums
    lanewise: bool = False  # lanes of one vector belong to different groups
    planar: bool = False  # lanes of one vector are neighbouring pixels
    turned: bool = False  # channels-first planes are transposed, so that lanes are channels
    group_run: int = 1    # groups of a work item, at most
    split: int = 1        # runs of columns in a row of the strip, this many elements apart:
    strip_run: int = 0
    region_channels: int = 0  # regions of results that have the same taps read the source, these channels at a time
    far: bool = False     # source and results don't stay in cache
    winograd: int = 0     # results a tile and axis; 0: direct
    line: bool = False    # a tile is one row
    slice_tiles: tuple = (0, 0)  # several patches a tile: how many tiles they are apart, of how many; 0 0: no others'
    group_tiles: int = 0  # tiles transformed at a time, at most
    tile_parts: int = 1   # work items along the tiles
    tile_step: tuple = (1, 1)  # h w between the results of a tile: the dilation
    chunk: int = 0        # reduction channels whose weights are transformed at a time
    resident: bool = False  # a thread keeps all transformed weights, else it transforms them chunk by chunk
    pack_transformed: bool = False  # packed weights are transformed ones
    fused: bool = False  # few tiles: transformed weights, or their gradients, stay in registers


def strip_strides(strip, channels, last, lane_line, split=1):
    d, h, w = strip
    w = -(-w // split) * split
    if last:
        return d * h * w * channels, 1, h * w * channels, w * channels, channels
    plane = -(-d * h * w // lane_line) * lane_line
    if plane // lane_line % 2 == 0:
        plane += lane_line  # odd multiples of a line spread the channels over the L1 sets
    return plane * channels, plane, h * w, w, 1


def largest_box(axes, pixel_limit, fits):
    """The largest box that fits, splitting the outermost axes first."""
    box = [axis.dst for axis in axes]
    for i, axis in enumerate(axes):
        parts = 1
        while (prod(box) > pixel_limit or not fits(box)) and box[i] > axis.out_step:
            parts += max(1, parts // 8)
            box[i] = axis.split(parts)
    return box


def is_planar(axes, groups, red, cols, itemsize, lanes, src_last, regions):
    """Whether the lanes of a correlation should be pixels, not result channels."""
    return (planar_cycles(axes, groups, red, cols, itemsize, lanes, src_last)
            < _column_cycles(axes, red, cols, lanes, src_last, regions))


def _steps(axes, red):
    """Products of a result, on average."""
    return red * prod(sum(map(len, axis.phases)) / axis.out_step for axis in axes)


def _copied(axes, box):
    """Source pixels in the strip of a box, for each result."""
    return prod(axis.reach(size) / size for axis, size in zip(axes, box))


def _copy_cycles(axes, box, red):
    """Cycles a result pixel to copy the rows of a channels-first strip."""
    return red * _copied(axes, box) * (COPY_CYCLES + COPY_ROW / axes[2].src)


def planar_cycles(axes, groups, red, cols, itemsize, lanes, src_last):
    """Cycles a result pixel of tiles of pixels; a single column is bound by the loads of the strip."""
    steps, step, phases = _steps(axes, red), axes[2].out_step, prod(axis.out_step for axis in axes)
    rows, width = axes[1].dst, axes[2].dst
    slots = rows * step * -(-width // (step * lanes)) * lanes
    if phases == axes[1].in_step == axes[2].in_step == 1:  # vectors go on in the next row
        slots = min(slots, -(-((rows - 1) * axes[2].reach(width) + width) // lanes) * lanes)
    tile = PLANAR_TILE * steps * max(cols, 2) / (2 * lanes) * slots / (rows * width)
    if phases > 1:
        tile *= PLANAR_PHASES
    run = group_run(groups, red, cols, lanes) if src_last else 1
    box = _planar_box(axes, lanes, _fits_strip(axes, run * red * itemsize))
    if src_last:
        return tile + TRANSPOSE_CYCLES * (-(-run * red // lanes) * _copied(axes, box) + -(-run * cols // lanes)) / run
    scatter = SCATTER_CYCLES * cols if step > 1 else 0
    return tile + _copy_cycles(axes, box, red) * (COPY_SPLIT if axes[2].in_step > 1 else 1) + scatter


def _column_cycles(axes, red, cols, lanes, src_last, regions):
    """Cycles a result pixel of tiles of columns, whose results are transposed if the channels are first."""
    steps = red * prod(axis.real_taps() for axis in axes) if regions else _steps(axes, red)
    vectors = -(-cols // lanes)
    tile = steps / 2 * COLUMN_TILE[min(vectors, 3)] + COLUMN_CYCLES[min(vectors, 3)]
    copied = not (src_last or regions or steps == red)
    copy = _copy_cycles(axes, [axis.dst for axis in axes], red) if copied else 0
    return vectors * (tile + (0 if src_last else STORE_CYCLES)) + copy


def group_run(groups, red, cols, lanes):
    """Groups whose channels-last pixels are transposed together: enough to fill a vector, of at most two of columns."""
    return max(1, min(groups, -(-lanes // min(red, cols)), 2 * lanes // cols))


def even_boxes(axes, box, lanes):
    """(box, boxes an axis): those of the outermost axis that is split become a multiple of 2 or 4, to share.

    Where `lanes` pixels make a vector (0: lanes are no pixels), boxes begin at whole vectors.
    """
    boxes = [axis.boxes(size) for axis, size in zip(axes, box)]
    if lanes and boxes[2] > 1:
        vectors = -(-axes[2].dst // lanes)
        box = [*box[:2], -(-vectors // boxes[2]) * lanes]
    i = next((i for i in range(3) if boxes[i] > 1), None)
    if i is not None and not (lanes and i == 2):
        cells = -(-axes[i].dst // axes[i].out_step)
        several = 4 if cells >= 4 * boxes[i] > 8 else 2
        boxes[i] = min(cells, -(-boxes[i] // several) * several)
        box = [*box[:i], axes[i].split(boxes[i]), *box[i + 1:]]
    return box, boxes


def _fits_strip(axes, pixel_bytes, cell=1):
    """fits(box): whether its strip, of `pixel_bytes` bytes a pixel, is small, or its results are few."""
    def fits(box):
        pixels = prod(axis.reach(size) for axis, size in zip(axes, box))
        return pixels * pixel_bytes <= STRIP_BYTES or prod(box) <= FEWEST_PIXELS * cell
    return fits


def _planar_box(axes, lanes, fits):
    """The largest box that fits: whole rows, cut where the rows above and below them would be most of the strip."""
    width, lanes = axes[2].dst, lanes * axes[2].out_step
    least = min(axes[1].dst, PLANAR_ROWS * (axes[1].high - axes[1].low) * axes[1].out_step)
    while width > PLANAR_VECTORS * lanes and (width * least > BOX_PIXELS or not fits([1, least, width])):
        width = -(-width // (2 * lanes)) * lanes
    box = largest_box((*axes[:2], axes[2]._replace(dst=width)), BOX_PIXELS, fits)
    return [*box[:2], min(axes[2].dst, -(-box[2] // lanes) * lanes)]


# Regions: results that have the same taps inside the source are computed together and read the source in place, without
# padding. Weight gradients use them where a strip would be transposed, or where dilated taps leave much of it unused.
REGION_CHANNELS = 16  # at least; fewer where most taps are padding,
REGION_TAPS = 1 / 3   # which is where at most this share of them lies in the source
REGION_PIXELS = 4     # results a region at least, on average: each region reads its weights
REGION_ROWS = 12      # images are joined until a region has this many pixels: the rows of a tile
REGION_REACH = 8      # pixels that dilated taps of a weight gradient reach over
REGION_CHUNK = 256    # channels at a time: they are read for each tap
# Channels-first channels lie pages apart, so a strip that interleaves them pays from this many products on, for each
# element that is copied.
INTERLEAVE_PRODUCTS = 600


def uses_regions(op, g, axes, red, src_last):
    """Whether the direct algorithm leaves padding out, region by region of results."""
    if g.mode:
        return False
    if op == "backward_weight":
        far = any(d > 1 and d * (r - 1) >= REGION_REACH for d, r in zip(g.dilation, g.kernel))
        return red >= REGION_CHANNELS and (not src_last or far)
    if red < REGION_CHANNELS:
        taps = prod(sum(map(len, axis.phases)) / axis.out_step for axis in axes)
        if prod(axis.real_taps() for axis in axes) > REGION_TAPS * taps:
            return False
    return g.n * prod(axis.dst for axis in axes) >= REGION_PIXELS * prod(axis.regions() for axis in axes)


def region_images(axes, n):
    """Images whose regions are multiplied together."""
    regions, pixels = prod(axis.regions() for axis in axes), prod(axis.dst for axis in axes)
    return max(1, min(n, -(-REGION_ROWS * regions // pixels)))


def _shared_items(axes, n, group_runs, col_blocks, wanted, box, images, crowd, least, weights_first):
    """(images, box, column groups) of the work items of a correlation, made smaller until there are `wanted`.

    First joined images are taken apart, down to `crowd` of them; then column blocks where weights are larger than the
    source (`weights_first`), or the box while it has more than `least` results, then what else can be.
    """
    box, k_groups = list(box), 1
    while -(-n // images) * group_runs * prod(a.boxes(b) for a, b in zip(axes, box)) * k_groups < wanted:
        halves = [axis.split(2 * axis.boxes(size)) for axis, size in zip(axes, box)]
        splittable = [i for i in range(3) if halves[i] < box[i]]
        if images > crowd:
            images = max(crowd, (images + 1) // 2)
        elif k_groups < col_blocks and (weights_first or not splittable):
            k_groups = min(2 * k_groups, col_blocks)
        elif splittable and images * prod(box) > least:
            box[splittable[0]] = halves[splittable[0]]
        elif k_groups < col_blocks:
            k_groups = min(2 * k_groups, col_blocks)
        elif images > 1:
            images = crowd = (images + 1) // 2
        else:
            break
    return images, box, k_groups


@lru_cache(maxsize=512)
def correlation_blocking(axes, n, groups, red, cols, itemsize, lanes, block, src_last, folded=False, regions=False):
    """Blocking of forward (``red`` = C / groups, ``cols`` = K / groups) or backward-input (the reverse).

    Folded: the rows of a tile are cells of ``out_step`` results an axis, not single results. Regions: results that
    have the same taps inside the source are computed together, in place or in a strip without padding.
    """
    phases = prod(axis.out_step for axis in axes)
    cell = phases if folded else 1
    most = BOX_PIXELS * cell if folded else max(BOX_PIXELS, min(PHASE_PIXELS * phases, BOX_OF_PHASES))
    least = LEAST_PIXELS * max(cell, phases // 4)
    taps = prod(sum(len(phase) for phase in axis.phases) for axis in axes)
    in_place = taps == 1 and all(
        axis.low == 0 and axis.high == 0 and (axis.dst - 1) // axis.out_step * axis.in_step < axis.src
        for axis in axes)
    planar = not folded and is_planar(axes, groups, red, cols, itemsize, lanes, src_last, regions)
    regions = regions and not in_place and not planar
    run = group_run(groups, red, cols, lanes) if planar and src_last else 1

    def strip_pixels(box):
        return prod(axis.reach(size) for axis, size in zip(axes, box))

    def strip_bytes(box):
        return run * red * itemsize * strip_pixels(box)

    crowd = region_images(axes, n) if regions else 1

    def box_that(fits):
        return _planar_box(axes, lanes, fits) if planar else largest_box(axes, most // crowd, fits)

    box = box_that(_fits_strip(axes, run * red * itemsize, cell))
    products = taps * cols / phases
    products *= prod(box) / strip_pixels(box)
    interleaved = not (src_last or in_place or planar) and products >= INTERLEAVE_PRODUCTS
    in_place = (in_place or regions and not interleaved) and not planar
    if in_place:
        box = box_that(lambda _: True)
    strip_last = (src_last or interleaved or red < PLANAR_CHANNELS) and not planar
    images = crowd
    if box == [axis.dst for axis in axes]:
        rows = prod(-(-axis.dst // axis.out_step) for axis in axes)
        joined = BOX_PIXELS if planar else min(JOINED_PIXELS * prod(box) // rows, BOX_PIXELS * cell)
        images = max(crowd, min(n, joined // prod(box), n if regions else STRIP_BYTES // strip_bytes(box)))
    flops = 2 * n * groups * red * cols * prod(axis.products() for axis in axes)
    images, box, k_groups = _shared_items(
        axes, n, -(-groups // run), -(-cols // block), min(WANTED_BOXES, flops / ITEM_FLOPS), box, images, crowd, least,
        weights_first=cols * taps > prod(axis.src for axis in axes))
    box, boxes = even_boxes(axes, box, lanes * axes[2].out_step if planar else 0)
    split = axes[2].in_step if planar else 1
    strip = tuple(axis.reach(size) for axis, size in zip(axes, box))
    return Blocking(
        axes, (images, *box), (-(-n // images), *boxes), strip, strip_last, in_place,
        strip_strides(strip, run * red, strip_last, CACHE_LINE // itemsize, split), k_groups, 1, 1, planar=planar,
        group_run=run, split=split, strip_run=-(-strip[2] // split),
        region_channels=min(red, REGION_CHUNK) if regions else 0)


@lru_cache(maxsize=512)
def weight_blocking(axes, n, groups, red, cols, itemsize, block, src_last, regions=False):
    """Blocking of backward-weight: rows are (tap, channel), columns out-channels, the reduction is over pixels.

    Regions: every tap is summed over the pixels for which it lies inside the source.
    """
    taps = prod(len(axis.phases[0]) for axis in axes)
    in_place = taps == 1 and all(
        axis.low == 0 and (axis.dst - 1) * axis.in_step < axis.src for axis in axes)
    strip_last = src_last or red < PLANAR_CHANNELS

    def fits(box):
        reach = prod(axis.reach(size) for axis, size in zip(axes, box))
        return in_place or channels * itemsize * reach <= STRIP_BYTES

    # Each pass over a box loads and stores all accumulators, so it should sum over many pixels:
    # rather fewer channels at a time than a flat box.
    c_parts = 1
    box = [axis.dst for axis in axes]
    while True:
        channels = -(-red // c_parts)
        box = largest_box(axes, BOX_PIXELS, fits)
        if in_place or channels <= PLANAR_CHANNELS or prod(box) >= min(4 * LEAST_PIXELS, prod(a.dst for a in axes)):
            break
        c_parts *= 2
    images = 1
    if box == [axis.dst for axis in axes]:
        reach = prod(axis.reach(size) for axis, size in zip(axes, box))
        most = STRIP_BYTES // (channels * itemsize * reach) if not in_place else n
        images = max(1, min(n, 4 * JOINED_PIXELS // prod(box), most))
    col_blocks = -(-cols // block)
    dw_bytes = groups * red * taps * cols * itemsize
    flops = 2 * n * groups * red * cols * taps * prod(axis.dst for axis in axes)
    wanted = min(WANTED_ITEMS, max(1, flops / ITEM_FLOPS))
    boxes = (-(-n // images), *(a.boxes(b) for a, b in zip(axes, box)))
    while prod(boxes) < wanted and prod(box) >= 8 * LEAST_PIXELS and PART_BYTES // dw_bytes >= prod(boxes):
        i = next((i for i in range(3) if axes[i].split(2 * boxes[i + 1]) < box[i]), None)
        if i is None:
            break
        box[i] = axes[i].split(2 * boxes[i + 1])
        boxes = (boxes[0], *(a.boxes(b) for a, b in zip(axes, box)))
    parts = max(1, min(prod(boxes), PARTS, PART_BYTES // dw_bytes, int(wanted / groups) or 1))
    k_groups = 1
    while groups * parts * k_groups * c_parts < wanted and k_groups < col_blocks:
        k_groups = min(2 * k_groups, col_blocks)
    while groups * parts * k_groups * c_parts < wanted and red // (2 * c_parts) >= PLANAR_CHANNELS:
        c_parts *= 2
    strip = tuple(axis.reach(size) for axis, size in zip(axes, box))
    return Blocking(
        axes, (images, *box), boxes, strip, strip_last, in_place,
        strip_strides(strip, -(-red // c_parts), strip_last, CACHE_LINE // itemsize), k_groups, c_parts, parts,
        region_channels=red if regions else 0)
