"""What calls keep of each other: by layouts and plain arguments, so many, and nothing of the elements."""
from threading import Thread

import numpy as np
import pytest
from kernel_helpers import ORDERS, in_order, normal, small_integers

import fastconv as fc
from fastconv._kernels import _runtime


def counted():
    """(Calls that give the number of preparations made so far, those preparations' arguments)."""
    made = []

    def prepare(*arguments):
        made.append(arguments)
        return len(made)

    return _runtime.Calls(prepare), made


@pytest.mark.parametrize("other", [
    np.zeros((2, 4), np.float32), np.zeros((2, 3), np.float64), np.zeros((3, 2), np.float32).T,
    np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3), None,
])
def test_layouts_tell_operands_apart(other):
    calls, made = counted()
    x = np.zeros((2, 3), np.float32)
    assert calls((x,), (1,)) == calls((np.ones_like(x),), (1,)) == 1
    assert calls((other,), (1,)) == calls((other,), (1,)) == 2
    assert calls((x,), (1,)) == 1
    assert len(made) == len(calls) == 2


def test_a_read_only_array_is_another_operand():
    calls, _ = counted()
    x, fixed = np.zeros(3), np.zeros(3)
    fixed.flags.writeable = False
    assert calls((x,), ()) != calls((fixed,), ())


def test_kernels_in_use_tell_calls_apart():
    calls, made = counted()
    before = _runtime.isa_in_use()
    try:
        for isa in _runtime.isa_available():
            _runtime._use_isa(isa)
            calls((np.zeros(3),), ())
    finally:
        _runtime._use_isa(before)
    assert len(made) == len(_runtime.isa_available())


@pytest.mark.parametrize("argument", [True, 1.0, np.int64(1), [1], (1, (True,))])
def test_arguments_that_equal_others_are_not_kept(argument):
    calls, made = counted()
    assert calls((), (1, "a", None, (1, (2, 3)))) == 1
    assert calls((), (argument,)) == 2
    assert calls((), (argument,)) == 3
    assert len(calls) == 1
    assert made[1] == (argument,)


@pytest.mark.parametrize("operand", [[1, 2], np.zeros(3, np.dtype(np.float32).newbyteorder()), np.zeros(3, object)])
def test_operands_without_a_layout_are_not_kept(operand):
    calls, made = counted()
    calls((operand,), ())
    calls((operand,), ())
    assert len(made) == 2
    assert len(calls) == 0


def test_what_is_raised_is_not_kept():
    def prepare(x):
        raise ValueError("no")

    calls = _runtime.Calls(prepare)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            calls((np.zeros(3),), ())
    assert len(calls) == 0


def test_only_the_newest_are_kept():
    calls, made = counted()
    for i in range(_runtime.CALLS_KEPT + 10):
        calls((), (i,))
    assert len(calls) == _runtime.CALLS_KEPT
    assert calls((), (_runtime.CALLS_KEPT + 9,)) == _runtime.CALLS_KEPT + 10
    calls((), (0,))
    assert len(made) == _runtime.CALLS_KEPT + 11


def test_threads_may_call_at_once():
    """More shapes than are kept, in several threads: every result is that of its own shape."""
    wrong = []

    def work(seed):
        w = small_integers((1, 1, 2, 2), np.float32, seed)
        for i in range(600):
            x = small_integers((1, 1, 2 + i % 300, 2 + seed), np.float32, i)
            y = fc.conv2d(x, w, num_threads=1)
            expected = sum(x[:, :, r:r + y.shape[2], s:s + y.shape[3]] * w[0, 0, r, s] for r in (0, 1) for s in (0, 1))
            if not np.array_equal(y, expected):
                wrong.append((seed, i))

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("order", ORDERS)
def test_a_kept_call_still_sees_overlaps_and_copies(order):
    """The same layouts as those of a call that went well, at other places in memory."""
    w, b = normal((4, 4, 1, 1), np.float32, 1), normal((4,), np.float32, 2)
    memory = in_order(normal((2, 4, 5, 6), np.float32), order)
    x, out = memory[:1], memory[1:]
    expected = fc.conv2d(x, w, b)
    for _ in range(2):
        np.testing.assert_array_equal(fc.conv2d(x, w, b, out=out), expected)
        with pytest.raises(ValueError, match="out: shares memory with x"):
            fc.conv2d(x, w, b, out=x)
    for _ in range(2):
        np.testing.assert_array_equal(fc.relu(expected, out=expected), np.maximum(expected, 0))
        with pytest.raises(ValueError, match="out: shares memory with x"):
            fc.relu(memory[0], out=memory[0, ::-1])
