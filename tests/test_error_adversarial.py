"""Every algorithm keeps its guaranteed error bound (docs/promises.md) on operands that are made to break it.

With u the unit roundoff and |.| taken of every element, a result that sums L products is off by at most

    direct, folded:      (L + 8) u  sum |a| |b|
    winograd2, 4, 1d:    (C + 24) k u  sum over channels (or, for dw, pixels) of (max |a|) (sum |b|)

where a is the operand that is transformed in patches (x, or dy for dx), and max |a| its largest element in the patches
that hold the result; sum |b| are the weights of the channel, or |dy|. C is the length of the sums between the
transforms: channels times patches a result needs, or tiles for dw. k is what the transforms can amplify by: along one
axis 4, 12.8 and 39.6, twice with the first two.

    fft:                 (C + 4 (sqrt(N) + 3) log2(N)) u  sum over channels and slices (or, for dw, tiles) of |a| |b|

where N is the size of the transforms and |.| the Euclidean norm: of a patch of N elements that holds the result, and of
a slice of the channel's row of weights, or of the tile of dy.
"""
import numpy as np
import pytest
from kernel_helpers import ORDERS, in_order

import fastconv as fc
from fastconv import planning_fft, reference

U = 2.0**-24
ALGORITHMS = ("direct", "folded", "winograd2", "winograd4", "winograd1d", "fft")

# (x shape, w shape, groups)
SHAPES = {"3x3": ((2, 24, 13, 14), (37, 24, 3, 3), 1), "groups": ((2, 28, 12, 13), (28, 4, 3, 3), 7),
          "depthwise": ((2, 21, 12, 21), (21, 1, 3, 3), 21), "1x5": ((2, 24, 3, 39), (37, 24, 1, 5), 1),
          "3x9": ((1, 18, 9, 31), (20, 18, 3, 9), 1), "depthwise 5x21": ((2, 21, 7, 50), (21, 1, 5, 21), 21),
          "one channel 1x41": ((1, 1, 2, 300), (1, 1, 1, 41), 1)}


def matrices(pairs, m, r):
    """|A^T|, |G| and |B^T| of F(m, r) with the points 0, these and their negatives, and infinity."""
    points = [0, *pairs, *(-p for p in pairs)]
    others = [[q for q in points if q != p] for p in points]
    divisors = [np.prod([p - q for q in rest]) for p, rest in zip(points, others)]
    outputs = np.array([[p**i / d for p, d in zip(points, divisors)] + [i == m - 1] for i in range(m)])
    weights = np.array([[p**j for j in range(r)] for p in points] + [[j == r - 1 for j in range(r)]])
    inputs = np.array([[*np.poly(rest)[::-1], 0] for rest in others] + [np.poly(points)[::-1]])
    return np.abs(outputs), np.abs(weights), np.abs(inputs)


def amplification(algorithm, taps=3):
    """The most that |A^T| (|G| |.|)(|B^T| 1) makes of one weight, in any output, along all axes."""
    pairs, m, axes = {"winograd2": ((1,), 2, 2), "winograd4": ((11 / 16, 3 / 2), 4, 2),
                      "winograd1d": ((1 / 2, 1, 2), 9 - taps, 1)}[algorithm]
    outputs, weights, inputs = matrices(pairs, m, taps)
    return np.einsum("ip,pr,pa->ir", outputs, weights, inputs).max()**axes


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


def norm_near(a, reach):
    """The norm of a row's elements up to `reach` positions away: at least that of any patch that holds the position."""
    padded = np.pad(np.abs(a).astype(np.float64)**2, ((0, 0), (0, 0), (0, 0), (reach, reach)))
    return np.sqrt(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=3).sum(axis=4))


def allowed_fft(op, x, w, dy, groups):
    """The same bound for "fft", of sums of products of norms along rows; in dw, Cauchy's over all tiles of a row.

    A row's element lies in two patches at most.
    """
    tile = planning_fft.fft_tile(w.shape[3])
    near = {name: norm_near(a, tile.size) for name, a in (("x", x), ("dy", dy))}
    rows = np.sqrt((w.astype(np.float64)**2).sum(axis=3, keepdims=True))
    options = {"padding": (w.shape[2] // 2, 0), "groups": groups}
    if op == "forward":
        length, sums = w[0, :, :, 0].size * tile.slices, reference.conv2d(near["x"], rows, **options)
    elif op == "dx":
        length = w[:, 0, :, 0].size // groups * tile.slices
        sums = reference.conv2d_backward_input(near["dy"], rows, x.shape, **options)
    else:
        whole_x, whole_dy = (np.sqrt((a.astype(np.float64)**2).sum(axis=3, keepdims=True)) for a in (x, dy))
        length = dy.shape[0] * dy.shape[2] * -(-dy.shape[3] // tile.results)
        sums = np.sqrt(2) * reference.conv2d_backward_weight(whole_dy, whole_x, rows.shape, **options)
    return (length + 4 * (np.sqrt(tile.size) + 3) * np.log2(tile.size)) * U * sums


def allowed(op, algorithm, x, w, dy, groups):
    """The bound of every element of the result."""
    if algorithm == "fft":
        return allowed_fft(op, x, w, dy, groups)
    x, w, dy = (np.abs(a).astype(np.float64) for a in (x, w, dy))
    kernel, slices = w.shape[2:], 1
    if algorithm.startswith("winograd"):
        line = 1, {3: 6, 5: 4, 9: 4, 21: 6, 41: 5}[kernel[1]]
        rows, columns = {"winograd2": (2, 2), "winograd4": (4, 4)}.get(algorithm, line)
        if rows == 1:
            slices = kernel[0] * -(-kernel[1] // (9 - columns))
        x, dy = (largest_near(a, max(kernel) + columns) for a in (x, dy)) if op == "dx" else (
            largest_near(x, max(kernel) + columns), dy)
        w = w.sum(axis=(2, 3), keepdims=True)
        length = {"forward": slices * w.shape[1], "dx": slices * w.shape[0] // groups,
                  "dw": dy.shape[0] * -(-dy.shape[2] // rows) * -(-dy.shape[3] // columns)}[op]
        factor = (length + 24) * amplification(algorithm, 9 - columns if rows == 1 else 3)
    else:
        length = {"forward": w[0].size, "dx": w[:, 0].size // groups, "dw": dy[:, 0].size}[op]
        factor = length + 8
    options = {"padding": tuple(r // 2 for r in w.shape[2:]), "groups": groups}
    if op == "forward":
        sums = reference.conv2d(x, w, **options)
    elif op == "dx":
        sums = reference.conv2d_backward_input(dy, w, x.shape, **options)
    else:
        sums = reference.conv2d_backward_weight(dy, x, w.shape, **options)
    return factor * U * sums


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["normal", "cancellation", "range", "pixel"])
@pytest.mark.parametrize("shape, algorithm", [
    (name, algorithm) for name, (x_shape, w_shape, groups) in SHAPES.items() for algorithm in ALGORITHMS
    if algorithm in fc.conv_algorithms(x_shape, w_shape, padding=tuple(r // 2 for r in w_shape[2:]), groups=groups)])
def test_guaranteed_bound(isa, algorithm, shape, kind, order):
    x_shape, w_shape, groups = SHAPES[shape]
    options = {"padding": tuple(r // 2 for r in w_shape[2:]), "groups": groups}
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
        share = (np.abs(compute() - exact) / (allowed(op, algorithm, x, w, dy, groups) + 1e-300)).max()
        assert share <= 1, f"{op}: the error is {share:.2f} times what is allowed"


def test_amplification_is_as_documented():
    assert amplification("winograd2") == 4**2
    assert round(amplification("winograd4")**0.5, 2) == 12.78
    assert round(max(amplification("winograd1d", taps) for taps in range(3, 8)), 1) == 39.6
