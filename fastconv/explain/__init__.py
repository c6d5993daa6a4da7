"""A network on one image as an interactive page: every number of it, and how it came about.

`write_page` makes one HTML file that needs nothing else, `trace` the steps that it shows.
"""

from .page import PageTooLarge, render, write_page
from .trace import Step, trace

__all__ = ["PageTooLarge", "Step", "render", "trace", "write_page"]
