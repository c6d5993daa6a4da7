"""The fast functions and the reference have the same names and the same signatures."""
import inspect
import subprocess
import sys

import pytest

import fastconv as fc
from fastconv import reference

WITHOUT_REFERENCE = {"pack_weight", "conv_algorithms", "explain_conv", "ConvPlan", "PackedWeight", "channels_first",
                     "channels_last", "algorithm", "threads", "get_num_threads", "set_num_threads", "release_memory",
                     "set_result_cache", "show_config"}


@pytest.mark.parametrize("name", reference.__all__)
def test_same_signature(name):
    assert inspect.signature(getattr(fc, name)) == inspect.signature(getattr(reference, name))


def test_every_public_function_has_a_reference_and_a_docstring():
    public = set(fc.__all__)
    assert public - WITHOUT_REFERENCE == set(reference.__all__)
    for name in public:
        assert inspect.getdoc(getattr(fc, name)), name


def test_works_without_docstrings():
    """Docstrings that are made of others at import: python -OO has none."""
    program = "import fastconv.bench, fastconv.classifier, fastconv.cli, fastconv.data, fastconv.explain, fastconv.nn"
    subprocess.run([sys.executable, "-OO", "-c", program], check=True, timeout=60)
