"""How the benchmark times: intervals, rounds in turns, what it measures of the machine."""

import subprocess
import sys

import numpy as np
import pytest
from bench_cases import SOME

from fastconv._kernels import _runtime
from fastconv.bench import machine, timing


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(6, 0, 5), (8, 0, 7), (9, 1, 7), (10, 1, 8), (20, 5, 14), (25, 7, 17), (100, 39, 60)],
)
def test_median_interval_has_the_ranks_of_the_tables(count, low, high):
    """Ranks of the distribution-free 95 % interval as textbooks print them, counted from 0."""
    samples = np.random.default_rng(0).permutation(np.arange(count, dtype=float))
    assert timing.median_interval(samples) == (low, (count - 1) / 2, high)


def test_median_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(1)
    runs = [timing.median_interval(rng.lognormal(size=15)) for _ in range(2000)]
    covered = np.mean([interval.low <= 1 <= interval.high for interval in runs])
    assert 0.95 <= covered <= 0.98  # 15 samples: 96.5 %


def test_median_interval_refuses_too_few_samples():
    with pytest.raises(ValueError, match="5 samples"):
        timing.median_interval(np.ones(5))
    with pytest.raises(ValueError, match="6 rounds"):
        timing.Schedule(min_rounds=3)


def test_times_faster_takes_the_ratio_within_each_round():
    """A machine that slows down tenfold half-way leaves the ratio as it is."""
    pace = np.repeat([1.0, 10.0], 6)
    assert timing.times_faster(2 * pace, 6 * pace) == (3, 3, 3)


def test_interleave_gives_everyone_a_turn_in_every_round(monkeypatch):
    """On a clock that only the calls move: the right times, in turns, forwards and backwards alternately."""
    clock, turns = [0.0], []

    def rival(name, seconds):
        def call():
            clock[0] += seconds
            if turns[-1:] != [name]:
                turns.append(name)

        return call

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    schedule = timing.Schedule(row_seconds=1, sample_seconds=0.01, settle_seconds=0.02, max_rounds=7)
    costs = {"a": 0.001, "b": 0.004, "c": 0.05}
    seconds = timing.interleave({name: rival(name, cost) for name, cost in costs.items()}, schedule)
    for name, cost in costs.items():
        np.testing.assert_allclose(seconds[name], np.full(6, cost))
    # Neighbours of the same name, where the direction turns, are one entry.
    assert turns == [*"abc", *"abc", *"ba", *"bc", *"ba", *"bc", *"ba"]


def test_interleave_pauses_after_the_turns_that_need_it(monkeypatch):
    events = []
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: events.append(seconds) if seconds else None)

    def rival(name):
        return lambda: events.append(name) if events[-1:] != [name] else None

    timing.interleave({"a": rival("a"), "b": rival("b")}, SOME, {"a": 0.05})
    assert {after for before, after in zip(events, events[1:]) if before == "a"} == {0.05}
    assert {after for before, after in zip(events, events[1:]) if before == "b"} == {"a"}


def test_interleave_flushes_before_each_call_on_the_clock(monkeypatch):
    """On a clock that only the calls and the flush move: one call a sample, and the flush off the clock."""
    clock, cold = [0.0], [False]

    def call():
        clock[0] += 0.004 if cold[0] else 0.001
        cold[0] = False

    def flush():
        clock[0] += 1.0
        cold[0] = True

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    schedule = timing.Schedule(row_seconds=1, sample_seconds=0.01, settle_seconds=0.02, max_rounds=7)
    np.testing.assert_allclose(timing.interleave({"a": call}, schedule, flush=flush)["a"], np.full(7, 0.004))


def test_interleave_keeps_two_results_alive():
    alive, most = set(), 0

    class Result:
        def __init__(self):
            nonlocal most
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self):
            alive.discard(id(self))

    timing.interleave({"a": Result}, SOME)
    assert most == 3  # two kept and the one that is being made


def test_machine_is_measured():
    limits = machine.measure(1, ("float32", "float64"), seconds=0.02)
    assert limits.fma_peak["float32"] > limits.fma_peak["float64"] > 1e8
    assert limits.copy_bandwidth > 1e8
    assert limits.cpu and limits.isa and limits.threads == 1
    assert limits.ping_pong == 0


def test_a_cache_line_takes_nanoseconds_between_two_cores():
    if len(machine.usable_cpus()) < 2 or not _runtime.openmp_version():
        pytest.skip("needs two CPUs and OpenMP")
    assert 1e-9 < machine.ping_pong(batches=21) < 1e-4


def test_neighbours_see_other_processes_but_not_this_one():
    alone = machine.Neighbours()
    if alone.cores() is None:
        pytest.skip("this system has no /proc/stat")
    busy = "import time; end = time.time() + 0.6\nwhile time.time() < end: pass"
    crowd = machine.Neighbours()
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert crowd.cores() > 0.3
