"""Sizes beyond any memory, through views that take none, and shapes given as numbers.

Whatever comes of such a call comes at once: an answer, a TypeError or ValueError, or MemoryError from the allocation
of its result. The address space is limited meanwhile (conftest.py), so that nothing large can be taken.
"""
import math
import time

import numpy as np
import pytest
from hostile_calls import hostile
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc

HEADROOM = 1 << 30  # of address space, in bytes: conftest.py
SECONDS = 8  # of work for a call; long strides and kernels are planned phase by phase, tap by tap


def one(shape, dtype=np.float32):
    """A view of a single element."""
    return np.broadcast_to(np.ones((), dtype), shape)


def attempt(function, *arguments, **options):
    """The result or the error, which has to come soon."""
    start = time.process_time()
    try:
        return function(*arguments, **options)
    except (TypeError, ValueError, MemoryError) as error:
        if not isinstance(error, MemoryError):
            assert str(error).startswith(function.__name__), error
        return error
    finally:
        assert time.process_time() - start < SECONDS


EXTENTS = st.sampled_from((1, 2, 3, 1, 2, 3, 2**16, 2**20 + 1, 2**31, 2**33, 2**40, 2**58))


@st.composite
def huge_views(draw, axes):
    """A view with at least one huge extent, if NumPy has such arrays."""
    shape = tuple(draw(EXTENTS) for _ in range(axes))
    if math.prod(shape) < 2**34:
        shape = (*shape[:-1], 2**34)
    while math.prod(shape) > 2**59:
        shape = tuple(max(1, n >> 4) if n == max(shape) else n for n in shape)
    return one(shape)


@hostile(200)
@given(st.data())
def test_huge_operands(data):
    draw = data.draw
    rank = draw(st.integers(1, 3))
    x = draw(huge_views(rank + 2))
    c = x.shape[1]
    kernel = tuple(draw(st.sampled_from((1, 2, n, 2**16))) for n in x.shape[2:])
    k = draw(st.sampled_from((1, 3, 2**31, 2**40)))
    w = one((k, c, *kernel) if c * math.prod(kernel) < 2**18 else (1,) * (rank + 2))
    window = {"stride": draw(st.sampled_from((1, 2**16, 2**22, 2**31))),
              "padding": draw(st.sampled_from((0, 1, 2**31 - 1))), "dilation": draw(st.sampled_from((1, 2, 2**31 - 1)))}
    functions = {
        f"conv{rank}d": (x, w), f"conv_transpose{rank}d": (x, w), f"conv{rank}d_backward": (x, x, w),
        f"conv{rank}d_backward_input": (x, w, x.shape), f"conv{rank}d_backward_weight": (x, x, w.shape)}
    name = draw(st.sampled_from(sorted(functions)))
    assert isinstance(attempt(getattr(fc, name), *functions[name], **window), Exception)


@hostile(150)
@given(st.data())
def test_huge_planes(data):
    draw = data.draw
    rank = draw(st.integers(1, 3))
    x = draw(huge_views(rank + 2))
    kernel, stride = draw(st.sampled_from((1, 2, 2**20, 2**31 - 1))), draw(st.sampled_from((1, 2**20, 2**31 - 1)))
    indices = np.broadcast_to(np.zeros((), np.int64), x.shape)
    size = draw(st.sampled_from((1, 2**16, 2**31 - 1)))
    functions = {
        f"max_pool{rank}d": (x, kernel, stride), f"avg_pool{rank}d": (x, kernel, stride), "global_sum_pool": (x,),
        f"adaptive_max_pool{rank}d": (one((1, 1, *(3,) * rank)), size), f"max_unpool{rank}d": (x, indices, kernel),
        f"sum_pool{rank}d_backward": (x, x.shape, 1), f"max_pool{rank}d_backward": (x, x, 1),
        "global_avg_pool_backward": (one((1, 1, *(1,) * rank)), x.shape), "im2col": (x, kernel, stride)}
    name = draw(st.sampled_from(sorted(functions)))
    answer = attempt(getattr(fc, name), *functions[name])
    assert isinstance(answer, Exception) or answer.size < 2**28


@hostile(100)
@given(st.data())
def test_huge_elementwise(data):
    draw = data.draw
    x = draw(huge_views(draw(st.integers(1, 4))))
    target = np.broadcast_to(np.zeros((), np.int64), (*x.shape[:1], *x.shape[2:]))
    functions = {
        "relu": (x,), "silu": (x,), "sigmoid_backward": (x, x), "softmax": (x, 0), "log_softmax_backward": (x, x, 0),
        "linear": (x, one((3, x.shape[-1]))), "dropout": (x, 0.5, 0), "cross_entropy": (x, target), "mse_loss": (x, x)}
    name = draw(st.sampled_from(sorted(functions)))
    assert isinstance(attempt(getattr(fc, name), *functions[name]), Exception)


@hostile(150)
@given(st.data())
def test_huge_shapes_as_numbers(data):
    draw = data.draw
    rank = draw(st.integers(1, 3))
    extents = st.sampled_from((1, 2, 3, 2**16, 2**31, 2**40, 2**62, 2**63, 10**30))
    x_shape, w_shape = (tuple(draw(extents) for _ in range(rank + 2)) for _ in range(2))
    if draw(st.booleans()):
        w_shape = (w_shape[0], x_shape[1], *(min(n, m) for n, m in zip(x_shape[2:], w_shape[2:])))
    window = {"stride": draw(st.sampled_from((1, 3, 2**16, 2**22))),
              "padding": draw(st.sampled_from((0, "same", 2**31 - 1))),
              "dilation": draw(st.sampled_from((1, 2**31 - 1)))}
    op = draw(st.sampled_from(("forward", "backward_input", "backward_weight")))
    attempt(fc.explain_conv, x_shape, w_shape, op=op, **window)
    attempt(fc.conv_algorithms, x_shape, w_shape, op=op, **window)
    dy = one((1, 1, *(1,) * rank))
    attempt(getattr(fc, f"conv{rank}d_backward_input"), dy, one((1, 1, *(1,) * rank)), x_shape, **window)
    attempt(fc.col2im, dy.reshape(1, 1, -1), x_shape, 1)


def test_results_beyond_every_count_are_refused_by_name():
    """Each operand is legal, but the bytes of the result pass 2**63."""
    with pytest.raises(ValueError, match=r"^conv1d: x: asks for an array of shape"):
        fc.conv1d(one((2**30, 1, 2**20)), one((2**30, 1, 1)))
    with pytest.raises(ValueError, match=r"^adaptive_avg_pool3d: x: asks for an array of shape"):
        fc.adaptive_avg_pool3d(one((1, 1, 2, 2, 2)), 2**31 - 1)
    with pytest.raises(ValueError, match=r"^max_unpool2d: output_size: asks for an array of shape"):
        fc.max_unpool2d(one((1, 1, 2, 2)), np.zeros((1, 1, 2, 2), np.int64), 2, output_size=2**31 - 1)
    with pytest.raises(ValueError, match=r"^col2im: input_shape: asks for an array of shape"):
        fc.col2im(one((1, 1, 1)), (2**30, 2**30, 2**30), 1)


@pytest.mark.parametrize("op", ["forward", "backward_input", "backward_weight"])
def test_long_kernels_are_planned_at_once(op):
    """So many slices that no group of tiles is small enough for the caches."""
    for algorithm in ("auto", "winograd1d"):
        plan = attempt(fc.explain_conv, (1, 1, 2**40), (1, 1, 2**13), op=op, algorithm=algorithm)
        assert plan.algorithm in fc.conv_algorithms((1, 1, 2**40), (1, 1, 2**13), op=op)
    attempt(fc.explain_conv, (1, 32, 2**20), (32, 32, 2**15), op=op, padding="same")  # as many regions as taps


def test_products_beyond_32_bits_are_right():
    """Extents whose product passes 2**31, in a call that is small: few windows far apart."""
    x = one((1, 1, 2**33))
    np.testing.assert_array_equal(fc.im2col(x, 2, stride=2**20, dilation=2**31 - 1), np.ones((1, 2, 6145), np.float32))
