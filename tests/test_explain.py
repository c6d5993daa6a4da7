"""The explanation of a network: its arithmetic in Python, and its page in a real browser."""

import base64
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import fastconv as fc
from fastconv import cli, explain, nn
from fastconv.classifier import Classifier
from fastconv.data import Normalisation
from fastconv.explain import page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def varied_network():
    """Every kind of layer that the page knows, with strides, groups, dilation and odd padding."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=((2, 1), (0, 1)), rng=0), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2, padding_mode="reflect", rng=1), nn.Tanh()),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2, rng=2), nn.LeakyReLU(),
        nn.MaxPool2d(3, 2, padding=1), nn.MinPool2d(2, 1), nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
        nn.AvgPool2d(2, 1, padding=1, count_include_pad=False), nn.SumPool2d(2, 1), nn.AdaptiveAvgPool2d((2, 3)),
        nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 20, rng=3), nn.SiLU(), nn.Linear(20, 3, rng=4), nn.Softmax(),
    )
    rng = np.random.default_rng(5)
    norm = network[1]
    norm.running_mean[:], norm.running_var[:] = rng.normal(size=4), rng.uniform(0.5, 2, 4)
    return network


def branching_network():
    """Branches with layers and without, one inside the other, on maps and on rows of numbers."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, rng=0), nn.ReLU(),
        nn.Residual(nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, rng=1), nn.BatchNorm2d(6)),
                    nn.Conv2d(4, 6, 1, stride=2, rng=2)), nn.ReLU(),
        nn.Concat(nn.Conv2d(6, 2, 1, rng=3), nn.Sequential(),
                  nn.Sequential(nn.Residual(nn.Conv2d(6, 6, 3, padding=1, rng=4)), nn.MaxPool2d(3, 1, padding=1))),
        nn.GlobalAvgPool(), nn.Flatten(), nn.Residual(nn.Linear(14, 14, rng=5)), nn.Linear(14, 3, rng=6),
    )


@pytest.fixture(scope="module")
def branching():
    return Classifier(branching_network(), ("cat", "dog", "bird"), (3, 15, 14), Normalisation((99.0,) * 3, (50.0,) * 3))


@pytest.fixture(scope="module")
def classifier():
    return Classifier(varied_network(), ("cat", "</script><b>dog", "bird"), (3, 15, 14),
                      Normalisation((100.0, 90.0, 80.0), (50.0, 60.0, 70.0)))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(6).integers(0, 256, (3, 15, 14)).astype(np.uint8)


@pytest.fixture(scope="module")
def steps(classifier, image):
    return explain.trace(classifier.network, classifier.normalisation(image[None]), pixels=image,
                         normalisation=classifier.normalisation, probabilities=True)


def sum_under_taps(step, before, c, p, q):
    """One result of a convolution or a pooling from the table of taps: sum of products, or the window's real values."""
    values = []
    for r, y in enumerate(step.details["taps"][0][p]):
        for s, x in enumerate(step.details["taps"][1][q]):
            if y < 0 or x < 0:
                continue
            if step.kind == "pool":
                values.append(float(before[c, y, x]))
                continue
            weight = step.details["weight"].astype(np.float64)
            inputs = weight.shape[1]
            first = c // (len(weight) // step.details["groups"]) * inputs
            values.append(sum(weight[c, i, r, s] * before[first + i, y, x] for i in range(inputs)))
    if step.kind == "conv":
        return sum(values) + float(step.details["bias"][c])
    return {"max": max, "min": min, "sum": sum, "avg": lambda v: None}[step.details["operation"]](values)


def test_taps_give_back_what_the_kernels_made(steps):
    shown = [(before.values, step) for before, step in zip(steps, steps[1:]) if step.kind in ("conv", "pool")]
    assert len(shown) == 9
    for before, step in shown:
        for place in np.ndindex(step.values.shape):
            expected = sum_under_taps(step, before, *place)
            if expected is not None:
                assert expected == pytest.approx(float(step.values[place]), abs=2e-5), (step.name, place)


def test_steps_are_the_network(classifier, image, steps):
    assert np.array_equal(steps[-1].values, classifier.probabilities(image[None])[0])
    assert [step.name for step in steps[:4]] == ["image", "normalised", "convolution 1", "batch norm"]
    assert {step.kind for step in steps} == {"pixels", "affine", "conv", "pointwise", "pool", "same", "flatten",
                                             "linear", "softmax"}
    losses = [fc.cross_entropy(steps[-2].values[None], np.array([k])) for k in range(3)]
    assert steps[-1].details["losses"] == losses


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.S)[1])


def test_page_holds_the_kernels_numbers_and_nothing_from_outside(classifier, steps):
    text = explain.render(steps, classes=classifier.classes, label=1)
    data = data_of(text)
    assert data["classes"] == list(classifier.classes) and data["label"] == 1
    for told, step in zip(data["steps"], steps, strict=True):
        stored = np.frombuffer(base64.b64decode(told["data"]), "<f4").reshape(told["shape"])
        assert np.array_equal(stored, np.asarray(step.values, np.float32))
    assert "</script><b>" not in text
    assert not re.search(r"https?://|@@", text)


def test_page_stays_small_beside_its_numbers(steps):
    import gzip

    text = explain.render([step for step in steps if step.kind == "pixels"])
    assert len(gzip.compress(text.encode())) < 25_000


def test_signals_and_plain_features_are_traced():
    model = nn.Sequential(nn.Conv1d(2, 3, 3, stride=2, padding=1, rng=0), nn.GlobalMaxPool(), nn.Flatten(),
                          nn.Linear(3, 1, rng=1), nn.Sigmoid())
    x = np.random.default_rng(0).normal(size=(1, 2, 9)).astype(np.float32)
    steps = explain.trace(model, x)
    assert [step.values.shape for step in steps] == [(2, 1, 9), (3, 1, 5), (3, 1, 1), (3,), (1,), (1,)]
    before, step = steps[0].values, steps[1]
    for place in np.ndindex(step.values.shape):
        assert sum_under_taps(step, before, *place) == pytest.approx(float(step.values[place]), abs=1e-5)


BRANCHING = [  # kind and sources of the steps of `branching`, from the first layer on
    ("conv", (1,)), ("pointwise", (2,)), ("conv", (3,)), ("affine", (4,)), ("conv", (3,)), ("sum", (5, 6)),
    ("pointwise", (7,)), ("conv", (8,)), ("conv", (8,)), ("sum", (10, 8)), ("pool", (11,)), ("join", (9, 8, 12)),
    ("pool", (13,)), ("flatten", (14,)), ("linear", (15,)), ("sum", (16, 15)), ("linear", (17,)), ("softmax", (18,)),
]


def test_branches_are_opened(branching, image):
    x = branching.normalisation(image[None])
    steps = explain.trace(branching.network, x, pixels=image, normalisation=branching.normalisation, probabilities=True)
    assert [(step.kind, step.sources) for step in steps[2:]] == BRANCHING
    for step in steps:
        parts = [steps[index].values for index in step.sources]
        if step.kind == "sum":
            assert np.array_equal(step.values, parts[0] + parts[1])
        if step.kind == "join":
            assert np.array_equal(step.values, np.concatenate(parts))
    assert steps[7].details["branches"] == [["body", 4, 6], ["shortcut", 6, 7]]
    assert steps[13].details["branches"] == [["branch 1", 9, 10], ["branch 2", 10, 10], ["branch 3", 10, 13]]
    assert np.array_equal(steps[-1].values, branching.probabilities(image[None])[0])


def test_what_is_not_opened_is_shown_as_such():
    class Doubled(nn.Module):
        def __call__(self, x):
            return 2 * x

    steps = explain.trace(nn.Sequential(Doubled(), nn.ReLU()), np.ones((1, 2, 4, 4), np.float32))
    assert [(step.kind, step.name) for step in steps] == [("pixels", "input"), ("opaque", "Doubled"),
                                                          ("pointwise", "ReLU")]


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 1, 4, 4, 4), (8,)])
def test_only_one_sample_that_can_be_drawn(shape):
    with pytest.raises(ValueError, match="expected one sample"):
        explain.trace(nn.ReLU(), np.zeros(shape, np.float32))


def test_too_large_a_network_is_refused_by_name(monkeypatch, steps):
    monkeypatch.setattr(page, "MOST_BYTES", 5000)
    with pytest.raises(explain.PageTooLarge, match=r"step 8 \(transposed convolution 1\)"):
        explain.render(steps)
    with pytest.raises(ValueError, match="label: got 3"):
        explain.render(steps, classes=("a", "b", "c"), label=3)


def test_command(tmp_path, classifier, image, capsys, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    model, picture, page = tmp_path / "m.safetensors", tmp_path / "p.png", tmp_path / "page.html"
    classifier.save(model)
    pillow.fromarray(image.transpose(1, 2, 0)).save(picture)
    assert cli.main(["explain", str(model), str(picture), "--label", "bird", "--html", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    data = data_of(page.read_text(encoding="utf-8"))
    assert data["label"] == 2 and data["steps"][0]["shape"] == [3, 15, 14]
    assert cli.main(["explain", str(model), str(picture), "--label", "whale", "--html", str(page)]) == 2
    assert "no class of this model" in capsys.readouterr().err
    assert cli.main(["explain", str(model)]) == 2
    assert "go together" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ in a browser

# Moves the pointer over pixels of every picture, follows the arrows through the layers, moves the sliders, and leaves
# what the page showed in the document.
PROBE = """
<script>
const shown = [], errors = [];
window.addEventListener("error", (event) => errors.push(event.message));
const panel = document.getElementById("inspector");
const note = () => {
  const names = ["step", "map", "y", "x", "sum", "value"];
  shown.push(Object.fromEntries(names.map((name) => [name, Number(panel.dataset[name])])));
  if (/[[]object|undefined|NaN/.test(panel.textContent)) errors.push(panel.textContent);
};
function point(node, type, x, y, width, height) {
  const box = node.getBoundingClientRect();
  node.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerType: "mouse",
    clientX: box.left + (x + 0.5) * box.width / width, clientY: box.top + (y + 0.5) * box.height / height }));
}
const press = (key, shiftKey = false) =>
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true, cancelable: true }));
for (const canvas of document.querySelectorAll("#rail canvas")) {
  for (let i = 0; i < 6; i++) {
    const { width, height } = canvas;
    point(canvas.parentNode, "pointermove", (3 * i + 1) % width, (5 * i + 2) % height, width, height);
    note();
  }
}
for (const button of document.querySelectorAll("#rail .class")) { point(button, "pointermove", 0, 0, 1, 1); note(); }
const hovered = shown.length;
point(document.querySelector("#rail canvas").parentNode, "pointermove", 2, 1, 14, 15);
const pixel = panel.querySelector(".total").textContent;
point(document.querySelector("#rail canvas").parentNode, "click", 0, 0, 14, 15);
const held = !panel.querySelector(".held").hidden;
const walked = [];
for (let i = 0; i < 40; i++) { press("ArrowRight"); note(); walked.push(Number(panel.dataset.step)); }
for (let i = 0; i < 40; i++) { press("ArrowLeft"); note(); walked.push(Number(panel.dataset.step)); }
for (const [key, shift] of [["ArrowDown", false], ["ArrowUp", false], ["ArrowDown", true], ["ArrowRight", true]]) {
  press(key, shift); note();
}
const crossings = {};
for (const head of document.querySelectorAll("#rail .head")) {
  const step = Number(head.parentNode.dataset.step);
  const arrive = () => { press("Escape"); head.click(); };
  arrive();
  const choices = panel.querySelectorAll(".way").length;
  crossings[step] = Array.from({ length: choices }, (_, index) => {
    arrive();
    press(String(index + 1));
    note();
    const [byKey, map] = [panel.dataset.step, panel.dataset.map];
    arrive();
    panel.querySelectorAll(".way")[index].click();
    return byKey === panel.dataset.step && map === panel.dataset.map ? Number(byKey) : null;
  });
}
press("Escape");
const released = panel.querySelector(".held").hidden;
const sizes = [];
for (const [name, value] of [["size", 5], ["stride", 3], ["padding", 4], ["size", 1]]) {
  const input = document.querySelector(`#play input[name=${name}]`);
  input.value = value;
  input.dispatchEvent(new Event("input"));
  sizes.push(["rows", "columns"].map((side) => Number(document.getElementById("play-work").dataset[side])));
}
const result = document.createElement("pre");
result.id = "result";
result.textContent = JSON.stringify({ shown, hovered, pixel, held, released, walked, crossings, sizes, errors });
document.body.append(result);
</script>
"""


def browse(path, *options):
    """What Chromium shows of a page, and what it logged on its console."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               f"--user-data-dir={path.parent / 'profile'}", *options, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probed(folder, classifier, image):
    """What the page of a classifier shows to the probe, and the console."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here to open the page with")
    path = folder / "page.html"
    classifier.explain(path, image, 0)
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    document, console = browse(path)
    return json.loads(html.unescape(re.search(r'<pre id="result">(.*?)</pre>', document, flags=re.S)[1])), console


@pytest.fixture(scope="module")
def browsed(tmp_path_factory, classifier, image):
    return probed(tmp_path_factory.mktemp("page"), classifier, image)


@pytest.fixture(scope="module")
def browsed_branches(tmp_path_factory, branching, image):
    return probed(tmp_path_factory.mktemp("branches"), branching, image)


def check_sums(result, steps):
    """Every sum that was shown is the number that the kernels made."""
    for told in result["shown"]:
        step = steps[told["step"]]
        place = (told["map"],) if step.values.ndim == 1 else (told["map"], told["y"], told["x"])
        value = float(np.float32(step.values[place]))
        assert told["value"] == value
        assert told["sum"] == pytest.approx(value, abs=2e-5), step.name
    assert {told["step"] for told in result["shown"]} == set(range(len(steps)))


def test_browser_reports_no_errors(browsed, browsed_branches):
    for result, console in (browsed, browsed_branches):
        assert result["errors"] == [] and console == []


def test_colour_picture_tells_all_three_numbers_of_a_pixel(browsed, image):
    assert browsed[0]["pixel"] == "This pixel is {} red, {} green, {} blue.".format(*image[:, 1, 2])


def test_every_sum_that_is_pointed_at_is_the_kernels_number(browsed, steps):
    assert browsed[0]["hovered"] > 300
    check_sums(browsed[0], steps)


def test_pointer_holds_and_keys_walk_through_all_layers(browsed, steps):
    result, _ = browsed
    assert result["held"] and result["released"]
    last = len(steps) - 1
    assert result["walked"][:last] == list(range(1, last + 1))
    assert result["walked"][40:40 + last] == list(range(last - 1, -1, -1))
    assert not any(result["crossings"].values())


def test_keys_and_buttons_walk_through_branches(browsed_branches, branching, image):
    result, _ = browsed_branches
    steps = explain.trace(branching.network, branching.normalisation(image[None]), pixels=image,
                          normalisation=branching.normalisation, probabilities=True)
    check_sums(result, steps)
    assert result["walked"][:15] == [1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 15, 16, 17, 18, 19]
    assert {int(step): ways for step, ways in result["crossings"].items() if ways} == {
        3: [4, 6], 7: [5, 6], 8: [9, 10, 11, 13], 11: [10, 8], 13: [9, 8, 12], 15: [16, 17], 17: [16, 15],
    }


def test_sliders_give_the_sizes_that_the_library_gives(browsed):
    result, _ = browsed

    def size(k, stride, padding):
        x, w = np.zeros((1, 1, 15, 14), np.float32), np.zeros((1, 1, k, k), np.float32)
        return list(fc.conv2d(x, w, stride=stride, padding=padding).shape[2:])

    assert result["sizes"] == [size(5, 1, 1), size(5, 3, 1), size(5, 3, 4), size(1, 3, 4)]
