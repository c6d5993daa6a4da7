"""The choice of a convolution's algorithm and its compiled plan; what explain_conv tells of them."""
import math
from functools import lru_cache

import numpy as np

from . import checks, runtime
from ._kernels import (
    _correlation,
    _fft,
    _fft_weight,
    _folded,
    _lanes,
    _lanes_weight,
    _runtime,
    _weight_gradient,
    _winograd,
    _winograd_weight,
)
from .costs import best_correlation, best_exchanged, best_fold, best_weight_gradient
from .exchanged import ExchangedGradient, exchanged_geometry, exchanges
from .planning import (
    ConvPlan,
    backward_axes,
    correlation_blocking,
    forward_axes,
    seen_axes,
    uses_regions,
    weight_blocking,
)
from .planning_fft import fft_algorithms, fft_blocking
from .planning_lanes import is_lanewise, lane_blocking
from .planning_winograd import (
    WINOGRAD,
    winograd_algorithms,
    winograd_blocking,
    winograd_tile,
    winograd_weight_blocking,
)

ALGORITHMS = {name: name for name in ("auto", "direct", "folded", "exchanged", *WINOGRAD, "fft")}
OPERATIONS = {name: name for name in ("forward", "backward_input", "backward_weight")}
ORDERS = {name: name for name in (checks.CHANNELS_FIRST, checks.CHANNELS_LAST)}


# ---------------------------------------------------------------- plans

@lru_cache(maxsize=256)
@runtime.keeps_floating_point
def plan(op, g, algorithm, dtype, src_last, isa, packed=False):
    """The compiled plan of one operation; `isa` is there only for the cache to tell kernels apart.

    `packed`: it packs weights for all sizes, so that every tap has its place.
    """
    f64 = dtype == np.float64
    itemsize, lanes, block = _runtime.tile_constants(f64)
    red, cols, axes = g.c // g.groups, g.k // g.groups, forward_axes(g)
    if op == "backward_input":
        red, cols, axes = cols, red, backward_axes(g, every_tap=algorithm in (*WINOGRAD, "fft"))
    shape = g.n, g.groups, red, cols
    common = *shape, g.kernel, g.mode, f64, 2.0 * g.macs, op == "backward_input"
    if algorithm in WINOGRAD:
        tiles = axes, *shape, itemsize, lanes, block, winograd_tile(algorithm, g.kernel)
        if op == "backward_weight":
            return _winograd_weight.WinogradWeight(winograd_weight_blocking(*tiles), *common)
        return _winograd.Winograd(winograd_blocking(*tiles), *common)
    if algorithm == "fft":
        weight = op == "backward_weight"
        blocking = fft_blocking(axes, *shape, itemsize, lanes, weight)
        if weight:
            return _fft_weight.FftWeight(blocking, *common, plan(op, g, "direct", dtype, src_last, isa))
        return _fft.Fft(blocking, *common)
    if algorithm == "folded":
        make = backward_axes if op == "backward_input" else forward_axes
        axes = make(g, best_fold(g, op, lanes, block)[1])
        strict = plan(op, g, "direct", dtype, src_last, isa)
        blocking = correlation_blocking(axes, *shape, itemsize, lanes, block, src_last, True)
        return _folded.Folded(blocking, *common, strict)
    if algorithm == "exchanged":
        inner = exchanged_geometry(g)
        best = best_exchanged(inner, src_last, itemsize, lanes, block)
        return ExchangedGradient(plan(op, inner, best, dtype, src_last, isa),
                                 plan(op, g, "direct", dtype, src_last, isa), g, dtype)
    if is_lanewise(op, g.groups, red, cols, lanes, src_last):
        backward_weight = op == "backward_weight"
        blocking = lane_blocking(axes, *shape, itemsize, lanes, src_last, not g.mode, _runtime.masked_loads(),
                                 backward_weight)
        return (_lanes_weight.LaneGradient if backward_weight else _lanes.LaneCorrelation)(blocking, *common)
    if op != "backward_weight" and not packed:
        axes = seen_axes(op, g)
    regions = uses_regions(op, g, axes, red, src_last)
    if op == "backward_weight":
        blocking = weight_blocking(axes, *shape, itemsize, block, src_last, regions)
    else:
        blocking = correlation_blocking(axes, *shape, itemsize, lanes, block, src_last, regions=regions)
    driver = _weight_gradient.WeightGradient if op == "backward_weight" else _correlation.Correlation
    return driver(blocking, *common)


def plan_of(op, g, algorithm, src, order):
    """The compiled plan for a source of this dtype and memory order, by the kernels in use."""
    return plan(op, g, algorithm, src.dtype, order == checks.CHANNELS_LAST, _runtime.isa_in_use())


def algorithms_for(op, g):
    """Names of the algorithms that can serve."""
    other = ("exchanged",) if exchanges(g) else ()
    return ("direct", *(other if op == "backward_weight" else ("folded",)), *winograd_algorithms(g), *fft_algorithms(g))


@lru_cache(maxsize=512)
@runtime.keeps_floating_point
def _best(op, g, f64, src_last, isa):
    if op == "backward_weight":
        return best_weight_gradient(g, src_last, *_runtime.tile_constants(f64))
    return best_correlation(g, op, src_last, *_runtime.tile_constants(f64))


def select(fn, op, g, algorithm, default, dtype, order):
    """The name that `algorithm` stands for; ValueError if a named one can't serve. `order` is that of the source.

    `default` is what "auto" means in the caller's context.
    """
    if checks.choice(fn, "algorithm", algorithm, ALGORITHMS) == "auto":
        algorithm = default
    if algorithm == "auto":
        return _best(op, g, dtype == np.float64, order == checks.CHANNELS_LAST, _runtime.isa_in_use())
    if algorithm not in algorithms_for(op, g):
        raise ValueError(f"{fn}: algorithm: {algorithm!r} can't serve this convolution ({op}); expected one of "
                         f"{', '.join(map(repr, ('auto', *algorithms_for(op, g))))}")
    return algorithm


def padded_input(g):
    """The geometry without padding whose input is the padded one."""
    in_ = tuple(i + b + a for i, b, a in zip(g.in_, g.before, g.after))
    return g._replace(in_=in_, before=(0, 0, 0), after=(0, 0, 0), mode=0)


def folds_gradient(g):
    """Whether padding repeats elements, so that dx is made from the gradient of the padded input."""
    return g.mode != 0 and any(g.before + g.after)


# ---------------------------------------------------------------- explain_conv

@runtime.keeps_floating_point
def conv_plan(fn, x_shape, w_shape, op, dtype, memory_order, num_threads, algorithm, stride, padding, dilation, groups,
              padding_mode):
    """The ConvPlan of :func:`fastconv.explain_conv`."""
    dtype = checks.float_dtype(fn, "dtype", dtype)
    checks.choice(fn, "memory_order", memory_order, ORDERS)
    checks.some_threads(fn, num_threads)
    g = _geometry_of_shapes(fn, x_shape, w_shape, op, stride, padding, dilation, groups, padding_mode)
    default = runtime.default_algorithm()
    named = default if algorithm == "auto" else algorithm
    algorithm = select(fn, op, g, algorithm, default, dtype, memory_order)
    shared = 0
    if op == "backward_input" and folds_gradient(g):
        g = padded_input(g)
        shared = g.n * g.c * math.prod(g.in_) * dtype.itemsize
    compiled = plan(op, g, algorithm, dtype, memory_order == checks.CHANNELS_LAST, _runtime.isa_in_use())
    shared += compiled.scratch_bytes
    blocking = compiled.blocking
    flops = 2 * g.macs
    reason = _choice(op, g, named)
    if algorithm == "fft":
        return _fft_plan(op, g, compiled, reason, dtype, memory_order, num_threads, shared)
    threads = _runtime.shares_for(num_threads, compiled.work_items, flops)
    _, lanes, block = _runtime.tile_constants(dtype == np.float64)
    rows = g.k if algorithm == "exchanged" else _reduction(op, g)
    channels = -(-rows // blocking.c_parts) * blocking.group_run
    if blocking.lanewise and not blocking.planar:
        channels *= lanes
    if blocking.winograd:
        channels = lanes
    if blocking.lanewise:
        block = lanes
    reason = ", ".join((reason, *_ways(op, blocking)))
    return ConvPlan(
        op, algorithm, reason, _runtime.isa_in_use(), str(dtype), memory_order, blocking.box, block,
        None if blocking.in_place else (channels, *blocking.strip), compiled.work_items, blocking.parts, flops,
        shared, compiled.share_bytes, threads, shared + threads * compiled.share_bytes)


def _choice(op, g, named):
    """Why the algorithm was chosen."""
    if named != "auto":
        return "asked for by name"
    return "the least of the cost models" if len(algorithms_for(op, g)) > 1 else "direct serves every convolution"


def _ways(op, blocking):
    """What is special in how it is run."""
    if blocking.fused:
        what = "gradients of transformed weights" if op == "backward_weight" else "transformed weights"
        yield f"{what} in registers"
    if blocking.planar:
        yield "neighbouring pixels in one vector"
    elif blocking.lanewise:
        yield "lanes of several groups in one vector"
    if blocking.region_channels:
        yield "padding left out"


def _fft_plan(op, g, compiled, reason, dtype, memory_order, num_threads, shared):
    """The ConvPlan of an FftBlocking."""
    b = compiled.blocking
    depth, height, width = b.box
    rows, columns = (height + b.taps[1] - 1, (width + b.taps[2] - 2) * b.tile.step + b.tile.size)
    threads = _runtime.shares_for(num_threads, compiled.work_items, 2 * g.macs)
    reason += f", transforms of {b.tile.size} elements along rows, lanes of vectors are {b.lanes_are}"
    return ConvPlan(
        op, "fft", reason, _runtime.isa_in_use(), str(dtype), memory_order,
        (1, depth, height, min(width * b.tile.results, b.axes[2].dst)), b.columns,
        (_reduction(op, g), depth + b.taps[0] - 1, rows, columns), compiled.work_items, b.parts, 2 * g.macs, shared,
        compiled.share_bytes, threads, shared + threads * compiled.share_bytes)


def _reduction(op, g):
    return (g.k if op == "backward_input" else g.c) // g.groups


def algorithms(fn, x_shape, w_shape, op, stride, padding, dilation, groups, padding_mode):
    g = _geometry_of_shapes(fn, x_shape, w_shape, op, stride, padding, dilation, groups, padding_mode)
    return algorithms_for(op, g)


def _geometry_of_shapes(fn, x_shape, w_shape, op, *arguments):
    x_shape, w_shape = checks.shape_tuple(fn, "x_shape", x_shape), checks.shape_tuple(fn, "w_shape", w_shape)
    if not 3 <= len(x_shape) <= 5 or len(w_shape) != len(x_shape):
        raise ValueError(f"{fn}: x_shape, w_shape: got {x_shape} and {w_shape}; expected 3 to 5 extents each")
    checks.choice(fn, "op", op, OPERATIONS)
    return checks.conv_geometry(fn, len(x_shape) - 2, x_shape, w_shape, *arguments, ("x_shape", "w_shape"))
