"""Convolution for any number of spatial axes: check, allocate, call. The public names are in conv.py."""
from functools import lru_cache

import numpy as np

from . import checks, runtime
from ._kernels import (
    _correlation,
    _folded,
    _lanes,
    _lanes_weight,
    _runtime,
    _weight_gradient,
    _winograd,
    _winograd_weight,
)
from .costs import best_correlation, best_fold, best_weight_gradient
from .planning import (
    ConvPlan,
    backward_axes,
    correlation_blocking,
    forward_axes,
    uses_regions,
    weight_blocking,
)
from .planning_lanes import is_lanewise, lane_blocking
from .planning_winograd import WINOGRAD, winograd_blocking, winograd_serves, winograd_weight_blocking

ALGORITHMS = ("auto", "direct", "folded", "winograd2", "winograd4", "fft")
OPERATIONS = ("forward", "backward_input", "backward_weight")


# ---------------------------------------------------------------- plans

@lru_cache(maxsize=256)
def plan(op, g, algorithm, dtype, src_last, isa):
    """The compiled plan of one operation; `isa` only keeps plans of different kernels apart."""
    f64 = dtype == np.float64
    itemsize, lanes, block = _runtime.tile_constants(f64)
    red, cols, axes = g.c // g.groups, g.k // g.groups, forward_axes(g)
    if op == "backward_input":
        red, cols, axes = cols, red, backward_axes(g, every_tap=algorithm in WINOGRAD)
    shape = g.n, g.groups, red, cols
    common = *shape, g.kernel, g.mode, f64, 2.0 * g.macs, op == "backward_input"
    if algorithm in WINOGRAD:
        tiles = axes, *shape, itemsize, lanes, block, WINOGRAD[algorithm]
        if op == "backward_weight":
            return _winograd_weight.WinogradWeight(winograd_weight_blocking(*tiles), *common)
        return _winograd.Winograd(winograd_blocking(*tiles), *common)
    if algorithm == "folded":
        make = backward_axes if op == "backward_input" else forward_axes
        axes = make(g, best_fold(g, op, lanes)[1])
        strict = plan(op, g, "direct", dtype, src_last, isa)
        blocking = correlation_blocking(axes, *shape, itemsize, lanes, block, src_last, True)
        return _folded.Folded(blocking, *common, strict)
    if is_lanewise(op, g.groups, red, cols, lanes):
        backward_weight = op == "backward_weight"
        blocking = lane_blocking(axes, *shape, itemsize, lanes, src_last, not g.mode, _runtime.masked_loads(),
                                 backward_weight)
        return (_lanes_weight.LaneGradient if backward_weight else _lanes.LaneCorrelation)(blocking, *common)
    regions = uses_regions(op, g, axes, red, src_last)
    if op == "backward_weight":
        blocking = weight_blocking(axes, *shape, itemsize, block, src_last, regions)
    else:
        blocking = correlation_blocking(axes, *shape, itemsize, lanes, block, src_last, regions=regions)
    driver = _weight_gradient.WeightGradient if op == "backward_weight" else _correlation.Correlation
    return driver(blocking, *common)


def _plan_of(op, g, algorithm, src, order):
    return plan(op, g, algorithm, src.dtype, order == checks.CHANNELS_LAST, _runtime.isa_in_use())


def algorithms_for(op, g):
    """Names of the algorithms that can serve."""
    return ("direct", *(("folded",) if op != "backward_weight" else ()), *(WINOGRAD if winograd_serves(g) else ()))


@lru_cache(maxsize=512)
def _best(op, g, f64, src_last, isa):
    if op == "backward_weight":
        return best_weight_gradient(g, src_last, *_runtime.tile_constants(f64))
    return best_correlation(g, op, src_last, *_runtime.tile_constants(f64))


def select(fn, op, g, algorithm, dtype, order):
    """The name that `algorithm` stands for; ValueError if a named one can't serve. `order` is that of the source."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"{fn}: algorithm: got {algorithm!r}; expected one of {', '.join(map(repr, ALGORITHMS))}")
    if algorithm == "fft":
        raise NotImplementedError(f"{fn}: algorithm: 'fft' is not built yet")
    if algorithm == "auto":
        algorithm = runtime.default_algorithm()
    if algorithm == "auto":
        return _best(op, g, dtype == np.float64, order == checks.CHANNELS_LAST, _runtime.isa_in_use())
    if algorithm not in algorithms_for(op, g):
        raise ValueError(f"{fn}: algorithm: {algorithm!r} can't serve this convolution ({op}); expected one of "
                         f"{', '.join(map(repr, ('auto', *algorithms_for(op, g))))}")
    return algorithm


# ---------------------------------------------------------------- operands and results

def _batched(fn, rank, name, value):
    """(array with a batch axis, whether it had none)."""
    return checks.batched(fn, rank, name, checks.operand(fn, name, value))


def _weight(fn, rank, w, like):
    w = checks.operand(fn, "w", w)
    checks.rank_of(fn, "w", w, rank + 2)
    checks.same_dtype(fn, *like, "w", w)
    return np.ascontiguousarray(w) if w.flags.aligned else w.copy()


def _target(fn, name, out, shape, dtype, order, inputs, unbatched):
    """The array that the kernels write: out itself where they can, else a new one of that order."""
    if out is not None:
        checks.output(fn, name, out, shape[1:] if unbatched else shape, dtype, inputs)
        view = out[None] if unbatched else out
        if checks.kernel_view(view):
            return view
    return checks.empty(shape, dtype, order)


def _spatial(values, rank):
    return tuple(values[3 - rank:])


def _crop(x, g):
    """The part of x that negative padding leaves."""
    if all(front == back == 0 for front, back in g.crop):
        return x
    cuts = _spatial(g.crop, g.rank)
    return x[(slice(None), slice(None), *(slice(front, x.shape[i + 2] - back) for i, (front, back) in enumerate(cuts)))]


def _geometry(fn, rank, x_shape, w_shape, stride, padding, dilation, groups, padding_mode):
    return checks.conv_geometry(fn, rank, tuple(x_shape), tuple(w_shape), stride, padding, dilation, groups,
                                padding_mode)


# ---------------------------------------------------------------- packed weights

class PackedWeight:
    """Weights in the order in which the kernels read them; made by :func:`fastconv.pack_weight`.

    Immutable. Stands for the weights in the forward functions, with the same bits as plain weights under the same
    algorithm.

    Attributes
    ----------
    shape, dtype : of the plain weights
    groups : int
    isa : str
        The kernels that can read it.
    algorithm : str
        The algorithm that it serves, or "auto" for all of them.
    nbytes : int
    """

    __slots__ = ("_data", "_plain", "_transformed", "algorithm", "dtype", "groups", "isa", "shape")

    def __init__(self, data, transformed, plain, shape, dtype, groups, isa, algorithm):
        data.flags.writeable = False
        for name, value in (("_data", data), ("_transformed", transformed), ("_plain", plain), ("shape", shape),
                            ("dtype", dtype), ("groups", groups), ("isa", isa), ("algorithm", algorithm)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        raise AttributeError("PackedWeight is immutable")

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def nbytes(self):
        return self._data.nbytes

    def with_pixel_axis(self):
        """Weights (out, in) of a dense layer as those of a 1x1 convolution, (out, in, 1)."""
        plain = None if self._plain is None else self._plain[..., None]
        return PackedWeight(self._data, self._transformed, plain, (*self.shape, 1), self.dtype, self.groups, self.isa,
                            self.algorithm)

    def __repr__(self):
        return (f"PackedWeight(shape={self.shape}, dtype={self.dtype}, groups={self.groups}, isa={self.isa!r}, "
                f"algorithm={self.algorithm!r}, nbytes={self.nbytes})")


def pack(w, stride, dilation, groups, input_shape, algorithm):
    fn = "pack_weight"
    w = checks.operand(fn, "w", w)
    checks.rank_of(fn, "w", w, 2, 3, 4, 5)
    rank = w.ndim - 2
    c = w.shape[1] * checks.integer(fn, "groups", groups, 1)
    any_size = input_shape is None
    if any_size:
        checks.per_axis(fn, "stride", stride, rank, 1)
        spans = [d * (k - 1) + 1 for d, k in zip(checks.per_axis(fn, "dilation", dilation, rank, 1), w.shape[2:])]
        input_shape = (1, c, *spans)
    # The padding to come is not known; "same" is the usual one and fits every size.
    g = _geometry(fn, rank, checks.shape_tuple(fn, "input_shape", input_shape), w.shape, stride, "same", dilation,
                  groups, "zeros")
    chosen, other = (select(fn, "forward", g, algorithm, w.dtype, order)
                     for order in (checks.CHANNELS_FIRST, checks.CHANNELS_LAST))
    isa = _runtime.isa_in_use()
    # Where size or memory order decide, the untransformed taps serve whatever algorithm a call takes.
    serves_all = algorithm == "auto" and (any_size or chosen != other)
    compiled = plan("forward", g, "direct" if serves_all or chosen == "folded" else chosen, w.dtype, False, isa)
    size = compiled.packed_bytes
    data = np.empty(size + 64, np.uint8)
    data = data[-data.__array_interface__["data"][0] % 64:][:size]
    transformed = compiled.pack(np.ascontiguousarray(w), data)
    # How far few columns are folded depends on the size of x, so their plain weights are kept.
    _, lanes, _ = _runtime.tile_constants(w.dtype == np.float64)
    plain = np.array(w) if chosen == "folded" or serves_all and 2 * g.k <= lanes else None
    return PackedWeight(data, transformed, plain, w.shape, w.dtype, g.groups, isa, "auto" if serves_all else chosen)


def _check_packed(fn, w, groups, x, rank, algorithm):
    """Check that packed weights fit a call; returns the algorithm argument that the call then has."""
    if w.ndim != rank + 2:
        raise ValueError(f"{fn}: w: got packed weights of shape {w.shape}; expected {rank + 2} axes")
    if w.dtype != x.dtype:
        raise ValueError(f"{fn}: w: was packed from {w.dtype}; expected {x.dtype}, like x")
    if w.isa != _runtime.isa_in_use():
        raise ValueError(f"{fn}: w: was packed for {w.isa!r}; the kernels in use are {_runtime.isa_in_use()!r}")
    if w.groups != groups:
        raise ValueError(f"{fn}: w: was packed for {w.groups} groups; got groups={groups}")
    if w.algorithm == "auto":
        return algorithm
    if algorithm not in ("auto", w.algorithm):
        raise ValueError(f"{fn}: algorithm: got {algorithm!r}; the weights were packed for {w.algorithm!r}")
    return w.algorithm


# ---------------------------------------------------------------- forward

def forward(fn, rank, x, w, b, stride, padding, dilation, groups, padding_mode, activation, algorithm, out,
            num_threads):
    x, unbatched = _batched(fn, rank, "x", x)
    packed = None
    if isinstance(w, PackedWeight):
        algorithm = _check_packed(fn, w, groups, x, rank, algorithm)
        packed = w
    else:
        w = _weight(fn, rank, w, ("x", x))
    g = _geometry(fn, rank, x.shape, w.shape, stride, padding, dilation, groups, padding_mode)
    act = checks.choice(fn, "activation", activation, checks.ACTIVATIONS)
    algorithm = select(fn, "forward", g, algorithm, x.dtype, checks.memory_order(x))
    b = checks.bias(fn, b, g.k, x)
    source, order = checks.in_an_order(x)
    shape = (g.n, g.k, *_spatial(g.out, rank))
    y = _target(fn, "out", out, shape, x.dtype, order, {"x": x, "w": None if packed is not None else w, "b": b},
                unbatched)
    if g.n:
        if packed is None:
            weights = w, None, False
        elif algorithm == "folded":
            weights = packed._plain, None, False
        else:
            weights = None, packed._data, packed._transformed
        _plan_of("forward", g, algorithm, x, order).run(_crop(source, g), *weights, b, y, act, num_threads)
    return checks.finish(y, out, unbatched)


def transposed(fn, rank, x, w, b, stride, padding, output_padding, groups, dilation, activation, algorithm, out,
               num_threads):
    x, unbatched = _batched(fn, rank, "x", x)
    if isinstance(w, PackedWeight):
        raise ValueError(f"{fn}: w: got packed weights, which serve conv{rank}d only")
    w = _weight(fn, rank, w, ("x", x))
    g = _transpose_geometry(fn, rank, x, w, stride, padding, output_padding, dilation, groups)
    act = checks.choice(fn, "activation", activation, checks.ACTIVATIONS)
    algorithm = select(fn, "backward_input", g, algorithm, x.dtype, checks.memory_order(x))
    b = checks.bias(fn, b, g.c, x)
    source, order = checks.in_an_order(x)
    y = _target(fn, "out", out, (g.n, g.c, *_spatial(g.in_, rank)), x.dtype, order, {"x": x, "w": w, "b": b},
                unbatched)
    if g.n:
        _plan_of("backward_input", g, algorithm, x, order).run(source, w, None, False, b, y, act, num_threads)
    return checks.finish(y, out, unbatched)


def _transpose_geometry(fn, rank, x, w, stride, padding, output_padding, dilation, groups):
    return checks.conv_transpose_geometry(fn, rank, x.shape, w.shape, stride, padding, output_padding, dilation, groups)


# ---------------------------------------------------------------- backward

def backward_input(fn, rank, dy, w, input_shape, stride, padding, dilation, groups, padding_mode, algorithm, out,
                   num_threads):
    dy, unbatched = _batched(fn, rank, "dy", dy)
    w = _weight(fn, rank, w, ("dy", dy))
    shape = checks.shape_tuple(fn, "input_shape", input_shape)
    if len(shape) != rank + (1 if unbatched else 2):
        raise ValueError(f"{fn}: input_shape: got {shape}; expected {rank + (1 if unbatched else 2)} extents, like dy")
    shape = (1, *shape) if unbatched else shape
    g = _geometry(fn, rank, shape, w.shape, stride, padding, dilation, groups, padding_mode)
    checks.shape_of(fn, "dy", dy, (g.n, g.k, *_spatial(g.out, rank)))
    algorithm = select(fn, "backward_input", g, algorithm, dy.dtype, checks.memory_order(dy))
    return _dx(fn, "out", "backward_input", g, algorithm, dy, w, shape, {"dy": dy, "w": w}, out, unbatched, num_threads)


def _dx(fn, name, op, g, algorithm, dy, w, shape, inputs, out, unbatched, num_threads):
    """dx in the memory order of dy; `op` is "forward" for the gradient of a transposed convolution."""
    source, order = checks.in_an_order(dy)
    dx = _target(fn, name, out, shape, dy.dtype, order, inputs, unbatched)
    if g.n and op == "forward":
        _plan_of(op, g, algorithm, dy, order).run(source, w, None, False, None, dx, 0, num_threads)
    elif g.n:
        _input_gradient(g, algorithm, source, order, w, dx, num_threads)
    return checks.finish(dx, out, unbatched)


def _input_gradient(g, algorithm, dy, order, w, dx, num_threads):
    """dx = the gradient, through the padded input's gradient where padding repeats elements."""
    inner = _crop(dx, g)
    if inner is not dx:
        dx[...] = 0
    if g.mode == 0 or not any(g.before + g.after):
        _plan_of("backward_input", g._replace(mode=0), algorithm, dy, order).run(dy, w, None, False, None, inner, 0,
                                                                                 num_threads)
        return
    padded = g._replace(in_=tuple(i + b + a for i, b, a in zip(g.in_, g.before, g.after)), before=(0, 0, 0),
                        after=(0, 0, 0), mode=0)
    gradient = checks.empty((g.n, g.c, *_spatial(padded.in_, g.rank)), dy.dtype, order)
    _plan_of("backward_input", padded, algorithm, dy, order).run(dy, w, None, False, None, gradient, 0, num_threads)
    inner[...] = 0
    _correlation.fold(gradient, inner, g.before, g.mode, num_threads)


def _weight_gradients(g, algorithm, dy, x, shapes, need, out, accumulate, num_threads):
    """(dw, db) of the convolution x -> dy; each None where not needed. `out` has been checked."""
    given = tuple(o if wanted else None for o, wanted in zip(out, need))
    in_place = all(o is None or o.flags.c_contiguous and o.flags.aligned for o in given)
    accumulate = accumulate and any(o is not None for o in given)
    fresh = np.zeros if accumulate or not g.n else checks.new
    parts = [None if not wanted else o if o is not None and in_place else fresh(shape, x.dtype)
             for o, wanted, shape in zip(given, need, shapes)]
    if g.n and any(need):
        source, order = checks.in_an_order(x)
        dy, _ = checks.in_an_order(dy)
        _plan_of("backward_weight", g, algorithm, x, order).run(_crop(source, g), dy, *parts,
                                                                accumulate and in_place, num_threads)
    for part, o in zip(parts, given):
        if part is o:
            if part is not None and not g.n and not accumulate:
                part[...] = 0
        elif o is not None:
            o[...] = o + part if accumulate else part
    return tuple(part if o is None else o for part, o in zip(parts, given))


def backward_weight(fn, rank, dy, x, weight_shape, stride, padding, dilation, groups, padding_mode, algorithm, out,
                    accumulate, num_threads):
    dy, x, _ = _gradient_and_input(fn, rank, dy, x)
    shape = checks.shape_tuple(fn, "weight_shape", weight_shape)
    if len(shape) != rank + 2:
        raise ValueError(f"{fn}: weight_shape: got {shape}; expected {rank + 2} extents")
    g = _geometry(fn, rank, x.shape, shape, stride, padding, dilation, groups, padding_mode)
    checks.shape_of(fn, "dy", dy, (g.n, g.k, *_spatial(g.out, rank)))
    algorithm = select(fn, "backward_weight", g, algorithm, x.dtype, checks.memory_order(x))
    if out is not None:
        checks.output(fn, "out", out, shape, x.dtype, {"dy": dy, "x": x})
    dw, _ = _weight_gradients(g, algorithm, dy, x, (shape, None), (True, False), (out, None), accumulate,
                              num_threads)
    return dw


def _gradient_and_input(fn, rank, dy, x):
    dy, unbatched = _batched(fn, rank, "dy", dy)
    x, x_unbatched = _batched(fn, rank, "x", x)
    if unbatched != x_unbatched:
        raise ValueError(f"{fn}: dy and x: got {dy.ndim - unbatched} and {x.ndim - x_unbatched} axes; "
                         "expected both with or both without a batch axis")
    checks.same_dtype(fn, "x", x, "dy", dy)
    return dy, x, unbatched


def check_outputs(fn, need, out, shapes, dtype, inputs):
    """Check `need` and the caller's result arrays of a whole backward; returns both as plain tuples."""
    if len(need) != 3 or len(out) != 3:
        raise ValueError(f"{fn}: need and out: expected three entries each, for dx, dw and db")
    for i, (name, shape) in enumerate(zip(("dx", "dw", "db"), shapes)):
        if need[i] and out[i] is not None:
            others = {other: out[j] for j, other in enumerate(("dx", "dw", "db")) if j != i and need[j]}
            checks.output(fn, f"out[{i}] ({name})", out[i], shape, dtype, inputs | others)
    return tuple(bool(n) for n in need), tuple(out)


def _select_both(fn, by_input, g, algorithm, need, dy, source):
    """The algorithms of dx (`by_input` is its operation, of dy) and of dw and db (of `source`, the convolution's x).

    A named one has to serve dx and dw where they are needed. The bits of db depend on the algorithm, but not on
    whether dw is needed.
    """
    wants = (by_input, checks.memory_order(dy)), ("backward_weight", checks.memory_order(source))
    for (op, order), wanted in zip(wants, need):
        if wanted:
            select(fn, op, g, algorithm, dy.dtype, order)
    return tuple(
        select(fn, op, g, algorithm if algorithm in ("auto", *algorithms_for(op, g)) else "direct", dy.dtype, order)
        for op, order in wants)


def backward(fn, rank, dy, x, w, stride, padding, dilation, groups, padding_mode, need, algorithm, out, accumulate,
             num_threads):
    dy, x, unbatched = _gradient_and_input(fn, rank, dy, x)
    w = _weight(fn, rank, w, ("x", x))
    g = _geometry(fn, rank, x.shape, w.shape, stride, padding, dilation, groups, padding_mode)
    checks.shape_of(fn, "dy", dy, (g.n, g.k, *_spatial(g.out, rank)))
    inputs = {"dy": dy, "x": x, "w": w}
    dx_shape = x.shape[1:] if unbatched else x.shape
    need, out = check_outputs(fn, need, out, (dx_shape, w.shape, (g.k,)), x.dtype, inputs)
    by_input, by_weight = _select_both(fn, "backward_input", g, algorithm, need, dy, x)
    dx = None
    if need[0]:
        dx = _dx(fn, "out[0] (dx)", "backward_input", g, by_input, dy, w, x.shape, inputs, out[0], unbatched,
                 num_threads)
    dw, db = _weight_gradients(g, by_weight, dy, x, (w.shape, (g.k,)), need[1:], out[1:], accumulate, num_threads)
    return dx, dw, db


def transposed_backward(fn, rank, dy, x, w, stride, padding, output_padding, groups, dilation, need, algorithm, out,
                        accumulate, num_threads):
    """The transposed convolution's dy takes the part of x, and its x that of dy, in the convolution that it mirrors."""
    dy, x, unbatched = _gradient_and_input(fn, rank, dy, x)
    w = _weight(fn, rank, w, ("x", x))
    g = _transpose_geometry(fn, rank, x, w, stride, padding, output_padding, dilation, groups)
    checks.shape_of(fn, "dy", dy, (g.n, g.c, *_spatial(g.in_, rank)))
    inputs = {"dy": dy, "x": x, "w": w}
    dx_shape = x.shape[1:] if unbatched else x.shape
    need, out = check_outputs(fn, need, out, (dx_shape, w.shape, (g.c,)), x.dtype, inputs)
    by_input, by_weight = _select_both(fn, "forward", g, algorithm, need, dy, dy)
    dx = None
    if need[0]:
        dx = _dx(fn, "out[0] (dx)", "forward", g, by_input, dy, w, x.shape, inputs, out[0], unbatched, num_threads)
    dw, _ = _weight_gradients(g, by_weight, x, dy, (w.shape, None), (need[1], False), (out[1], None), accumulate,
                              num_threads)
    db = _bias_gradient(g, dy, need[2], out[2], accumulate, num_threads)
    return dx, dw, db


def _bias_gradient(g, dy, wanted, out, accumulate, num_threads):
    """Sums of dy over batch and space, as the column sums of a 1x1 convolution with dy as its gradient."""
    if not wanted:
        return None
    one = (1, 1, 1)
    shape = g._replace(k=g.c, c=1, groups=1, out=g.in_, kernel=one, stride=one, dilation=one,
                       before=(0, 0, 0), after=(0, 0, 0), mode=0)
    _, db = _weight_gradients(shape, "direct", dy, dy[:, :1], (None, (g.c,)), (False, True), (None, out), accumulate,
                              num_threads)
    return db


# ---------------------------------------------------------------- plans for people

def conv_plan(fn, x_shape, w_shape, op, dtype, memory_order, num_threads, algorithm, stride, padding, dilation, groups,
              padding_mode):
    """The ConvPlan of :func:`fastconv.explain_conv`."""
    x_shape, w_shape = checks.shape_tuple(fn, "x_shape", x_shape), checks.shape_tuple(fn, "w_shape", w_shape)
    rank = len(x_shape) - 2
    if rank not in (1, 2, 3) or len(w_shape) != len(x_shape):
        raise ValueError(f"{fn}: x_shape, w_shape: got {x_shape} and {w_shape}; expected 3 to 5 extents each")
    if op not in OPERATIONS:
        raise ValueError(f"{fn}: op: got {op!r}; expected one of {', '.join(OPERATIONS)}")
    dtype = np.dtype(dtype)
    if dtype not in checks.FLOATS:
        raise TypeError(f"{fn}: dtype: got {dtype}; expected float32 or float64")
    checks.choice(fn, "memory_order", memory_order, dict.fromkeys((checks.CHANNELS_FIRST, checks.CHANNELS_LAST)))
    g = _geometry(fn, rank, x_shape, w_shape, stride, padding, dilation, groups, padding_mode)
    algorithm = select(fn, op, g, algorithm, dtype, memory_order)
    compiled = plan(op, g, algorithm, dtype, memory_order == checks.CHANNELS_LAST, _runtime.isa_in_use())
    blocking = compiled.blocking
    flops = 2 * g.macs
    threads = _runtime.shares_for(num_threads, compiled.work_items, flops)
    _, lanes, block = _runtime.tile_constants(dtype == np.float64)
    channels = -(-_reduction(op, g) // blocking.c_parts) * blocking.group_run
    if blocking.lanewise and not blocking.planar:
        channels *= lanes
    if blocking.winograd:
        channels = lanes
    reason = "the least of the cost models" if len(algorithms_for(op, g)) > 1 else "direct serves every convolution"
    if blocking.lanewise:
        block, reason = lanes, "direct, with lanes of several groups in one vector"
    if blocking.region_channels:
        reason += ", padding left out"
    if blocking.planar:
        reason = "direct, with neighbouring pixels in one vector"
    return ConvPlan(
        op, algorithm, reason, _runtime.isa_in_use(), str(dtype), memory_order, blocking.box, block,
        None if blocking.in_place else (channels, *blocking.strip), compiled.work_items, blocking.parts, flops,
        compiled.scratch_bytes, compiled.share_bytes, threads, compiled.scratch_bytes + threads * compiled.share_bytes)


def _reduction(op, g):
    return (g.k if op == "backward_input" else g.c) // g.groups


def algorithms(fn, x_shape, w_shape, op, stride, padding, dilation, groups, padding_mode):
    x_shape, w_shape = checks.shape_tuple(fn, "x_shape", x_shape), checks.shape_tuple(fn, "w_shape", w_shape)
    if op not in OPERATIONS:
        raise ValueError(f"{fn}: op: got {op!r}; expected one of {', '.join(OPERATIONS)}")
    g = _geometry(fn, len(x_shape) - 2, x_shape, w_shape, stride, padding, dilation, groups, padding_mode)
    return algorithms_for(op, g)
