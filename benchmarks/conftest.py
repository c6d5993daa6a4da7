"""The pytest-benchmark face of `fastconv.bench`: the same rows, verified once and then timed.

Run with `pytest benchmarks -k "ResNet-50 and forward"`; see README.md in this directory.
"""

import pytest

import fastconv
from fastconv.bench import verify
from fastconv.bench.contenders import (
    ContenderUnavailable,
    Fastconv,
    FastconvGivenOut,
    FastconvPacked,
    VectorisedNumPy,
)
from fastconv.bench.peers import PEERS
from fastconv.bench.problems import make

CONTENDERS = {
    each.name: each for each in (Fastconv, FastconvGivenOut, FastconvPacked, VectorisedNumPy, *PEERS.values())
}


@pytest.fixture(scope="session", params=CONTENDERS)
def contender(request):
    chosen = CONTENDERS[request.param]()
    try:
        chosen.start(fastconv.get_num_threads())
    except ContenderUnavailable as missing:
        pytest.skip(str(missing))
    return chosen


@pytest.fixture
def time_row(benchmark, contender):
    """Return a function that verifies one row as computed by the contender, then times it."""

    def run(case, op, dtype="float32", order="channels_first"):
        problem = make(case, op, dtype, order)
        call = contender.prepare(problem)
        if call is None:
            pytest.skip(f"{contender.name} has no call for {problem.name}")
        error = verify.check(problem, contender.to_numpy(call()))
        benchmark.group = f"{problem.name}, {dtype}, {order}"
        benchmark.extra_info.update(flops=problem.flops, bytes=problem.nbytes, error=error)
        benchmark(call)
        if benchmark.stats is None:  # --benchmark-disable: verified, not timed
            return
        rate = (problem.nbytes if case.memory_bound else problem.flops) / benchmark.stats.stats.median / 1e9
        benchmark.extra_info["GB/s" if case.memory_bound else "GFLOP/s"] = round(rate, 1)

    return run
