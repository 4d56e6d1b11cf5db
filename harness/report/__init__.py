"""Reports: an alignment as HTML, Markdown or JSON."""

from harness.report.render import render, to_html, to_markdown

__all__ = ["render", "to_html", "to_markdown"]
