"""Resident memory over many shapes, and what happens where there is none."""
import os
import subprocess
import sys

import pytest

from fastconv._kernels import _runtime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets Linux's limits")


def run(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SHAPES = """
import numpy as np, fastconv as fc
rng = np.random.default_rng(0)
orders = fc.channels_first, fc.channels_last
def some(lo, hi):
    return int(rng.integers(lo, hi))
def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096
def one_shape():
    n, c, k, h, w, r = some(1, 4), some(1, 40), some(1, 40), some(8, 40), some(8, 40), some(1, 6)
    order = orders[some(0, 2)]
    x = order(rng.random((n, c, h, w), np.float32))
    options = {"padding": some(0, r), "stride": some(1, 3)}
    weights = rng.random((k, c, r, r), np.float32)
    y = fc.conv2d(x, weights, **options)
    fc.conv2d_backward(y, x, weights, **options)
    fc.conv2d(x, fc.pack_weight(weights), **options)
    y, places = fc.max_pool2d(x, 3, some(1, 4), return_indices=True)
    fc.max_pool2d_backward(y, x, 3, 1) if y.shape[2:] == (h - 2, w - 2) else fc.relu(y)
    fc.softmax(x)
"""


def test_memory_stays_flat_over_2000_shapes():
    """No cache grows with the number of shapes, but that of results, which has a limit and is off here.

    16 MiB is what a heap may lose to fragments.
    """
    before, after = map(int, run(SHAPES + """
for i in range(2000):
    one_shape()
    if i == 199: print(resident())
print(resident())
""", MALLOC_ARENA_MAX="1", FASTCONV_RESULT_CACHE="0").split())
    assert after - before <= 16 << 20, f"{(after - before) / 2**20:.1f} MiB more than after 200 shapes"


# What is freed goes back to the system at once, and no other library has threads.
HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "0",
        "OPENBLAS_NUM_THREADS": "1"}

LIMIT = """
import resource, numpy as np, fastconv as fc
from fastconv._kernels import _runtime
x, w, small = np.ones((1, 64, 64, 64), "f"), np.ones((4096, 64, 3, 3), "f"), np.ones((64, 64, 3, 3), "f")
dy = np.ones((1, 4096, 64, 64), "f")
out, dw = np.empty((1, 64, 64, 64), "f"), np.empty((128, 128, 3, 3), "f")
many = np.ones((8, 128, 56, 56), "f")
def works():
    return (fc.conv2d(x, small, padding=1, out=out, num_threads=2, algorithm="direct")[0, 0, 5, 5] == 576
            and fc.max_pool2d(x, 2, num_threads=2).all())
def limit(spare):
    fc.release_memory()
    with open("/proc/self/statm") as f:
        size = int(f.read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (size + spare if spare else resource.RLIM_INFINITY, resource.RLIM_INFINITY))
def fails(call):
    try:
        call()
    except MemoryError:
        return True
"""


def test_no_memory_is_a_memory_error_and_the_next_call_works():
    """For results, for scratch, and for copies of operands; the threads stand already."""
    run(LIMIT + """
assert works()
calls = {
    "result": lambda: fc.conv2d(x, w, padding=1, num_threads=2),
    "packed weights": lambda: fc.pack_weight(w),
    "scratch for packed weights": lambda: fc.conv2d_backward_input(dy, w, x.shape, padding=1, out=out, num_threads=2,
                                                                   algorithm="direct"),
    "scratch for partial sums": lambda: fc.conv2d_backward_weight(many, many, dw.shape, padding=1, out=dw,
                                                                  num_threads=2, algorithm="direct"),
    "pooling": lambda: fc.max_pool2d(dy, 1),
    "gradient of pooling": lambda: fc.avg_pool2d_backward(dy, dy.shape, 1),
    "copy": lambda: fc.relu(dy[:, :, ::2]),
    "activation": lambda: fc.softmax(dy),
}
for name, call in calls.items():
    limit(4 << 20)
    assert fails(call), name
    assert works(), name
    limit(0)
    call()
    assert works(), name
print(_runtime.scratch_kept())
""", **HEAP)


def test_scratch_takes_the_place_of_what_is_kept():
    """Where memory for scratch is short, that of results that are gone is given back first."""
    run(LIMIT + """
fc.set_result_cache(1 << 30)
assert works()
limit(80 << 20)
y = fc.max_pool2d(dy, 1)   # 64 MiB, kept
del y
kept = _runtime.results_kept()
assert kept >= 64 << 20
held = np.empty(13 << 18, "f")
fc.conv2d_backward_input(dy, w, x.shape, padding=1, out=out, num_threads=2, algorithm="direct")
assert _runtime.results_kept() < kept
assert works()
""", **HEAP)


@pytest.mark.skipif(not _runtime.openmp_version(), reason="built without OpenMP")
def test_threads_that_cannot_be_made_end_the_process():
    """What libgomp does, and the documentation says; one thread needs none."""
    code = LIMIT + """
limit(8 << 20)
fc.conv2d(x, small, padding=1, out=out, num_threads=1)
print("one", flush=True)
fc.conv2d(x, small, padding=1, out=out, num_threads=2)
print("two", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env=os.environ | HEAP | {"OMP_STACKSIZE": "64M"})
    assert done.returncode == 1 and "Thread creation failed" in done.stderr
    assert done.stdout.split() == ["one"]
