"""Convolution for any number of spatial axes: check, allocate, call. The public names are in conv.py."""
from typing import NamedTuple

import numpy as np

from . import checks, runtime
from ._kernels import _im2col
from ._kernels._runtime import Calls, all_apart
from .exchanged import deliver
from .packed import PackedWeight, check_packed
from .plans import ALGORITHMS, algorithms_for, folds_gradient, padded_input, plan_of, select

# ---------------------------------------------------------------- operands and results

def _batched(fn, rank, name, value):
    """(array with a batch axis, whether it had none)."""
    return checks.batched(fn, rank, name, checks.operand(fn, name, value))


def arrays(fn, x, w, b):
    """The operands as arrays; packed weights and a missing bias stay as they are."""
    return (checks.array(fn, "x", x), w if isinstance(w, PackedWeight) else checks.array(fn, "w", w),
            None if b is None else checks.array(fn, "b", b))


def _plain_weight(fn, w):
    if isinstance(w, PackedWeight):
        raise ValueError(f"{fn}: w: got packed weights; expected an array, only forward convolution takes packed ones")
    return checks.array(fn, "w", w)


def _check_weight(fn, rank, w, like):
    w = checks.operand(fn, "w", w)
    checks.rank_of(fn, "w", w, rank + 2)
    checks.same_dtype(fn, *like, "w", w)


def _spatial(values, rank):
    return tuple(values[3 - rank:])


def _crop(x, g):
    """The part of x that negative padding leaves."""
    if not g.crops:
        return x
    cuts = _spatial(g.crop, g.rank)
    return x[(slice(None), slice(None), *(slice(front, x.shape[i + 2] - back) for i, (front, back) in enumerate(cuts)))]


# ---------------------------------------------------------------- forward

class Forward(NamedTuple):
    """What a forward or transposed convolution needs but the elements of its operands: prepared once, kept by Calls."""

    g: checks.ConvGeometry
    algorithm: str
    plan: object     # None for an empty batch
    shape: tuple     # of the result, with a batch axis
    order: str
    activation: int
    unbatched: bool
    ready: bool      # the kernels can read the operands as they are
    direct: bool     # they can write `out`

    @property
    def is_plain(self):
        """Whether the call is: allocate the result, run the plan."""
        return self.ready and not self.unbatched and self.plan is not None

    def run(self, fn, x, w, b, out, num_threads):
        if out is not None:
            checks.separate(fn, "out", out, {"x": x, "w": None if isinstance(w, PackedWeight) else w, "b": b})
        if not self.ready:
            w, b = checks.contiguous(w), checks.contiguous(b)
        if self.direct:
            y = out[None] if self.unbatched else out
        else:
            y = checks.empty(self.shape, x.dtype, self.order)
        if self.plan is not None:
            source = x if self.ready else self.source(x)
            weights = w.operands_for(self.algorithm) if isinstance(w, PackedWeight) else (w, None, False)
            self.plan.run(source, *weights, b, y, self.activation, num_threads)
        return checks.finish(y, out, self.unbatched)

    def source(self, x):
        """x as the kernels read it."""
        return _crop(checks.in_an_order(x[None] if self.unbatched else x)[0], self.g)


def _known(fn, op, g, algorithm, default, x, w, b, out, shape, activation, unbatched):
    """The Forward of an operation; its operands have been checked, `out` has not."""
    order = checks.memory_order(x)
    algorithm = select(fn, op, g, algorithm, default, x.dtype, order)
    ready = not unbatched and not g.crops and checks.is_readable(x, order) and all(map(checks.is_contiguous, (w, b)))
    direct = False
    if out is not None:
        checks.output_layout(fn, "out", out, shape[1:] if unbatched else shape, x.dtype)
        direct = checks.kernel_view(out[None] if unbatched else out)
    plan = plan_of(op, g, algorithm, x, order) if g.n else None
    return Forward(g, algorithm, plan, shape, order, activation, unbatched, ready, direct)


def _prepare_forward(x, w, b, out, fn, rank, stride, padding, dilation, groups, padding_mode, activation, algorithm,
                     default):
    x, unbatched = _batched(fn, rank, "x", x)
    if isinstance(w, PackedWeight):
        algorithm = check_packed(fn, w, groups, x, rank, algorithm)
    else:
        _check_weight(fn, rank, w, ("x", x))
    g = checks.conv_geometry(fn, rank, x.shape, w.shape, stride, padding, dilation, groups, padding_mode)
    act = checks.choice(fn, "activation", activation, checks.ACTIVATIONS)
    checks.bias(fn, b, g.k, x)
    return _known(fn, "forward", g, algorithm, default, x, w, b, out, (g.n, g.k, *_spatial(g.out, rank)), act,
                  unbatched)


_forward_calls = Calls(_prepare_forward)


def forward(fn, rank, x, w, b, stride, padding, dilation, groups, padding_mode, activation, algorithm, out,
            num_threads):
    if num_threads is not None:
        checks.some_threads(fn, num_threads)
    x, w, b = arrays(fn, x, w, b)
    call = forward_call(fn, rank, x, w, b, stride, padding, dilation, groups, padding_mode, activation, algorithm, out)
    return call.run(fn, x, w, b, out, num_threads)


def forward_call(fn, rank, x, w, b, stride, padding, dilation, groups, padding_mode, activation, algorithm, out=None):
    """The Forward of a convolution of arrays."""
    return _forward_calls((x, w, b, out), (fn, rank, stride, padding, dilation, groups, padding_mode, activation,
                                           algorithm, runtime.default_algorithm()))


def _prepare_transposed(x, w, b, out, fn, rank, stride, padding, output_padding, groups, dilation, activation,
                        algorithm, default):
    x, unbatched = _batched(fn, rank, "x", x)
    _check_weight(fn, rank, w, ("x", x))
    g = checks.conv_transpose_geometry(fn, rank, x.shape, w.shape, stride, padding, output_padding, dilation, groups)
    act = checks.choice(fn, "activation", activation, checks.ACTIVATIONS)
    checks.bias(fn, b, g.c, x)
    return _known(fn, "backward_input", g, algorithm, default, x, w, b, out, (g.n, g.c, *_spatial(g.in_, rank)), act,
                  unbatched)


_transposed_calls = Calls(_prepare_transposed)


def transposed(fn, rank, x, w, b, stride, padding, output_padding, groups, dilation, activation, algorithm, out,
               num_threads):
    checks.some_threads(fn, num_threads)
    x, w, b = arrays(fn, x, _plain_weight(fn, w), b)
    call = _transposed_calls((x, w, b, out), (fn, rank, stride, padding, output_padding, groups, dilation,
                                              activation, algorithm, runtime.default_algorithm()))
    return call.run(fn, x, w, b, out, num_threads)


# ---------------------------------------------------------------- backward

class Backward(NamedTuple):
    """What gradients need but the elements of their operands: prepared once, kept by Calls."""

    g: checks.ConvGeometry
    by_input: str     # algorithm of dx
    by_weight: str    # algorithm of dw and db
    unbatched: bool
    plans: tuple = ()    # of dx, and of dw and db, where the kernels take operands and results as they are
    order: str = ""      # of dx then

    def run(self, dy, x, w, need, out, accumulate, num_threads):
        """All gradients by `plans`; `out` is None where there is no need."""
        dx, dw, db = out
        new = np.zeros if accumulate else checks.new
        if need[0]:
            dx = checks.empty(x.shape, x.dtype, self.order) if dx is None else dx
            self.plans[0].run(dy, w, None, False, None, dx, 0, num_threads)
        if need[1] and dw is None:
            dw = new(w.shape, x.dtype)
        if need[2] and db is None:
            db = new((self.g.k,), x.dtype)
        if need[1] or need[2]:
            self.plans[1].run(x, dy, dw, db, accumulate, num_threads)
        return dx, dw, db


def _prepare_backward_input(dy, w, fn, rank, shape, stride, padding, dilation, groups, padding_mode, algorithm,
                            default):
    dy, unbatched = _batched(fn, rank, "dy", dy)
    _check_weight(fn, rank, w, ("dy", dy))
    if len(shape) != rank + (1 if unbatched else 2):
        raise ValueError(f"{fn}: input_shape: got {shape}; expected {rank + (1 if unbatched else 2)} extents, like dy")
    shape = (1, *shape) if unbatched else shape
    g = checks.conv_geometry(fn, rank, shape, w.shape, stride, padding, dilation, groups, padding_mode,
                             ("input_shape", "w"))
    checks.shape_of(fn, "dy", dy, (g.n, g.k, *_spatial(g.out, rank)))
    algorithm = select(fn, "backward_input", g, algorithm, default, dy.dtype, checks.memory_order(dy))
    return Backward(g, algorithm, None, unbatched)


_backward_input_calls = Calls(_prepare_backward_input)


def backward_input(fn, rank, dy, w, input_shape, stride, padding, dilation, groups, padding_mode, algorithm, out,
                   num_threads):
    checks.some_threads(fn, num_threads)
    dy, w = checks.array(fn, "dy", dy), _plain_weight(fn, w)
    shape = checks.shape_tuple(fn, "input_shape", input_shape)
    call = _backward_input_calls((dy, w), (fn, rank, shape, stride, padding, dilation, groups, padding_mode, algorithm,
                                           runtime.default_algorithm()))
    inputs = {"dy": dy, "w": w}
    dy, w = _with_batch(dy, call), checks.contiguous(w)
    shape = (1, *shape) if call.unbatched else shape
    return _dx(fn, "out", "backward_input", call, dy, w, shape, inputs, out, num_threads)


def _with_batch(a, call):
    return a[None] if call.unbatched else a


def _dx(fn, name, op, call, dy, w, shape, inputs, out, num_threads):
    """dx in the memory order of dy; `op` is "forward" for the gradient of a transposed convolution."""
    g, algorithm, unbatched = call.g, call.by_input, call.unbatched
    source, order = checks.in_an_order(dy)
    dx = checks.target(fn, name, out, shape, dy.dtype, order, inputs, unbatched, checks.kernel_view)
    if g.n and op == "forward":
        plan_of(op, g, algorithm, dy, order).run(source, w, None, False, None, dx, 0, num_threads)
    elif g.n:
        _input_gradient(g, algorithm, source, order, w, dx, num_threads)
    return checks.finish(dx, out, unbatched)


def _input_gradient(g, algorithm, dy, order, w, dx, num_threads):
    """Compute dx; where padding repeats elements, from the gradient of the padded input."""
    inner = _crop(dx, g)
    if inner is not dx:
        dx[...] = 0
    if not folds_gradient(g):
        plan_of("backward_input", g._replace(mode=0), algorithm, dy, order).run(dy, w, None, False, None, inner, 0,
                                                                                 num_threads)
        return
    padded = padded_input(g)
    gradient = checks.empty((g.n, g.c, *_spatial(padded.in_, g.rank)), dy.dtype, order)
    plan_of("backward_input", padded, algorithm, dy, order).run(dy, w, None, False, None, gradient, 0, num_threads)
    inner[...] = 0
    _im2col.fold(gradient, inner, g.before, g.mode, num_threads)


def _weight_gradients(g, algorithm, dy, x, shapes, need, out, accumulate, num_threads):
    """(dw, db) of the convolution x -> dy; each None where not needed. `out` has been checked."""
    given = tuple(o if wanted else None for o, wanted in zip(out, need))
    in_place = all(map(checks.is_contiguous, given))
    accumulate = accumulate and any(o is not None for o in given)
    fresh = np.zeros if accumulate or not g.n else checks.new
    parts = [None if not wanted else o if o is not None and in_place else fresh(shape, x.dtype)
             for o, wanted, shape in zip(given, need, shapes)]
    if g.n and any(need):
        source, order = checks.in_an_order(x)
        dy, _ = checks.in_an_order(dy)
        plan_of("backward_weight", g, algorithm, x, order).run(_crop(source, g), dy, *parts,
                                                                accumulate and in_place, num_threads)
    for part, o in zip(parts, given):
        if part is o:
            if part is not None and not g.n and not accumulate:
                part[...] = 0
        elif o is not None:
            deliver(part, o, accumulate)
    return tuple(part if o is None else o for part, o in zip(parts, given))


def _prepare_backward_weight(dy, x, fn, rank, shape, stride, padding, dilation, groups, padding_mode, algorithm,
                             default):
    dy, x, unbatched = checks.gradient_and_input(fn, rank, dy, x)
    if len(shape) != rank + 2:
        raise ValueError(f"{fn}: weight_shape: got {shape}; expected {rank + 2} extents")
    g = checks.conv_geometry(fn, rank, x.shape, shape, stride, padding, dilation, groups, padding_mode,
                             ("x", "weight_shape"))
    checks.shape_of(fn, "dy", dy, (g.n, g.k, *_spatial(g.out, rank)))
    algorithm = select(fn, "backward_weight", g, algorithm, default, x.dtype, checks.memory_order(x))
    return Backward(g, None, algorithm, unbatched)


_backward_weight_calls = Calls(_prepare_backward_weight)


def backward_weight(fn, rank, dy, x, weight_shape, stride, padding, dilation, groups, padding_mode, algorithm, out,
                    accumulate, num_threads):
    checks.some_threads(fn, num_threads)
    accumulate = checks.flag(fn, "accumulate", accumulate)
    dy, x = checks.array(fn, "dy", dy), checks.array(fn, "x", x)
    shape = checks.shape_tuple(fn, "weight_shape", weight_shape)
    call = _backward_weight_calls((dy, x), (fn, rank, shape, stride, padding, dilation, groups, padding_mode,
                                            algorithm, runtime.default_algorithm()))
    dy, x = _with_batch(dy, call), _with_batch(x, call)
    if out is not None:
        checks.output(fn, "out", out, shape, x.dtype, {"dy": dy, "x": x})
    dw, _ = _weight_gradients(call.g, call.by_weight, dy, x, (shape, None), (True, False), (out, None), accumulate,
                              num_threads)
    return dw


RESULTS = "dx", "dw", "db"


def check_result_layouts(fn, need, out, shapes, dtype):
    """Check the result arrays of a caller of all three gradients, but for their places in memory."""
    for i, (name, shape) in enumerate(zip(RESULTS, shapes)):
        if need[i] and out[i] is not None:
            checks.output_layout(fn, f"out[{i}] ({name})", out[i], shape, dtype)


def wanted_results(fn, need, out):
    """`need` as a tuple of 0 and 1, and `out` with None for what is not needed."""
    need = checks.three_flags(fn, "need", need)
    if not isinstance(out, (tuple, list)) or len(out) != 3:
        raise TypeError(f"{fn}: out: got {checks.said(out)}; expected three arrays or None, for dx, dw and db")
    return need, tuple(o if wanted else None for wanted, o in zip(need, out))


def check_places(fn, dy, x, w, out):
    """Result arrays may overlap neither operands nor each other."""
    if all_apart(out, (dy, x, w)):
        return
    for i, result in enumerate(out):
        if result is not None:
            name = f"out[{i}] ({RESULTS[i]})"
            checks.separate(fn, name, result, {"dy": dy, "x": x, "w": w})
            checks.separate(fn, name, result, dict(zip(RESULTS[:i], out)))


def _select_both(fn, by_input, g, algorithm, default, need, dy, source):
    """The algorithms of dx (`by_input` is its operation, of dy) and of dw and db (of `source`, the convolution's x).

    A named one has to serve dx and dw where they are needed. The bits of db depend on the algorithm, but not on
    whether dw is needed.
    """
    checks.choice(fn, "algorithm", algorithm, ALGORITHMS)
    wants = (by_input, checks.memory_order(dy)), ("backward_weight", checks.memory_order(source))
    for (op, order), wanted in zip(wants, need):
        if wanted:
            select(fn, op, g, algorithm, default, dy.dtype, order)
    return tuple(
        select(fn, op, g, algorithm if algorithm in ("auto", *algorithms_for(op, g)) else "direct", default, dy.dtype,
               order)
        for op, order in wants)


def _backward_plans(g, by_input, by_weight, dy, x, w, out):
    """The plans of dx, and of dw and db, if the kernels take all arrays as they are; else none."""
    sources = [checks.is_readable(a, checks.memory_order(a)) for a in (dy, x)]
    results = (out[0] is None or checks.kernel_view(out[0]), *map(checks.is_contiguous, out[1:]))
    if not g.n or g.crops or folds_gradient(g) or not all((*sources, checks.is_contiguous(w), *results)):
        return ()
    return (plan_of("backward_input", g._replace(mode=0), by_input, dy, checks.memory_order(dy)),
            plan_of("backward_weight", g, by_weight, x, checks.memory_order(x)))


def _prepare_backward(dy, x, w, dx, dw, db, fn, rank, stride, padding, dilation, groups, padding_mode, need, algorithm,
                      default):
    shapes = x.shape, w.shape
    dy, x, unbatched = checks.gradient_and_input(fn, rank, dy, x)
    _check_weight(fn, rank, w, ("x", x))
    g = checks.conv_geometry(fn, rank, x.shape, w.shape, stride, padding, dilation, groups, padding_mode)
    checks.shape_of(fn, "dy", dy, (g.n, g.k, *_spatial(g.out, rank)))
    by_input, by_weight = _select_both(fn, "backward_input", g, algorithm, default, need, dy, x)
    out = dx, dw, db
    check_result_layouts(fn, need, out, (*shapes, (g.k,)), x.dtype)
    plans = () if unbatched else _backward_plans(g, by_input, by_weight, dy, x, w, out)
    return Backward(g, by_input, by_weight, unbatched, plans, checks.memory_order(dy))


_backward_calls = Calls(_prepare_backward)


def backward(fn, rank, dy, x, w, stride, padding, dilation, groups, padding_mode, need, algorithm, out, accumulate,
             num_threads):
    checks.some_threads(fn, num_threads)
    dy, x, w = checks.array(fn, "dy", dy), checks.array(fn, "x", x), _plain_weight(fn, w)
    (need, out), accumulate = wanted_results(fn, need, out), checks.flag(fn, "accumulate", accumulate)
    call = backward_call(fn, rank, dy, x, w, stride, padding, dilation, groups, padding_mode, need, algorithm, out)
    check_places(fn, dy, x, w, out)
    return gradients(fn, call, dy, x, w, need, out, accumulate, num_threads)


def backward_call(fn, rank, dy, x, w, stride, padding, dilation, groups, padding_mode, need, algorithm, out):
    """The Backward of a convolution of arrays."""
    return _backward_calls((dy, x, w, *out), (fn, rank, stride, padding, dilation, groups, padding_mode, need,
                                              algorithm, runtime.default_algorithm()))


def gradients(fn, call, dy, x, w, need, out, accumulate, num_threads):
    """dx, dw and db by a Backward; all arguments are those that it was prepared for, and checked."""
    accumulate = accumulate and (out[1] is not None or out[2] is not None)
    if call.plans:
        return call.run(dy, x, w, need, out, accumulate, num_threads)
    shapes = x.shape, w.shape, (call.g.k,)
    dy, x, w = _with_batch(dy, call), _with_batch(x, call), checks.contiguous(w)
    dx = None
    if need[0]:
        dx = _dx(fn, "out[0] (dx)", "backward_input", call, dy, w, x.shape, {}, out[0], num_threads)
    return dx, *_weight_gradients(call.g, call.by_weight, dy, x, shapes[1:], need[1:], out[1:], accumulate,
                                  num_threads)


def _prepare_transposed_backward(dy, x, w, fn, rank, stride, padding, output_padding, groups, dilation, need, algorithm,
                                 default):
    """In the convolution that a transposed one mirrors, its dy plays the part of x, and its x that of dy."""
    dy, x, unbatched = checks.gradient_and_input(fn, rank, dy, x)
    _check_weight(fn, rank, w, ("x", x))
    g = checks.conv_transpose_geometry(fn, rank, x.shape, w.shape, stride, padding, output_padding, dilation, groups)
    checks.shape_of(fn, "dy", dy, (g.n, g.c, *_spatial(g.in_, rank)))
    return Backward(g, *_select_both(fn, "forward", g, algorithm, default, need, dy, dy), unbatched)


_transposed_backward_calls = Calls(_prepare_transposed_backward)


def transposed_backward(fn, rank, dy, x, w, stride, padding, output_padding, groups, dilation, need, algorithm, out,
                        accumulate, num_threads):
    checks.some_threads(fn, num_threads)
    dy, x, w = checks.array(fn, "dy", dy), checks.array(fn, "x", x), _plain_weight(fn, w)
    (need, out), accumulate = wanted_results(fn, need, out), checks.flag(fn, "accumulate", accumulate)
    call = _transposed_backward_calls((dy, x, w), (fn, rank, stride, padding, output_padding, groups, dilation, need,
                                                   algorithm, runtime.default_algorithm()))
    g = call.g
    check_result_layouts(fn, need, out, (x.shape, w.shape, (g.c,)), x.dtype)
    check_places(fn, dy, x, w, out)
    dy, x, w = _with_batch(dy, call), _with_batch(x, call), checks.contiguous(w)
    dx = None
    if need[0]:
        dx = _dx(fn, "out[0] (dx)", "forward", call, dy, w, x.shape, {}, out[0], num_threads)
    dw, _ = _weight_gradients(g, call.by_weight, x, dy, (w.shape, None), (need[1], False), (out[1], None), accumulate,
                              num_threads)
    return dx, dw, _bias_gradient(g, dy, need[2], out[2], accumulate, num_threads)


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
