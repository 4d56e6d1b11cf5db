"""Reports: an alignment as HTML, Markdown or JSON, in English or Chinese."""

from harness.report.render import render, to_html, to_markdown

__all__ = ["render", "to_html", "to_markdown"]
