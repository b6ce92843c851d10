"""Build the documentation: `make docs` writes docs/_build, whose pages ask for nothing outside themselves."""

import importlib.metadata
import sys
from pathlib import Path

from docutils import nodes

project = "Tip-Adapter"
release = importlib.metadata.version("tip-adapter")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = False
html_theme = "furo"
html_title = "Tip-Adapter"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_math_renderer = "mathml"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
# Included pages begin below their title; `path` in a docstring is a type, which several attributes are named like.
suppress_warnings = ["myst.header", "ref.python"]


PAGES = {
    "../benchmarks/README.md": "measured.md",
    "../benchmarks/results/comparison_clip/table.md": "comparison_clip.md",
    "../benchmarks/results/comparison_clothing/table.md": "comparison_clothing.md",
}
"""Files outside this folder that the guides link to, so that links work in the repository, and their pages."""


def link_pages(app, name: str, source: list[str]) -> None:
    """Lead links to files outside this folder to the pages that include them."""
    for path, page in PAGES.items():
        source[0] = source[0].replace(f"]({path})", f"]({page})")


def visit_math(writer, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    display = "block" if isinstance(node, nodes.math_block) else "inline"
    writer.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app) -> None:
    """Register what this site adds to Sphinx."""
    app.connect("source-read", link_pages)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
