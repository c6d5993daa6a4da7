"""Fixtures that run a kernel test on every instruction set of this CPU and with several threads."""
import os

import pytest

from fastconv import runtime
from fastconv._kernels import _runtime

# Subprocesses import the package that is installed, not the sources in the current directory.
os.environ.setdefault("PYTHONSAFEPATH", "1")

AVAILABLE = _runtime.isa_available()

# Sanitizers see the ends and the uninitialised bytes of memory that is not kept for later calls.
if os.environ.get("FASTCONV_RESULT_CACHE") == "0":
    _runtime.SCRATCH_KEPT = 0


@pytest.fixture(params=AVAILABLE)
def isa(request):
    """The kernels in use; tests without this fixture run on the best ones."""
    before = _runtime._use_isa(request.param)
    yield request.param
    _runtime._use_isa(before)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """The number of threads, with nothing too small for them."""
    before = _runtime.set_serial_threshold(0)
    with runtime.threads(request.param):
        yield request.param
    _runtime.set_serial_threshold(before)
