"""Convolution by Fourier transforms against the reference: every instruction set, memory order, several threads."""
import numpy as np
import pytest
from conv_cases import check_algorithm, forget_choices, function
from kernel_helpers import DTYPES, ORDERS, Guarded, assert_close, in_order, normal

import fastconv as fc
from fastconv import planning_fft, reference

# (x shape, w shape, arguments): lanes are columns, tiles or groups; one slice of taps or several; one tile or several.
CASES = {
    "columns": ((2, 9, 150), (21, 9, 11), {"padding": 5}),
    "columns-many": ((1, 35, 61), (70, 35, 9), {"padding": ((8, 0),)}),
    "columns-few-channels": ((2, 3, 90), (17, 3, 20), {}),
    "columns-rows": ((2, 17, 7, 23), (18, 17, 4, 9), {"padding": ((0, 3), (2, 6))}),
    "tiles": ((2, 1, 700), (1, 1, 70), {"padding": ((69, 0),)}),
    "tiles-images": ((2, 2, 13, 75), (1, 2, 5, 8), {"padding": (2, 4)}),
    "tiles-grouped": ((1, 2, 260), (2, 1, 33), {"groups": 2, "padding": 40}),
    "tiles-3d": ((1, 1, 4, 5, 40), (2, 1, 2, 3, 10), {"padding": (1, 1, 3)}),
    "groups": ((2, 35, 130), (35, 1, 40), {"groups": 35, "padding": 20}),
    "groups-images": ((2, 18, 15, 17), (18, 1, 13, 13), {"groups": 18, "padding": 6}),
    "groups-multiplied": ((1, 16, 9, 20), (48, 1, 3, 8), {"groups": 16, "padding": (1, 0)}),
    "groups-of-several": ((2, 40, 50), (20, 2, 9), {"groups": 20}),
    "dense-groups": ((1, 27, 44), (60, 9, 12), {"groups": 3, "padding": 6}),
    "wider-than-image": ((3, 18, 9), (18, 1, 31), {"groups": 18, "padding": 15}),
    "cropped": ((1, 4, 80), (9, 4, 10), {"padding": ((-3, 2),)}),
    "reflect": ((1, 20, 60), (20, 1, 24), {"groups": 20, "padding": 23, "padding_mode": "reflect"}),
    "circular": ((1, 3, 6, 40), (17, 3, 3, 9), {"padding": (7, 50), "padding_mode": "circular"}),
    "replicate": ((1, 1, 90), (1, 1, 16), {"padding": 15, "padding_mode": "replicate"}),
}


@pytest.fixture(params=[None, 16, 32], ids=["size", "size16", "size32"])
def most(request, monkeypatch):
    """The largest transform: with small ones, taps fall into slices."""
    if request.param:
        monkeypatch.setattr(planning_fft, "MOST_SIZE", request.param)
    forget_choices()
    yield request.param
    monkeypatch.undo()
    forget_choices()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("x_shape, w_shape, arguments", CASES.values(), ids=CASES)
def test_fft(isa, threads, most, x_shape, w_shape, arguments, order):
    check_algorithm(x_shape, w_shape, arguments, "fft", order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", ["columns-rows", "tiles", "groups-images"])
def test_small_boxes(isa, monkeypatch, case, order):
    """Many work items, parts of weight gradients and boxes that hold less than others."""
    monkeypatch.setattr(planning_fft, "SPECTRA_BYTES", 30_000)
    monkeypatch.setattr(planning_fft, "ITEMS", 64)
    forget_choices()
    check_algorithm(*CASES[case], "fft", order)
    monkeypatch.undo()
    forget_choices()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "silu", "tanh"])
def test_activations_and_dtypes(isa, dtype, activation):
    x_shape, w_shape, arguments = CASES["columns"]
    x, w, b = (normal(shape, dtype, i) for i, shape in enumerate((x_shape, w_shape, w_shape[:1])))
    got = fc.conv1d(x, w, b, activation=activation, algorithm="fft", **arguments)
    assert_close(got, reference.conv1d(x, w, b, activation=activation, **arguments), w[0].size)


@pytest.mark.parametrize("case", ["columns", "tiles", "groups"])
def test_accumulated_weight_gradients(isa, case):
    x_shape, w_shape, arguments = CASES[case]
    x, w = normal(x_shape, np.float32), normal(w_shape, np.float32, 1)
    dy = normal(fc.conv1d(x, w, **arguments).shape, np.float32, 2)
    _, dw, db = fc.conv1d_backward(dy, x, w, need=(False, True, True), algorithm="fft", **arguments)
    out = None, np.ones_like(dw), np.ones_like(db)
    fc.conv1d_backward(dy, x, w, need=(False, True, True), algorithm="fft", out=out, accumulate=True, **arguments)
    np.testing.assert_array_equal(out[1], dw + 1)
    np.testing.assert_allclose(out[2], db + 1, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_transposed(isa, threads, order):
    x, w, b = normal((2, 18, 50), np.float32, 0, order), normal((18, 5, 12), np.float32, 1), normal((5,), np.float32, 2)
    expected = reference.conv_transpose1d(x, w, b, padding=3)
    out = Guarded(expected.shape, np.float32, order)
    fc.conv_transpose1d(x, w, b, padding=3, algorithm="fft", out=out.array)
    assert out.intact()
    assert_close(out.array, expected, w[:, 0].size)
    dy = normal(expected.shape, np.float32, 3, order)
    gradients = fc.conv_transpose1d_backward(dy, x, w, padding=3, algorithm="fft")
    for got, wanted in zip(gradients, reference.conv_transpose1d_backward(dy, x, w, padding=3)):
        assert_close(got, wanted, 4 * dy.size)


@pytest.mark.parametrize("case", CASES)
def test_bits_depend_on_neither_threads_nor_the_split_of_the_batch(case):
    (n, *x_shape), w_shape, arguments = CASES[case]
    x, w = normal((5, *x_shape), np.float32), normal(w_shape, np.float32, 1)
    conv, gradient, backward = (function(name, w_shape) for name in (
        "conv{}d", "conv{}d_backward_input", "conv{}d_backward"))
    y = conv(x, w, algorithm="fft", **arguments)
    parts = [conv(x[i:i + 2], w, algorithm="fft", **arguments) for i in (0, 2, 4)]
    np.testing.assert_array_equal(y, np.concatenate(parts))
    dx = gradient(y, w, x.shape, algorithm="fft", **arguments)
    parts = [gradient(y[i:i + 2], w, x[i:i + 2].shape, algorithm="fft", **arguments) for i in (0, 2, 4)]
    np.testing.assert_array_equal(dx, np.concatenate(parts))
    results = [backward(y, x, w, algorithm="fft", num_threads=t, **arguments) for t in (1, 2, 3, 7)]
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("order", ORDERS)
def test_values_that_are_not_finite_stay_within_their_tiles(isa, order):
    x, w = normal((1, 17, 200), np.float32), normal((20, 17, 12), np.float32, 1)
    good = fc.conv1d(in_order(x, order), w, algorithm="fft")
    x[0, 5, 90] = np.inf
    y = fc.conv1d(in_order(x, order), w, algorithm="fft")
    spoilt = ~np.isfinite(y[0]).any(axis=0)
    tile = planning_fft.fft_tile(12)
    assert spoilt[79:91].all() and spoilt.sum() <= 3 * tile.results
    np.testing.assert_array_equal(y[:, :, ~spoilt], good[:, :, ~spoilt])


def test_packed_weights_serve_any_size():
    w = normal((20, 6, 31), np.float32)
    packed = fc.pack_weight(w, algorithm="fft")
    for size in (31, 40, 3000):
        x = normal((2, 6, size), np.float32, 1)
        np.testing.assert_array_equal(fc.conv1d(x, packed), fc.conv1d(x, w, algorithm="fft"))


@pytest.mark.parametrize("order", ORDERS)
def test_weights_packed_for_any_algorithm_serve_it(order):
    w = normal((20, 16, 70), np.float32)
    packed = fc.pack_weight(w)
    x = normal((2, 16, 2000), np.float32, 1, order)
    assert packed.algorithm == "auto"
    assert fc.explain_conv(x.shape, w.shape, memory_order=order).algorithm == "fft"
    np.testing.assert_array_equal(fc.conv1d(x, packed), fc.conv1d(x, w))
    for algorithm in ("direct", "winograd1d", "fft"):
        expected = fc.conv1d(x, w, algorithm=algorithm)
        np.testing.assert_array_equal(fc.conv1d(x, packed, algorithm=algorithm), expected)


def test_what_it_serves():
    for x_shape, w_shape, arguments in CASES.values():
        for op in ("forward", "backward_input", "backward_weight"):
            assert "fft" in fc.conv_algorithms(x_shape, w_shape, op=op, **arguments)
    for arguments in ({"stride": 2}, {"dilation": 2}):
        assert "fft" not in fc.conv_algorithms((1, 4, 99), (4, 4, 20), **arguments)
        with pytest.raises(ValueError, match="'fft' can't serve"):
            fc.conv1d(np.ones((1, 4, 99)), np.ones((4, 4, 20)), algorithm="fft", **arguments)
    assert "fft" not in fc.conv_algorithms((1, 4, 9, 9), (4, 4, 9, 7))


def test_scratch_does_not_grow_with_the_signal():
    plans = [fc.explain_conv((1, 16, size), (16, 16, 500), algorithm="fft", num_threads=2)
             for size in (10_000, 100_000, 10_000_000)]
    assert plans[-1].workspace <= 1.1 * plans[1].workspace
    assert "transforms of 1024 elements" in plans[0].reason
