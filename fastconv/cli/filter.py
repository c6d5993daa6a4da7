"""`fastconv filter`: well-known filters on a photograph."""

import time
from pathlib import Path

from .options import add_command, add_threads, check_writable, count_from, number, positive, threads_of

GRADIENTS = ("sobel", "scharr", "prewitt")
OFFSETS = {"laplacian": 128.0, "gabor": 128.0}
"""What makes the negative results of a filter visible."""
TAKES = {
    "sobel": ("size",), "gaussian": ("sigma", "size", "offset"), "box": ("size", "offset"), "laplacian": ("offset",),
    "sharpen": ("amount", "offset"), "emboss": ("offset",), "gabor": ("angle", "wavelength", "size", "offset"),
}
"""The options that a filter takes, of those that belong to some."""
BELONGING = ("size", "sigma", "amount", "angle", "wavelength", "offset")
READ, FILTERED, WRITTEN = 4, 16, 100
"""Shares of the time in per cent: compressing a PNG takes most of it."""
PADDING_MODES = ("reflect", "zeros", "replicate", "circular", "symmetric")


def add(commands):
    parser = add_command(
        commands, "filter", run, "find edges, blur or sharpen a photograph",
        "fastconv filter sobel photo.jpg -o edges.png",
        """
sobel, scharr, prewitt  how steeply the brightness changes, in any direction; sobel takes --size
laplacian               where its slope changes; grey stands for 0
gaussian, box           blurred, by --sigma or --size
sharpen                 crisper edges, by --amount
emboss                  a relief, lit from the upper left
gabor                   stripes, of --angle and --wavelength; grey stands for 0

Each colour is filtered on its own; opacity is kept.""",
    )
    parser.add_argument("filter", choices=list(_KERNELS), metavar="FILTER", help=", ".join(_KERNELS))
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the photograph, as PNG, JPEG, TIFF, WEBP, ...")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE",
                        help="where to save; the ending of the name sets the format")
    parser.add_argument("--grey", action="store_true", help="filter the brightness alone")
    parser.add_argument("--size", type=count_from(1), metavar="N", help="height and width of the kernel in pixels, odd "
                        "but for box (default: sobel 3, box 5, gabor 15, gaussian 3 sigma to each side)")
    parser.add_argument("--sigma", type=positive, metavar="S", help="width of gaussian's bell in pixels (default: 2)")
    parser.add_argument("--amount", type=number, metavar="A", help="strength of sharpen (default: 1)")
    parser.add_argument("--angle", type=number, metavar="DEG", help="direction in which gabor's wave runs, from the "
                        "right towards below (default: 0)")
    parser.add_argument("--wavelength", type=positive, metavar="W", help="of gabor's wave, in pixels (default: 6)")
    parser.add_argument("--offset", type=number, metavar="X", help="added to results (default: 128 for laplacian and "
                        "gabor, else 0)")
    parser.add_argument("--padding-mode", choices=PADDING_MODES, default="reflect", metavar="MODE",
                        help=f"what lies around the image: {', '.join(PADDING_MODES)} (default: reflect)")
    add_threads(parser)


_KERNELS = {
    **dict.fromkeys(GRADIENTS, lambda filters, options: None),
    "laplacian": lambda filters, options: filters.laplacian(),
    "gaussian": lambda filters, options: filters.gaussian(options.sigma or 2.0, options.size),
    "box": lambda filters, options: filters.box(options.size or 5),
    "sharpen": lambda filters, options: filters.sharpen(1.0 if options.amount is None else options.amount),
    "emboss": lambda filters, options: filters.emboss(),
    "gabor": lambda filters, options: _gabor(filters, options),
}


def _gabor(filters, options):
    from math import radians

    kernel = filters.gabor(options.size or 15, radians(options.angle or 0.0), options.wavelength or 6.0)
    return kernel / abs(kernel).sum() * 4  # as strong as the laplacian


def _operator(filters, options):
    """The operator of that name, as strong as sobel's of 3x3: else scharr's results would all be white."""
    operator = getattr(filters, options.filter)
    size = {"size": options.size} if options.size else {}
    strength = abs(filters.sobel(0)).sum() / abs(operator(0, **size)).sum()
    return lambda axis: operator(axis, **size) * strength


def _check_options(options):
    for name in BELONGING:
        if getattr(options, name) is not None and name not in TAKES.get(options.filter, ()):
            takers = ", ".join(each for each, names in TAKES.items() if name in names)
            raise ValueError(f"filter: {options.filter} doesn't take --{name}, which is for {takers}")


def run(options):
    from .. import filters
    from ..console import Progress
    from ..data import read_photo, write_photo
    from ..data.pictures import format_of

    _check_options(options)
    check_writable(options.out)
    format_of(options.out)
    kernel = _KERNELS[options.filter](filters, options)
    with Progress(WRITTEN, options.filter) as bar:
        bar.show(0, "reading")
        photo = read_photo(options.image, grey=options.grey)
        bar.show(READ, "filtering")
        begin = time.perf_counter()
        with threads_of(options):
            done = _filtered(filters, photo, kernel, options)
        seconds = time.perf_counter() - begin
        bar.show(FILTERED, "writing")
        write_photo(options.out, done)
    print(f"saved {options.out}: {options.filter} of {'x'.join(map(str, photo.shape))} in {seconds * 1e3:.1f} ms")
    return 0


def _filtered(filters, photo, kernel, options):
    if kernel is None:
        operator = _operator(filters, options)
        return filters.gradient_magnitude(photo, operator, padding_mode=options.padding_mode)
    offset = OFFSETS.get(options.filter, 0.0) if options.offset is None else options.offset
    return filters.filter_image(photo, kernel, padding_mode=options.padding_mode, offset=offset)
