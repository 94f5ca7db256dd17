"""Sphinx's settings. The site is built by `make_site.py`, which gathers the pages first."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "mgt-np"
author = "The mgt-np authors"
extensions = ["myst_nb", "sphinx.ext.mathjax", "pages.directives"]

# Notebooks are shown with the outputs that they are stored with.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4  # as on GitHub: [words](#a-heading)
smartquotes = False  # x' is x prime

# From the site itself, and without the menu, whose parts would be fetched from elsewhere.
mathjax_path = "mathjax/tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}

html_theme = "furo"
html_title = "mgt-np"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
toc_object_entries_show_parents = "hide"
pygments_style = "friendly"
pygments_dark_style = "monokai"
