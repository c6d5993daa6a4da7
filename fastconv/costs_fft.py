"""What a convolution by Fourier transforms costs, and a depthwise one by its taps (units: costs.py).

The constants were fitted to 2,700 random layers of one and two axes, dense and depthwise, of both memory orders.
"""
from math import prod

from .planning_fft import COLUMNS, GROUPS, TILES, fft_blocking
from .planning_lanes import is_turned

# A vector of lines: per element and pass of radix 4; to find where its lanes lie.
PASS, FIND = 5.0, 530
# A complex product of vectors, by what their lanes are; to begin and end a sum of them.
PRODUCT, TILE_PRODUCT, GROUP_PRODUCT, SUM = 2.4, 7.8, 4.7, 7
# A vector of U that doesn't stay in L3, each time that it is read or written.
FAR_VECTOR, FAR_BYTES = 60, 16e6
# Backward-weight, but for lanes of groups: its sums go to memory and back.
WEIGHT = 1.2
# A box of tiles and a block of columns; a second parallel loop.
BOX, LOOP = 1200, 20000
# Depthwise by taps: a vector of results and a tap, where lanes are channels; where they are pixels, and what a row of
# these takes more: of images, that slide over their rows, and of series.
TAP, PIXEL_TAP, PIXEL_ROW = 0.6, {False: 0.5, True: 2.0}, {False: 0.7, True: 90}


def fft_cycles(axes, g, red, cols, itemsize, lanes, weight=False):
    """Cycles of all three operations, beyond what memory takes."""
    b = fft_blocking(axes, g.n, g.groups, red, cols, itemsize, lanes, weight)
    boxes = g.n * prod(b.boxes) * b.group_blocks
    points, taps = b.tile.size // 2 + 1, prod(b.taps)
    patches = min(2, b.k_groups) * b.v[0]  # of the threads, that each transform all of them
    lines = (boxes * (patches + b.m[0] * b.column_blocks) + b.group_blocks * b.column_blocks * b.u[0]) / lanes
    cycles = lines * (b.tile.size * PASS * (b.tile.size.bit_length() - 1) / 2 + FIND)
    tiles = g.n * prod(b.tiles) * b.group_blocks
    if b.lanes_are == COLUMNS:
        products, each = tiles * -(-cols // lanes) * taps * red, PRODUCT
    elif b.lanes_are == TILES and weight:
        products, each = boxes * prod(b.box) * cols * red * b.u[2] / lanes, TILE_PRODUCT
    elif b.lanes_are == TILES:
        products, each = boxes * b.m[0] / lanes * taps * red, TILE_PRODUCT
    else:
        products, each = tiles * cols * taps * red, GROUP_PRODUCT
    sums = boxes * b.column_blocks * (b.u[0] if weight else b.m[0]) / lanes
    cycles += points * (each * products + SUM * sums)
    vectors = 2 * points * b.column_blocks * b.u[0] / lanes
    far = max(0, 1 - FAR_BYTES / (b.group_blocks * vectors * lanes * itemsize))
    cycles += far * FAR_VECTOR * (boxes + b.group_blocks) * vectors + BOX * boxes * b.column_blocks
    items = (b.parts if weight else g.n * prod(b.boxes)) * b.group_blocks * b.k_groups
    cycles *= WEIGHT if weight and b.lanes_are != GROUPS else 1
    return cycles * (-(-items // 2) * 2 / items) + LOOP


def lane_cycles(axes, g, src_last, itemsize, lanes):
    """Cycles of a depthwise convolution by its taps."""
    products, series = g.n * (g.k // g.groups) * prod(g.kernel) * prod(g.out[:2]), g.kernel[:2] == (1, 1)
    if src_last or is_turned(axes, g.groups, itemsize, lanes):
        return TAP * products * -(-g.c // lanes) * g.out[2]
    return products * g.c * (PIXEL_TAP[series] * -(-g.out[2] // lanes) + PIXEL_ROW[series])
