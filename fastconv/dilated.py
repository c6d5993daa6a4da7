"""Strongly dilated convolution as several undilated ones.

Along an axis of stride 1 and dilation d, the outputs a, a + d, a + 2 d, ... use the inputs b, b + d, ... alone, where
b = (a - before) mod d, and they use them like a convolution without dilation. Each residue a is run on strided views,
so a strip holds the rows that its outputs need and not the d - 1 rows between them (the idea of Yu and Koltun's
dilated convolution, read backwards). Only the outer spatial axes are split: rows stay runs of memory.
"""
from itertools import product

import numpy as np

# Taps that lie this far apart make strips of mostly unused rows: 469 of 580 GFLOP/s at 2 x 2 rows, 99 at 2 x 12.
LEAST_REACH = 8


def split_axes(g):
    """The axes (0 depth, 1 height) along which residues pay, where every residue has an output and an input."""
    if g.mode:
        return ()
    return tuple(i for i in (0, 1) if g.stride[i] == 1 and g.dilation[i] > 1
                 and g.dilation[i] * (g.kernel[i] - 1) >= LEAST_REACH and min(g.in_[i], g.out[i]) >= g.dilation[i])


def _residues(g, axis):
    """(residue of the outputs, residue of the inputs, shift of the inputs) of one axis."""
    d = g.dilation[axis]
    for a in range(d):
        shift, b = divmod(a - g.before[axis], d)
        yield a, b, shift


def _replaced(values, axis, value):
    return (*values[:axis], value, *values[axis + 1:])


class ResiduePlan:
    """Runs one compiled plan for each combination of residues; stands for a compiled plan."""

    def __init__(self, g, backward_input, compiled_plan):
        axes = split_axes(g)
        self.parts = []
        for combination in product(*(list(_residues(g, axis)) for axis in axes)):
            part, source, target = g, [slice(None)] * (g.rank + 2), [slice(None)] * (g.rank + 2)
            for axis, (a, b, shift) in zip(axes, combination):
                d, array_axis = g.dilation[axis], axis - 3
                part = part._replace(
                    in_=_replaced(part.in_, axis, -(-(g.in_[axis] - b) // d)),
                    out=_replaced(part.out, axis, -(-(g.out[axis] - a) // d)),
                    before=_replaced(part.before, axis, -shift), dilation=_replaced(part.dilation, axis, 1))
                source[array_axis], target[array_axis] = slice(b, None, d), slice(a, None, d)
            if backward_input:
                source, target = target, source
            self.parts.append((compiled_plan(part), tuple(source), tuple(target)))
        first = self.parts[0][0]
        self.blocking = first.blocking
        self.scratch_bytes = max(plan.scratch_bytes for plan, _, _ in self.parts)
        self.share_bytes = max(plan.share_bytes for plan, _, _ in self.parts)
        self.work_items = first.work_items

    @property
    def packed_bytes(self):
        return self.parts[0][0].packed_bytes

    def pack(self, w, packed):
        return self.parts[0][0].pack(w, packed)


class ResidueCorrelation(ResiduePlan):
    def run(self, src, w, packed, transformed, bias, dst, activation, num_threads):
        if packed is None:
            packed = np.empty(self.packed_bytes, np.uint8)
            transformed = self.pack(w, packed)
        for plan, source, target in self.parts:
            plan.run(src[source], None, packed, transformed, bias, dst[target], activation, num_threads)


class ResidueWeightGradient(ResiduePlan):
    def run(self, src, grad, dw, db, accumulate, num_threads):
        for plan, source, target in self.parts:
            plan.run(src[source], grad[target], dw, db, accumulate, num_threads)
            accumulate = True
