"""Hostile calls of the convolutions and of what packs and explains them."""
import math

import numpy as np
from hostile_calls import Call, close, hostile
from hostile_values import (
    CONTENTS,
    FLAGS,
    FLOATS,
    SCALARS,
    THREADS,
    WORDS,
    content,
    counts,
    paddings,
    shapes,
    spelled,
)
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc

RANKS = (1, 2, 3)
FORWARD = tuple(f"conv{rank}d" for rank in RANKS)
BACKWARD = tuple(f"conv{rank}d_backward" for rank in RANKS)
BACKWARD_INPUT = tuple(f"conv{rank}d_backward_input" for rank in RANKS)
BACKWARD_WEIGHT = tuple(f"conv{rank}d_backward_weight" for rank in RANKS)
TRANSPOSED = tuple(f"conv_transpose{rank}d" for rank in RANKS)
TRANSPOSED_BACKWARD = tuple(f"conv_transpose{rank}d_backward" for rank in RANKS)
PLANNING = ("pack_weight", "conv_algorithms", "explain_conv", "PackedWeight", "ConvPlan")
COVERED = (*FORWARD, *BACKWARD, *BACKWARD_INPUT, *BACKWARD_WEIGHT, *TRANSPOSED, *TRANSPOSED_BACKWARD, *PLANNING)

MODES = ("zeros", "zeros", "zeros", "reflect", "replicate", "edge", "circular", "wrap", "symmetric")
ACTIVATIONS = (None, None, "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish")
# These may refuse what they don't serve.
NAMED = ("folded", "winograd2", "winograd4", "winograd1d", "fft")


class Geometry:
    """Extents and small arguments of a convolution, mostly such that fit together."""

    def __init__(self, draw, name):
        self.rank = rank = int(name.split("conv")[1].removeprefix("_transpose")[0])
        self.draw = draw
        small = st.integers(1, 3)
        self.n, self.groups = draw(st.sampled_from((1, 1, 2, 3, 0))), draw(st.sampled_from((1, 1, 2, 3)))
        self.c, self.k = self.groups * draw(st.integers(1, 5)), self.groups * draw(st.sampled_from((1, 2, 3, 17)))
        extents = st.integers(1, 12 if rank == 1 else 7 if rank == 2 else 4)
        self.spatial = tuple(draw(extents) for _ in range(rank))
        self.kernel = self.axes(st.sampled_from((1, 2, 3, 3, 4, *((8, 9) if rank == 1 else ()))))
        self.stride, self.dilation = self.axes(small), self.axes(st.sampled_from((1, 1, 1, 2, 3)))
        self.dtype = draw(st.sampled_from(FLOATS))
        self.contents = (draw(st.sampled_from(CONTENTS)),)
        self.fits = True  # whether there is a result
        self.unbatched = draw(st.sampled_from((False, False, False, True)))
        if self.unbatched:
            self.n = 1

    def axes(self, values):
        if self.draw(st.booleans()):
            return (self.draw(values),) * self.rank
        return tuple(self.draw(values) for _ in range(self.rank))

    def padding(self, words, least):
        kind = self.draw(st.sampled_from(("number", "axes", "pairs", *words)))
        if kind in words:
            return kind
        values = st.integers(least, 3)
        if kind == "pairs":
            return tuple((self.draw(values), self.draw(values)) for _ in range(self.rank))
        return self.draw(values) if kind == "number" else self.axes(values)

    def shape(self, channels, spatial):
        return (channels, *spatial) if self.unbatched else (self.n, channels, *spatial)


def put_window(call, g, transposed=False):
    """stride, padding, dilation, groups, padding_mode and algorithm, each as it may be written."""
    rank = g.rank
    call.put("stride", g.stride, counts(rank), spelled(call.draw, g.stride))
    call.put("dilation", g.dilation, counts(rank), spelled(call.draw, g.dilation))
    call.put("groups", g.groups, SCALARS, call.draw(st.sampled_from((g.groups, np.int64(g.groups)))))
    if transposed:
        call.put("padding", g.padding((), 0), paddings(rank))
    else:
        words = ("same", "same_lower", "valid")
        call.put("padding", g.padding(words, -1), paddings(rank, negative=True, words=True))
        call.put("padding_mode", call.draw(st.sampled_from(MODES)), (*WORDS, None))
    call.put("algorithm", call.draw(st.sampled_from(("auto", "auto", "direct", "direct", *NAMED))), (*WORDS, None))
    call.threads(THREADS)


def result_spatial(call, g, transposed=False):
    """Spatial extents of the result, by the reference; some where nothing fits."""
    name = call.name.split("_backward")[0]
    names = ("stride", "padding", "dilation", "groups")
    names += ("output_padding",) if transposed else ("padding_mode",)
    x = np.zeros((1, g.c, *g.spatial))
    w = np.zeros((g.c, g.k // g.groups, *g.kernel) if transposed else (g.k, g.c // g.groups, *g.kernel))
    probe = Call(call.draw, name)
    probe.plain = {"x": x, "w": w, **{key: call.plain[key] for key in names if key in call.plain}}
    y = probe.expected()
    g.fits = y is not None
    return y.shape[2:] if g.fits else g.spatial


def compare_convolution(call, g, reduction):
    """Within a normwise bound, unless values are so large that sums overflow in one order and not in another."""
    strict = call.plain["algorithm"] == "direct"

    def scale():
        largest = {name: np.abs(np.nan_to_num(call.plain[name].astype(np.float64), posinf=0, neginf=0)).max(initial=0)
                   for name in call.operands}
        b = largest.pop("b", 0)
        factors = list(largest.values())
        return max(factors[0] * (factors[1] if len(factors) > 1 else 1), factors[0], b)

    def compare(got, expected):
        parts = zip(got, expected) if isinstance(got, tuple) else ((got, expected),)
        for part, wanted in parts:
            assert (part is None) == (wanted is None)
            if part is None:
                continue
            assert part.shape == wanted.shape and part.dtype == wanted.dtype
            if g.contents == ("huge",) or g.contents == ("non-finite",) and not strict:
                continue
            info = np.finfo(part.dtype)
            close(part, wanted, 16 * info.eps * (4 + reduction) * scale() + info.tiny * (reduction + 8))

    return compare


def refusable(call):
    return "algorithm" if call.plain["algorithm"] in NAMED else None


@hostile(250)
@given(st.data())
def test_forward(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(FORWARD)))
    g = Geometry(draw, call.name)
    call.array("x", g.shape(g.c, g.spatial), g.dtype, g.contents)
    w = call.array("w", (g.k, g.c // g.groups, *g.kernel), g.dtype, g.contents)
    if draw(st.booleans()):
        call.array("b", (g.k,), g.dtype, g.contents, none=False)
    put_window(call, g)
    call.put("activation", draw(st.sampled_from(ACTIVATIONS)), WORDS)
    expected = call.expected()
    call.spoil()
    call.put_out(expected)
    if draw(st.integers(0, 4)) == 0 and not call.wrong:
        call.given["w"] = fc.pack_weight(w, groups=g.groups, stride=g.stride, dilation=g.dilation)
    call.judge(expected, compare_convolution(call, g, g.c // g.groups * math.prod(g.kernel)), refusable(call))


@hostile(250)
@given(st.data())
def test_transposed(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(TRANSPOSED)))
    g = Geometry(draw, call.name)
    call.array("x", g.shape(g.c, g.spatial), g.dtype, g.contents)
    call.array("w", (g.c, g.k // g.groups, *g.kernel), g.dtype, g.contents)
    if draw(st.booleans()):
        call.array("b", (g.k,), g.dtype, g.contents, none=False)
    put_window(call, g, transposed=True)
    put_output_padding(call, g)
    call.put("activation", draw(st.sampled_from(ACTIVATIONS)), WORDS)
    expected = call.expected()
    call.spoil()
    call.put_out(expected)
    call.judge(expected, compare_convolution(call, g, g.c // g.groups * math.prod(g.kernel)), refusable(call))


def put_output_padding(call, g):
    extra = tuple(call.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(g.stride, g.dilation))
    call.put("output_padding", extra, [*counts(g.rank, 0), 3, (3,) * g.rank], spelled(call.draw, extra))


def put_need(call):
    need = call.draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    call.put("need", need, (None, 1, True, "abc", (), (True, True), (True,) * 4, (1, 1, 1), (True, True, None),
                            (True, "", True), object(), np.ones((3, 2), bool), {1, 2, 3}),
             call.draw(st.sampled_from((need, list(need), tuple(np.bool_(n) for n in need)))))
    return need


@hostile(250)
@given(st.data())
def test_backward(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from((*BACKWARD, *TRANSPOSED_BACKWARD))))
    transposed = call.name in TRANSPOSED_BACKWARD
    g = Geometry(draw, call.name)
    put_window(call, g, transposed)
    if transposed:
        put_output_padding(call, g)
    out = result_spatial(call, g, transposed)
    call.array("dy", g.shape(g.k, out), g.dtype, g.contents)
    call.array("x", g.shape(g.c, g.spatial), g.dtype, g.contents)
    shape = (g.c, g.k // g.groups, *g.kernel) if transposed else (g.k, g.c // g.groups, *g.kernel)
    call.array("w", shape, g.dtype, g.contents)
    need = put_need(call)
    call.put("accumulate", False, FLAGS)
    expected = call.expected() if g.fits else None
    call.spoil()
    call.put_outs(expected, need)
    reduction = max(1, g.n) * g.k * math.prod(out) + g.k * math.prod(g.kernel)
    call.judge(expected, compare_convolution(call, g, reduction), refusable(call))


@hostile(200)
@given(st.data())
def test_backward_input(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(BACKWARD_INPUT)))
    g = Geometry(draw, call.name)
    put_window(call, g)
    call.array("dy", g.shape(g.k, result_spatial(call, g)), g.dtype, g.contents)
    call.array("w", (g.k, g.c // g.groups, *g.kernel), g.dtype, g.contents)
    shape = g.shape(g.c, g.spatial)
    call.put("input_shape", shape, shapes(shape), draw(st.sampled_from((shape, list(shape), np.array(shape)))))
    expected = call.expected() if g.fits else None
    call.spoil()
    call.put_out(expected)
    call.judge(expected, compare_convolution(call, g, g.k * math.prod(g.kernel)), refusable(call))


@hostile(200)
@given(st.data())
def test_backward_weight(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(BACKWARD_WEIGHT)))
    g = Geometry(draw, call.name)
    put_window(call, g)
    out = result_spatial(call, g)
    call.array("dy", g.shape(g.k, out), g.dtype, g.contents)
    call.array("x", g.shape(g.c, g.spatial), g.dtype, g.contents)
    shape = (g.k, g.c // g.groups, *g.kernel)
    call.put("weight_shape", shape, shapes(shape), draw(st.sampled_from((shape, list(shape), np.array(shape)))))
    call.put("accumulate", False, FLAGS)
    expected = call.expected() if g.fits else None
    call.spoil()
    call.put_out(expected)
    call.judge(expected, compare_convolution(call, g, max(1, g.n) * math.prod(out)), refusable(call))


# ---------------------------------------------------------------- weights packed ahead, plans

@hostile(120)
@given(st.data())
def test_pack_weight(data):
    draw = data.draw
    call = Call(draw, "pack_weight")
    g = Geometry(draw, draw(st.sampled_from(FORWARD)))
    w = call.array("w", (g.k, g.c // g.groups, *g.kernel), g.dtype, ("normal",), mixed=False)
    call.put("stride", g.stride, counts(g.rank), spelled(draw, g.stride))
    call.put("dilation", g.dilation, counts(g.rank), spelled(draw, g.dilation))
    call.put("groups", g.groups, SCALARS)
    call.put("algorithm", draw(st.sampled_from(("auto", "direct", *NAMED))), (*WORDS, None))
    spatial = tuple(d * (r - 1) + 2 for d, r in zip(g.dilation, g.kernel))
    shape = (2, g.c, *spatial)
    call.put("input_shape", draw(st.sampled_from((None, shape))), [s for s in shapes(shape) if s is not None])
    call.spoil()

    def compare(packed, _):
        assert packed.shape == w.shape and packed.dtype == w.dtype and packed.groups == g.groups
        x = content(shape, g.dtype, "normal", 0)
        window = {name: call.given[name] for name in ("stride", "dilation", "groups")}
        function = getattr(fc, f"conv{g.rank}d")
        np.testing.assert_array_equal(function(x, packed, **window),
                                      function(x, w, algorithm=packed.algorithm, **window))

    call.judge(True, compare, refusable(call))


@hostile(120)
@given(st.data())
def test_plans(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(("conv_algorithms", "explain_conv"))))
    g = Geometry(draw, draw(st.sampled_from(FORWARD)))
    x_shape, w_shape = (g.n, g.c, *g.spatial), (g.k, g.c // g.groups, *g.kernel)
    wrong = [None, 3, (), "abc", (1,) * 6, (2, 2), (1, -1, 3), (1.0, 1, 3), (2**62,) * 4, (2**40,) * len(x_shape), 1.5]
    call.put("x_shape", x_shape, wrong, draw(st.sampled_from((x_shape, list(x_shape)))))
    call.put("w_shape", w_shape, wrong, draw(st.sampled_from((w_shape, np.array(w_shape)))))
    put_window(call, g)
    call.put("op", draw(st.sampled_from(("forward", "backward_input", "backward_weight"))), (*WORDS, None))
    if call.name == "explain_conv":
        call.put("dtype", draw(st.sampled_from(("float32", np.float64, np.dtype("f4")))),
                 ("float16", int, "O", ">f4", "what", 3.5, object(), None, [], bool))
        call.put("memory_order", draw(st.sampled_from(("channels_first", "channels_last"))), (*WORDS, None))
    else:
        for name in ("algorithm", "num_threads"):
            del call.given[name], call.spoilers[name]
    probe = Call(draw, f"conv{g.rank}d")
    names = ("stride", "padding", "dilation", "groups", "padding_mode")
    probe.plain = {"x": np.zeros(x_shape), "w": np.zeros(w_shape), **{name: call.plain[name] for name in names}}
    fits = probe.expected()
    call.spoil()
    call.judge(fits, lambda got, _: None if call.name == "explain_conv" else got.index("direct"), refusable(call))


@hostile(60)
@given(st.data())
def test_packed_weights_where_they_do_not_fit(data):
    """Other channels, groups, dtype, rank, dilation or algorithm than they were packed for, and gradients."""
    draw = data.draw
    call = Call(draw, draw(st.sampled_from((*FORWARD, *BACKWARD, *TRANSPOSED, *TRANSPOSED_BACKWARD))))
    g = Geometry(draw, call.name)
    packed = fc.pack_weight(content((g.k, g.c // g.groups, *g.kernel), g.dtype, "normal", 0), groups=g.groups)
    shape, dtype, groups = (1, g.c, *(9,) * g.rank), g.dtype, g.groups
    if call.name in FORWARD:
        kind = draw(st.sampled_from(("channels", "groups", "dtype", "rank")))
        shape = (1, g.c + 1, *shape[2:]) if kind == "channels" else (*shape, 9) if kind == "rank" else shape
        dtype = (np.float64 if g.dtype == np.float32 else np.float32) if kind == "dtype" else dtype
        groups = draw(st.sampled_from((g.groups + 1, None, "1", 1.0, np.ones(2, int)))) if kind == "groups" else groups
    x = np.zeros(shape, dtype)
    call.given = {"x": x, "w": packed, "groups": groups}
    if call.name.endswith("_backward"):
        call.given["dy"] = x
    call.wrong.append("w (packed)")
    call.judge(None, None)


def test_packed_weights_and_plans_cannot_be_changed():
    packed = fc.pack_weight(np.ones((2, 1, 3), np.float32))
    plan = fc.explain_conv((1, 1, 5), (2, 1, 3))
    for value, name in ((packed, "shape"), (plan, "algorithm")):
        try:
            setattr(value, name, ())
        except AttributeError:
            continue
        raise AssertionError(f"{value!r} was changed")


def test_values_are_wrong_indeed():
    """The generators' own check."""
    assert all(len(wrong) > 10 for wrong in (counts(2), paddings(2), shapes((1, 2, 3))))
