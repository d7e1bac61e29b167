"""The site: `make docs` builds it from docs/, notebooks/ and the docstrings; a warning is an error.

The source folder is the repository, so that links between pages, notebooks and sources are the same
files here and in a checkout. Notebooks are not executed: what they show is what the checked run
stored.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # importing is all that happens here

import jaxrl_lab

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

project = "jaxrl_lab"
author = "the jaxrl_lab authors"
copyright = "the jaxrl_lab authors, Apache-2.0"
release = version = jaxrl_lab.__version__

extensions = ["myst_nb", "generated"]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/**", "CONTRIBUTING.md", "CHANGELOG.md"]
exclude_patterns = ["docs/_build", "**/.ipynb_checkpoints"]
# A notebook's text half is no page of its own.
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = "jaxrl_lab"
html_static_path = ["_static"]
html_css_files = ["lab.css"]
html_extra_path = ["_root"]  # index.html of the site, which sends the reader to docs/
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#1f5f8b",
        "color-brand-content": "#1f5f8b",
    },
    "dark_css_variables": {
        "color-brand-primary": "#8fc7ee",
        "color-brand-content": "#8fc7ee",
    },
}
