"""The `fastconv` command as a user runs it: what it prints, what it saves, how it refuses."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest

from fastconv import cli, console, data, demo, nn
from fastconv.classifier import Classifier, small

COMMAND = [sys.executable, "-m", "fastconv"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


def assert_refused(capsys, arguments, message):
    """Exit code 2, nothing but one line on stderr, and `message` in it."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1 and "Traceback" not in captured.err


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory):
    """300 training and 100 test digits as IDX files under MNIST's names."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = data.load_digits()
    for part, rows in (("train", slice(300)), ("t10k", slice(300, 400))):
        data.write_idx(folder / f"{part}-images-idx3-ubyte.gz", images[rows] * 15)
        data.write_idx(folder / f"{part}-labels-idx1-ubyte", labels[rows].astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def model(digits_folder, tmp_path_factory):
    """A model that `fastconv train` has saved, and what the command printed."""
    path = tmp_path_factory.mktemp("model") / "digits.safetensors"
    names = ",".join(f"digit {n}" for n in range(10))
    result = run("train", digits_folder, "--out", path, "--epochs", 25, "--batch-size", 32, "--lr", 0.003,
                 "--classes", names, "--validation", 0.1, "--shift", 0.5, "--threads", 1)
    assert result.returncode == 0, result.stderr
    return path, result


def save_digit(path, index):
    image_module = pytest.importorskip("PIL.Image")
    image_module.fromarray(data.load_digits()[0][index] * 15).save(path)
    return path


# -------------------------------------------------------------------------------------------------- what it does


@pytest.mark.parametrize("command", ["", "demo", "train", "predict", "filter", "info", "bench"])
def test_every_help_has_an_example(command):
    result = run(*command.split(), "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert f"example:\n  fastconv {command}" in result.stdout


def test_bench_takes_its_own_options():
    result = run("bench", "--help")
    assert result.returncode == 0 and "usage: fastconv bench" in result.stdout
    assert run("bench", "--no-such-option").returncode == 2


def test_info_prints_the_configuration():
    import fastconv

    result = run("info")
    assert result.returncode == 0 and fastconv.__version__ in result.stdout and "isa in use" in result.stdout
    assert run("--version").stdout.split() == ["fastconv", fastconv.__version__]


def test_demo(tmp_path):
    result = run("demo", "--epochs", 3, "--seed", 1, "--out", "shown.png", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""  # no progress bar in a pipe
    for part in ("1,198 to learn from, 599 held out", "test accuracy: ", "confusion matrix", "times faster",
                 "1 thread,", "conv 3x3, 32 to 64: gradient of the weights"):
        assert part in result.stdout
    accuracy = float(result.stdout.split("test accuracy: ")[1].split("%")[0])
    assert accuracy > 50
    drawn = (tmp_path / "shown.png").is_file()
    assert drawn or "pip install 'fastconv[demo]'" in result.stdout


def test_train_reports_and_saves(model):
    path, result = model
    lines = result.stdout.splitlines()
    assert result.stderr == ""
    assert lines[0].startswith("300 training and 100 test images of 8x8 pixels, grey, 10 classes; network of ")
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 25 and all("validation: loss" in line and " s " in line for line in epochs)
    accuracy = float(result.stdout.split("test accuracy: ")[1].split("%")[0])
    assert accuracy >= 85
    assert "9 digit 9" in result.stdout
    classifier = Classifier.load(path)
    assert classifier.image_shape == (1, 8, 8) and classifier.classes[3] == "digit 3"
    images, labels = data.load_digits()
    answers = classifier.probabilities(images[300:400, None] * 15).argmax(1)
    assert round(100 * np.mean(answers == labels[300:400]), 2) == accuracy


def test_resumed_run_ends_as_the_uninterrupted_one(digits_folder, tmp_path):
    common = ["train", digits_folder, "--batch-size", 64, "--seed", 5, "--threads", 1]
    assert run(*common, "--epochs", 3, "--out", tmp_path / "whole.safetensors").returncode == 0
    assert run(*common, "--epochs", 2, "--out", tmp_path / "parts.safetensors").returncode == 0
    resumed = run(*common, "--epochs", 3, "--out", tmp_path / "parts.safetensors", "--resume")
    assert resumed.returncode == 0 and resumed.stdout.count("epoch 3/3") == 1 and "epoch 2/3" not in resumed.stdout
    whole, parts = (nn.load(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_train_on_a_folder_of_pictures_and_predict(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(18):
            pixels = rng.integers(0, 60, (20, 24, 3), np.uint8)
            pixels[..., channel] += 150
            image_module.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    trained = run("train", tmp_path / "pictures", "--size", "12x16", "--model", "lenet", "--epochs", 12,
                  "--batch-size", 8, "--threads", 1, "--flip", "--out", tmp_path / "colour.npz",
                  "--picture", tmp_path / "way.png")
    assert trained.returncode == 0, trained.stderr
    assert "12x16 pixels, RGB, 2 classes" in trained.stdout and "test accuracy: 100.00%" in trained.stdout
    image_module.new("RGB", (50, 40), (220, 20, 10)).save(tmp_path / "asked.jpg")
    asked = run("predict", tmp_path / "colour.npz", tmp_path / "asked.jpg")
    assert asked.returncode == 0 and asked.stdout.startswith(f"{tmp_path / 'asked.jpg'}: red ")


def test_predict(model, tmp_path):
    path, _ = model
    pictures = [save_digit(tmp_path / f"{index}.png", index) for index in (310, 311)]
    expected = Classifier.load(path).probabilities(data.load_digits()[0][[310, 311], None] * 15)
    result = run("predict", path, *pictures, "--json")
    assert result.returncode == 0
    answers = json.loads(result.stdout)
    for picture, row, answer in zip(pictures, expected, answers, strict=True):
        best = np.argsort(-row)[:3]
        assert answer["image"] == str(picture)
        assert [c["name"] for c in answer["classes"]] == [f"digit {k}" for k in best]
        np.testing.assert_allclose([c["probability"] for c in answer["classes"]], row[best], rtol=1e-4, atol=1e-7)
    plain = run("predict", path, *pictures, "--top", 1).stdout.splitlines()
    assert plain[0] == f"{pictures[0]}: digit {expected[0].argmax()} {expected[0].max():.1%}"


def test_predict_inverted_and_resized(model, tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    path, _ = model
    digit = image_module.fromarray(255 - data.load_digits()[0][310] * 15)
    digit.resize((80, 80), image_module.Resampling.NEAREST).convert("RGB").save(tmp_path / "scan.png")
    expected = Classifier.load(path).probabilities(data.load_digits()[0][[310], None] * 15)[0]
    answer = json.loads(run("predict", path, tmp_path / "scan.png", "--invert", "--json").stdout)[0]["classes"][0]
    assert answer["name"] == f"digit {expected.argmax()}"


def test_network_from_a_json_file_draws_its_weights_from_the_seed(digits_folder, tmp_path):
    network = small((1, 8, 8), 10, np.random.default_rng(0))
    (tmp_path / "net.json").write_text(json.dumps(network.config()))
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = run("train", digits_folder, "--model", tmp_path / "net.json", "--epochs", 1, "--seed", seed,
                     "--threads", 1, "--out", tmp_path / f"{out}.npz")
        assert result.returncode == 0, result.stderr
    a, b, c = (nn.load(tmp_path / f"{out}.npz") for out in "abc")
    assert all(np.array_equal(a[name], b[name]) and not np.array_equal(a[name], c[name]) for name in a)


# ---------------------------------------------------------------------------------------------- for scripts, and help


COMMANDS = ("demo", "train", "predict", "filter", "info", "bench")


def test_help_lists_commands_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n    {command} " in shown for command in COMMANDS)
    assert all(f"\n  {code} " in shown for code in (0, 1, 2, 130))


def test_info_as_json(capsys):
    assert cli.main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["isa_in_use"] in found["isa_available"] and 1 <= found["threads"] <= 1024
    assert cli.main(["info"]) == 0
    names = {line[:14].strip().replace(" ", "_") for line in capsys.readouterr().out.splitlines()}
    assert names == found.keys() - {"cpus"}


def test_train_result_as_json(digits_folder, tmp_path):
    result = run("train", digits_folder, "--epochs", 2, "--threads", 1, "--json", "--out", tmp_path / "net.npz")
    assert result.returncode == 0 and result.stderr == ""
    found = json.loads(result.stdout)
    assert found["model"] == str(tmp_path / "net.npz") and found["images"] == {"training": 300, "test": 100}
    assert len(found["epochs"]["loss"]) == 2 and found["epochs"]["val_loss"] == [None, None]
    assert found["test"]["accuracy"] == found["test"]["right"] / 100


def test_bench_result_as_json(capsys):
    words = ["--quick", "--rows", "lenet-5 c1", "--ops", "forward", "--threads", "1", "--json", "-"]
    assert cli.main(["bench", *words]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["name"] == "LeNet-5 C1 5x5 b64"


# ------------------------------------------------------------------------------------------------- how it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["juggle"], "juggle"),
        (["demo", "--epochs", "0"], "whole number from 1"),
        (["demo", "--epochs", "many"], "whole number from 1"),
        (["demo", "--seed", "-1"], "seed"),
        (["demo", "--threads", "5000"], "1024"),
        (["demo", "--out", "/no/such/folder/x.png"], "/no/such/folder/x.png"),
        (["train"], "DATA"),
        (["train", "/no/such/folder"], "/no/such/folder: no such folder"),
        (["train", ".", "--lr", "nan"], "not a positive number"),
        (["train", ".", "--validation", "1"], "not a share"),
        (["train", ".", "--size", "32"], "not a size such as 32x32"),
        (["train", ".", "--out", "model.pickle"], ".safetensors or .npz"),
        (["train", ".", "--out", "none.safetensors", "--resume"], "there is no none.checkpoint.safetensors"),
        (["predict", "none.safetensors", "x.png"], "none.safetensors: No such file"),
        (["filter", "sobel"], "IMAGE"),
        (["filter", "melt", "x.png", "-o", "y.png"], "invalid choice: 'melt'"),
        (["filter", "sobel", "x.png", "-o", "/no/such/folder/y.png"], "/no/such/folder/y.png"),
        (["filter", "gaussian", "x.png", "-o", "y.png", "--sigma", "0"], "not a positive number"),
    ],
)
def test_wrong_arguments(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, arguments, message)


def test_wrong_training_data(capsys, digits_folder, tmp_path):
    def folder(name, **files):
        (tmp_path / name).mkdir()
        for source in digits_folder.iterdir():
            content = files.get(source.name.split("-ubyte")[0].replace("-", "_"), source.read_bytes())
            if content is not None:
                (tmp_path / name / source.name).write_bytes(content)
        return ["train", tmp_path / name, "--out", tmp_path / "out.npz"]

    whole = (digits_folder / "train-images-idx3-ubyte.gz").read_bytes()
    labels = (digits_folder / "train-labels-idx1-ubyte").read_bytes()
    assert_refused(capsys, folder("magic", train_labels_idx1=b"GIF" + labels), "not an IDX file: magic number 0x474946")
    assert_refused(capsys, folder("cut", train_images_idx3=whole[:2000]), "truncated gzip")
    assert_refused(capsys, folder("short", train_labels_idx1=labels[:-1]), "the file is truncated")
    assert_refused(capsys, folder("long", train_labels_idx1=labels + b"x"), "more data follow")
    assert_refused(capsys, folder("gone", t10k_images_idx3=None), "no t10k-images-idx3-ubyte[.gz] in it")
    assert_refused(capsys, folder("sized") + ["--size", "8x8"], "--size is for folders of pictures")
    assert_refused(capsys, folder("named") + ["--classes", "a,b"], "--classes gives 2 names, the data have 10")
    assert_refused(capsys, folder("lenet") + ["--model", "lenet"], "too small")
    assert_refused(capsys, folder("large") + ["--model", "large"], "--model large: neither small, lenet")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "not the description of a network"),
        ('{"type": "Sequential", "modules": [{"type": "Rocket"}]}', "'Rocket' is no layer"),
        ('{"type": "Flatten"}', "the network makes (64,) of an image, need (10,)"),
        ('{"type": "Conv2d", "in_channels": 3, "out_channels": 4, "kernel_size": 3}', "doesn't fit images of 8x8"),
        ('{"type": "Linear", "in_features": 100000000, "out_features": 100000000}', ""),
        ("[" * 100000, "not the description of a network"),
    ],
)
def test_wrong_network_descriptions(capsys, digits_folder, tmp_path, text, message):
    (tmp_path / "net.json").write_text(text)
    arguments = ["train", digits_folder, "--model", tmp_path / "net.json", "--out", tmp_path / "out.npz"]
    assert_refused(capsys, arguments, message)


def test_wrong_models_and_images(capsys, model, tmp_path):
    path, _ = model
    picture = save_digit(tmp_path / "digit.png", 0)
    (tmp_path / "text.safetensors").write_text("hello, I am a text")
    assert_refused(capsys, ["predict", tmp_path / "text.safetensors", picture], "text.safetensors: not a safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    assert_refused(capsys, ["predict", tmp_path / "cut.safetensors", picture], "cut.safetensors")
    (tmp_path / "text.png").write_text("hello")
    assert_refused(capsys, ["predict", path, tmp_path / "text.png"], "text.png: not a picture")
    assert_refused(capsys, ["predict", path, tmp_path / "none.png"], "none.png: No such file")
    assert_refused(capsys, ["predict", picture, picture], "ending")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, rng=0))
    nn.save_model(tmp_path / "bare.npz", network)
    assert_refused(capsys, ["predict", tmp_path / "bare.npz", picture], "no image classifier")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_shape": [1, 12, 8]}, "the network doesn't fit images of 12x8 pixels, grey"),
        ({"image_shape": [3, 8, 8], "mean": [0] * 3, "std": [1] * 3}, "doesn't fit images of 8x8 pixels, RGB"),
        ({"image_shape": [1, 10**9, 10**9]}, "image shape"),
        ({"image_shape": []}, "damaged description"),
        ({"classes": ["a", "b"]}, "need (2,)"),
        ({"classes": "0123456789"}, "not a list of names"),
        ({"std": [0]}, "normalisation"),
        ({"mean": None}, "damaged description"),
    ],
)
def test_model_that_does_not_fit_its_description(capsys, model, tmp_path, changed, message):
    from fastconv.classifier import METADATA_KEY

    about = {**json.loads(nn.read_metadata(model[0])[METADATA_KEY]), **changed}
    nn.save_model(tmp_path / "odd.npz", nn.load_model(model[0]), {METADATA_KEY: json.dumps(about)})
    assert_refused(capsys, ["predict", tmp_path / "odd.npz", save_digit(tmp_path / "digit.png", 0)], message)


def test_missing_optional_packages_are_named(capsys, model, tmp_path, monkeypatch):
    picture = save_digit(tmp_path / "digit.png", 0)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert_refused(capsys, ["predict", model[0], picture], "needs Pillow: pip install 'fastconv[demo]'")
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    monkeypatch.setattr(demo, "kernel_speeds", lambda: [("ReLU forward", 1e-6, 2e-6)])
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--epochs", "1"]) == 0
    captured = capsys.readouterr()
    assert "no picture: drawing the picture needs matplotlib: pip install 'fastconv[demo]'" in captured.out
    assert captured.err == "" and not (tmp_path / "digit.png.tmp").exists()


def test_interrupt_ends_without_a_traceback(digits_folder, tmp_path):
    arguments = ["train", digits_folder, "--epochs", "100000", "--threads", "1", "--out", tmp_path / "model.npz"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while "epoch      3/" not in process.stdout.readline():  # the first ones are stored
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == f"fastconv: interrupted; go on from {tmp_path / 'model.checkpoint.npz'} with --resume\n"
    assert (tmp_path / "model.checkpoint.npz").is_file()


def test_reader_of_a_pipe_may_leave(model, tmp_path):
    picture = save_digit(tmp_path / "digit.png", 0)
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as pipe:
        command = [*COMMAND, "predict", model[0], picture]
        result = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, timeout=60)
    assert result.returncode == 1 and result.stderr == b""


def test_resume_beyond_the_end_says_so(digits_folder, tmp_path, capsys):
    words = ["train", str(digits_folder), "--threads", "1", "--out", str(tmp_path / "m.npz")]
    assert cli.main([*words, "--epochs", "2"]) == 0
    assert "already" not in capsys.readouterr().out
    assert cli.main([*words, "--epochs", "1", "--resume"]) == 0
    assert "m.checkpoint.npz has 2 epochs already: --epochs counts those, too" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------- progress


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_progress_bar_on_a_terminal(with_tqdm):
    if with_tqdm:
        pytest.importorskip("tqdm")
    program = f"""
import sys
{"" if with_tqdm else "sys.modules.update(tqdm=None)"}
from fastconv.console import Progress
with Progress(3, "work") as bar:
    for step in range(3):
        bar.advance(f"note {{step}}")
"""
    main_end, terminal = pty.openpty()
    os.set_blocking(main_end, False)
    termios.tcsetwinsize(terminal, (25, 100))
    assert subprocess.run([sys.executable, "-c", program], stderr=terminal, timeout=60).returncode == 0
    shown = os.read(main_end, 10_000).decode()
    os.close(terminal)
    os.close(main_end)
    assert "work" in shown and ("%" in shown) == with_tqdm and ("3/3 note 2" in shown) != with_tqdm


def test_plain_progress_bar(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with console.Progress(4, "work") as bar:
        bar.show(2, "half")
        time.sleep(bar.REDRAW_SECONDS)
        bar.advance("more")
        bar.write("a line")
        bar.advance("all")
    captured = capsys.readouterr()
    assert captured.out == "a line\n"
    for part in (r"work \[#{15}\.{15}\] 2/4 0:0\d left half", r"3/4 0:0\d left more", r"\[#{30}\] 4/4 all"):
        assert re.search(part, captured.err)
    assert captured.err.endswith("\r\033[K")
