import numpy as np
import pytest

from fastconv.bench import photographs

CASES = photographs.cases()


@pytest.mark.parametrize("image", photographs.IMAGES)
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.parametrize("contender", ["fastconv", "opencv", "scipy"])
def test_filter(benchmark, contender, case, image):
    dtype, channels = photographs.IMAGES[image]
    shape = (photographs.HEIGHT, photographs.WIDTH, *channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8).astype(dtype)
    call = photographs.calls_of(case, pixels).get(contender)
    if call is None:
        pytest.skip(f"{contender} is not installed or would take too long")
    if contender == "fastconv":
        assert photographs.verify(case, pixels, call()) == ""
    benchmark.group = f"{case.name}, {image}"
    benchmark(call)
