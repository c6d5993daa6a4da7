"""Filters on photographs of 12 megapixels, in turns with OpenCV and SciPy where they are installed.

    fastconv bench --filters

Every result is compared with a part of the naive reference, then timed. OpenCV's calls are those that its users would
write: `Sobel`, `GaussianBlur` and `blur` where it has them, else `filter2D`; SciPy's are its separate 1-D filters where
a kernel is separable, else `correlate`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .. import filters, get_num_threads, reference
from ..console import table
from .timing import Interval, Schedule, interleave, median_intervals, times_faster

HEIGHT, WIDTH = 3000, 4000
IMAGES = {"uint8 grey": (np.uint8, ()), "uint8 RGB": (np.uint8, (3,)), "float32 grey": (np.float32, ())}
BANK = 16
VERIFIED = 64
"""Rows and columns of the corner that is compared with the reference."""

Call = Callable[[], Any]


@dataclass(frozen=True)
class FilterCase:
    """A kernel or a bank of them, and what the peers call for it: functions of their module and an image."""

    name: str
    kernel: np.ndarray
    opencv: Callable[[Any, np.ndarray], Any] | None = None
    scipy: Callable[[Any, np.ndarray], Any] | None = None

    @property
    def kernels(self) -> list[np.ndarray]:
        return list(self.kernel) if self.kernel.ndim == 3 else [self.kernel]


def cases() -> tuple[FilterCase, ...]:
    rng = np.random.default_rng(0)
    dense = [FilterCase(f"dense {n}x{n}", rng.normal(size=(n, n)) / n**2) for n in (3, 5, 7)]
    sobels = [FilterCase(f"sobel {n}x{n}", filters.sobel(1, n), _sobel(n)) for n in (3, 5, 7)]
    blurs = [
        FilterCase(f"gaussian {n}x{n}", filters.gaussian(n / 6, n), _gaussian(n / 6, n), _scipy_gaussian(n / 6, n))
        for n in (3, 7)
    ]
    box = FilterCase("box 5x5", filters.box(5), lambda cv2, x: cv2.blur(x, (5, 5)))
    banks = [FilterCase(f"bank of {BANK}, {n}x{n}", rng.normal(size=(BANK, n, n)) / n**2) for n in (3, 5, 7)]
    return (*dense, *sobels, FilterCase("laplacian", filters.laplacian()), *blurs, box, *banks)


def _sobel(size: int):
    return lambda cv2, x: cv2.Sobel(x, cv2.CV_8U if x.dtype == np.uint8 else cv2.CV_32F, 1, 0, ksize=size)


def _gaussian(sigma: float, size: int):
    return lambda cv2, x: cv2.GaussianBlur(x, (size, size), sigma)


def _scipy_gaussian(sigma: float, size: int):
    axes = (0, 1)
    return lambda ndimage, x: ndimage.gaussian_filter(x, sigma, mode="mirror", radius=size // 2, axes=axes)


# --------------------------------------------------------------------------------------------------------------- peers


@cache
def peers() -> dict[str, tuple[Any, str]]:
    """The modules that are installed, with their versions."""
    found = {}
    try:
        import cv2

        cv2.setNumThreads(get_num_threads())
        found["opencv"] = cv2, cv2.__version__
    except ImportError:
        pass
    try:
        import scipy
        from scipy import ndimage

        found["scipy"] = ndimage, scipy.__version__
    except ImportError:
        pass
    return found


def calls_of(case: FilterCase, image: np.ndarray) -> dict[str, Call]:
    """Ours and the peers', each of which returns a fresh result."""
    calls: dict[str, Call] = {"fastconv": lambda: filters.filter_image(image, case.kernel)}
    if "opencv" in peers():
        cv2 = peers()["opencv"][0]
        calls["opencv"] = (lambda: case.opencv(cv2, image)) if case.opencv else _filter2d(cv2, case, image)
    if "scipy" in peers() and len(case.kernels) == 1:  # a bank would take half a minute
        ndimage = peers()["scipy"][0]
        calls["scipy"] = (lambda: case.scipy(ndimage, image)) if case.scipy else _correlate(ndimage, case, image)
    return calls


def _filter2d(cv2, case: FilterCase, image: np.ndarray) -> Call:
    kernels = [kernel.astype(np.float32) for kernel in case.kernels]
    return lambda: [cv2.filter2D(image, -1, kernel) for kernel in kernels]


def _correlate(ndimage, case: FilterCase, image: np.ndarray) -> Call:
    kernel = case.kernel if image.ndim == 2 else case.kernel[..., None]
    kernel = kernel.astype(np.float32)
    return lambda: ndimage.correlate(image, kernel, mode="mirror")


# ----------------------------------------------------------------------------------------------------------------- run


def run(schedule: Schedule, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Iterator[dict[str, Any]]:
    """COUNT rows, every case on every image: seconds of each contender, and how many times faster ours is."""
    rng = np.random.default_rng(1)
    for image_name, (dtype, channels) in IMAGES.items():
        image = rng.integers(0, 256, (*shape, *channels), np.uint8).astype(dtype)
        for case in cases():
            yield _row(case, image_name, image, schedule)


COUNT = len(cases()) * len(IMAGES)


def _row(case: FilterCase, image_name: str, image: np.ndarray, schedule: Schedule) -> dict[str, Any]:
    calls = calls_of(case, image)
    wrong = verify(case, image, calls["fastconv"]())
    if wrong:
        return {"name": case.name, "image": image_name, "seconds": {}, "times_faster_than": {}, "wrong": wrong}
    seconds = interleave(calls, schedule)
    ratios = {name: times_faster(seconds["fastconv"], seconds[name]) for name in calls if name != "fastconv"}
    return {
        "name": case.name,
        "image": image_name,
        "pixels": image.shape[0] * image.shape[1],
        "seconds": median_intervals(seconds),
        "times_faster_than": {name: ratio._asdict() for name, ratio in ratios.items()},
        "wrong": "",
    }


def verify(case: FilterCase, image: np.ndarray, result: np.ndarray) -> str:
    """What is wrong with the corners of a result, or nothing."""
    reach = max(kernel.shape[0] for kernel in case.kernels)
    for corner in (np.s_[:VERIFIED, :VERIFIED], np.s_[-VERIFIED:, -VERIFIED:]):
        rows, columns = (slice(s.start and s.start - reach, s.stop and s.stop + reach) for s in corner)
        wanted = reference.filter_image(image[rows, columns], case.kernels)
        inner = wanted[:, :VERIFIED, :VERIFIED] if corner[0].start is None else wanted[:, -VERIFIED:, -VERIFIED:]
        found = result.reshape(len(case.kernels), *image.shape)[:, corner[0], corner[1]]
        error = np.abs(found.astype(np.float64) - inner).max()
        allowed = 1 if image.dtype == np.uint8 else 1e-5 * max(np.abs(k).sum() for k in case.kernels) * 255
        if not error <= allowed:
            return f"an error of {error:.3g} near a corner, {allowed:.3g} is allowed"
    return ""


def text(rows: list[Mapping[str, Any]]) -> str:
    """The rows as a table."""
    names = list(dict.fromkeys(name for row in rows for name in row["times_faster_than"]))
    lines = [["filter", "image", "ms", "megapixels/s", *(f"x {name}" for name in names)]]
    for row in rows:
        if row["wrong"]:
            lines.append([row["name"], row["image"], "WRONG", row["wrong"], *[""] * len(names)])
            continue
        ours = row["seconds"]["fastconv"]["median"]
        found = (row["times_faster_than"].get(name) for name in names)
        ratios = [str(Interval(**ratio)) if ratio else "-" for ratio in found]
        lines.append([row["name"], row["image"], f"{ours * 1e3:.2f}", f"{row['pixels'] / ours / 1e6:.0f}", *ratios])
    versions = "; ".join(f"{name} {version}" for name, (_, version) in peers().items()) or "no peer is installed"
    return f"filters on {HEIGHT * WIDTH / 1e6:.0f} megapixels, {get_num_threads()} threads; {versions}\n{table(lines)}"
