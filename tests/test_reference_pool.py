"""The reference's pooling against literals, PyTorch and its adjoints."""

import math

import numpy as np
import pytest
from reference_helpers import at_rank, check_adjoint, close

from fastconv import reference as ref

NAN, INF = math.nan, math.inf


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def distinct(rng, shape):
    """Random numbers without ties."""
    return rng.permutation(math.prod(shape)).reshape(shape) / 8.0


# (nd, channels and spatial axes, arguments)
WINDOWS = [
    (1, (3, 9), {"kernel_size": 2}),
    (1, (3, 10), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    (1, (2, 5), {"kernel_size": 2, "stride": 2, "ceil_mode": True}),
    (2, (3, 8, 7), {"kernel_size": 2}),
    (2, (2, 8, 7), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    (2, (2, 8, 7), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    (2, (1, 7, 7), {"kernel_size": 2, "stride": 3, "ceil_mode": True}),
    (3, (2, 5, 6, 4), {"kernel_size": 2, "padding": 1}),
    (3, (2, 5, 6, 7), {"kernel_size": (2, 3, 2), "stride": 2, "padding": (1, 1, 0), "ceil_mode": True}),
]
DILATED = [
    (1, (3, 12), {"kernel_size": 3, "stride": 1, "dilation": 2, "padding": 1}),
    (2, (2, 9, 8), {"kernel_size": (3, 2), "stride": 2, "dilation": (2, 3), "padding": 1, "ceil_mode": True}),
    (3, (1, 6, 5, 7), {"kernel_size": 2, "stride": 1, "dilation": (1, 2, 3)}),
]


@pytest.mark.parametrize("nd, shape, arguments", WINDOWS + DILATED)
def test_max_and_min_are_those_of_torch(torch, rng, nd, shape, arguments):
    x = distinct(rng, (2, *shape))
    for name, sign in (("max_pool{}d", 1), ("min_pool{}d", -1)):
        tx = torch.tensor(sign * x, requires_grad=True)
        pool = getattr(torch.nn.functional, f"max_pool{nd}d")
        expected, indices = pool(tx, **arguments, return_indices=True)
        y, flat = at_rank(name, nd)(x, **arguments, return_indices=True)
        close(sign * y, expected.detach(), 0)
        np.testing.assert_array_equal(flat, indices)
        assert flat.dtype == np.int64
        dy = rng.standard_normal(y.shape)
        expected.backward(torch.tensor(dy))
        y, window = at_rank(name, nd)(x, **arguments, return_indices="window")
        assert window.dtype == np.uint8
        for given in (None, flat, window):
            close(at_rank(name + "_backward", nd)(dy, x, **arguments, indices=given), tx.grad)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("nd, shape, arguments", WINDOWS)
def test_avg_is_that_of_torch(torch, rng, nd, shape, arguments, count_include_pad):
    x = rng.standard_normal((2, *shape))
    tx = torch.tensor(x, requires_grad=True)
    pool = getattr(torch.nn.functional, f"avg_pool{nd}d")
    expected = pool(tx, **arguments, count_include_pad=count_include_pad)
    close(at_rank("avg_pool{}d", nd)(x, **arguments, count_include_pad=count_include_pad), expected.detach())
    dy = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.tensor(dy))
    back = at_rank("avg_pool{}d_backward", nd)
    close(back(dy, x.shape, **arguments, count_include_pad=count_include_pad), tx.grad)
    if nd > 1:
        for divisor in (1, 5):
            expected = pool(torch.tensor(x), **arguments, divisor_override=divisor)
            close(at_rank("avg_pool{}d", nd)(x, **arguments, divisor_override=divisor), expected)
        close(at_rank("sum_pool{}d", nd)(x, **arguments), pool(torch.tensor(x), **arguments, divisor_override=1))


PAIRS = [
    (1, (2, 6), {"kernel_size": 3, "stride": 2, "padding": ((2, 1),)}),
    (2, (2, 6, 5), {"kernel_size": (3, 2), "padding": ((0, 2), (1, 1)), "ceil_mode": True}),
]


@pytest.mark.parametrize(
    "name, options",
    [
        ("sum_pool{}d", {}),
        ("avg_pool{}d", {}),
        ("avg_pool{}d", {"count_include_pad": False}),
        ("avg_pool{}d", {"divisor_override": 3}),
    ],
)
@pytest.mark.parametrize("nd, shape, arguments", WINDOWS + DILATED + PAIRS)
def test_sum_and_avg_backward_are_adjoint(rng, nd, shape, arguments, name, options):
    shape, arguments = (2, *shape), arguments | options
    pool, back = at_rank(name, nd), at_rank(name + "_backward", nd)
    check_adjoint(rng, lambda x: pool(x, **arguments), lambda dy: back(dy, shape, **arguments), shape)


def test_divisors_count_taps_before_the_end_of_the_padding():
    ones = np.ones((1, 1, 5))
    assert ref.avg_pool1d(np.array([[1.0, 2, 3, 4, 5]]), 2, 2, ceil_mode=True).tolist() == [[1.5, 3.5, 5.0]]
    assert ref.avg_pool1d(ones, 3, 3, padding=((1, 0),), ceil_mode=True).tolist() == [[[2 / 3, 1.0]]]
    assert ref.avg_pool1d(ones, 3, 2, padding=((1, 1),)).tolist() == [[[2 / 3, 1.0, 2 / 3]]]
    assert ref.avg_pool1d(np.array([[1.0, 2, 3, 4, 5, 6]]), 3, 2, dilation=2, ceil_mode=True).tolist() == [[3.0, 4.0]]
    assert ref.avg_pool1d(ones, 3, 2, padding=1, count_include_pad=False).tolist() == [[[1.0, 1.0, 1.0]]]


@pytest.mark.parametrize(
    "size, kernel, stride, pad, dilation, floor, ceil",
    [
        (5, 2, 2, (0, 0), 1, 2, 3),
        (6, 2, 2, (0, 0), 1, 3, 3),
        (7, 2, 3, (0, 0), 1, 2, 3),
        (4, 1, 3, (0, 0), 1, 2, 2),
        (5, 1, 3, (0, 0), 1, 2, 2),  # the third window would start at 6, beyond the input
        (5, 3, 2, (1, 0), 2, 1, 2),
        (4, 2, 1, (0, 1), 1, 4, 4),
    ],
)
def test_number_of_windows(size, kernel, stride, pad, dilation, floor, ceil):
    x = np.ones((1, 1, size))
    assert ref.sum_pool1d(x, kernel, stride, (pad,), dilation).shape == (1, 1, floor)
    assert ref.sum_pool1d(x, kernel, stride, (pad,), dilation, True).shape == (1, 1, ceil)


def test_nan_ties_and_infinities():
    x = np.array([[[1.0, NAN, 3.0, NAN], [2.0, 2.0, -INF, -INF], [0.0, -0.0, INF, INF]]])
    y, at = ref.max_pool1d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y, [[[NAN, NAN], [2.0, -INF], [0.0, INF]]])
    np.testing.assert_array_equal(at, [[[1, 3], [0, 2], [0, 2]]])
    y, at = ref.min_pool1d(x, 4, return_indices=True)
    np.testing.assert_array_equal(y, [[[NAN], [-INF], [0.0]]])
    np.testing.assert_array_equal(at, [[[1], [2], [0]]])
    dx = ref.max_pool1d_backward(np.ones((1, 3, 1)), x, 4)
    np.testing.assert_array_equal(dx, [[[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]])
    y, at = ref.max_pool1d(np.full((1, 1, 2), -INF), 3, 1, 1, return_indices="window")
    np.testing.assert_array_equal(y, [[[-INF, -INF]]])
    np.testing.assert_array_equal(at, [[[1, 0]]])


def test_overlapping_windows_add_their_gradients():
    x = np.array([[[1.0, 5.0, 2.0]]])
    assert ref.max_pool1d_backward(np.array([[[10.0, 1.0]]]), x, 2, 1).tolist() == [[[0, 11, 0]]]
    assert ref.min_pool1d_backward(np.array([[[10.0, 1.0]]]), x, 2, 1).tolist() == [[[10, 0, 1]]]
    assert ref.sum_pool1d_backward(np.array([[[10.0, 1.0]]]), x.shape, 2, 1).tolist() == [[[10, 11, 1]]]
    assert ref.avg_pool1d_backward(np.array([[[10.0, 1.0]]]), x.shape, 2, 1).tolist() == [[[5, 5.5, 0.5]]]


def test_integers_keep_or_widen_their_dtype():
    for dtype, wide in ((np.int8, np.int64), (np.uint8, np.uint64), (np.int64, np.int64), (np.uint64, np.uint64)):
        top = np.iinfo(dtype).max
        x = np.array([[[top, top - 1, 3, 1]]], dtype=dtype)
        assert ref.max_pool1d(x, 2).tolist() == [[[top, 3]]]
        assert ref.min_pool1d(x, 2).tolist() == [[[top - 1, 1]]]
        assert ref.sum_pool1d(x[..., 2:], 2).tolist() == [[[4]]]
        assert ref.max_pool1d(x, 2).dtype == ref.global_min_pool(x).dtype == dtype
        assert ref.sum_pool1d(x, 2).dtype == ref.global_sum_pool(x).dtype == wide
    assert ref.sum_pool1d(np.full((1, 1, 4), 255, dtype=np.uint8), 4).tolist() == [[[1020]]]


def test_a_window_without_a_real_element_is_refused():
    x = np.ones((1, 1, 4))
    for pool in (ref.max_pool1d, ref.min_pool1d, ref.avg_pool1d, ref.sum_pool1d):
        with pytest.raises(ValueError, match="axis 0.*kernel 2.*padding"):
            pool(x, 2, 1, 2)
        with pytest.raises(ValueError, match="no real element"):
            pool(x[..., :1], 2, 1, 1, 2)  # taps at -1 and 1 of a single element
        with pytest.raises(ValueError, match="no window"):
            pool(x, 5)
        with pytest.raises(ValueError, match="at least 1"):
            pool(x, 0)


def test_indices_are_checked():
    x, dy = np.ones((1, 1, 4)), np.ones((1, 1, 2))
    for wrong in (-1, 4):
        indices = np.array([[[0, wrong]]])
        with pytest.raises(ValueError, match=f"index {wrong}"):
            ref.max_pool1d_backward(dy, x, 2, indices=indices)
        with pytest.raises(ValueError, match=f"index {wrong}"):
            ref.max_unpool1d(dy, indices, 2)
        with pytest.raises(ValueError, match=f"index {wrong}"):
            ref.max_unpool1d_backward(x, indices, dy.shape)
    with pytest.raises(ValueError, match="window index 2"):
        ref.max_pool1d_backward(dy, x, 2, indices=np.array([[[0, 2]]], dtype=np.uint8))
    with pytest.raises(ValueError, match="padding"):
        ref.max_pool1d_backward(np.ones((1, 1, 3)), x, 2, 2, 1, indices=np.zeros((1, 1, 3), dtype=np.uint8))
    with pytest.raises(TypeError, match="int32"):
        ref.max_unpool1d(dy, np.zeros((1, 1, 2), dtype=np.int32), 2)
    with pytest.raises(ValueError, match="256"):
        ref.max_pool1d(np.ones((1, 1, 300)), 257, return_indices="window")
    with pytest.raises(ValueError, match="differ in size"):
        ref.adaptive_max_pool1d(x, 2, return_indices="window")


ADAPTIVE = [(1, (3, 7), 3), (1, (2, 3), 5), (2, (2, 8, 7), (3, 7)), (2, (1, 5, 6), 1), (3, (2, 5, 4, 6), (2, 3, 4))]


@pytest.mark.parametrize("nd, shape, size", ADAPTIVE)
def test_adaptive_is_that_of_torch(torch, rng, nd, shape, size):
    x = distinct(rng, (2, *shape))
    tx = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, f"adaptive_avg_pool{nd}d")(tx, size)
    dy = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.tensor(dy))
    close(at_rank("adaptive_avg_pool{}d", nd)(x, size), expected.detach())
    close(at_rank("adaptive_avg_pool{}d_backward", nd)(dy, x.shape), tx.grad)
    tx.grad = None
    expected, indices = getattr(torch.nn.functional, f"adaptive_max_pool{nd}d")(tx, size, return_indices=True)
    expected.backward(torch.tensor(dy))
    y, flat = at_rank("adaptive_max_pool{}d", nd)(x, size, return_indices=True)
    close(y, expected.detach(), 0)
    np.testing.assert_array_equal(flat, indices)
    for given in (None, flat):
        close(at_rank("adaptive_max_pool{}d_backward", nd)(dy, x, indices=given), tx.grad)


@pytest.mark.parametrize("spatial", [(7,), (4, 5), (2, 3, 4)])
def test_global_pooling_is_one_window(rng, spatial):
    x = distinct(rng, (2, 3, *spatial))
    nd, shape, axes = len(spatial), x.shape, tuple(range(2, x.ndim))
    dy = rng.standard_normal((2, 3, *[1] * nd))
    for name, reduce in (("max", np.max), ("min", np.min), ("avg", np.mean), ("sum", np.sum)):
        pool, back = getattr(ref, f"global_{name}_pool"), getattr(ref, f"global_{name}_pool_backward")
        close(pool(x), reduce(x, axis=axes, keepdims=True))
        same = at_rank(f"{name}_pool{{}}d_backward", nd)
        like = x if name in ("max", "min") else shape
        close(back(dy, like), same(dy, like, spatial))


@pytest.mark.parametrize("nd, shape", [(1, (2, 8)), (2, (2, 6, 8)), (3, (1, 4, 6, 4))])
def test_max_unpool_is_that_of_torch(torch, rng, nd, shape):
    x = distinct(rng, (2, *shape))
    y, indices = at_rank("max_pool{}d", nd)(x, 2, return_indices=True)
    ty = torch.tensor(y, requires_grad=True)
    unpool = getattr(torch.nn.functional, f"max_unpool{nd}d")
    for size in (None, tuple(s + 1 for s in shape[1:])):
        ty.grad = None
        expected = unpool(ty, torch.tensor(indices), 2, output_size=size)
        close(at_rank("max_unpool{}d", nd)(y, indices, 2, output_size=size), expected.detach(), 0)
        dy = rng.standard_normal(tuple(expected.shape))
        expected.backward(torch.tensor(dy))
        close(at_rank("max_unpool{}d_backward", nd)(dy, indices, y.shape), ty.grad, 0)


def test_max_unpool_of_equal_indices_keeps_the_last(rng):
    x, indices = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[4, 1, 4]]])
    assert ref.max_unpool1d(x, indices, 2, 2).tolist() == [[[0, 2, 0, 0, 3, 0]]]
    assert ref.max_unpool1d(x, indices, 3, 2, ((1, 0),)).tolist() == [[[0, 2, 0, 0, 3, 0]]]
    dy = np.arange(6.0).reshape(1, 1, 6)
    assert ref.max_unpool1d_backward(dy, indices, x.shape).tolist() == [[[0, 1, 4]]]
    many = rng.integers(0, 12, (2, 3, 2, 3))
    check_adjoint(rng, lambda x: ref.max_unpool2d(x, many, 2, output_size=(3, 4)),
                  lambda dy: ref.max_unpool2d_backward(dy, many, many.shape), many.shape)


def test_pooling_unbatched_empty_and_into_out(rng):
    x = distinct(rng, (2, 3, 6, 5)).astype(np.float32)
    for name in ("max", "min", "avg", "sum"):
        pool, back = at_rank(f"{name}_pool{{}}d", 2), at_rank(f"{name}_pool{{}}d_backward", 2)
        y = pool(x, 2, padding=1)
        out = np.full_like(y, NAN)
        assert pool(x, 2, padding=1, out=out) is out
        np.testing.assert_array_equal(out, y)
        np.testing.assert_array_equal(pool(x[0], 2, padding=1), y[0])
        like = (lambda a: a) if name in ("max", "min") else np.shape
        dx = back(y, like(x), 2, padding=1)
        np.testing.assert_array_equal(back(y[0], like(x[0]), 2, padding=1), dx[0])
        out = np.full_like(x, NAN)
        assert back(y, like(x), 2, padding=1, out=out) is out
        np.testing.assert_array_equal(out, dx)
        assert pool(x[:0], 2).shape == (0, 3, 3, 2)
        assert back(y[:0], like(x[:0]), 2, padding=1).shape == (0, 3, 6, 5)
        assert y.dtype == dx.dtype == np.float32
    for kind in (True, "window"):
        y, at = ref.max_pool2d(x[0], 2, return_indices=kind)
        assert y.shape == at.shape == (3, 3, 2)
        np.testing.assert_array_equal(
            ref.max_pool2d_backward(y, x[0], 2, indices=at), ref.max_pool2d_backward(y, x[0], 2)
        )
        y, at = ref.max_pool2d(x[:0], 2, return_indices=kind)
        assert ref.max_pool2d_backward(y, x[:0], 2, indices=at).shape == (0, 3, 6, 5)
    y, at = ref.adaptive_max_pool2d(x[0], 2, return_indices=True)
    assert ref.adaptive_max_pool2d_backward(y, x[0], indices=at).shape == x[0].shape
    assert ref.adaptive_avg_pool2d_backward(ref.adaptive_avg_pool2d(x[0], 2), x[0].shape).shape == x[0].shape
    y, at = ref.max_pool2d(x[0], 2, return_indices=True)
    assert ref.max_unpool2d_backward(ref.max_unpool2d(y, at, 2, output_size=(6, 5)), at, y.shape).tolist() == y.tolist()
    y, at = ref.max_pool2d(x[:0], 2, return_indices=True)
    assert ref.max_unpool2d(y, at, 2).shape == (0, 3, 6, 4)
