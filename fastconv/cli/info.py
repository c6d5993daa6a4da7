"""`fastconv info`: what is installed and what it uses."""

import json

from .options import add_command


def add(commands):
    summary = "print version, compiler, instruction sets and threads"
    parser = add_command(commands, "info", run, summary, "fastconv info")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options):
    from .. import runtime

    if options.json:
        print(json.dumps(runtime.config(), indent=2))
    else:
        runtime.show_config()
    return 0
