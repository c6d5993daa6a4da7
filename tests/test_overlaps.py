"""`out=` that shares an element with an operand is refused, by every function that takes it, for every operand."""
import inspect

import numpy as np
import pytest
from kernel_helpers import normal

import fastconv as fc

FUNCTIONS = [name for name in fc.__all__ if inspect.isfunction(getattr(fc, name))]
TAKE_OUT = [name for name in FUNCTIONS if "out" in inspect.signature(getattr(fc, name)).parameters]
THREE_RESULTS = [name for name in TAKE_OUT if name.endswith(("d_backward", "linear_backward"))
                 and name.startswith(("conv", "linear"))]
X, DY = normal((2, 3, 6, 6), np.float64), normal((2, 3, 6, 6), np.float64, 1)
ROWS, W = normal((4, 5), np.float64), normal((6, 5), np.float64, 1)
OTHERS = {
    "linear": (ROWS, W, normal((6,), np.float64, 2)),
    "linear_backward": (normal((4, 6), np.float64, 3), ROWS, W),
    "filter_image": (normal((9, 8), np.float64), np.ones((3, 3))),
}


def _spatial(rank, size):
    return (size,) * rank


def _convolution(name):
    rank = int(name.split("d")[0][-1])
    x, y = normal((2, 3, *_spatial(rank, 5)), np.float64), normal((2, 4, *_spatial(rank, 5)), np.float64, 1)
    w, b = normal((4, 3, *_spatial(rank, 3)), np.float64, 2), normal((4,), np.float64, 3)
    arguments = {"padding": 1}
    if "transpose" in name:
        w = normal((3, 4, *_spatial(rank, 3)), np.float64, 2)
    if name.endswith("_backward_input"):
        return (y, w, x.shape), arguments
    if name.endswith("_backward_weight"):
        return (y, x, w.shape), arguments
    return ((y, x, w) if name.endswith("_backward") else (x, w, b)), arguments


def _pooling(name):
    kind, rank = name.split("_")[0], name.split("pool")[1]
    rank = int(rank[0]) if rank[:1].isdigit() else 2
    x = normal((2, 3, *_spatial(rank, 6)), np.float64)
    y, indices = getattr(fc, f"max_pool{rank}d")(x, 2, return_indices=True)
    if name.startswith("max_unpool"):
        return ((x, indices, y.shape) if name.endswith("_backward") else (y, indices, 2)), {}
    forward = getattr(fc, name.removesuffix("_backward"))
    window = (3,) if kind == "adaptive" else () if kind == "global" else (2,)
    if not name.endswith("_backward"):
        return (x, *window), {}
    more = window if kind not in ("adaptive", "global") else ()
    known = {"indices": indices} if kind in ("max", "min") else {}
    return (forward(x, *window), x.shape if "avg" in name or "sum" in name else x, *more), known


def _call(name):
    """{name: value} of the arguments of a right call of a function that takes `out`."""
    if name.startswith("conv"):
        operands, others = _convolution(name)
    elif "pool" in name:
        operands, others = _pooling(name)
    else:
        operands, others = OTHERS.get(name, (DY, fc.softmax(X)) if name.endswith("_backward") else (X,)), {}
    return dict(zip(inspect.signature(getattr(fc, name)).parameters, operands)) | others


def _results(name, arguments):
    results = getattr(fc, name)(**arguments)
    return results if isinstance(results, tuple) else (results,)


def _sharing(operand, result, skip=0):
    """(a copy of the operand, an array like the result), the last bytes of the one the first of the other.

    `skip`: bytes of memory before the operand, which kernels read through a copy if it is not aligned.
    """
    start = operand.nbytes - operand.itemsize
    memory = np.zeros(skip + start + max(operand.nbytes, result.nbytes), np.uint8)[skip:]
    copy = memory[:operand.nbytes].view(operand.dtype).reshape(operand.shape)
    copy[...] = operand
    return copy, memory[start:start + result.nbytes].view(result.dtype).reshape(result.shape)


def _into(out, results, i):
    return tuple(out if i == j else None for j in range(len(results))) if len(results) == 3 else out


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("name", TAKE_OUT)
def test_out_that_shares_memory_with_an_operand(name, skip):
    arguments = _call(name)
    results, operands = _results(name, arguments), [key for key, a in arguments.items() if isinstance(a, np.ndarray)]
    assert operands
    for i, result in enumerate(results):
        for operand in operands:
            shared, out = _sharing(arguments[operand], result, skip)
            with pytest.raises(ValueError, match=rf"^{name}: out.*: shares memory with {operand}\b"):
                getattr(fc, name)(**arguments | {operand: shared, "out": _into(out, results, i)})
            np.testing.assert_array_equal(shared, arguments[operand])


@pytest.mark.parametrize("name", THREE_RESULTS)
def test_results_that_share_memory_with_each_other(name):
    arguments = _call(name)
    results = _results(name, arguments)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        out = [None] * 3
        out[i], out[j] = _sharing(results[i], results[j])
        with pytest.raises(ValueError, match=rf"^{name}: out\[{j}\].*: shares memory with d[xwb]"):
            getattr(fc, name)(**arguments, out=tuple(out))


@pytest.mark.parametrize("name", TAKE_OUT)
def test_out_between_the_elements_of_an_operand_is_served(name):
    """Memory in common without a shared element, like channels of one buffer."""
    arguments = _call(name)
    results, operand = _results(name, arguments), next(iter(arguments))
    pairs = np.zeros((max(arguments[operand].size, results[0].size), 2))
    shared = pairs[:arguments[operand].size, 0].reshape(arguments[operand].shape)
    out = pairs[:results[0].size, 1].reshape(results[0].shape)
    shared[...] = arguments[operand]
    got = getattr(fc, name)(**arguments | {operand: shared, "out": _into(out, results, 0)})
    assert (got[0] if isinstance(got, tuple) else got) is out
    np.testing.assert_allclose(out, results[0], rtol=1e-12)
