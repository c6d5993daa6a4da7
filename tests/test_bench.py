"""The benchmark suite: its arithmetic, its judgement, and the command."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastconv as fc
from fastconv._kernels import _runtime
from fastconv.bench import command, machine, naive, shapes, timing, verify
from fastconv.bench.caches import CacheFlush
from fastconv.bench.contenders import (
    Contender,
    ContenderUnavailable,
    Fastconv,
    FastconvGivenOut,
    FastconvPacked,
    VectorisedNumPy,
)
from fastconv.bench.loops import LIMIT, LoopNest, cut_down, scaled_seconds
from fastconv.bench.peers import PEERS
from fastconv.bench.problems import DTYPES, ORDERS, PARTS, make
from fastconv.bench.report import Report
from fastconv.bench.shapes import ActivationCase, ConvCase, ConvTransposeCase, PoolCase
from fastconv.bench.suite import Row, row_keys, run

SOME = timing.Schedule(row_seconds=0.01, sample_seconds=1e-4, settle_seconds=1e-4)

# Small layers of every kind that the suite's rows have, and of some that it hasn't.
SMALL = (
    ConvCase("conv 1-D", "", (2, 3, 20), (4, 3, 5), stride=2, padding=2),
    ConvCase("conv 2-D", "", (2, 4, 9, 8), (6, 4, 3, 2), stride=(2, 1), padding=(1, 0)),
    ConvCase("conv 2-D dilated", "", (1, 4, 9, 9), (5, 4, 3, 3), padding=2, dilation=2, stride=2),
    ConvCase("conv 2-D grouped", "", (2, 6, 7, 7), (4, 3, 3, 3), padding=1, groups=2),
    ConvCase("conv 2-D depthwise", "", (2, 5, 7, 7), (5, 1, 3, 3), padding=1, groups=5),
    ConvCase("conv 3-D", "", (1, 2, 4, 5, 6), (3, 2, 3, 2, 3), padding=1),
    PoolCase("max 2-D overlapping", "", (2, 3, 9, 9), 3, 2, 1),
    PoolCase("max 1-D", "", (2, 3, 12), 4, 4),
    PoolCase("max 3-D", "", (1, 2, 4, 6, 6), (1, 2, 2), (1, 2, 2)),
    PoolCase("avg 2-D", "", (2, 3, 8, 8), 2, 2, family="avg_pool"),
    ActivationCase("relu 2-D", "", (2, 3, 5, 5)),
    ConvTransposeCase("transposed 1-D", "", (2, 4, 7), (4, 3, 5), stride=3, padding=1, output_padding=1),
    ConvTransposeCase("transposed 2-D", "", (2, 4, 5, 6), (4, 3, 4, 2), stride=2, padding=(1, 0)),
    ConvTransposeCase("transposed 2-D grouped", "", (1, 6, 5, 5), (6, 2, 3, 3), padding=2, dilation=2, groups=3),
    ConvTransposeCase("transposed 3-D", "", (1, 2, 3, 2, 4), (2, 3, 2, 2, 2), stride=2),
)
PROBLEMS = [(case, op) for case in SMALL for op in case.ops]


def over(problems):
    return pytest.mark.parametrize(("case", "op"), problems, ids=[f"{case.name} {op}" for case, op in problems])


over_problems = over(PROBLEMS)
over_single_results = over([(case, op) for case, op in PROBLEMS if op not in PARTS])
over_backwards = over([(case, op) for case, op in PROBLEMS if op in PARTS])
over_convs = pytest.mark.parametrize("case", [case for case in SMALL if case.family == "conv"], ids=lambda c: c.name)


class Known(Contender):
    """Hands out the results it was given."""

    def __init__(self, name, result):
        self.name, self.result = name, result

    def prepare(self, problem):
        return lambda: self.result


# ---------------------------------------------------------------- shapes


def test_rows_have_unique_names_and_sizes_that_exist():
    assert len({case.name for case in shapes.SUITE}) == len(shapes.SUITE)
    for case in shapes.SUITE:
        assert min(case.y_shape) >= 1, case.name
        assert case.name.endswith(f" b{case.x_shape[0]}")
        if isinstance(case, ConvCase):
            assert case.x_shape[1] == case.w_shape[1] * case.groups
            assert case.w_shape[0] % case.groups == 0


def test_suite_covers_the_networks_ranks_and_families():
    networks = ("LeNet-5", "ResNet-50", "ResNeXt-50", "VGG-16", "MobileNet-v1", "MobileNet-v2", "U-Net", "U-Net 3-D")
    for network in (*networks, "DeepLab-v3", "M5 raw audio", "C3D", "cliff"):
        assert any(case.name.startswith(network) for case in shapes.SUITE)
    assert {len(case.x_shape) - 2 for case in shapes.SUITE} == {1, 2, 3}
    assert {case.family for case in shapes.SUITE} == {"conv", "conv_transpose", "max_pool", "avg_pool", "relu"}


def test_sizes_and_operations_of_known_layers():
    by_name = {case.name: case for case in shapes.SUITE}
    stem = by_name["ResNet-50 conv1 7x7 s2 b1"]
    assert stem.y_shape == (1, 64, 112, 112)
    assert stem.flops == 2 * 118_013_952  # 118 million multiply-adds
    assert by_name["M5 raw audio conv1 80 s4 b8"].y_shape == (8, 128, 8000)
    assert by_name["U-Net bottom_1 3x3 b1"].y_shape == (1, 1024, 30, 30)
    assert by_name["U-Net 3-D down3_2 3x3x3 128-256 b1"].y_shape == (1, 256, 22, 26, 26)
    assert by_name["DeepLab-v3 ASPP 3x3 d12 b1"].y_shape == (1, 256, 33, 33)
    assert by_name["MobileNet-v2 last 1x1 320-1280 b1"].flops == 2 * 320 * 1280 * 49
    assert by_name["C3D pool1 max 1x2x2 b1"].y_shape == (1, 64, 16, 56, 56)
    assert by_name["MobileNet-v1 dw2 3x3 s2 b1"].flops == 2 * 9 * 64 * 56 * 56


@pytest.mark.parametrize("case", shapes.SUITE, ids=lambda case: case.name)
def test_cut_down_layers_are_small_and_of_the_same_kind(case):
    small = cut_down(case)
    assert small.flops <= LIMIT
    assert min(small.y_shape) >= 1
    assert len(small.x_shape) == len(case.x_shape)
    for kept in ("stride", "padding", "dilation", "kernel", "family"):
        assert getattr(small, kept, None) == getattr(case, kept, None)


def test_select_looks_at_the_beginnings_of_words():
    assert {case.name.split()[0] for case in shapes.select("lenet")} == {"LeNet-5"}
    assert all("3x3" in case.name for case in shapes.select("resnet.*3x3"))
    assert shapes.select() == shapes.SUITE


# ---------------------------------------------------------------- timing


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


# ---------------------------------------------------------------- verification


@over_single_results
@pytest.mark.parametrize("order", ORDERS)
def test_the_baselines_are_right(case, op, order):
    """Vectorised NumPy, plain loops and the sampled dot products are three independent computations."""
    problem = make(case, op, "float64", order)
    vectorised = naive.vectorised(problem)()
    assert verify.check(problem, vectorised) < 1e-14
    nest = LoopNest(problem)
    nest.run()
    np.testing.assert_allclose(nest.result(), vectorised, rtol=1e-12, atol=1e-12)


@over_problems
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_our_calls_are_right(case, op, dtype, order):
    problem = make(case, op, dtype, order)
    for ours in (Fastconv(), FastconvGivenOut(), FastconvPacked(), Fastconv("direct")):
        call = ours.prepare(problem)
        if call is not None:
            assert verify.check(problem, call()) <= verify.tolerance(problem)


def started(name):
    """The peer, or a skip where what it needs is not installed."""
    contender = PEERS[name]()
    try:
        contender.start(1)
    except ContenderUnavailable as missing:
        pytest.skip(str(missing))
    return contender


@over_problems
def test_torch_is_right(case, op):
    contender = started("torch")
    for order in ORDERS:
        problem = make(case, op, "float32", order)
        verify.check(problem, contender.to_numpy(contender.prepare(problem)()))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@over_convs
def test_model_runners_are_right_and_write_into_one_array(name, case):
    contender = started(name)
    problem = make(case, "forward")
    call = contender.prepare(problem)
    result = call()
    verify.check(problem, result)
    result.fill(np.nan)
    assert call() is result
    verify.check(problem, result)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_model_runners_meet_our_packed_calls_and_leave_the_rest(name):
    contender, conv = PEERS[name](), SMALL[1]
    assert contender.rival_of == FastconvPacked.name
    for other in (make(conv, "dx"), make(conv, "forward", "float64"), make(SMALL[6], "forward")):
        assert contender.prepare(other) is None
    assert contender.prepare(make(conv, "forward", "float32", "channels_last")) is None
    row = row_of(conv, "forward", {"fastconv": 4e-4, FastconvPacked.name: 1e-4, name: 3e-4})
    assert row.times_faster(contender).median == pytest.approx(3)
    assert "3 (3-3)" in report_of(row, rivals=[contender]).text()


def test_packed_calls_are_forward_convolutions_alone():
    assert FastconvPacked().prepare(make(SMALL[1], "dw")) is None
    assert FastconvPacked().prepare(make(SMALL[6], "forward")) is None
    assert FastconvPacked().prepare(make(SMALL[1], "forward")) is not None


@over_backwards
def test_backward_is_dx_dw_and_db(case, op):
    problem = make(case, op, "float64")
    assert [part.op for part in problem.parts] == ["dx", "dw", "db"]
    got = naive.vectorised(problem)()
    assert verify.check(problem, got) < 1e-14
    np.testing.assert_array_equal(got[0], naive.vectorised(problem.parts[0])())
    np.testing.assert_array_equal(got[1], naive.vectorised(problem.parts[1])())
    assert problem.flops == 2 * case.flops
    assert problem.nbytes == 8 * (2 * np.prod(case.x_shape) + 2 * np.prod(case.w_shape) + got[2].size) + 8 * np.prod(
        case.y_shape
    )


@over_backwards
@pytest.mark.parametrize("which", [0, 1, 2])
def test_verification_refuses_a_wrong_part(case, op, which):
    problem = make(case, op)
    parts = list(naive.vectorised(problem)())
    parts[which] = parts[which].copy()
    parts[which].flat[-1] += np.abs(parts[which]).max()
    with pytest.raises(verify.WrongResult, match=problem.parts[which].name):
        verify.check(problem, tuple(parts))


@over_single_results
def test_verification_refuses_a_wrong_element(case, op):
    """In a corner, where kernels go wrong; the whole row of the tail; a lost minus sign; a NaN anywhere."""
    problem = make(case, op)
    right = naive.vectorised(problem)()
    verify.check(problem, right)
    scale = np.abs(right).max()
    for place in (0, -1):
        wrong = right.copy()
        wrong[(place,) * right.ndim] += 1e-4 * scale
        with pytest.raises(verify.WrongResult, match="the error is"):
            verify.check(problem, wrong)
    wrong = right.copy()
    wrong[..., -1] = 0
    with pytest.raises(verify.WrongResult):
        verify.check(problem, wrong)
    with pytest.raises(verify.WrongResult):
        verify.check(problem, -right)
    wrong = right.copy()
    wrong[tuple(size // 2 for size in right.shape)] = np.nan
    with pytest.raises(verify.WrongResult, match="is nan"):
        verify.check(problem, wrong)


def test_verification_refuses_a_lost_product():
    """One tap of one channel left out of a reduction of 4,608."""
    problem = make(ConvCase("deep", "", (1, 512, 6, 6), (8, 512, 3, 3), padding=1), "forward")
    verify.check(problem, naive.vectorised(problem)())
    w = problem.operands["w"].copy()
    w[:, 300, 1, 1] = 0
    crippled = replace(problem, operands={**problem.operands, "w": w})
    with pytest.raises(verify.WrongResult):
        verify.check(problem, naive.vectorised(crippled)())


def test_verification_refuses_another_shape_or_dtype():
    problem = make(SMALL[1], "forward")
    right = naive.vectorised(problem)()
    with pytest.raises(verify.WrongResult, match="float64"):
        verify.check(problem, right.astype(np.float64))
    with pytest.raises(verify.WrongResult, match="expected"):
        verify.check(problem, right[..., 1:])


def test_samples_are_distinct_and_hold_all_corners_and_tails():
    shape = (2, 70, 33, 50)
    places = verify.sample_places(shape, 200)
    assert len(places) == len(set(places)) == 200
    assert {tuple(c) for c in np.ndindex(2, 2, 2, 2)} == {
        tuple(int(i > 0) for i in place)
        for place in places
        if all(i in (0, n - 1) for i, n in zip(place, shape, strict=True))
    }
    assert sum(any(n - 16 <= i for i, n in zip(place, shape, strict=True)) for place in places) > 100
    assert verify.sample_places((3, 4), 200) == list(np.ndindex(3, 4))
    assert len(set(verify.sample_places((512,), 200))) == 200


class Rival(VectorisedNumPy):
    """A peer that solves everything the baseline does."""

    name = "rival"
    in_cold_rounds = True


def test_cold_rows_are_timed_a_second_time():
    flush = CacheFlush(1)
    assert flush.memory.nbytes > machine.last_level_cache()
    ours, rival, baseline = Fastconv(), Rival(), VectorisedNumPy()
    key = (SMALL[1], "dx", "float32", "channels_first")
    flushed = []
    row = next(run([key], ours, [ours, rival, baseline], SOME, lambda: flushed.append(flush())))
    assert set(row.cold_seconds) == {"fastconv", "rival"} < set(row.seconds)
    assert len(flushed) == sum(len(samples) for samples in row.cold_seconds.values())
    assert row.times_faster(rival, cold=True).median > 0
    assert next(run([key], ours, [ours, rival], SOME)).cold_seconds == {}


def test_a_wrong_contender_is_reported_and_not_timed():
    case = SMALL[1]
    problem = make(case, "forward")
    right = naive.vectorised(problem)()
    contenders = [Fastconv(), Known("right", right), Known("wrong", right + 1)]
    row = next(run([(case, "forward", "float32", "channels_first")], contenders[0], contenders, SOME))
    assert set(row.seconds) == {"fastconv", "right"}
    assert set(row.wrong) == {"wrong"} and "the error is" in row.wrong["wrong"]
    assert row.algorithm == Fastconv().plan(problem)
    assert row.times_faster(contenders[2]) is None
    assert row.times_faster(contenders[1]).median > 0


# ---------------------------------------------------------------- baselines and machine


def test_loops_are_scaled_by_operations():
    """A layer of 64 times the channels costs 64 times the loops; both are cut down to nearly the same one."""
    few = ConvCase("few", "", (1, 16, 16, 16), (8, 16, 3, 3), padding=1)
    many = replace(few, name="many", x_shape=(1, 128, 16, 16), w_shape=(64, 128, 3, 3))
    assert many.flops == 64 * few.flops
    assert 20 < scaled_seconds(many, "forward") / scaled_seconds(few, "forward") < 200


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


# ---------------------------------------------------------------- report and command


def row_of(case, op, seconds, **more):
    """A row as if it had been measured, with the same time in every round."""
    samples = {name: np.full(8, value) for name, value in seconds.items()}
    errors = dict.fromkeys(seconds, 1e-7)
    facts = {"flops": case.flops, "nbytes": 1000, "seconds": samples, "errors": errors, "loops_seconds": 5.0}
    return Row(case, op, "float32", "channels_first", **facts | more)


def report_of(*rows, rivals=()):
    limits = machine.Machine("a CPU", "avx2", 2, 2, "a system", "3.12", {"float32": 1e9}, 1e9, 2e-7)
    return Report(limits, "2026-01-02T03:04:05+00:00", 0.0, {"fastconv": fc.__version__}, {}, tuple(rivals), rows)


def test_report_counts_ratios_shares_and_losses():
    conv, pool = SMALL[1], SMALL[6]
    rivals = (VectorisedNumPy(), PEERS["torch"]())
    won = row_of(conv, "forward", {"fastconv": 1e-4, "numpy": 8e-4, "torch": 2e-4}, algorithm="direct")
    lost = row_of(conv, "dx", {"fastconv": 1e-4, "numpy": 2e-4, "torch": 5e-5}, algorithm="direct")
    moved = row_of(pool, "forward", {"fastconv": 2e-6, "fastconv out=": 1e-6})
    report = report_of(won, lost, moved, rivals=rivals)
    summary = report.summary()
    assert summary["times_faster_than_numpy"]["geomean"] == pytest.approx(4)
    assert summary["times_faster_than_numpy"]["geomean_by_op"] == pytest.approx({"forward": 8, "dx": 2})
    assert summary["times_faster_than_torch"]["worst"]["median"] == pytest.approx(0.5)
    assert len(summary["times_faster_than_torch"]["lost"]) == 1
    assert "dx" in summary["times_faster_than_torch"]["worst_row"]
    assert summary["share_of_fma_peak"]["geomean"] == pytest.approx(conv.flops / 1e-4 / 1e9)
    assert summary["share_of_copy_bandwidth"]["worst"] == pytest.approx(0.5)
    assert summary["times_faster_than_torch"]["percentile_5"] == pytest.approx(0.5 + 0.05 * 1.5)
    text = report.text()
    assert "5th percentile 0.575" in text
    assert "5e4~" in text  # loops: 5 s against 1e-4 s
    assert "0.5 (0.5-0.5)" in text
    assert "cache line between two cores 200 ns" in text


def test_report_shows_the_error_of_a_peer_beside_ours():
    rivals = (VectorisedNumPy(), PEERS["torch"]())
    times, errors = {"fastconv": 1e-4, "numpy": 8e-4, "torch": 2e-4}, {"fastconv": 2e-7, "numpy": 3e-7, "torch": 4e-7}
    heading, line, *_ = report_of(row_of(SMALL[1], "dx", times, errors=errors), rivals=rivals).text().splitlines()[5:]
    assert heading.split()[-4:] == ["error", "error", "torch", "algorithm"]
    assert line.split()[-3:-1] == ["2e-07", "4e-07"]


def test_report_has_columns_for_empty_caches():
    rivals = (VectorisedNumPy(), PEERS["torch"]())
    cold = {name: np.full(8, seconds) for name, seconds in {"fastconv": 4e-4, "torch": 6e-4}.items()}
    row = row_of(SMALL[1], "dx", {"fastconv": 1e-4, "torch": 2e-4}, cold_seconds=cold)
    report = report_of(row, rivals=rivals)
    assert report.summary()["times_faster_than_torch_cold"]["geomean"] == pytest.approx(1.5)
    assert report.summary()["times_faster_than_torch"]["geomean"] == pytest.approx(2)
    assert report.as_dict()["rows"][0]["seconds_cold"]["torch"]["median"] == pytest.approx(6e-4)
    assert "1.5 (1.5-1.5)" in report.text() and "x torch cold" in report.text()
    assert "cold  of peak" not in report_of(row_of(SMALL[1], "dx", {"fastconv": 1e-4})).text()


def test_report_of_a_wrong_row():
    wrong = row_of(SMALL[1], "forward", {}, wrong={"fastconv": "element (0, 0, 0, 0) is 1, expected 2"})
    report = report_of(wrong)
    assert "WRONG" in report.text() and "expected 2" in report.text()
    assert report.summary()["wrong"] == 1


def test_row_keys_combine_what_exists():
    keys = row_keys(SMALL, ("forward", "dw"), ("float32", "float64"), ("channels_first",))
    assert len(keys) == 2 * (len(SMALL) + sum("dw" in case.ops for case in SMALL))


def test_command_runs_and_writes_json(tmp_path):
    path = tmp_path / "bench.json"
    words = ["bench", "--quick", "--rows", "lenet", "--threads", "1", "--json", str(path)]
    command_line = [sys.executable, "-m", "fastconv", *words]
    done = subprocess.run(command_line, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert [row["name"] for row in found["rows"]] == [case.name for case in shapes.select("lenet") for _ in case.ops]
    for row in found["rows"]:
        assert row["wrong"] == {}
        assert 0 < row["seconds"]["fastconv"]["low"] <= row["seconds"]["fastconv"]["high"]
        assert row["times_faster_than"]["numpy"]["median"] > 0
        assert row["loops_seconds_scaled"] > row["seconds"]["fastconv"]["median"]
    assert found["machine"]["fma_peak"]["float32"] > 1e9
    assert found["summary"]["rows"] == 14
    assert "LeNet-5 C3 5x5 b64 dw" in done.stdout and "x NumPy" in done.stdout


def test_command_meets_a_model_runner_with_packed_calls_and_empty_caches(tmp_path):
    started("onnxruntime")
    path = tmp_path / "bench.json"
    words = ["--quick", "--cold", "--rows", "lenet-5 c3", "--ops", "forward,dx", "--threads", "1", "--json", str(path)]
    command_line = [sys.executable, "-m", "fastconv", "bench", "--against", "onnxruntime", *words]
    done = subprocess.run(command_line, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    forward, dx = json.loads(path.read_text())["rows"]
    assert {"fastconv", "fastconv packed", "onnxruntime"} < set(forward["seconds_cold"])
    assert set(forward["seconds"]) == {*forward["seconds_cold"], "numpy"}
    assert "onnxruntime" in forward["times_faster_than_cold"] and "onnxruntime" in forward["errors"]
    assert set(dx["seconds"]) == {"fastconv", "fastconv out=", "numpy"}
    assert "x onnxruntime cold" in done.stdout


def test_command_lists_rows(capsys):
    assert command.main(["--list", "--rows", "vgg"]) == 0
    printed = capsys.readouterr().out
    assert "VGG-16 conv1_2 3x3 b1" in printed and "ResNet" not in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rows", "no such layer"], "no row matches"),
        (["--rows", "("], "not a regular expression"),
        (["--ops", "sideways"], "'sideways' is not one of forward, dx, dw, backward"),
        (["--dtype", "int8"], "'int8' is not one of"),
        (["--threads", "0"], "'0' is not a number of threads"),
        (["--seconds", "nan"], "'nan' is not a positive number of seconds"),
        (["--rows", "lenet-5 c1", "--json", "/no/such/folder/x.json"], "/no/such/folder/x.json: No such file"),
        (["--rows", "lenet-5 c1", "--algorithm", "sorcery"], "'sorcery' can serve none"),
    ],
)
def test_command_refuses_in_one_line(capsys, words, message):
    try:
        code = command.main(words)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert code == 2
    assert message in said and len(said.splitlines()) == 1


def test_command_names_a_missing_peer(capsys, monkeypatch):
    def missing(self, threads):
        raise ContenderUnavailable("torch is not installed: pip install torch")

    monkeypatch.setattr(PEERS["torch"], "start", missing)
    assert command.main(["--rows", "lenet", "--against", "torch"]) == 2
    assert "pip install torch" in capsys.readouterr().err
