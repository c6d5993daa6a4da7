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
    assert_refused(capsys, ["filter", "box", path, "-o", tmp_path / "x.abc"], "x.abc: unknown file extension")
    assert_refused(capsys, ["filter", "box", tmp_path / "no.png", "-o", tmp_path / "x.png"], "no.png: No such file")
