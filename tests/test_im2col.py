"""im2col and col2im against the reference, and as adjoints of each other."""
import numpy as np
import pytest
from kernel_helpers import DTYPES, ORDERS, normal, small_integers
from reference_helpers import inner

import fastconv as fc
from fastconv import reference

# (shape, kernel size, arguments)
CASES = {
    "2d": ((2, 3, 9, 8), (3, 2), {}),
    "2d-strided": ((2, 3, 9, 8), 3, {"stride": 2, "padding": 1}),
    "2d-everything": ((1, 5, 11, 12), (3, 4), {"stride": (1, 3), "padding": ((2, -1), (0, 4)), "dilation": (2, 3)}),
    "2d-cropped": ((1, 2, 9, 9), 2, {"padding": ((-2, -1), (-1, 0))}),
    "2d-kernel-beyond-input": ((1, 2, 3, 3), 7, {"padding": 3}),
    "same": ((1, 2, 7, 6), 4, {"padding": "same", "stride": 2}),
    "1d": ((3, 2, 20), 5, {"padding": "valid", "stride": 4}),
    "3d": ((2, 2, 5, 6, 7), (2, 3, 2), {"stride": (1, 2, 3), "padding": 1}),
    "no-images": ((0, 2, 5, 5), 3, {}),
}
case = pytest.mark.parametrize("shape, kernel, arguments", CASES.values(), ids=CASES)


@case
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_against_the_reference(threads, shape, kernel, arguments, dtype, order):
    x = small_integers(shape, dtype, 0, order)
    cols = fc.im2col(x, kernel, **arguments)
    expected = reference.im2col(x, kernel, **arguments)
    assert cols.dtype == dtype and cols.flags.c_contiguous
    np.testing.assert_array_equal(cols, expected)
    cols = small_integers(expected.shape, dtype, 1)
    for given in (cols, np.asfortranarray(cols)):
        back = fc.col2im(given, shape, kernel, **arguments)
        assert back.dtype == dtype and back.flags.c_contiguous
        np.testing.assert_array_equal(back, reference.col2im(cols, shape, kernel, **arguments))


@case
def test_col2im_is_the_adjoint(shape, kernel, arguments):
    x = normal(shape, np.float64)
    cols = fc.im2col(x, kernel, **arguments)
    other = normal(cols.shape, np.float64, 1)
    assert inner(cols, other) == pytest.approx(inner(x, fc.col2im(other, shape, kernel, **arguments)), rel=1e-12)


def test_by_hand():
    x = np.arange(1.0, 5).reshape(1, 1, 4)
    np.testing.assert_array_equal(fc.im2col(x, 3, padding=1), [[[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 0]]])
    np.testing.assert_array_equal(fc.col2im(np.ones((1, 3, 4)), (1, 1, 4), 3, padding=1), [[[2, 3, 3, 2]]])


def test_any_strides():
    base = normal((2, 6, 9, 20), np.float32)
    for x in (base[:, ::2, ::-1, ::3], np.asfortranarray(base), np.broadcast_to(base[:1, :1], (2, 3, 9, 20)),
              np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(np.float32).reshape(base.shape)):
        np.testing.assert_array_equal(fc.im2col(x, 3, padding=1), reference.im2col(x, 3, padding=1))


def test_same_bits_on_any_number_of_threads(threads):
    cols = normal((3, 5 * 9, 64), np.float32)
    with fc.threads(1):
        alone = fc.col2im(cols, (3, 5, 8, 8), 3, padding=1)
    assert fc.col2im(cols, (3, 5, 8, 8), 3, padding=1).tobytes() == alone.tobytes()


def test_bad_arguments():
    x = normal((2, 3, 9, 8), np.float32)
    for call, error, message in (
            (lambda: fc.im2col(x.astype(int), 3), TypeError, "im2col: x: got dtype int64"),
            (lambda: fc.im2col(x[0, 0], 3), ValueError, "im2col: x: got 2 axes"),
            (lambda: fc.im2col(x, 0), ValueError, "im2col: kernel_size: got 0"),
            (lambda: fc.im2col(x, (3, 3, 3)), ValueError, "im2col: kernel_size: got 3 values"),
            (lambda: fc.im2col(x, 3.0), TypeError, "im2col: kernel_size"),
            (lambda: fc.im2col(x, 3, stride=0), ValueError, "im2col: stride: got 0"),
            (lambda: fc.im2col(x, 10), ValueError, "im2col: x: spatial axis 0"),
            (lambda: fc.im2col(x[:, :0], 3), ValueError, "im2col: x: got shape"),
            (lambda: fc.col2im(x, x.shape, 3), ValueError, r"col2im: cols: got shape .*; expected \(2, 27, 42\)"),
            (lambda: fc.col2im(x, (2, 3), 3), ValueError, "col2im: input_shape: got 2 axes"),
            (lambda: fc.col2im(x, 5, 3), TypeError, "col2im: input_shape")):
        with pytest.raises(error, match=message):
            call()
