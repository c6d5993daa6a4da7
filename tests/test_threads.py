"""Calls from many Python threads, the GIL, and how many kernel threads a call takes."""
import hashlib
import os
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kernel_helpers import normal

import fastconv as fc
from fastconv import nn, runtime
from fastconv._kernels import _runtime

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def python(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------- one model, many threads

def small_model():
    return nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1, rng=0), nn.BatchNorm2d(20), nn.ReLU(), nn.MaxPool2d(2),
        nn.Residual(nn.Conv2d(20, 20, 3, padding=1, rng=1)), nn.Conv2d(20, 20, 3, groups=20, rng=2), nn.SiLU(),
        nn.Flatten(), nn.Linear(20 * 10 * 10, 7, rng=3), nn.Softmax())


def at_once(work, count):
    """[work(0), work(1), ...] by as many Python threads, which start together."""
    start = threading.Barrier(count)

    def begin(i):
        start.wait()
        return work(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


@pytest.mark.parametrize("kernel_threads", [1, 2])
def test_a_shared_model_gives_every_thread_the_bits_that_it_gives_alone(kernel_threads):
    model = small_model()
    images = [normal((1 + i % 3, 3, 24, 24), np.float32, i) for i in range(8)]
    with fc.threads(kernel_threads):
        alone = [model(x).tobytes() for x in images]
    before = _runtime.set_serial_threshold(0)

    def serve(i):
        with fc.threads(kernel_threads):
            return [model(images[(i + j) % 8]).tobytes() == alone[(i + j) % 8] for j in range(24)]

    try:
        assert all(map(all, at_once(serve, 6)))
    finally:
        _runtime.set_serial_threshold(before)


def test_threads_train_models_of_their_own():
    """Forward and backward of equal models in several threads: equal gradients."""
    x, dy = normal((4, 3, 24, 24), np.float32), normal((4, 7), np.float32, 1)

    def train(_):
        model = small_model()
        for _ in range(3):
            backward = model.forward(x)[1]
            backward(dy)
        return [p.grad.tobytes() for p in model.parameters()]

    alone = train(0)
    assert all(gradients == alone for gradients in at_once(train, 4))


def test_weights_may_change_while_others_serve():
    """Each result is that of one version of the weights, old or new, never of a mixture."""
    layer = nn.Conv2d(16, 32, 3, rng=0)
    x = normal((1, 16, 12, 12), np.float32)
    weights = [normal((32, 16, 3, 3), np.float32, i) for i in range(2)]
    layer.bias.assign(np.zeros(32, np.float32))
    allowed = set()
    for w in weights:
        layer.weight.assign(w)
        allowed.add(layer(x).tobytes())

    def work(i):
        if i:
            return all(layer(x).tobytes() in allowed for _ in range(200))
        for j in range(200):
            layer.weight.assign(weights[j % 2])
        return True

    assert len(allowed) == 2
    assert all(at_once(work, 4))


def ratio_of_two(work):
    """How much longer two threads, each on a CPU of its own, take to do `work` than one does, at best."""
    cpus = sorted(os.sched_getaffinity(0))

    def pinned(cpu):
        os.sched_setaffinity(0, {cpu})  # of this thread
        work()

    def seconds(count):
        threads = [threading.Thread(target=pinned, args=(cpu,)) for cpu in cpus[:count]]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    seconds(2)
    pairs = [(seconds(1), seconds(2)) for _ in range(20)]
    return min(both for _, both in pairs) / min(one for one, _ in pairs)


@pytest.mark.skipif(CPUS < 2 or not hasattr(os, "sched_setaffinity"), reason="needs two CPUs to choose from")
def test_two_threads_compute_at_the_same_time():
    """Two Python threads with one kernel thread each, on two CPUs: as long as one of them alone, not twice.

    Hashing, which also releases the GIL, tells whether two CPUs are to be had.
    """
    x, w = normal((2, 64, 56, 56), np.float32), normal((64, 64, 3, 3), np.float32, 1)
    block = bytes(4_000_000)

    def convolve():
        for _ in range(3):
            fc.conv2d(x, w, padding=1, algorithm="direct", num_threads=1)

    for _ in range(3):  # a busy machine may be kept from either of them for a while
        kernels = ratio_of_two(convolve)
        hashes = ratio_of_two(lambda: hashlib.sha256(block).digest())
        if kernels < 1.4:
            return
    if hashes > 1.3:
        pytest.skip(f"the CPUs are busy: two hashes take {hashes:.2f} times as long as one")
    pytest.fail(f"two threads take {kernels:.2f} times as long as one, hashing {hashes:.2f}")


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="Python has a GIL")
def test_free_threaded_python_stays_so():
    """No module asks for the GIL."""
    assert python("import sys, fastconv, fastconv.nn; print(sys._is_gil_enabled())").strip() == "False"


# ---------------------------------------------------------------- how many threads

def test_threadpoolctl_is_obeyed():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    if not _runtime.openmp_version():
        pytest.skip("built without OpenMP")
    with threadpoolctl.threadpool_limits(1):
        assert fc.get_num_threads() == 1
        assert _runtime.shares_for(None, 1000, 1e12) == 1
        with threadpoolctl.threadpool_limits(CPUS, user_api="openmp"):
            assert fc.get_num_threads() == min(CPUS, runtime.cgroup_quota() or CPUS)
        assert fc.get_num_threads() == 1
    assert fc.get_num_threads() >= 1


def test_a_call_on_one_thread_starts_no_other():
    code = """
import os, numpy as np, fastconv as fc
x, w = np.ones((8, 32, 40, 40), "f"), np.ones((32, 32, 3, 3), "f")
def threads(): return len(os.listdir("/proc/self/task"))
before = threads()
fc.conv2d(x, w, num_threads=1)
one = threads()
fc.conv2d(x, w, num_threads=3)
print(one - before, threads() - before)
"""
    if not os.path.exists("/proc/self/task"):
        pytest.skip("no /proc")
    assert python(code, OPENBLAS_NUM_THREADS="1").split() == ["0", "2" if _runtime.openmp_version() else "0"]


def quota(folder, text, version=2):
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(text)
    else:
        (folder / "cpu.cfs_quota_us").write_text(text.split()[0])
        (folder / "cpu.cfs_period_us").write_text(text.split()[1])


@pytest.mark.parametrize("limits, member, expected", [
    ({".": "max 100000"}, "0::/", None),
    ({".": "250000 100000"}, "0::/", 2),
    ({".": "50000 100000"}, "0::/", 1),
    ({"a": "300000 100000", "a/b": "max 100000"}, "0::/a/b", 3),
    ({"a": "400000 100000", "a/b": "200000 100000"}, "0::/a/b", 2),
    ({"other": "100000 100000"}, "0::/a", None),
    ({".": "300000 100000"}, "0::/of/the/host", 3),
    ({".": "nonsense"}, "0::/", None),
    ({}, None, None),
])
def test_quotas_of_control_groups(tmp_path, limits, member, expected):
    for folder, text in limits.items():
        quota(tmp_path / "tree" / folder, text)
    if member:
        (tmp_path / "member").write_text(f"{member}\n")
    assert runtime.cgroup_quota(tmp_path / "tree", tmp_path / "member") == expected


@pytest.mark.parametrize("text, expected", [("-1 100000", None), ("350000 100000", 3)])
def test_quotas_of_control_groups_of_version_1(tmp_path, text, expected):
    quota(tmp_path / "tree" / "cpu" / "a", text, 1)
    (tmp_path / "member").write_text("4:memory:/m\n3:cpu,cpuacct:/a\n1:name=systemd:/s\n")
    assert runtime.cgroup_quota(tmp_path / "tree", tmp_path / "member") == expected


@pytest.mark.parametrize("path, text, expected", [
    ("memory.max", "max", None), ("memory.max", "1073741824", 2**30), ("a/memory.max", "4096", 4096),
    ("memory/a/memory.limit_in_bytes", "8192", 8192), ("other/memory.max", "4096", None)])
def test_memory_of_control_groups(tmp_path, path, text, expected):
    (tmp_path / "tree" / path).parent.mkdir(parents=True)
    (tmp_path / "tree" / path).write_text(f"{text}\n")
    (tmp_path / "member").write_text("4:memory:/a\n0::/a\n")
    assert runtime.cgroup_memory(tmp_path / "tree", tmp_path / "member") == expected


def test_the_quota_caps_the_default():
    code = ("from fastconv._kernels import _runtime; import fastconv as fc; _runtime.set_caps(0, 1); "
            "print(fc.get_num_threads(), _runtime.threads_for_call(5))")
    assert python(code).split() == ["1", "5"]
