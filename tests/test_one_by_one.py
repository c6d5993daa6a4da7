"""Work items write apart from each other, and bits depend on neither threads nor order nor the split of the batch."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv import runtime
from fastconv._kernels import _runtime

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runtime_of_tests(tmp_path_factory):
    """one_by_one.c as a library that stands in front of gcc's OpenMP runtime."""
    compiler = os.environ.get("CC", "gcc").split()
    if shutil.which(compiler[0]) is None:
        pytest.skip("no C compiler")
    if "libgomp" not in runtime.openmp_runtime() or sys.platform != "linux":
        pytest.skip("stands in front of gcc's OpenMP runtime on Linux alone")
    library = tmp_path_factory.mktemp("preload") / "one_by_one.so"
    subprocess.run([*compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", library,
                    HERE / "one_by_one.c", "-Wl,--no-as-needed", "-lgomp", "-ldl"], check=True)
    return library


@pytest.mark.parametrize("kind", ["convolutions", "others"])
@pytest.mark.parametrize("isa", _runtime.isa_available())
def test_work_items(isa, kind, runtime_of_tests):
    paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, HERE / "one_by_one.py", isa, kind], capture_output=True, text=True,
                          timeout=300, env=os.environ | {"LD_PRELOAD": str(runtime_of_tests), "PYTHONPATH": paths})
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
