"""The header of an array in NumPy's ``.npy`` format, read as if an enemy had written it.

It is a Python literal: a dict of a string, a bool and a tuple of ints, which is all that is parsed here; no dtype but
those of plain numbers is built from it.
"""
import ast
import math
import re
from typing import IO, Any, Literal

import numpy as np

__all__ = ["read_header"]

MAX_HEADER = 10_000  # bytes; as NumPy's
MAX_NDIM = 32
_LENGTH_BYTES = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}
_PLAIN_DTYPE = re.compile(r"\|b1|[<>|=]?(?:[iu][1248]|f[248])")


def read_header(stream: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    """(dtype, shape, memory order "C" or "F") of the array whose elements follow in the stream; else a ValueError."""
    wide = _LENGTH_BYTES.get(stream.read(8), 0)
    length = int.from_bytes(stream.read(wide), "little")
    text = stream.read(length) if length <= MAX_HEADER else b""
    if not text or len(text) != length:
        raise ValueError("no readable header")
    try:
        fields = ast.literal_eval(text.decode("latin1").strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"no readable header: {type(error).__name__}") from error
    if not (isinstance(fields, dict) and fields.keys() == {"descr", "fortran_order", "shape"}):
        raise ValueError("a header without descr, fortran_order and shape")
    dtype, shape, fortran = fields["descr"], fields["shape"], fields["fortran_order"]
    if not (isinstance(dtype, str) and _PLAIN_DTYPE.fullmatch(dtype)):
        raise ValueError(f"the dtype {dtype!r:.80}, expected bool, integer or floating point")
    if not (isinstance(shape, tuple) and len(shape) <= MAX_NDIM and isinstance(fortran, bool)
            and all(type(extent) is int and extent >= 0 for extent in shape)
            and math.prod(max(n, 1) for n in shape) < 2**60):
        raise ValueError("no valid shape")
    return np.dtype(dtype), shape, "F" if fortran else "C"
