"""Which algorithm serves a call, what explain_conv tells of it, and weights packed for it."""
import copy
import pickle

import numpy as np
import pytest
from conv_cases import case, forget_choices, function
from kernel_helpers import ORDERS, in_order, normal

import fastconv as fc
from fastconv import plans


def test_named_algorithms_have_to_serve():
    winograd = ("winograd2", "winograd4", "winograd1d")
    assert fc.conv_algorithms((1, 4, 9, 9), (4, 4, 3, 3)) == ("direct", "folded", *winograd)
    assert fc.conv_algorithms((1, 4, 9, 9), (4, 4, 3, 3), stride=2) == ("direct", "folded")
    assert fc.conv_algorithms((1, 4, 9, 9), (4, 4, 3, 3), stride=2, op="backward_weight") == ("direct",)
    assert fc.conv_algorithms((1, 4, 9), (4, 4, 9), padding=4, op="backward_weight") == (
        "direct", "winograd1d", "fft")
    assert fc.conv_algorithms((1, 4, 9), (4, 4, 2), op="backward_weight") == ("direct",)
    x, w = normal((1, 4, 9, 9), np.float32), normal((4, 4, 3, 3), np.float32)
    with pytest.raises(ValueError, match="winograd4.*can't serve"):
        fc.conv2d(x, w, stride=2, algorithm="winograd4")
    with pytest.raises(ValueError, match="can't serve"):
        fc.conv2d_backward(fc.conv2d(x, w, stride=2), x, w, stride=2, algorithm="winograd2")
    with pytest.raises(ValueError, match="fft"):
        fc.conv2d(x, w, algorithm="fft")


def test_auto_is_one_of_the_algorithms():
    x, w = normal((1, 64, 56, 56), np.float32), normal((64, 64, 3, 3), np.float32)
    named = fc.explain_conv(x.shape, w.shape, padding=1).algorithm
    assert named.startswith("winograd")
    assert fc.conv2d(x, w, padding=1).tobytes() == fc.conv2d(x, w, padding=1, algorithm=named).tobytes()
    with fc.algorithm("direct"):
        assert fc.conv2d(x, w, padding=1).tobytes() == fc.conv2d(x, w, padding=1, algorithm="direct").tobytes()


@pytest.mark.parametrize("dy_order", ORDERS)
def test_order_of_x_decides_on_the_weight_gradient(dy_order):
    x_shape, w_shape = (1, 8, 30, 30), (16, 8, 3, 3)
    dy = normal((1, 16, 30, 30), np.float32, 1, dy_order)
    w = normal(w_shape, np.float32, 2)
    for order in ORDERS:
        x = normal(x_shape, np.float32, 0, order)
        plan = fc.explain_conv(x_shape, w_shape, op="backward_weight", padding=1, memory_order=order)
        named = fc.conv2d_backward_weight(dy, x, w_shape, padding=1, algorithm=plan.algorithm)
        np.testing.assert_array_equal(fc.conv2d_backward_weight(dy, x, w_shape, padding=1), named)
        np.testing.assert_array_equal(fc.conv2d_backward(dy, x, w, padding=1)[1], named)


def test_plans_tell_what_is_used():
    shapes = (1, 64, 56, 56), (64, 64, 3, 3)
    for op in ("forward", "backward_input", "backward_weight"):
        plan = fc.explain_conv(*shapes, op=op, padding=1, num_threads=2)
        assert plan.algorithm in fc.conv_algorithms(*shapes, op=op, padding=1)
        assert plan.flops == 2 * 64 * 64 * 9 * 56 * 56
        assert plan.work_items >= 2 and plan.workspace == plan.packed_bytes + plan.threads * plan.share_bytes
    one = fc.explain_conv(*shapes, padding=1, num_threads=1)
    assert (one.box, one.work_items) == (fc.explain_conv(*shapes, padding=1, num_threads=2).box, one.work_items)


def test_workspace_does_not_grow_with_the_image():
    sizes = [fc.explain_conv((1, 16, n, n), (16, 16, 3, 3), padding=1, num_threads=1).workspace for n in (256, 4096)]
    assert sizes[1] <= 2 * sizes[0]
    long = fc.explain_conv((1, 4, 10_000_000), (8, 4, 9), padding=4, num_threads=1)
    assert long.workspace < 4 * 2**20


@pytest.mark.parametrize("order", ORDERS)
@case
def test_packed_weights_give_the_same_bits(isa, x_shape, w_shape, arguments, order):
    x, w = normal(x_shape, np.float32, 0, order), normal(w_shape, np.float32, 1)
    packed = fc.pack_weight(w, groups=arguments.get("groups", 1))
    plain = function("conv{}d", w_shape)(x, w, **arguments)
    assert function("conv{}d", w_shape)(x, packed, **arguments).tobytes() == plain.tobytes()
    assert packed.nbytes >= w.nbytes and packed.isa == isa


@pytest.mark.parametrize("with_size", [True, False])
def test_packed_weights_serve_both_orders_where_their_algorithms_differ(monkeypatch, with_size):
    monkeypatch.setattr(plans, "best_correlation", lambda g, op, last, *_: "folded" if last else "direct")
    forget_choices()
    x, w = normal((1, 16, 20, 20), np.float32), normal((2, 16, 5, 5), np.float32, 1)
    packed = fc.pack_weight(w, input_shape=x.shape if with_size else None)
    for order in ORDERS:
        algorithm = fc.explain_conv(x.shape, w.shape, memory_order=order).algorithm
        assert algorithm == ("folded" if order == "channels_last" else "direct")
        got = fc.conv2d(in_order(x, order), packed, padding=1)
        np.testing.assert_array_equal(got, fc.conv2d(in_order(x, order), w, padding=1, algorithm=algorithm))
    monkeypatch.undo()
    forget_choices()


def test_packed_weights_can_be_copied_and_pickled():
    x, w = normal((1, 20, 9, 9), np.float32), normal((21, 20, 3, 3), np.float32, 1)
    for packed in (fc.pack_weight(w), fc.pack_weight(w, input_shape=x.shape), fc.pack_weight(w[:3])):
        assert copy.copy(packed).shape == packed.shape and copy.deepcopy(packed) is packed
        again = pickle.loads(pickle.dumps(packed))
        assert repr(again) == repr(packed)
        np.testing.assert_array_equal(fc.conv2d(x, again, padding=1), fc.conv2d(x, packed, padding=1))


def test_packed_weights_are_checked():
    x, w = normal((1, 4, 6, 6), np.float32), normal((6, 4, 3, 3), np.float32)
    packed = fc.pack_weight(w)
    with pytest.raises(AttributeError):
        packed.isa = "other"
    for call, message in ((lambda: fc.conv2d(x.astype(np.float64), packed), "float32"),
                          (lambda: fc.conv2d(x, packed, groups=2), "groups"),
                          (lambda: fc.conv1d(x[0], packed), "axes"),
                          (lambda: fc.conv2d(x, fc.pack_weight(normal((64, 4, 3, 3), np.float32)), algorithm="folded"),
                           "folded"),
                          (lambda: fc.conv_transpose2d(x, packed), "packed")):
        with pytest.raises(ValueError, match=message):
            call()
