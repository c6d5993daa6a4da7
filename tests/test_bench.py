"""The benchmark suite: its rows, baselines, report, and the command."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from bench_cases import SMALL, report_of, row_of, started

from fastconv.bench import command, shapes
from fastconv.bench.cases import ConvCase
from fastconv.bench.contenders import ContenderUnavailable, VectorisedNumPy
from fastconv.bench.loops import LIMIT, cut_down, scaled_seconds
from fastconv.bench.peers import PEERS
from fastconv.bench.suite import row_keys


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


def test_loops_are_scaled_by_operations():
    """A layer of 64 times the channels costs 64 times the loops; both are cut down to nearly the same one."""
    few = ConvCase("few", "", (1, 16, 16, 16), (8, 16, 3, 3), padding=1)
    many = replace(few, name="many", x_shape=(1, 128, 16, 16), w_shape=(64, 128, 3, 3))
    assert many.flops == 64 * few.flops
    assert 20 < scaled_seconds(many, "forward") / scaled_seconds(few, "forward") < 200


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


def test_interrupted_filters_report_the_rows_that_are_done(capsys, monkeypatch, tmp_path):
    row = {"name": "box 5x5", "image": "uint8 grey", "pixels": 1000, "seconds": {"fastconv": {"median": 1e-3}},
           "times_faster_than": {}, "wrong": ""}

    def rows(schedule):
        yield row
        raise KeyboardInterrupt

    monkeypatch.setattr(command.photographs, "run", rows)
    assert command.main(["--filters", "--json", str(tmp_path / "filters.json")]) == 130
    assert "box 5x5  uint8 grey  1.00" in capsys.readouterr().out
    assert json.loads((tmp_path / "filters.json").read_text())["rows"] == [row]


def test_refused_run_leaves_no_files(tmp_path, capsys):
    assert command.main(["--rows", "no row has this name", "--json", str(tmp_path / "run.json")]) == 2
    assert list(tmp_path.iterdir()) == []
