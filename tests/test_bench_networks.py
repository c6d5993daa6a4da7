"""Whole networks in the benchmark: translated with their weights, verified, timed, reported."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fastconv import nn
from fastconv.bench import command, network_suite, networks
from fastconv.bench.network_peers import onnx_model, our_calls, peer_calls, torch_module
from fastconv.bench.networks import EPOCH, INFERENCE, NETWORKS, STEP, NetworkCase
from fastconv.bench.peers import PEERS
from fastconv.bench.timing import Schedule

SOME = Schedule(row_seconds=0.01, sample_seconds=1e-4, settle_seconds=1e-4)


def small(rng):
    """Every kind of module that the rows have."""
    bodies = [nn.Sequential(*networks._conv(rng, 6, 12, 1), nn.ReLU6(), *networks._conv(rng, 12, 12, 3, 1, 12),
                            nn.ReLU(), *networks._conv(rng, 12, 6, 1)) for _ in range(2)]
    shortcut = nn.Sequential(*networks._conv(rng, 6, 6, 1))
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Residual(bodies[0]), nn.ReLU(),
        nn.Residual(bodies[1], shortcut), nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(6, 5, rng=rng))


CASES = [NetworkCase("small", "", op, small, 4, (2, 8, 6), 5, 1.0, 10 if op == EPOCH else 4, adam)
         for op, adam in ((EPOCH, True), (STEP, False), (STEP, True), (INFERENCE, False))]
over_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op} {case.adam}")


def started(name):
    peer = PEERS[name]()
    for module in {"torch": ["torch"], "onnxruntime": ["onnx", "onnxruntime"], "openvino": ["onnx", "openvino"]}[name]:
        pytest.importorskip(module)
    peer.start(1)
    return peer


@over_cases
@pytest.mark.parametrize("name", PEERS)
def test_peers_agree(case, name):
    peer = started(name)
    (row,) = network_suite.run_networks([case], [peer], SOME)
    assert not row.wrong
    assert (row.times_faster(name) is not None) == (name == "torch" or case.op == INFERENCE)
    assert max(row.errors.values()) < 1e-4


@over_cases
def test_both_memory_orders_of_ours_are_right(case):
    (row,) = network_suite.run_networks([case], [], SOME)
    assert not row.wrong
    assert set(row.seconds) == set(row.errors) == {f"fastconv, {order}" for order in our_calls(case)}
    assert row.best("fastconv") in row.seconds


def test_a_wrong_contender_is_reported_and_not_timed(monkeypatch):
    def off(case):
        calls = our_calls(case)
        right = calls["channels_last"]
        return calls | {"channels_last": lambda: right() * np.float32(1.001)}

    monkeypatch.setattr(network_suite, "our_calls", off)
    for case in CASES[1:]:
        (row,) = network_suite.run_networks([case], [], SOME)
        assert list(row.wrong) == ["fastconv, channels_last"]
        assert list(row.seconds) == ["fastconv, channels_first"]


def test_the_networks_are_those_of_the_papers():
    """By their numbers of parameters, as published (ResNet-18 with ten classes and without its 7x7 convolution)."""
    counts = {case.network: sum(p.size for p in case.build(np.random.default_rng(0)).parameters()) for case in NETWORKS}
    assert counts == {"LeNet-5": 61_706, "ResNet-18": 11_173_962, "MobileNet-v2": 3_504_872}


def test_images_of_an_epoch_are_bytes():
    images, classes = CASES[0].data()
    assert (images.dtype, len(images), len(classes)) == (np.uint8, 10, 10)
    np.testing.assert_array_equal(networks.prepared(images), images.astype(np.float32) * np.float32(1 / 255))


def test_modules_that_have_no_translation_are_refused():
    torch, onnx = pytest.importorskip("torch"), pytest.importorskip("onnx")
    case = replace(CASES[-1], build=lambda rng: nn.Sequential(nn.Sigmoid()))
    with pytest.raises(KeyError):
        torch_module(torch, case.model())
    with pytest.raises(KeyError):
        onnx_model(onnx, case)


def test_model_runners_only_infer():
    peer = started("onnxruntime")
    assert [bool(peer_calls(peer, case)) for case in CASES] == [False, False, False, True]


def test_command_runs_networks(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(command, "NETWORKS", CASES)
    path = tmp_path / "run.json"
    options = ["--quick", "--threads", "1", "--against", "torch", "--json", str(path)]
    assert command.main(["--networks", "step|infer", *options]) == 0
    text = capsys.readouterr().out
    assert "whole networks" in text
    found = json.loads(path.read_text())["networks"]
    assert [row["op"] for row in found] == [STEP, STEP, INFERENCE]
    for row in found:
        assert set(row["seconds"]) == {f"{who}, {order}" for who in ("fastconv", "torch")
                                       for order in ("channels_first", "channels_last")}
        assert row["times_faster_than"]["torch"]["median"] > 0
        assert row["name"] in text


def test_command_refuses_networks_that_are_not_there(capsys):
    assert command.main(["--networks", "nothing"]) == 2
    assert "no row matches" in capsys.readouterr().err
