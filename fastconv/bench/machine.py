"""What this machine can do, measured by the run itself: FMA peak, copy bandwidth, ping-pong latency; and what it is."""

import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._kernels import _runtime

CACHE_SIZES = Path("/sys/devices/system/cpu/cpu0/cache")
CPU_TIMES = Path("/proc/stat")


@dataclass(frozen=True)
class Machine:
    """Measured limits, and the facts that a figure is worth nothing without.

    Attributes
    ----------
    fma_peak
        FLOP/s of all threads together by dtype name: independent FMAs on registers, a multiply and an add each.
    copy_bandwidth
        Bytes read plus bytes written a second, copying an array that no cache holds.
    ping_pong
        Seconds that a cache line takes from one core to another; 0 where there is one thread only. On virtual machines
        it can differ fourfold from one minute to the next, and with it whatever threads share.
    """

    cpu: str
    isa: str
    cores: int
    threads: int
    system: str
    python: str
    fma_peak: dict[str, float]
    copy_bandwidth: float
    ping_pong: float


def measure(threads: int, dtypes: tuple[str, ...], seconds: float = 0.1) -> Machine:
    """Look at the machine; each limit is the best of five measurements of about `seconds`."""
    return Machine(
        cpu=cpu_name(),
        isa=_runtime.isa_in_use(),
        cores=len(usable_cpus()),
        threads=threads,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        fma_peak={dtype: fma_peak(dtype, threads, seconds) for dtype in dtypes},
        copy_bandwidth=copy_bandwidth(threads, seconds),
        ping_pong=ping_pong() if threads > 1 else 0.0,
    )


def usable_cpus() -> set[int]:
    """Numbers of the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def fma_peak(dtype: str, threads: int, seconds: float = 0.1) -> float:
    """FLOP/s of independent fused multiply-adds in the ISA that is in use: the best of five measurements."""
    return max(_runtime.fma_peak(dtype, threads, seconds) for _ in range(5))


def copy_bandwidth(threads: int, seconds: float = 0.1) -> float:
    """Bytes read plus written a second by `threads` NumPy copies of parts of one array, the best seen."""
    count = max(4 * last_level_cache(), 64 << 20)
    source, target = np.ones(count, np.uint8), np.zeros(count, np.uint8)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:

        def copy_seconds() -> float:
            begin = time.perf_counter()
            list(pool.map(lambda part: np.copyto(*part), parts))
            return time.perf_counter() - begin

        copy_seconds()  # the first pass is spent on page faults
        least, end = copy_seconds(), time.perf_counter() + 5 * seconds
        while time.perf_counter() < end:
            least = min(least, copy_seconds())
    return 2 * count / least


def ping_pong(batches: int = 101, rounds: int = 500) -> float:
    """Seconds of one transfer of a cache line between two threads: the median over batches of round trips."""
    if len(usable_cpus()) < 2:
        return 0.0  # two threads on one CPU would measure the scheduler
    return statistics.median(_runtime.ping_pong(rounds) for _ in range(batches))


def last_level_cache() -> int:
    """Bytes of the largest cache of the first CPU; 32 MiB where the system doesn't say."""
    sizes = [path.read_text().strip() for path in CACHE_SIZES.glob("index*/size")]
    kib = [int(size[:-1]) for size in sizes if size.endswith("K")]
    return max(kib, default=32 << 10) << 10


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


class Neighbours:
    """How much of our CPUs others have taken since this object was made: other processes, and the hypervisor."""

    def __init__(self):
        self.begin = self._clocks()

    def cores(self) -> float | None:
        """CPUs' worth of time taken by others, 0 on a quiet machine; None where the system doesn't say."""
        now = self._clocks()
        if now is None or self.begin is None:
            return None
        wall, busy, own = (end - begin for end, begin in zip(now, self.begin, strict=True))
        return max(0.0, (busy - own) / wall) if wall > 0 else 0.0

    @staticmethod
    def _clocks() -> tuple[float, float, float] | None:
        """Seconds of: the wall clock, work of any kind on the CPUs that we may use, work of this process."""
        ours = {f"cpu{number}" for number in usable_cpus()}
        try:
            lines = [line.split() for line in CPU_TIMES.read_text().splitlines()]
        except OSError:
            return None
        ticks = 0
        for name, *times in lines:
            if name in ours:
                user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, times)
                ticks += user + nice + system + irq + softirq + steal
        return time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()
