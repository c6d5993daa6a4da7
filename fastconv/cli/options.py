"""What the commands share: the parser, types of options, and what follows from them."""

import argparse
import contextlib
import os

__all__ = [
    "Parser",
    "add_command",
    "add_threads",
    "check_writable",
    "count_from",
    "fraction",
    "names",
    "number",
    "positive",
    "size",
    "threads_of",
]


class Parser(argparse.ArgumentParser):
    """Errors in one line; descriptions and examples keep their line breaks."""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def add_command(commands, name, run, summary, example, details=""):
    """A sub-command, whose help is its summary, details and an example; `run(options)` returns the exit code."""
    description = f"{summary[0].upper()}{summary[1:]}.\n{details}"
    parser = commands.add_parser(name, help=summary, description=description, epilog=f"example:\n  {example}")
    parser.set_defaults(run=run)
    return parser


def add_threads(parser, default=None, note="default: all cores this process may use"):
    parser.add_argument("--threads", type=count_from(1), default=default, metavar="T", help=note)


def threads_of(options):
    """A context with as many threads as `--threads` says."""
    from .. import threads

    return threads(options.threads) if options.threads else contextlib.nullcontext()


def check_writable(path):
    """Complain before the work rather than after it."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: can't be written there")


# --------------------------------------------------------------------------------------------------- types of options


def count_from(least):
    """The type of a whole number of at least `least`."""

    def parse(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up")
        return int(text)

    return parse


def number(text):
    with contextlib.suppress(ValueError):
        if abs(float(text)) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number")


def positive(text):
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


def fraction(text):
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1")


def size(text):
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side) <= 4096 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 32x32")
    return int(sides[0]), int(sides[1])


def names(text):
    return tuple(name.strip() for name in text.split(","))
