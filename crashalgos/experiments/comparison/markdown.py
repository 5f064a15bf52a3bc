"""Markdown, the page that a browser shows of it, and tables for the terminal."""

import base64
import html
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_STYLESHEET = Path(__file__).with_name("report.css")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""


def escape(text: str) -> str:
    """
    :param text: from outside: a name, a label, a reason
    :return: Markdown that shows it as it is, on one line
    """
    signs = r"[\\`*\[\]<>&|~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
    return re.sub(signs, r"\\\g<0>", " ".join(text.split()))


def fence(text: str, language: str) -> str:
    """
    :param text: lines of code
    :param language: their language
    :return: a code block, whatever backticks the lines have
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], texts: Collection[str]) -> str:
    """
    :param columns: its columns
    :param rows: its rows, in Markdown
    :param texts: the columns that hold text; the others hold numbers
    :return: the table
    """
    rule = ["---" if column in texts else "---:" for column in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, rule, *rows])


def terminal_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], texts: Collection[str]) -> "Table":
    """
    :param title: what stands above it
    :param columns: its columns
    :param rows: its rows, as they are to be shown
    :param texts: the columns that hold text; the others hold numbers
    :return: the table
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    for column in columns:
        table.add_column(Text(column), justify="left" if column in texts else "right")
    for row in rows:
        # As text, because rich reads square brackets as markup.
        table.add_row(*map(Text, row))
    return table


def html_page(text: str, title: str, images: Mapping[str, bytes]) -> str:
    """
    :param text: Markdown
    :param title: the page's
    :param images: the PNG files that the text shows, by the path it gives
    :return: one page that needs no other file, and no network
    """
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = renderer.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                content = base64.b64encode(images[str(child.attrs["src"])]).decode()
                child.attrs["src"] = f"data:image/png;base64,{content}"
    body = renderer.renderer.render(tokens, renderer.options, {})
    # No other `<table>` can be there: the renderer escapes what the text holds.
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    return _PAGE.format(title=html.escape(title), css=_STYLESHEET.read_text(encoding="utf-8"), body=body)
