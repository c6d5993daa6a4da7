"""Which algorithm `auto` takes: the one whose cost model says the fewest cycles, from shapes alone.

Cycles are those of two threads together, on vectors of 16 lanes, without what all algorithms take alike. The constants
were fitted to times of layers of published networks and of random ones, in both memory orders, with other work between
the calls. Those of Winograd go by the rows of a tile: 1 for F(m, r) along rows, 2 and 4.
"""
from bisect import bisect_left
from functools import lru_cache
from itertools import product
from math import prod

from .costs_fft import fft_cycles, lane_cycles
from .exchanged import exchanged_geometry, exchanges
from .planning import (
    backward_axes,
    correlation_blocking,
    forward_axes,
    planar_cycles,
    seen_axes,
    uses_regions,
    weight_blocking,
)
from .planning_fft import fft_algorithms
from .planning_lanes import is_lanewise
from .planning_winograd import (
    winograd_algorithms,
    winograd_blocking,
    winograd_tile,
    winograd_tiling,
    winograd_weight_blocking,
)

# The register tile, by vectors of columns: its cycles over those of its FMAs (TILE), and its rows. A step takes at
# least the latency of an FMA. Beginning and ending a tile takes as long as TILE_STEPS steps. Per vector: READ, to read
# a row of columns in a pass over all rows; SUMS, to load and store sums of backward-weight for each box of pixels or
# group of tiles.
TILE, ROWS = {1: 1.48, 2: 1.16, 3: 1.17, 4: 1.19}, {1: 10, 2: 12, 3: 8, 4: 6}
FMA = 4
TILE_STEPS, CHUNK_STEPS = 4.37, 512
READ = 0.52
SUMS = 14.4
# Per vector: to load 16 channels of a pixel into a strip, and to store 16 results, where channels-first ones (FIRST)
# are transposed; where pixels are lanes, channels-last ones are.
LOAD, LOAD_FIRST, STORE_FIRST, TRANSPOSE_LAST = 2.6, 5.6, 3.6, 4.5
# Per tap and vector of weights: to pack them, and what backward-input, whose columns are strided, takes besides.
PACK, PACK_BACKWARD = 16.2, 6.4
# To begin a stride phase of a box.
PHASE = 600
# A parallel loop: direct and folded pack their weights in one of their own.
LOOP = 14500
# Folded: the store of a result, and the packing of a vector of weights, both element by element.
UNFOLD, PACK_FOLDED = 1.24, 102
# A vector that comes from memory or goes there; the bytes of x and y that stay in cache.
FAR, NEAR_BYTES = 25, 8e6
# Winograd, per vector and tile: the transforms of the input, of dy and of the results; what channels-first ones take
# besides, and dilated channels-first ones besides that. Per run of tiles and vector: RUN. Per vector of transformed
# tiles that L2 doesn't hold: SPILL, and that the last cache doesn't hold either: SPILL_FAR.
INPUT, GRADIENT, OUTPUT = {1: 45, 2: 84, 4: 226}, {1: 45, 2: 85, 4: 211}, {1: 40, 2: 34, 4: 111}
INPUT_FIRST, OUTPUT_FIRST, DILATED_FIRST = {1: 15, 2: 23, 4: 40}, {1: 40, 2: 34, 4: 107}, 55
RUN, RUN_TILES = {1: 400, 2: 54, 4: 54}, 64
SPILL, L2_BYTES = 6.5, 0.7e6
SPILL_FAR, LAST_BYTES = 60, 6e6
# Per vector: to pack and transform the weights of a slice, and to transform its sums of backward-weight.
WEIGHT, TAPS = {1: 80, 2: 66, 4: 110}, {1: 60, 2: 128, 4: 168}
# A fused plan, per vector of weights: the half transform, and the products with as many tiles as a block has vectors;
# of backward-weight, the transform of the sums, and the products with one tile.
HALF, FUSED = {2: 60, 4: 33}, {2: 32, 4: 116}
FUSED_TAPS, FUSED_TILE = {2: 115, 4: 130}, {2: 11, 4: 28}
# Exchanged: an element of dw is moved once more; and Python.
MOVE, EXCHANGE = 4, 40000
# "fft" should win by this much.
FFT_MARGIN = 1.2


def _tiles(passes, rows, steps, columns, lanes):
    """Cycles of `passes` passes of the register tile over all rows and columns, each of `steps` steps."""
    def row_cycles(vectors):
        return max(rows * TILE[vectors] * vectors / 2, FMA * -(-rows // ROWS[vectors]))

    vectors = -(-columns // lanes)
    blocks, rest = divmod(vectors, 4)
    a_step = blocks * row_cycles(4) + (row_cycles(rest) if rest else 0)
    return passes * ((steps + TILE_STEPS * -(-steps // CHUNK_STEPS)) * a_step + READ * steps * vectors)


def _products(points, passes, rows, steps, columns, lanes):
    """The same of Winograd's products, whose tiles have an even number of rows, 4 at least."""
    return points * _tiles(passes, max(4, -(-rows // 2) * 2), steps, columns, lanes)


def _uneven(items):
    """The time that two threads take for `items` work items, over that of an even share."""
    return -(-items // 2) * 2 / items


def _memory(g, itemsize, lanes, x=True, y=True):
    """Cycles for the part of x and y that is in memory, not in cache."""
    x_size, y_size = g.n * g.c * prod(g.in_), g.n * g.k * prod(g.out)
    far = max(0, 1 - NEAR_BYTES / (itemsize * (x_size + y_size)))
    return FAR * far * (x * x_size + y * y_size) / lanes


def _spill(tiles, group, vectors, vector_bytes):
    """Cycles for `tiles` transformed tiles of `vectors` vectors that go further, as a group outgrows the caches."""
    held = group * vectors * vector_bytes
    return tiles * vectors * (SPILL * max(0, 1 - L2_BYTES / held) + SPILL_FAR * max(0, 1 - LAST_BYTES / held))


# ---------------------------------------------------------------- forward and backward-input

def _axes(g, op, fold=1, every_tap=False):
    return forward_axes(g, fold) if op == "forward" else backward_axes(g, fold, every_tap)


def _copied(b, red, lanes):
    """Vectors of all strips of one group."""
    return prod(b.boxes) * b.box[0] * prod(b.strip) * b.k_groups * red / lanes


def _pieces(axis):
    """(results, taps in the source) of each piece of an axis that has the same taps."""
    for first, phase in enumerate(axis.phases):
        cells = -(-(axis.dst - first) // axis.out_step)
        ends = (-((o - edge) // axis.in_step) for _, o in phase for edge in (0, axis.src))
        cuts = sorted({0, cells, *(end for end in ends if 0 < end < cells)})
        offsets = [o for _, o in phase]
        for begin, end in zip(cuts, cuts[1:]):
            low = -begin * axis.in_step
            yield end - begin, bisect_left(offsets, low + axis.src) - bisect_left(offsets, low)


def _region_cycles(b, axes, n, red, cols, lanes):
    """Cycles of the register tile for one group, region by region of results; boxes read the weights anew."""
    taps = prod(sum(len(phase) for phase in axis.phases) for axis in axes)
    images = n / b.boxes[0]
    cycles = sum(_tiles(b.boxes[0], images * d * h * w, td * th * tw * red, cols, lanes)
                 for (d, td), (h, th), (w, tw) in product(*map(_pieces, axes)))
    return cycles + READ * (prod(b.boxes[1:]) - 1) * taps * red * -(-cols // lanes)


def _direct(op, g, red, cols, src_last, itemsize, lanes, block):
    axes = seen_axes(op, g)
    regions = uses_regions(op, g, axes, red, src_last)
    b = correlation_blocking(axes, g.n, g.groups, red, cols, itemsize, lanes, block, src_last, regions=regions)
    pixels, vectors, boxes = g.n * prod(axis.dst for axis in axes), -(-cols // lanes), prod(b.boxes)
    taps = prod(sum(len(phase) for phase in axis.phases) for axis in axes)
    strip = not (b.in_place or b.planar and taps == 1 and not src_last)
    phases = prod(axis.out_step for axis in axes)
    if b.planar:
        cycles = pixels * planar_cycles(axes, g.groups, red, cols, itemsize, lanes, False)
        if src_last:
            cycles += TRANSPOSE_LAST * (_copied(b, red, lanes) + pixels * cols / lanes)
    else:
        passes = boxes * phases
        cycles = (_region_cycles(b, axes, g.n, red, cols, lanes) if b.region_channels
                  else _tiles(passes, pixels / passes, taps / phases * red, cols, lanes))
        cycles += strip * _copied(b, red, lanes) * (LOAD if src_last else LOAD_FIRST)
        cycles += pixels * vectors * (0 if src_last else STORE_FIRST)
        cycles *= _uneven(boxes * g.groups * b.k_groups)
    if phases > 1:
        cycles += PHASE * phases * boxes
    pack = PACK if op == "forward" else PACK + PACK_BACKWARD
    # Strips are loaded before the products; all else that comes from memory comes beside them.
    source = _memory(g, itemsize, lanes, x=op == "forward", y=op != "forward") if strip else 0
    return (max(g.groups * cycles + source, _memory(g, itemsize, lanes))
            + pack * taps * g.groups * red * vectors + LOOP)


def _fold_taps(axes, narrow):
    """Taps of a block of columns, on average: from the first to the last that its phases use.

    `narrow`: a block has phases of several rows of a cell, so that it uses all taps.
    """
    unions = [sorted({o for phase in axis.phases for _, o in phase}) for axis in axes]
    d, h, w = map(len, unions)
    if narrow:
        return d * h * w
    spans = [[union.index(phase[-1][1]) - union.index(phase[0][1]) for phase in axis.phases if phase] or [0]
             for axis, union in zip(axes[:2], unions)]
    return w * (1 + sum(sum(span) / len(span) * rows for span, rows in zip(spans, (h, 1))))


def _fold_cycles(axes, g, red, cols, lanes, block):
    """Cells of results are rows, and a cell's results are columns; taps that a block doesn't use are left out."""
    taps = _fold_taps(axes, len(axes[2].phases) * cols < block)
    cells = prod(-(-axis.dst // axis.out_step) for axis in axes)
    columns = prod(len(axis.phases) for axis in axes) * cols
    return (_tiles(1, g.n * cells, taps * red, columns, lanes) + UNFOLD * g.n * prod(axis.dst for axis in axes) * cols
            + PACK_FOLDED * taps * red * -(-columns // lanes) + LOOP)


@lru_cache(maxsize=512)
def best_fold(g, op, lanes, block):
    """(cycles, pixels along w that are columns) of the folded algorithm, without its strips."""
    red, cols = (g.c, g.k) if op == "forward" else (g.k, g.c)
    folds = ((f, _axes(g, op, f)) for f in (1, 2, 3, 4, 5, 6, 8, 16))
    return min((_fold_cycles(axes, g, red // g.groups, cols // g.groups, lanes, block) * g.groups, f)
               for f, axes in folds if f == 1 or axes[2].dst >= 2 * axes[2].out_step)


def _folded(op, g, red, cols, src_last, itemsize, lanes, block):
    cycles, fold = best_fold(g, op, lanes, block)
    b = correlation_blocking(_axes(g, op, fold), g.n, 1, red, cols, itemsize, lanes, block, src_last, True)
    return cycles + _copied(b, red, lanes) * (LOAD if src_last else LOAD_FIRST) + _memory(g, itemsize, lanes)


def _winograd(algorithm, op, g, red, cols, src_last, itemsize, lanes, block):
    axes, tile = _axes(g, op, every_tap=True), winograd_tile(algorithm, g.kernel)
    b, m = winograd_blocking(axes, g.n, g.groups, red, cols, itemsize, lanes, block, tile), tile.results[0]
    tiling = winograd_tiling(axes, g.n, tile)
    tiles, vectors_red, vectors_cols = prod(b.boxes), -(-red // lanes), -(-cols // lanes)
    group = min(b.group_tiles, -(-tiles // 2)) if b.resident else b.group_tiles
    passes, chunks = -(-tiles // group), -(-red // b.chunk)
    sources, weights = tiling.sources(group), red * tiling.slices * vectors_cols
    pack = 0 if op == "forward" else prod(tile.taps) * PACK_BACKWARD
    if b.fused:
        products = weights * (HALF[m] + pack + FUSED[m] * -(-tiles // (block // lanes)))
    else:
        products = _products(tile.points, passes * chunks, tiles / passes, tiling.slices * red / chunks, cols, lanes)
        # Weights are transformed so many times: two threads have one group in common.
        products += weights * (WEIGHT[m] + pack) * (1 + 1 / g.groups if b.resident else b.tile_parts)
    shares = min(2, b.k_groups) if b.tile_parts == 1 else 1  # of the threads, that each transform all tiles
    dilated = 0 if src_last or b.tile_step[1] == 1 else DILATED_FIRST
    each_tile = RUN[m] / min(RUN_TILES, b.boxes[3]) + dilated
    inputs, outputs = INPUT[m] + (0 if src_last else INPUT_FIRST[m]), OUTPUT[m] + (0 if src_last else OUTPUT_FIRST[m])
    held = tile.points * tiling.slices * vectors_red
    return _memory(g, itemsize, lanes) + g.groups * (
        (products + outputs * tiles * vectors_cols) * _uneven(b.tile_parts * g.groups * b.k_groups)
        + inputs * passes * sources * vectors_red * shares + each_tile * tiles * (vectors_red * shares + vectors_cols)
        + shares * _spill(tiles, group, held, itemsize * lanes))


def _fft(op, g, red, cols, itemsize, lanes):
    """{"fft": cycles} if it serves."""
    axes = forward_axes(g) if op == "backward_weight" else _axes(g, op, every_tap=True)
    return {name: FFT_MARGIN * fft_cycles(axes, g, red, cols, itemsize, lanes, op == "backward_weight")
            + _memory(g, itemsize, lanes) for name in fft_algorithms(g)}


def _lanewise(g, src_last, itemsize, lanes):
    """Of lanes of several groups, whose kernels have no model but where "fft" serves too."""
    return lane_cycles(forward_axes(g), g, src_last, itemsize, lanes) + _memory(g, itemsize, lanes)


def _least(costs):
    return min(costs, key=costs.get)


def best_correlation(g, op, src_last, itemsize, lanes, block):
    """The algorithm that "auto" takes for forward or backward-input."""
    red, cols = (g.c, g.k) if op == "forward" else (g.k, g.c)
    shape = op, g, red // g.groups, cols // g.groups, src_last, itemsize, lanes, block
    if not g.macs:
        return "direct"
    fft = _fft(op, g, red // g.groups, cols // g.groups, itemsize, lanes)
    if is_lanewise(op, g.groups, red // g.groups, cols // g.groups, lanes, src_last):
        return _least({"direct": _lanewise(g, src_last, itemsize, lanes)} | fft) if fft else "direct"
    costs = {"direct": _direct(*shape)} | fft
    if g.groups == 1 and (2 * cols <= lanes or op == "backward_input" and max(g.stride) > 1):
        costs["folded"] = _folded(*shape)
    return _least(costs | {name: _winograd(name, *shape) for name in winograd_algorithms(g)})


# ---------------------------------------------------------------- backward-weight

def _direct_weight(g, red, cols, src_last, itemsize, lanes, block):
    axes, regions = forward_axes(g), uses_regions("backward_weight", g, None, red, src_last)
    b = weight_blocking(axes, g.n, g.groups, red, cols, itemsize, block, src_last, regions)
    boxes, pixels, taps, vectors = prod(b.boxes), g.n * prod(g.out), prod(g.kernel), -(-cols // lanes)
    passes, channels = boxes * b.c_parts, -(-red // b.c_parts)
    if regions:
        used = prod(axis.real_taps() for axis in axes) / taps
        cycles = _tiles(passes * taps, channels, pixels / boxes * used, cols, lanes)
    else:
        cycles = _tiles(passes, taps * channels, pixels / boxes, cols, lanes)
    loaded = pixels * vectors * b.c_parts + (0 if b.in_place else _copied(b, red, lanes))
    cycles += (LOAD if src_last else LOAD_FIRST) * loaded + SUMS * (boxes + b.parts) * taps * red * vectors
    return max(g.groups * cycles * _uneven(g.groups * b.parts * b.k_groups * b.c_parts), _memory(g, itemsize, lanes))


def _winograd_weight(algorithm, g, red, cols, src_last, itemsize, lanes, block):
    axes, tile = forward_axes(g), winograd_tile(algorithm, g.kernel)
    b, m = winograd_weight_blocking(axes, g.n, g.groups, red, cols, itemsize, lanes, block, tile), tile.results[0]
    tiling = winograd_tiling(axes, g.n, tile)
    tiles, vectors_red, vectors_cols = prod(b.boxes), -(-red // lanes), -(-cols // lanes)
    passes, sources = -(-tiles // b.group_tiles), tiling.sources(b.group_tiles) / b.group_tiles
    sums, single = red * tiling.slices * vectors_cols, tiles <= b.group_tiles * b.parts
    if b.fused:
        products = sums * (FUSED_TILE[m] * tiles + FUSED_TAPS[m])
    else:
        runs = -(-red // b.chunk) if single else 1  # of channels
        products = (_products(tile.points, passes * tiling.slices * runs, red / runs, tiles / passes, cols, lanes)
                    + sums * (SUMS * tile.points * (passes - b.parts) + TAPS[m] * b.parts))
    shares = min(2, b.k_groups) if single else b.k_groups  # of x, transformed for each
    first = 0 if src_last else INPUT_FIRST[m]
    each_tile = RUN[m] / min(RUN_TILES, b.boxes[3]) + (0 if src_last or b.tile_step[1] == 1 else DILATED_FIRST)
    return _memory(g, itemsize, lanes) + g.groups * (
        _uneven(b.parts * g.groups * b.k_groups) * (
            products + tiles * (((INPUT[m] + first) * sources * shares + each_tile) * vectors_red
                                + (GRADIENT[m] + first + each_tile) * vectors_cols))
        + _spill(sources * tiles, sources * b.group_tiles, tile.points * vectors_red, itemsize * lanes))


def _weight_costs(shape):
    """Of the algorithms of which the gradient with x and dy exchanged has its choice, too."""
    return {"direct": _direct_weight(*shape)} | {name: _winograd_weight(name, *shape)
                                                 for name in winograd_algorithms(shape[0])}


def _exchanged(g, src_last, itemsize, lanes, block):
    """{"exchanged": cycles} if it may serve better: columns are input channels, and weights are moved once more."""
    if not exchanges(g) or g.k > 3 * lanes:
        return {}
    costs = _weight_costs((exchanged_geometry(g), g.k, g.c, src_last, itemsize, lanes, block))
    return {"exchanged": min(costs.values()) + MOVE * g.c * g.k * prod(g.kernel) + EXCHANGE}


def best_exchanged(inner, src_last, itemsize, lanes, block):
    """The algorithm of the exchanged convolution."""
    return _least(_weight_costs((inner, inner.c, inner.k, src_last, itemsize, lanes, block)))


def best_weight_gradient(g, src_last, itemsize, lanes, block):
    """The algorithm that "auto" takes for backward-weight."""
    if not g.macs:
        return "direct"
    shape = g, g.c // g.groups, g.k // g.groups, src_last, itemsize, lanes, block
    fft = _fft("backward_weight", g, *shape[1:3], itemsize, lanes)
    if is_lanewise("backward_weight", g.groups, *shape[1:3], lanes, src_last):
        return _least({"direct": _lanewise(g, src_last, itemsize, lanes)} | fft) if fft else "direct"
    return _least(_weight_costs(shape) | fft | _exchanged(g, src_last, itemsize, lanes, block))
