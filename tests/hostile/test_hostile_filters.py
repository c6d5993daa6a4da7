"""Hostile calls of filters on images, and the arguments of the kernels' makers."""
import numpy as np
import pytest
from hostile_calls import Call, close, hostile
from hostile_values import NO_ARRAYS, NUMBERS, SCALARS, THREADS, WORDS, content, laid_out
from hypothesis import given
from hypothesis import strategies as st

from fastconv import filters

COVERED = ("filter_image",)
LAYOUTS = ("first", "fortran", "reversed", "sliced", "misaligned", "read-only")


def wrong_images(image):
    return st.one_of(
        st.sampled_from(("?", "i1", "f2", "c8", "O", ">f4", "i8", "U2")).map(image.astype), st.sampled_from(NO_ARRAYS),
        st.sampled_from((image[None, None], image[:0], image.reshape(-1), np.ma.masked_array(image), 3.0, [], "x",
                         np.broadcast_to(image.reshape(-1)[:1], (3, 3, 2**40)))))


@hostile(200)
@given(st.data())
def test_filter_image(data):
    draw = data.draw
    call = Call(draw, "filter_image")
    dtype = np.dtype(draw(st.sampled_from(("u1", "f4", "f8"))))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), *draw(st.sampled_from(((), (1,), (2,), (3,), (4,)))))
    image = content(shape, dtype, "integers" if dtype.kind == "f" else "huge", draw(st.integers(0, 3)))
    call.put("image", image, wrong_images(image), laid_out(image, draw(st.sampled_from(LAYOUTS))))
    call.operands.append("image")
    size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel = content(size, np.float64, "integers", draw(st.integers(0, 3)))
    bank = draw(st.booleans())
    wrong = (kernel[0], kernel[:0], kernel[None, None], np.full((2, 2), np.nan), kernel.astype(object), "x", None, 3.0,
             [], kernel + 1j, np.ma.masked_array(kernel), *NO_ARRAYS[4:7])
    call.put("kernel", [kernel, kernel.T] if bank else kernel, wrong)
    call.put("padding_mode", draw(st.sampled_from(("reflect", "zeros", "edge", "wrap", "symmetric"))), (*WORDS, None))
    call.put("offset", draw(st.sampled_from((0.0, 12, np.float32(1.5)))), (*NUMBERS, None, 10**400))
    call.put("alpha", draw(st.sampled_from(("keep", "filter"))), (*WORDS, None))
    if draw(st.booleans()):
        call.put("dtype", dtype, ("what", "f2", object, [], ">f4", int), draw(st.sampled_from((dtype, dtype.name))))
    call.threads(THREADS)
    expected = call.expected()
    call.spoil()
    call.put_out(expected)
    largest = 1 if dtype.kind == "u" else 64 * np.finfo(dtype).eps * max(1, np.abs(expected).max())
    call.judge(expected, lambda got, wanted: close(got, wanted, largest))


@pytest.mark.parametrize("name", ["sobel", "scharr", "prewitt", "gaussian", "box", "gabor", "gabor_bank", "sharpen"])
def test_wrong_arguments_of_kernels(name):
    """The first argument of each; none of these is an axis, a size or a width."""
    further = {"gabor": (0.0, 4.0)}.get(name, ())
    wrong = [v for v in SCALARS if not isinstance(v, float) and (name != "sharpen" or type(v) is not int)]
    for value in (*wrong, *NUMBERS[:4]):
        numbers = name in ("gaussian", "sharpen")
        if name in ("sobel", "scharr", "prewitt") and type(value) is int and value == 0:
            continue
        if isinstance(value, np.floating) and numbers or type(value) is int and value > 10**30 and not numbers:
            continue
        if type(value) is int and value > 1000:  # legal widths of enormous kernels
            continue
        with pytest.raises((TypeError, ValueError), match=f"^{'gabor' if name == 'gabor_bank' else name}: "):
            getattr(filters, name)(value, *further)
