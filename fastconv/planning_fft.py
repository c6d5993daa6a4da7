"""How a convolution by Fourier transforms is cut into tiles, boxes and work items (rules: _kernels/_fft.pyx)."""
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from .planning import PART_BYTES, PARTS

FEWEST_TAPS = 8  # along a row: the eight points of winograd1d serve fewer as well
# Elements of a transform: FFT_TAPS times the taps at least, but lines of one vector of lanes, twice, stay in L2.
LEAST_SIZE, MOST_SIZE, FFT_TAPS = 16, 2048, 2
# Spectra of one work item: what a thread transforms at a time.
SPECTRA_BYTES = 2 * 1024 * 1024
# Work items for two threads; boxes are halved for them where their patches are no more than so many times as many.
ITEMS, REPEATED = 8, 1.3
COLUMN_VECTORS = 2  # of result channels that are multiplied and transformed back at a time

COLUMNS, TILES, GROUPS = "columns", "tiles", "groups"  # what the lanes are


class FftTile(NamedTuple):
    """Transforms of `size` elements: `results` of a row from so many `taps`; more taps are several slices."""

    size: int
    results: int
    taps: int
    slices: int

    @property
    def step(self):
        """The distance of patches of the source: tiles share them, if there are both several tiles and slices."""
        return self.taps if self.slices > 1 else self.results


def fft_algorithms(g):
    """("fft",) if that can compute this convolution."""
    return ("fft",) if g.stride == g.dilation == (1, 1, 1) and g.kernel[2] >= FEWEST_TAPS else ()


def fft_tile(taps):
    """Of the kernel alone, so that packed weights serve images of any size."""
    size = LEAST_SIZE
    while size < min(FFT_TAPS * taps, MOST_SIZE):
        size *= 2
    if 2 * taps <= size:
        return FftTile(size, size - taps + 1, taps, 1)
    return FftTile(size, size // 2, size // 2, -(-taps // (size // 2)))


def fft_lanes(groups, cols, lanes):
    """What lies side by side in a vector: of channels and groups alone, as packed weights depend on it."""
    if groups > 1 and 2 * groups >= lanes and 2 * cols <= lanes:
        return GROUPS
    return TILES if 4 * cols <= lanes else COLUMNS


class FftBlocking(NamedTuple):
    """The numbers that the driver needs. Tiles and patches are counted along d, h and along w."""

    axes: tuple
    tile: FftTile
    lanes_are: str
    taps: tuple       # along d and h, and slices of those along w
    tiles: tuple
    box: tuple        # tiles of a work item, at most
    boxes: tuple
    group_blocks: int  # groups, or vectors of them
    column_blocks: int
    columns: int      # of a block
    k_groups: int     # work items along the blocks of columns
    parts: int        # partial sums of a weight gradient
    v: tuple          # elements of a frequency: the source's,
    u: tuple          # of the weights' (of a block of groups and columns)
    m: tuple          # and of results', each with strides: (length, patch, channel), (length, tap, channel, column),
                      # (length, tile, column)


def up(n, unit):
    return -(-n // unit) * unit


@lru_cache(maxsize=32)
def fft_roots(size, dtype):
    """cos and sin of 2 pi i / size for i < size, each from an angle of at most pi / 4."""
    turns = np.arange(size)
    quarter, rest = turns // (size // 4), turns % (size // 4)
    small = np.minimum(rest, size // 4 - rest) * (2 * np.pi / size)
    near = rest <= size // 8
    cos, sin = np.where(near, np.cos(small), np.sin(small)), np.where(near, np.sin(small), np.cos(small))
    roots = np.where(quarter % 2, -sin, cos), np.where(quarter % 2, cos, sin)
    table = np.ascontiguousarray(np.stack(roots, 1) * np.where(quarter < 2, 1, -1)[:, None], dtype)
    table.flags.writeable = False
    return table


def _spectra(lanes_are, box, taps, red, cols, columns, lanes, weight):
    """The v, u and m of a box."""
    reach = [b + t - 1 for b, t in zip(box, taps)]
    patches, all_taps, tiles = prod(reach), prod(taps), prod(box)
    if lanes_are == GROUPS:
        return ((patches * red * lanes, red * lanes, lanes),
                (all_taps * red * cols * lanes, red * cols * lanes, cols * lanes, lanes),
                (tiles * cols * lanes, cols * lanes, lanes))
    if lanes_are == TILES:
        # Tiles are counted like the patches where they begin, so that a tap is a distance.
        flat = ((box[0] - 1) * reach[1] + box[1] - 1) * reach[2] + box[2]
        row, width = up(patches + lanes - 1, lanes), up(flat, lanes)
        span = ((taps[0] - 1) * reach[1] + taps[1] - 1) * reach[2] + taps[2]
        run = up(span, lanes) if weight else all_taps  # of gradients, distances of taps lie side by side
        return ((red * row, 1, row), (up(cols * red * run, lanes), 1, run, red * run), (cols * width, 1, width))
    channels = up(red, lanes) if red >= lanes else red
    return ((up(patches * channels, lanes), channels, 1),
            (all_taps * red * columns, red * columns, columns, 1), (tiles * columns, columns, 1))


def _halved(box, axis):
    return tuple(-(-b // 2) if i == axis else b for i, b in enumerate(box))


@lru_cache(maxsize=512)
def fft_blocking(axes, n, groups, red, cols, itemsize, lanes, weight=False):
    """Blocking of forward (red = C / groups, cols = K / groups), backward-input (the reverse) or backward-weight."""
    kernel = [len(axis.phases[0]) for axis in axes]
    tile, lanes_are = fft_tile(kernel[2]), fft_lanes(groups, cols, lanes)
    taps, tiles = (*kernel[:2], tile.slices), (axes[0].dst, axes[1].dst, -(-axes[2].dst // tile.results))
    columns = cols if lanes_are != COLUMNS else min(up(cols, lanes), COLUMN_VECTORS * lanes)
    blocks = -(-groups // lanes) if lanes_are == GROUPS else groups
    column_blocks = -(-cols // columns)

    def spectra(box):
        return _spectra(lanes_are, box, taps, red, cols, columns, lanes, weight)

    def bytes_of(*lengths):
        return (tile.size + 2) * sum(lengths) * itemsize

    def halvable(box):
        least = (1, 1, lanes if lanes_are == TILES else 1)
        return [axis for axis in range(3) if box[axis] > least[axis]]

    def patches(box):
        return prod(b + t - 1 for b, t in zip(box, taps)) * prod(-(-t // b) for t, b in zip(tiles, box))

    box = tiles
    while halvable(box) and bytes_of(spectra(box)[0][0], spectra(box)[2][0]) > SPECTRA_BYTES:
        box = min((_halved(box, axis) for axis in halvable(box)), key=patches)
    k_groups, parts = 1, 1

    def units(box):
        return n * prod(-(-t // b) for t, b in zip(tiles, box))

    while units(box) * blocks * k_groups < ITEMS and (halvable(box) or k_groups < column_blocks):
        halves = [_halved(box, axis) for axis in halvable(box)]
        best = min(halves, key=patches, default=box)
        if best != box and patches(best) <= REPEATED * patches(box):
            box = best
        elif units(box) * blocks * k_groups > 1:
            break
        elif k_groups < column_blocks:
            k_groups = min(2 * k_groups, column_blocks)
        else:
            box = best
    v, u, m = spectra(box)
    if weight:
        parts = max(1, min(PARTS, units(box), 1 + PART_BYTES // bytes_of(u[0] * blocks * column_blocks)))
        while parts * blocks * k_groups < 2 and k_groups < column_blocks:
            k_groups = min(2 * k_groups, column_blocks)
    boxes = tuple(-(-t // b) for t, b in zip(tiles, box))
    return FftBlocking(axes, tile, lanes_are, taps, tiles, box, boxes, blocks, column_blocks, columns, k_groups, parts,
                       v, u, m)
