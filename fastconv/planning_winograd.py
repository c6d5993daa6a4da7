"""How Winograd's convolutions are cut into tiles, chunks of weights and work items (rules: _kernels/_blocks.pyx)."""
from functools import lru_cache
from math import prod

from .planning import PART_BYTES, PARTS, WANTED_ITEMS, Blocking

WINOGRAD = {"winograd2": 2, "winograd4": 4}
# Transformed weights up to this size are made once a share and kept; larger ones chunk by chunk.
RESIDENT_BYTES = 2_500_000
# Packed weights are transformed up to this size; larger ones would come from memory, four times as many as taps.
PACKED_BYTES = 12_000_000
CHUNK_BYTES = 1_800_000
# And for their rounding errors: channels, and with taps along the depth products, that are summed at once.
CHUNK_STEPS = 128
SUM_STEPS = 512
# Tiles transformed at a time. Beside a resident U: whole rows of large images, whose memory is read and written in long
# pieces then, but V not much larger than L2. A chunked U has to be used by many tiles.
RESIDENT_TILES = 64
RESIDENT_V_BYTES = 640_000
CHUNKED_V_BYTES = 5 * 1024 * 1024
IMAGE_TILES = 64  # images of several slices are transformed one by one from so many tiles on
# Column blocks are shared out, not tiles, where weights outweigh tiles by this much and V is not larger than that.
COLUMNS_GAIN = 2
COLUMNS_V_BYTES = 4 * 1024 * 1024
FUSED_GROUPS = 2  # of as many tiles as a block of columns has vectors
# Backward-weight: tiles transformed at a time, all of a part where V is as large as that at most, and bytes of dU that
# a thread accumulates; where all tiles of a part are transformed at once, channels whose dU is made and finished at a
# time.
WEIGHT_TILES = 128
WEIGHT_V_BYTES = 2_400_000
WEIGHT_CHUNK = 64
FUSED_WEIGHT_TILES = 12
WEIGHT_BYTES = 5 * 1024 * 1024


def winograd_serves(g):
    """Whether F(m x m, 3 x 3) can compute this convolution. A dilated one is an undilated one for each residue.

    Taps along the depth are summed up like channels.
    """
    return g.kernel[1:] == (3, 3) and g.stride == (1, 1, 1) and (not g.mode or g.dilation[1:] == (1, 1))


def _tiles(axes, n, m):
    """(box of results of one tile; tiles an axis, residues along the depth; distance of the results)."""
    step = tuple(axis.phases[0][1][1] - axis.phases[0][0][1] for axis in axes[1:])
    across = (-(-axis.dst // (m * d)) for axis, d in zip(axes[1:], step))  # of residue 0, which has the most results
    return (1, 1, m, m), (n, axes[0].dst * prod(step), *across), step


def depth_tiles(axes, tiles, boxes):
    """(taps along the depth, tiles of the source that `tiles` of the results need: neighbouring slices share them)."""
    taps, (_, planes, *across) = axes[0].phases[0], boxes
    apart = (taps[1][1] - taps[0][1]) * planes // axes[0].dst * prod(across) if len(taps) > 1 else 0
    return len(taps), tiles + (len(taps) - 1) * min(tiles, apart)


@lru_cache(maxsize=512)
def winograd_blocking(axes, n, groups, red, cols, itemsize, lanes, block, m):
    points = (m + 2) ** 2
    box, boxes, step = _tiles(axes, n, m)
    tiles = prod(boxes)
    depth, sources = depth_tiles(axes, tiles, boxes)
    vectors_red, vectors_cols = -(-red // lanes), -(-cols // lanes)
    u_bytes = groups * points * depth * red * vectors_cols * lanes * itemsize
    col_blocks = -(-cols // block)
    v_tile = points * vectors_red * lanes * itemsize
    # Either every thread transforms all weights, or all inputs of its column blocks: whatever costs less. A vector
    # of 9 weights takes about as long as a vector of a tile.
    by_columns = (col_blocks > 1 and depth * red * vectors_cols > COLUMNS_GAIN * sources * vectors_red
                  and sources * v_tile <= COLUMNS_V_BYTES)
    # Few tiles: storing transformed weights and reading them back would take longer than the products.
    fused = by_columns and depth == 1 and tiles <= FUSED_GROUPS * (block // lanes)
    resident = u_bytes <= RESIDENT_BYTES and not by_columns
    if resident:
        group_tiles, k_groups = min(tiles, RESIDENT_TILES, max(1, RESIDENT_V_BYTES // (depth * v_tile))), 1
        tile_parts = max(1, tiles // 2)
    else:
        images = n if depth > 1 and tiles >= IMAGE_TILES * n else 1  # whose slices can be shared
        tile_parts = images
        while tile_parts < tiles and depth_tiles(axes, -(-tiles // tile_parts), boxes)[1] * v_tile > CHUNKED_V_BYTES:
            tile_parts += images
        if not by_columns and tile_parts % 2:
            tile_parts = min(tiles, tile_parts + images)  # two threads, the fewest that share, get as many
        group_tiles = -(-tiles // tile_parts)
        k_groups = max(1, min(col_blocks, WANTED_ITEMS // 2 // max(1, tile_parts * groups)))
    # Of the kernel alone: a chunk is one sum, and where there are taps along the depth U lies chunk by chunk.
    most = min(CHUNK_BYTES // (points * depth * block * itemsize), SUM_STEPS // depth)
    chunk = min(red, CHUNK_STEPS, max(lanes, most // lanes * lanes))
    return Blocking(axes, box, boxes, (1, m + 2, m + 2), True, False, (0, 1, 0, 0, lanes), k_groups, 1, 1,
                    winograd=m, tile_step=step, group_tiles=group_tiles, tile_parts=tile_parts, chunk=chunk,
                    resident=resident, fused=fused, pack_transformed=u_bytes <= PACKED_BYTES and not fused)


@lru_cache(maxsize=512)
def winograd_weight_blocking(axes, n, groups, red, cols, itemsize, lanes, block, m):
    points = (m + 2) ** 2
    box, boxes, step = _tiles(axes, n, m)
    tiles = prod(boxes)
    depth = len(axes[0].phases[0])
    col_blocks = -(-cols // block)
    dw_bytes = groups * red * depth * 9 * cols * itemsize
    wanted = min(2, -(-2 * tiles // WEIGHT_TILES))  # by the two threads that share at least, of half a part each
    parts = max(1, min(max(wanted, -(-tiles // WEIGHT_TILES)), PARTS, 1 + PART_BYTES // dw_bytes))
    parts += parts > 1 and parts % 2  # these threads get as many
    group_tiles = -(-tiles // parts)
    if group_tiles > WEIGHT_TILES:
        v_tile = points * depth * -(-red // lanes) * lanes * itemsize
        group_tiles = max(WEIGHT_TILES // 2, min(WEIGHT_TILES, WEIGHT_V_BYTES // v_tile))
    # Few tiles: storing dU and reading it back would take longer than the products.
    fused = depth == 1 and parts == 1 and tiles <= FUSED_WEIGHT_TILES
    kept = max(1, WEIGHT_BYTES // (points * depth * red * block * itemsize))
    k_groups = -(-col_blocks // kept)
    while parts * groups * k_groups < WANTED_ITEMS // 2 and k_groups < col_blocks:
        k_groups = min(2 * k_groups, col_blocks)
    return Blocking(axes, box, boxes, (1, m + 2, m + 2), True, False, (0, 1, 0, 0, lanes), k_groups, 1, parts,
                    winograd=m, tile_step=step, group_tiles=group_tiles, chunk=-(-WEIGHT_CHUNK // depth),
                    fused=fused)
