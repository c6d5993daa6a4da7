"""The documentation: every block of Python on its pages runs, and the site builds without a warning."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastconv
from fastconv import classifier, data, explain, nn

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"(?:^% needs: (?P<need>\S+)\n)?^```python\n(?P<code>.*?)^```", flags=re.M | re.S)


def blocks(page):
    """(number of the line, code, what it needs or None) of each block of Python."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start("code")) + 1, match["code"], match["need"])
            for match in BLOCK.finditer(text)]


def run(page, chosen, namespace):
    for line, code, _ in chosen:
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def present(need):
    return Path(need).exists() if need.startswith("/") else importlib.util.find_spec(need) is not None


WITH_CODE = [page for page in PAGES if blocks(page)]
SPECIAL = [(page, block) for page in WITH_CODE for block in blocks(page) if block[2]]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(DOCS)))
def test_blocks_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(page, [block for block in blocks(page) if not block[2]], {"__name__": "__main__"})


@pytest.mark.parametrize("page, block", SPECIAL, ids=[f"{page.stem}-{block[0]}" for page, block in SPECIAL])
def test_blocks_with_needs_run_alone(page, block, tmp_path, monkeypatch):
    if not present(block[2]):
        pytest.skip(f"{block[2]} is not here")
    monkeypatch.chdir(tmp_path)
    run(page, [block], {"__name__": "__main__"})


def test_every_recipe_has_code_that_checks_itself():
    recipes = [page for page in PAGES if page.parent.name == "recipes" and page.stem != "index"]
    assert len(recipes) >= 9
    for page in recipes:
        assert all("assert" in code for _, code, _ in blocks(page)) and blocks(page), page


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site's folder."""
    for module in ("sphinx", "furo", "myst_parser", "matplotlib"):
        if not present(module):
            pytest.skip(f"{module} is not installed: pip install 'fastconv[test,demo]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "trees"), str(DOCS),
               str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_reference_has_every_public_name(site):
    from sphinx.util.inventory import InventoryFile

    with open(site / "objects.inv", "rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, name: name)
    documented = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    public = {f"{module.__name__}.{name}" for module in (fastconv, nn, data, explain, classifier)
              for name in module.__all__}
    assert public <= documented


def test_site_has_figures_and_the_explained_digit(site):
    used = set(re.findall(r"_figures/(\w+)\.png", "".join(page.read_text(encoding="utf-8") for page in PAGES)))
    assert len(used) >= 8
    assert used <= {path.stem for path in (site / "_images").iterdir()}
    assert "How this network reads this image" in (site / "explained-digit.html").read_text(encoding="utf-8")
