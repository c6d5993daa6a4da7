"""Weights packed ahead of the calls that use them."""
import numpy as np

from . import checks, runtime
from ._kernels import _runtime
from .planning_fft import FEWEST_TAPS
from .plans import ALGORITHMS, plan, select


class PackedWeight:
    """Weights in the order in which the kernels read them; made by :func:`fastconv.pack_weight`.

    Immutable. Stands for the weights in the forward functions, with the same bits as plain weights under the same
    algorithm.

    Attributes
    ----------
    shape : tuple
    dtype : dtype
        Of the plain weights.
    groups : int
    isa : str
        The kernels that can read it.
    algorithm : str
        The algorithm that it serves, or "auto" for all of them ("folded" with few channels alone).
    nbytes : int
    """

    __slots__ = ("_data", "_plain", "_transformed", "algorithm", "dtype", "groups", "isa", "shape")

    def __init__(self, data, transformed, plain, shape, dtype, groups, isa, algorithm):
        data.flags.writeable = False
        for name, value in (("_data", data), ("_transformed", transformed), ("_plain", plain), ("shape", shape),
                            ("dtype", dtype), ("groups", groups), ("isa", isa), ("algorithm", algorithm)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        raise AttributeError("PackedWeight is immutable")

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return _restored, (self._data, self._transformed, self._plain, self.shape, self.dtype, self.groups, self.isa,
                           self.algorithm)

    @property
    def _call_layout(self):
        """The key by which calls with packed weights are kept (_runtime.Calls)."""
        return self.shape, self.dtype.char, self.groups, self.isa, self.algorithm

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def nbytes(self):
        return self._data.nbytes + (0 if self._plain is None else self._plain.nbytes)

    def with_pixel_axis(self):
        """Weights (out, in) of a dense layer as those of a 1x1 convolution, (out, in, 1)."""
        plain = None if self._plain is None else self._plain[..., None]
        return PackedWeight(self._data, self._transformed, plain, (*self.shape, 1), self.dtype, self.groups, self.isa,
                            self.algorithm)

    def operands_for(self, algorithm):
        """(weights, packed weights, whether those are transformed), as the plan of an algorithm takes them."""
        if algorithm == "folded" or algorithm == "fft" != self.algorithm:
            return self._plain, None, False
        return None, self._data, self._transformed

    def __repr__(self):
        return (f"PackedWeight(shape={self.shape}, dtype={self.dtype}, groups={self.groups}, isa={self.isa!r}, "
                f"algorithm={self.algorithm!r}, nbytes={self.nbytes})")


def _aligned(size):
    data = np.empty(size + 64, np.uint8)
    return data[-data.__array_interface__["data"][0] % 64:][:size]


def _restored(data, *others):
    """Pickled weights again, where vectors can be loaded fast."""
    aligned = _aligned(data.size)
    aligned[...] = data
    return PackedWeight(aligned, *others)


def pack(w, stride, dilation, groups, input_shape, algorithm):
    fn = "pack_weight"
    w = checks.operand(fn, "w", w)
    checks.rank_of(fn, "w", w, 2, 3, 4, 5)
    rank = w.ndim - 2
    c = w.shape[1] * checks.integer(fn, "groups", groups, 1, checks.MOST)
    any_size = input_shape is None
    if any_size:
        spans = [d * (k - 1) + 1 for d, k in zip(checks.per_axis(fn, "dilation", dilation, rank, 1), w.shape[2:])]
        input_shape = (1, c, *spans)
    # The padding of the calls is not known; "same" is the usual one and fits every size.
    shape = checks.shape_tuple(fn, "input_shape", input_shape)
    if len(shape) != w.ndim:
        raise ValueError(f"{fn}: input_shape: got {shape}; expected {w.ndim} extents, (N, C, *spatial)")
    g = checks.conv_geometry(fn, rank, shape, w.shape, stride, "same", dilation, groups, "zeros", ("input_shape", "w"))
    default = runtime.default_algorithm()
    chosen, other = (select(fn, "forward", g, algorithm, default, w.dtype, order)
                     for order in (checks.CHANNELS_FIRST, checks.CHANNELS_LAST))
    isa = _runtime.isa_in_use()
    # Where size or memory order decide, the untransformed taps serve whatever algorithm a call takes.
    serves_all = algorithm == "auto" and (any_size or chosen != other)
    compiled = plan("forward", g, "direct" if serves_all or chosen == "folded" else chosen, w.dtype, False, isa,
                    packed=True)
    data = _aligned(compiled.packed_bytes)
    transformed = compiled.pack(np.ascontiguousarray(w), data)
    # How far few columns are folded depends on the size of x, and spectra are made from plain weights: those are kept.
    _, lanes, _ = _runtime.tile_constants(w.dtype == np.float64)
    plain_needed = serves_all and (2 * g.k <= lanes or g.kernel[2] >= FEWEST_TAPS)
    plain = np.array(w, order="C") if chosen == "folded" or plain_needed else None
    return PackedWeight(data, transformed, plain, w.shape, w.dtype, g.groups, isa, "auto" if serves_all else chosen)


def check_packed(fn, w, groups, x, rank, algorithm):
    """Check that packed weights fit a call; returns the algorithm argument that the call then has."""
    if w.ndim != rank + 2:
        raise ValueError(f"{fn}: w: got packed weights of shape {w.shape}; expected {rank + 2} axes")
    if w.dtype != x.dtype:
        raise ValueError(f"{fn}: x is {x.dtype} but w was packed from {w.dtype}; expected one dtype for all operands")
    if w.isa != _runtime.isa_in_use():
        raise ValueError(f"{fn}: w: was packed for {w.isa!r}; the kernels in use are {_runtime.isa_in_use()!r}")
    if w.groups != checks.integer(fn, "groups", groups, 1):
        raise ValueError(f"{fn}: w: was packed for {w.groups} groups; got groups={groups}")
    checks.choice(fn, "algorithm", algorithm, ALGORITHMS)
    if w.algorithm == "auto":
        if algorithm == "folded" and w._plain is None:
            raise ValueError(f"{fn}: algorithm: got 'folded'; weights of so many channels are packed for the others")
        return algorithm
    if algorithm not in ("auto", w.algorithm):
        raise ValueError(f"{fn}: algorithm: got {algorithm!r}; the weights were packed for {w.algorithm!r}")
    return w.algorithm
