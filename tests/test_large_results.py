"""Results larger than the caches, which are stored past them: the same bits as in smaller pieces."""

import numpy as np
import pytest

import fastconv as fc

LARGE = 24 << 20  # bytes: FC_PAST_BYTES


@pytest.mark.parametrize("name", ["relu", "relu6"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_activations(isa, name, dtype, offset):
    """At any place in memory: what lies before the first whole vector, and behind the last, is there as well."""
    size = LARGE // dtype().itemsize + 37
    x = np.random.default_rng(0).normal(3, 3, size).astype(dtype)
    x[[0, 17, -1]] = np.nan, -np.inf, np.nan
    memory = np.full(size + 64, 7, dtype)
    out = memory[offset : offset + size]
    function = getattr(fc, name)
    assert function(x, out=out) is out
    parts = [function(part) for part in np.array_split(x, 5)]
    np.testing.assert_array_equal(out.view(np.uint8), np.concatenate(parts).view(np.uint8))
    assert (memory[:offset] == 7).all() and (memory[offset + size :] == 7).all()


@pytest.mark.parametrize("width", [1600, 1597])
@pytest.mark.parametrize("kernels", [1, 5])
def test_filters(isa, width, kernels):
    rng = np.random.default_rng(0)
    height = -(-LARGE // (4 * width * kernels))
    image, bank = rng.random((height, width), dtype=np.float32), rng.normal(size=(kernels, 3, 3))
    y = fc.filter_image(image, bank)
    assert y.nbytes >= LARGE
    cut = height // 2
    np.testing.assert_array_equal(y[:, : cut - 1], fc.filter_image(image[:cut], bank)[:, :-1])
    np.testing.assert_array_equal(y[:, cut + 1 :], fc.filter_image(image[cut:], bank)[:, 1:])


@pytest.mark.parametrize("channels", [64, 65])
@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_winograd(isa, channels, activation):
    rng = np.random.default_rng(0)
    x = fc.channels_last(rng.normal(size=(26, 16, 62, 62)).astype(np.float32))
    w = rng.normal(size=(channels, 16, 3, 3)).astype(np.float32)
    options = {"padding": 1, "activation": activation, "algorithm": "winograd4"}
    y = fc.conv2d(x, w, **options)
    assert y.nbytes >= LARGE
    for n in (0, 13, 25):
        np.testing.assert_array_equal(y[n], fc.conv2d(x[n : n + 1], w, **options)[0])
