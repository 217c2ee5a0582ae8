"""Sphinx configuration: the pages of this folder and a reference built from the docstrings.

`make docs` writes docs/_build/html. Nothing is loaded from the network, neither here nor when a
page is read.
"""

import sys
from pathlib import Path

import scorefield

sys.path.insert(0, str(Path(__file__).parent))
import reference

project = "scorefield"
author = "the scorefield authors"
version = release = scorefield.__version__

smartquotes = False  # --out stays --out
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"scorefield {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]


def setup(app: object) -> None:
    """Register the reference's hooks."""
    reference.setup(app)
