"""Every algorithm keeps its guaranteed error bound (docs/promises.md) on operands that are made to break it.

With u the unit roundoff and |.| taken of every element, a result that sums L products is off by at most

    direct, folded:      (L + 8) u  sum |a| |b|
    winograd of m x m:   (C + 24) k_m^2 u  sum over channels (or, for dw, pixels) of (max |a|) (sum |b|)

where a is the operand that is transformed in patches (x, or dy for dx), and max |a| its largest element in the patches
that hold the result; sum |b| are the weights of the channel, or |dy|. C is the length of the sums between the
transforms: channels, or tiles for dw. k_m is what the transforms can amplify by along one axis: 4 and 12.8.
"""
import numpy as np
import pytest
from kernel_helpers import ORDERS, in_order

import fastconv as fc
from fastconv import reference

U = 2.0**-24
ALGORITHMS = {"direct": None, "folded": None, "winograd2": 2, "winograd4": 4}

# (x shape, w shape, groups)
SHAPES = {"3x3": ((2, 24, 13, 14), (37, 24, 3, 3), 1), "groups": ((2, 28, 12, 13), (28, 4, 3, 3), 7),
          "depthwise": ((2, 21, 12, 21), (21, 1, 3, 3), 21)}


def matrices(m):
    """|A^T|, |G| and |B^T| of F(m, 3) as csrc/kernels/winograd.h has them."""
    if m == 2:
        return (np.array([[1, .5, .5, 0], [0, .5, .5, 1]]),
                np.array([[1, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 1]]),
                np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]]))
    a, b = 11 / 16, 3 / 2
    na, nb = 1 / (2 * a * a * abs(a * a - b * b)), 1 / (2 * b * b * abs(a * a - b * b))
    power = np.arange(4)[:, None]
    outputs = np.hstack([[[1 / (a * b)**2], [0], [0], [0]], na * a**power, na * a**power, nb * b**power, nb * b**power,
                         [[0], [0], [0], [1]]])
    weights = np.array([[1, 0, 0], *2 * [[1, a, a * a]], *2 * [[1, b, b * b]], [0, 0, 1]])
    ends = (a * b)**2, a * a + b * b
    inputs = np.array([[ends[0], 0, ends[1], 0, 1, 0], *2 * [[0, a * b * b, b * b, a, 1, 0]],
                       *2 * [[0, b * a * a, a * a, b, 1, 0]], [0, ends[0], 0, ends[1], 0, 1]])
    return outputs, weights, inputs


def amplification(m):
    """k_m: the most that |A^T| (|G| |.|)(|B^T| 1) makes of one weight, in any output."""
    outputs, weights, inputs = matrices(m)
    return np.einsum("ip,pr,pa->ir", outputs, weights, inputs).max()


def adversarial(kind, shape, seed):
    """Values whose sums cancel to a millionth, span 18 decimal orders, or are all small beside one."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape)
    if kind == "cancellation" and shape[1] > 1:
        a[:, 1::2] = -a[:, ::2][:, :shape[1] // 2] * (1 + 1e-6 * rng.standard_normal(a[:, 1::2].shape))
    if kind == "range":
        a = np.sign(a) * 10.0**rng.uniform(-9, 9, shape)
    if kind == "pixel":
        a[0, shape[1] // 2, shape[2] // 2, shape[3] // 2] = 1e9
    return a.astype(np.float32)


def largest_near(a, reach):
    """The largest |a| up to `reach` positions away, per channel: of every patch that holds the position."""
    padded = np.pad(np.abs(a).astype(np.float64), ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1), axis=(2, 3))
    return windows.max(axis=(4, 5))


def allowed(op, m, x, w, dy, groups):
    """The bound of every element of the result."""
    x, w, dy = (np.abs(a).astype(np.float64) for a in (x, w, dy))
    size = 3
    if m:
        size, w = 1, w.sum(axis=(2, 3), keepdims=True)
        x, dy = largest_near(x, m + 2), largest_near(dy, m + 2) if op == "dx" else dy
    options = {"padding": size // 2, "groups": groups}
    if op == "forward":
        length, sums = w.shape[1], reference.conv2d(x, w, **options)
    elif op == "dx":
        length, sums = w.shape[0] // groups, reference.conv2d_backward_input(dy, w, x.shape, **options)
    else:
        length = dy.shape[0] * (-(-dy.shape[2] // (m or 1))) * (-(-dy.shape[3] // (m or 1)))
        sums = reference.conv2d_backward_weight(dy, x, (*w.shape[:2], size, size), **options)
    if m:
        return (length + 24) * amplification(m)**2 * U * sums
    return ((length if op == "dw" else 9 * length) + 8) * U * sums


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["normal", "cancellation", "range", "pixel"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_guaranteed_bound(isa, algorithm, shape, kind, order):
    x_shape, w_shape, groups = SHAPES[shape]
    m, options = ALGORITHMS[algorithm], {"padding": 1, "groups": groups}
    x, w = adversarial(kind, x_shape, 0), adversarial("range" if kind == "range" else "normal", w_shape, 1)
    dy = adversarial(kind, (x_shape[0], w_shape[0], *x_shape[2:]), 2)
    if kind == "cancellation":
        w[:, 1::2] = w[:, ::2][:, :w.shape[1] // 2]
    wide = [a.astype(np.float64) for a in (x, w, dy)]
    cases = {
        "forward": (reference.conv2d(wide[0], wide[1], **options),
                    lambda: fc.conv2d(in_order(x, order), w, algorithm=algorithm, **options)),
        "dx": (reference.conv2d_backward_input(wide[2], wide[1], x_shape, **options),
               lambda: fc.conv2d_backward_input(in_order(dy, order), w, x_shape, algorithm=algorithm, **options)),
        "dw": (reference.conv2d_backward_weight(wide[2], wide[0], w_shape, **options),
               lambda: fc.conv2d_backward_weight(in_order(dy, order), in_order(x, order), w_shape, algorithm=algorithm,
                                                 **options)),
    }
    if algorithm == "folded":
        del cases["dw"]
    for op, (exact, compute) in cases.items():
        share = (np.abs(compute() - exact) / (allowed(op, m, x, w, dy, groups) + 1e-300)).max()
        assert share <= 1, f"{op}: the error is {share:.2f} times what is allowed"


def test_amplification_is_as_documented():
    assert amplification(2) == 4
    assert round(amplification(4), 2) == 12.78
