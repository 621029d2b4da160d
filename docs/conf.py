"""How Sphinx makes the documentation: `scripts/nox -s docs`, into build/docs."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
[release] = re.findall(r'^__version__ = "(.+)"$', (ROOT / "zloop/__init__.py").read_text(), re.MULTILINE)

project = "zloop"
author = "zloop contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
html_theme = "furo"
html_title = f"zloop {release}"
html_show_copyright = False
nitpicky = True  # a name that leads nowhere is an error
default_role = "code"  # docstrings put single backticks around code, as Markdown does
autodoc_typehints = "none"  # the signatures are long enough, and type checkers read the stubs
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

BESIDE = re.compile(r"\]\(\.\./([A-Z_]+\.md)")
"""A link to what lies beside docs/, of which there is a page here that includes it."""

PARAMETER = re.compile(r"([a-z_]+(?:, [a-z_]+)*): ")
"""How a line of a docstring begins that tells of a parameter."""


def link_to_pages(_app, _page, text):
    text[0] = BESIDE.sub(lambda match: f"]({match[1]}", text[0])


def as_restructured_text(_app, _what, _name, _object, _options, lines):
    """Docstrings are plain text in paragraphs, with a line or more for each parameter: these become a list."""
    found = []
    in_list = False
    for line in lines:
        escaped = re.sub(r"\*|_(?=\W)", r"\\\g<0>", line)
        if match := PARAMETER.match(line):
            found += ["", "- " + PARAMETER.sub(f"`{match[1]}`: ", escaped, count=1)]
            in_list = True
        elif in_list and line.startswith(" "):
            found.append("  " + escaped.strip())
        else:
            found += ["", escaped] if in_list else [escaped]
            in_list = False
    lines[:] = found


def setup(app):
    app.connect("source-read", link_to_pages)
    app.connect("autodoc-process-docstring", as_restructured_text)
