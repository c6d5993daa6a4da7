"""Pooling against the reference: every instruction set, dtype, memory order, several threads."""
import functools
import math

import numpy as np
import pytest
from kernel_helpers import ORDERS, Guarded, assert_close, in_order, normal, small_integers
from pool_cases import CASES, case, extremes, in_dtypes, in_orders, kernel_of, of_rank, same, with_ties

import fastconv as fc
from fastconv import checks, reference
from fastconv._kernels import _pool


@functools.cache
def extreme_of_reference(op, name, dtype):
    """(x, y, plane indices, window indices, dy, dx) of a case."""
    shape, arguments = CASES[name]
    x = with_ties(shape, dtype)
    y, places = of_rank(op + "_pool{}d", x, reference)(x, **arguments, return_indices=True)
    dy = small_integers(y.shape, dtype, 1)
    dx = of_rank(op + "_pool{}d_backward", x, reference)(dy, x, **arguments)
    taps = None
    if math.prod(kernel_of(name)) <= 256:
        _, taps = of_rank(op + "_pool{}d", x, reference)(x, **arguments, return_indices="window")
    return x, y, places, taps, dy, dx


# ---------------------------------------------------------------- maximum and minimum

@case
@in_orders
@in_dtypes
@extremes
def test_extremes_and_their_places(isa, threads, name, order, dtype, op):
    x, y, places, taps, _, _ = extreme_of_reference(op, name, dtype)
    function, arguments = of_rank(op + "_pool{}d", x), CASES[name][1]
    out = Guarded(y.shape, dtype, order)
    same(function(in_order(x, order), **arguments, out=out.array), y)
    assert out.intact()
    got, got_places = function(in_order(x, order), **arguments, return_indices=True)
    same(got, y)
    same(got_places, places)
    if taps is not None:
        got, got_taps = function(in_order(x, order), **arguments, return_indices="window")
        same(got, y)
        same(got_taps, taps)


@case
@in_orders
@in_dtypes
@extremes
@pytest.mark.parametrize("indices", ["none", "plane", "window"])
def test_gradients_of_extremes(isa, threads, name, order, dtype, op, indices):
    x, _, places, taps, dy, dx = extreme_of_reference(op, name, dtype)
    given = {"none": None, "plane": places, "window": taps}[indices]
    if indices == "window" and taps is None:
        return
    if given is not None:
        given = in_order(given, order)
    out = Guarded(dx.shape, dtype, order)
    got = of_rank(op + "_pool{}d_backward", x)(in_order(dy, order), in_order(x, order), **CASES[name][1],
                                               indices=given, out=out.array)
    np.testing.assert_array_equal(got, dx)
    assert out.intact()


@case
def test_all_ways_to_a_gradient_have_the_same_bits(isa, threads, name):
    """Gathered by window index or scattered by place, and from dy in either memory order."""
    x, y, places, taps, _, _ = extreme_of_reference("max", name, np.float32)
    backward, arguments = of_rank("max_pool{}d_backward", x), CASES[name][1]
    dy = normal(y.shape, np.float32)
    with fc.threads(1):
        expected = backward(dy, x, **arguments, indices=places)
    for x_order in ORDERS:
        for dy_order in ORDERS:
            for given in (None, places) if taps is None else (None, places, taps):
                got = backward(in_order(dy, dy_order), in_order(x, x_order), **arguments, indices=given)
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("order", ORDERS)
def test_boxes_of_turned_images_join(isa, threads, order):
    """Images of many boxes, cut along every axis, have the results of their parts."""
    x = in_order(with_ties((1, 70, 3, 41, 29), np.float32), order)
    window = {"kernel_size": (1, 4, 4), "stride": (1, 3, 3), "padding": (0, 1, 1)}
    y, places = fc.max_pool3d(x, **window, return_indices="window")
    dy = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    dx, mean_dx = fc.max_pool3d_backward(dy, x, **window, indices=places), fc.avg_pool3d_backward(dy, x.shape, **window)
    mean, adapted = fc.avg_pool3d(x, **window), fc.adaptive_avg_pool3d(x, (2, 7, 5))
    for c in range(0, 70, 7):
        part, few = (slice(None), slice(c, c + 7)), np.ascontiguousarray(x[:, c:c + 7])  # too few channels to turn
        same(y[part], fc.max_pool3d(few, **window))
        same(dx[part], fc.max_pool3d_backward(dy[part], few, **window))
        np.testing.assert_allclose(mean[part], fc.avg_pool3d(few, **window), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(mean_dx[part], fc.avg_pool3d_backward(dy[part], few.shape, **window), rtol=1e-6,
                                   atol=1e-6)
        np.testing.assert_allclose(adapted[part], fc.adaptive_avg_pool3d(few, (2, 7, 5)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", [3, 5])
def test_places_out_of_their_windows(isa, threads, order, kernel):
    """int64 indices may point anywhere in the plane; one that does changes nothing for the others."""
    x = in_order(with_ties((2, 18, 12, 21), np.float32), order)
    y, places = fc.max_pool2d(x, kernel, 1, kernel // 2, return_indices=True)
    dy = in_order(np.random.default_rng(2).integers(-8, 8, y.shape).astype(np.float32), order)
    dx = fc.max_pool2d_backward(dy, x, kernel, 1, kernel // 2, indices=places)
    moved = places.copy()
    moved[1, 17, 0, 20] = 11 * 21       # the other end of the plane
    moved[0, 3, 5, 0] = 5 * 21 - 1      # left of its window's first column: the end of the row before
    got = fc.max_pool2d_backward(dy, x, kernel, 1, kernel // 2, indices=moved)
    expected = dx.reshape(2, 18, -1).copy()
    for n, c, h, w in ((1, 17, 0, 20), (0, 3, 5, 0)):
        expected[n, c, places[n, c, h, w]] -= dy[n, c, h, w]
        expected[n, c, moved[n, c, h, w]] += dy[n, c, h, w]
    np.testing.assert_array_equal(got.reshape(2, 18, -1), expected)
    moved[1, 2, 3, 4] = -1
    with pytest.raises(ValueError, match="-1"):
        fc.max_pool2d_backward(dy, x, kernel, 1, kernel // 2, indices=moved)


@in_orders
@in_dtypes
@pytest.mark.parametrize("shape, window", [
    ((1, 64, 24, 26), (2,)),             # many channels: positions are compared with places
    ((2, 48, 15, 17), (3, 1, 1)),
    ((1, 7, 71, 83), (3, 2, 1)),         # few: places are added, in boxes that windows reach over
    ((1, 7, 71, 83), (3, 3)),            # in boxes cut between windows
    ((1, 3, 5, 13000), (2, 7, 1)),       # in boxes that are parts of rows
])
def test_gradients_of_boxes(isa, threads, order, dtype, shape, window):
    x = with_ties(shape, dtype)
    y, places = reference.max_pool2d(x, *window, return_indices=True)
    dy = small_integers(y.shape, dtype, 1)
    expected = np.zeros((*shape[:2], shape[2] * shape[3]), dtype)
    n, c = np.ogrid[:shape[0], :shape[1]]
    np.add.at(expected, (n[..., None], c[..., None], places.reshape(*shape[:2], -1)), dy.reshape(*shape[:2], -1))
    same(fc.max_pool2d_backward(in_order(dy, order), in_order(x, order), *window, indices=in_order(places, order)),
         expected.reshape(shape))


@in_orders
@in_dtypes
@pytest.mark.parametrize("arguments", [(2,), (3, 2, 1), (3, 1, 1), (3, 3, 0, 2), (6, 5, 3), (13, 13, 6)])
def test_nan_infinities_and_subnormals(isa, order, dtype, arguments):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.random.default_rng(3).choice([np.nan, -np.inf, np.inf, tiny, -tiny, 2 * tiny, 0.0], (2, 18, 13, 37),
                                        p=[0.02, 0.4, 0.02, 0.2, 0.2, 0.1, 0.06]).astype(dtype)
    x[:, :, 3:8] = -np.inf
    for op in ("max", "min"):
        y, places = getattr(reference, f"{op}_pool2d")(x, *arguments, return_indices=True)
        got, got_places = getattr(fc, f"{op}_pool2d")(in_order(x, order), *arguments, return_indices=True)
        same(got, y)
        same(got_places, places)
        same(getattr(fc, f"{op}_pool2d")(in_order(x, order), *arguments), y)


@pytest.mark.parametrize("dtype", [kind + size for kind in ("int", "uint") for size in ("8", "16", "32", "64")])
@in_orders
def test_integers(threads, dtype, order):
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(limits.min, limits.max, (2, 3, 9, 11), dtype, endpoint=True)
    arguments = (3, 2, 1, 1, True)
    for op in ("max", "min"):
        y, places = getattr(reference, f"{op}_pool2d")(x, *arguments, return_indices=True)
        got, got_places = getattr(fc, f"{op}_pool2d")(in_order(x, order), *arguments, return_indices=True)
        same(got, y)
        same(got_places, places)
    same(fc.sum_pool2d(in_order(x, order), *arguments), reference.sum_pool2d(x, *arguments))
    same(fc.global_max_pool(in_order(x, order)), reference.global_max_pool(x))
    same(fc.adaptive_max_pool2d(in_order(x, order), 4), reference.adaptive_max_pool2d(x, 4))


@pytest.fixture
def portable_places():
    """No window is short enough for the lanes to count its places."""
    before = _pool.set_lane_places(0)
    yield
    _pool.set_lane_places(before)


@in_orders
@in_dtypes
def test_places_beyond_the_lanes(portable_places, threads, order, dtype):
    x = with_ties((2, 5, 9, 12), dtype)
    x[0, 1, 2:5] = np.nan
    for op in ("max", "min"):
        for indices in (True, "window"):
            expected = getattr(reference, f"{op}_pool2d")(x, 3, 2, 1, return_indices=indices)
            got = getattr(fc, f"{op}_pool2d")(in_order(x, order), 3, 2, 1, return_indices=indices)
            same(got[0], expected[0])
            same(got[1], expected[1])


# ---------------------------------------------------------------- average and sum

AVERAGES = ({}, {"count_include_pad": False}, {"divisor_override": 5})


@functools.cache
def average_of_reference(name, option, dtype):
    """(x, average, sum, dy, gradients of both) of a case."""
    shape, arguments = CASES[name]
    x, options = normal(shape, dtype), AVERAGES[option]
    y = of_rank("avg_pool{}d", x, reference)(x.astype(np.float64), **arguments, **options)
    total = of_rank("sum_pool{}d", x, reference)(x.astype(np.float64), **arguments)
    dy = normal(y.shape, dtype, 1)
    wide = dy.astype(np.float64)
    return (x, y, total, dy, of_rank("avg_pool{}d_backward", x, reference)(wide, x.shape, **arguments, **options),
            of_rank("sum_pool{}d_backward", x, reference)(wide, x.shape, **arguments))


def taps_of(name):
    return math.prod(kernel_of(name))


@case
@in_orders
@in_dtypes
@pytest.mark.parametrize("option", range(len(AVERAGES)))
def test_averages(isa, threads, name, order, dtype, option):
    x, y, total, _, _, _ = average_of_reference(name, option, dtype)
    out = Guarded(y.shape, dtype, order)
    got = of_rank("avg_pool{}d", x)(in_order(x, order), **CASES[name][1], **AVERAGES[option], out=out.array)
    assert_close(got, y, taps_of(name), scale=np.abs(x).max() * max(1, taps_of(name) / 5 * (option == 2)))
    assert out.intact()
    if option == 0:
        got = of_rank("sum_pool{}d", x)(in_order(x, order), **CASES[name][1])
        assert_close(got, total, taps_of(name), scale=np.abs(x).max() * taps_of(name))


@case
@in_orders
@in_dtypes
@pytest.mark.parametrize("option", range(len(AVERAGES)))
def test_gradients_of_averages(isa, threads, name, order, dtype, option):
    x, _, _, dy, dx, dx_sum = average_of_reference(name, option, dtype)
    out = Guarded(dx.shape, dtype, order)
    got = of_rank("avg_pool{}d_backward", x)(in_order(dy, order), x.shape, **CASES[name][1], **AVERAGES[option],
                                             out=out.array)
    assert_close(got, dx, taps_of(name))
    assert out.intact()
    if option == 0:
        got = of_rank("sum_pool{}d_backward", x)(in_order(dy, order), x.shape, **CASES[name][1])
        assert_close(got, dx_sum, taps_of(name))


@pytest.mark.parametrize("shape", [(1, 2, 300, 300), (1, 33, 90, 700)], ids=["first", "last"])
@in_orders
def test_long_sums_keep_their_precision(isa, shape, order):
    """One accumulator for all of a plane would lose most digits of a mean far from zero."""
    x = 100 + normal(shape, np.float32)
    expected = reference.global_avg_pool(x.astype(np.float64))
    assert_close(fc.global_avg_pool(in_order(x, order)), expected, 1)


def test_the_divisor_counts_what_it_should():
    x = np.array([[1.0, 2, 3, 4, 5]])
    np.testing.assert_array_equal(fc.avg_pool1d(x, 2, 2, ceil_mode=True), [[1.5, 3.5, 5.0]])
    ones = np.ones((1, 1, 2, 2))
    np.testing.assert_array_equal(fc.avg_pool2d(ones, 2, 2, 1), np.full((1, 1, 2, 2), 0.25))
    np.testing.assert_array_equal(fc.avg_pool2d(ones, 2, 2, 1, count_include_pad=False), ones)
    np.testing.assert_array_equal(fc.avg_pool2d(ones, 2, divisor_override=3), np.full((1, 1, 1, 1), 4 / 3))


# ---------------------------------------------------------------- adaptive and whole planes

ADAPTIVE = [((2, 5, 13), (4,)), ((1, 17, 7, 40), (3, 9)), ((2, 3, 5, 4), (7, None)), ((1, 4, 6, 5, 37), (2, 5, 1))]


@pytest.mark.parametrize("shape, size", ADAPTIVE, ids=lambda v: "x".join(map(str, v)))
@in_orders
@in_dtypes
def test_adaptive(isa, threads, shape, size, order, dtype):
    x = with_ties(shape, dtype)
    y, places = of_rank("adaptive_max_pool{}d", x, reference)(x, size, return_indices=True)
    dy = small_integers(y.shape, dtype, 1)
    dx = of_rank("adaptive_max_pool{}d_backward", x, reference)(dy, x)
    backward = of_rank("adaptive_max_pool{}d_backward", x)
    out = Guarded(y.shape, dtype, order)
    got, got_places = of_rank("adaptive_max_pool{}d", x)(in_order(x, order), size, return_indices=True, out=out.array)
    same(got, y)
    same(got_places, places)
    assert out.intact()
    for given in (None, got_places):
        out = Guarded(x.shape, dtype, order)
        backward(in_order(dy, order), in_order(x, order), indices=given, out=out.array)
        np.testing.assert_array_equal(out.array, dx)
        assert out.intact()
    average = of_rank("adaptive_avg_pool{}d", x)(in_order(x, order), size)
    assert_close(average, of_rank("adaptive_avg_pool{}d", x, reference)(x, size), 64)
    out = Guarded(x.shape, dtype, order)
    got = of_rank("adaptive_avg_pool{}d_backward", x)(in_order(dy, order), x.shape, out=out.array)
    assert_close(got, of_rank("adaptive_avg_pool{}d_backward", x, reference)(dy, x.shape), 64)
    assert out.intact()


@pytest.mark.parametrize("shape", [(2, 5, 13), (3, 70, 7, 7), (1, 3, 40, 33), (1, 2, 3, 4, 5)])
@in_orders
@in_dtypes
def test_whole_planes(isa, threads, shape, order, dtype):
    x, one = with_ties(shape, dtype), (*shape[:2], *(1,) * (len(shape) - 2))
    dy = small_integers(one, dtype, 1)
    for op in ("max", "min"):
        same(getattr(fc, f"global_{op}_pool")(in_order(x, order)), getattr(reference, f"global_{op}_pool")(x))
        np.testing.assert_array_equal(getattr(fc, f"global_{op}_pool_backward")(dy, in_order(x, order)),
                                      getattr(reference, f"global_{op}_pool_backward")(dy, x))
    for op in ("avg", "sum"):
        assert_close(getattr(fc, f"global_{op}_pool")(in_order(x, order)), getattr(reference, f"global_{op}_pool")(x),
                     math.prod(shape[2:]), scale=2.0 * (math.prod(shape[2:]) if op == "sum" else 1))
        assert_close(getattr(fc, f"global_{op}_pool_backward")(in_order(dy, order), shape),
                     getattr(reference, f"global_{op}_pool_backward")(dy, shape), 1)


# ---------------------------------------------------------------- unpooling

@pytest.mark.parametrize("shape, size", [((2, 3, 9), (20,)), ((2, 33, 4, 5), (2, 33, 9, 11)),
                                         ((1, 2, 3, 4, 5), (5, 8, 7))])
@in_orders
@in_dtypes
def test_unpooling(isa, threads, shape, size, order, dtype):
    x = normal(shape, dtype)
    x.flat[0] = np.finfo(dtype).smallest_subnormal
    for places in (np.random.default_rng(0).integers(0, math.prod(size[2 - x.ndim:]), shape), np.full(shape, 7)):
        y = of_rank("max_unpool{}d", x, reference)(x, places, 2, output_size=size)
        out = Guarded(y.shape, dtype, order)
        same(of_rank("max_unpool{}d", x)(in_order(x, order), in_order(places, order), 2, output_size=size,
                                         out=out.array), y)
        assert out.intact()
        dy = normal(y.shape, dtype, 1)
        out = Guarded(x.shape, dtype, order)
        same(of_rank("max_unpool{}d_backward", x)(in_order(dy, order), places, shape, out=out.array),
             of_rank("max_unpool{}d_backward", x, reference)(dy, places, shape))
        assert out.intact()


@in_orders
def test_unpooling_planes_larger_than_its_memory(order):
    """The gradient remembers stored positions in a megabyte; this plane has more."""
    size, shape = (1300, 1300), (1, 2, 30, 40)
    places = np.random.default_rng(0).integers(0, math.prod(size), shape)
    places[..., ::2] = places[..., 1::2]
    dy = normal((1, 2, *size), np.float32, order=order)
    expected = reference.max_unpool2d_backward(dy, places, shape)
    same(fc.max_unpool2d_backward(dy, places, shape), expected)


def test_unpooling_inverts_pooling():
    x = normal((2, 3, 8, 10), np.float32)
    y, places = fc.max_pool2d(x, 2, return_indices=True)
    back = fc.max_unpool2d(y, places, 2)
    assert back.shape == x.shape
    np.testing.assert_array_equal(back[back != 0], x[back != 0])
    np.testing.assert_array_equal(fc.max_pool2d(back, 2), np.maximum(y, 0))


# ---------------------------------------------------------------- PyTorch as a second oracle

@case
@in_orders
def test_against_torch(name, order):
    torch = pytest.importorskip("torch")
    shape, arguments = CASES[name]
    rank = len(shape) - 2
    padding = arguments.get("padding", 0)
    pads = checks.padding_pairs("test", padding, rank, 0)
    if any(b != a or b > k // 2 for (b, a), k in zip(pads, kernel_of(name))):
        return  # PyTorch pads both sides alike, by half of the kernel at most
    arguments = arguments | {"padding": tuple(b for b, _ in pads)}
    x = np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape).astype(np.float32)
    tensor = torch.from_numpy(x).requires_grad_()
    y, places = getattr(torch.nn.functional, f"max_pool{rank}d")(tensor, **arguments, return_indices=True)
    dy = small_integers(y.shape, np.float32)
    y.backward(torch.from_numpy(dy))
    got, got_places = of_rank("max_pool{}d", x)(in_order(x, order), **arguments, return_indices=True)
    np.testing.assert_array_equal(got, y.detach().numpy())
    np.testing.assert_array_equal(got_places, places.numpy())
    got = of_rank("max_pool{}d_backward", x)(in_order(dy, order), in_order(x, order), **arguments)
    np.testing.assert_array_equal(got, tensor.grad.numpy())
    if "dilation" not in arguments:
        average = getattr(torch.nn.functional, f"avg_pool{rank}d")(torch.from_numpy(x), **arguments)
        np.testing.assert_allclose(of_rank("avg_pool{}d", x)(in_order(x, order), **arguments), average, rtol=1e-5)
