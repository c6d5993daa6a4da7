"""Which algorithm `auto` takes: the one whose cost model says the fewest cycles, from shapes alone.

Cycles are those of all threads together, on vectors of 16 lanes; the constants were fitted to measured times of layers
of published networks and of random ones, in both memory orders.
"""
from functools import lru_cache
from math import prod

from .planning import (
    BOX_PIXELS,
    backward_axes,
    forward_axes,
    is_planar,
    planar_cycles,
    uses_regions,
)
from .planning_lanes import is_lanewise
from .planning_winograd import WINOGRAD, depth_tiles, winograd_blocking, winograd_serves, winograd_weight_blocking

# Cycles of the register tile over those of its FMAs, by vectors of columns: loads are shared by all of them. To begin
# and end a tile takes as long as some steps.
TILE = {1: 1.7, 2: 1.25, 3: 1.05, 4: 1.07}
TILE_STEPS = 4.4
SUMS_STEPS = 8  # of backward-weight, where sums are loaded and stored for each box of pixels
# Per vector: to load 16 channels of a pixel to a strip, and to store 16 results; channels-first ones are transposed.
LOAD, LOAD_FIRST = 5.8, 11.4
STORE, STORE_FIRST = 1.9, 23.5
# Per tap and vector of weights: to pack them, or to join sums.
PACK, JOIN = 16.0, 10.0
# Winograd, for m = 2 and 4. Per vector and tile: the transforms of the input (and of dy) and of the results; what
# channels-first ones take more; per vector: to pack and transform 9 weights, and to transform 9 sums of
# backward-weight.
INPUT, INPUT_FIRST = {2: 44, 4: 163}, {2: 62, 4: 84}
OUTPUT, OUTPUT_FIRST = {2: 84, 4: 253}, {2: 43, 4: 111}
WEIGHT = {2: 118, 4: 150}
TAPS = {2: 326, 4: 250}
# The same in a fused plan, per vector of 9 weights: to pack and half-transform them; products with as many tiles as a
# block has vectors.
HALF = {2: 90, 4: 110}
FUSED = {2: 50, 4: 115}
# And of backward-weight: products with one tile, and the transforms of their sums.
FUSED_TILE, FUSED_TAPS = {2: 11, 4: 28}, {2: 25, 4: 40}
# Winograd, per tile: what part of a vector of channels costs more than a whole one, in correlations and in
# backward-weight.
PART, PART_WEIGHT = 29.0, 46.0
# Folded: the store of a result, and the packing of a vector of weights, both element by element.
UNFOLD = 1.2
PACK_FOLDED = 84.0
# Per call, as fitted: only the differences count. Pixels as lanes are the fastest of the smallest calls.
FIXED = {"direct": 141000, "planar": 137000, "folded": 147000, "winograd": 81000}


def _tile_cycles(steps, columns, lanes):
    """Cycles of `steps` steps of one row of the register tile with all columns, in blocks of four vectors."""
    blocks, rest = divmod(-(-columns // lanes), 4)
    return (steps + TILE_STEPS) / 2 * (4 * TILE[4] * blocks + (rest * TILE[rest] if rest else 0))


def _direct(axes, g, red, cols, src_last, lanes):
    pixels = g.n * g.groups * prod(axis.dst for axis in axes)
    taps = prod(sum(len(phase) for phase in axis.phases) for axis in axes)
    pack = PACK * taps * g.groups * red * -(-cols // lanes)
    if is_planar(axes, g.groups, red, cols, lanes, src_last):
        return pixels * planar_cycles(axes, g.groups, red, cols, lanes, src_last) + pack + FIXED["planar"]
    used, load = taps / prod(axis.out_step for axis in axes), LOAD if src_last else LOAD_FIRST
    if uses_regions("forward", g, axes, red, src_last):
        used, load = prod(axis.real_taps() for axis in axes), 0
    return (pixels * (_tile_cycles(used * red, cols, lanes) + -(-cols // lanes) * (STORE if src_last else STORE_FIRST)
                      + red / lanes * load) + pack + FIXED["direct"])


def _folded(axes, g, red, cols, lanes):
    """Cells of results are rows, and a cell's results are columns; taps that a result doesn't use are zeros."""
    taps = prod(len({o for phase in axis.phases for _, o in phase}) for axis in axes)
    cells = prod(-(-axis.dst // axis.out_step) for axis in axes)
    columns = prod(len(axis.phases) for axis in axes) * cols
    return (g.n * (cells * _tile_cycles(taps * red, columns, lanes) + UNFOLD * prod(axis.dst for axis in axes) * cols)
            + PACK_FOLDED * taps * red * -(-columns // lanes) + FIXED["folded"])


@lru_cache(maxsize=512)
def best_fold(g, op, lanes):
    """(cycles, pixels along w that are columns) of the folded algorithm."""
    make = forward_axes if op == "forward" else backward_axes
    red, cols = (g.c, g.k) if op == "forward" else (g.k, g.c)
    folds = [f for f in (1, 2, 3, 4, 5, 6, 8, 16) if f == 1 or make(g, f)[2].dst >= 2 * make(g, f)[2].out_step]
    return min((_folded(make(g, f), g, red // g.groups, cols // g.groups, lanes) * g.groups, f) for f in folds)


def _winograd(m, axes, g, red, cols, src_last, itemsize, lanes, block):
    b = winograd_blocking(axes, g.n, g.groups, red, cols, itemsize, lanes, block, m)
    tiles = prod(b.boxes)
    depth, sources = depth_tiles(axes, b.group_tiles, b.boxes)
    sources *= tiles / b.group_tiles
    fill = b.group_tiles / (-(-b.group_tiles // 6) * 6)
    vectors_red, vectors_cols = -(-red // lanes), -(-cols // lanes)
    shares = min(2, b.k_groups) if b.tile_parts == 1 else 1  # of the threads, that each transform all tiles
    if b.fused:
        products = red * vectors_cols * (HALF[m] + FUSED[m] * -(-tiles // (block // lanes)))
    else:
        products = (m + 2) ** 2 * tiles * _tile_cycles(depth * red, cols, lanes) / fill
    # Weights are transformed so many times: two threads have one group in common.
    transformed = 0 if b.fused else 1 + 1 / g.groups if b.resident else b.tile_parts
    return g.groups * (
        products + (INPUT[m] + (0 if src_last else INPUT_FIRST[m])) * sources * vectors_red * shares
        + (OUTPUT[m] + (0 if src_last else OUTPUT_FIRST[m])) * tiles * vectors_cols
        + PART * tiles * (bool(red % lanes) + bool(cols % lanes))
        + WEIGHT[m] * depth * red * vectors_cols * transformed) + FIXED["winograd"]


def best_correlation(g, op, src_last, itemsize, lanes, block):
    """The algorithm that "auto" takes for forward or backward-input."""
    axes = forward_axes(g) if op == "forward" else backward_axes(g)
    red, cols = g.c // g.groups, g.k // g.groups
    if op == "backward_input":
        red, cols = cols, red
    if is_lanewise(op, g.groups, red, cols, lanes) or not g.macs:
        return "direct"
    costs = {"direct": _direct(axes, g, red, cols, src_last, lanes)}
    if g.groups == 1 and 2 * cols <= lanes:
        costs["folded"] = best_fold(g, op, lanes)[0]
    if winograd_serves(g):
        axes = axes if op == "forward" else backward_axes(g, every_tap=True)
        for name, m in WINOGRAD.items():
            costs[name] = _winograd(m, axes, g, red, cols, src_last, itemsize, lanes, block)
    return min(costs, key=costs.get)


def _direct_weight(g, red, cols, src_last, lanes):
    pixels, taps, together = g.n * g.groups * prod(g.out), prod(g.kernel), min(g.n * prod(g.out), BOX_PIXELS)
    used = taps
    if uses_regions("backward_weight", g, None, red, src_last):
        used = prod(axis.real_taps() for axis in forward_axes(g))
    load = LOAD if src_last else LOAD_FIRST
    return (pixels * (_tile_cycles(used * red, cols, lanes) * (1 + SUMS_STEPS / together)
                      + load * (red / lanes + -(-cols // lanes)))
            + JOIN * taps * g.groups * red * -(-cols // lanes) + FIXED["direct"])


def _winograd_weight(m, g, red, cols, src_last, itemsize, lanes, block):
    b = winograd_weight_blocking(forward_axes(g), g.n, g.groups, red, cols, itemsize, lanes, block, m)
    tiles, vectors_red, vectors_cols = prod(b.boxes), -(-red // lanes), -(-cols // lanes)
    depth, sources = depth_tiles(b.axes, b.group_tiles, b.boxes)
    single = tiles <= b.group_tiles * b.parts
    if b.fused:
        products = red * vectors_cols * (FUSED_TILE[m] * tiles + FUSED_TAPS[m])
    else:
        products = ((m + 2) ** 2 * tiles * _tile_cycles(depth * red, cols, lanes) * (1 + SUMS_STEPS / b.group_tiles)
                    + TAPS[m] * b.parts * depth * red * vectors_cols)
    return g.groups * (
        products + (INPUT[m] + (0 if src_last else INPUT_FIRST[m])) * tiles * (
            sources / b.group_tiles * vectors_red * (min(2, b.k_groups) if single else b.k_groups) + vectors_cols)
        + PART_WEIGHT * tiles * (bool(red % lanes) + bool(cols % lanes))
        + 9 * JOIN * depth * red * vectors_cols) + FIXED["winograd"]


def best_weight_gradient(g, src_last, itemsize, lanes, block):
    """The algorithm that "auto" takes for backward-weight."""
    red, cols = g.c // g.groups, g.k // g.groups
    if not winograd_serves(g) or is_lanewise("backward_weight", g.groups, red, cols, lanes) or not g.macs:
        return "direct"
    costs = {"direct": _direct_weight(g, red, cols, src_last, lanes)}
    for name, m in WINOGRAD.items():
        costs[name] = _winograd_weight(m, g, red, cols, src_last, itemsize, lanes, block)
    return min(costs, key=costs.get)
