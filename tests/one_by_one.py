"""A program: runs kernels with one_by_one.so preloaded, and ends with an error where a promise is broken.

``one_by_one.py ISA {convolutions,others}``: every call has the same bits on 1, 2, 3 and 7 real threads, each of which
enters, and on as many threads as there are work items, run one after the other in any order. Where each finds memory
as it was before the parallel region, they write disjoint bytes, of results and scratch alike, and all of the results.
Where there is no memory for a piece of scratch, the call is a MemoryError, and the next one has the same bits.
Convolutions also keep their bits for any split of the batch, and use no more scratch than explain_conv says.
"""
import ctypes
import os
import sys

import kernel_calls
import numpy as np

import fastconv as fc
from fastconv._kernels import _runtime

COUNT, ALONE, SHUFFLED = range(3)
THREADS = 64   # or one a work item, where there are fewer
HUGE_PAGE = 2 << 20

shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
shim.watch.argtypes = ctypes.c_void_p, ctypes.c_size_t
shim.shared.restype = shim.peak.restype = ctypes.c_size_t


def bits(results):
    return [r.tobytes() for r in results]


def run(call, mode, threads, targets, seed=0):
    """The bits of a call under the shim, which finds no scratch kept."""
    fc.release_memory()
    shim.begin(mode, seed)
    try:
        return bits(call.run(targets, threads))
    finally:
        shim.end()


def fresh(call):
    return call.targets(np.nan) if call.shapes else []


def check_threads(name, call, expected):
    """The same bits on any number of threads; every one of those asked for has come."""
    most = 1
    for threads in (1, 2, 3, 7, 2):
        assert run(call, COUNT, threads, fresh(call)) == expected, f"{name}: other bits on {threads} threads"
        for region in range(shim.regions()):
            asked, entered = shim.asked(region), shim.entered(region)
            assert 2 <= asked <= threads and entered == asked, f"{name}: {entered} of {asked} threads came"
            most = max(most, asked)
    assert most > 1, f"{name}: never ran on several threads"


def check_items(name, call, expected):
    """Every work item alone, and all in several orders."""
    targets = fresh(call)
    for t in targets:
        shim.watch(t.ctypes.data, t.nbytes)
    got = run(call, ALONE, THREADS, targets)
    shim.unwatch()
    assert not shim.shared(), f"{name}: {shim.shared()} bytes are written by several items"
    assert got == expected, f"{name}: items depend on each other"
    assert not any(np.isnan(t).any() for t in targets), f"{name}: a part of the result is not written"
    for seed in (1, 2):
        assert run(call, SHUFFLED, THREADS, fresh(call), seed) == expected, f"{name}: other bits in another order"


def check_no_memory(name, call, expected):
    """Without its first, second, ... piece of scratch."""
    run(call, COUNT, 3, fresh(call))
    for pieces in range(shim.taken()):
        shim.allow(pieces)
        try:
            run(call, COUNT, 3, fresh(call))
        except MemoryError:
            pass
        else:
            raise AssertionError(f"{name}: no MemoryError where there are {pieces} pieces of scratch")
        finally:
            shim.allow(-1)
        assert run(call, COUNT, 3, fresh(call)) == expected, f"{name}: other bits after a MemoryError"


def check_split(name, call):
    whole, = call.run(fresh(call), None)
    images = len(whole)
    for cut in range(1, images):
        parts = np.concatenate([call.split(0, cut), call.split(cut, images)])
        assert parts.tobytes() == whole.tobytes(), f"{name}: other bits for {cut} of {images} images"


def check_workspace(name, call):
    """Scratch comes in whole huge pages where it fills one."""
    for threads in (1, 3):
        allowed = fc.explain_conv(num_threads=threads, **call.plan).workspace
        page = HUGE_PAGE if allowed >= HUGE_PAGE else 64
        run(call, COUNT, threads, fresh(call))
        used = shim.peak()
        assert used <= -(-allowed // page) * page, f"{name}: {used} bytes of scratch, not {allowed}"


def check_that_overlaps_are_seen():
    """Three threads write two bytes each, of four together."""
    memory = np.zeros(4, np.uint8)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def body(_):
        t = shim.omp_get_thread_num()
        memory[t:t + 2] = 1 + t

    shim.watch(memory.ctypes.data, memory.nbytes)
    shim.begin(ALONE, 0)
    shim.GOMP_parallel(body, None, 3, 0)
    shim.end()
    shim.unwatch()
    assert shim.shared() == 2 and shim.entered(0) == 3 and memory.tolist() == [1, 2, 3, 3]


def check(name, call):
    expected = bits(call.run(fresh(call), 1))
    check_threads(name, call, expected)
    check_items(name, call, expected)
    check_no_memory(name, call, expected)
    if call.split:
        check_split(name, call)
    if call.plan:
        check_workspace(name, call)


def main(isa, kind):
    _runtime._use_isa(isa)
    _runtime.set_serial_threshold(0)
    fc.set_result_cache(0)
    check_that_overlaps_are_seen()
    for name, call in getattr(kernel_calls, kind)():
        check(name, call)


if __name__ == "__main__":
    main(*sys.argv[1:])
