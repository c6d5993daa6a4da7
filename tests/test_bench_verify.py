"""The benchmark believes no result, of ours or of others, before it has been verified."""

from dataclasses import replace

import numpy as np
import pytest
from bench_cases import (
    SMALL,
    SOME,
    Known,
    over_backwards,
    over_convs,
    over_problems,
    over_single_results,
    report_of,
    row_of,
    started,
)

from fastconv.bench import machine, naive, verify
from fastconv.bench.caches import CacheFlush
from fastconv.bench.cases import ConvCase
from fastconv.bench.contenders import Fastconv, FastconvGivenOut, FastconvPacked, VectorisedNumPy
from fastconv.bench.loops import LoopNest
from fastconv.bench.peers import PEERS
from fastconv.bench.problems import DTYPES, ORDERS, make
from fastconv.bench.suite import run


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
