"""`fastconv bench`, as the list of commands shows it; its options are in `fastconv.bench.command`."""

from .options import add_command


def add(commands):
    add_command(commands, "bench", None, "time the kernels against NumPy", "fastconv bench --help")
