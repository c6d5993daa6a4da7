"""One small call of every parallel kernel, for tests that look at how it runs rather than at what comes out.

As a program, ``kernel_calls.py THREADS``, it makes each call once on every instruction set, for sanitizers to watch.
"""
import itertools
import sys
from typing import NamedTuple

import numpy as np
from kernel_helpers import ORDERS, in_order, normal

import fastconv as fc
from fastconv import dense, nn, reference
from fastconv._kernels import _runtime

ALGORITHMS = ("direct", "folded", "winograd2", "winograd4", "winograd1d", "fft")

# (x shape, w shape, arguments)
CONVOLUTIONS = {
    "3x3": ((5, 20, 19, 21), (70, 20, 3, 3), {"padding": 1}),
    "3x3-strided": ((4, 17, 41, 37), (33, 17, 3, 3), {"stride": 2, "padding": 1}),
    "3x3-dilated": ((2, 18, 17, 19), (20, 18, 3, 3), {"padding": 4, "dilation": 4}),
    "3x3-large-weights": ((2, 150, 9, 10), (141, 150, 3, 3), {"padding": 1}),
    "first-layer": ((2, 3, 33, 35), (48, 3, 7, 7), {"stride": 2, "padding": 3}),
    "1x1": ((3, 65, 7, 7), (130, 65, 1, 1), {}),
    "groups": ((3, 24, 8, 9), (36, 8, 3, 3), {"groups": 3, "padding": 1}),
    "few-channels-a-group": ((2, 28, 9, 33), (28, 4, 3, 3), {"groups": 7, "padding": 1}),
    "depthwise": ((3, 40, 19, 23), (40, 1, 3, 3), {"groups": 40, "padding": 1}),
    "depthwise-strided": ((2, 33, 21, 35), (33, 1, 5, 3), {"groups": 33, "padding": (2, 1), "stride": 2}),
    "reflect": ((4, 18, 29, 30), (20, 18, 3, 3), {"padding": 2, "padding_mode": "reflect"}),
    "1d": ((8, 16, 933), (19, 16, 9), {"padding": 4}),
    "1d-one-channel": ((3, 1, 4000), (2, 1, 90), {"padding": 45}),
    "1d-depthwise": ((2, 40, 333), (40, 1, 70), {"groups": 40, "padding": 35}),
    "3d": ((2, 17, 5, 9, 10), (20, 17, 3, 3, 3), {"padding": 1}),
}


class Call(NamedTuple):
    """``run(targets, threads)`` fills the targets, arrays of `shapes`, and returns what it gives, targets included.

    ``split(n0, n1)`` is what the call gives for images [n0, n1) alone, where it has to be the same bits.
    """

    run: object
    shapes: tuple = ()
    order: str = "channels_first"
    dtype: type = np.float32
    split: object = None
    plan: object = None  # arguments of explain_conv

    def targets(self, fill):
        return [in_order(np.full(shape, fill, self.dtype), self.order if i == 0 else "channels_first")
                for i, shape in enumerate(self.shapes)]


def named(name, w_shape, module=fc):
    return getattr(module, name.format(len(w_shape) - 2))


def convolution_calls(name, algorithm, order, dtype=np.float32):
    """{operation: Call} of the operations that the algorithm serves."""
    x_shape, w_shape, arguments = CONVOLUTIONS[name]
    x, w = normal(x_shape, dtype, 0, order), normal(w_shape, dtype, 1)
    b = normal(w_shape[:1], dtype, 2)
    conv, backward = named("conv{}d", w_shape), named("conv{}d_backward", w_shape)
    backward_input = named("conv{}d_backward_input", w_shape)
    y_shape = conv(x, w, **arguments).shape
    dy = normal(y_shape, dtype, 3, order)
    options = arguments | {"algorithm": algorithm}

    def forward(targets, threads):
        return [conv(x, w, b, activation="silu", out=targets[0], num_threads=threads, **options)]

    def dx(targets, threads):
        return [backward_input(dy, w, x_shape, out=targets[0], num_threads=threads, **options)]

    def dw(targets, threads):
        return backward(dy, x, w, need=(False, True, True), out=(None, *targets), num_threads=threads, **options)[1:]

    def forward_split(n0, n1):
        return conv(x[n0:n1], w, b, activation="silu", **options)

    def dx_split(n0, n1):
        return backward_input(dy[n0:n1], w, (n1 - n0, *x_shape[1:]), **options)

    calls = {
        "forward": Call(forward, (y_shape,), order, dtype, forward_split),
        "backward_input": Call(dx, (x_shape,), order, dtype, dx_split),
        "backward_weight": Call(dw, (w_shape, w_shape[:1]), "channels_first", dtype),
    }
    plan = {"x_shape": x_shape, "w_shape": w_shape, "dtype": np.dtype(dtype).name, "memory_order": order} | options
    return {op: call._replace(plan=plan | {"op": op}) for op, call in calls.items()
            if algorithm in fc.conv_algorithms(x_shape, w_shape, op=op, **arguments)}


def convolutions(dtype=np.float32):
    """(name, Call) of every operation, algorithm and memory order."""
    for name in CONVOLUTIONS:
        for algorithm in ALGORITHMS:
            for order in ORDERS:
                for op, call in convolution_calls(name, algorithm, order, dtype).items():
                    yield f"{name}-{algorithm}-{op}-{order}", call


def _into_first(function, *operands, **arguments):
    def run(targets, threads):
        result = function(*operands, out=targets[0], num_threads=threads, **arguments)
        return list(result) if isinstance(result, tuple) else [result]

    return run


def _poolings(order, dtype):
    x = normal((2, 37, 21, 19), dtype, 0, order)
    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    y_shape = reference.max_pool2d(x[:1, :1], **window).shape
    y_shape = (*x.shape[:2], *y_shape[2:])
    dy = normal(y_shape, dtype, 1, order)
    for kind in ("max", "min"):
        forward, backward = getattr(fc, f"{kind}_pool2d"), getattr(fc, f"{kind}_pool2d_backward")
        yield f"{kind}_pool2d", Call(_into_first(forward, x, return_indices=True, **window), (y_shape,), order, dtype)
        yield f"{kind}_pool2d_backward", Call(_into_first(backward, dy, x, **window), (x.shape,), order, dtype)
        for indices in (True, "window"):
            found = forward(x, return_indices=indices, **window)[1]
            yield f"{kind}_pool2d_backward-{indices}", Call(
                _into_first(backward, dy, x, indices=found, **window), (x.shape,), order, dtype)
    for kind in ("avg", "sum"):
        forward, backward = getattr(fc, f"{kind}_pool2d"), getattr(fc, f"{kind}_pool2d_backward")
        yield f"{kind}_pool2d", Call(_into_first(forward, x, **window), (y_shape,), order, dtype)
        yield f"{kind}_pool2d_backward", Call(_into_first(backward, dy, x.shape, **window), (x.shape,), order, dtype)
    yield "adaptive_avg_pool2d", Call(_into_first(fc.adaptive_avg_pool2d, x, (5, 4)), ((2, 37, 5, 4),), order, dtype)
    yield "global_max_pool", Call(_into_first(fc.global_max_pool, x), ((2, 37, 1, 1),), order, dtype)
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    y, indices = in_order(y, order), in_order(indices, order)
    yield "max_unpool2d", Call(_into_first(fc.max_unpool2d, y, indices, 2, output_size=x.shape[2:]), (x.shape,), order,
                               dtype)
    yield "max_unpool2d_backward", Call(_into_first(fc.max_unpool2d_backward, x, indices, y.shape), (y.shape,), order,
                                        dtype)


def _elementwise(order, dtype):
    x, dy = normal((2, 37, 31, 33), dtype, 0, order), normal((2, 37, 31, 33), dtype, 1, order)
    for name in ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish", "softmax", "log_softmax"):
        yield name, Call(_into_first(getattr(fc, name), x), (x.shape,), order, dtype)
        yield f"{name}_backward", Call(_into_first(getattr(fc, f"{name}_backward"), dy, getattr(fc, name)(x)),
                                       (x.shape,), order, dtype)


def _of_context(function):
    """A call that takes no `num_threads`."""
    def run(targets, threads):
        with fc.threads(threads):
            return function()

    return run


def _stepped(optimizer, values):
    """The values after a step of their optimizer, with themselves as gradients."""
    parameters = [nn.Parameter(value.copy()) for value in values]
    for parameter, value in zip(parameters, values):
        parameter.grad = value
    optimizer(parameters, weight_decay=0.1).step()
    return [parameter.value for parameter in parameters]


def _networks(order, dtype):
    x, dy = normal((3, 37, 31, 33), dtype, 0, order), normal((3, 37, 31, 33), dtype, 1, order)
    gamma, beta = normal((37,), dtype, 2), normal((37,), dtype, 3)
    ones = np.ones(37, dtype)  # copied in calls: making it clears the sticky flags in NumPy 2.0
    saved = fc.batch_norm(x, gamma, beta, np.zeros(37, dtype), ones.copy(), training=True)[1]

    def norm():
        mean, variance = np.zeros(37, dtype), ones.copy()
        return [fc.batch_norm(x, gamma, beta, mean, variance, training=True)[0], mean, variance]

    yield "batch_norm", Call(_of_context(norm))
    yield "batch_norm_backward", Call(_of_context(lambda: fc.batch_norm_backward(dy, x, gamma, saved)))

    def rectified():
        mean, variance = np.zeros(37, dtype), ones.copy()
        y, kept = fc.batch_norm(x, gamma, beta, mean, variance, training=True, activation="relu")
        return [y, *fc.batch_norm_backward(dy, x, gamma, kept)]

    yield "batch_norm_relu", Call(_of_context(rectified))
    yield "add", Call(_of_context(lambda: dense.add(x, dy, relu=True)))
    for optimizer in (nn.SGD, nn.AdamW):
        yield optimizer.__name__, Call(_of_context(lambda optimizer=optimizer: _stepped(optimizer, [x, gamma, dy])))
    yield "dropout", Call(_of_context(lambda: fc.dropout(x, 0.3, 5)))
    mask = fc.dropout(x, 0.3, 5)[1]
    yield "dropout_backward", Call(_of_context(lambda: [fc.dropout_backward(dy, mask, 0.3)]))
    columns = fc.im2col(x, 3, padding=1)
    yield "im2col", Call(_of_context(lambda: [fc.im2col(x, 3, padding=1)]))
    yield "col2im", Call(_of_context(lambda: [fc.col2im(columns, x.shape, 3, padding=1)]))
    rows, w, b = normal((300, 70), dtype), normal((90, 70), dtype, 1), normal((90,), dtype, 2)
    dy_rows = normal((300, 90), dtype, 3)
    yield "linear", Call(_into_first(fc.linear, rows, w, b), ((300, 90),), "channels_first", dtype)
    yield "linear_backward", Call(
        lambda targets, threads: fc.linear_backward(dy_rows, rows, w, out=tuple(targets), num_threads=threads),
        ((300, 70), (90, 70), (90,)), "channels_first", dtype)
    t = normal((37, 6, 3, 3), dtype, 4)
    yield "conv_transpose2d", Call(_into_first(fc.conv_transpose2d, x, t, stride=2, padding=1), ((3, 6, 61, 65),),
                                   order, dtype)
    up = normal((3, 6, 61, 65), dtype, 5, order)
    yield "conv_transpose2d_backward", Call(
        lambda targets, threads: fc.conv_transpose2d_backward(up, x, t, stride=2, padding=1, out=tuple(targets),
                                                              num_threads=threads),
        (x.shape, t.shape, (6,)), order, dtype)


def _filters(order, dtype):
    channels = (3,) if order == "channels_last" else ()
    photo = normal((133, 275, *channels), dtype)
    bank = [normal((3, 5), np.float64, seed) for seed in range(6)] + [np.ones((7, 7)) / 49]
    yield "filter_image", Call(_into_first(fc.filter_image, photo, bank), ((7, *photo.shape),), "channels_first", dtype)


def others(dtype=np.float32):
    """(name, Call) of everything else, in both memory orders."""
    for order in ORDERS:
        for group in (_poolings, _elementwise, _networks, _filters):
            for name, call in group(order, dtype):
                yield f"{name}-{order}", call


def main(threads):
    _runtime.set_serial_threshold(0)
    _runtime.SCRATCH_KEPT = 0
    fc.set_result_cache(0)
    for isa in _runtime.isa_available():
        _runtime._use_isa(isa)
        for name, call in itertools.chain(convolutions(), others()):
            assert not any(np.isnan(r).any() for r in call.run(call.targets(np.nan), threads)), name
        print(isa, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
