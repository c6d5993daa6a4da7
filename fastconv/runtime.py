"""Process-wide settings: instruction set, threads, default algorithm, scratch memory, :func:`show_config`."""
import contextlib
import contextvars
import functools
import os
import resource
import sys
from pathlib import Path

from . import checks
from ._kernels import _runtime
from ._version import __version__

__all__ = ["algorithm", "get_num_threads", "release_memory", "set_num_threads", "set_result_cache", "show_config",
           "threads"]

DEFAULT_ALGORITHMS = ("auto", "direct")


# ---------------------------------------------------------------- threads

@contextlib.contextmanager
def threads(n):
    """Use ``n`` threads (1 to 1024) for calls inside the ``with`` block of this thread or task.

    Raises
    ------
    TypeError, ValueError
        `n` is not an integer from 1 to 1024.

    Examples
    --------
    >>> with fastconv.threads(1):
    ...     y = fastconv.conv2d(x, w)
    """
    token = _runtime.threads_context.set(checks.thread_count("threads", "n", n))
    try:
        yield
    finally:
        _runtime.threads_context.reset(token)


def set_num_threads(n):
    """Set the default number of threads (1 to 1024) of this process.

    An argument ``num_threads`` and :func:`threads` take precedence. Errors as in :func:`threads`.
    """
    _runtime.set_process_threads(checks.thread_count("set_num_threads", "n", n))


def get_num_threads():
    """The largest number of threads that a call made here would use: small calls use fewer."""
    return _runtime.threads_for_call()


def _quota_at(folder):
    """CPUs that one control group allows, rounded down and at least 1; None without a quota."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    with contextlib.suppress(OSError, ValueError):
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return max(1, quota // period) if quota > 0 else None
    return None


def _memory_at(folder):
    """Bytes that one control group allows; None without a limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int((folder / name).read_text())
    return None


def _least_of_groups(limit_at, controller, mount, membership):
    """The least limit of this process's control group and of those around it; None without one.

    Version 2 keeps all controllers in one tree, version 1 each in a tree of its own. In a container the tree may begin
    at the process's own group, and the path of its membership leads nowhere.
    """
    try:
        entries = [line.split(":", 2) for line in Path(membership).read_text().splitlines()]
    except OSError:
        entries = []
    limits = []
    for root, path in [(Path(mount), "/"), (Path(mount, controller), "/"), *(
            (Path(mount, controller) if controllers else Path(mount), path) for _, controllers, path in entries
            if not controllers or controller in controllers.split(","))]:
        group = Path(root, path.lstrip("/"))
        limits += [limit_at(folder) for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return min((limit for limit in limits if limit is not None), default=None)


def cgroup_quota(mount="/sys/fs/cgroup", membership="/proc/self/cgroup"):
    """The least CPUs that this process's control group and those around it allow; None without a quota."""
    return _least_of_groups(_quota_at, "cpu", mount, membership)


def cgroup_memory(mount="/sys/fs/cgroup", membership="/proc/self/cgroup"):
    """The least bytes that this process's control group and those around it allow; None without a limit."""
    return _least_of_groups(_memory_at, "memory", mount, membership)


def _environment_threads():
    text = os.environ.get("FASTCONV_NUM_THREADS")
    if not text:
        return 0
    try:
        return checks.thread_count("FASTCONV_NUM_THREADS", "environment", int(text))
    except ValueError:
        raise ValueError(f"FASTCONV_NUM_THREADS: got {text!r}; expected an integer from 1 to 1024") from None


_runtime.set_caps(_environment_threads(), cgroup_quota() or 0)


# ---------------------------------------------------------------- default algorithm

def _checked_default(name, source):
    if not isinstance(name, str) or name not in DEFAULT_ALGORITHMS:
        raise ValueError(f"{source}: got {checks.said(name)}; only {' and '.join(map(repr, DEFAULT_ALGORITHMS))} "
                         "serve every convolution and can be the default")
    return name


_environment_algorithm = _checked_default(os.environ.get("FASTCONV_ALGORITHM") or "auto", "FASTCONV_ALGORITHM")
_algorithm = contextvars.ContextVar("fastconv_algorithm", default=_environment_algorithm)


@contextlib.contextmanager
def algorithm(name):
    """Make ``"auto"`` mean this algorithm (``"auto"`` or ``"direct"``) inside the ``with`` block.

    Raises
    ------
    ValueError
        `name` is another algorithm: only these two serve every convolution.
    """
    token = _algorithm.set(_checked_default(name, "algorithm: name"))
    try:
        yield
    finally:
        _algorithm.reset(token)


def default_algorithm():
    return _algorithm.get()


# ---------------------------------------------------------------- floating-point state

def keeps_floating_point(function):
    """Decorator: restore the caller's floating-point state, sticky flags included, after a call.

    Kernels do so themselves; this is for functions that also compute in Python or NumPy.
    """
    @functools.wraps(function)
    def call(*args, **kwargs):
        state = _runtime.floating_point_state()
        try:
            return function(*args, **kwargs)
        finally:
            _runtime.set_floating_point_state(state)

    return call


# ---------------------------------------------------------------- memory

# A training step of a ResNet-18 on 64 images of 32x32 leaves 400 MiB of results behind.
MOST_RESULTS_KEPT = 512 * 1024 * 1024


def set_result_cache(size):
    """Keep at most `size` bytes of the memory of freed results for later results; 0 keeps none.

    The system hands out a large new array page by page, with a page fault and zeroing for each, which often takes
    longer than the operation itself. The memory of results of 128 KiB and more is therefore used again, for results of
    the same size, once they are freed. They are ordinary arrays, and two that are alive never share memory.
    :func:`release_memory` gives back what is kept.

    Parameters
    ----------
    size : int
        Initially what the environment variable ``FASTCONV_RESULT_CACHE`` says, or else 512 MiB or a sixteenth of the
        memory that the process may have (the machine's, its control group's limit, that of its address space),
        whichever is less.

    Returns
    -------
    before : int
        The limit before.

    Raises
    ------
    TypeError, ValueError
        `size` is not an integer, or negative.
    """
    return _runtime.limit_results(checks.integer("set_result_cache", "size", size, 0))


def _memory():
    """Bytes of memory that this process may have: the machine's, or a lower limit of control group or address space."""
    limits = (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), cgroup_memory(),
              resource.getrlimit(resource.RLIMIT_AS)[0])
    return min(limit for limit in limits if limit is not None and limit != resource.RLIM_INFINITY)


def _environment_results():
    text = os.environ.get("FASTCONV_RESULT_CACHE")
    if not text:
        return min(MOST_RESULTS_KEPT, _memory() // 16)
    if not text.isdecimal() or int(text) > sys.maxsize:
        raise ValueError(f"FASTCONV_RESULT_CACHE: got {text!r}; expected a number of bytes")
    return int(text)


set_result_cache(_environment_results())


_releases = []


def on_release(release):
    """Decorator: :func:`release_memory` calls `release` as well."""
    _releases.append(release)
    return release


def release_memory():
    """Give the memory that is kept between calls, scratch and freed results, back to the system."""
    for release in _releases:
        release()
    _runtime.release_memory()


# ---------------------------------------------------------------- configuration

def openmp_runtime():
    """The OpenMP library that this process has loaded, or a sentence that says there is none."""
    if not _runtime.openmp_version():
        return "none: built without OpenMP, every call runs on one thread"
    name = "unknown library"
    with contextlib.suppress(OSError):
        loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
        known = sorted(Path(p).name for p in loaded if Path(p).name.startswith(("libgomp", "libomp", "libiomp")))
        name = ", ".join(known) or name
    return f"{name} (OpenMP {_runtime.openmp_version()})"


def config():
    """What `show_config` prints, by name, as numbers, strings and lists."""
    return {
        "fastconv": __version__,
        "compiler": _runtime.compiler(),
        "openmp": openmp_runtime(),
        "isa_built": list(_runtime.isa_names()),
        "isa_available": list(_runtime.isa_available()),
        "isa_in_use": _runtime.isa_in_use(),
        "threads": get_num_threads(),
        "cpus": os.cpu_count(),
        "cpu_quota": cgroup_quota(),
        "algorithm": default_algorithm(),
        "scratch_kept": _runtime.scratch_kept(),
        "results_kept": _runtime.results_kept(),
    }


def show_config(file=None):
    """Print version, compiler, OpenMP runtime, instruction sets, threads and memory kept, to `file` or stdout."""
    found = config()
    cpus = found.pop("cpus")
    lines = found | {
        "isa_built": ", ".join(found["isa_built"]),
        "isa_available": ", ".join(found["isa_available"]),
        "threads": f"{found['threads']} of {cpus} CPUs",
        "cpu_quota": "none" if found["cpu_quota"] is None else f"{found['cpu_quota']} CPUs",
        "scratch_kept": f"{found['scratch_kept']} bytes",
        "results_kept": f"{found['results_kept']} bytes",
    }
    for name, value in lines.items():
        print(f"{name.replace('_', ' '):14} {value}", file=file or sys.stdout)
