"""The reference's names, convolution and im2col against literals, NumPy, PyTorch and their adjoints."""

import inspect
import math

import numpy as np
import pytest
from reference_helpers import at_rank, check_adjoint, close, inner

from fastconv import reference as ref

NAN, INF = math.nan, math.inf


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def tensors(torch, *arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


# ---------------------------------------------------------------- names and signatures


def test_every_public_name_says_what_it_is():
    for name in ref.__all__:
        function = getattr(ref, name)
        assert function.__name__ == name
        assert function.__doc__
        assert "nd" not in inspect.signature(function).parameters


def test_ranks_share_one_signature():
    for name in ref.__all__:
        if "1d" in name:
            one, two, three = (inspect.signature(getattr(ref, name.replace("1d", f"{nd}d"))) for nd in (1, 2, 3))
            assert one == two == three


def test_every_operation_has_its_backward():
    forward = [n for n in ref.__all__ if "_backward" not in n and n not in ("im2col", "col2im", "filter_image")]
    assert [n for n in forward if f"{n}_backward" not in ref.__all__] == []


# ---------------------------------------------------------------- convolution

# (nd, x, w, arguments): shapes without the batch axis of 2
CONVOLUTIONS = [
    (1, (3, 9), (4, 3, 3), {}),
    (1, (4, 12), (6, 2, 4), {"stride": 3, "padding": ((1, 2),), "dilation": 2, "groups": 2}),
    (1, (2, 7), (3, 2, 3), {"padding": ((-2, 3),), "stride": 2}),
    (2, (3, 7, 8), (5, 3, 3, 3), {"padding": 1}),
    (2, (4, 9, 6), (4, 1, 3, 2), {"stride": (2, 1), "padding": (1, 0), "groups": 4}),
    (2, (4, 6, 7), (8, 2, 1, 3), {"stride": 2, "padding": ((0, 0), (2, 1)), "dilation": (1, 2), "groups": 2}),
    (2, (2, 5, 6), (3, 2, 3, 3), {"padding": ((-1, 2), (3, -2))}),
    (2, (2, 5, 6), (3, 2, 3, 3), {"padding": (1, (0, 2))}),
    (2, (2, 5, 6), (3, 2, 3, 3), {"padding": "same", "dilation": 2}),
    (2, (2, 5, 6), (3, 2, 3, 3), {"padding": "valid", "stride": 2}),
    (2, (2, 5, 6), (3, 2, 3, 3), {"padding": ((1, 2), (3, 0)), "padding_mode": "reflect"}),
    (2, (2, 5, 6), (3, 2, 3, 3), {"padding": ((-1, 2), (3, -2)), "padding_mode": "replicate", "stride": 2}),
    (2, (4, 5, 6), (4, 2, 3, 3), {"padding": ((1, 2), (3, 0)), "padding_mode": "circular", "groups": 2}),
    (3, (2, 4, 5, 6), (3, 2, 2, 3, 3), {"padding": 1, "stride": (1, 2, 1)}),
    (3, (4, 5, 4, 5), (6, 2, 3, 2, 2), {"padding": ((1, 0), (0, 2), (1, 1)), "dilation": (1, 2, 1), "groups": 2}),
]


def conv_pairs(nd, x_shape, w_shape, padding=0, dilation=1, **_):
    """The (before, after) pairs that ``padding`` means; "same" at stride 1."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        totals = [(dilation if np.ndim(dilation) == 0 else dilation[i]) * (w_shape[2 + i] - 1) for i in range(nd)]
        return [(total // 2, total - total // 2) for total in totals]
    each = (padding,) * nd if isinstance(padding, int) else padding
    return [(p, p) if isinstance(p, int) else p for p in each]


def torch_conv(torch, nd, x, w, b, pads, stride=1, dilation=1, groups=1, padding_mode="zeros", **_):
    crop, grow = ([f(p, 0) for pair in reversed(pads) for p in pair] for f in (min, max))
    mode = "constant" if padding_mode == "zeros" else padding_mode
    padded = torch.nn.functional.pad(torch.nn.functional.pad(x, crop), grow, mode=mode)
    return getattr(torch.nn.functional, f"conv{nd}d")(padded, w, b, stride, 0, dilation, groups)


@pytest.mark.parametrize("nd, x_shape, w_shape, arguments", CONVOLUTIONS)
def test_conv_is_that_of_torch(torch, rng, nd, x_shape, w_shape, arguments):
    x, w, b = rng.standard_normal((2, *x_shape)), rng.standard_normal(w_shape), rng.standard_normal(w_shape[0])
    tx, tw, tb = tensors(torch, x, w, b)
    pads = conv_pairs(nd, x_shape, w_shape, **arguments)
    expected = torch_conv(torch, nd, tx, tw, tb, pads, **arguments)
    close(at_rank("conv{}d", nd)(x, w, b, **arguments), expected.detach())
    dy = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.tensor(dy))
    dx, dw, db = at_rank("conv{}d_backward", nd)(dy, x, w, **arguments)
    close(dx, tx.grad)
    close(dw, tw.grad)
    close(db, tb.grad)
    close(at_rank("conv{}d_backward_input", nd)(dy, w, x.shape, **arguments), dx, 0)
    close(at_rank("conv{}d_backward_weight", nd)(dy, x, w.shape, **arguments), dw, 0)


# ours: NumPy's name
NUMPY_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "edge": "edge",
    "circular": "wrap",
    "wrap": "wrap",
    "symmetric": "symmetric",
}


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("pads", [((1, 2), (0, 3)), ((-1, 2), (9, -2)), ((13, 0), (-2, -1))])
def test_padding_modes_are_those_of_numpy(rng, mode, pads):
    x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 2, 3))
    cropped = x[:, :, *(slice(max(0, -b), size - max(0, -a)) for size, (b, a) in zip((5, 6), pads))]
    padded = np.pad(cropped, [(0, 0), (0, 0), *((max(0, b), max(0, a)) for b, a in pads)], NUMPY_MODES[mode])
    y = ref.conv2d(x, w, padding=pads, padding_mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 3), axis=(2, 3))
    close(y, np.einsum("nchwrs,kcrs->nkhw", windows, w))
    arguments = {"padding": pads, "padding_mode": mode}
    check_adjoint(rng, lambda x: ref.conv2d(x, w, **arguments),
                  lambda dy: ref.conv2d_backward(dy, x, w, **arguments)[0], x.shape)
    check_adjoint(rng, lambda w: ref.conv2d(x, w, **arguments),
                  lambda dy: ref.conv2d_backward(dy, x, w, **arguments)[1], w.shape)


@pytest.mark.parametrize(
    "size, kernel, stride, dilation, upper, lower",
    [
        (5, 3, 1, 1, (1, 1), (1, 1)),
        (5, 2, 1, 1, (0, 1), (1, 0)),
        (6, 3, 2, 1, (0, 1), (1, 0)),
        (7, 3, 2, 1, (1, 1), (1, 1)),
        (8, 3, 3, 2, (1, 2), (2, 1)),
        (4, 1, 3, 1, (0, 0), (0, 0)),
    ],
)
def test_same_padding(rng, size, kernel, stride, dilation, upper, lower):
    x, w = rng.standard_normal((1, 2, size)), rng.standard_normal((3, 2, kernel))
    for name, pair in (("same", upper), ("same_lower", lower)):
        y = ref.conv1d(x, w, None, stride, name, dilation)
        assert y.shape[2] == math.ceil(size / stride)
        close(y, ref.conv1d(x, w, None, stride, (pair,), dilation), 0)
        if pair[0] == pair[1]:
            close(y, ref.conv1d(x, w, None, stride, pair[0], dilation), 0)
        dy = rng.standard_normal(y.shape)
        dx = ref.conv1d_backward_input(dy, w, x.shape, stride, name, dilation)
        assert inner(dx, x) == pytest.approx(inner(dy, y))


TRANSPOSED = [
    (1, (3, 5), (3, 4, 3), {}),
    (1, (4, 5), (4, 3, 3), {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    (2, (3, 4, 5), (3, 2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    (2, (3, 4, 3), (3, 2, 2, 3), {"stride": (1, 2), "padding": (0, 2), "output_padding": (1, 0), "dilation": 2}),
    (2, (4, 4, 3), (4, 2, 2, 3), {"padding": (0, 2), "groups": 2, "output_padding": (2, 0), "dilation": (3, 2)}),
    (3, (2, 3, 4, 2), (2, 3, 2, 2, 3), {"stride": (2, 1, 2), "padding": (0, 1, 1), "output_padding": (1, 0, 0)}),
]


@pytest.mark.parametrize("nd, x_shape, w_shape, arguments", TRANSPOSED)
def test_conv_transpose_is_that_of_torch(torch, rng, nd, x_shape, w_shape, arguments):
    channels = w_shape[1] * arguments.get("groups", 1)
    x, w, b = rng.standard_normal((2, *x_shape)), rng.standard_normal(w_shape), rng.standard_normal(channels)
    tx, tw, tb = tensors(torch, x, w, b)
    expected = getattr(torch.nn.functional, f"conv_transpose{nd}d")(tx, tw, tb, **arguments)
    close(at_rank("conv_transpose{}d", nd)(x, w, b, **arguments), expected.detach())
    dy = rng.standard_normal(tuple(expected.shape))
    expected.backward(torch.tensor(dy))
    for got, tensor in zip(at_rank("conv_transpose{}d_backward", nd)(dy, x, w, **arguments), (tx, tw, tb)):
        close(got, tensor.grad)


def test_conv_transpose_with_pairs_is_the_adjoint_of_conv(rng):
    x, w = rng.standard_normal((2, 3, 9, 7)), rng.standard_normal((4, 3, 3, 2))
    arguments = {"stride": 2, "padding": ((1, 0), (2, 1))}
    y = ref.conv2d(x, w, **arguments)
    back = ref.conv_transpose2d(y, w, output_padding=(1, 0), **arguments)
    close(back, ref.conv2d_backward_input(y, w, x.shape, **arguments), 0)
    arguments |= {"output_padding": (1, 0)}
    check_adjoint(rng, lambda y: ref.conv_transpose2d(y, w, **arguments),
                  lambda dy: ref.conv_transpose2d_backward(dy, y, w, **arguments)[0], y.shape)
    check_adjoint(rng, lambda w: ref.conv_transpose2d(y, w, **arguments),
                  lambda dy: ref.conv_transpose2d_backward(dy, y, w, **arguments)[1], w.shape)


def test_conv_small_numbers():
    x, w = np.arange(9.0).reshape(1, 1, 3, 3), np.array([[[[1.0, 2], [3, 4]]]])
    assert ref.conv2d(x, w, np.array([10.0])).tolist() == [[[[37, 47], [67, 77]]]]
    dy = np.ones((1, 1, 2, 2))
    assert ref.conv2d_backward_input(dy, w, x.shape).tolist() == [[[[1, 3, 2], [4, 10, 6], [3, 7, 4]]]]
    assert ref.conv2d_backward_weight(dy, x, w.shape).tolist() == [[[[8, 12], [20, 24]]]]
    assert ref.conv2d_backward(dy, x, w)[2].tolist() == [4]
    assert ref.conv_transpose2d_backward(dy, dy[..., :1, :1], w)[2].tolist() == [4]
    assert ref.conv_transpose1d(np.array([[[1.0, 2]]]), np.array([[[1.0, 10, 100]]]), stride=2).tolist() == [
        [[1, 10, 102, 20, 200]]
    ]


def test_padding_contributes_nothing_to_infinite_weights():
    x, w = np.ones((1, 1, 3)), np.array([[[INF, 1.0, NAN]]])
    np.testing.assert_array_equal(ref.conv1d(x[..., :1], w, padding=1), [[[1.0]]])
    np.testing.assert_array_equal(ref.conv1d(x, w, padding=1), [[[NAN, NAN, INF]]])


def test_conv_fuses_every_activation(rng):
    x, w = rng.standard_normal((2, 3, 6)) * 3, rng.standard_normal((4, 3, 3))
    for name in ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "hardswish"):
        activation = getattr(ref, name)
        close(ref.conv1d(x, w, activation=name), activation(ref.conv1d(x, w)))
        close(ref.conv_transpose1d(x, w[:3], activation=name), activation(ref.conv_transpose1d(x, w[:3])))
        close(ref.linear(x, w[:, 0, :2].repeat(3, axis=1), activation=name),
              activation(ref.linear(x, w[:, 0, :2].repeat(3, axis=1))))
    with pytest.raises(ValueError, match="gelu"):
        ref.conv1d(x, w, activation="gelu")


def test_conv_out_need_and_accumulate(rng):
    x, w = rng.standard_normal((2, 3, 6)).astype(np.float32), rng.standard_normal((4, 3, 3)).astype(np.float32)
    y = ref.conv1d(x, w)
    out = np.full(y.shape, NAN, dtype=np.float32)
    assert ref.conv1d(x, w, out=out) is out
    np.testing.assert_array_equal(out, y)
    dx, dw, db = ref.conv1d_backward(y, x, w)
    outs = np.full_like(x, NAN), np.ones_like(w), np.ones(4, dtype=np.float32)
    got = ref.conv1d_backward(y, x, w, out=outs, accumulate=True)
    assert [a is b for a, b in zip(got, outs)] == [True] * 3
    np.testing.assert_array_equal(got[0], dx)
    close(got[1], dw + 1, 1e-6)
    close(got[2], db + 1, 1e-6)
    assert [g is None for g in ref.conv1d_backward(y, x, w, need=(False, True, False))] == [True, False, True]
    assert [g is None for g in ref.conv_transpose1d_backward(x, y, w, need=(True, False, True))] == [False, True, False]
    assert {a.dtype for a in (y, dx, dw, db)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_conv_unbatched_and_empty_batch(rng, mode):
    x, w = rng.standard_normal((1, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2))
    arguments = {"padding": 1, "padding_mode": mode}
    y, dx = ref.conv2d(x, w, **arguments), ref.conv2d_backward(ref.conv2d(x, w, **arguments), x, w, **arguments)[0]
    np.testing.assert_array_equal(ref.conv2d(x[0], w, **arguments), y[0])
    one = ref.conv2d_backward(y[0], x[0], w, **arguments)
    np.testing.assert_array_equal(one[0], dx[0])
    assert ref.conv_transpose2d(x[0], w.swapaxes(0, 1)).shape == (4, 8, 6)
    empty = ref.conv2d(x[:0], w, np.ones(4), **arguments)
    assert empty.shape == (0, 4, 6, 6)
    dx, dw, db = ref.conv2d_backward(empty, x[:0], w, **arguments)
    assert dx.shape == (0, 3, 6, 5)
    assert not dw.any() and not db.any()


def test_conv_refuses_what_has_no_output():
    with pytest.raises(ValueError, match="output size 0"):
        ref.conv1d(np.ones((1, 1, 3)), np.ones((1, 1, 4)))
    with pytest.raises(ValueError, match="crops all 3"):
        ref.conv1d(np.ones((1, 1, 3)), np.ones((1, 1, 1)), padding=((-2, -1),))


@pytest.mark.parametrize(
    "arguments", [{"kernel_size": (3, 2)}, {"kernel_size": 2, "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}]
)
def test_im2col_is_unfold(torch, rng, arguments):
    x = rng.standard_normal((2, 3, 6, 5))
    cols = ref.im2col(x, **arguments)
    close(cols, torch.nn.functional.unfold(torch.tensor(x), **arguments), 0)
    expected = torch.nn.functional.fold(torch.tensor(cols), (6, 5), **arguments)
    close(ref.col2im(cols, x.shape, **arguments), expected)


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 5, 6), (2, 2, 4, 3, 5)])
def test_im2col_turns_conv_into_a_product(rng, shape):
    nd = len(shape) - 2
    x, w = rng.standard_normal(shape), rng.standard_normal((4, shape[1], *[2] * nd))
    arguments = {"stride": 2, "padding": ((1, -1),) * nd}
    cols = ref.im2col(x, 2, **arguments)
    y = at_rank("conv{}d", nd)(x, w, **arguments)
    close((w.reshape(4, -1) @ cols).reshape(y.shape), y)
    check_adjoint(rng, lambda x: ref.im2col(x, 2, **arguments), lambda c: ref.col2im(c, shape, 2, **arguments), shape)
    assert ref.im2col(x[:0], 2, **arguments).shape == (0, *cols.shape[1:])
