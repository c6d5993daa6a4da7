"""The memory of large results: kept within a limit, given to later results, never to two at a time."""
import os
import pickle
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from kernel_helpers import normal

import fastconv as fc
from fastconv._kernels import _runtime

MIB = 1 << 20


@pytest.fixture(autouse=True)
def cache():
    """64 MiB, empty at first; the limit of before afterwards."""
    before = fc.set_result_cache(64 * MIB)
    fc.release_memory()
    yield
    fc.set_result_cache(before)


def image(mib):
    """x of so many MiB."""
    return np.full((1, 4, int(256 * mib), 256), 2, np.float32)


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
@pytest.mark.parametrize("function", [
    fc.relu, lambda x: fc.relu_backward(x, x), lambda x: fc.avg_pool2d(x, 1), lambda x: fc.max_pool2d(x, 1),
    lambda x: fc.conv2d(x, np.ones((4, 4, 1, 1), np.float32)),
], ids=["relu", "relu_backward", "avg_pool2d", "max_pool2d", "conv2d"])
@pytest.mark.parametrize("order", [fc.channels_first, fc.channels_last])
def test_fresh_results_do_not_fault_page_by_page(function, order):
    """40 MiB, which malloc takes from the system anew each time; two are alive."""
    x = order(image(40))
    fc.set_result_cache(128 * MIB)
    alive = [function(x), function(x), function(x)][:2]
    before = faults()
    for i in range(6):
        alive[i % 2] = function(x)
    assert faults() - before < 40 * MIB // 4096 / 40


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_a_step_of_middling_results_does_not_fault():
    """Malloc gives such memory back to the system when a step's results are gone, all of them at once."""
    x = np.ones((1, 4, 256, 160), np.float32)

    def step():
        results = [x]
        for _ in range(12):
            results.append(fc.relu(results[-1]))

    step()
    before = faults()
    for _ in range(10):
        step()
    assert faults() - before < 12 * 10


def test_what_is_kept_stays_within_the_limit():
    fc.set_result_cache(8 * MIB)
    results = [fc.relu(image(3)) for _ in range(5)]
    assert _runtime.results_kept() == 0
    del results
    assert 0 < _runtime.results_kept() <= 8 * MIB
    fc.relu(image(9))
    assert _runtime.results_kept() <= 8 * MIB
    fc.set_result_cache(4 * MIB)
    assert 0 < _runtime.results_kept() <= 4 * MIB


def test_many_blocks_stay_within_their_number():
    fc.set_result_cache(1 << 40)
    results = [fc.relu(np.ones((1, 1, 256, 256 + 4 * i), np.float32)) for i in range(160)]
    size = sum(result.nbytes for result in results)
    del results
    assert 0 < _runtime.results_kept() < size


def test_the_newest_result_is_the_one_that_is_kept():
    fc.set_result_cache(8 * MIB)
    for mib in (5, 6, 7):
        fc.relu(image(mib))
    assert _runtime.results_kept() == 7 * MIB


def test_small_results_are_numpys():
    fc.relu(image(0.1))
    assert _runtime.results_kept() == 0


def test_release_and_turning_off():
    fc.relu(image(3))
    assert _runtime.results_kept() == 3 * MIB
    fc.release_memory()
    assert _runtime.results_kept() == 0
    assert fc.set_result_cache(0) == 64 * MIB
    y = fc.relu(image(3))
    assert np._core.multiarray.get_handler_name(y) == "default_allocator"
    del y
    assert _runtime.results_kept() == 0


def test_results_that_are_alive_never_share_memory():
    rng = np.random.default_rng(0)
    alive = {}
    for value in range(1, 60):
        x = np.full((1, 1, 512, 512 * rng.integers(1, 4)), value, np.float32)
        alive[value] = fc.relu(x)
        if len(alive) > 6:
            del alive[rng.choice(list(alive))]
        assert not any(np.shares_memory(a, b) for a, b in combinations(alive.values(), 2))
    assert all((y == value).all() for value, y in alive.items())


def test_results_are_whole_in_many_python_threads():
    def work(value):
        x = np.full((1, 1, 512, 768), value, np.float32)
        for _ in range(30):
            y = fc.relu(x, num_threads=1)
            z = fc.relu(y, num_threads=1)
            if not ((y == value).all() and (z == value).all()):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(1, 9)))
    assert _runtime.results_kept() <= 64 * MIB


def test_results_are_ordinary_arrays():
    x = normal((1, 4, 300, 300), np.float32)
    y = fc.relu(x)
    assert y.flags.owndata and y.flags.writeable and y.flags.c_contiguous and y.base is None
    assert np._core.multiarray.get_handler_name(y) == "fastconv_results"
    assert (pickle.loads(pickle.dumps(y)) == y).all()
    expected = np.maximum(x, 0).ravel()
    for size in (3_000_000, 300_000, 10, 600_000):  # through the heap and back
        before = min(y.size, size)
        y.resize(size, refcheck=False)
        assert (y.ravel()[:min(before, 10)] == expected[:min(before, 10)]).all()
    del y
    assert _runtime.results_kept() <= 64 * MIB
    y = fc.relu(fc.channels_last(x))
    assert y.base.flags.owndata and (y == np.maximum(x, 0)).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_kept_memory_serves_a_forked_child():
    x = image(3)
    fc.relu(x)
    child = os.fork()
    if not child:
        os._exit(0 if (fc.relu(x) == 2).all() and (fc.relu(x) == 2).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (fc.relu(x) == 2).all()


@pytest.mark.parametrize("size, error", [(-1, ValueError), (1 << 64, ValueError), ("1", TypeError), (True, TypeError)])
def test_limits_are_checked(size, error):
    with pytest.raises(error, match="set_result_cache"):
        fc.set_result_cache(size)


def python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env=os.environ | environment)


def test_the_environment_sets_the_limit():
    show = "import fastconv; print(fastconv.set_result_cache(1))"
    assert python(show, FASTCONV_RESULT_CACHE="12345").stdout == "12345\n"
    assert 0 < int(python(show, FASTCONV_RESULT_CACHE="").stdout) <= 512 * MIB
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({2 << 30}, -1)); "
    assert int(python(limit + show, FASTCONV_RESULT_CACHE="").stdout) <= 128 * MIB
    for wrong in ("much", "-1", str(1 << 64)):
        assert "FASTCONV_RESULT_CACHE" in python(show, FASTCONV_RESULT_CACHE=wrong).stderr
