"""`fastconv filter`: well-known filters on a photograph."""

import time
from pathlib import Path

from .options import add_command, add_threads, check_writable, count_from, number, positive, threads_of

GRADIENTS = ("sobel", "scharr", "prewitt")
OFFSETS = {"laplacian": 128.0, "gabor": 128.0}
"""What makes the negative results of a filter visible."""
PADDING_MODES = ("reflect", "zeros", "replicate", "circular", "symmetric")


def add(commands):
    parser = add_command(
        commands, "filter", run, "find edges, blur or sharpen a photograph",
        "fastconv filter sobel photo.jpg -o edges.png",
        """
sobel, scharr, prewitt  how steep the brightness is, whatever its direction
laplacian               where it bends; grey is 0
gaussian, box           blurred, --sigma and --size
sharpen                 --amount
emboss                  as if cut in stone
gabor                   stripes, --angle and --wavelength; grey is 0

Colours are filtered one by one; opacity is kept.""",
    )
    parser.add_argument("filter", choices=sorted(_KERNELS), metavar="FILTER", help=", ".join(_KERNELS))
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE",
                        help="where to save; the name's ending tells the format")
    parser.add_argument("--grey", action="store_true", help="take the brightness alone")
    parser.add_argument("--size", type=count_from(1), metavar="N", help="of the kernel, in pixels")
    parser.add_argument("--sigma", type=positive, default=2.0, metavar="S", help="of gaussian, in pixels (default: 2)")
    parser.add_argument("--amount", type=number, default=1.0, metavar="A", help="of sharpen (default: 1)")
    parser.add_argument("--angle", type=number, default=0.0, metavar="DEG", help="in which the wave of gabor runs")
    parser.add_argument("--wavelength", type=positive, default=6.0, metavar="W",
                        help="of gabor, in pixels (default: 6)")
    parser.add_argument("--offset", type=number, metavar="X", help="added to results (default: 128 for laplacian and "
                        "gabor, else 0)")
    parser.add_argument("--padding-mode", choices=PADDING_MODES, default="reflect", metavar="MODE",
                        help=f"what lies around the image: {', '.join(PADDING_MODES)} (default: reflect)")
    add_threads(parser)


_KERNELS = {
    **dict.fromkeys(GRADIENTS, lambda filters, options: None),
    "laplacian": lambda filters, options: filters.laplacian(),
    "gaussian": lambda filters, options: filters.gaussian(options.sigma, options.size),
    "box": lambda filters, options: filters.box(options.size or 5),
    "sharpen": lambda filters, options: filters.sharpen(options.amount),
    "emboss": lambda filters, options: filters.emboss(),
    "gabor": lambda filters, options: _gabor(filters, options),
}


def _gabor(filters, options):
    from math import radians

    kernel = filters.gabor(options.size or 15, radians(options.angle), options.wavelength)
    return kernel / abs(kernel).sum() * 4  # as strong as the laplacian


def _operator(filters, name):
    """The operator of that name, as strong as sobel's: else scharr's results would all be white."""
    operator = getattr(filters, name)
    strength = abs(filters.sobel(0)).sum() / abs(operator(0)).sum()
    return lambda axis: operator(axis) * strength


def run(options):
    from .. import filters
    from ..console import Progress
    from ..data import read_photo, write_photo

    check_writable(options.out)
    kernel = _KERNELS[options.filter](filters, options)
    with Progress(2, options.filter) as bar:
        bar.show(0, "reading")
        photo = read_photo(options.image, grey=options.grey)
        bar.show(1, "filtering and writing")
        begin = time.perf_counter()
        with threads_of(options):
            done = _filtered(filters, photo, kernel, options)
        seconds = time.perf_counter() - begin
        write_photo(options.out, done)
    print(f"saved {options.out}: {options.filter} of {'x'.join(map(str, photo.shape))} in {seconds * 1e3:.1f} ms")
    return 0


def _filtered(filters, photo, kernel, options):
    if kernel is None:
        operator = _operator(filters, options.filter)
        return filters.gradient_magnitude(photo, operator, padding_mode=options.padding_mode)
    offset = OFFSETS.get(options.filter, 0.0) if options.offset is None else options.offset
    return filters.filter_image(photo, kernel, padding_mode=options.padding_mode, offset=offset)
