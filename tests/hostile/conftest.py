"""Wrong arguments may be views of more elements than any machine has, and two such may fit each other: that such a call
ends as every call that can't have its memory, the address space is limited meanwhile."""
import resource
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="module")
def little_memory(request):
    """No more than the module's HEADROOM, or 3 GiB, beyond what the process has."""
    headroom = getattr(request.module, "HEADROOM", 3 << 30)
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + headroom, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
