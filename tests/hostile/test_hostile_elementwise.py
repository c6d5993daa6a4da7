"""Hostile calls of activations, dense layers, normalisation and losses."""
import math
import warnings

import numpy as np
from hostile_calls import Call, close, exact, hostile
from hostile_values import (
    CONTENTS,
    FLAGS,
    FLOATS,
    NO_ARRAYS,
    NUMBERS,
    SCALARS,
    THREADS,
    WORDS,
    content,
    laid_out,
    shapes,
)
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc

POINTWISE = ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish")
POINTWISE_BACKWARD = tuple(f"{name}_backward" for name in POINTWISE)
SOFTMAX = ("softmax", "log_softmax")
SOFTMAX_BACKWARD = tuple(f"{name}_backward" for name in SOFTMAX)
DENSE = ("linear", "linear_backward", "flatten", "flatten_backward", "dropout", "dropout_backward", "batch_norm",
         "batch_norm_backward")
PAIR_LOSSES = tuple(f"{name}{end}" for name in ("binary_cross_entropy_with_logits", "mse_loss")
                    for end in ("", "_backward"))
CROSS_ENTROPY = ("cross_entropy", "cross_entropy_backward")
COVERED = (*POINTWISE, *POINTWISE_BACKWARD, *SOFTMAX, *SOFTMAX_BACKWARD, *DENSE, *PAIR_LOSSES, *CROSS_ENTROPY)

ANY_SHAPE = st.lists(st.integers(0, 5), max_size=5).map(tuple)
TAME = ("normal", "integers", "tiny")


def near(got, expected, factor=64):
    """Within some ulp of each element, and of the largest; subnormal numbers may be flushed."""
    info = np.finfo(got.dtype)
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    close(got, expected, factor * info.eps * max(largest, 1) + 4 * info.tiny)


def near_all(got, expected):
    for part, wanted in zip(got, expected, strict=True):
        assert (part is None) == (wanted is None)
        if part is not None:
            near(part, wanted, 512)


# ---------------------------------------------------------------- activations

@hostile(200)
@given(st.data())
def test_pointwise(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(POINTWISE)))
    shape, dtype = draw(ANY_SHAPE), np.dtype(draw(st.sampled_from(FLOATS)))
    x = call.array("x", shape, dtype, CONTENTS, mixed=False, any_shape=True)
    put_slope(call)
    call.threads(THREADS)
    expected = call.expected()
    call.spoil()
    call.put_out(expected)
    if not call.wrong and "out" not in call.given and x.flags.writeable and draw(st.booleans()):
        in_place(call, "x", expected)
    else:
        call.judge(expected, exact if call.name in ("relu", "relu6") else near)


def put_slope(call):
    if call.name.startswith("leaky"):
        slope = call.draw(st.sampled_from((0.01, 0.2, 1, np.float32(0.5))))
        call.put("negative_slope", slope, (*NUMBERS, None, 10**400))


def in_place(call, name, expected):
    a = call.given[name]
    got = getattr(fc, call.name)(**call.given, out=a)
    assert got is a
    near(got, expected)


@hostile(150)
@given(st.data())
def test_pointwise_backward(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(POINTWISE_BACKWARD)))
    shape, dtype = draw(ANY_SHAPE), np.dtype(draw(st.sampled_from(FLOATS)))
    call.array("dy", shape, dtype, TAME, any_shape=True)
    # A subnormal number counts as zero, where gradients may jump.
    saved = call.array("saved", shape, dtype, ("normal", "integers"), any_shape=True)
    put_slope(call)
    call.threads(THREADS)
    expected = call.expected()
    call.spoil()
    call.put_out(expected)
    if not call.wrong and "out" not in call.given and saved.flags.writeable and draw(st.booleans()):
        in_place(call, "saved", expected)
    else:
        call.judge(expected, near)


@hostile(150)
@given(st.data())
def test_softmax(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from((*SOFTMAX, *SOFTMAX_BACKWARD))))
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
    dtype = np.dtype(draw(st.sampled_from(FLOATS)))
    if call.name in SOFTMAX:
        call.array("x", shape, dtype, CONTENTS, mixed=False, any_shape=True)
    else:
        call.array("dy", shape, dtype, TAME)
        call.array("saved", shape, dtype, TAME, any_shape=True)  # that of dy, which may be wrong, too
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    wrong = [v for v in (*SCALARS, 9, -9) if not (type(v) is int and -len(shape) <= v < len(shape))]
    call.put("axis", axis, wrong, np.int64(axis))
    call.threads(THREADS)
    expected = call.expected()
    call.spoil()
    call.put_out(expected)
    call.judge(expected, lambda got, wanted: near(got, wanted, 512))


# ---------------------------------------------------------------- dense layers

@hostile(200)
@given(st.data())
def test_linear(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(("linear", "linear_backward"))))
    rows = draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    c, k = draw(st.integers(1, 9)), draw(st.sampled_from((1, 3, 17)))
    dtype, contents = np.dtype(draw(st.sampled_from(FLOATS))), ("normal", "integers")
    call.array("x", (*rows, c), dtype, contents, any_shape=True)
    call.array("w", (k, c), dtype, contents)
    call.threads(THREADS)
    if call.name == "linear":
        if draw(st.booleans()):
            call.array("b", (k,), dtype, contents, none=False)
        call.put("activation", draw(st.sampled_from((None, "relu", "silu", "tanh"))), WORDS)
        expected = call.expected()
        call.spoil()
        call.put_out(expected)
        call.judge(expected, lambda got, wanted: near(got, wanted, 512))
        return
    call.array("dy", (*rows, k), dtype, contents)
    need = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    call.put("need", need, (None, 1, (), (True, True), (1, 1, 1), "abc", (True, None, True), np.ones(3, bool)))
    call.put("accumulate", False, FLAGS)
    expected = call.expected()
    call.spoil()
    call.put_outs(expected, need)
    call.judge(expected, near_all)


def flattens_to(shape, flat):
    return (isinstance(shape, tuple) and all(type(n) is int for n in shape)
            and (*shape[:1], math.prod(shape[1:])) == flat)


@hostile(120)
@given(st.data())
def test_flatten_and_dropout(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(("flatten", "flatten_backward", "dropout", "dropout_backward"))))
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
    dtype = np.dtype(draw(st.sampled_from(FLOATS)))
    if call.name == "flatten":
        a = draw(st.sampled_from((np.zeros(shape, dtype), np.zeros(shape, "i2"), np.asfortranarray(np.ones(shape)))))
        call.put("x", a, (None, 3, np.array(1.0), np.ma.masked_array(a), BAD, "x"))
    elif call.name == "flatten_backward":
        a = np.arange(np.prod(shape), dtype=dtype).reshape(shape[0], -1)
        call.put("dy", a, (None, 3, a[None], a[:, :-1], np.ma.masked_array(a), BAD, "x"))
        call.put("input_shape", shape, [s for s in shapes(shape) if not flattens_to(s, a.shape)])
    elif call.name == "dropout":
        call.array("x", shape, dtype, TAME, mixed=False, any_shape=True)
        p = draw(st.sampled_from((0, 0.25, 1.0, np.float32(0.5))))
        call.put("p", p, (*NUMBERS, None, -0.1, 1.1, 10**400, np.inf))
        seed = draw(st.integers(0, 9))
        call.put("rng", seed, ("1", 1.5, -1, True, [], object(), np.random.RandomState(0)),
                 draw(st.sampled_from((seed, np.int64(seed), np.random.default_rng(seed)))))
    else:
        call.array("dy", shape, dtype, TAME, mixed=False, any_shape=True)
        mask = content(shape, np.float64, "normal", 0) > 0
        wrong = (mask.astype(np.int8), mask[None], None, "x", BAD, mask.tolist()[:-1], np.ma.masked_array(mask))
        call.put("mask", mask, wrong, laid_out(mask, draw(st.sampled_from(("first", "fortran", "sliced")))))
        call.put("p", 0.5, (*NUMBERS, None, -0.1, 1.1, 10**400))
    expected = call.expected()
    call.spoil()

    def compare(got, wanted):
        for part, reference in zip(got, wanted) if isinstance(got, tuple) else ((got, wanted),):
            np.testing.assert_array_equal(part, reference) if part.dtype.kind != "f" else near(part, reference)

    call.judge(expected, compare)


BAD = NO_ARRAYS[5]


@hostile(150)
@given(st.data())
def test_batch_norm(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(("batch_norm", "batch_norm_backward"))))
    n, c = draw(st.integers(0, 4)), draw(st.integers(1, 5))
    shape = (n, c, *draw(st.lists(st.integers(1, 4), max_size=3)))
    dtype = np.dtype(draw(st.sampled_from(FLOATS)))
    call.array("x", shape, dtype, ("normal",))
    call.array("gamma", (c,), dtype, ("normal",))
    call.threads(THREADS)
    training = draw(st.booleans())
    if call.name == "batch_norm":
        call.array("beta", (c,), dtype, ("normal",))
        running = [np.zeros(c, dtype), np.ones(c, dtype)]
        for name, a in zip(("running_mean", "running_var"), running):
            frozen = a.copy()
            frozen.flags.writeable = not training
            wrong = [a[:-1], a[None], a.astype("f2"), None, "x", np.ma.masked_array(a), BAD]
            call.put(name, a, [*wrong, frozen] if training else wrong, a.copy())
        call.put("training", training, FLAGS)
        call.put("momentum", 0.1, (*NUMBERS, None, -0.1, 1.1, 10**400))
        call.put("eps", 1e-5, (*NUMBERS, None, -1e-9, 10**400))
    else:
        call.array("dy", shape, dtype, ("normal",))
        mean, std = content((c,), dtype, "normal", 1), np.abs(content((c,), dtype, "normal", 2)) + 1
        wrong = [None, (mean, std), (mean, std, 1), (mean, std, None), (mean[:-1], std, True), ("a", std, True), 3,
                 (mean, std, training, 1), [mean, None, True], (mean, std.astype("f2"), True), object()]
        call.put("saved", (mean, std, training), wrong)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = call.expected()
    call.spoil()
    if call.name == "batch_norm" and training and not call.wrong and expected is not None:
        got = fc.batch_norm(**call.given)
        moved = [call.given[name] for name in ("running_mean", "running_var")]
        near_all((got[0], *got[1][:2], *moved), (expected[0], *expected[1][:2], *running))
        return

    def compare(got, wanted):
        near_all((got[0], *got[1][:2]) if call.name == "batch_norm" else got,
                 (wanted[0], *wanted[1][:2]) if call.name == "batch_norm" else wanted)

    call.judge(expected, compare)


# ---------------------------------------------------------------- losses

@hostile(120)
@given(st.data())
def test_pair_losses(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(PAIR_LOSSES)))
    shape, dtype = draw(ANY_SHAPE), np.dtype(draw(st.sampled_from(FLOATS)))
    first = "pred" if call.name.startswith("mse") else "logits"
    call.array(first, shape, dtype, TAME, any_shape=True)
    call.array("target", shape, dtype, TAME, any_shape=True)
    expected = call.expected()
    call.spoil()
    call.judge(expected, near_number)


def near_number(got, wanted):
    if isinstance(wanted, float):
        assert type(got) is float
        assert got == wanted or abs(got - wanted) <= 1e-5 * max(1, abs(wanted)) or (got != got and wanted != wanted)
    else:
        near(got, wanted, 512)


@hostile(150)
@given(st.data())
def test_cross_entropy(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(CROSS_ENTROPY)))
    n, k = draw(st.integers(0, 4)), draw(st.integers(1, 5))
    spatial = draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    dtype = np.dtype(draw(st.sampled_from(FLOATS)))
    call.array("logits", (n, k, *spatial), dtype, TAME, mixed=False)
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    if draw(st.booleans()):
        reach = k + draw(st.sampled_from((0, 0, 0, 1)))
        target = rng.integers(0, reach, (n, *spatial)).astype(draw(st.sampled_from(("i8", "i4", "u1", "u8"))))
        bad = [np.full((n + 1, *spatial), index) for index in (-1, k, 2**62)]
        wrong = [*bad, target[None], target.astype("c8"), np.ma.masked_array(target), *NO_ARRAYS[:8]]
        call.put("target", target, wrong)
        ignored = draw(st.sampled_from((None, 0, -100, np.int64(1))))
        call.put("ignore_index", ignored, ("1", 1.0, True, [], object(), 10**40))
    else:
        target = rng.random((n, k, *spatial)).astype(dtype)
        wrong = [target.astype("f2"), target[:, :, None], None, "x", BAD, np.ma.masked_array(target)]
        call.put("target", target, wrong)
    call.put("label_smoothing", draw(st.sampled_from((0, 0.1, 1.0))), (*NUMBERS, None, -0.1, 1.1, 10**400))
    expected = call.expected()
    call.spoil()
    call.judge(expected, near_number)
