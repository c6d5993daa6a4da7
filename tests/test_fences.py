"""Nothing beyond operands, results and scratch is touched, by masked loads and stores either."""
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv._kernels import _runtime

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def memory_of_tests(tmp_path_factory):
    """fences.c as a library that stands in front of the C library."""
    compiler = os.environ.get("CC", "gcc").split()
    if sys.platform != "linux" or shutil.which(compiler[0]) is None:
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("preload") / "fences.so"
    subprocess.run([*compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", library,
                    HERE / "fences.c", "-lpthread"], check=True)
    return library


def run(library, *arguments):
    paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run([sys.executable, HERE / "fences.py", *arguments], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": paths})


@pytest.mark.parametrize("side", ["behind", "before"])
@pytest.mark.parametrize("isa", _runtime.isa_available())
def test_nothing_beyond_arrays_and_scratch_is_touched(isa, side, memory_of_tests):
    done = run(memory_of_tests, isa, side)
    assert done.returncode == 0, f"{done.returncode} in {done.stdout[-100:]}{done.stderr[-1000:]}"


def test_one_element_too_many_is_seen(memory_of_tests):
    assert run(memory_of_tests, "planted", "behind").returncode == -signal.SIGSEGV
