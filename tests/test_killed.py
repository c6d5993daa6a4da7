"""Processes that are killed: a save leaves the old file, and a training run goes on to the same bits."""
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from fastconv import data, nn

SUFFIXES = [".safetensors", ".npz"]


def child(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


# The child stops in the middle of the save, where the parent kills it: half of the new file is written.
SAVE = """
    import contextlib, sys, time
    import numpy as np
    from fastconv import nn

    class Slow:
        def __init__(self, file):
            self.file, self.written = file, 0

        def write(self, content):
            self.written += self.file.write(bytes(content)[:len(content) // 2 + 1])
            self.file.flush()
            if self.written > 1000:
                print("half", flush=True)
                time.sleep(60)

        def __getattr__(self, name):
            return getattr(self.file, name)

    path = sys.argv[1]
    arrays = {name: np.full(1000, 7.0) for name in "ab"}
    original = nn.serialize.replacing

    @contextlib.contextmanager
    def slowly(target):
        with original(target) as file:
            yield Slow(file)

    nn.serialize.replacing = slowly
    nn.save(path, arrays)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_killed_save_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    nn.save(path, {"a": np.ones(3)})
    before = path.read_bytes()
    process = child(SAVE, path)
    assert process.stdout.readline() == "half\n", process.communicate()[1]
    kill(process)
    assert path.read_bytes() == before
    left = [name for name in os.listdir(tmp_path) if name != path.name]
    assert len(left) == 1 and left[0].startswith(".") and left[0].endswith(".tmp")
    nn.save(path, {"a": np.zeros(2)})
    np.testing.assert_array_equal(nn.load(path)["a"], np.zeros(2))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_saves_killed_at_any_moment(tmp_path, suffix):
    """The file is always one that was saved, old or new."""
    path = tmp_path / f"a{suffix}"
    code = """
        import sys, itertools
        import numpy as np
        from fastconv import nn

        for i in itertools.count():
            nn.save(sys.argv[1], {"a": np.full(20_000, float(i))})
            if i == 0:
                print("saving", flush=True)
    """
    for seed in range(3):
        process = child(code, path)
        assert process.stdout.readline() == "saving\n", process.communicate()[1]
        time.sleep(np.random.default_rng(seed).uniform(0, 0.05))
        kill(process)
        a = nn.load(path)["a"]
        assert a.shape == (20_000,) and (a == a[0]).all()


# ---------------------------------------------------------------- training

TRAIN = """
    import sys, time
    import numpy as np
    from fastconv import nn

    path, pause = sys.argv[1], float(sys.argv[2])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 1, 6, 6)).astype(np.float32), rng.integers(0, 3, 60)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, rng=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
                          nn.Linear(64, 3, rng=2))
    optimizer = nn.AdamW(model)
    schedule = nn.WarmupLR(optimizer, 5, then=nn.CosineLR(optimizer, 30), every="batch")

    def look(progress):
        print(progress.epoch, progress.step, flush=True)
        time.sleep(pause)

    nn.fit(model, x, y, epochs=5, batch_size=16, optimizer=optimizer, schedule=schedule, rng=3, checkpoint=path,
           resume=True, callback=look)
    nn.save_model(path + sys.argv[3], model)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_killed_training_run_goes_on_to_the_same_bits(tmp_path, suffix):
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    assert child(TRAIN, whole, 0, suffix).wait(60) == 0
    for epoch in ("1 2\n", "3 1\n"):  # killed in the middle of the second and of the fourth epoch
        process = child(TRAIN, parts, 0.02, suffix)
        lines = iter(process.stdout.readline, "")
        assert epoch in lines, process.communicate()[1]
        kill(process)
    last = child(TRAIN, parts, 0, suffix)
    steps, errors = last.communicate(timeout=60)
    assert last.returncode == 0 and steps.startswith("3 "), errors
    for end in ("", suffix):
        whole_state, parts_state = nn.load(f"{whole}{end}"), nn.load(f"{parts}{end}")
        assert whole_state.keys() == parts_state.keys()
        for name in whole_state:
            if name != "arrays.seconds":
                np.testing.assert_array_equal(parts_state[name], whole_state[name], err_msg=name)


def test_a_killed_command_goes_on_to_the_same_bits(tmp_path):
    """`fastconv train` killed after its first epoch, then resumed."""
    images, labels = data.load_digits()
    for part, rows in (("train", slice(200)), ("t10k", slice(200, 250))):
        data.write_idx(tmp_path / f"{part}-images-idx3-ubyte", images[rows] * 15)
        data.write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels[rows].astype(np.uint8))
    command = [sys.executable, "-m", "fastconv", "train", tmp_path, "--epochs", "6", "--batch-size", "16",
               "--seed", "4", "--shift", "0.5", "--threads", "1", "--out"]
    subprocess.run([*command, tmp_path / "whole.safetensors"], check=True, capture_output=True, timeout=120)
    process = subprocess.Popen([*command, tmp_path / "parts.safetensors"], stdout=subprocess.PIPE, text=True)
    assert any(line.startswith("epoch 2/6") for line in process.stdout)
    kill(process)
    resumed = subprocess.run([*command, tmp_path / "parts.safetensors", "--resume"], check=True, capture_output=True,
                             text=True, timeout=120)
    assert "epoch 6/6" in resumed.stdout and "epoch 1/6" not in resumed.stdout
    whole, parts = (nn.load(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
