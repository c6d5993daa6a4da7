"""Sphinx's configuration; `sphinx-build -W docs SITE` builds the site."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import fastconv

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "fastconv"
author = "the fastconv authors"
release = version = fastconv.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "py:obj"  # `name` in a docstring links to what it names
autodoc_typehints = "none"  # the docstrings say more: shapes and units
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

exclude_patterns = ["_figures", "_build"]
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "fastconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_extra_path = ["_figures/page"]  # the explained digit, which opens beside the site's own pages
html_copy_source = False


def make_figures(app):
    """Draw what the pages show: by the library itself, so that no picture can be out of date."""
    import figures
    import recipe_figures

    figures.draw_all(HERE / "_figures")
    recipe_figures.draw_all(HERE / "_figures")


def public_names(match):
    """What stands for the line "% public: MODULE as PACKAGE": all public names of a module, as users import them.

    They come in the order of the source, in which a function comes before those that refer to it; imported ones last.
    """
    module, package = importlib.import_module(match[1]), match[2]
    public = [(name, value) for name, value in vars(module).items() if name in module.__all__]
    values = dict(sorted(public, key=lambda item: getattr(item[1], "__module__", None) != module.__name__))
    lines = [f".. currentmodule:: {package}"]
    if len(values) > 1:
        lines += ["", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {name}" for name, value in values.items() if callable(value)]
    for name, value in values.items():
        kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
        option = {"class": ["   :members:"], "data": ["   :no-value:"]}.get(kind, [])
        lines += ["", f".. auto{kind}:: {name}", *option]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def expand(app, docname, source):
    text = re.sub(r"^% public: (\S+) as (\S+)$", public_names, source[0], flags=re.M)
    if not (HERE / "promises.md").exists():
        text = text.replace("\npromises\n", "\n")
    source[0] = text.replace("](../benchmarks/README.md)", "](measuring.md)")


def plain_stars(app, what, name, value, options, lines):
    """Let ``(N, C, *spatial)`` be read as it stands, and give sentences among the parameters a place of their own."""
    said = [line for line in lines if line.startswith("Others as in ")]
    kept = [re.sub(r"(?<![\w*`\\])\*(?=[a-z])", r"\\*", line) if "``" not in line else line
            for line in lines if line not in said]
    if said:
        place = kept.index("Parameters")
        kept[place:place] = [*(line.replace("Others", "Parameters that aren't listed:", 1) for line in said), ""]
    lines[:] = kept


def is_no_news(app, what, name, value, skip, options):
    """Leave out a layer's `record`, which only the package calls, and what Python says of a named tuple's fields."""
    return True if name == "record" or (value.__doc__ or "").startswith("Alias for field number") else None


def setup(app):
    make_figures(app)
    app.connect("autodoc-skip-member", is_no_news)
    app.connect("source-read", expand)
    app.connect("autodoc-process-docstring", plain_stars, priority=400)  # before napoleon
