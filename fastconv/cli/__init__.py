"""The `fastconv` command. One module a command: `add` declares its options, `run` does it.

Whatever is wrong with a user's input ends in one line on stderr and exit code 2; Ctrl-C in exit code 130.
"""

import os
import sys

from .options import Parser

__all__ = ["main"]

# What bad input raises: from the file system, from checks of content and arguments, for lack of a library or memory.
USER_ERRORS = (OSError, ValueError, ImportError, MemoryError)

EXIT_CODES = """\
exit codes:
  0    done
  1    done, but the answer is bad: a wrong result or a regression; or the reader of a pipe has gone
  2    not done: something is wrong with the options, the files or the machine; one line on stderr says what
  130  interrupted with Ctrl-C; `train` has kept the last finished epoch for --resume"""


def main(argv=None):
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv[:1] == ["bench"]:  # its options are its own
            from ..bench import main as bench

            return bench(argv[1:])
        options = _parser().parse_args(argv)
        code = options.run(options)
        sys.stdout.flush()  # a reader who has gone is noticed here rather than at exit
        return code
    except KeyboardInterrupt as interrupt:
        print("; ".join(["fastconv: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain about stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except USER_ERRORS as error:
        print(f"fastconv: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _parser():
    from .. import __version__
    from . import bench, demo, explain, filter, info, predict, train

    parser = Parser(
        prog="fastconv",
        description="Convolutional networks for NumPy arrays: try, train, ask, explain and time them.",
        epilog=f"example:\n  fastconv demo\n\n{EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (demo, train, predict, explain, filter, info, bench):
        command.add(commands)
    return parser
