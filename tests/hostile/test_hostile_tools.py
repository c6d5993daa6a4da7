"""Hostile calls of the tools and settings, and the test that no public name is left out."""
import numpy as np
import pytest
import test_hostile_conv
import test_hostile_elementwise
import test_hostile_filters
import test_hostile_pool
from hostile_calls import Call, close, hostile
from hostile_values import (
    CONTENTS,
    FLOATS,
    NO_ARRAYS,
    THREADS,
    WORDS,
    content,
    counts,
    laid_out,
    paddings,
    shapes,
    spelled,
)
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc

COLUMNS = ("im2col", "col2im")
ORDERS = ("channels_first", "channels_last")
SETTINGS = ("algorithm", "threads", "get_num_threads", "set_num_threads", "release_memory", "set_result_cache",
            "show_config")
COVERED = (*COLUMNS, *ORDERS, *SETTINGS)


def test_every_public_name_is_called():
    modules = (test_hostile_conv, test_hostile_pool, test_hostile_elementwise, test_hostile_filters)
    assert {name for module in modules for name in module.COVERED} | set(COVERED) == set(fc.__all__)


@hostile(150)
@given(st.data())
def test_columns(data):
    draw = data.draw
    call = Call(draw, draw(st.sampled_from(COLUMNS)))
    rank = draw(st.integers(1, 3))
    shape = (draw(st.integers(0, 2)), draw(st.integers(1, 3)), *(draw(st.integers(1, 6)) for _ in range(rank)))
    dtype = draw(st.sampled_from(FLOATS))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    call.put("kernel_size", kernel, counts(rank), spelled(draw, kernel))
    stride, dilation = (tuple(draw(st.integers(1, 3)) for _ in range(rank)) for _ in range(2))
    call.put("stride", stride, counts(rank), spelled(draw, stride))
    call.put("dilation", dilation, counts(rank), spelled(draw, dilation))
    padding = draw(st.sampled_from((0, 1, -1, "same", "valid", ((1, 2),) * rank)))
    call.put("padding", padding, paddings(rank, negative=True, words=True))
    if call.name == "im2col":
        call.array("x", shape, dtype, CONTENTS, mixed=False)
    else:
        probe = Call(draw, "im2col")
        probe.plain = {**call.plain, "x": np.zeros(shape)}
        cols = probe.expected()
        if cols is None:
            return
        call.array("cols", cols.shape, dtype, ("normal", "integers"), mixed=False)
        call.put("input_shape", shape, shapes(shape))
    expected = call.expected()
    call.spoil()
    call.judge(expected, lambda got, wanted: close(got, wanted, 1e-5))


@hostile(80)
@given(st.data())
def test_memory_orders(data):
    """Any dtype is welcome; the values stay, and the strides are what the name says."""
    draw = data.draw
    name = draw(st.sampled_from(ORDERS))
    shape = tuple(draw(st.integers(0, 4)) for _ in range(draw(st.integers(1, 6))))
    dtype = np.dtype(draw(st.sampled_from(("f4", "f8", "i2", ">f4", "?", "c8", "O"))))
    layout = "first" if dtype.kind == "O" else draw(st.sampled_from(("last", "fortran", "reversed", "constant", "odd")))
    x = laid_out(np.ones(shape, dtype), layout)
    if draw(st.integers(0, 4)) == 0:
        x = draw(st.sampled_from((*NO_ARRAYS[4:7], np.ma.masked_array(x), None, "text")))
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray) or not 3 <= len(shape) <= 5:
        with pytest.raises((TypeError, ValueError), match=f"^{name}: x: "):
            getattr(fc, name)(x)
        return
    y = getattr(fc, name)(x)
    np.testing.assert_array_equal(y, x)
    assert y.dtype == dtype
    assert not y.size or (y.transpose(0, *range(2, y.ndim), 1) if name == "channels_last" else y).flags.c_contiguous


@pytest.mark.parametrize("value", THREADS, ids=repr)
def test_wrong_numbers_of_threads(value):
    before = fc.get_num_threads()
    with pytest.raises((TypeError, ValueError), match="^set_num_threads: n: "):
        fc.set_num_threads(value)
    with pytest.raises((TypeError, ValueError), match="^threads: n: "), fc.threads(value):
        pass
    assert fc.get_num_threads() == before


@pytest.mark.parametrize("value", [*WORDS, None, "winograd4", "fft"], ids=repr)
def test_wrong_default_algorithms(value):
    with pytest.raises((TypeError, ValueError), match="^algorithm: name: "), fc.algorithm(value):
        pass


@pytest.mark.parametrize("value", [-1, 2**63, 1.0, True, None, "1", [], np.ones(2, int)], ids=repr)
def test_wrong_result_caches(value):
    with pytest.raises((TypeError, ValueError), match="^set_result_cache: size: "):
        fc.set_result_cache(value)


def test_memory_can_be_released_at_any_time():
    kept = fc.conv1d(content((1, 3, 9), np.float32, "integers", 0), np.ones((2, 3, 3), np.float32))
    before = kept.copy()
    fc.release_memory()
    fc.release_memory()
    np.testing.assert_array_equal(kept, before)


def test_configuration_goes_where_it_is_told(tmp_path):
    with open(tmp_path / "config", "w") as file:
        fc.show_config(file)
    assert "isa in use" in (tmp_path / "config").read_text()
