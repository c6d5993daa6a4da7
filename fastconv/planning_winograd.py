"""How Winograd's convolutions are cut into tiles, chunks of weights and work items (rules: _kernels/_blocks.pyx)."""
from bisect import bisect_left
from functools import lru_cache
from math import prod
from typing import NamedTuple

from .planning import PART_BYTES, PARTS, WANTED_ITEMS, Blocking

WINOGRAD = ("winograd2", "winograd4", "winograd1d")
LINE_POINTS = 8  # of a tile of one row
# Transformed weights (U) up to this size are made once by each share and kept; larger ones are made chunk by chunk.
RESIDENT_BYTES = 2_500_000
# Packed weights are transformed up to this size; larger ones would come from memory, four times as many as taps.
PACKED_BYTES = 12_000_000
CHUNK_BYTES = 1_800_000
# For the sake of rounding errors: the channels, and with several slices the products, that are summed in one run.
CHUNK_STEPS = 128
SUM_STEPS = 512
# Tiles transformed at a time. Beside a resident U: whole rows of large images, so that memory is read and written in
# long pieces, but V (the transformed tiles) not much larger than L2. A chunked U has to serve many tiles.
RESIDENT_TILES = 64
RESIDENT_V_BYTES = 640_000
CHUNKED_V_BYTES = 5 * 1024 * 1024
PLANE_TILES = 64  # from this many on, tiles that share slices are groups of their own
# Threads share column blocks, not tiles, where weights outweigh tiles by this factor and V is at most this large.
COLUMNS_GAIN = 2
COLUMNS_V_BYTES = 4 * 1024 * 1024
FUSED_GROUPS = 2  # of as many tiles as a block of columns has vectors
# Backward-weight: the most tiles that are transformed at a time, or where V would be larger than this, down to half as
# many. Bytes of dU that a thread accumulates. Where all tiles of a part are transformed at once, channels whose dU is
# made and finished at a time, of all slices together, but as many of each as fill the rows of a register tile.
WEIGHT_TILES = 128
WEIGHT_V_BYTES = 1_200_000
WEIGHT_CHUNK, WEIGHT_ROWS = 32, 16
FUSED_WEIGHT_TILES = 12
WEIGHT_BYTES = 5 * 1024 * 1024


class Tile(NamedTuple):
    """F(results, taps), along h and w. Other taps of the kernel are summed up like channels, slice by slice."""

    results: tuple
    taps: tuple

    @property
    def patch(self):
        return tuple(m + r - 1 for m, r in zip(self.results, self.taps))

    @property
    def points(self):
        return prod(self.patch)

    @property
    def line(self):
        return self.results[0] == 1


def winograd_algorithms(g):
    """Names of Winograd's algorithms that can compute this convolution.

    A dilated one is an undilated one for each residue.
    """
    if g.stride != (1, 1, 1) or g.mode and g.dilation[1:] != (1, 1):
        return ()
    return tuple(name for name in WINOGRAD if (g.kernel[2] > 2 if name == "winograd1d" else g.kernel[1:] == (3, 3)))


def winograd_tile(algorithm, kernel):
    """The tile of an algorithm; along rows, taps are cut into slices so that a result has the fewest products."""
    if algorithm != "winograd1d":
        m = int(algorithm[-1])
        return Tile((m, m), (3, 3))

    def products(taps):
        """Of a result; with as many, more taps are fewer slices."""
        return -(-kernel[2] // taps) / (LINE_POINTS + 1 - taps), -taps

    taps = min(range(2, LINE_POINTS), key=products)
    return Tile((1, LINE_POINTS + 1 - taps), (1, taps))


class Tiling(NamedTuple):
    """The tiles of a convolution."""

    box: tuple            # of results of one tile
    boxes: tuple          # an axis, residues along the depth
    step: tuple           # distance of the results
    slices: int           # patches of the source that a tile needs
    slice_tiles: int      # 0, or a patch is that of another tile, this many tiles further,
    plane_tiles: int      # within groups of this many tiles

    def sources(self, tiles):
        """Patches that `tiles` neighbouring tiles need."""
        apart = min(tiles, self.slice_tiles) if self.plane_tiles else tiles
        return tiles + (self.slices - 1) * apart


def winograd_tiling(axes, n, tile):
    taps = [len(axis.phases[0]) for axis in axes]
    apart = [axis.phases[0][1][1] - axis.phases[0][0][1] if t > 1 else 1 for axis, t in zip(axes, taps)]
    step = (1 if tile.line else apart[1], apart[2])
    # Of residue 0, which has the most results.
    rows, columns = (-(-axis.dst // (m * d)) for axis, m, d in zip(axes[1:], tile.results, step))
    boxes = n, axes[0].dst * prod(step), rows, columns
    slices = [-(-t // r) for t, r in zip(taps, (1, *tile.taps))]
    slice_tiles = plane_tiles = 0
    if slices[1:] == [1, 1]:
        slice_tiles, plane_tiles = apart[0] * prod(step) * rows * columns, prod(boxes[1:])
    elif slices[::2] == [1, 1]:
        slice_tiles, plane_tiles = apart[1] * columns, rows * columns
    return Tiling((1, 1, *tile.results), boxes, step, prod(slices), slice_tiles, plane_tiles)


@lru_cache(maxsize=512)
def winograd_blocking(axes, n, groups, red, cols, itemsize, lanes, block, tile):
    tiling = winograd_tiling(axes, n, tile)
    tiles, slices, points = prod(tiling.boxes), tiling.slices, tile.points
    sources = tiling.sources(tiles)
    vectors_red, vectors_cols = -(-red // lanes), -(-cols // lanes)
    u_bytes = groups * points * slices * red * vectors_cols * lanes * itemsize
    col_blocks = -(-cols // block)
    v_tile = points * vectors_red * lanes * itemsize
    # Either every thread transforms all weights, or all inputs of its column blocks: whatever costs less. A vector
    # of 9 weights takes about as long as a vector of a tile.
    by_columns = (col_blocks > 1 and slices * red * vectors_cols > COLUMNS_GAIN * sources * vectors_red
                  and sources * v_tile <= COLUMNS_V_BYTES)
    # Few tiles: storing transformed weights and reading them back would take longer than the products.
    fused = by_columns and slices == 1 and not tile.line and tiles <= FUSED_GROUPS * (block // lanes)
    resident = u_bytes <= RESIDENT_BYTES and not by_columns
    if resident:
        group_tiles, k_groups = min(tiles, RESIDENT_TILES, max(1, RESIDENT_V_BYTES // (slices * v_tile))), 1
        tile_parts = max(1, tiles // 2)
    else:
        # Tiles that can share slices stay together.
        planes = tiles // tiling.plane_tiles if slices > 1 and tiling.plane_tiles >= PLANE_TILES else 1
        tile_parts = planes * (1 + bisect_left(range(1, -(-tiles // planes)), True, key=lambda parts: tiling.sources(
            -(-tiles // (planes * parts))) * v_tile <= CHUNKED_V_BYTES))
        if not by_columns and tile_parts % 2:
            tile_parts = min(tiles, tile_parts + planes)  # two threads, the fewest that share, get as many
        group_tiles = -(-tiles // tile_parts)
        k_groups = max(1, min(col_blocks, WANTED_ITEMS // 2 // max(1, tile_parts * groups)))
    # Of the kernel alone: a chunk is one sum, and where there are several slices U lies chunk by chunk.
    most = min(CHUNK_BYTES // (points * slices * block * itemsize), SUM_STEPS // slices)
    chunk = min(red, CHUNK_STEPS, max(lanes, most // lanes * lanes))
    return Blocking(axes, tiling.box, tiling.boxes, (1, *tile.patch), True, False, (0, 1, 0, 0, lanes), k_groups, 1, 1,
                    winograd=tile.results[1], line=tile.line, tile_step=tiling.step,
                    slice_tiles=(tiling.slice_tiles, tiling.plane_tiles), group_tiles=group_tiles,
                    tile_parts=tile_parts, chunk=chunk, resident=resident, fused=fused,
                    pack_transformed=u_bytes <= PACKED_BYTES and not fused)


@lru_cache(maxsize=512)
def winograd_weight_blocking(axes, n, groups, red, cols, itemsize, lanes, block, tile):
    tiling = winograd_tiling(axes, n, tile)
    tiles, slices, points = prod(tiling.boxes), tiling.slices, tile.points
    col_blocks = -(-cols // block)
    dw_bytes = groups * red * prod(len(axis.phases[0]) for axis in axes) * cols * itemsize
    v_tile = points * slices * -(-red // lanes) * lanes * itemsize
    most = max(WEIGHT_TILES // 2, min(WEIGHT_TILES, WEIGHT_V_BYTES // v_tile))
    wanted = min(2, -(-2 * tiles // WEIGHT_TILES))  # by the two threads that share at least, of half a part each
    parts = max(1, min(max(wanted, -(-tiles // most)), PARTS, 1 + PART_BYTES // dw_bytes))
    parts += parts > 1 and parts % 2  # these threads get as many
    group_tiles = min(most, -(-tiles // parts))
    # Few tiles: storing dU and reading it back would take longer than the products.
    fused = slices == 1 and not tile.line and parts == 1 and tiles <= FUSED_WEIGHT_TILES
    kept = max(1, WEIGHT_BYTES // (points * slices * red * block * itemsize))
    k_groups = -(-col_blocks // kept)
    while parts * groups * k_groups < WANTED_ITEMS // 2 and k_groups < col_blocks:
        k_groups = min(2 * k_groups, col_blocks)
    return Blocking(axes, tiling.box, tiling.boxes, (1, *tile.patch), True, False, (0, 1, 0, 0, lanes), k_groups, 1,
                    parts, winograd=tile.results[1], line=tile.line, tile_step=tiling.step,
                    slice_tiles=(tiling.slice_tiles, tiling.plane_tiles), group_tiles=group_tiles,
                    chunk=max(WEIGHT_ROWS, -(-WEIGHT_CHUNK // slices)), fused=fused)
