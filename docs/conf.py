"""The site, built by `make docs`. `generate.py` writes the pages that follow from the code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402  # lies beside this file

import metarl  # noqa: E402

project, author = "metarl", "the authors of metarl"
version = release = metarl.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
templates_path: list[str] = []
html_theme = "furo"
html_title = f"metarl {version}"
html_copy_source = False
nitpicky = False
default_role = "code"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure", "config.cache"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_mock_imports = ["mlflow", "onnx", "onnxruntime", "ray", "wandb"]  # extras, imported only when asked for
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True

generate.write_all(HERE / "_generated")


def setup(app: Any) -> dict[str, bool]:
    """Connects the functions that prepare docstrings and pages; none of them has a state."""
    app.connect("autodoc-process-docstring", generate.restructured, priority=400)  # before napoleon
    app.connect("source-read", generate.prepared)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
