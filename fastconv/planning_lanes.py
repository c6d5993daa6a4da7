"""How grouped convolutions whose vectors hold lanes of several groups are cut (rules: _kernels/_blocks.pyx)."""
from functools import lru_cache
from math import prod

from .planning import BOX_PIXELS, CACHE_LINE, PARTS, Blocking, even_boxes, largest_box, strip_strides

LANE_STRIP_BYTES = 64 * 1024   # a strip of vectors of channels: in L1 and some of L2
PLANE_STRIP_BYTES = 24 * 1024  # a strip of a plane of pixels: in L1
LANE_BOX_BYTES = 384 * 1024    # what a box reads in place, of all channels: in L2
PLANE_PIXELS = 16384           # results of a plane in one box
LANE_ITEMS = 4                 # work items, at least,
LANE_ROWS = 8                  # as long as boxes have this many rows
LANE_LINE_BYTES = 24 * 1024    # what the taps of a line of results read in place: in L1
FAR_BYTES = 2 * 1024 * 1024    # source and results: more doesn't stay in the L2 of two cores


def is_lanewise(op, groups, red, cols, lanes, src_last):
    """Whether lanes of several groups should share a vector: up to a third of a vector of columns a group.

    Correlations only where a lane has one source, or few that are its own: depthwise ones. Packed weights serve both
    orders, so that can't tell. Each lane has its own copy of the sources of its group, so those are few, too: 16 of one
    column took 2-14 times as long as in tiles of columns or pixels.
    """
    if groups == 1 or 3 * cols > lanes:
        return False
    if op == "backward_weight":
        return red * cols <= (lanes if src_last else lanes // 2)
    return min(red, cols) == 1 and 3 * red <= lanes


def outgrows_cache(axes, n, channels, itemsize):
    """Whether source and results together don't fit the L2 of two cores, so that prefetching them pays."""
    return n * channels * itemsize * max(prod(a.src for a in axes), prod(a.dst for a in axes)) > FAR_BYTES


def is_turned(axes, groups, itemsize, lanes):
    """Whether to transpose the planes of a vector of channels: rows of pixels wouldn't fill more than one vector."""
    pixels = sum(prod(getattr(axis, end) for axis in axes) for end in ("src", "dst"))
    return groups >= lanes >= -(-axes[2].dst // axes[2].out_step) and lanes * itemsize * pixels <= LANE_STRIP_BYTES


def _shared_items(axes, n, box, k_groups, blocks):
    """(box, boxes an axis, column groups) of at least LANE_ITEMS work items, where they can be cut, in even number."""
    while n * prod(axis.boxes(size) for axis, size in zip(axes, box)) * k_groups < LANE_ITEMS:
        halves = [axis.split(2 * axis.boxes(size)) for axis, size in zip(axes, box)]
        i = next((i for i in range(2) if box[i] >= LANE_ROWS and halves[i] < box[i]), None)
        if i is not None:
            box[i] = halves[i]
        elif k_groups < blocks:
            k_groups = min(2 * k_groups, blocks)
        else:
            break
    boxes = [axis.boxes(size) for axis, size in zip(axes, box)]
    if n * prod(boxes) * k_groups % 2:  # threads are even in number, mostly
        box, boxes = even_boxes(axes, box, 0)
    if n * prod(boxes) * k_groups % 2:
        k_groups = min(k_groups + 1, blocks)
    return box, (n, *boxes), k_groups


@lru_cache(maxsize=512)
def lane_blocking(axes, n, groups, red, cols, itemsize, lanes, src_last, zeros, masked, weight_gradient):
    """Blocking of grouped convolution whose lanes belong to different groups, for all three operations.

    Channels-first depthwise convolution has pixels as lanes and slides along h, channel by channel, unless planes are
    narrow: then it is turned. Else lanes are channels. Depthwise convolution reads its source in place where padding is
    `zeros`; vectors of pixels, that begin or end outside of rows, by `masked` loads, which also tell even from odd
    pixels.
    """
    planar = not src_last and (red == 1 or cols == 1 and not weight_gradient)
    far = outgrows_cache(axes, n, groups * (red + cols), itemsize)
    in_place = zeros and (masked and axes[2].in_step <= 2 if planar else src_last and red == cols == 1)
    width = red if planar else red * lanes
    blocks = -(-groups * cols // lanes)
    if in_place and planar and red == cols == 1 and is_turned(axes, groups, itemsize, lanes):
        source, result = (tuple(getattr(axis, end) for axis in axes) for end in ("src", "dst"))
        return Blocking(axes, (1, *result), (n, 1, 1, 1), source, True, True, strip_strides(source, lanes, True, 1),
                        blocks, 1, min(n, PARTS) if weight_gradient else 1, lanewise=True, turned=True, far=far)

    def reach(box):
        box = [*box[:2], -(-box[2] // lanes) * lanes] if planar else box
        return tuple(axis.reach(size) for axis, size in zip(axes, box))

    def used(box):
        """Source positions that a box reads: strong dilation leaves gaps between them."""
        return prod(min(across, size * sum(map(len, axis.phases))) for across, size, axis in zip(reach(box), box, axes))

    # In place: all channels of a box, which memory has side by side; or one vector of them where what the taps of one
    # row of results read of all channels would not fit, so that no two rows would share it.
    row = used((1, 1, axes[2].dst))
    together = groups if groups * itemsize * row <= LANE_BOX_BYTES else lanes

    def fits(box):
        if not in_place:
            return width * itemsize * used(box) <= (PLANE_STRIP_BYTES if planar else LANE_STRIP_BYTES)
        return planar or together * itemsize * used(box) <= LANE_BOX_BYTES

    box = largest_box(axes, PLANE_PIXELS if planar else BOX_PIXELS, fits)
    k_groups = blocks
    if in_place and not planar:
        # Beyond cache all channels of a pixel are read together; else what the taps of a line of results read stays
        # in L1, with as many vectors of channels as that leaves.
        line = lanes * itemsize * (axes[1].high - axes[1].low + 1) * axes[2].reach(box[2])
        k_groups = 1 if far or axes[1].dst == 1 else -(-blocks // max(1, LANE_LINE_BYTES // line))
    box, boxes, k_groups = _shared_items(axes, n, box, k_groups, blocks)
    parts = min(prod(boxes), PARTS) if weight_gradient else 1
    strip = d, h, w = reach(box)
    if planar:
        split = 1 if in_place else axes[2].in_step
        strides = strip_strides(strip, red, False, CACHE_LINE // itemsize, split)
        return Blocking(axes, (1, *box), boxes, strip, False, in_place, strides, k_groups, 1, parts, lanewise=True,
                        planar=True, split=split, strip_run=-(-w // split), far=far)
    return Blocking(axes, (1, *box), boxes, strip, True, in_place,
                    (d * h * w * width, lanes, h * w * width, w * width, width), k_groups, 1, parts, lanewise=True,
                    far=far)
