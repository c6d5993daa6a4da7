"""What kernel tests share: arrays in every memory order, guarded outputs, one tolerance."""
import numpy as np

ORDERS = ("channels_first", "channels_last")
DTYPES = (np.float32, np.float64)


def in_order(x, order):
    """A copy of (N, C, *spatial) in a memory order."""
    if order == "channels_first":
        return np.ascontiguousarray(x)
    last = x.ndim - 1
    return np.ascontiguousarray(x.transpose(0, *range(2, x.ndim), 1)).transpose(0, last, *range(1, last))


def normal(shape, dtype, seed=0, order="channels_first"):
    return in_order(np.random.default_rng(seed).standard_normal(shape).astype(dtype), order)


def small_integers(shape, dtype, seed=0, order="channels_first"):
    """Values on which convolution is exact in any order of summation."""
    return in_order(np.random.default_rng(seed).integers(-3, 4, shape).astype(dtype), order)


class Guarded:
    """A NaN-filled output inside a larger buffer, with guard bands on both sides that have to survive."""

    BAND, MARK = 64, -12345.0

    def __init__(self, shape, dtype, order="channels_first"):
        size = int(np.prod(shape))
        self.buffer = np.full(size + 2 * self.BAND, self.MARK, dtype)
        inner = self.buffer[self.BAND:self.BAND + size]
        inner[:] = np.nan
        if order == "channels_first" or len(shape) < 3:
            self.array = inner.reshape(shape)
        else:
            last = len(shape) - 1
            self.array = inner.reshape(shape[0], *shape[2:], shape[1]).transpose(0, last, *range(1, last))

    def intact(self):
        return bool((self.buffer[:self.BAND] == self.MARK).all() and (self.buffer[-self.BAND:] == self.MARK).all())


def assert_close(got, expected, reduction, scale=None):
    """Normwise: |got - expected| within a few eps x sqrt(reduction length) of the largest magnitude."""
    eps = np.finfo(got.dtype).eps
    expected = np.asarray(expected, np.float64)
    scale = np.abs(expected).max(initial=1e-30) if scale is None else scale
    bound = 8 * eps * (4 + np.sqrt(reduction)) * scale
    worst = np.abs(got.astype(np.float64) - expected).max(initial=0)
    assert worst <= bound, f"error {worst:.3g} above {bound:.3g} ({worst / scale / eps:.1f} eps of the largest value)"
