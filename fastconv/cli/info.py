"""`fastconv info`: what is installed and what it uses."""

from .options import add_command


def add(commands):
    add_command(commands, "info", run, "print version, compiler, instruction sets and threads", "fastconv info")


def run(_):
    from .. import show_config

    show_config()
    return 0
