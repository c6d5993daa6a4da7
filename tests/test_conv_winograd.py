"""Every algorithm against the reference on layers that Winograd can serve: 3x3 kernels, and rows of taps."""
import numpy as np
import pytest
from conv_cases import check_algorithm
from kernel_helpers import ORDERS, normal

import fastconv as fc
from fastconv._kernels import _runtime

# 3x3, stride 1: (x shape, out-channels, arguments). The last two have weights too large to stay transformed.
WINOGRAD_CASES = {
    "one-row-of-outputs": ((2, 18, 3, 9), 20, {}),
    "one-tile": ((1, 16, 2, 2), 16, {"padding": 1}),
    "tails": ((2, 17, 13, 11), 33, {"padding": 1}),
    "few-channels": ((1, 3, 9, 10), 5, {"padding": ((0, 2), (1, 0))}),
    "groups": ((2, 24, 8, 9), 36, {"groups": 2, "padding": 1}),
    "wide": ((1, 8, 5, 300), 20, {"padding": 1}),
    "reflect": ((1, 8, 7, 6), 16, {"padding": 2, "padding_mode": "reflect"}),
    "cropped": ((1, 8, 12, 12), 16, {"padding": ((-2, 1), (0, -3))}),
    "dilated": ((2, 17, 13, 19), 20, {"padding": (1, 4), "dilation": (2, 3)}),
    "residues-without-results": ((1, 9, 6, 21), 33, {"padding": (5, 0), "dilation": (7, 9), "groups": 1}),
    "dilated-width": ((2, 24, 7, 40), 36, {"padding": 1, "dilation": (1, 2), "groups": 2}),
    "large-weights": ((1, 210, 9, 10), 150, {"padding": 1}),
    "few-tiles": ((1, 150, 7, 6), 141, {"padding": 1}),
    "few-tiles-batch": ((2, 141, 4, 3), 150, {"padding": 1}),
    "few-tiles-groups": ((1, 280, 5, 4), 300, {"groups": 2, "padding": (1, 0)}),
    "few-tiles-reflect": ((1, 150, 4, 4), 141, {"padding": 1, "padding_mode": "reflect"}),
    "large-weights-batch": ((3, 150, 14, 14), 200, {"padding": 1}),
    "3-d": ((2, 17, 5, 9, 10), 20, {"padding": 1}),
    "3-d-deep": ((2, 9, 12, 6, 5), 24, {"padding": (3, 1, 1)}),
    "3-d-groups": ((1, 24, 6, 9, 8), 36, {"groups": 2, "padding": (0, 1, 0)}),
    "3-d-dilated": ((2, 12, 9, 10, 9), 20, {"padding": (1, 2, 2), "dilation": (3, 1, 2)}),
    "3-d-replicate": ((1, 8, 3, 7, 6), 16, {"padding": (2, 1, 2), "padding_mode": "replicate"}),
    "3-d-cropped": ((1, 8, 9, 12, 12), 16, {"padding": ((-2, 1), (0, -3), 1)}),
    "3-d-large-weights": ((2, 150, 4, 9, 10), 150, {"padding": 1}),
}


# (x shape, w shape, arguments): rows of taps, in one slice and in several, the last of which may be shorter.
LINE_CASES = {
    "3-taps": ((2, 18, 50), (20, 18, 3), {}),
    "one-result": ((1, 16, 5), (16, 16, 5), {}),
    "4-taps": ((3, 17, 31), (33, 17, 4), {"padding": ((0, 3),)}),
    "7-taps": ((2, 33, 40), (24, 33, 7), {"padding": 3}),
    "9-taps": ((2, 20, 77), (70, 20, 9), {"padding": 4}),
    "15-taps-cropped": ((1, 24, 90), (18, 24, 15), {"padding": ((-2, 9),)}),
    "groups": ((2, 24, 41), (36, 12, 5), {"groups": 2, "padding": 2}),
    "long": ((1, 9, 900), (20, 9, 5), {"padding": 2}),
    "dilated": ((2, 17, 60), (20, 17, 9), {"padding": 7, "dilation": 3}),
    "residues-without-results": ((1, 9, 30), (33, 9, 4), {"padding": 1, "dilation": 9}),
    "reflect": ((1, 8, 23), (16, 8, 9), {"padding": 4, "padding_mode": "reflect"}),
    "large-weights": ((3, 210, 20), (150, 210, 9), {"padding": 4}),
    "few-tiles": ((1, 150, 7), (141, 150, 5), {"padding": 2}),
    "5x5": ((2, 17, 13, 11), (33, 17, 5, 5), {"padding": 2}),
    "5x5-large-weights": ((2, 150, 12, 27), (70, 150, 5, 5), {"padding": 2}),
    "2x9-dilated": ((2, 18, 9, 30), (20, 18, 2, 9), {"padding": (1, 4), "dilation": (2, 1)}),
    "7x7-replicate": ((1, 8, 9, 12), (16, 8, 7, 7), {"padding": 3, "padding_mode": "replicate"}),
    "3-d": ((1, 12, 5, 7, 11), (20, 12, 2, 3, 5), {"padding": (1, 1, 2)}),
}


@pytest.mark.parametrize("x_shape, k, arguments", WINOGRAD_CASES.values(), ids=WINOGRAD_CASES)
@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd4", "winograd1d"])
@pytest.mark.parametrize("order", ORDERS)
def test_algorithms_of_3x3(isa, threads, x_shape, k, arguments, algorithm, order):
    w_shape = k, x_shape[1] // arguments.get("groups", 1), *[3] * (len(x_shape) - 2)
    check_algorithm(x_shape, w_shape, arguments, algorithm, order)


@pytest.mark.parametrize("x_shape, w_shape, arguments", LINE_CASES.values(), ids=LINE_CASES)
@pytest.mark.parametrize("order", ORDERS)
def test_winograd_along_rows(isa, threads, x_shape, w_shape, arguments, order):
    check_algorithm(x_shape, w_shape, arguments, "winograd1d", order)


@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd4", "winograd1d"])
def test_same_bits_on_any_number_of_threads(isa, algorithm):
    x, w = normal((3, 33, 20, 21), np.float32), normal((70, 33, 3, 3), np.float32, 1)
    dy = normal((3, 70, 20, 21), np.float32, 2)
    before = _runtime.set_serial_threshold(0)
    try:
        results = [(fc.conv2d(x, w, padding=1, algorithm=algorithm, num_threads=t),
                    fc.conv2d_backward_input(dy, w, x.shape, padding=1, algorithm=algorithm, num_threads=t),
                    *fc.conv2d_backward(dy, x, w, padding=1, algorithm=algorithm, num_threads=t)[1:])
                   for t in (1, 2, 3, 7)]
    finally:
        _runtime.set_serial_threshold(before)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("algorithm", ["direct", "winograd2", "winograd4", "winograd1d"])
@pytest.mark.parametrize("c, k", [(20, 24), (160, 150)])
def test_bits_do_not_depend_on_the_split_of_the_batch(isa, algorithm, c, k):
    x, w = normal((5, c, 7, 7), np.float32), normal((k, c, 3, 3), np.float32, 1)
    whole = fc.conv2d(x, w, padding=1, algorithm=algorithm)
    parts = [fc.conv2d(x[i:i + 1], w, padding=1, algorithm=algorithm) for i in range(5)]
    assert whole.tobytes() == np.concatenate(parts).tobytes()
    dx = fc.conv2d_backward_input(whole, w, x.shape, padding=1, algorithm=algorithm)
    parts = [fc.conv2d_backward_input(whole[i:i + 2], w, x[i:i + 2].shape, padding=1, algorithm=algorithm)
             for i in (0, 2, 4)]
    assert dx.tobytes() == np.concatenate(parts).tobytes()


def test_plans_tell_where_winograd_is_fused():
    for op, what in (("forward", ", transformed weights in"), ("backward_weight", ", gradients of transformed")):
        small, large = (fc.explain_conv((1, 512, size, size), (512, 512, 3, 3), op=op, padding=1,
                                        algorithm="winograd4").reason for size in (7, 56))
        assert what in small and "registers" not in large
