"""What the tests of the reference share."""

import numpy as np
import pytest

from fastconv import reference


def close(got, expected, tolerance=1e-12):
    """Equal shapes, and equal up to ``tolerance`` of the largest magnitude (at least 1)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


def inner(a, b):
    """The inner product of two arrays, in float64."""
    return float((np.asarray(a, dtype=np.float64) * np.asarray(b, dtype=np.float64)).sum())


def check_adjoint(rng, forward, backward, *shapes):
    """``<dy, A x> == <A^T dy, x>`` for a function that is linear in ``x`` and what claims to be its gradient."""
    for shape in shapes:
        x = rng.standard_normal(shape)
        y = forward(x)
        dy = rng.standard_normal(y.shape)
        dx = backward(dy)
        assert dx.shape == x.shape
        assert inner(dx, x) == pytest.approx(inner(dy, y), rel=1e-10, abs=1e-10)


def check_gradient(loss, x, gradient, step=1e-6):
    """``gradient`` against central differences of the scalar function ``loss`` at ``x``."""
    expected = np.empty(x.shape)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        expected[i] = (loss(up) - loss(down)) / (2 * step)
    close(gradient, expected, 1e-7)


def at_rank(name, nd):
    """The reference function ``name`` with ``{}`` standing for the number of spatial axes."""
    return getattr(reference, name.format(nd))
