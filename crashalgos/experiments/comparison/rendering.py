"""Rendering of the Jinja templates in ``templates/``: the reports in Markdown, and the report's HTML page."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.markdown import escape, fence


def render(template: str, **values: Any) -> str:
    """
    Renders a template.

    In HTML, values are escaped. In Markdown, the template itself says what is escaped (``| md``), because most values are
    tables in Markdown.

    :param template: the template's file name, such as ``report.md.jinja``
    :param values: the template's variables
    :return: the text
    """
    return _ENVIRONMENT.get_template(template).render(values)


def _paragraph(text: str) -> str:
    """Joins a paragraph's lines: some Markdown viewers show each line break of the source."""
    return " ".join(text.split()) + "\n"


def _labels(contenders: Iterable[Contender]) -> str:
    return ", ".join(escape(contender.label) for contender in contenders)


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=select_autoescape(["html.jinja"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {"md": escape, "fence": fence, "paragraph": _paragraph, "labels": _labels, "yaml": _yaml}
