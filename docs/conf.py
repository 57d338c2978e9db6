"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "kvmbind"
version = release = version_of("kvmbind")
copyright = "the kvmbind authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_package"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"kvmbind {version}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
highlight_language = "none"  # a block without a language is output

default_role = "code"  # single backticks in docstrings are names
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # of named tuples autodoc shows each attribute itself
# As prose: what kvmbind's docstrings return is a sentence, and the colon in it no type's.
napoleon_custom_sections = ["Returns", "Yields"]
