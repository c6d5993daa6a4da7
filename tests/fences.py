"""A program: runs every kernel on operands, results and scratch that lie beside pages that may not be touched.

``fences.py ISA {behind,before}``: every array ends, or begins, at such a page. What touches one ends the program;
its last line is the call. ``planted`` in place of an instruction set reads one element beyond an array.
"""
import ctypes
import itertools
import os
import sys

import kernel_calls
import numpy as np
from kernel_helpers import DTYPES

import fastconv as fc
from fastconv._kernels import _runtime

SET_HANDLER = 304  # PyDataMem_SetHandler in NumPy's table of functions
FUNCTIONS = ("malloc", "calloc", "realloc", "free")


class Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", ctypes.c_void_p),
                *((name, ctypes.c_void_p) for name in FUNCTIONS)]


def fence(side):
    """From now on arrays and scratch lie beside pages that may not be touched; returns what has to stay alive."""
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.begin(side == "behind")
    handler = Handler(b"fences", 1, None, *(
        ctypes.cast(getattr(library, f"array_{name}"), ctypes.c_void_p) for name in FUNCTIONS))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = ctypes.cast(pointer(np._core.multiarray._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])(
        new(ctypes.addressof(handler), b"mem_handler", None))
    assert np._core.multiarray.get_handler_name(np.empty(2000)) == "fences"
    return handler, library


def main(isa, side):
    handler = fence(side)
    if isa == "planted":
        ones = np.ones(5, np.float32)
        return fc.relu(np.lib.stride_tricks.as_strided(ones, (6,), ones.strides))
    _runtime._use_isa(isa)
    _runtime.set_serial_threshold(0)
    _runtime.SCRATCH_KEPT = 0
    for dtype in DTYPES:
        for name, call in itertools.chain(kernel_calls.convolutions(dtype), kernel_calls.others(dtype)):
            print(name, flush=True)
            assert not any(np.isnan(r).any() for r in call.run(call.targets(np.nan), 2)), name
    return handler


if __name__ == "__main__":
    main(*sys.argv[1:])
