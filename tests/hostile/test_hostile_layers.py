"""Hostile arguments of the layers' constructors: refused at once, not at the first call."""
import inspect

import numpy as np
import pytest
from hostile_calls import hostile
from hostile_values import FLAGS, NUMBERS, SCALARS, WORDS, counts, paddings, spelled
from hypothesis import given
from hypothesis import strategies as st

from fastconv import nn
from fastconv.nn import registry

DTYPES = ("float16", int, "O", ">f4", "what", object(), [], bool)
SEEDS = ("1", 1.5, -1, True, [], object())
COUNT = tuple(value for value in SCALARS if not (type(value) is int and 0 < value < 2**63))
# Every argument of every layer: how wrong values of it are made, for a number of spatial axes.
WRONG = {
    **{name: counts for name in ("kernel_size", "dilation", "output_size")},
    "stride": lambda rank: counts(rank, none=False), "output_padding": lambda rank: [*counts(rank, 0), 1],
    **{name: lambda rank: COUNT for name in ("in_channels", "out_channels", "groups", "in_features", "out_features",
                                             "num_features")},
    **{name: lambda rank: FLAGS for name in ("bias", "ceil_mode", "count_include_pad", "affine")},
    "padding_mode": lambda rank: (*WORDS, None), "padding": paddings, "dtype": lambda rank: DTYPES,
    "rng": lambda rank: SEEDS, "divisor_override": lambda rank: tuple(v for v in COUNT if v is not None),
    "p": lambda rank: (*NUMBERS, None, -0.1, 1.1), "eps": lambda rank: (*NUMBERS, None, -1.0, np.inf),
    "momentum": lambda rank: (*NUMBERS, -0.1, 1.1), "negative_slope": lambda rank: (*NUMBERS, None, np.inf),
    "axis": lambda rank: [v for v in SCALARS if type(v) is not int or abs(v) > 2**63],
}
COUNTS = {"in_channels": 2, "out_channels": 4, "in_features": 3, "out_features": 2, "num_features": 3}
CONTAINERS = {"Sequential", "Residual", "Concat", "Multiply"}
LAYERS = sorted(set(registry._LAYERS) & set(nn.__all__) - CONTAINERS)


def rank_of(name):
    return next((int(c) for c in name if c.isdigit()), 1) if name[-1] == "d" else 1


def test_every_argument_of_every_layer_is_known():
    arguments = {name for layer in LAYERS for name in inspect.signature(getattr(nn, layer)).parameters}
    assert arguments == set(WRONG)
    layers = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)
              and issubclass(getattr(nn, name), nn.Module)} - {"Module"}
    assert layers == set(LAYERS) | CONTAINERS


@hostile(400)
@given(st.data())
def test_layers(data):
    draw = data.draw
    name = draw(st.sampled_from(LAYERS))
    layer, rank = getattr(nn, name), rank_of(name)
    parameters = inspect.signature(layer).parameters
    given_arguments = {key: COUNTS[key] for key in parameters if key in COUNTS}
    for key in ("kernel_size", "stride", "dilation", "output_size"):
        if key in parameters:
            given_arguments[key] = spelled(draw, (draw(st.integers(1, 3)),) * rank)
    layer(**given_arguments)
    if not parameters:
        return
    wrong = draw(st.sampled_from(sorted(parameters)))
    values = WRONG[wrong](rank)
    if wrong == "padding" and name.startswith("Conv") and "Transpose" not in name:
        values = paddings(rank, negative=True, words=True)
    if wrong == "output_padding":
        given_arguments |= {"stride": 1, "dilation": 1}
    given_arguments[wrong] = draw(st.sampled_from(values))
    with pytest.raises((TypeError, ValueError)) as caught:
        layer(**given_arguments)
    assert str(caught.value).startswith(f"{name}: {wrong}: got "), caught.value
