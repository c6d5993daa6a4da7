"""Threads, instruction sets, defaults, fork."""
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from kernel_helpers import normal

import fastconv as fc
from fastconv import runtime
from fastconv._kernels import _runtime


def python(code, without=(), **environment):
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env=kept | environment)


def threads_in_a_new_thread():
    seen = []
    worker = threading.Thread(target=lambda: seen.append(fc.get_num_threads()))
    worker.start()
    worker.join()
    return seen[0]


def test_threads_argument_context_and_process():
    here, elsewhere = fc.get_num_threads(), threads_in_a_new_thread()
    with fc.threads(5):
        assert fc.get_num_threads() == 5
        with fc.threads(2):
            assert fc.get_num_threads() == 2
        assert _runtime.threads_for_call(7) == 7
        inherits = getattr(sys.flags, "thread_inherit_context", False)  # as threads of free-threaded Python do
        assert threads_in_a_new_thread() == (5 if inherits else elsewhere)
    assert fc.get_num_threads() == here
    code = "import fastconv as fc; fc.set_num_threads(3); print(fc.get_num_threads())"
    assert python(code).stdout.strip() == "3"


@pytest.mark.parametrize("n, error", [(0, ValueError), (1025, ValueError), (-1, ValueError), (1.5, TypeError),
                                      (True, TypeError), ("2", TypeError)])
def test_thread_counts_are_checked(n, error):
    x, w = normal((1, 1, 4, 4), np.float32), normal((1, 1, 3, 3), np.float32)
    for call in (lambda: fc.set_num_threads(n), lambda: fc.threads(n).__enter__(),
                 lambda: fc.conv2d(x, w, num_threads=n)):
        with pytest.raises(error, match=": (n|num_threads): got"):
            call()


def test_environment_caps_the_default():
    code = "import fastconv as fc; print(fc.get_num_threads())"
    assert python(code, FASTCONV_NUM_THREADS="1").stdout.strip() == "1"
    assert python(code, OMP_NUM_THREADS="1").stdout.strip() == "1"
    assert "FASTCONV_NUM_THREADS" in python(code, FASTCONV_NUM_THREADS="many").stderr


def test_affinity_mask_caps_the_default():
    code = ("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import fastconv as fc; "
            "print(fc.get_num_threads())")
    assert python(code).stdout.strip() == "1"


def test_isa_can_be_forced():
    code = "import fastconv as fc; fc.show_config()"
    for isa in _runtime.isa_available():
        shown = python(code, FASTCONV_ISA=isa).stdout
        assert f"isa in use     {isa}\n" in shown
    done = python(code, FASTCONV_ISA="mmx")
    assert done.returncode == 1 and "ValueError" in done.stderr and "mmx" in done.stderr


def test_default_algorithm():
    assert runtime.default_algorithm() == "auto"
    with fc.algorithm("direct"):
        assert runtime.default_algorithm() == "direct"
    with pytest.raises(ValueError, match="auto"):
        fc.algorithm("winograd4").__enter__()
    assert "FASTCONV_ALGORITHM" in python("import fastconv", FASTCONV_ALGORITHM="fft").stderr


def test_show_config_names_what_runs(capsys):
    fc.show_config()
    shown = capsys.readouterr().out
    for name in ("fastconv", "compiler", "openmp", "isa in use", "threads", "cpu quota"):
        assert name in shown
    assert fc.__version__ in shown


def test_scratch_is_kept_and_released():
    fc.conv2d(normal((1, 8, 20, 20), np.float32), normal((8, 8, 3, 3), np.float32))
    assert 0 < _runtime.scratch_kept() <= _runtime.SCRATCH_KEPT
    fc.release_memory()
    assert _runtime.scratch_kept() == 0


def test_no_spinning_after_a_call():
    """CPU time of an idle process stays near zero, without a word from the environment, which is left as it was."""
    code = """
import os, time, numpy as np, fastconv as fc
fc.conv2d(np.ones((8, 32, 40, 40), "f"), np.ones((32, 32, 3, 3), "f"), num_threads=2)
time.sleep(0.05)
start = time.process_time()
time.sleep(0.5)
print(time.process_time() - start, os.environ.get("GOMP_SPINCOUNT"))
"""
    seconds, spin = python(code, without=("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")).stdout.split()
    assert float(seconds) < 0.05 and spin == "None"


FORK = """
import os, numpy as np, fastconv as fc
from fastconv._kernels import _runtime
_runtime.set_serial_threshold(0)
x, w = np.ones((2, 16, 20, 20), "f"), np.ones((16, 16, 3, 3), "f")
expected = fc.conv2d(x, w, num_threads=2)
for _ in range(20):
    child = os.fork()
    if not child:
        os._exit(0 if (fc.conv2d(x, w, num_threads=2) == expected).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (fc.conv2d(x, w, num_threads=2) == expected).all()
print("done")
"""


def test_kernels_work_in_a_forked_child():
    assert python(FORK).stdout.strip() == "done"


def test_floating_point_state_is_restored(threads):
    x, w = normal((1, 8, 20, 20), np.float32), normal((8, 8, 3, 3), np.float32)
    tiny = np.array([np.finfo(np.float32).smallest_subnormal] * 8, np.float32)
    fc.conv2d(x, w)
    assert (tiny * np.float32(1)).all() and (tiny + tiny != 0).all()


def test_the_gil_is_released():
    """Python code of this thread runs on while another thread is inside one long kernel call."""
    x, w = normal((4, 64, 112, 112), np.float32), normal((128, 64, 3, 3), np.float32)
    fc.conv2d(x, w, num_threads=1)
    finished = []

    def work():
        start = time.perf_counter()
        fc.conv2d(x, w, num_threads=1)
        finished.append(time.perf_counter() - start)

    worker = threading.Thread(target=work)
    worker.start()
    longest, last = 0.0, time.perf_counter()
    while not finished:
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    worker.join()
    assert longest < finished[0] / 2


def test_an_unbuilt_source_tree_says_so(tmp_path):
    package = os.path.dirname(fc.__file__)
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(package, tmp_path / "fastconv", ignore=ignore)
    done = subprocess.run([sys.executable, "-c", "import fastconv"], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert "build_ext --inplace" in done.stderr.strip().splitlines()[-1]
