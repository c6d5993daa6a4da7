"""Backward-weight with x and dy exchanged, for layers with few output channels.

With stride 1, dw[k, c, t] is the sum of dy[p, k] x[p + d t, c] over results p, which is that of x[q, c] dy[q - d t, k]
over pixels q of x: the gradient of a convolution of dy whose result is x, with its taps reversed. The kernels have
output channels as columns, so that few of them leave lanes idle; here the columns are input channels.
"""
from math import prod

import numpy as np

from . import checks, runtime


def exchanges(g):
    """Whether a convolution's weight gradient can be had by exchanging x and dy, with fewer lanes idle."""
    return (g.groups == 1 and g.stride == (1, 1, 1) and g.mode == 0 and not g.crops and g.c > g.k
            and all(max(pads) <= reach for *pads, reach in zip(g.before, g.after, _reaches(g))))


def exchanged_geometry(g):
    """The convolution of dy whose result is x."""
    before, after = (tuple(reach - pad for reach, pad in zip(_reaches(g), pads)) for pads in (g.before, g.after))
    return g._replace(c=g.k, k=g.c, in_=g.out, out=g.in_, before=before, after=after)


def _reaches(g):
    return tuple(d * (taps - 1) for d, taps in zip(g.dilation, g.kernel))


class ExchangedGradient:
    """dw by the plan of the exchanged convolution, and db by the plan of the convolution itself."""

    def __init__(self, exchanged, biases, g, dtype):
        self._exchanged, self._biases = exchanged, biases
        self.blocking, self.work_items = exchanged.blocking, exchanged.work_items
        self.share_bytes = exchanged.share_bytes
        pixels = g.n * g.k * prod(g.out)  # of dy, which may have to be copied to the memory order of x
        self.scratch_bytes = exchanged.scratch_bytes + (g.c * g.k * prod(g.kernel) + pixels) * dtype.itemsize

    def run(self, src, grad, dw, db, accumulate, num_threads):
        """dw (contiguous) and db from x and dy; either result may be None."""
        if dw is not None:
            order = checks.memory_order(src)
            if checks.memory_order(grad) != order:
                copy = checks.empty(grad.shape, grad.dtype, order)
                copy[...] = grad
                grad = copy
            turned = np.empty((dw.shape[1], dw.shape[0], *dw.shape[2:]), dw.dtype)
            self._exchanged.run(grad, src, turned, None, False, num_threads)
            reverse = slice(None, None, -1)
            taps = turned.swapaxes(0, 1)[(slice(None), slice(None), *[reverse] * (dw.ndim - 2))]
            deliver(taps, dw, accumulate)
        if db is not None:
            self._biases.run(src, grad, None, db, accumulate, num_threads)


@runtime.keeps_floating_point
def deliver(part, out, accumulate):
    """What NumPy has to move, or add, to a caller's array."""
    out[...] = out + part if accumulate else part
