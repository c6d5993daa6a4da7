"""Hostile calls of pooling in all its forms."""
import math

import numpy as np
from hostile_calls import Call, close, exact, hostile
from hostile_values import (
    BEYOND,
    CONTENTS,
    FLAGS,
    FLOATS,
    INTEGERS,
    NO_ARRAYS,
    SCALARS,
    THREADS,
    content,
    counts,
    laid_out,
    paddings,
    shapes,
    spelled,
)
from hypothesis import given
from hypothesis import strategies as st

RANKS = (1, 2, 3)
SELECT = tuple(f"{op}_pool{rank}d" for op in ("max", "min") for rank in RANKS)
SELECT_BACKWARD = tuple(f"{name}_backward" for name in SELECT)
TOTAL = tuple(f"{op}_pool{rank}d" for op in ("avg", "sum") for rank in RANKS)
TOTAL_BACKWARD = tuple(f"{name}_backward" for name in TOTAL)
ADAPTIVE = tuple(f"adaptive_{op}_pool{rank}d" for op in ("avg", "max") for rank in RANKS)
ADAPTIVE_BACKWARD = tuple(f"{name}_backward" for name in ADAPTIVE)
WHOLE = tuple(f"global_{op}_pool" for op in ("avg", "max", "min", "sum"))
WHOLE_BACKWARD = tuple(f"{name}_backward" for name in WHOLE)
UNPOOL = tuple(f"max_unpool{rank}d" for rank in RANKS)
UNPOOL_BACKWARD = tuple(f"{name}_backward" for name in UNPOOL)
COVERED = (*SELECT, *SELECT_BACKWARD, *TOTAL, *TOTAL_BACKWARD, *ADAPTIVE, *ADAPTIVE_BACKWARD, *WHOLE, *WHOLE_BACKWARD,
           *UNPOOL, *UNPOOL_BACKWARD)


class Planes:
    """Extents and dtype of the input of a pooling function."""

    def __init__(self, draw, name, integers=False):
        digits = [c for c in name if c.isdigit()]
        self.rank = int(digits[0]) if digits else draw(st.sampled_from(RANKS))
        self.draw = draw
        self.batch = (draw(st.sampled_from((1, 1, 2, 3, 0))), draw(st.sampled_from((1, 2, 3, 17))))
        extents = st.integers(1, 12 if self.rank == 1 else 7 if self.rank == 2 else 4)
        self.spatial = tuple(draw(extents) for _ in range(self.rank))
        self.dtype = np.dtype(draw(st.sampled_from(INTEGERS if integers and draw(st.booleans()) else FLOATS)))
        self.contents = (draw(st.sampled_from(CONTENTS)),)
        self.unbatched = bool(digits) and draw(st.sampled_from((False, False, False, True)))

    def shape(self, spatial):
        return (*self.batch[self.unbatched:], *spatial)

    def axes(self, values):
        if self.draw(st.booleans()):
            return (self.draw(values),) * self.rank
        return tuple(self.draw(values) for _ in range(self.rank))


def put_window(call, p):
    rank, draw = p.rank, call.draw
    kernel = p.axes(st.sampled_from((1, 2, 2, 3, 4)))
    call.put("kernel_size", kernel, counts(rank), spelled(draw, kernel))
    if draw(st.booleans()):
        stride = p.axes(st.integers(1, 3))
        call.put("stride", stride, counts(rank, none=False), spelled(draw, stride))
    pairs = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    padding = draw(st.sampled_from((0, 0, 1, pairs, tuple(before for before, _ in pairs))))
    call.put("padding", padding, paddings(rank), np.array(padding) if draw(st.booleans()) else padding)
    dilation = p.axes(st.sampled_from((1, 1, 1, 2, 3)))
    call.put("dilation", dilation, counts(rank), spelled(draw, dilation))
    call.put("ceil_mode", draw(st.booleans()), FLAGS)
    call.threads(THREADS)


def result_spatial(call, p, forward):
    """Spatial extents of the result, by the reference; some where nothing fits."""
    probe = Call(call.draw, forward)
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    probe.plain = {name: call.plain[name] for name in names if name in call.plain} | {"x": np.zeros((1, 1, *p.spatial))}
    y = probe.expected()
    p.fits = y is not None
    return y.shape[2:] if p.fits else p.spatial


def compare_pair(got, expected):
    if isinstance(expected, tuple):
        exact(got[1], expected[1])
        got, expected = got[0], expected[0]
    exact(got, expected)


def compare_sums(p, terms):
    """Of integers to the bit; of floats within a bound, unless they overflow in one order and not in another."""
    def compare(got, expected):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        if got.dtype.kind != "f":
            np.testing.assert_array_equal(got, expected)
        elif p.contents != ("huge",):
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-30)
            info = np.finfo(got.dtype)
            close(got, expected, 16 * info.eps * (4 + terms) * max(scale, 8) + info.tiny * terms)

    return compare


@hostile(200)
@given(st.data())
def test_select(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(SELECT)))
    p = Planes(draw, call.name, integers=True)
    call.array("x", p.shape(p.spatial), p.dtype, p.contents, integers=True, mixed=False)
    put_window(call, p)
    call.put("return_indices", draw(st.sampled_from((False, False, True, "window"))), [*FLAGS, "plane", b"window"])
    expected = call.expected()
    call.spoil()
    call.put_out(expected[0] if isinstance(expected, tuple) else expected)
    call.judge(expected, compare_pair)


@hostile(200)
@given(st.data())
def test_totals(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(TOTAL)))
    integers = call.name.startswith("sum")
    p = Planes(draw, call.name, integers)
    call.array("x", p.shape(p.spatial), p.dtype, p.contents, integers=integers, mixed=False)
    put_window(call, p)
    put_divisor(call)
    expected = call.expected()
    call.spoil()
    call.put_out(expected)
    call.judge(expected, compare_sums(p, 64))


def put_divisor(call):
    if call.name.startswith("avg"):
        call.put("count_include_pad", call.draw(st.booleans()), FLAGS)
        call.put("divisor_override", call.draw(st.sampled_from((None, 1, 3, np.int64(5), 2**40))),
                 [value for value in SCALARS if value is not None and value is not BEYOND[0]])


def put_indices(call, p, out, forward):
    """Places of the winners, or wherever in the plane, or wrong ones."""
    kind = call.draw(st.sampled_from(("none", "plane", "anywhere", "window", "beyond")))
    if kind == "none":
        return
    shape = p.shape(out)
    rng = np.random.default_rng(call.draw(st.integers(0, 3)))
    if kind in ("plane", "window"):
        probe = Call(call.draw, forward)
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "output_size")
        probe.plain = {"x": call.plain["x"], **{name: call.plain[name] for name in names if name in call.plain}}
        probe.plain["return_indices"] = True if kind == "plane" or forward in ADAPTIVE else "window"
        y = probe.expected()
        indices = np.zeros(shape, np.int64) if y is None else y[1]
    elif kind == "anywhere":
        indices = rng.integers(0, math.prod(p.spatial), shape)
    else:
        far = (-1, math.prod(p.spatial), 2**62, -2**63, 2**31)
        indices = np.where(rng.random(shape) < 0.5, rng.choice(far, shape), 0)
        if call.draw(st.booleans()) and forward not in ADAPTIVE:
            indices = rng.integers(0, 256, shape).astype(np.uint8)
    put_index_array(call, indices)


def put_index_array(call, indices):
    wrong = st.one_of(
        st.sampled_from(("i4", "u8", "f8", "?", ">i8", "O")).map(indices.astype),
        st.sampled_from((indices[None, None, None], indices[..., :0], 3.0, [])), st.sampled_from(NO_ARRAYS[1:]),
        st.builds(np.ma.masked_array, st.just(indices)))
    layout = call.draw(st.sampled_from(("first", "last", "fortran", "reversed", "sliced", "misaligned", "read-only")))
    call.put("indices", indices, wrong, laid_out(indices, layout))
    call.operands.append("indices")


@hostile(250)
@given(st.data())
def test_select_backward(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(SELECT_BACKWARD)))
    forward = call.name.removesuffix("_backward")
    p = Planes(draw, call.name)
    put_window(call, p)
    out = result_spatial(call, p, forward)
    p.contents = (draw(st.sampled_from(("normal", "integers", "tiny"))),)
    call.array("dy", p.shape(out), p.dtype, p.contents)
    call.array("x", p.shape(p.spatial), p.dtype, CONTENTS)
    put_indices(call, p, out, forward)
    expected = call.expected() if p.fits else None
    call.spoil()
    call.put_out(expected if expected is not None or not p.fits else np.zeros(p.shape(p.spatial), p.dtype))
    call.judge(expected, compare_sums(p, 64))


@hostile(150)
@given(st.data())
def test_totals_backward(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(TOTAL_BACKWARD)))
    p = Planes(draw, call.name)
    put_window(call, p)
    put_divisor(call)
    out = result_spatial(call, p, call.name.removesuffix("_backward"))
    call.array("dy", p.shape(out), p.dtype, p.contents, mixed=False)
    shape = p.shape(p.spatial)
    call.put("input_shape", shape, shapes(shape), draw(st.sampled_from((shape, list(shape), np.array(shape)))))
    expected = call.expected() if p.fits else None
    call.spoil()
    call.put_out(expected)
    call.judge(expected, compare_sums(p, 64))


@hostile(120)
@given(st.data())
def test_adaptive(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from((*ADAPTIVE, *WHOLE))))
    integers = "avg" not in call.name
    p = Planes(draw, call.name, integers)
    call.array("x", p.shape(p.spatial), p.dtype, p.contents, integers=integers, mixed=False)
    if call.name in ADAPTIVE:
        size = p.axes(st.integers(1, 5))
        wrong = [w for w in counts(p.rank) if not isinstance(w, int) or abs(w) != 2**31 + 7]
        wrong = [w for w in wrong if not isinstance(w, tuple) or None not in w]  # None keeps an axis as it is
        call.put("output_size", size, wrong, spelled(draw, size))
        if "max" in call.name:
            call.put("return_indices", draw(st.booleans()), [*FLAGS, "window"])
    call.threads(THREADS)
    expected = call.expected()
    call.spoil()
    call.put_out(expected[0] if isinstance(expected, tuple) else expected)
    call.judge(expected, compare_pair if "max" in call.name or "min" in call.name else compare_sums(p, 512))


@hostile(120)
@given(st.data())
def test_adaptive_backward(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from((*ADAPTIVE_BACKWARD, *WHOLE_BACKWARD))))
    p = Planes(draw, call.name)
    out = p.axes(st.integers(1, 5)) if call.name in ADAPTIVE_BACKWARD else (1,) * p.rank
    shape = p.shape(p.spatial)
    p.contents = ("normal",)
    call.array("dy", p.shape(out), p.dtype, p.contents, mixed="avg" not in call.name and "sum" not in call.name)
    if "avg" in call.name or "sum" in call.name:
        call.put("input_shape", shape, shapes(shape))
    else:
        call.array("x", shape, p.dtype, CONTENTS)
        if call.name in ADAPTIVE_BACKWARD:
            call.plain["output_size"] = out
            put_indices(call, p, out, call.name.removesuffix("_backward"))
            del call.plain["output_size"]
    call.threads(THREADS)
    expected = call.expected()
    call.spoil()
    call.put_out(expected)
    call.judge(expected, compare_sums(p, 512))


@hostile(150)
@given(st.data())
def test_unpool(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(UNPOOL)))
    p = Planes(draw, call.name)
    shape = p.shape(p.spatial)
    call.array("x", shape, p.dtype, p.contents, mixed=False)
    kernel = p.axes(st.integers(1, 3))
    call.put("kernel_size", kernel, counts(p.rank), spelled(draw, kernel))
    size = p.axes(st.integers(1, 9))
    if draw(st.booleans()):
        call.put("output_size", size, counts(p.rank, none=False), spelled(draw, size))
    reach = math.prod(size) + draw(st.sampled_from((0, 0, 0, 1, 2**40)))
    put_index_array(call, np.random.default_rng(draw(st.integers(0, 3))).integers(0, reach, shape))
    call.threads(THREADS)
    expected = call.expected()
    call.spoil()
    call.put_out(np.zeros(p.shape(size), p.dtype) if expected is None and "output_size" in call.plain else expected)
    call.judge(expected, exact)


@hostile(120)
@given(st.data())
def test_unpool_backward(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(UNPOOL_BACKWARD)))
    p = Planes(draw, call.name)
    shape = p.shape(p.axes(st.integers(1, 4)))
    call.array("dy", p.shape(p.spatial), p.dtype, p.contents, mixed=False)
    reach = math.prod(p.spatial) + draw(st.sampled_from((0, 0, 0, 1, 2**40)))
    put_index_array(call, np.random.default_rng(draw(st.integers(0, 3))).integers(0, reach, shape))
    call.put("input_shape", shape, shapes(shape))
    call.threads(THREADS)
    expected = call.expected()
    call.spoil()
    call.put_out(np.zeros(shape, p.dtype) if expected is None else expected)
    call.judge(expected, exact)


def test_contents_reach_every_extreme():
    """The generators' own check."""
    assert not np.isfinite(content((99,), np.float32, "non-finite", 0)).all()
    assert (np.abs(content((99,), np.float64, "tiny", 0)) < 1e-300).any()
