"""Filters on photographs: against the naive reference, and what the kernels promise."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import filtering, filters, reference

KERNELS = {
    "sobel": filters.sobel(1),
    "sobel 5 down": filters.sobel(0, 5),
    "gaussian": filters.gaussian(1.3),
    "box": filters.box(7),
    "laplacian": filters.laplacian(),
    "emboss": filters.emboss(),
    "even": np.arange(8.0).reshape(4, 2) - 2.5,
    "one row": np.array([[0.25, 0, -1, 3, 0.5]]),
    "one tap": np.array([[2.0]]),
    "zeros": np.zeros((3, 3)),
    "gabor": filters.gabor(15, 0.3, 5.0),
}
MODES = ("reflect", "zeros", "replicate", "edge", "circular", "wrap", "symmetric")
SHAPES = ((1, 1), (3, 2, 3), (5, 7), (33, 129, 2), (70, 300, 3), (40, 260, 4), (34, 1100))


def image_of(shape, dtype, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return pixels if dtype == np.uint8 else pixels.astype(dtype) / 7


def assert_close(found, wanted, kernels, image):
    """To rounding: a count of eps in the sum of magnitudes; half a step more where that decides a rounding."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    magnitude = max(np.abs(k).sum() for k in kernels) * float(np.abs(image).max()) + 128
    taps = max(k.size for k in kernels)
    eps = np.finfo(found.dtype if found.dtype.kind == "f" else np.float32).eps
    error = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    if found.dtype == np.uint8:
        assert error.max(initial=0) <= 1 and np.mean(error) <= 0.01
    else:
        assert error.max(initial=0) <= 4 * eps * taps * magnitude


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bank_of_all_kinds_is_the_reference(isa, shape, dtype):
    image, bank = image_of(shape, dtype), list(KERNELS.values())
    for mode in MODES:
        wanted = reference.filter_image(image, bank, padding_mode=mode, offset=3.25)
        found = [fc.filter_image(image, bank, padding_mode=mode, offset=3.25, num_threads=n) for n in (1, 3)]
        assert found[0].tobytes() == found[1].tobytes()
        assert_close(found[0], wanted, bank, image)


@pytest.mark.parametrize("name", KERNELS)
def test_single_kernel_is_the_reference(isa, name):
    for image in (image_of((60, 90), np.uint8), image_of((60, 90, 3), np.float32)):
        found = fc.filter_image(image, KERNELS[name])
        assert_close(found, reference.filter_image(image, KERNELS[name]), [KERNELS[name]], image)


@pytest.mark.parametrize("name", ["sobel", "sobel 5 down", "laplacian", "emboss", "one tap", "zeros"])
def test_whole_numbers_are_exact(isa, name):
    image = image_of((40, 150, 3), np.uint8)
    wanted = reference.filter_image(image, KERNELS[name], dtype="float32")
    np.testing.assert_array_equal(fc.filter_image(image, KERNELS[name], dtype="float32"), wanted)
    np.testing.assert_array_equal(fc.filter_image(image, KERNELS[name]), np.clip(wanted, 0, 255).astype(np.uint8))


def test_rounding_is_to_nearest_ties_to_even_and_saturates(isa):
    image = np.array([[0, 1, 2, 3, 5, 7, 100, 255]], np.uint8)
    half = fc.filter_image(image, [[0.5]])
    assert half.tolist() == [[0, 0, 1, 2, 2, 4, 50, 128]]
    assert fc.filter_image(image, [[3.0]]).tolist() == [[0, 3, 6, 9, 15, 21, 255, 255]]
    assert fc.filter_image(image, [[-1.0]], offset=2).tolist() == [[2, 1, 0, 0, 0, 0, 0, 0]]


def test_alpha_is_kept_or_filtered():
    for channels in (2, 4):
        image = image_of((20, 30, channels), np.uint8)
        blurred = fc.filter_image(image, filters.box(5))
        np.testing.assert_array_equal(blurred[..., -1], image[..., -1])
        for plane in range(channels - 1):
            np.testing.assert_array_equal(
                blurred[..., plane], fc.filter_image(np.ascontiguousarray(image[..., plane]), filters.box(5))
            )
        everything = fc.filter_image(image, filters.box(5), alpha="filter")
        alone = fc.filter_image(image[..., -1], filters.box(5))
        np.testing.assert_array_equal(everything[..., -1], alone)


def test_strides_and_given_results():
    image = image_of((40, 60, 3), np.float32)
    wanted = fc.filter_image(np.ascontiguousarray(image[::-1, ::2]), filters.sobel(0))
    np.testing.assert_array_equal(fc.filter_image(image[::-1, ::2], filters.sobel(0)), wanted)
    for given in (np.empty_like(wanted), np.empty((40, 30, 6), np.float32)[..., ::2]):
        assert fc.filter_image(image[::-1, ::2], filters.sobel(0), out=given) is given
        np.testing.assert_array_equal(given, wanted)


def test_memory_around_results_is_left_alone(isa):
    for shape in ((5, 7), (33, 131, 3)):
        image, n = image_of(shape, np.uint8), int(np.prod(shape))
        guarded = np.full(n + 128, 77, np.uint8)
        fc.filter_image(image, KERNELS["gaussian"], out=guarded[64:64 + n].reshape(shape))
        assert (guarded[:64] == 77).all() and (guarded[64 + n:] == 77).all()


def test_not_a_number_spreads_no_further_than_its_taps():
    image = np.zeros((20, 40), np.float32)
    image[10, 20] = np.nan
    found = np.isnan(fc.filter_image(image, filters.laplacian()))
    assert sorted(zip(*found.nonzero())) == [(9, 20), (10, 19), (10, 20), (10, 21), (11, 20)]


def test_separable_kernels_are_two_passes_and_dense_ones_go_four_at_a_time():
    eps = np.finfo(np.float32).eps
    groups = filtering.groups_of(list(KERNELS.values()), eps)
    along = {group.results[0] for group in groups if group.along}
    assert along == {list(KERNELS).index(name) for name in ("sobel 5 down", "gaussian", "box")}
    assert max(len(group.results) for group in groups) == filtering.TOGETHER
    assert sorted(index for group in groups for index in group.results) == list(range(len(KERNELS)))
    column, row = filtering.factors_of(filters.sobel(1, 7), eps)
    assert not np.any(column % 1) and not np.any(row % 1)
    assert filtering.factors_of(filters.laplacian(), eps) is None


def test_kernels_have_their_well_known_weights():
    assert filters.sobel(1).tolist() == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert filters.sobel(0, 5)[:, 2].tolist() == [-6, -12, 0, 12, 6]
    assert filters.scharr(0).tolist() == [[-3, -10, -3], [0, 0, 0], [3, 10, 3]]
    assert filters.prewitt(1).tolist() == [[-1, 0, 1]] * 3
    assert filters.laplacian(diagonals=True).tolist() == [[1, 1, 1], [1, -8, 1], [1, 1, 1]]
    assert filters.sharpen().tolist() == [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    for kernel in (filters.gaussian(2.0), filters.box(4), filters.sharpen(0.3), filters.emboss()):
        assert kernel.sum() == pytest.approx(1)
    assert filters.gaussian(1.0).shape == (7, 7)
    bank = filters.gabor_bank(size=11, angles=4, wavelengths=(4.0, 6.0))
    assert bank.shape == (8, 11, 11) and np.abs(bank.sum((1, 2))).max() < 1e-12


def test_gabor_answers_to_its_own_stripes():
    x = np.arange(64)
    stripes = np.broadcast_to(np.cos(2 * np.pi * x / 8), (64, 64)).astype(np.float32)
    bank = [filters.gabor(21, angle, 8.0) for angle in (0, np.pi / 2)]
    along, across = fc.filter_image(stripes, bank)[:, 20:-20, 20:-20]
    assert np.abs(along).max() > 20 * np.abs(across).max()


def test_gradient_magnitude_does_not_depend_on_direction():
    image = np.zeros((30, 30), np.float32)
    image[:, 15:] = 10
    edges = filters.gradient_magnitude(image)
    assert edges.max() == 40 and edges[5, 5] == 0
    np.testing.assert_array_equal(filters.gradient_magnitude(np.ascontiguousarray(image.T)), edges.T)
    rgba = np.dstack([image.astype(np.uint8)] * 4)
    assert filters.gradient_magnitude(rgba, filters.scharr)[5, 15].tolist() == [160, 160, 160, 10]


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "image: got dtype int64", {"image": np.zeros((4, 4), np.int64)}),
        (ValueError, "image: got 1 axes", {"image": np.zeros(4, np.uint8)}),
        (ValueError, "image: got 5 channels", {"image": np.zeros((4, 4, 5), np.uint8)}),
        (ValueError, "image: got shape \\(0, 4\\)", {"image": np.zeros((0, 4), np.uint8)}),
        (ValueError, "kernel: got 1 axes", {"kernel": [1.0, 2.0]}),
        (ValueError, "kernel: got shape \\(0, 3\\)", {"kernel": np.zeros((0, 3))}),
        (ValueError, "without kernels", {"kernel": np.zeros((0, 3, 3))}),
        (ValueError, "not finite", {"kernel": [[np.nan]]}),
        (TypeError, "kernel: got dtype complex128", {"kernel": [[1j]]}),
        (ValueError, "padding_mode: got 'mirror'", {"padding_mode": "mirror"}),
        (TypeError, "offset: got 'a'", {"offset": "a"}),
        (TypeError, "dtype: got float64 for an image of uint8; expected float32 or uint8", {"dtype": "float64"}),
        (ValueError, "alpha: got 'drop'", {"alpha": "drop"}),
        (ValueError, "out: got shape", {"out": np.zeros((3, 4), np.uint8)}),
        (TypeError, "out: got dtype float32", {"out": np.zeros((4, 4), np.float32)}),
    ],
)
def test_bad_arguments_are_named(error, message, arguments):
    with pytest.raises(error, match=f"filter_image: .*{message}"):
        fc.filter_image(**{"image": np.zeros((4, 4), np.uint8), "kernel": [[1.0]], **arguments})


@pytest.mark.parametrize(
    "call",
    [lambda: filters.sobel(2), lambda: filters.sobel(0, 4), lambda: filters.gaussian(0), lambda: filters.box(0),
     lambda: filters.gaussian(1, 4), lambda: filters.gabor(15, 0, -1), lambda: filters.gabor_bank(angles=0)],
)
def test_bad_kernels_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_out_may_not_be_the_image():
    image = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="shares memory"):
        fc.filter_image(image, [[1.0]], out=image)


@pytest.mark.parametrize("channels", [1, 3])
def test_results_are_those_of_opencv(channels):
    cv2 = pytest.importorskip("cv2")
    image = image_of((120, 170, 3), np.uint8)[..., :channels].squeeze()
    image = np.ascontiguousarray(image)
    for name in ("sobel", "gaussian", "laplacian", "emboss", "even", "gabor"):
        wanted = cv2.filter2D(image, cv2.CV_8U, KERNELS[name], borderType=cv2.BORDER_REFLECT_101)
        assert np.abs(fc.filter_image(image, KERNELS[name]).astype(int) - wanted).max() <= 1
    wanted = cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=5)
    np.testing.assert_array_equal(fc.filter_image(image, filters.sobel(1, 5), dtype="float32"), wanted)


def test_results_are_those_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    image = image_of((50, 60), np.float64)
    for kernel in KERNELS.values():
        wanted = ndimage.correlate(image, kernel, mode="mirror")
        np.testing.assert_allclose(fc.filter_image(image, kernel), wanted, rtol=1e-12, atol=1e-9)
