"""The page as HTML: one file without scripts, that refers to nothing outside itself."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from metarl.scripts.report_page.blocks import Page

FOLDER = Path(__file__).resolve().parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'; "
POLICY += "form-action 'none'"
"""Content-Security-Policy: styles within the page, and images and films within it; no scripts and no requests."""


def html(page: Page) -> str:
    """The HTML of a page; every text in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page, policy=POLICY)
