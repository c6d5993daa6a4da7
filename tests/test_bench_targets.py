"""The classes of layers and their targets, the page for the documentation, and the regret of `auto`."""

import json

import numpy as np
import pytest

from fastconv.bench import document, regret, shapes, targets
from fastconv.bench.cases import ConvCase
from fastconv.bench.contenders import algorithms
from fastconv.bench.problems import make
from fastconv.bench.targets import TARGETS, TERMS, class_of
from fastconv.bench.timing import Interval, Schedule

SOME = Schedule(row_seconds=0.01, sample_seconds=1e-4, settle_seconds=1e-4)
BY_NAME = {case.name: case for case in shapes.SUITE}


# ---------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ResNet-50 conv2_1 3x3 b1", targets.LARGE),
        ("ResNet-50 conv3_2 3x3 b1", targets.LARGE),
        ("ResNet-50 conv4_2 3x3 b32", targets.LARGE),
        ("CIFAR network 3x3 64-64 b64", targets.LARGE),
        ("ResNet-50 conv4_2 3x3 b1", targets.MIDDLE),
        ("ResNet-50 conv5_2 3x3 b1", targets.SMALL),
        ("cliff 3x3 512-512 4x4 b1", targets.SMALL),
        ("few channels 3x3 32-32 112x112 b1", targets.NARROW),
        ("MNIST network conv2 3x3 32-64 b64", targets.NARROW),
        ("MNIST network conv1 3x3 1-32 b64", targets.GRAY),
        ("LeNet-5 C1 5x5 b64", targets.GRAY),
        ("ResNet-50 conv1 7x7 s2 b1", targets.PLAIN),
        ("ResNet-50 conv3_1 3x3 s2 b1", targets.PLAIN),
        ("ResNet-50 conv3_1 shortcut 1x1 s2 b1", targets.PLAIN),
        ("MobileNet-v2 last 1x1 320-1280 b1", targets.PLAIN),
        ("ResNeXt-50 32x4d conv2_2 3x3 g32 b1", targets.GROUPED),
        ("DeepLab-v3 ASPP 3x3 d12 b1", targets.GROUPED),
        ("MobileNet-v1 dw1 3x3 b1", targets.DEPTHWISE),
        ("EfficientNet-B0 stage4 dw 5x5 s2 b16", targets.DEPTHWISE_5X5_S2),
        ("EfficientNet-B0 stage6 dw 5x5 b1", targets.DEPTHWISE),
        ("depthwise 3x3 m2 64-128 b1", targets.DEPTHWISE),
        ("depthwise 15 256-256 4096 b8", targets.DEPTHWISE_1D),
        ("FastSpeech 2 block conv1 9 b1", targets.SERIES),
        ("spectrogram 400 s160 b1", targets.SPECTROGRAM),
        ("volume 3x3x3 32-64 b4", targets.VOLUME),
        ("volume stem 3x7x7 s2 b1", targets.VOLUME_STEM),
        ("U-Net up2 2x2 s2 256-128 b1", targets.TRANSPOSED),
        ("C3D conv1a 3x3x3 b1", targets.OTHER),
        ("U-Net 3-D down3_1 3x3x3 128-128 b1", targets.OTHER),
        ("VGG-16 conv1_1 3x3 b1", targets.OTHER),
        ("VGG-16 pool1 max 2x2 b1", targets.POOL),
        ("VGG-16 pool1 max 2x2 b8", targets.POOL_BEYOND),
        ("AlexNet conv1 max 2x2 s2, indices b2", targets.POOL),
        ("VGG-16 conv3_2 relu b1", targets.RELU),
        ("ResNet-50 conv1 relu b32", targets.RELU_BEYOND),
        ("ResNet-50 conv1 relu out= b32", targets.RELU),
    ],
)
def test_class_of_known_rows(name, expected):
    assert class_of(BY_NAME[name], "float32") == expected


def test_float64_has_classes_of_its_own():
    assert class_of(BY_NAME["ResNet-50 conv5_2 3x3 b1"], "float64") == targets.DOUBLE_3X3
    assert class_of(BY_NAME["ResNet-50 conv1 7x7 s2 b1"], "float64") == targets.DOUBLE
    assert class_of(BY_NAME["MobileNet-v1 dw1 3x3 b1"], "float64") == targets.DOUBLE_DEPTHWISE
    assert class_of(BY_NAME["AlexNet conv1 max 3x3 s2 b2"], "float64") == targets.DOUBLE_POOL


def test_every_class_has_rows_and_every_target_terms():
    found = {class_of(case, dtype) for case in shapes.SUITE for dtype in ("float32", "float64")}
    assert found == {*TARGETS}
    for by_op in TARGETS.values():
        assert set(by_op) <= {"forward", "backward", "dw"} or set(by_op) == {"forward", "dx"}
        assert all(len(wanted) <= len(TERMS) for wanted in by_op.values())


# ---------------------------------------------------------------- judgement


def json_row(name, op="forward", dtype="float32", order="channels_first", share=0.5, **ratios):
    """A row as the report writes it; ratios are medians, or (low, median, high)."""
    case = BY_NAME[name]
    intervals = {peer: r if isinstance(r, tuple) else (r, r, r) for peer, r in ratios.items()}
    return {
        "name": name,
        "op": op,
        "dtype": dtype,
        "order": order,
        "class": class_of(case, dtype),
        "flops": case.flops,
        "bytes": 1000,
        "unit": "FLOP/s",
        "algorithm": "direct",
        "rate": {"low": 1e9, "median": 1e9, "high": 1e9},
        "share_of_limit": share,
        "seconds": {"fastconv": {"low": 1e-3, "median": 1e-3, "high": 1e-3}},
        "seconds_cold": {},
        "times_faster_than": {peer: dict(zip(("low", "median", "high"), r)) for peer, r in intervals.items()},
        "times_faster_than_cold": {},
        "errors": {"fastconv": 2e-7} | dict.fromkeys(ratios, 3e-7),
    }


LARGE_ROW, OTHER_LARGE_ROW = "ResNet-50 conv2_1 3x3 b1", "ResNet-50 conv3_2 3x3 b1"


def test_summaries_hold_geomeans_beside_targets_on_the_same_terms():
    rows = [
        json_row(LARGE_ROW, torch=2.0, onnxruntime=4.0, share=0.4),
        json_row(OTHER_LARGE_ROW, torch=8.0, share=0.9),
        json_row(LARGE_ROW, order="channels_last", torch=3.0, share=0.6),
    ]
    (summary,) = targets.summaries(rows)
    assert (summary.layer_class, summary.op, summary.rows) == (targets.LARGE, "forward", 3)
    assert summary.share == pytest.approx((0.4 * 0.9 * 0.6) ** (1 / 3))
    last, first, onnx, openvino = TERMS
    assert summary.ratios == pytest.approx({last: 3, first: 4, onnx: 4})
    assert summary.targets == {last: 3.0, first: 3.2, onnx: 3.0}
    assert summary.cell(first) == "4 / 3.2" and summary.cell(openvino) == "-"


def test_rows_are_short_below_four_fifths_of_the_target_and_lost_below_one():
    target = TARGETS[targets.LARGE]["forward"][1]
    just, short = targets.comparisons(
        [json_row(LARGE_ROW, torch=0.801 * target), json_row(OTHER_LARGE_ROW, torch=0.799 * target)]
    )
    assert not just.short and short.short
    assert not targets.comparisons([json_row("VGG-16 conv1_1 3x3 b1", torch=0.5)])[0].short  # no target
    open_, lost = targets.comparisons([json_row(LARGE_ROW, torch=(0.9, 0.95, 1.01), openvino=(0.9, 0.95, 0.99))])
    assert not open_.lost and lost.lost
    assert targets.comparisons([json_row(LARGE_ROW, numpy=0.1)]) == []


def test_float64_shares_are_compared_with_the_same_row_in_float32():
    name = "ResNet-50 conv1 7x7 s2 b1"
    rows = [json_row(name, share=0.8), json_row(name, dtype="float64", share=0.6), json_row(LARGE_ROW, dtype="float64")]
    assert targets.double_shares(rows) == pytest.approx({f"{name} forward, float64, channels_first": 0.75})


# ---------------------------------------------------------------- the page


def json_run(*rows, date="2026-01-02"):
    machine = {
        "cpu": "a CPU",
        "cores": 2,
        "threads": 2,
        "isa": "avx2",
        "system": "a system",
        "python": "3.12",
        "fma_peak": {"float32": 5e11},
        "copy_bandwidth": 4e10,
        "ping_pong": 5e-8,
    }
    versions = {"fastconv": "1.0"}
    return {"machine": machine, "date": date, "cpus_taken_by_others": 0.01, "versions": versions, "rows": rows}


def test_runs_are_joined_by_row():
    first = json_run(json_row(LARGE_ROW, torch=2.0, numpy=5.0))
    second = json_run(json_row(LARGE_ROW, torch=9.0, openvino=4.0), json_row(OTHER_LARGE_ROW, torch=1.0))
    wrong = json_row("ResNet-50 conv4_2 3x3 b1") | {"rate": None}
    rows = document.join([first, second, json_run(wrong)])
    assert [row["name"] for row in rows] == [LARGE_ROW, OTHER_LARGE_ROW]
    medians = {peer: ratio["median"] for peer, ratio in rows[0]["times_faster_than"].items()}
    assert medians == {"torch": 2.0, "numpy": 5.0, "openvino": 4.0}


def test_page_names_missed_and_lost_rows_with_their_reasons(tmp_path, capsys):
    run, reasons = tmp_path / "run.json", tmp_path / "reasons.toml"
    rows = [
        json_row(LARGE_ROW, torch=(0.7, 0.8, 0.9), numpy=7.0),
        json_row(OTHER_LARGE_ROW, torch=2.0),
        json_row(LARGE_ROW, order="channels_last", torch=3.1),
    ]
    run.write_text(json.dumps(json_run(*rows)))
    reasons.write_text('[[reason]]\nrows = "* conv2_1 *"\nwhy = "the moon"\n[[reason]]\nrows = "VGG*"\nwhy = "-"\n')
    assert document.main([str(run), "--reasons", str(reasons)]) == 0
    page, said = capsys.readouterr()
    assert f"| {LARGE_ROW} forward, float32, channels_first | torch | 0.8 (0.7-0.9) | 3.2 | the moon |" in page
    assert f"| {LARGE_ROW} forward, float32, channels_first | torch | 0.8 (0.7-0.9) | the moon |" in page
    assert f"| {OTHER_LARGE_ROW} forward, float32, channels_first | torch | 2 (2-2) | 3.2 | not known |" in page
    assert "| **1.26 / 3.2** |" in page and "| 3.1 / 3 |" in page
    assert "500 GFLOP/s float32" in page and "2026-01-02" in page
    assert "'VGG*' meets no row" in said and "conv2_1" not in said
    heading = next(line for line in page.splitlines() if line.startswith("| row | class | GFLOP/s"))
    assert heading == "| row | class | GFLOP/s | of peak | x torch | x NumPy | error | error torch | algorithm |"
    tables = [line for line in page.splitlines() if line.startswith("| row | class")]
    assert len(tables) == 2  # one a memory order


# ---------------------------------------------------------------- regret


def test_random_layers_are_the_same_every_time_and_not_of_the_suite():
    cases = list(regret.random_cases(30))
    assert cases == list(regret.random_cases(30)) and cases[:7] == list(regret.random_cases(7))
    known = {(case.x_shape, case.w_shape) for case in shapes.SUITE if isinstance(case, ConvCase)}
    assert not known & {(case.x_shape, case.w_shape) for case in cases}
    assert all(1e6 <= case.flops <= regret.MOST_FLOPS and case.y_shape[2:] == case.x_shape[2:] for case in cases)


def test_regret_of_one_layer():
    case = ConvCase("3x3", "", (1, 16, 14, 14), (16, 16, 3, 3), padding=1)
    for op in regret.OPS:
        found = regret.measure(make(case, op), SOME)
        assert {found.taken, found.best} <= set(algorithms(make(case, op)))
        assert found.ratio == (1, 1, 1) if found.taken == found.best else found.ratio.high > 0
    strided = ConvCase("strided", "", (1, 16, 14, 14), (16, 16, 3, 3), stride=2)
    assert regret.measure(make(strided, "dw"), SOME) is None


def test_regret_report_lists_what_is_beyond_the_bound():
    found = [
        regret.Regret("good", "direct", "direct", Interval(1, 1, 1)),
        regret.Regret("bad", "direct", "winograd4", Interval(1.2, 1.44, 1.5)),
    ]
    text = regret.report("suite", found, 1.05)
    assert "50.0% of 2 within 5%; geomean 1.200" in text
    assert "bad" in text and "1.44 (1.20-1.50)" in text and "good" not in text
    assert "beyond" not in regret.report("suite", found[:1], 1.05)


def test_regret_command_tells_whether_auto_keeps_its_promise(monkeypatch, capsys):
    def slower(times):
        return lambda problem, schedule: regret.Regret(problem.name, "direct", "folded", Interval(*[times] * 3))

    words = ["--rows", "lenet-5 c1", "--random", "2", "--ops", "forward"]
    monkeypatch.setattr(regret, "measure", slower(1.04))
    assert regret.main(words) == 0
    monkeypatch.setattr(regret, "measure", slower(1.10))
    assert regret.main(words) == 1
    assert np.count_nonzero(["suite" in line for line in capsys.readouterr().out.splitlines()]) == 2
