"""Kernels in children of fork: of Python's, of a pool's, of a C library's, beside other OpenMP runtimes."""
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv._kernels import _runtime

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

SECONDS = 150  # a child that hangs is ended after 60 by its alarm, and fails

COMMON = """
import ctypes, os, signal, threading, time
import numpy as np, fastconv as fc
from fastconv import nn
from fastconv._kernels import _runtime
_runtime.set_serial_threshold(0)
rng = np.random.default_rng(0)
x, w = rng.random((2, 16, 20, 20), np.float32), rng.random((16, 16, 3, 3), np.float32)
def work():
    return [a.tobytes() for a in (fc.conv2d(x, w, num_threads=3), *fc.conv2d_backward(
        fc.conv2d(x, w), x, w, num_threads=3), fc.max_pool2d(x, 2, num_threads=2))]
expected = work()
def child(fork, function=work):
    "Whether a new child gets the same results."
    pid = fork()
    if not pid:
        signal.alarm(60)
        os._exit(0 if function() == expected else 1)
    return os.waitpid(pid, 0)[1] == 0
"""


def run_as_it_is(code):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout + done.stderr


def run(code):
    run_as_it_is(COMMON + code)


def test_children_and_parent_in_turns():
    run("""
for _ in range(30):
    assert child(os.fork) and work() == expected
print("done")
""")


def test_children_of_children():
    run("""
def generation(depth):
    return work() if not depth else expected if child(os.fork, lambda: generation(depth - 1)) else None
assert generation(4) == expected
print("done")
""")


def test_fork_of_a_c_library():
    """No handler of Python's runs."""
    run("""
fork = ctypes.PyDLL(None).fork
for _ in range(30):
    assert child(fork) and work() == expected
print("done")
""")


def test_pool():
    run("""
import multiprocessing
def job(i):
    return work() == expected
for _ in range(3):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert all(pool.map(job, range(30))) and work() == expected
print("done")
""")


def test_a_server_that_forks_its_workers():
    """The parent warms a model up and works on; workers serve requests, one ends and is replaced."""
    run("""
model = nn.Sequential(nn.Conv2d(16, 20, 3, rng=0), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1620, 5, rng=1))
answer = model(x).tobytes()
def worker():
    ask, asked = os.pipe()
    reply, replied = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        while os.read(ask, 1) == b"?":
            os.write(replied, b"y" if model(x).tobytes() == answer else b"n")
        os._exit(0)
    return pid, asked, reply
workers = [worker() for _ in range(3)]
for turn in range(12):
    for pid, asked, reply in workers:
        os.write(asked, b"?")
        assert os.read(reply, 1) == b"y"
    assert model(x).tobytes() == answer
    pid, asked, reply = workers.pop(0)
    os.write(asked, b".")
    assert os.waitpid(pid, 0)[1] == 0
    workers.append(worker())
for pid, asked, reply in workers:
    os.write(asked, b".")
    assert os.waitpid(pid, 0)[1] == 0
print("done")
""")


def test_fork_while_another_thread_is_inside_kernels():
    run("""
busy, results = True, []
def others():
    while busy:
        results.append(work() == expected)
threads = [threading.Thread(target=others) for _ in range(2)]
for t in threads: t.start()
for _ in range(20):
    assert child(os.fork)
busy = False
for t in threads: t.join()
assert results and all(results)
print("done")
""")


@pytest.mark.parametrize("order", ["loaded-first", "loaded-last"])
def test_beside_another_openmp_runtime(order, tmp_path):
    """A copy of gcc's under another name, as wheels bring along, that works and has threads of its own."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if _runtime.openmp_version() and maps.exists() else []
    library = next((line.split()[-1] for line in lines if "/libgomp" in line), None)
    if library is None:
        pytest.skip("doesn't run on gcc's OpenMP runtime")
    copy = shutil.copy(library, tmp_path / "libgomp-other.so.1")
    load = f"import ctypes; other = ctypes.CDLL({str(copy)!r}, ctypes.RTLD_GLOBAL)\n"
    regions = """
came = set()
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def body(_):
    came.add(threading.get_ident())
for _ in range(10):
    other.GOMP_parallel(body, None, 2, 0)
    assert len(came) > 1 and work() == expected and child(os.fork) and child(ctypes.PyDLL(None).fork)
print("done")
"""
    run_as_it_is(load + COMMON + regions if order == "loaded-first" else COMMON + load + regions)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("first", ["import torch", ""], ids=["torch-first", "torch-last"])
def test_beside_the_openmp_runtime_of_torch(first):
    run_as_it_is(first + COMMON + """
import torch
torch.set_num_threads(2)
tx, tw = torch.from_numpy(x), torch.from_numpy(w)
for _ in range(10):
    torch.nn.functional.conv2d(tx, tw)
    torch.randn(100, 100) @ torch.randn(100, 100)
    assert work() == expected and child(os.fork) and child(ctypes.PyDLL(None).fork)
print("done")
""")
