"""A figure for each recipe, drawn from what its own code has left behind: the page is run when the site is built."""

import os
import re
import tempfile
from pathlib import Path

import numpy as np
from figures import TEXT, panels, show

import fastconv as fc

RECIPES = Path(__file__).parent / "recipes"
COLUMNS = 6
OURS, OTHER = "#0569a8", "#c65f00"


def run(recipe):
    """The names that a page's blocks of Python have defined, after they ran one after another in an empty folder."""
    code = re.findall(r"^```python\n(.*?)^```", (RECIPES / f"{recipe}.md").read_text(encoding="utf-8"), re.M | re.S)
    names = {"__name__": "__main__", "print": lambda *_: None}
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec("\n".join(code), names)
        finally:
            os.chdir(before)
    return names


def row_of(line, name, images, titles=None, **options):
    """Pictures side by side, under titles and with a name at the left."""
    for one, values, title in zip(line, images, titles or [""] * len(line)):
        show(one, values, title, grey=True, **options)
    line[0].set_ylabel(name, fontsize=TEXT)


def digits(names):
    """Digits that were misread, first those that the network was most sure of."""
    truth, answers = names["labels"][names["held_out"]], names["answers"]
    images = names["images"][names["held_out"]]
    sure = names["model"](names["x"][names["held_out"]]).max(axis=1)
    wrong = sorted(np.flatnonzero(answers != truth), key=lambda i: -sure[i])[:COLUMNS]
    figure, axes = panels(2, COLUMNS // 2, width=1.6, height=1.9)
    for one in axes[len(wrong):]:
        one.set_visible(False)
    row_of(axes, "", images[wrong], [f"{truth[i]}, read as {answers[i]}" for i in wrong])
    return figure


def sound(names):
    """A twentieth of a second of each instrument, and the filters that the network made most of."""
    figure, axes = panels(2, 3, width=2.1, height=1.6)
    for kind, name in enumerate(("flute", "clarinet", "violin")):
        sample = names["sounds"][names["labels"] == kind][0, 0, :200]
        axes[kind].plot(np.arange(len(sample)) / names["rate"] * 1e3, sample, color=OURS, linewidth=1)
        axes[kind].set_title(name, fontsize=TEXT)
    kernels = names["model"][0].weight.value[:, 0]
    for one, kernel in zip(axes[3:], kernels[np.argsort(-np.abs(kernels).sum(axis=1))]):
        one.plot(np.arange(len(kernel)) / names["rate"] * 1e3, kernel, color=OTHER, linewidth=1)
        one.set_title("a learned kernel", fontsize=TEXT)
        one.set_xlabel("ms", fontsize=TEXT)
    for one in axes:
        one.set_yticks([])
        one.spines[["top", "right", "left"]].set_visible(False)
    return figure


def video(names):
    """The frames of two films, with what the network says of each."""
    words = ("left", "right", "up", "down")
    films, labels = names["films"][400:, 0], names["labels"][400:]
    answers = names["model"](names["films"][400:]).argmax(axis=1)
    figure, axes = panels(2, COLUMNS, width=1.1, height=1.25)
    for line, kind in zip(axes.reshape(2, COLUMNS), (1, 3)):
        one = np.flatnonzero(labels == kind)[0]
        row_of(line, f"answer: {words[answers[one]]}", np.maximum(films[one], 0),
               [f"frame {i}" for i in range(COLUMNS)], limit=1.2)
    return figure


def generation(names):
    """Digits, their copies through twelve numbers, and drawings on the way from one digit to another."""
    x, copies, codes = names["x"], names["copies"], names["codes"]
    figure, axes = panels(3, COLUMNS, width=1.1, height=1.15)
    lines = axes.reshape(3, COLUMNS)
    row_of(lines[0], "digit", x[:COLUMNS, 0], limit=1)
    row_of(lines[1], "copy", np.clip(copies[:COLUMNS, 0], 0, 1), limit=1)
    way = [(1 - share) * codes[0] + share * codes[3] for share in np.linspace(0, 1, COLUMNS)]
    between = names["decoder"](np.array(way, np.float32)[:, :, None, None])
    row_of(lines[2], "0 to 3", np.clip(between[:, 0], 0, 1), limit=1)
    return figure


def transfer(names):
    """Digits of classes that the body never learned, above their nearest neighbours."""
    images, nearest = names["new_x"][:, 0] + 1, names["likeness"].argmax(axis=1)
    chosen = names["rest"][:: len(names["rest"]) // COLUMNS][:COLUMNS]
    figure, axes = panels(2, COLUMNS, width=1.1, height=1.15)
    lines = axes.reshape(2, COLUMNS)
    row_of(lines[0], "digit", images[chosen])
    row_of(lines[1], "nearest", images[nearest[chosen]])
    return figure


def binary(names):
    """How sure the network is of held-out digits, by what they are."""
    even, probabilities = names["even"][1200:], names["probabilities"][:, 0]
    figure, (axes,) = panels(1, 1, width=5, height=2.6)
    axes.hist([probabilities[even], probabilities[~even]], bins=10, range=(0, 1), color=[OURS, OTHER],
              label=["even digits", "odd digits"], log=True)
    axes.set_xlabel("probability of being even")
    axes.set_ylabel("digits")
    axes.legend(frameon=False, loc="upper center")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def regression(names):
    """Bars, and the angles that the network found."""
    figure, axes = panels(2, COLUMNS // 2, width=1.6, height=1.9)
    for one, image, angle, true in zip(axes, names["x"][1000:, 0], names["turned"], names["angles"][1000:]):
        show(one, np.clip(image, 0, 1), f"{np.degrees(angle) % 180:.0f}\N{DEGREE SIGN} (true: "
             f"{np.degrees(true):.0f}\N{DEGREE SIGN})", grey=True)
        one.plot(7.5 + 7 * np.cos(angle) * np.array([-1, 1]), 7.5 + 7 * np.sin(angle) * np.array([-1, 1]), color=OTHER)
    return figure


FIGURES = (digits, sound, video, generation, transfer, binary, regression)


def draw_all(folder):
    """Draw the figures into `folder`, one after the other's page has run."""
    for figure in FIGURES:
        with fc.threads(1):
            names = run(figure.__name__)
        figure(names).savefig(Path(folder) / f"recipe-{figure.__name__}.png", dpi=120)
