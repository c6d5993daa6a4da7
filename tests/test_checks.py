"""Wrong arguments of the convolution functions: one clear error each, and inputs of every kind."""
import numpy as np
import pytest
from kernel_helpers import normal

import fastconv as fc
from fastconv import checks

X, W = normal((2, 4, 8, 9), np.float32), normal((6, 4, 3, 3), np.float32)


@pytest.mark.parametrize("value, suggestion", [
    (X.astype(np.int32), "int32"), (X.astype(bool), "bool"), (X.astype(np.float16), "float16"),
    (X.astype(np.complex64), "complex64"), (X.astype(object), "object"), (X.astype(">f4"), ">f4"),
    (np.ma.masked_array(X), "masked")])
def test_dtypes_are_named(value, suggestion):
    with pytest.raises(TypeError, match=f"conv2d: x: .*{suggestion}"):
        fc.conv2d(value, W)
    with pytest.raises(TypeError, match=f"conv2d: w: .*{suggestion}"):
        fc.conv2d(X, value[:, :, :3, :3])


def test_mixed_dtypes_name_both():
    with pytest.raises(TypeError, match="float32.*float64"):
        fc.conv2d(X, W.astype(np.float64))
    with pytest.raises(TypeError, match="b is float64"):
        fc.conv2d(X, W, np.zeros(6))


@pytest.mark.parametrize("arguments, message", [
    ({"stride": 0}, "stride: got 0"), ({"stride": (1, 2, 3)}, "stride: got 3 values"),
    ({"stride": (1, -1)}, "stride: got -1"), ({"dilation": 0}, "dilation"), ({"groups": 3}, "groups: got 3"),
    ({"groups": 0}, "groups"), ({"padding": "full"}, "padding: got 'full'"), ({"padding": (1, 2, 3)}, "padding"),
    ({"padding": ((1, 2, 3), 1)}, "padding"), ({"padding": -5}, "spatial axis 0"), ({"dilation": 9}, "spans 19"),
    ({"padding_mode": "mirror"}, "padding_mode: got 'mirror'"), ({"activation": "gelu"}, "activation: got 'gelu'"),
    ({"algorithm": "fastest"}, "algorithm: got 'fastest'"), ({"b": np.zeros(5, np.float32)}, r"b: got shape \(5,\)"),
    ({"num_threads": 0}, "num_threads")])
def test_wrong_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        fc.conv2d(X, W, **arguments)


@pytest.mark.parametrize("arguments, message", [
    ({"stride": 1.5}, "stride"), ({"padding": 1.0}, "padding"), ({"padding": (None, 1)}, "padding"),
    ({"groups": True}, "groups"), ({"out": [1, 2]}, "out: got list"), ({"num_threads": "two"}, "num_threads")])
def test_wrong_types(arguments, message):
    with pytest.raises(TypeError, match=message):
        fc.conv2d(X, W, **arguments)


def test_wrong_shapes():
    for call, message in (
            (lambda: fc.conv2d(X[0, 0], W), "x: got 2 axes"), (lambda: fc.conv2d(X, W[0]), "w: got 3 axes"),
            (lambda: fc.conv2d(X, W[:, :2]), r"expected \(K, 4, \.\.\.\)"),
            (lambda: fc.conv2d(X[:, :, :0], W), "no zero extent"), (lambda: fc.conv2d(X, W[:0]), "no zero extent"),
            (lambda: fc.conv2d_backward(X, X, W), r"dy: got shape \(2, 4, 8, 9\); expected \(2, 6, 6, 7\)"),
            (lambda: fc.conv2d_backward_input(X, W, (2, 4)), "input_shape"),
            (lambda: fc.conv2d_backward_weight(X, X, (6, 4, 3)), "weight_shape"),
            (lambda: fc.conv_transpose2d(X, W), r"expected \(4, K // groups, ...\)"),
            (lambda: fc.conv_transpose2d(X, W[:4], output_padding=1), "output_padding"),
            (lambda: fc.conv_transpose2d(X, W[:4], padding=9), "extent")):
        with pytest.raises(ValueError, match=message):
            call()


def test_out_is_checked():
    good = fc.conv2d(X, W)
    readonly = good.copy()
    readonly.flags.writeable = False
    overlapping = np.zeros((2, 10, 8, 9), np.float32)
    for out, error, message in ((good[:, :5].copy(), ValueError, "shape"),
                                (good.astype(np.float64), TypeError, "float64"),
                                (readonly, ValueError, "read-only"),
                                (np.broadcast_to(np.float32(0), good.shape), ValueError, "read-only")):
        with pytest.raises(error, match=f"conv2d: out: .*{message}"):
            fc.conv2d(X, W, out=out)
    x = overlapping[:, :4]
    with pytest.raises(ValueError, match="shares memory with x"):
        fc.conv2d(x, W, padding=1, out=overlapping[:, 3:9])
    fc.conv2d(x, W, padding=1, out=overlapping[:, 4:])
    with pytest.raises(ValueError, match="dw"):
        out = np.zeros(W.shape, np.float32)
        fc.conv2d_backward(good, X, W, out=(None, out, out.reshape(-1)[:6]))


class ArrayLike:
    def __array__(self, dtype=None, copy=None):
        return X


class DLPackOnly:
    def __dlpack__(self, **kwargs):
        return X.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return X.__dlpack_device__()


def test_array_likes_are_welcome():
    expected = fc.conv2d(X, W)
    for x in (ArrayLike(), DLPackOnly(), X.view(type("Sub", (np.ndarray,), {}))):
        np.testing.assert_array_equal(fc.conv2d(x, W), expected)
    signal = [[[1.0, 2.0, 4.0]]]
    np.testing.assert_array_equal(fc.conv1d(signal, [[[1.0, -1.0]]]), [[[-1.0, -2.0]]])


def test_unbatched():
    y = fc.conv2d(X[0], W, padding=1)
    np.testing.assert_array_equal(y, fc.conv2d(X[:1], W, padding=1)[0])
    dx, dw, db = fc.conv2d_backward(y, X[0], W, padding=1)
    assert dx.shape == X[0].shape
    out = np.empty_like(y)
    assert fc.conv2d(X[0], W, padding=1, out=out) is out
    with pytest.raises(ValueError, match="batch axis"):
        fc.conv2d_backward(y[None], X[0], W, padding=1)


def test_inputs_are_never_changed():
    x, w, b = X.copy(), W.copy(), np.arange(6, dtype=np.float32)
    for a in (x, w, b):
        a.flags.writeable = False
    y = fc.conv2d(x, w, b, padding=1, activation="relu")
    fc.conv2d_backward(y, x, w, padding=1)
    np.testing.assert_array_equal(x, X)


def test_memory_order_conversions():
    last = fc.channels_last(X)
    assert checks.is_channels_last(last) and fc.channels_last(last) is last
    np.testing.assert_array_equal(last, X)
    first = fc.channels_first(last)
    assert first.flags.c_contiguous and fc.channels_first(X) is X
    np.testing.assert_array_equal(first, X)
    one = np.zeros((2, 1, 3, 4), np.float32)
    assert not checks.is_channels_last(one) and checks.is_channels_last(fc.channels_last(one))
    assert fc.conv2d(fc.channels_last(one), np.ones((5, 1, 1, 1), np.float32)).strides[1] == 4
    assert not checks.is_channels_last(fc.channels_first(fc.channels_last(one)))


def test_small_examples():
    image = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], np.float64)
    edge = np.array([[[[1, 0], [0, -1]]]], np.float64)
    np.testing.assert_array_equal(fc.conv2d(image, edge), [[[[-4, -4], [-4, -4]]]])
    np.testing.assert_array_equal(fc.conv2d(image, edge, stride=2, padding=1), [[[[-1, -3], [-7, -4]]]])
    np.testing.assert_array_equal(fc.conv1d(image[0, 0][None], np.ones((1, 3, 1))), [[[12, 15, 18]]])
    np.testing.assert_array_equal(fc.conv_transpose2d(image[:, :, :1, :2], edge, stride=2),
                                  [[[[1, 0, 2, 0], [0, -1, 0, -2]]]])
    np.testing.assert_array_equal(fc.conv1d(image[0, 0, :1][None], np.ones((1, 1, 2)), padding="same"), [[[3, 5, 3]]])
