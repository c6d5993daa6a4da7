"""`fastconv filter` as a user runs it."""

import numpy as np
import pytest
from test_cli import assert_refused

from fastconv import cli, data, filters


@pytest.fixture
def photo(tmp_path):
    """A picture file with opacity, and its pixels."""
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 4), np.uint8)
    image_module.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png", pixels


@pytest.mark.parametrize("name", ["sobel", "scharr", "prewitt"])
def test_filter_shows_edges(capsys, photo, tmp_path, name):
    path, pixels = photo
    assert cli.main(["filter", name, str(path), "-o", str(tmp_path / "edges.png")]) == 0
    strength = {"sobel": 1, "scharr": 1 / 4, "prewitt": 4 / 3}[name]
    wanted = filters.gradient_magnitude(pixels, lambda axis: getattr(filters, name)(axis) * strength)
    np.testing.assert_array_equal(data.read_photo(tmp_path / "edges.png"), wanted)
    assert capsys.readouterr().out.startswith(f"saved {tmp_path / 'edges.png'}: {name} of 30x40x4 in ")


def test_filter_takes_its_options(photo, tmp_path):
    path, pixels = photo
    kernels = {
        ("gaussian", "--sigma", "1.5", "--size", "5"): filters.gaussian(1.5, 5),
        ("box", "--size", "3"): filters.box(3),
        ("sharpen", "--amount", "0.5"): filters.sharpen(0.5),
        ("emboss", "--padding-mode", "zeros"): filters.emboss(),
        ("laplacian",): filters.laplacian(),
    }
    for words, kernel in kernels.items():
        assert cli.main(["filter", words[0], str(path), "-o", str(tmp_path / "done.png"), *words[1:]]) == 0
        options = {"padding_mode": "zeros"} if "zeros" in words else {"offset": 128} if len(words) == 1 else {}
        wanted = filters.filter_image(pixels, kernel, **options)
        np.testing.assert_array_equal(data.read_photo(tmp_path / "done.png"), wanted)
    assert cli.main(["filter", "gabor", str(path), "--grey", "-o", str(tmp_path / "grey.png"), "--angle", "-30"]) == 0
    assert data.read_photo(tmp_path / "grey.png").shape == (30, 40, 2)


def test_filter_refuses_in_one_line(capsys, photo, tmp_path):
    path, _ = photo
    assert_refused(capsys, ["filter", "box", path, "-o", tmp_path / "x.jpg"], "x.jpg: cannot write mode RGBA as JPEG")
    assert_refused(capsys, ["filter", "box", path, "-o", tmp_path / "x.abc"], "x.abc: Pillow can't write")
    assert_refused(capsys, ["filter", "box", tmp_path / "no.png", "-o", tmp_path / "x.png"], "no.png: No such file")


def test_sobel_takes_a_size(photo, tmp_path):
    path, pixels = photo
    assert cli.main(["filter", "sobel", str(path), "-o", str(tmp_path / "edges.png"), "--size", "5"]) == 0
    strength = np.abs(filters.sobel(0)).sum() / np.abs(filters.sobel(0, 5)).sum()
    wanted = filters.gradient_magnitude(pixels, lambda axis: filters.sobel(axis, 5) * strength)
    np.testing.assert_array_equal(data.read_photo(tmp_path / "edges.png"), wanted)


@pytest.mark.parametrize("words", [("sobel", "--sigma", "2"), ("scharr", "--size", "5"), ("prewitt", "--offset", "9"),
                                   ("box", "--angle", "0"), ("emboss", "--amount", "1"), ("sharpen", "--sigma", "4")])
def test_options_of_other_filters_are_refused(capsys, photo, tmp_path, words):
    path, _ = photo
    name, option, value = words
    refused = ["filter", name, path, "-o", tmp_path / "x.png", option, value]
    assert_refused(capsys, refused, f"{name} doesn't take {option}")
    assert not (tmp_path / "x.png").exists()


def test_interrupted_writing_leaves_the_old_picture(photo, tmp_path, monkeypatch):
    path, pixels = photo
    before = path.read_bytes()
    image_module = pytest.importorskip("PIL.Image")

    def interrupted(self, file, *_):
        file.write(b"half of a picture")
        raise KeyboardInterrupt

    monkeypatch.setattr(image_module.Image, "save", interrupted)
    assert cli.main(["filter", "box", str(path), "-o", str(path)]) == 130
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
