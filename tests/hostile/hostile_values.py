"""What the hostile calls are made of: arrays of every layout and content, and values that are wrong for an argument."""
import math
from functools import cache

import numpy as np
from hypothesis import strategies as st

FLOATS = (np.float32, np.float64)
INTEGERS = (np.int8, np.uint8, np.int32, np.int64, np.uint64)
LAYOUTS = ("first", "last", "fortran", "reversed", "sliced", "misaligned", "odd", "read-only", "constant")
CONTENTS = ("normal", "integers", "tiny", "non-finite", "huge")
MARK = 93  # what outputs are filled with


# ---------------------------------------------------------------- arrays

def content(shape, dtype, kind, seed):
    """A C-contiguous array of ordinary or extreme values."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(max(info.min, -50), 50, shape).astype(dtype) if kind != "huge" else \
            rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    if kind == "integers":
        return rng.integers(-3, 4, shape).astype(dtype)
    a = np.asarray(rng.standard_normal(shape), dtype)
    info = np.finfo(dtype)
    extremes = {"normal": (), "tiny": (info.smallest_subnormal, -info.tiny / 3, -0.0, 0.0),
                "non-finite": (np.nan, np.inf, -np.inf), "huge": (info.max, -info.max / 3)}[kind]
    if extremes:
        spots = rng.random(shape) < 0.3
        a = np.where(spots, rng.choice(np.array(extremes, dtype), shape), a)
    return np.asarray(a, dtype)


def laid_out(a, layout):
    """An array equal to `a` with other strides; every one lies in a buffer of its own."""
    if a.ndim == 0:
        layout = "first"
    if layout == "last" and a.ndim > 2:
        return np.ascontiguousarray(np.moveaxis(a, 1, -1)).transpose(0, a.ndim - 1, *range(1, a.ndim - 1))
    if layout == "fortran":
        return np.asfortranarray(a)
    if layout == "reversed":
        back = (slice(None, None, -1),) * a.ndim
        return np.array(a[back], order="C")[back]
    if layout in ("sliced", "odd"):
        step = 2 if layout == "sliced" else 3
        wide = np.full([n * step + 1 for n in a.shape], MARK, a.dtype)
        wide = wide[tuple(slice(1, 1 + n * step, step) for n in a.shape)]
        wide[...] = a
        return wide
    if layout == "misaligned":
        shifted = np.full(a.nbytes + 9, MARK, np.uint8)[1:1 + a.nbytes].view(a.dtype).reshape(a.shape)
        shifted[...] = a
        return shifted
    if layout == "constant" and a.size:  # zero strides
        return np.broadcast_to(a.reshape(-1)[:1].reshape(()), a.shape)
    a = np.array(a, order="C")
    if layout == "read-only":
        a.flags.writeable = False
    return a


@st.composite
def arrays(draw, shape, dtype, contents=CONTENTS, layouts=LAYOUTS):
    """An array of this shape and dtype, in any layout."""
    kind, layout = draw(st.sampled_from(contents)), draw(st.sampled_from(layouts))
    return laid_out(content(shape, dtype, kind, draw(st.integers(0, 3))), layout)


def blank(shape, dtype, layout):
    """A writeable array for results, filled with MARK like the buffer around it."""
    return laid_out(np.full(shape, MARK, dtype), layout)


def root(a):
    """The array that owns the memory."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


# ---------------------------------------------------------------- values of small arguments

def spelled(draw, values):
    """One of the ways to write an integer for each axis."""
    values = tuple(values)
    ways = [values, list(values), np.array(values), tuple(np.int64(v) for v in values)]
    if len(set(values)) == 1:
        one = values[0]
        ways += [one, one, np.int32(one), np.array(one)]
    return draw(st.sampled_from(ways))


class BadArray:
    """An object whose conversion fails."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array")


class BadBuffer:
    """An object that offers DLPack and can't deliver."""

    def __dlpack__(self, **kwargs):
        raise BufferError("no buffer")

    def __dlpack_device__(self):
        return 2, 0


def ragged():
    return [[1.0, 2.0], [3.0]]


NO_INTEGERS = (1.0, 1.5, math.nan, math.inf, "1", "", b"1", True, np.bool_(True), np.float32(1), 1j, object(), {},
               int, Ellipsis, np.array(1.0), np.array(True))
BEYOND = (2**31 + 7, 2**63, 2**64 + 1, 10**40)


@cache
def counts(rank, least=1, none=True):
    """Wrong values of an integer per axis of at least `least`."""
    wrong = [*NO_INTEGERS, *BEYOND, least - 1, -1, -2**63, np.int64(least - 1), (), [], (least,) * (rank + 1),
             (least - 1,) * rank, (1.0,) * rank, (True,) * rank, (None,) * rank, ("1",) * rank, ((1, 1),) * rank,
             np.ones(rank), np.ones((rank, 2), int), np.ones(rank, bool), np.ones(rank + 1, int), {1: 1}, {1},
             range(least, least + rank + 1), np.array([None] * rank)]
    return [*wrong, None] if none else wrong


@cache
def paddings(rank, negative=False, words=False):
    """Wrong values of padding."""
    wrong = [*NO_INTEGERS, *BEYOND, *(-n for n in BEYOND), None, "full", (1,) * (rank + 1), (), ((1, 2, 3),) * rank,
             ((1,),) * rank, ((1.0, 2),) * rank, ((1, None),) * rank, ("same",) * rank, ((1, 2),) * (rank + 1),
             (True,) * rank, np.ones((rank, 3), int), np.ones((rank, 2)), {1: 1}, (((1, 2), 1),) * rank]
    if not negative:
        wrong += [-1, (-1,) * rank, ((0, -1),) * rank, np.full(rank, -1)]
    return wrong if words else [*wrong, "same", "valid", "same_lower"]


SCALARS = (*NO_INTEGERS, *BEYOND, 0, -1, -2**63, None, (1,), [1], (), np.array([1]), np.array([1, 1]))
FLAGS = (0, 1, None, "True", 1.0, "", [], [True], np.array([True, False]), np.int8(1), object())
THREADS = (0, -1, 1025, 2**31, 2**64, 1.0, True, np.bool_(True), "2", [1], (), object(), math.nan, np.array([1, 2]))
WORDS = ("", "zero", "RELU", 1, True, b"zeros", [], ["zeros"], ("relu",), {}, np.array(["zeros"]), np.zeros(3), 1.0,
         object())
NUMBERS = ("1", b"1", 1j, True, [], [0.1], np.array([0.1, 0.2]), math.nan, {}, object())


@cache
def shapes(good):
    """Wrong values of a shape, where `good` is right."""
    good = tuple(good)
    return [None, 3, 1.5, "abc", (), good[1:], (*good, 1), (*good[:-1], -1), (*good[:-1], 0), (*good[:-1], 1.0),
            (*good[:-1], True), (*good[:-1], None), (*good[:-1], 2**63), (*good[:-1], 10**40), (2**40,) * len(good),
            (2**62,) * len(good), object(), {}, (good,), np.ones((2, 2), int), np.array(good, float)]


# ---------------------------------------------------------------- wrong arrays

OTHER_DTYPES = ("?", "f2", "c8", "O", ">f4", ">f8", ">i4", "U2", "S3", "M8[s]", "m8[s]", "V4", [("a", "f4")], "g")
NO_ARRAYS = (None, "text", object(), {}, ragged(), BadArray(), BadBuffer(), len, [None], ["a"], [1j], [True])


@st.composite
def wrong_arrays(draw, good, integers=False, mixed=True, any_shape=False, none=True):
    """An array or another thing that can't stand where `good` does, whatever the other arguments are.

    `integers`: integers are allowed; `mixed`: another operand fixes the dtype; `any_shape`: so is every shape.
    """
    kind = draw(st.sampled_from(("dtype", "thing", "masked", "float", "shape")))
    if kind == "dtype":
        dtypes = OTHER_DTYPES if integers else (*OTHER_DTYPES, "i1", "u1", "i4", "i8", "u8")
        return np.zeros(good.shape, draw(st.sampled_from(dtypes)))
    if kind == "masked":
        return np.ma.masked_array(np.ones(good.shape, good.dtype), draw(st.booleans()))
    if kind == "float" and mixed:
        return np.ones(good.shape, np.float64 if good.dtype == np.float32 else np.float32)
    if kind == "shape" and not any_shape:
        one = np.ones((), good.dtype)
        return draw(st.sampled_from((one, 3.5, [], [[]], np.ones((1, 1, 1, 1, *good.shape), good.dtype),
                                     np.ones((*good.shape[:-1], 0), good.dtype), np.broadcast_to(one, (2**9,) * 6),
                                     np.broadcast_to(one, (2**29,) * (1 if good.ndim > 1 else 2)))))
    return draw(st.sampled_from(NO_ARRAYS if none else NO_ARRAYS[1:]))


@st.composite
def wrong_outs(draw, good, inputs):
    """(what is wrong with it, an array that can't take a result equal to `good`)."""
    shape, dtype = good.shape, good.dtype
    kind = draw(st.sampled_from(("dtype", "byte order", "rank", "shape", "read-only", "type", "masked", "places",
                                 "shared")))
    if kind == "places" and good.size > 1:
        if draw(st.booleans()):
            return "zero strides", np.lib.stride_tricks.as_strided(np.full(1, MARK, dtype), shape, (0,) * len(shape))
        if sum(n > 1 for n in shape) > 1:
            strip = np.full(sum(shape), MARK, dtype)
            return "windows", np.lib.stride_tricks.as_strided(strip, shape, (dtype.itemsize,) * len(shape))
    if kind == "shared":
        shared = [(name, sharing(a, shape, dtype)) for name, a in inputs.items()]
        shared = [(f"shares memory with {name}", a) for name, a in shared if a is not None]
        if shared:
            return draw(st.sampled_from(shared))
    if kind == "dtype":
        return kind, blank(shape, "f4" if dtype == np.int32 else draw(st.sampled_from(("f2", "i4"))), "first")
    if kind == "byte order" and dtype.itemsize > 1:
        return kind, blank(shape, dtype.newbyteorder(">"), "first")
    if kind == "rank":
        return kind, blank((1, *shape), dtype, "first")
    if kind == "shape":
        return kind, blank((*shape[:-1], shape[-1] + 1) if shape else (2,), dtype, "first")
    if kind == "masked":
        return kind, np.ma.masked_array(blank(shape, dtype, "first"))
    if kind == "type":
        return kind, draw(st.sampled_from((good.tolist() or [0], "out", 0, object(), (), True)))
    frozen = blank(shape, dtype, "first")
    frozen.flags.writeable = False
    return "read-only", frozen


def sharing(a, shape, dtype):
    """An array of this shape in the memory of `a`; None if there is none."""
    if not (isinstance(a, np.ndarray) and a.dtype == dtype and a.flags.c_contiguous and a.flags.writeable):
        return None
    size = math.prod(shape)
    return a.reshape(-1)[a.size - size:].reshape(shape) if 0 < size <= a.size else None
