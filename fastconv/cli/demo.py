"""`fastconv demo`: options of the demonstration."""

from pathlib import Path

from .options import add_command, add_threads, check_writable, count_from, threads_of


def add(commands):
    parser = add_command(
        commands, "demo", run, "learn to read handwritten digits in seconds and show how",
        "fastconv demo --out digit.png",
        "\nThe 1,797 real digits ship with the package. Prints accuracy, confusion matrix and speed; saves a picture.",
    )
    parser.add_argument("--seed", type=count_from(0), default=0, metavar="N",
                        help="seed of all random numbers (default: 0)")
    parser.add_argument("--epochs", type=count_from(1), metavar="E", help="passes over the digits (default: 50)")
    parser.add_argument("--out", type=Path, default=Path("digit.png"), metavar="PNG",
                        help="where to save the picture (default: digit.png)")
    # The kernels of so small a network take some 20 us each: less than a second thread needs to wake up on a busy CPU.
    add_threads(parser, 1, "default: 1, since the network is small")


def run(options):
    from .. import demo

    check_writable(options.out)
    with threads_of(options):
        demo.run(seed=options.seed, epochs=options.epochs or demo.EPOCHS, picture=options.out)
    return 0
