"""How long does it take, compared fairly: rivals in turn, medians, and intervals by order statistics.

In every round each rival gets one turn, so that whatever the machine does (clock, neighbours, where the two threads
happen to run) meets all of them; even rounds go through the list forwards, odd ones backwards. A turn runs unclocked
for `settle_seconds` first. That has to be tens of milliseconds: the waiting threads of the previous rival's OpenMP
pool go on spinning for that long, and a two-threaded BLAS behind them ran at half its speed (after 10 ms: 1.5-2x
slower, after 30 ms: not any more); a pool that has fallen asleep needs a few milliseconds to wake up as well. Pools
that spin for longer get a pause of their own after their turn.
"""

import gc
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

LEVEL = 0.95
NO_PAUSES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Schedule:
    """How the time of one row is spent; all in seconds but for the numbers of rounds."""

    row_seconds: float = 3.0
    sample_seconds: float = 0.005
    settle_seconds: float = 0.03
    min_rounds: int = 6
    max_rounds: int = 25

    def __post_init__(self):
        if not 6 <= self.min_rounds <= self.max_rounds:
            raise ValueError(f"Schedule: a {LEVEL:.0%} interval of a median needs 6 rounds, got {self.min_rounds}")


QUICK = Schedule(row_seconds=0.3, sample_seconds=0.001, max_rounds=6)


class Interval(NamedTuple):
    """A median between the ends of its 95 % confidence interval."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}-{self.high:.3g})"


def interleave(
    calls: Mapping[str, Callable[[], Any]],
    schedule: Schedule = Schedule(),
    pauses: Mapping[str, float] = NO_PAUSES,
    flush: Callable[[], Any] | None = None,
) -> dict[str, np.ndarray]:
    """Time all calls in turn.

    The two last results of a turn are kept alive, so that an allocator can't serve every call the buffer that the call
    before has just given back.

    Parameters
    ----------
    pauses
        Seconds of sleep that must follow a turn, by name, where any.
    flush
        Empties the caches. With it, a sample is the one call that comes after it.

    Returns
    -------
    dict
        Seconds per call under each name, one entry a round; entry `i` of all names was measured in the same round.
    """
    repeats = {}
    for name, call in calls.items():
        repeats[name] = _repeats(call, schedule)
        if flush:
            repeats[name] = repeats[name]._replace(count=1)
        time.sleep(pauses.get(name, 0.0))
    cost = sum(_turn_seconds(*item, schedule) + pauses.get(name, 0.0) for name, item in repeats.items())
    rounds = int(min(max(schedule.row_seconds / cost, schedule.min_rounds), schedule.max_rounds))
    seconds = {name: np.empty(rounds) for name in calls}
    for turn in range(rounds):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            seconds[name][turn] = _sample(calls[name], repeats[name].count, schedule.settle_seconds, flush)
            time.sleep(pauses.get(name, 0.0))
    return seconds


class _Repeats(NamedTuple):
    count: int
    seconds: float  # of one call


def _repeats(call: Callable[[], Any], schedule: Schedule) -> _Repeats:
    """How many calls make one sample: the quickest of a few decides, so that one mishap doesn't."""
    seconds = _sample(call, 1, schedule.settle_seconds)
    if seconds < schedule.row_seconds / 10:
        seconds = min(seconds, *(_sample(call, 1, 0.0) for _ in range(4)))
    return _Repeats(max(1, math.ceil(schedule.sample_seconds / seconds)), seconds)


def _turn_seconds(count: int, seconds: float, schedule: Schedule) -> float:
    return max(schedule.settle_seconds, seconds) + count * seconds


def _sample(
    call: Callable[[], Any], count: int, settle_seconds: float, flush: Callable[[], Any] | None = None
) -> float:
    """Seconds per call over `count` calls, after one call, `settle_seconds` and `flush` off the clock.

    There is no garbage collection meanwhile.
    """
    kept = deque(maxlen=2)
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = time.perf_counter() + settle_seconds
        kept.append(call())
        while time.perf_counter() < end:
            kept.append(call())
        if flush:
            flush()
        begin = time.perf_counter()
        for _ in range(count):
            kept.append(call())
        return (time.perf_counter() - begin) / count
    finally:
        if collecting:
            gc.enable()


def median_interval(samples: np.ndarray, level: float = LEVEL) -> Interval:
    """Median and its confidence interval, which assumes nothing about the distribution.

    The interval runs from the k-th smallest to the k-th largest sample, with the largest k for which a median outside
    of it has at most the probability `1 - level`: the number of samples below the true median is binomial(n, 1/2)
    (David and Nagaraja, Order Statistics, section 7.1). Six samples are the fewest that allow one at 95 %.
    """
    ordered = np.sort(samples)
    n = len(ordered)
    outside, k = 0.0, 0
    while k < n // 2 + 1 and outside + math.comb(n, k) / 2**n <= (1 - level) / 2:
        outside += math.comb(n, k) / 2**n
        k += 1
    if k == 0:
        raise ValueError(f"median_interval: {n} samples are too few for a {level:.0%} interval")
    return Interval(float(ordered[k - 1]), float(np.median(ordered)), float(ordered[n - k]))


def median_intervals(seconds: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Of the samples of each contender, fit for JSON."""
    return {name: median_interval(samples)._asdict() for name, samples in seconds.items()}


def times_faster(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """How many times faster `ours` is, from the ratios within each round."""
    return median_interval(theirs / ours)
