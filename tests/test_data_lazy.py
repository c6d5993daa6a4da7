"""Data that are opened rather than loaded: the same as in memory, in the memory of a batch."""

import gzip
import json
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from test_data import DTYPES, header

from fastconv import data, nn


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_opened_idx_is_the_array(tmp_path, dtype, suffix):
    array = np.arange(60).reshape(5, 3, 4).astype(dtype)
    data.write_idx(tmp_path / f"a{suffix}", array)
    opened = data.open_idx(tmp_path / f"a{suffix}")
    assert opened.shape == array.shape and opened.dtype == array.dtype and len(opened) == 5
    for index in (2, slice(1, 4), np.array([4, 0, 4]), array[:, 0, 0] > 20, slice(None)):
        part = opened[index]
        np.testing.assert_array_equal(part, array[index])
        assert part.dtype.isnative and part.flags.writeable
    np.testing.assert_array_equal(np.asarray(opened), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0 bytes"),
        (header(0x08, 2, 3) + bytes(5), "6 bytes, but 5 follow"),
        (header(0x08, 2, 3) + bytes(7), "6 bytes, but"),
        (header(0x08, 1 << 31, 1 << 31, 1 << 31) + bytes(7), "more than the file can hold"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_damaged_idx_is_not_opened(tmp_path, content, message, pack):
    (tmp_path / "bad").write_bytes(pack(content))
    with pytest.raises(ValueError, match=message):
        data.open_idx(tmp_path / "bad")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_opened_npz_has_the_arrays(tmp_path, save):
    arrays = {"x": np.arange(24.0).reshape(2, 3, 4), "y": np.arange(2),
              "f": np.asfortranarray(np.eye(3, 2, dtype="f4")), "big": np.arange(3, dtype=">i4"),
              "none": np.empty((0, 3)), "flag": np.array([True, False])}
    save(tmp_path / "a.npz", **arrays)
    opened = data.open_npz(tmp_path / "a.npz")
    assert opened.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(opened[name][:], array)
        assert opened[name].dtype.isnative


def test_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(100.0))
    whole = path.read_bytes()
    for content, message in (
        (b"hello", "not a readable .npz"),
        (whole[:-30], "not a readable .npz"),
        (whole.replace(b"(100,)", b"(101,)"), "declares|readable"),
        (whole.replace(b"<f8", b"|O "), "readable|expected bool"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            data.open_npz(path)
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(ValueError, match="expected bool, integer or floating point"):
        data.open_npz(path)


def test_opened_arrays_refuse_what_is_not_there(tmp_path):
    data.write_idx(tmp_path / "a", np.arange(20, dtype=np.uint8).reshape(5, 4))
    opened = data.open_idx(tmp_path / "a")
    for index in (5, [0, -6], np.array([0.5]), np.ones(4, bool)):
        with pytest.raises(IndexError):
            opened[index]
    assert opened[-1].tolist() == [16, 17, 18, 19] and opened[[-5]].tolist() == [[0, 1, 2, 3]]
    with open(tmp_path / "a", "r+b") as file:
        file.truncate(20)
    assert opened[0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="a: has become shorter since it was opened"):
        opened[3:]


def test_subset_is_indexed_like_an_array(tmp_path):
    array = np.arange(40).reshape(10, 4)
    order = np.array([7, 1, 1, 9])
    for samples in (array, np.lib.format.open_memmap(tmp_path / "m.npy", "w+", array.dtype, array.shape)):
        samples[...] = array
        subset = data.Subset(samples, order)
        assert len(subset) == 4 and subset.shape == (4, 4) and subset.dtype == array.dtype
        for index in (0, slice(1, 3), np.array([3, 0])):
            np.testing.assert_array_equal(subset[index], array[order][index])
    with pytest.raises(ValueError, match="row of integers"):
        data.Subset(array, [0.5])


def test_opened_folder_of_pictures_is_the_loaded_one(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(7):
            image_module.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(tmp_path / name / f"{index}.png")
    loaded, opened = data.load_image_folder(tmp_path), data.open_image_folder(tmp_path)
    assert isinstance(loaded.x_train, np.ndarray) and isinstance(opened.x_train, data.StoredImages)
    assert opened.image_shape == loaded.image_shape == (3, 9, 8) and opened.classes == loaded.classes
    np.testing.assert_array_equal(opened.y_train, loaded.y_train)
    for index in (3, slice(2, 5), np.array([4, 1])):
        np.testing.assert_array_equal(opened.x_train[index], loaded.x_train[index])
    np.testing.assert_array_equal(np.asarray(opened.x_test), loaded.x_test)


def test_normalisation_is_measured_in_parts(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 6, 5), np.uint8)
    whole = data.Normalisation.fit(images)
    np.testing.assert_allclose(whole.mean, images.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(whole.std, images.std((0, 2, 3)), rtol=1e-14)
    monkeypatch.setattr(data.augment, "FIT_ELEMENTS", 7 * 90)
    parts = data.Normalisation.fit(data.Subset(images, np.arange(50)))
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(parts.std, whole.std, rtol=1e-13)


def test_fit_draws_batches_from_the_file_and_learns_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 1, 8, 8), np.uint8), rng.integers(0, 3, 60)
    data.write_idx(tmp_path / "images.gz", images[:, 0])
    np.savez(tmp_path / "images.npz", x=images)
    mapped = np.memmap(tmp_path / "raw", np.uint8, "w+", shape=images.shape)
    mapped[...] = images
    weights = []
    for samples in (images, data.open_idx(tmp_path / "images.gz").with_channel_axis(),
                    data.open_npz(tmp_path / "images.npz")["x"], mapped, data.Subset(images, np.arange(60))):
        network = nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3, rng=1))
        nn.fit(network, samples, labels, epochs=2, batch_size=16, rng=3, augment=data.random_flip,
               transform=data.Normalisation.fit(samples), validation=(samples, labels))
        weights.append(network.state_dict())
    for other in weights[1:]:
        assert all(np.array_equal(weights[0][name], other[name]) for name in other)


def test_training_from_a_file_takes_the_memory_of_batches(tmp_path):
    path = tmp_path / "images"
    with open(path, "wb") as file:
        file.write(header(0x08, 4000, 128, 128))
        file.truncate(16 + 4000 * 128 * 128)
    opened = data.open_idx(path).with_channel_axis()
    network = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(64, 2, rng=0))
    tracemalloc.start()
    nn.fit(network, opened, np.zeros(4000, np.int64), epochs=1, batch_size=32, rng=0,
           transform=data.Normalisation.fit(opened))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6 < 4 * opened.size


# Trains by the command, which here keeps at most 16 MiB of images, and prints the most memory that was resident.
TRAIN = """
import re, sys
from fastconv import cli
from fastconv.cli import train
train.MOST_KEPT = 16 << 20
code = cli.main(["train", *sys.argv[1:], "--epochs", "1", "--batch-size", "8", "--validation", "0.1", "--threads", "1"])
print("peak", int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) >> 10)
sys.exit(code)
"""
SIDE = 256


def idx_files(folder, images):
    """MNIST's files with images of SIDE x SIDE zeros, as holes in files, and two classes."""
    for part, count in (("train", images), ("t10k", 20)):
        with open(folder / f"{part}-images-idx3-ubyte", "wb") as file:
            file.write(struct.pack(">4B3I", 0, 0, 8, 3, count, SIDE, SIDE))
            file.truncate(16 + count * SIDE * SIDE)
        data.write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 2)


def picture_files(folder, images):
    """Grey pictures of SIDE x SIDE in the folders of two classes."""
    pillow = pytest.importorskip("PIL.Image")
    for part, count in (("train", images), ("test", 20)):
        for name, brightness in (("dark", 0), ("bright", 200)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count // 2):
                pillow.new("L", (SIDE, SIDE), brightness).save(folder / part / name / f"{number}.png")


@pytest.mark.parametrize(("write", "options"), [(idx_files, []), (picture_files, ["--size", f"{SIDE}x{SIDE}"])],
                         ids=["idx", "pictures"])
def test_command_trains_on_more_than_it_keeps_in_memory(tmp_path, write, options):
    network = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear((SIDE // 16) ** 2, 2))
    (tmp_path / "network.json").write_text(json.dumps(network.config()))
    peaks = []
    for images in (120, 2400):  # 8 MiB, which is kept, and 150 MiB
        folder = tmp_path / str(images)
        folder.mkdir()
        write(folder, images)
        command = [sys.executable, "-c", TRAIN, folder, "--model", tmp_path / "network.json", "--out",
                   tmp_path / "model.npz", *options]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 64, peaks
