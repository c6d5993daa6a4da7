"""What tests of convolution share: shapes and arguments in which the kernels differ, a check, and caches."""
import numpy as np
import pytest
from kernel_helpers import Guarded, assert_close, normal

import fastconv as fc
from fastconv import convolve, planning, plans, reference
from fastconv._kernels import _runtime
from fastconv.planning_fft import fft_blocking

# (x shape, w shape, arguments); extents sit at vector lengths, one beside them, and below.
CASES = {
    "3x3": ((2, 16, 9, 10), (17, 16, 3, 3), {"padding": 1}),
    "3x3-c9-k21": ((1, 9, 13, 11), (21, 9, 3, 3), {"padding": 1}),
    "3x3-stride2": ((2, 17, 12, 9), (33, 17, 3, 3), {"stride": 2, "padding": 1}),
    "5x3-dilated": ((1, 8, 14, 15), (7, 8, 5, 3), {"padding": (2, 1), "dilation": (2, 3)}),
    "first-layer": ((2, 3, 17, 19), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    "few-channels": ((2, 3, 12, 40), (70, 3, 3, 3), {"padding": 1}),
    "few-channels-narrow": ((2, 4, 9, 5), (16, 4, 3, 3), {"padding": (1, 0)}),
    "few-channels-stride2": ((1, 4, 9, 61), (48, 4, 3, 5), {"stride": 2, "padding": (1, 2)}),
    "few-channels-dilated-rows": ((1, 2, 14, 30), (32, 2, 3, 3), {"padding": (2, 1), "dilation": (2, 1)}),
    "one-channel": ((3, 1, 28, 28), (32, 1, 3, 3), {"padding": 1}),
    "1x1": ((2, 65, 7, 7), (130, 65, 1, 1), {}),
    "1x1-few": ((2, 16, 5, 9), (64, 16, 1, 1), {}),
    "1x1-few-pixels": ((1, 16, 2, 5), (64, 16, 1, 1), {}),
    "1x1-stride2": ((1, 31, 8, 9), (16, 31, 1, 1), {"stride": 2}),
    "1x1-stride3-padded": ((1, 4, 8, 9), (5, 4, 1, 1), {"stride": 3, "padding": 2}),
    "stride-beyond-kernel": ((1, 6, 13, 13), (5, 6, 2, 2), {"stride": 4}),
    "groups": ((2, 12, 8, 8), (18, 4, 3, 3), {"groups": 3, "padding": 1}),
    "depthwise": ((2, 17, 9, 9), (17, 1, 3, 3), {"groups": 17, "padding": 1}),
    "depthwise-stride2": ((2, 32, 13, 35), (32, 1, 5, 3), {"groups": 32, "padding": (2, 1), "stride": 2}),
    "depthwise-narrow": ((2, 37, 9, 7), (37, 1, 3, 3), {"groups": 37, "padding": 1}),
    "depthwise-narrow-stride2": ((2, 20, 14, 8), (20, 1, 5, 3), {"groups": 20, "padding": (2, 1), "stride": 2}),
    "depthwise-narrow-3d": ((2, 20, 5, 6, 4), (20, 1, 3, 3, 3), {"groups": 20, "padding": 1, "stride": (1, 2, 1)}),
    "depthwise-rows": ((1, 3, 70, 67), (3, 1, 7, 7), {"groups": 3, "padding": ((3, 5), (6, 0))}),
    "depthwise-1d": ((2, 18, 700), (18, 1, 15), {"groups": 18, "padding": 7}),
    "depthwise-1d-strided": ((1, 16, 90), (16, 1, 11), {"groups": 16, "padding": ((9, 2),), "stride": 3}),
    "depthwise-row-of-padding": ((2, 18, 1, 90), (18, 1, 1, 4), {"groups": 18, "padding": ((1, 1), (2, 1)),
                                                                "stride": (3, 1)}),
    "depthwise-stride2-row": ((2, 18, 1, 183), (18, 1, 1, 4), {"groups": 18, "padding": (0, 3), "stride": 2}),
    "depthwise-stride2-wide": ((1, 18, 9, 92), (18, 1, 3, 3), {"groups": 18, "padding": (1, 0), "stride": 2}),
    "depthwise-stride-beyond-rows": ((1, 3, 8, 20), (3, 1, 3, 3), {"groups": 3, "padding": 1, "stride": (9, 1)}),
    "depthwise-3d-rows": ((1, 3, 4, 1, 70), (3, 1, 3, 1, 5), {"groups": 3, "padding": (1, 0, 2)}),
    "depthwise-3d": ((1, 16, 5, 6, 19), (16, 1, 3, 3, 3), {"groups": 16, "padding": 1, "stride": (1, 2, 1)}),
    "depthwise-dilated-columns": ((1, 20, 9, 40), (20, 1, 3, 3), {"groups": 20, "padding": (1, 4), "dilation": (1, 4)}),
    "depthwise-reflect": ((1, 16, 9, 20), (16, 1, 3, 3), {"groups": 16, "padding": 2, "padding_mode": "reflect"}),
    "depthwise-multiplier": ((1, 5, 9, 9), (15, 1, 5, 5), {"groups": 5, "padding": 2, "stride": 2}),
    "dilated-rows": ((2, 18, 14, 15), (17, 18, 3, 3), {"padding": 5, "dilation": (5, 4)}),
    "dilated-rows-uneven": ((1, 34, 29, 6), (36, 17, 3, 2),
                            {"padding": ((12, 3), (0, 0)), "dilation": (9, 1), "groups": 2}),
    "dilated-depthwise": ((1, 17, 20, 20), (17, 1, 3, 3), {"padding": 7, "dilation": 7, "groups": 17}),
    "3d-dilated": ((1, 16, 13, 18, 9), (17, 16, 3, 3, 3), {"padding": (4, 9, 1), "dilation": (4, 6, 1)}),
    "asymmetric-padding": ((1, 4, 7, 7), (3, 4, 3, 3), {"padding": ((0, 2), (3, 1))}),
    "cropped": ((1, 4, 12, 12), (3, 4, 3, 3), {"padding": ((-2, 1), (1, -3))}),
    "same": ((1, 4, 11, 10), (6, 4, 4, 3), {"padding": "same", "stride": (2, 3)}),
    "same-lower": ((1, 4, 11, 10), (6, 4, 4, 3), {"padding": "same_lower"}),
    "interleaved": ((2, 20, 9, 10), (130, 20, 3, 3), {"padding": 1}),
    "interleaved-circular": ((1, 20, 6, 7), (130, 20, 3, 3), {"padding": 2, "padding_mode": "circular"}),
    "large-reduction": ((1, 300, 4, 4), (40, 300, 3, 3), {"padding": 1}),
    "one-pixel-3x3": ((1, 33, 1, 1), (40, 33, 3, 3), {"padding": 1}),
    "taps-beyond-image": ((2, 17, 2, 3), (20, 17, 5, 7), {"padding": (2, 3)}),
    "taps-beyond-image-stride3": ((1, 20, 2, 2), (18, 20, 9, 9), {"padding": 4, "stride": 3}),
    "taps-beyond-image-dilated": ((1, 16, 5, 6), (17, 16, 3, 3), {"padding": 9, "dilation": 9}),
    "taps-beyond-image-groups": ((2, 40, 1, 2), (36, 20, 3, 3), {"padding": 1, "groups": 2}),
    "nothing-but-padding": ((1, 4, 3, 3), (5, 4, 2, 2), {"padding": 5, "stride": 9}),
    "one-pixel": ((4, 20, 1, 1), (30, 20, 1, 1), {}),
    "wide": ((1, 8, 2, 700), (9, 8, 1, 5), {"padding": (0, 2)}),
    "1d": ((2, 8, 33), (16, 8, 9), {"padding": 4}),
    "1d-long-kernel": ((2, 1, 900), (17, 1, 400), {"stride": 160}),
    "1d-dilated-groups": ((1, 36, 40), (34, 18, 3), {"dilation": 4, "groups": 2, "padding": ((3, 5),)}),
    "3d": ((1, 5, 6, 7, 8), (18, 5, 3, 3, 3), {"padding": 1}),
    "3d-strided": ((2, 3, 7, 8, 9), (9, 3, 3, 5, 2), {"stride": (1, 2, 3), "padding": (1, 2, 0)}),
    "one-pixel-grouped": ((3, 40, 1, 1), (140, 20, 1, 1), {"groups": 2}),
    "few-pixels-strided": ((1, 20, 9), (33, 20, 1), {"stride": 2}),
}
for _mode in ("reflect", "replicate", "circular", "symmetric"):
    CASES[_mode] = ((2, 5, 6, 7), (4, 5, 3, 5), {"padding": ((1, 3), (9, 2)), "padding_mode": _mode})
    CASES[_mode + "-1d"] = ((1, 2, 3), (3, 2, 2), {"padding": ((-1, 5),), "padding_mode": _mode})

case = pytest.mark.parametrize("x_shape, w_shape, arguments", CASES.values(), ids=CASES)


def function(name, w_shape, module=fc):
    """The function `name`, in which {} stands for the number of spatial axes of the weights."""
    return getattr(module, name.format(len(w_shape) - 2))


def forget_choices():
    """Let the next call of any layout choose its algorithm and blocking anew."""
    for cache in planning.correlation_blocking, fft_blocking, plans.plan, plans._best:
        cache.cache_clear()
    for kept in vars(convolve).values():
        if isinstance(kept, _runtime.Calls):
            kept.clear()


def check_algorithm(x_shape, w_shape, arguments, algorithm, order):
    """Forward, with plain and packed weights, and every gradient."""
    x, w = normal(x_shape, np.float32, 0, order), normal(w_shape, np.float32, 1)
    b = normal(w_shape[:1], np.float32, 2)
    conv, conv_reference = function("conv{}d", w.shape), function("conv{}d", w.shape, reference)
    expected = conv_reference(x, w, b, activation="relu", **arguments)
    out = Guarded(expected.shape, np.float32, order)
    conv(x, w, b, activation="relu", algorithm=algorithm, out=out.array, **arguments)
    assert out.intact()
    assert_close(out.array, expected, w[0].size)
    packed = fc.pack_weight(w, groups=arguments.get("groups", 1), dilation=arguments.get("dilation", 1),
                            input_shape=x_shape, algorithm=algorithm)
    assert conv(x, packed, b, activation="relu", **arguments).tobytes() == out.array.tobytes()
    dy = normal(expected.shape, np.float32, 3, order)
    backward = function("conv{}d_backward", w.shape)
    gradients = backward(dy, x, w, algorithm=algorithm, **arguments)
    expected = function("conv{}d_backward", w.shape, reference)(dy, x, w, **arguments)
    for gradient, wanted, products in zip(gradients, expected, (w[:, 0].size, 4 * dy[:, 0].size, dy[:, 0].size)):
        assert_close(gradient, wanted, products)
    again = backward(dy, x, w, algorithm=algorithm, need=(False, False, True), **arguments)
    assert again[:2] == (None, None) and again[2].tobytes() == gradients[2].tobytes()
