"""Files in, arrays out: IDX in good and hostile states, the bundled digits, picture folders, augmentation."""

import gzip
import struct
import time

import numpy as np
import pytest

from fastconv import data

DTYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def idx_folder(folder, *, images=(6, 4, 5), test_images=None, labels=(0, 1, 2, 0, 1, 2), suffix=""):
    rng = np.random.default_rng(0)
    for part, shape in (("train", images), ("t10k", test_images or images)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        data.write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", pixels)
        data.write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.array(labels, np.uint8))
    return folder


# ---------------------------------------------------------------------------------------------------------------- IDX


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_idx_round_trip(tmp_path, dtype, suffix):
    array = (np.arange(24).reshape(2, 3, 4) * 5 - (30 if np.dtype(dtype).kind != "u" else 0)).astype(dtype)
    data.write_idx(tmp_path / f"a{suffix}", array)
    read = data.read_idx(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(dtype) and read.dtype.isnative
    assert read.flags.writeable and read.flags.c_contiguous


def test_idx_bytes_are_the_published_format(tmp_path):
    data.write_idx(tmp_path / "a", np.array([[1, -2, 258]], np.int16))
    assert (tmp_path / "a").read_bytes() == bytes.fromhex("00000b02 00000001 00000003 0001 fffe 0102")


def test_gzip_is_told_by_content_and_big_endian_input_is_written(tmp_path):
    (tmp_path / "plain-name").write_bytes(gzip.compress(header(0x08, 3) + b"abc"))
    assert data.read_idx(tmp_path / "plain-name").tobytes() == b"abc"
    data.write_idx(tmp_path / "b", np.array([1.5, -2], ">f4"))
    np.testing.assert_array_equal(data.read_idx(tmp_path / "b"), np.array([1.5, -2], np.float32))


def test_written_gzip_depends_on_the_content_alone(tmp_path):
    for name in ("a.gz", "b.gz"):
        data.write_idx(tmp_path / name, np.arange(9, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0 bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an IDX file: magic number 0x89504e47"),
        (bytes([0, 0, 0x0A, 1]) + bytes(8), "not an IDX file"),
        (bytes([0, 0, 0x08, 0]) + bytes(8), "not an IDX file"),
        (bytes([0, 0, 0x08, 255]) + bytes(2000), "not an IDX file"),
        (header(0x08, 2, 3)[:-1], "header ends"),
        (header(0x08, 2, 3) + bytes(5), r"declares \(2, 3\) uint8, 6 bytes, but only 5 follow"),
        (header(0x08, 2, 3) + bytes(7), "more data follow"),
        (header(0x0D, 2, 3) + bytes(23), "truncated"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_damaged_idx_is_refused_in_one_line(tmp_path, content, message, pack):
    (tmp_path / "bad").write_bytes(pack(content))
    with pytest.raises(ValueError, match=message) as caught:
        data.read_idx(tmp_path / "bad")
    assert "bad" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 8, (60000, 2**20, 2**20), (10**9,)])
def test_huge_declared_sizes_fail_fast(tmp_path, shape, pack):
    (tmp_path / "bad").write_bytes(pack(header(0x0E, *shape) + bytes(1000)))
    start = time.perf_counter()
    with pytest.raises(ValueError, match="more than the file can hold"):
        data.read_idx(tmp_path / "bad")
    assert time.perf_counter() - start < 0.5


def test_gzip_bomb_is_read_no_further_than_declared(tmp_path, monkeypatch):
    (tmp_path / "bomb").write_bytes(gzip.compress(header(0x08, 10) + bytes(1 << 26)))
    asked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or read(self, size))
    with pytest.raises(ValueError, match="more data follow"):
        data.read_idx(tmp_path / "bomb")
    assert min(asked) >= 0 and sum(asked) < 100


def test_truncated_gzip_is_refused(tmp_path):
    whole = gzip.compress(header(0x08, 1000) + np.random.default_rng(0).bytes(1000))
    for end in (2, 10, 500, len(whole) - 4):
        (tmp_path / "cut").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="damaged or truncated gzip file"):
            data.read_idx(tmp_path / "cut")


def test_write_idx_refuses_what_the_format_lacks(tmp_path):
    with pytest.raises(TypeError, match="IDX has no int64"):
        data.write_idx(tmp_path / "a", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="1 to 16 axes"):
        data.write_idx(tmp_path / "a", np.zeros((), np.uint8))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folder(tmp_path, suffix):
    dataset = data.load_idx_folder(idx_folder(tmp_path, suffix=suffix))
    assert dataset.image_shape == (1, 4, 5)
    assert dataset.x_train.shape == dataset.x_test.shape == (6, 1, 4, 5)
    assert dataset.x_train.dtype == np.uint8 and dataset.y_train.dtype == np.int64
    assert dataset.y_test.tolist() == [0, 1, 2, 0, 1, 2] and dataset.classes == ("0", "1", "2")


def test_idx_folder_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        data.load_idx_folder(tmp_path)
    with pytest.raises(ValueError, match=r"6 images of \(4, 5\) pixels, 5 labels"):
        data.load_idx_folder(idx_folder(tmp_path, labels=(0, 1, 2, 0, 1)))
    with pytest.raises(ValueError, match="training images are"):
        data.load_idx_folder(idx_folder(tmp_path, test_images=(6, 5, 5)))
    data.write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.full(6, 2**31 - 1, np.int32))
    data.write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(6, dtype=np.uint8))
    with pytest.raises(ValueError, match="class numbers 2147483647 to 2147483647"):
        data.load_idx_folder(tmp_path)
    with pytest.raises(ValueError, match=r"expected uint8 \(N, H, W\) images"):
        data.load_idx_folder(idx_folder(tmp_path, images=(6, 4)))


# ------------------------------------------------------------------------------------------------------------- digits


def test_bundled_digits():
    images, labels = data.load_digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.uint8 and labels.dtype == np.int64
    assert np.array_equal(np.unique(images), np.arange(17))
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # The first row of optdigits.tes, as published.
    assert images[0].reshape(-1)[:16].tolist() == [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]
    assert labels[:10].tolist() == list(range(10))


def test_split_is_fixed_and_complete():
    test, train = data.split_indices(1797, 1 / 3)
    assert len(test) == 599 and len(train) == 1198
    assert np.array_equal(np.sort(np.concatenate([test, train])), np.arange(1797))
    assert test[:5].tolist() == [1498, 519, 1511, 148, 1013]


# ----------------------------------------------------------------------------------------------------------- pictures


@pytest.fixture
def Image():
    return pytest.importorskip("PIL.Image")


def save_picture(Image, path, colour, mode="RGB", size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_image_folder(tmp_path, Image):
    for index in range(6):
        save_picture(Image, tmp_path / "red" / f"{index}.png", (200 + index, 0, 0))
        save_picture(Image, tmp_path / "blue" / f"{index}.PNG", (0, 0, 200 + index))
    (tmp_path / "red" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    dataset = data.load_image_folder(tmp_path)
    assert dataset.classes == ("blue", "red") and dataset.image_shape == (3, 10, 12)
    assert len(dataset.x_train) == 10 and len(dataset.x_test) == 2
    for images, labels in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        red = images[:, 0].mean((1, 2)) > images[:, 2].mean((1, 2))
        assert np.array_equal(red, labels == 1)


def test_image_folder_with_its_own_test_part(tmp_path, Image):
    for part, shade in (("train", 10), ("test", 90)):
        for name in ("a", "b"):
            save_picture(Image, tmp_path / part / name / "x.png", shade, "L", (100, 80))
    dataset = data.load_image_folder(tmp_path, size=(5, 7))
    assert dataset.x_train.shape == (2, 1, 5, 7)
    assert set(np.unique(dataset.x_train)) == {10} and set(np.unique(dataset.x_test)) == {90}
    assert data.load_image_folder(tmp_path).image_shape == (1, 32, 32)


def test_image_folder_needs_two_classes(tmp_path, Image):
    save_picture(Image, tmp_path / "only" / "x.png", (1, 2, 3))
    with pytest.raises(ValueError, match="found 1 sub-folders with pictures"):
        data.load_image_folder(tmp_path)


def test_picture_forms(tmp_path, Image):
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert np.all(data.read_image(tmp_path / "deep.png", (4, 4), 1) == 0x80)
    save_picture(Image, tmp_path / "clear.png", (9, 9, 9, 0), "RGBA")
    assert np.all(data.read_image(tmp_path / "clear.png", (10, 12), 3) == 255)
    upright = Image.new("L", (6, 2), 50)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(tmp_path / "turned.jpg", exif=exif)
    assert data.read_image(tmp_path / "turned.jpg", (6, 2), 1).shape == (1, 6, 2)


def test_damaged_pictures_are_refused(tmp_path, Image):
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.png: not a picture"):
        data.read_image(tmp_path / "text.png", (8, 8), 1)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cut\.png: damaged or truncated"):
        data.read_image(tmp_path / "cut.png", (8, 8), 1)


# ------------------------------------------------------------------------------------- normalisation and augmentation


def test_normalisation():
    images = np.random.default_rng(1).integers(0, 256, (50, 3, 6, 5), dtype=np.uint8)
    images[:, 2] = 7
    normalise = data.Normalisation.fit(images)
    x = normalise(images)
    assert x.dtype == np.float32 and x.flags.c_contiguous
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 2, 3)), [1, 1, 0], atol=1e-5)


def test_random_shift_by_whole_and_half_pixels():
    class Fixed:
        def uniform(self, low, high, shape):
            return np.array([[1.0, 0.0], [0.0, 0.5]])

    for dtype, result in (("uint8", "float32"), ("float32", "float32"), ("float64", "float64")):
        x = np.arange(2 * 9, dtype=dtype).reshape(2, 1, 3, 3)
        shifted = data.random_shift(x, Fixed(), 1, fill=1)
        np.testing.assert_array_equal(shifted[0, 0], [[3, 4, 5], [6, 7, 8], [1, 1, 1]])
        np.testing.assert_array_equal(shifted[1, 0], [[9.5, 10.5, 6], [12.5, 13.5, 7.5], [15.5, 16.5, 9]])
        assert shifted.dtype == result


@pytest.mark.parametrize("reach", [0, 0.7, 1, 2.5])
def test_random_shift_keeps_values_within_range(reach):
    rng = np.random.default_rng(2)
    x = rng.random((200, 2, 8, 6), dtype=np.float32)
    shifted = data.random_shift(x, rng, reach, fill=0.5)
    assert shifted.shape == x.shape and shifted.min() >= 0 and shifted.max() <= 1 + 1e-6
    assert np.array_equal(shifted, x) == (reach == 0)


def test_random_flip_and_crop():
    rng = np.random.default_rng(3)
    x = np.broadcast_to(np.arange(7.0), (400, 1, 5, 7))
    flipped = data.random_flip(x, rng)
    mirrored = flipped[:, 0, 0, 0] == 6
    assert 120 < mirrored.sum() < 280
    assert np.array_equal(flipped[mirrored][0], x[0, :, :, ::-1]) and np.array_equal(flipped[~mirrored][0], x[0])
    cropped = data.random_crop(x, rng, (5, 4))
    assert cropped.shape == (400, 1, 5, 4) and set(cropped[:, 0, 0, 0]) == {0, 1, 2, 3}
    assert np.all(np.diff(cropped, axis=3) == 1)
    with pytest.raises(ValueError, match="no 6x4 window in 5x7 images"):
        data.random_crop(x, rng, (6, 4))


def test_augmentation_repeats_with_its_seed():
    x = np.random.default_rng(4).random((20, 1, 8, 8), dtype=np.float32)
    first, second = (data.random_shift(x, np.random.default_rng(5), 1.0) for _ in range(2))
    assert np.array_equal(first, second)
